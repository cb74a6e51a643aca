"""What the estimator's parameters may be; the one importer of scikit-learn's private tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
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
from sklearn.utils.multiclass import _check_partial_fit_first_call as check_first_call
from sklearn.utils.validation import _check_n_features as check_n_features
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

from sknoprop.embeddings import EMBEDDINGS
from sknoprop.networks import HEADS, PATHS, is_frozen
from sknoprop.parameterizations import PARAMETERIZATIONS
from sknoprop.partition import PARTITIONS
from sknoprop.readouts import READOUTS
from sknoprop.samplers import SAMPLERS, Sampler
from sknoprop.schedules import SCHEDULES, Schedule
from sknoprop.training import check_callbacks
from sknoprop.variants import VARIANTS

__all__ = [
    "CONSTRAINTS",
    "DTYPES",
    "MODEL_PARAMETERS",
    "OPTIMIZERS",
    "as_float",
    "built_with",
    "changed_since",
    "check_constraints",
    "check_embedding_array",
    "check_encoder",
    "check_first_call",
    "check_n_features",
    "check_parameters",
    "check_sample_weight",
    "check_unchanged",
    "parameters_of",
    "plain",
    "refuse_masked",
    "resolve",
    "resolve_device",
]

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.float32,  # of products while training; what is learnt is float32
}


class _Names(StrOptions):
    """Names listed in order, so that a message does not change from run to run."""

    def __str__(self) -> str:
        return f"a str among {{{', '.join(map(repr, sorted(self.options)))}}}"


class _OptimizerClass(HasMethods):
    """A class to make optimisers of; an instance would hold another model's parameters."""

    # scikit-learn takes only constraints of its own kinds.
    def __init__(self) -> None:
        super().__init__(["step", "zero_grad"])

    def is_satisfied_by(self, value: Any) -> bool:
        return isinstance(value, type) and issubclass(value, torch.optim.Optimizer)

    def __str__(self) -> str:
        return "a subclass of torch.optim.Optimizer"


#: Larger than any size that makes sense, and small enough for torch to compute with.
MOST = 2**31 - 1


def as_float(value: Real) -> float:
    """The float next to a number; infinity where it is an int larger than any."""
    try:
        return float(value)
    except OverflowError:
        return np.inf


class _Reals(Interval):
    """Numbers that are floats, or ints that fit into one."""

    def is_satisfied_by(self, value: Any) -> bool:
        if isinstance(value, Integral) and as_float(value) == np.inf:
            return False
        return bool(super().is_satisfied_by(value))


def _ints(least: int = 1, most: int = MOST) -> Interval:
    return Interval(Integral, least, most, closed="both")


def _reals(closed: str, most: float | None = None) -> Interval:
    return _Reals(Real, 0, most, closed=closed)


#: scikit-learn's description of what each parameter may be; see its ``_param_validation``.
CONSTRAINTS: dict[str, list[Any]] = {
    "variant": [_Names(set(VARIANTS))],
    "n_blocks": [_ints(most=10_000)],
    "schedule": [_Names({"auto", *SCHEDULES}), Schedule],
    "partition": [_Names({"auto", *PARTITIONS})],
    "embedding": [_Names(set(EMBEDDINGS)), "array-like"],
    "embedding_dim": [_ints()],
    "encoder": [_Names({"auto", "mlp", *PATHS}), callable],
    "image_shape": ["array-like", None],
    "parameterization": [_Names(set(PARAMETERIZATIONS))],
    "readout": [_Names(set(READOUTS))],
    "hidden_layer_sizes": [_Names({"auto"}), "array-like", _ints()],
    "n_bins": [_Names({"auto"}), _ints(0)],
    "head": [_Names(set(HEADS))],
    "batch_norm": [_Names({"auto"}), "boolean"],
    "dropout": [_Names({"auto"}), _reals("left", 1)],
    "loss_weight": [_reals("neither")],
    "inference": [_Names({"kernel", "trajectory"})],
    "sampler": [_Names({"auto", *SAMPLERS}), Sampler],
    "n_steps": [_ints(most=100_000), None],
    "n_draws": [_ints(most=10_000)],
    "n_train_draws": [_ints()],
    "optimizer": [_Names(set(OPTIMIZERS)), _OptimizerClass()],
    "learning_rate": [_Names({"constant", "one-cycle"})],
    "learning_rate_init": [_reals("neither")],
    "weight_decay": [_Names({"auto"}), _reals("left")],
    "batch_size": [_Names({"auto"}), _ints()],
    "blocks_at_once": [_ints(), None],
    "max_iter": [_Names({"auto"}), _ints()],
    "augmentation": [callable, None],
    "calibrate": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [_reals("neither", 1)],
    "n_iter_no_change": [_ints(), None],
    "tol": [_reals("left")],
    "class_weight": [dict, _Names({"balanced"}), None],
    "warm_start": ["boolean"],
    "callbacks": [list, tuple, None],
    "device": [str, torch.device],
    "dtype": [_Names(set(DTYPES))],
    "n_jobs": [Interval(Integral, None, -1, closed="right"), _ints(), None],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}

