"""Training as a function: from a model and rows to what the next training may go on from."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from skorch.callbacks import PrintLog
from skorch.history import History
from torch import Tensor, nn

from sknoprop.model import NoPropModel
from sknoprop.networks.custom import CustomPath
from sknoprop.networks.stacked import StackedDropout
from sknoprop.training.batches import Augmentation, Batches, LazyInputs, NoiseSource
from sknoprop.training.divergence import TrainingError, likely_cause
from sknoprop.training.left_out import LeftOut
from sknoprop.training.net import BlockNet, Course
from sknoprop.training.optimizers import FUSED, starting_at_once
from sknoprop.training.progress import EpochBar
from sknoprop.training.seeds import Seeds
from sknoprop.training.states import moments_of, resume
from sknoprop.training.stopping import Stopping, Validation

__all__ = ["Rows", "Settings", "Trained", "train", "try_optimizer"]


@dataclass(frozen=True)
class Rows:
    """Training rows on the model's device.

    Inputs are prepared by the encoder; weights are positive with mean one, or None for all equal.
    """

    inputs: Tensor | LazyInputs
    y: Tensor
    sample_weight: Tensor | None = None
    left_out: LeftOut | None = None


@dataclass(frozen=True)
class Settings:
    """How to train."""

    optimizer: type[torch.optim.Optimizer]
    learning_rate: float
    """The largest of the cycle with `one_cycle`."""
    weight_decay: float
    one_cycle: bool
    """Whether the learning rate rises to its largest value in the first 30 % of all steps and
    falls to near zero in the rest (Smith & Topin 2018, arXiv:1708.07120), with momentum moving
    the other way; else both are constant."""
    n_epochs: int
    batch_size: int
    n_draws: int
    products: torch.dtype | None = None
    """What products are rounded to in training, see `NoPropModel.products`."""
    blocks_at_once: int | None = None
    """Blocks whose gradients are taken together, see `sknoprop.training.slices`; None for all."""
    calibrate: bool = False
    """Whether class probabilities have a temperature."""
    adapt: bool = False
    """Whether more or fewer epochs than `n_epochs` may be trained, see `sknoprop.cycles`."""
    fades: bool = False
    """Whether dropout falls from cycle to cycle then."""
    dropout: float = 1.0
    """Share of the model's dropout that there is in this training."""
    leave_out: bool = False
    """Whether blocks leave out rows to find a temperature by."""
    early_stopping: bool = False
    tol: float = 0.0
    n_iter_no_change: int | None = None
    augmentation: Callable[[Tensor], Tensor] | None = None
    """Changes prepared inputs of each batch."""
    callbacks: Sequence[Any] = ()
    """The user's."""
    progress_bar: bool = False
    verbose: int = 0
    """skorch's; above 0 each epoch prints a line."""
    keep_interrupted: bool = False
    """Whether a user who interrupts gets the model of the last whole epoch, if there is one."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The user's, that all this was made of."""


@dataclass
class Trained:
    """Where a training ended."""

    history: History = field(default_factory=History)
    optimizer: dict[Any, Any] = field(default_factory=dict)
    """What the optimiser knows of parameters, by their number in the model, and what else."""
    unfinished: int = 0
    """Blocks whose loss still fell when epochs ran out, where that is asked for."""
    interrupted: int | None = None
    """Epochs that were done when the user interrupted it."""
    left_out: str | None = None
    """Digest of the rows that blocks left out."""
    goes_on: bool = False
    """Whether more training is to be expected, so that pickles hold the optimiser's state."""


