"""Parameters, schedules and class labels as JSON types, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch

from sknoprop._parameters import OPTIMIZERS
from sknoprop.persistence.files import ModelFileError
from sknoprop.samplers import SAMPLERS, Sampler
from sknoprop.schedules import SCHEDULES, Schedule

__all__ = [
    "decode_classes",
    "decode_parameter",
    "decode_schedule",
    "encode_classes",
    "encode_parameter",
    "encode_schedule",
    "name_of",
]

#: Dtypes of class labels; "str" is NumPy's fixed-width kind, "object" holds Python strings.
CLASS_DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "str", "object"),
)

#: Longest class label times the number of classes, at most: an array of fixed width has room for
#: the longest in each item.
MAX_CHARACTERS = 2**25


def name_of(table: Mapping[str, type], kind: type) -> str | None:
    """Name of a type in a table; None for one that is not in it (a derived one is not)."""
    return next((name for name, own in table.items() if own is kind), None)


def encode_schedule(schedule: Schedule) -> dict[str, Any] | None:
    """Name and arguments of a schedule; None if it is not one of the package's own.

    The state of a learned schedule is no part of it.
    """
    name = name_of(SCHEDULES, type(schedule))
    if name is None:
        return None
    bounds = {k: float(vars(schedule)[k]) for k in _BOUNDS if k in vars(schedule)}
    return {"name": name, **bounds}


_BOUNDS = ("log_snr_min", "log_snr_max")


def decode_schedule(value: Any, **arguments: Any) -> Schedule:
    """The schedule described, made with further arguments."""
    if not isinstance(value, dict):
        raise ModelFileError(f"a schedule must be an object. Got {value!r}.")
    bounds = {k: v for k, v in value.items() if k != "name"}
    kind = _look_up(SCHEDULES, "schedule", value.get("name"))
    if not all(k in _BOUNDS and type(v) is float for k, v in bounds.items()):
        raise ModelFileError(f"a schedule has floats {' and '.join(_BOUNDS)} alone. Got {value}.")
    try:
        return kind(**bounds, **arguments)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ModelFileError(f"no schedule can be made of {value}: {error}") from error


def encode_parameter(name: str, value: Any) -> Any:
    """A constructor's parameter as JSON types.

    Callbacks, an augmentation and a `RandomState` become None: prediction needs none of them.
    Sequences become lists, devices strings.

    Raises
    ------
    ModelFileError
        If it is something of the user's own that JSON cannot hold.
    """
    if name in ("augmentation", "callbacks") or isinstance(value, np.random.RandomState):
        return None
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, (list, tuple, np.ndarray)) and np.ndim(value) == 1:
        return [_encode_scalar(name, item) for item in value]
    if isinstance(value, Mapping):
        return {"pairs": [[_encode_scalar(name, x) for x in pair] for pair in value.items()]}
    content: Any
    if isinstance(value, Schedule) and not value.trainable:
        kind, content = "schedule", encode_schedule(value)
    elif isinstance(value, Sampler):
        kind, content = "sampler", name_of(SAMPLERS, type(value))
    elif isinstance(value, type):
        kind, content = "optimizer", name_of(OPTIMIZERS, value)
    else:
        return _encode_scalar(name, value)
    return _refuse(name, value) if content is None else {kind: content}


def decode_parameter(value: Any) -> Any:
    """The value that `encode_parameter` was given, as far as it is kept.

    Lists become tuples. Whether it suits the parameter is not checked.
    """
    if isinstance(value, list):
        return tuple(_check_scalar(item) for item in value)
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((kind, content),) = value.items()
        if kind == "schedule":
            # (A learned one is not saved: its size would be the file's word alone.)
            fixed = {k: v for k, v in SCHEDULES.items() if not v.trainable}
            _look_up(fixed, kind, content.get("name") if isinstance(content, dict) else content)
            return decode_schedule(content)
        if kind == "sampler":
            return _look_up(SAMPLERS, kind, content)()
        if kind == "optimizer":
            return _look_up(OPTIMIZERS, kind, content)
        if kind == "pairs" and isinstance(content, list):
            pairs = [decode_parameter(pair) for pair in content if isinstance(pair, list)]
            if len(pairs) == len(content) and all(len(pair) == 2 for pair in pairs):
                return dict(pairs)
    raise ModelFileError(f"a parameter cannot be {value!r}.")


def encode_classes(classes: np.ndarray) -> dict[str, Any]:
    """Class labels as dtype and values.

    Raises
    ------
    ModelFileError
        If they are neither booleans, numbers nor strings.
    """
    dtype = "str" if classes.dtype.kind == "U" else classes.dtype.name
    values = classes.tolist()
    if dtype not in CLASS_DTYPES or (dtype == "object" and not _all_of(values, str)):
        kinds = sorted({type(value).__name__ for value in values})
        raise ModelFileError(
            "class labels must be booleans, numbers or strings. Got an array of dtype "
            f"{classes.dtype} with values of type {', '.join(kinds)}; use pickle for these."
        )
    return {"dtype": dtype, "values": [str(v) for v in values] if dtype == "object" else values}


def decode_classes(value: Any) -> np.ndarray:
    """Class labels, checked to be of their dtype, ascending and different."""
    if not isinstance(value, dict) or set(value) != {"dtype", "values"}:
        raise ModelFileError("its classes must be an object of dtype and values.")
    dtype, values = value["dtype"], value["values"]
    if dtype not in CLASS_DTYPES:
        raise ModelFileError(f"its classes must be of a dtype among {CLASS_DTYPES}. Got {dtype!r}.")
    kind = {"b": bool, "i": int, "u": int, "f": float, "U": str, "O": str}[np.dtype(dtype).kind]
    if not isinstance(values, list) or not all(type(v) is kind for v in values):
        raise ModelFileError(f"its classes of dtype {dtype} must be a list of {kind.__name__}.")
    if kind is str and len(values) * max(map(len, values), default=0) > MAX_CHARACTERS:
        raise ModelFileError("its classes are too many names of too great a length.")
    try:
        with np.errstate(over="ignore"):
            classes = np.array(values, dtype=dtype)
    except OverflowError as error:
        raise ModelFileError(f"its classes do not fit {dtype}: {error}") from error
    if classes.tolist() != values:
        raise ModelFileError(f"its classes do not fit {dtype}.")
    if not np.array_equal(np.unique(classes), classes):
        raise ModelFileError("its classes are not ascending and different from each other.")
    return classes


def _encode_scalar(name: str, value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value if value is None else str(value)
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real) and math.isfinite(value):
        return float(value)
    return _refuse(name, value)


def _check_scalar(value: Any) -> Any:
    if isinstance(value, (list, dict)):
        raise ModelFileError(f"a parameter cannot be a list with {value!r}.")
    return value


def _look_up(table: Mapping[str, Any], what: str, name: Any) -> Any:
    if not isinstance(name, str) or name not in table:
        raise ModelFileError(f"a {what} must be among {sorted(table)}. Got {name!r}.")
    return table[name]


def _all_of(values: list[Any], kind: type) -> bool:
    return all(isinstance(value, kind) for value in values)


def _refuse(name: str, value: Any) -> Any:
    raise ModelFileError(
        f"the parameter {name!r} holds {value!r}, which is no number, name or object of the "
        "package's own; use pickle or joblib to keep it."
    )