#: What shapes a model or its optimiser's state, and so cannot change while training goes on.
MODEL_PARAMETERS = (
    "variant",
    "schedule",
    "partition",
    "embedding",
    "embedding_dim",
    "encoder",
    "image_shape",
    "parameterization",
    "readout",
    "hidden_layer_sizes",
    "n_bins",
    "head",
    "batch_norm",
    "dropout",
    "loss_weight",
    "optimizer",
    "dtype",
)

T = TypeVar("T")


def plain(value: Any) -> Any:
    """A number as Python has it; anything else as it is.

    Those of numpy, as a search over `numpy.arange` gives, overflow in products of their own size,
    and a bool is no size to torch.
    """
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def resolve(choice: str | T, table: Mapping[str, Callable[[], T]]) -> T:
    """Make the object a name stands for; an instance stands for itself."""
    return table[choice]() if isinstance(choice, str) else choice


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn the `device` parameter into a device that is there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.zeros(1, device=resolved).cpu()  # "meta" has shapes and no numbers
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
    sizes: tuple[Any, ...] = (hidden_layer_sizes,)
    if isinstance(hidden_layer_sizes, Iterable) and getattr(hidden_layer_sizes, "shape", 1) != ():
        sizes = tuple(hidden_layer_sizes)
    if not sizes or not all(isinstance(s, Integral) and 0 < int(s) <= MOST for s in sizes):
        raise ValueError(
            "The 'hidden_layer_sizes' parameter of NoPropClassifier must be 'auto', a positive int "
            f"or a non-empty sequence of them, up to {MOST}. Got {hidden_layer_sizes!r} instead."
        )
    return tuple(int(size) for size in sizes)


def parameters_of(estimator: Any) -> dict[str, Any]:
    """All that there are, also those that the constructor of a class derived does not take."""
    return {name: getattr(estimator, name) for name in CONSTRAINTS}


def check_constraints(params: dict[str, Any]) -> None:
    """Check some of the parameters by their `CONSTRAINTS`.

    Raises
    ------
    ValueError
        Naming the parameter, what it may be and what it is.
    """
    # A string of another class, as an enum's, would pass for a sequence.
    names = {k: str.__str__(v) if isinstance(v, str) else v for k, v in params.items()}
    validate_parameter_constraints(CONSTRAINTS, names, "NoPropClassifier")


def check_parameters(params: dict[str, Any]) -> None:
    """Check what single constraints cannot say.

    Raises
    ------
    ValueError
        Naming the parameters that do not go together.
    """
    if not isinstance(params["hidden_layer_sizes"], str):
        layer_sizes(params["hidden_layer_sizes"])
    shape = params["image_shape"]
    if shape is not None and not (
        np.array(shape, dtype=object).shape == (3,)
        and all(isinstance(size, Integral) and int(size) > 0 for size in shape)
    ):
        raise ValueError(
            "The 'image_shape' parameter of NoPropClassifier must be three positive ints, "
            f"(channels, height, width), or None. Got {shape!r} instead."
        )
    schedule = params["schedule"]
    learned = schedule == "learned" or (isinstance(schedule, Schedule) and schedule.trainable)
    if learned and params["variant"] != "ct":
        raise ValueError(
            "A learned 'schedule' belongs to the continuous-time formulation: its loss says how "
            "a schedule should move, those of the others do not. Got "
            f"variant={params['variant']!r}; use variant='ct' or a fixed schedule."
        )
    check_callbacks(params["callbacks"] or ())


