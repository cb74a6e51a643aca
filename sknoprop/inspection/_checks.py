"""What displays are given: counts, class probabilities."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

__all__ = [
    "as_numbers",
    "as_probabilities",
    "check_length",
    "check_positive_int",
    "is_positive_int",
]

#: How far from one the probabilities of a row may sum, and below zero one may be: those that were
#: rounded, or of low precision, do not quite.
_SUM_TOLERANCE = 1e-2
_TINY = 1e-6


def is_positive_int(value: Any) -> bool:
    """Whether it counts something; True does by Python's book, and is a mistake by any other."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0


def check_positive_int(value: Any, name: str) -> None:
    """Refuse what counts nothing.

    Raises
    ------
    ValueError
        If it is no int from 1 on.
    """
    if not is_positive_int(value):
        raise ValueError(f"{name} must be a positive int. Got {value!r}.")


def check_length(values: np.ndarray, name: str, expected: int) -> None:
    """Refuse what does not hold one value each.

    Raises
    ------
    ValueError
        If it is of another length, or a single value.
    """
    if values.ndim == 0:
        raise ValueError(f"{name} must be of length {expected}. Got a single {values.item()!r}.")
    if len(values) != expected:
        raise ValueError(f"{name} must be of length {expected}. Got {len(values)}.")


def as_numbers(values: Any, name: str) -> np.ndarray:
    """Values as an array of floats.

    Raises
    ------
    ValueError
        If they are no numbers, or rows of unequal lengths.
    """
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers. {error}") from error


def as_probabilities(values: Any, name: str, shape: tuple[int | str, ...]) -> np.ndarray:
    """Class probabilities as an array.

    Parameters
    ----------
    values : array-like
    name : str
        What the parameter is called, for messages.
    shape : tuple of int or str
        What they have to be of; a str names a length that is not known.

    Returns
    -------
    ndarray
        With none below zero.

    Raises
    ------
    ValueError
        If they are of another shape, or no probabilities.
    """
    y_proba = as_numbers(values, name)
    fits = y_proba.ndim == len(shape) and all(
        isinstance(wanted, str) or wanted == length
        for wanted, length in zip(shape, y_proba.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join(str(length) for length in shape)
        raise ValueError(
            f"{name} must be of shape ({wanted}) for these labels and classes. Got an array of "
            f"shape {y_proba.shape}."
        )
    if not np.isfinite(y_proba).all():
        raise ValueError(f"{name} must hold probabilities. Got NaN or infinity.")
    must = f"{name} must hold probabilities: none below zero, and summing to one in each row."
    if (y_proba < -_TINY).any():
        raise ValueError(f"{must} Got {y_proba.min()}.")
    sums = y_proba.sum(axis=-1).ravel()
    off = np.abs(sums - 1)
    if (off > _SUM_TOLERANCE).any():
        raise ValueError(f"{must} Got a row that sums to {sums[off.argmax()]:g}.")
    return np.maximum(y_proba, 0.0)
