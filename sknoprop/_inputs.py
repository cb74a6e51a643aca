"""What `X` and `y` may be: rows of numbers, images, or images that are loaded when needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse  # type: ignore[import-untyped]
from sklearn.utils.validation import check_consistent_length, validate_data

from sknoprop._images import LazyImages, LazyRows
from sknoprop._labels import refuse_missing
from sknoprop._parameters import check_n_features, refuse_masked

__all__ = ["check_data"]

FLOATS = [np.float64, np.float32]

#: scikit-learn's word for data that are not there to be checked; None is a `y` that is missing.
NOT_GIVEN = "no_validation"


def check_data(estimator: Any, X: Any, y: Any = NOT_GIVEN, *, reset: bool) -> Any:
    """Check `X`, and `y` if it is given, as scikit-learn does; images become rows.

    Parameters
    ----------
    estimator : NoPropClassifier
        With `reset` it is told the number of features and `image_shape_`; else it knows them.
    X : array-like or LazyImages
        Rows of numbers ``(n_samples, n_features)`` or images ``(n_samples, channels, height,
        width)``; bytes that are images stay bytes.
    y : array-like, optional
        None is refused, as what is missing.
    reset : bool

    Returns
    -------
    X : ndarray or LazyRows of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
        If given.

    Raises
    ------
    ValueError, TypeError
        If they are not as described.
    """
    for name, values in (("X", X), ("y", y)):
        refuse_masked(name, values)
    refuse_missing("y", y)
    if isinstance(X, torch.utils.data.Dataset):
        raise TypeError(
            f"X must be an array. Got the data set {type(X).__name__}: wrap it in "
            "sknoprop.datasets.LazyImages, or read it by sknoprop.datasets.load_torchvision."
        )
    _refuse_sparse(X)
    expected = _expected_shape(estimator) if reset else estimator.image_shape_
    lazy = isinstance(X, LazyImages)
    # (np.ndim would ask array-likes for a function of their own.)
    array = X if hasattr(X, "ndim") else np.asarray(X)
    _refuse_dates(X, array)
    ndim = array.ndim
    shape = expected
    if ndim == 4:
        if not lazy:
            X = np.asarray(X)
        shape = tuple(int(size) for size in X.shape[1:])
        if (expected is not None or not reset) and shape != expected:
            raise ValueError(
                f"X must have images of shape (channels, height, width) = {expected}. Got {shape}."
                if expected is not None
                else "NoPropClassifier was fitted on rows of numbers. Got X with images."
            )
        X = LazyRows(X) if lazy else X.reshape(len(X), math.prod(shape))
    elif ndim == 3:
        raise ValueError(
            "X must be of shape (n_samples, n_features), or (n_samples, channels, height, width) "
            f"for images. Got {tuple(np.shape(X))} (found array with dim 3). Give grey images an "
            "axis of one channel: X[:, None]."
        )
    dtypes = FLOATS if shape is None else [*FLOATS, np.uint8]
    if isinstance(X, LazyRows):
        result = _check_lazy(estimator, X, y, reset)
    else:
        # In one layout: sums over columns are rounded by the order of their terms.
        result = validate_data(estimator, X, y, dtype=dtypes, order="C", reset=reset)
    if reset:
        n_features = estimator.n_features_in_
        if shape is not None and math.prod(shape) != n_features:
            raise ValueError(
                f"The 'image_shape' parameter of NoPropClassifier must have {n_features} pixels, "
                f"as many as X has features. Got {shape}, which has {math.prod(shape)}."
            )
        estimator.image_shape_ = shape
    return result


def _refuse_sparse(X: Any) -> None:
    """Raise a TypeError for a sparse matrix, or a data frame of sparse columns alone."""
    columns = getattr(X, "dtypes", None)
    dtypes = [str(dtype) for dtype in columns] if isinstance(columns, Iterable) else []
    sparse_columns = bool(dtypes) and all(dtype.startswith("Sparse") for dtype in dtypes)
    if issparse(X) or sparse_columns:
        advice = (
            "X.sparse.to_dense()"
            if sparse_columns
            else "X.toarray(), or in a pipeline OneHotEncoder(sparse_output=False), "
            "ColumnTransformer(..., sparse_threshold=0)"
        )
        raise TypeError(f"X must be dense. Got sparse data: use {advice}.")


def _refuse_dates(X: Any, array: Any) -> None:
    """Raise a ValueError for times among `X`, given also as an array where it has no dimensions.

    As numbers they would be counts of whatever unit they have, and a missing one the smallest.
    """
    columns = getattr(X, "dtypes", None)  # of a data frame
    dtypes = columns if isinstance(columns, Iterable) else [getattr(array, "dtype", None)]
    kinds = {_kind(dtype) for dtype in dtypes}
    if "O" in kinds:  # each value may be anything, and few types say what all of them are
        for kind in set(map(type, np.asarray(X).flat)):
            if issubclass(kind, (np.datetime64, np.timedelta64, date, timedelta)):
                kinds.add("M")
    if kinds & {"M", "m"}:
        raise ValueError("X must be numbers. Got dates or times; turn them into numbers first.")


def _kind(dtype: Any) -> str:
    """NumPy's letter for a dtype, where it is known; polars says itself what is a time."""
    if callable(is_temporal := getattr(dtype, "is_temporal", None)):
        return "M" if is_temporal() else ""
    return str(getattr(dtype, "kind", ""))


def _expected_shape(estimator: Any) -> tuple[int, ...] | None:
    shape: Sequence[int] | None = estimator.image_shape
    return None if shape is None else tuple(int(size) for size in shape)


def _check_lazy(estimator: Any, X: LazyRows, y: Any, reset: bool) -> Any:
    if reset and hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_
    if len(X) == 0:
        raise ValueError("X must have a row. Got LazyImages without any.")
    check_n_features(estimator, X, reset=reset)
    if isinstance(y, str) and y == NOT_GIVEN:
        return X
    y = validate_data(estimator, X=NOT_GIVEN, y=y, reset=False)
    check_consistent_length(X, y)
    return X, y
