"""Labels of classes: whether one is missing, and which class each is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np

__all__ = ["class_number", "label_keys", "label_numbers", "named", "refuse_missing"]

#: What NumPy's units of time are multiples of. A second has 10^18 of the smallest unit; months
#: have no length of their own.
UNITS = {
    "Y": ("months", 12),
    "M": ("months", 1),
    **{
        unit: ("time", seconds * 10**18)
        for unit, seconds in (("W", 604800), ("D", 86400), ("h", 3600), ("m", 60), ("s", 1))
    },
    **{
        unit: ("time", 10**power)
        for unit, power in (("ms", 15), ("us", 12), ("ns", 9), ("ps", 6), ("fs", 3), ("as", 0))
    },
}


def refuse_missing(name: str, labels: Any) -> None:
    """Raise a ValueError for None, NaN, NaT or pandas' NA among labels.

    They can be neither sorted nor compared, which NumPy says in words of its own; and NumPy makes
    "nan" of one in a list of strings.

    Parameters
    ----------
    name : str
        What the labels are to the user.
    labels : array-like
        What are no labels at all is refused elsewhere.
    """
    array: np.ndarray = np.asarray(() if labels is None else labels)
    if array.dtype.kind == "U" and isinstance(labels, list | tuple):
        array = np.array(labels, dtype=object)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        return
    if array.dtype.kind in "mMf":
        rows = np.flatnonzero(np.isnan(array))
        if len(rows):
            raise ValueError(_missing(name, "NaN" if array.dtype.kind == "f" else "NaT", rows[0]))
    elif array.dtype == object:
        for row, label in enumerate(array):
            try:
                missing = label is None or bool(label != label)
            except TypeError:  # NA is neither like itself nor unlike
                missing = True
            except ValueError:  # arrays as labels
                return
            if missing:
                raise ValueError(_missing(name, repr(label), row))


def _missing(name: str, label: str, row: int) -> str:
    return f"{name} must have no missing labels. Got {label} in row {row}."


def label_keys(labels: np.ndarray) -> list[Hashable]:
    """Labels as values that are equal where the labels are.

    Python's own, as NumPy would compare integers of different kinds as rounded floats; and dates in
    one unit, whichever unit they have, as NumPy would wrap those that are too far for the finer.

    Parameters
    ----------
    labels : ndarray of shape (n,)

    Returns
    -------
    list
    """
    kind = labels.dtype.kind
    if kind not in "mM":
        return list(labels.tolist())
    unit, count = np.datetime_data(labels.dtype)
    if kind == "M" and unit in ("Y", "M"):  # the day a month or year begins with
        labels, unit, count = labels.astype("M8[D]"), "D", 1
    base, factor = UNITS.get(unit, (unit, 1))
    return [(kind, base, n * count * factor) for n in labels.astype(np.int64).tolist()]


def label_numbers(y: np.ndarray, classes: np.ndarray, name: str) -> np.ndarray:
    """Numbers of labels among classes.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
    classes : ndarray of shape (n_classes,)
    name : str
        What `y` is to the user.

    Returns
    -------
    ndarray of shape (n_samples,), int64

    Raises
    ------
    ValueError
        If a label is no class.
    """
    numbers = {key: number for number, key in enumerate(label_keys(classes))}
    labels, inverse = np.unique(y, return_inverse=True)
    found = np.array([numbers.get(key, -1) for key in label_keys(labels)], dtype=np.int64)
    if (found < 0).any():
        unknown = labels[found < 0]
        raise ValueError(f"{name} must have labels among {classes}. Got also {unknown}.")
    return found[inverse]


def class_number(label: Any, numbers: Mapping[Hashable, int]) -> int | None:
    """Number of the class that a label of the user's equals, or None.

    Parameters
    ----------
    label : object
        A number or string of any type that says that it equals a class (``torch.tensor(0)`` does).
        A date or a span of time may be NumPy's in any unit, Python's or pandas'.
    numbers : mapping
        Numbers of classes by their `label_keys`.

    Returns
    -------
    int or None
    """
    key = _key(label)
    try:
        if (number := numbers.get(key)) is not None:
            return number
    except TypeError:  # what has no hash
        pass
    # What equals a class need not have its hash.
    return next((number for known, number in numbers.items() if _equal(key, known)), None)


def _key(label: Any) -> Any:
    if isinstance(label, date | timedelta) and getattr(label, "tzinfo", None) is None:
        # (pandas' have nanoseconds, which NumPy does not ask for.)
        exact = getattr(label, "to_numpy", None)
        plain = np.datetime64 if isinstance(label, date) else np.timedelta64
        label = exact() if exact else plain(label)
    if isinstance(label, np.datetime64 | np.timedelta64):
        return label_keys(np.array([label]))[0]
    return label


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except (RuntimeError, TypeError, ValueError):  # arrays and tensors of several numbers
        return False


def named(classes: np.ndarray) -> list[Any]:
    """Classes for a message: dates as dates, which NumPy lists as counts where they have time."""
    return list(map(str, classes)) if classes.dtype.kind in "mM" else list(classes.tolist())
