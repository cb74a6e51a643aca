"""From checked data and parameters to a trained model."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from joblib import effective_n_jobs
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from sknoprop._data import Data
from sknoprop._images import LazyRows
from sknoprop._memory import is_out_of_memory
from sknoprop._parameters import OPTIMIZERS
from sknoprop.calibrating import Judged, calibrate, calibrate_mean, rows_left_out
from sknoprop.cycles import adapt_length
from sknoprop.inference import MAX_CANDIDATES, asked_at_centre, kernel_probabilities
from sknoprop.kernels import shared_draws
from sknoprop.model import NoPropModel
from sknoprop.networks import FrozenEncoding
from sknoprop.parallel import block_groups, train_groups
from sknoprop.probes import Probes
from sknoprop.training import (
    LazyInputs,
    Rows,
    Settings,
    Trained,
    TrainingError,
    Validation,
    train,
    try_optimizer,
)
from sknoprop.training.seeds import Seeds

__all__ = [
    "check_precision",
    "fit_model",
    "memory_errors",
    "prediction_draws",
    "tensors",
    "training_settings",
]

#: What products are rounded to in training, by the names of `dtype` that ask for it.
LOW_PRECISION = {"bfloat16": torch.bfloat16}

#: Numbers of raw inputs that are prepared at once, about.
CHUNK_NUMBERS = 2**25

#: Training rows whose probabilities are looked at when training is over.
N_TRIED = 8

#: Parameters that memory grows with.
TAKE_MEMORY = (
    *("batch_size", "n_train_draws", "blocks_at_once", "n_draws", "n_blocks"),
    *("hidden_layer_sizes", "embedding_dim"),
)


def check_precision(dtype: str, device: torch.device) -> None:
    """Raise a ValueError if a device cannot train in a precision."""
    if (low := LOW_PRECISION.get(dtype)) is None:
        return
    try:
        with torch.autocast(device.type, low):
            pass
    except RuntimeError as error:
        raise ValueError(
            "The 'dtype' parameter of NoPropClassifier must be 'float32' or 'float64' on "
            f"{device}. Got {dtype!r} instead: {error}"
        ) from error


def training_settings(
    params: dict[str, Any], streaming: bool = False, adapt: bool = False, fades: bool = False
) -> Settings:
    """How to train by filled-in parameters; a stream has one epoch of constant step size.

    With `adapt` the number of epochs is that of a first cycle, and the data decide whether more or
    fewer are better, see `sknoprop.cycles`, if there are cycles; with `fades` further ones have
    less dropout.
    """
    one_cycle = params["learning_rate"] == "one-cycle" and not streaming
    n_epochs = 1 if streaming else params["max_iter"]
    optimizer = params["optimizer"]
    calibrated = params["calibrate"] and params["inference"] == "kernel"
    return Settings(
        optimizer=OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer,
        learning_rate=params["learning_rate_init"],
        weight_decay=params["weight_decay"],
        one_cycle=one_cycle,
        n_epochs=n_epochs,
        batch_size=params["batch_size"],
        n_draws=params["n_train_draws"],
        products=LOW_PRECISION.get(params["dtype"]),
        blocks_at_once=params["blocks_at_once"],
        early_stopping=params["early_stopping"] and not streaming,
        tol=params["tol"],
        n_iter_no_change=None if streaming else params["n_iter_no_change"],
        augmentation=params["augmentation"],
        callbacks=tuple(params["callbacks"] or ()),
        progress_bar=bool(params["verbose"]) and not streaming,
        verbose=max(params["verbose"] - 1, 0),
        calibrate=calibrated,
        adapt=adapt and one_cycle and calibrated,
        fades=fades,
        leave_out=calibrated and not streaming,
        # A stream's part is learnt as a whole or not at all: who interrupts means the stream.
        keep_interrupted=not streaming,
        parameters=params,
    )


def fit_model(
    model: NoPropModel,
    data: Data,
    validation: Data | None,
    n_draws: int,
    settings: Settings,
    seeds: Seeds,
    before: Trained | None = None,
    n_jobs: int | None = None,
    device: torch.device | None = None,
) -> Trained:
    """Train a model, on its device and in place.

    Parameters
    ----------
    model : NoPropModel
    data : Data
    validation : Data or None
        Rows to judge each epoch by.
    n_draws : int
        Draws of the kernels that judge them: those of prediction.
    settings : Settings
    seeds : Seeds
    before : Trained, optional
        What earlier training left.
    n_jobs : int, optional
        Workers that blocks are spread over; with one, all are trained in one step. Whether they
        can be trained apart is judged by what is asked for, not by the processors there are.
    device : torch.device, optional
        Where workers train, the model's by default: "cuda" stands for all GPUs.

    Returns
    -------
    Trained

    Raises
    ------
    ValueError
        If blocks cannot be trained apart, or by the optimiser at all.
    TrainingError
        If training diverges.
    MemoryError, RuntimeError
        If there is too little memory, here or in a worker; see `memory_errors`.
    """
    if model.shares_parameters and (settings.blocks_at_once or model.n_blocks) < model.n_blocks:
        raise ValueError(
            f"blocks_at_once={settings.blocks_at_once} trains blocks apart, but a learned "
            "embedding or schedule is shared by all of them. Choose embedding='one-hot' (or an "
            "array) and a fixed schedule, or set blocks_at_once=None."
        )
    try_optimizer(model, settings)
    groups = _groups(model, data, validation, settings, n_jobs)
    rows = _on_device(model, data)
    known = float(model.temperature)
    if settings.leave_out and validation is None:
        rows = replace(rows, left_out=rows_left_out(model, rows, seeds, before))
    eps = prediction_draws(model, n_draws, seeds.entropy)
    judge = None
    if validation is not None:
        held = _on_device(model, validation)
        judge = Validation(held.inputs, held.y, held.sample_weight, eps)

    def cycle(before: Trained | None, n_epochs: int, dropout: float = 1.0) -> Trained:
        model.temperature.fill_(1.0)  # what is judged in training are estimates as they are
        own = replace(settings, n_epochs=n_epochs, dropout=dropout if settings.fades else 1.0)
        numbers = Seeds(seeds.entropy, len(before.history) if before else 0)
        if len(groups) == 1:
            return train(model, rows, judge, own, numbers, before)
        where = rows.y.device if device is None else device
        return train_groups(model, rows, judge, own, numbers, before, groups, n_jobs, where)

    def judge_rows() -> Judged | None:
        _try_out(model, rows, eps)
        if not settings.calibrate:
            return None
        return calibrate(model, rows, judge, eps, seeds, known, compared=settings.adapt)

    anew = settings.adapt and before is None
    fresh = copy.deepcopy(model.state_dict()) if anew else None
    _tell(settings, "on_whole_fit_begin")
    finished = False
    try:
        trained = cycle(before, settings.n_epochs)
        found = judge_rows()
        if settings.adapt:
            lengths = settings.n_epochs, fresh, seeds.epoch
            trained = adapt_length(model, trained, found, cycle, judge_rows, *lengths)
        if rows.left_out is not None:
            calibrate_mean(model, rows, eps)
        finished = trained.interrupted is None
    finally:
        _tell(settings, "on_whole_fit_end", finished)
    trained.left_out = None if rows.left_out is None else rows.left_out.digest
    if trained.interrupted is not None:
        of_all = "" if settings.adapt else f" of {settings.n_epochs}"
        warnings.warn(
            f"Training interrupted after {trained.interrupted}{of_all} epochs; the model learnt so "
            "far is kept.",
            ConvergenceWarning,
            stacklevel=2,
        )
    if trained.unfinished:
        warnings.warn(
            f"Maximum iterations ({settings.n_epochs}) reached, and the loss of "
            f"{trained.unfinished} of {model.n_blocks} blocks still falls. Increase max_iter, or "
            "tol.",
            ConvergenceWarning,
            stacklevel=2,
        )
    return trained


def _tell(settings: Settings, event: str, *args: Any) -> None:
    """Tell callbacks that want to know of a whole fit, which may be several trainings."""
    for callback in settings.callbacks:
        own = callback[1] if isinstance(callback, tuple) else callback
        if hasattr(own, event):
            getattr(own, event)(*args)


@torch.no_grad()
def _try_out(model: NoPropModel, rows: Rows, eps: Tensor) -> None:
    # Losses are of before a step, and weights that are finite may be far too large to compute with.
    some = torch.arange(min(len(rows.y), N_TRIED), device=rows.y.device)
    features = model.encoder(rows.inputs[some])
    if not torch.isfinite(kernel_probabilities(model, features, Probes(model, eps))).all():
        raise TrainingError(
            "Class probabilities by what the last step of training left are not finite: training "
            "has diverged. Lower learning_rate_init or weight_decay, or check the scale of X."
        )


@contextmanager
def memory_errors(params: Mapping[str, Any]) -> Iterator[None]:
    """Say which of the parameters take less memory where there is too little."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(
            f"Training needs more memory than there is. Less is taken by lower values of "
            f"{', '.join(f'{name} (now {params[name]})' for name in TAKE_MEMORY)}, and by fewer "
            f"workers (n_jobs). {error}"
        ) from error