def check_encoder(params: Mapping[str, Any]) -> None:
    """Check that the encoder suits the data.

    Parameters
    ----------
    params : mapping
        Of `NoPropClassifier`, with the "image_shape" of the data.

    Raises
    ------
    ValueError
        Naming the parameter and what it needs.
    """
    encoder, shape = params["encoder"], params["image_shape"]
    if shape is None and isinstance(encoder, str) and encoder in PATHS:
        raise ValueError(
            f"encoder={encoder!r} of NoPropClassifier needs images: X of shape (n_samples, "
            "channels, height, width), or image_shape=(channels, height, width) for flat rows. Got "
            "rows of numbers."
        )
    if params["augmentation"] is None:
        return
    if shape is None:
        raise ValueError(
            "The 'augmentation' parameter of NoPropClassifier changes images. Got rows of numbers; "
            "set augmentation=None, or image_shape if they are images."
        )
    if is_frozen(encoder):
        raise ValueError(
            "The 'augmentation' parameter of NoPropClassifier has no use with an encoder that is "
            "not trained: its features are computed once. Set augmentation=None."
        )


def changed_since(before: Mapping[str, Any], params: Mapping[str, Any]) -> list[str]:
    """Names of the `MODEL_PARAMETERS` that differ."""
    return [
        name
        for name in MODEL_PARAMETERS
        if before[name] is not params[name] and not np.array_equal(before[name], params[name])
    ]


def check_unchanged(before: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Check that training can go on with these parameters.

    Raises
    ------
    ValueError
        Naming the first parameter that cannot change, and the two values.
    """
    for name in changed_since(before, params)[:1]:
        raise ValueError(
            f"The {name!r} parameter of NoPropClassifier cannot change while training goes on: the "
            f"blocks were built with {before[name]!r}. Got {params[name]!r} instead. Set it back, "
            "or start anew: fit with warm_start=False, or clone."
        )


def built_with(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that `check_unchanged` compares, safe from changes in place."""
    return {
        # Networks, and what makes them, are themselves: no copy would equal them.
        name: params[name] if callable(params[name]) else deepcopy(params[name])
        for name in MODEL_PARAMETERS
    }


def check_embedding_array(embedding: Any, n_classes: int, dtype: torch.dtype) -> np.ndarray:
    """An embedding matrix of the user's in the dtype of the model, checked in it.

    Raises
    ------
    ValueError
        If it is not a finite matrix with one distinct row a class.
    """
    refuse_masked("The 'embedding' parameter of NoPropClassifier", embedding)
    name = str(dtype).removeprefix("torch.")
    try:
        if np.iscomplexobj(embedding):  # numpy would warn, and drop a part
            raise TypeError("got complex numbers")
        with np.errstate(over="ignore"):  # said below
            array = np.asarray(embedding, dtype=np.float64).astype(name)
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
            f"The 'embedding' parameter of NoPropClassifier must be finite in {name}. Got NaN, "
            "infinity or a number too large."
        )
    if len(np.unique(array, axis=0)) < n_classes:
        raise ValueError(
            f"The 'embedding' parameter of NoPropClassifier must have distinct rows in {name}: "
            "two classes with one embedding cannot be told apart. Got equal rows."
        )
    return array


def refuse_masked(name: str, values: Any) -> None:
    """Raise a ValueError for masked values in an array, or in a list of rows."""
    rows = values if isinstance(values, list | tuple) else [values]
    n_masked = sum(np.ma.count_masked(row) for row in rows if isinstance(row, np.ma.MaskedArray))
    if n_masked:
        raise ValueError(
            f"{name} must not have masked values: NumPy would take what is under the mask. Got "
            f"{n_masked} of them. Fill them, or leave their rows out."
        )
