"""What the estimator's parameters may be; the one importer of scikit-learn's private tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
    validate_parameter_constraints,
)

from sknoprop.embeddings import EMBEDDINGS
from sknoprop.networks import HEADS
from sknoprop.parameterizations import PARAMETERIZATIONS
from sknoprop.partition import PARTITIONS
from sknoprop.readouts import READOUTS
from sknoprop.samplers import SAMPLERS, Sampler
from sknoprop.schedules import SCHEDULES, Schedule
from sknoprop.variants import VARIANTS

__all__ = [
    "CONSTRAINTS",
    "DTYPES",
    "OPTIMIZERS",
    "check_constraints",
    "check_embedding_array",
    "check_parameters",
    "resolve",
    "resolve_device",
]

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
DTYPES = {"float32": torch.float32, "float64": torch.float64}


class _Names(StrOptions):
    """Names listed in order, so that a message does not change from run to run."""

    def __str__(self) -> str:
        return f"a str among {{{', '.join(map(repr, sorted(self.options)))}}}"


def _positive_int() -> Interval:
    return Interval(Integral, 1, None, closed="left")


#: scikit-learn's description of what each parameter may be; see its ``_param_validation``.
CONSTRAINTS: dict[str, list[Any]] = {
    "variant": [_Names(set(VARIANTS))],
    "n_blocks": [_positive_int()],
    "schedule": [_Names({"auto", *SCHEDULES}), Schedule],
    "partition": [_Names({"auto", *PARTITIONS})],
    "embedding": [_Names(set(EMBEDDINGS)), "array-like"],
    "embedding_dim": [_positive_int()],
    "parameterization": [_Names(set(PARAMETERIZATIONS))],
    "readout": [_Names(set(READOUTS))],
    "hidden_layer_sizes": ["array-like", _positive_int()],
    "n_bins": [Interval(Integral, 0, None, closed="left")],
    "head": [_Names(set(HEADS))],
    "batch_norm": ["boolean"],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "loss_weight": [Interval(Real, 0, None, closed="neither")],
    "inference": [_Names({"kernel", "trajectory"})],
    "sampler": [_Names({"auto", *SAMPLERS}), Sampler],
    "n_steps": [_positive_int(), None],
    "n_draws": [_positive_int()],
    "n_train_draws": [_positive_int()],
    "optimizer": [_Names(set(OPTIMIZERS)), HasMethods(["step", "zero_grad"])],
    "learning_rate": [_Names({"constant", "one-cycle"})],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "batch_size": [_Names({"auto"}), _positive_int()],
    "max_iter": [_Names({"auto"}), _positive_int()],
    "callbacks": [list, tuple, None],
    "device": [str, torch.device],
    "dtype": [_Names(set(DTYPES))],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}

T = TypeVar("T")


def resolve(choice: str | T, table: Mapping[str, Callable[[], T]]) -> T:
    """Make the object a name stands for; an instance stands for itself."""
    return table[choice]() if isinstance(choice, str) else choice


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn the `device` parameter into a device that is there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"The 'device' parameter of NoPropClassifier must be 'auto' or a device that torch "
            f"can use here, as 'cpu' or 'cuda:0'. Got {str(device)!r} instead: {error}"
        ) from error
    return resolved


def layer_sizes(hidden_layer_sizes: int | Iterable[int]) -> tuple[int, ...]:
    """Widths of the encoder's layers as a tuple.

    Raises
    ------
    ValueError
        If there are none, or one is not a positive integer.
    """
    sizes: tuple[int, ...] = (
        tuple(hidden_layer_sizes)
        if isinstance(hidden_layer_sizes, Iterable)
        else (hidden_layer_sizes,)
    )
    if not sizes or not all(isinstance(size, Integral) and int(size) > 0 for size in sizes):
        raise ValueError(
            "The 'hidden_layer_sizes' parameter of NoPropClassifier must be a positive int or a "
            f"non-empty sequence of them. Got {hidden_layer_sizes!r} instead."
        )
    return tuple(int(s) for s in sizes)


def check_constraints(params: dict[str, Any]) -> None:
    """Check some of the parameters by their `CONSTRAINTS`.

    Raises
    ------
    ValueError
        Naming the parameter, what it may be and what it is.
    """
    validate_parameter_constraints(CONSTRAINTS, params, "NoPropClassifier")


def check_parameters(params: dict[str, Any]) -> None:
    """Check what single constraints cannot say.

    Raises
    ------
    ValueError
        Naming the parameters that do not go together.
    """
    layer_sizes(params["hidden_layer_sizes"])
    schedule = params["schedule"]
    learned = schedule == "learned" or (isinstance(schedule, Schedule) and schedule.trainable)
    if learned and params["variant"] != "ct":
        raise ValueError(
            "A learned 'schedule' belongs to the continuous-time formulation: its loss says how "
            "a schedule should move, those of the others do not. Got "
            f"variant={params['variant']!r}; use variant='ct' or a fixed schedule."
        )
    if isinstance(params["callbacks"], (list, tuple)):
        for callback in params["callbacks"]:
            inner = callback[1] if isinstance(callback, tuple) and len(callback) == 2 else callback
            if not hasattr(inner, "on_epoch_end"):
                raise TypeError(
                    "The 'callbacks' parameter of NoPropClassifier must hold skorch callbacks or "
                    f"(name, callback) pairs. Got {callback!r} instead."
                )


def check_embedding_array(embedding: Any, n_classes: int) -> np.ndarray:
    """Check an embedding matrix of the user's.

    Raises
    ------
    ValueError
        If it is not a finite matrix with one distinct row a class.
    """
    try:
        array = np.asarray(embedding, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The 'embedding' parameter of NoPropClassifier must be numeric: {error}"
        ) from error
    if array.ndim != 2 or len(array) != n_classes or array.shape[1] == 0:
        raise ValueError(
            "The 'embedding' parameter of NoPropClassifier must be of shape (n_classes, "
            f"embedding_dim) with one row for each of the {n_classes} classes of y. Got an array "
            f"of shape {array.shape} instead."
        )
    if not np.isfinite(array).all():
        raise ValueError(
            "The 'embedding' parameter of NoPropClassifier must be finite. Got NaN or infinity."
        )
    if len(np.unique(array, axis=0)) < n_classes:
        raise ValueError(
            "The 'embedding' parameter of NoPropClassifier must have distinct rows: two classes "
            "with one embedding cannot be told apart."
        )
    return array
