"""What a training left beside the model: curves, and the optimiser's state where asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from skorch.history import History
from torch import Tensor

from sknoprop.model import NoPropModel
from sknoprop.persistence.files import ModelFileError
from sknoprop.training import Trained
from sknoprop.training.states import on_cpu

__all__ = [
    "CURVES",
    "OPTIMIZER",
    "decode_history",
    "decode_optimizer",
    "encode_history",
    "encode_optimizer",
    "pickled_optimizer",
    "unpickled_optimizer",
]

#: Tensors of the curves: losses of each epoch and block; validation losses likewise, and which
#: epochs have them.
CURVES = ("loss_curve", "validation_loss", "validated_epochs")

#: Prefix of the names of the optimiser's tensors: ``optimizer.<number of parameter>.<what>``.
OPTIMIZER = "optimizer."


def encode_history(history: History, n_blocks: int) -> dict[str, Tensor]:
    """Curves of a history that are not empty, in float64."""
    judged = [i for i, epoch in enumerate(history) if "block_valid_losses" in epoch]
    losses = [epoch["block_losses"] for epoch in history]
    validation = [history[i]["block_valid_losses"] for i in judged]
    curves = {
        "loss_curve": torch.tensor(losses, dtype=torch.float64).view(-1, n_blocks),
        "validation_loss": torch.tensor(validation, dtype=torch.float64).view(-1, n_blocks),
        "validated_epochs": torch.tensor(judged, dtype=torch.int64),
    }
    return {name: curve for name, curve in curves.items() if len(curve)}


def decode_history(curves: dict[str, Tensor | None], n_blocks: int) -> History:
    """A history with these curves and nothing else.

    Raises
    ------
    ModelFileError
    """
    none = torch.empty(0, n_blocks, dtype=torch.float64)
    empty = {"loss_curve": none, "validation_loss": none, "validated_epochs": none[:, 0].long()}
    found = empty | {name: tensor for name, tensor in curves.items() if tensor is not None}
    losses, validation, epochs = (found[name] for name in CURVES)
    for name, curve in (("loss_curve", losses), ("validation_loss", validation)):
        if curve.dim() != 2 or curve.shape[1] != n_blocks or not curve.is_floating_point():
            raise ModelFileError(f"{name!r} must be of shape (n, {n_blocks}), of floats.")
    if (
        epochs.dtype != torch.int64
        or epochs.shape != validation.shape[:1]
        or not all(0 <= i < len(losses) for i in epochs.tolist())
    ):
        raise ModelFileError("'validated_epochs' must number the epochs of 'validation_loss'.")
    history = History()
    for row in losses.tolist():
        history.new_epoch()
        history.record("block_losses", row)
    for i, row in zip(epochs.tolist(), validation.tolist(), strict=True):
        history[i]["block_valid_losses"] = row
    return history


def encode_optimizer(trained: Trained) -> dict[str, Tensor]:
    """State of the optimiser.

    Raises
    ------
    ModelFileError
        If it holds anything but tensors.
    """
    tensors = {}
    for number, state in trained.optimizer.items():
        own = state if isinstance(state, dict) else {number: state}  # what it keeps but once
        for key, value in own.items():
            floats = isinstance(value, Tensor) and value.dtype in (torch.float32, torch.float64)
            if own is not state or not floats:
                raise ModelFileError(
                    f"the optimiser's state has {key!r} of type {type(value).__name__}, which is "
                    "not a tensor of floats. Save without it: optimizer=False."
                )
            tensors[f"{OPTIMIZER}{number}.{key}"] = value
    return tensors


def decode_optimizer(
    tensors: dict[str, Tensor], model: NoPropModel
) -> dict[int, dict[str, Tensor]]:
    """State of the optimiser, each tensor a number or of its parameter's shape.

    Raises
    ------
    ModelFileError
    """
    parameters = list(model.parameters())
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.removeprefix(OPTIMIZER).partition(".")
        if not (number.isascii() and number.isdigit() and int(number) < len(parameters) and key):
            raise ModelFileError(f"{name!r} belongs to no parameter of the model.")
        if tensor.shape not in (torch.Size(), parameters[int(number)].shape):
            raise ModelFileError(
                f"{name!r} must be a number or of its parameter's shape "
                f"{tuple(parameters[int(number)].shape)}. Got {tuple(tensor.shape)}."
            )
        if not tensor.isfinite().all():
            raise ModelFileError(f"{name!r} holds NaN or infinity.")
        state.setdefault(int(number), {})[key] = tensor
    return state


def pickled_optimizer(trained: Trained) -> dict[str, Any]:
    """What pickles hold of the optimiser's state: NumPy's numbers in place of torch's.

    Parameters
    ----------
    trained : Trained

    Returns
    -------
    dict
        "tensors" and "others", each a dict of dicts by numbers of parameters. The latter are what
        unusual optimisers keep beside tensors of floats; of a GPU they are no more.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknoprop import NoPropClassifier
    >>> from sknoprop.persistence import pickled_optimizer
    >>> clf = NoPropClassifier(n_blocks=2, max_iter=2).fit(*load_iris(return_X_y=True))
    >>> sorted(pickled_optimizer(clf._trained)["tensors"][0])
    ['exp_avg', 'exp_avg_sq', 'step']
    """
    tensors: dict[int, dict[str, np.ndarray]] = {}
    others: dict[Any, Any] = {}
    for number, state in trained.optimizer.items():
        if not isinstance(state, dict):  # what an optimiser keeps once, and not of each parameter
            others[number] = on_cpu(state)
            continue
        for key, value in state.items():
            if isinstance(value, Tensor) and value.dtype in (torch.float32, torch.float64):
                tensors.setdefault(number, {})[key] = value.detach().cpu().numpy()
            else:
                others.setdefault(number, {})[key] = on_cpu(value)
    return {"tensors": tensors, "others": others}


def unpickled_optimizer(pickled: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The optimiser's state that a pickle held, on the CPU.

    Parameters
    ----------
    pickled : dict
        From `pickled_optimizer`.

    Returns
    -------
    dict

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknoprop import NoPropClassifier
    >>> from sknoprop.persistence import pickled_optimizer, unpickled_optimizer
    >>> clf = NoPropClassifier(n_blocks=2, max_iter=2).fit(*load_iris(return_X_y=True))
    >>> unpickled_optimizer(pickled_optimizer(clf._trained))[0]["exp_avg"].dtype
    torch.float32
    """
    state: dict[Any, Any] = {}
    for number, own in pickled["tensors"].items():
        # Copies: joblib may have mapped the arrays from a file, read-only.
        state[number] = {key: torch.tensor(array) for key, array in own.items()}
    for number, own in pickled["others"].items():
        state[number] = state.get(number, {}) | own if isinstance(own, dict) else own
    return state
