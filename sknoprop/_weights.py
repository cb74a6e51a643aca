"""Weights of rows and of classes."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from sknoprop._labels import class_number, label_keys, named
from sknoprop._parameters import as_float, check_sample_weight, refuse_masked

__all__ = ["check_weights", "class_factors"]


def class_factors(class_weight: Any, classes: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """Weight of each class.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
        Classes that a dict does not name have weight 1. Its keys equal classes, see
        `sknoprop._labels.class_number`.
    classes : ndarray of shape (n_classes,)
    y : ndarray of shape (n_samples,)
        Numbers of the classes of the rows that weights are balanced over.

    Returns
    -------
    ndarray of shape (n_classes,), float64, or None

    Raises
    ------
    ValueError
        If a weight is not a finite number from 0 on, a key is no class, or two are the same.
    """
    if class_weight is None:
        return None
    if isinstance(class_weight, str):
        # A class of which no row counts has no weight to balance.
        present = np.unique(y)
        factors = np.ones(len(classes))
        factors[present] = compute_class_weight(class_weight, classes=present, y=y)
        return factors
    bad = {
        k: v
        for k, v in class_weight.items()
        if not (isinstance(v, Real) and 0 <= as_float(v) < np.inf)
    }
    if bad:
        raise ValueError(
            "The 'class_weight' parameter of NoPropClassifier must have finite weights that are "
            f"not negative. Got {bad!r}."
        )
    numbers = {key: number for number, key in enumerate(label_keys(classes))}
    own = [(key, class_number(key, numbers)) for key in class_weight]
    strange = [key for key, number in own if number is None]
    found = [number for _, number in own if number is not None]
    if strange:
        kind = ", as datetime.date or np.datetime64" if classes.dtype.kind == "M" else ""
        raise ValueError(
            "The 'class_weight' parameter of NoPropClassifier must have keys among "
            f"{named(classes)}{kind}. Got also {strange}."
        )
    if len(set(found)) < len(found):
        known = [named(classes)[number] for number in set(found) if found.count(number) > 1]
        raise ValueError(
            "The 'class_weight' parameter of NoPropClassifier must have one key for a class. Got "
            f"several for {known}."
        )
    factors = np.ones(len(classes))
    factors[found] = [as_float(weight) for weight in class_weight.values()]
    return factors


def check_weights(
    sample_weight: Any, class_weight: Any, X: np.ndarray, y: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Weights of rows, each its own times its class's, and of classes.

    Parameters
    ----------
    sample_weight : array-like of shape (n_samples,) or None
    class_weight : dict, "balanced" or None
        See `class_factors`; rows of weight zero do not count for a balance.
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
        Numbers of the classes.
    classes : ndarray of shape (n_classes,)

    Returns
    -------
    weight : ndarray of shape (n_samples,), float64, or None
        Up to a constant; None if neither is given.
    factors : ndarray of shape (n_classes,), float64, or None
        None without `class_weight`.

    Raises
    ------
    ValueError
        If weights are negative, masked, not finite or of the wrong shape.
    """
    weight, counted = None, y
    if sample_weight is not None:
        refuse_masked("sample_weight", sample_weight)
        weight = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        # Scaled first, lest the product of large ones overflow.
        weight = weight / max(weight.max(), np.finfo(float).tiny)
        counted = y[weight > 0]
    factors = class_factors(class_weight, classes, counted)
    if factors is not None:
        factors = factors / max(factors.max(), np.finfo(float).tiny)
        weight = factors[y] if weight is None else weight * factors[y]
    return weight, factors