def train(
    model: NoPropModel,
    rows: Rows,
    validation: Validation | None,
    settings: Settings,
    seeds: Seeds,
    before: Trained | None = None,
) -> Trained:
    """Train all blocks of a model in place.

    Parameters
    ----------
    model : NoPropModel
        On its device.
    rows : Rows
    validation : Validation or None
    settings : Settings
    seeds : Seeds
    before : Trained, optional
        Of an earlier training that this one continues; it is left as it is.

    Returns
    -------
    Trained

    Raises
    ------
    TrainingError
        If a loss, or what is learnt, is not finite.
    KeyboardInterrupt
        If the user interrupts it, and nothing is to be kept or no epoch was done.
    """
    device = rows.y.device
    noise = NoiseSource(
        seeds.block_generators("noise", model.n_blocks, device),
        seeds.generator("shared", 1, device),
        n_draws=settings.n_draws,
        dim=model.embedding.dim,
        timed=not model.variant.single_level,
        dtype=model.embedding.weight.dtype,
        levels=model.levels,
        reads=model.trains_readout,
    )
    augment = None
    if settings.augmentation is not None:
        augment = Augmentation(settings.augmentation, seeds.generator("augment"))
    order = seeds.generator("order")
    size, weight = settings.batch_size, rows.sample_weight
    batches = Batches(rows.inputs, rows.y, size, order, noise, weight, augment, rows.left_out)
    model.unfreeze()
    stopping = _stopping(model, settings)
    callbacks = [*settings.callbacks, *_reports(settings)]
    # What draws in each step does so from generators of the blocks.
    dropouts = [m for m in model.modules() if isinstance(m, StackedDropout)]
    networks = [m for m in model.modules() if isinstance(m, CustomPath)]
    masks = seeds.block_generators("dropout", model.n_blocks, device)
    # On the CPU: they give seeds, and reading one must not wait.
    own = seeds.block_generators("dropout", model.n_blocks) if networks else []
    generators = {
        "order": [order],
        "noise": noise.generators,
        "shared": [noise.shared],
        "dropout": masks,
        "network": own,
        "augment": [augment.generator] if augment else [],
        "load": [rows.inputs.generator] if isinstance(rows.inputs, LazyInputs) else [],
    }
    net = BlockNet(
        model,
        criterion=nn.Identity,
        optimizer=starting_at_once(settings.optimizer),
        max_epochs=settings.n_epochs,
        batch_size=1,  # of the batches that training iterates over: progress bars count them
        callbacks=callbacks,
        device=None,
        lr=settings.learning_rate,
        verbose=settings.verbose,
        **_optimizer_options(model, settings),
    ).initialize()
    # By their order in the model is kept what is known of them, whatever groups there are.
    learnt = list(model.parameters())
    if before is not None:
        # The epochs themselves are shared: nothing changes those that are over.
        net.history_.extend(before.history)
        resume(net.optimizer_, before.optimizer, learnt)
        if stopping is not None and stopping.keep_best and validation is not None:
            # What was kept before stays, unless this training finds better.
            stopping.update(validation.log_loss(model.eval())[0])
    try:
        model.products = settings.products
        for dropout in dropouts:
            dropout.generators = masks
            dropout.p *= settings.dropout
        for network in networks:
            network.generators = own
        course = Course(
            batches,
            validation,
            stopping,
            settings.one_cycle,
            settings.blocks_at_once,
            generators,
            settings.keep_interrupted,
            seeds,
            settings.parameters,
        )
        net.partial_fit(course, None)
    finally:
        state = net.forget_steps()
        model.products = None
        for dropout in dropouts:
            dropout.generators = None
            dropout.p /= settings.dropout
        for network in networks:
            network.generators = None
        model.eval().requires_grad_(False)
        for callback in callbacks:
            if isinstance(callback, EpochBar):
                callback.close()
    if len(net.history) and "block_losses" not in net.history[-1]:
        net.history_.pop()  # a callback ended training in the middle of an epoch
    assert state is not None
    unfinished = 0
    if stopping is not None:
        stopping.restore()
        ended = state.n_done < settings.n_epochs
        if stopping.patience is not None and not ended:
            unfinished = int((~stopping.done).sum())
    if not all(torch.isfinite(tensor).all() for tensor in model.state_dict().values()):
        raise TrainingError(
            "What the last step of training left is not finite: training has diverged. "
            + likely_cause(rows.inputs, rows.sample_weight, settings.learning_rate)
        )
    interrupted = state.n_done if net.interrupted_ else None
    moments = moments_of(net.optimizer_, learnt)
    return Trained(History(net.history), moments, unfinished, interrupted)


def try_optimizer(model: NoPropModel, settings: Settings) -> None:
    """Let an optimiser take a step on numbers of no consequence, before it trains the model.

    Raises
    ------
    ValueError
        If it cannot train parameters like the model's.
    """
    ours = list(model.parameters())
    shapes = {(1,) * parameter.dim() for parameter in ours}
    numbers = [nn.Parameter(ours[0].new_zeros(shape)) for shape in sorted(shapes)]
    options = {
        name.removeprefix("optimizer__"): value
        for name, value in _optimizer_options(model, settings).items()
        if not name.endswith("param_groups")
    }

    places = [number.data_ptr() for number in numbers]

    asked = False

    def loss() -> Any:  # as in training: a tensor
        nonlocal asked
        asked = True
        for number in numbers:
            number.grad = torch.ones_like(number)
        return numbers[0].new_ones(())

    options |= {"lr": settings.learning_rate}
    try:
        starting_at_once(settings.optimizer)(numbers, **options).step(loss)
    except Exception as error:
        raise ValueError(
            f"The 'optimizer' parameter of NoPropClassifier, {settings.optimizer.__name__} with "
            f"{options}, cannot train the blocks. It raised {type(error).__name__}: {error}"
        ) from error
    if not asked:
        raise ValueError(
            f"The 'optimizer' parameter of NoPropClassifier, {settings.optimizer.__name__}, has a "
            "step that does not call the closure it is given. It must, as torch's do: "
            "gradients are computed there."
        )
    if [number.data_ptr() for number in numbers] != places:
        raise ValueError(
            f"The 'optimizer' parameter of NoPropClassifier, {settings.optimizer.__name__}, puts "
            "other tensors in the place of parameters. It must change them in place, as torch's do."
        )


def _stopping(model: NoPropModel, settings: Settings) -> Stopping | None:
    # A cycle is meant to be run to its end, where most of its gain is.
    patience = None if settings.one_cycle else settings.n_iter_no_change
    if patience is None and not settings.early_stopping:
        return None
    return Stopping(model, settings.tol, patience, keep_best=settings.early_stopping)


def _reports(settings: Settings) -> list[Any]:
    reports: list[Any] = []
    if settings.progress_bar:
        reports.append(EpochBar(settings.n_epochs))
    if settings.verbose and sys.stdout is not None:  # as it is without a console
        reports.append(PrintLog(keys_ignored=["block_losses", "block_valid_losses"]))
    return reports


def _optimizer_options(model: NoPropModel, settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if "weight_decay" in inspect.signature(settings.optimizer).parameters:
        options["optimizer__weight_decay"] = settings.weight_decay
        if model.shares_parameters:
            # They are coordinates, no weights: smaller ones are noisier, not smoother.
            shared = ("embedding.*", "schedule.*")
            options["optimizer__param_groups"] = [(own, {"weight_decay": 0.0}) for own in shared]
    if settings.optimizer in FUSED:
        # One pass over each parameter instead of one for each term of its update.
        options["optimizer__fused"] = True
    return options