def _groups(
    model: NoPropModel,
    data: Data,
    validation: Data | None,
    settings: Settings,
    n_jobs: int | None,
) -> list[slice]:
    together = block_groups(model.n_blocks, 1)
    n_workers = effective_n_jobs(n_jobs)
    asked = n_jobs not in (None, 1)
    if model.n_blocks == 1 or (n_workers == 1 and not asked):
        return together
    if settings.callbacks:
        reason = "callbacks follow the training of all blocks together. Pass none"
    elif isinstance(data.X, LazyRows):
        reason = "LazyImages are loaded by the process that has them. Pass the images as an array"
    elif model.shares_parameters:
        reason = (
            "a learned embedding or schedule is shared by all blocks. Choose embedding='one-hot' "
            "(or an array) and a fixed schedule"
        )
    elif (
        validation is not None
        and model.embedding.n_classes > MAX_CANDIDATES
        and not asked_at_centre(model)
    ):
        reason = (
            f"with more than {MAX_CANDIDATES} classes, and embeddings whose distances from their "
            "mean differ as much as these, blocks are judged on held-out rows together. Choose "
            "embedding='one-hot', or set early_stopping=False and pass no X_val"
        )
    else:
        return block_groups(model.n_blocks, n_workers)
    if not asked:  # workers are the surroundings' default
        return together
    raise ValueError(f"n_jobs={n_jobs} trains blocks apart, but {reason}, or set n_jobs=None.")


def prediction_draws(model: NoPropModel, n_draws: int, entropy: int) -> Tensor:
    """Draws of all class kernels of a model, the same for every row: ``(n_draws, dim)``.

    Pairs of opposite sign, and where one has no opposite it is zero, its own. Any draw gives an
    exact block's law; of a learnt block zero is a better single draw than one at random.
    """
    generator = Seeds(entropy).generator("predict")
    odd, dim = n_draws % 2, model.embedding.dim
    pairs = shared_draws(n_draws - odd, dim, generator)
    return torch.cat([pairs, torch.zeros(odd, dim)]).to(model.embedding.weight)


def tensors(X: np.ndarray | LazyRows, size: int, device: torch.device) -> Iterator[Tensor]:
    """Rows of `X` on the device, at most `size` at a time."""
    for start in range(0, len(X), size):
        # A copy: torch takes neither read-only arrays nor negative strides.
        yield torch.as_tensor(np.array(X[start : start + size]), device=device)


@torch.no_grad()
def _on_device(model: NoPropModel, data: Data) -> Rows:
    device = model.embedding.weight.device
    inputs: Tensor | LazyInputs
    # Features of a frozen network are small, and not to be computed in each epoch.
    if isinstance(data.X, LazyRows) and not isinstance(model.encoder.encoding, FrozenEncoding):
        X = data.X

        def load(index: np.ndarray) -> Tensor:
            with torch.no_grad():
                rows = torch.as_tensor(np.array(X[index]), device=device)
                return model.encoder.prepare(rows)

        inputs = LazyInputs(load, len(X), X.generator)
    else:
        size = max(min(CHUNK_NUMBERS // data.X.shape[1], 2**14), 1)
        parts = (model.encoder.prepare(rows) for rows in tensors(data.X, size, device))
        inputs = first = next(parts)
        if len(first) < len(data.X):
            # An array that is filled: parts that are joined in the end would take as much again.
            inputs = first.new_empty(len(data.X), *first.shape[1:])
            for room, part in zip(inputs.split(size), chain([first], parts), strict=True):
                room.copy_(part)
    weight = data.sample_weight
    return Rows(
        inputs,
        torch.as_tensor(data.y, device=device),
        None
        if weight is None
        else torch.as_tensor(weight, device=device).to(model.embedding.weight.dtype),
    )
