"""What `X` may be: rows of numbers, images, or images that are loaded when they are needed."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_consistent_length, validate_data

from sknoprop._parameters import check_n_features, refuse_masked
from sknoprop.networks.seeding import seeded

__all__ = ["LazyImages", "LazyRows", "check_data", "image_bytes"]

FLOATS = [np.float64, np.float32]

#: Dtypes of tensors that are images.
KNOWN = (torch.uint8, torch.bool, torch.float32, torch.float64)

#: scikit-learn's word for data that are not there to be checked; None is a `y` that is missing.
NOT_GIVEN = "no_validation"


def image_bytes(item: Any) -> np.ndarray:
    """One image as an array ``(channels, height, width)``, of bytes or of floats.

    Parameters
    ----------
    item : PIL image, ndarray or tensor
        Tensors have channels first already; arrays and PIL images last, or none.

    Raises
    ------
    ValueError
        If it is no image.
    """
    array: Any
    if isinstance(item, torch.Tensor):
        # (Not all of torch's dtypes are NumPy's.)
        array = item.detach().cpu().numpy() if item.dtype in KNOWN else item
    else:
        if getattr(item, "mode", None) == "P":  # PIL's: numbers of colours in a palette
            item = item.convert("RGB")
        array = np.asarray(item)
        if array.ndim == 2:
            array = array[None]
        elif array.ndim == 3:
            array = np.moveaxis(array, -1, 0)
    if array.dtype == np.bool_:
        array = array.astype(np.float32)  # as of an array of many: nought and one
    if array.ndim != 3 or array.dtype not in (np.uint8, np.float32, np.float64):
        raise ValueError(
            "An image must be a PIL image, an array (height, width) or (height, width, channels) "
            "or a tensor (channels, height, width), of uint8, float32 or float64. Got "
            f"{type(item).__name__} of shape {tuple(array.shape)} and dtype {array.dtype}."
        )
    return np.asarray(array)


class LazyImages:
    """Images of a data set that are loaded batch by batch, in `fit` as in `predict`.

    For data larger than memory, and for transforms that draw at random each time an image is
    looked at. It is indexed as an array is, by slices, numbers or masks, which loads nothing: so
    it goes through `cross_val_score` and `GridSearchCV`.

    What transforms draw from torch's global generator is decided by `random_state` in `fit`; in
    prediction it is the same each time, but depends on the rows that are loaded together. So leave
    random transforms out of data that are predicted. With an encoder that is not trained images are
    loaded once for all epochs, so that random transforms are of no use there either.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        With a length; item i is an image, or an image and its label. All images are of one shape
        and dtype.
    indices : array-like of int or bool, optional
        Which items, in which order, or a mask of them; all by default.

    Attributes
    ----------
    shape : tuple
        ``(n_samples, channels, height, width)``.
    dtype : numpy.dtype
        Of the images: uint8, float32 or float64.

    Raises
    ------
    ValueError
        If the data set has no length or is empty, its first item is no image, or it has not all
        of the indices.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoprop.datasets import LazyImages
    >>> X = LazyImages([(np.zeros((8, 8), np.uint8), 0), (np.ones((8, 8), np.uint8), 1)])
    >>> X.shape, len(X[1:]), X.targets
    ((2, 1, 8, 8), 1, array([0, 1]))
    """

    def __init__(self, dataset: Any, indices: np.ndarray | None = None) -> None:
        if isinstance(dataset, type) or not hasattr(dataset, "__len__") or len(dataset) == 0:
            raise ValueError(
                "LazyImages need a data set with a length, and an item at least. Got "
                f"{dataset if isinstance(dataset, type) else type(dataset).__name__}."
            )
        self.dataset = dataset
        self.indices = _numbers_of(indices, len(dataset))
        with seeded(0, torch.device("cpu")):  # a look at one must not move a user's generator
            first = self.image(self.indices[0] if len(self.indices) else 0)
        self.shape = (len(self.indices), *first.shape)
        self.dtype = first.dtype
        self.ndim = 4

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Any) -> LazyImages:
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
            key = key[0]  # as scikit-learn indexes rows
        chosen = copy.copy(self)
        chosen.indices = np.atleast_1d(self.indices[key])
        chosen.shape = (len(chosen.indices), *self.shape[1:])
        return chosen

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        images, _ = self._loaded()
        return images if dtype is None else images.astype(dtype)

    def both(self) -> tuple[np.ndarray, np.ndarray]:
        """All images and their labels, each item loaded once.

        Returns
        -------
        images : ndarray of shape (n_samples, channels, height, width)
        labels : ndarray of shape (n_samples,)

        Raises
        ------
        ValueError
            If images differ in shape or dtype or are not finite, or items have no label.
        """
        images, others = self._loaded()
        stored = self._stored_targets()
        return images, np.array([_label(own) for own in others]) if stored is None else stored

    def _loaded(self) -> tuple[np.ndarray, list[Any]]:
        """All images, and what items have beside them."""
        images, others = np.empty(self.shape, dtype=self.dtype), []
        for own, index in zip(images, self.indices, strict=True):
            image, other = _split(self.dataset[int(index)])
            image = image_bytes(image)
            if image.shape != own.shape or image.dtype != own.dtype:
                raise ValueError(
                    f"Images must be of one shape and dtype, {own.shape} and {own.dtype} like the "
                    f"first. Got {image.shape} and {image.dtype} for item {index} of the data set."
                )
            own[...] = image
            others.append(other)
        if images.dtype.kind == "f" and not np.isfinite(images).all():
            raise ValueError("Images must be finite. Got NaN or infinity.")
        return images, others

    def image(self, index: int) -> np.ndarray:
        """One image of the data set.

        Parameters
        ----------
        index : int
            Its number in the data set, whatever `indices` are.

        Returns
        -------
        ndarray of shape (channels, height, width)

        Raises
        ------
        ValueError
            If the item is no image.
        """
        image, _ = _split(self.dataset[int(index)])
        return image_bytes(image)

    def _stored_targets(self) -> np.ndarray | None:
        """Labels as the data set has them, if it has them and they are one each."""
        if getattr(self.dataset, "target_transform", None) is not None:
            return None
        targets = np.asarray(getattr(self.dataset, "targets", None))
        return targets[self.indices] if targets.ndim == 1 else None

    @property
    def targets(self) -> np.ndarray:
        """Labels of the images, of the data set's attribute `targets` if it has one."""
        stored = self._stored_targets()
        if stored is not None:
            return stored
        with seeded(0, torch.device("cpu")):  # images come along, and their transforms may draw
            items = (self.dataset[int(index)] for index in self.indices)
            return np.array([_label(other) for _, other in map(_split, items)])

    def __repr__(self) -> str:
        return f"LazyImages(shape={self.shape}, dtype={self.dtype})"


def _numbers_of(indices: Any, n_items: int) -> np.ndarray:
    if indices is None:
        return np.arange(n_items)
    numbers: np.ndarray = np.asarray(indices)
    if numbers.shape == (n_items,) and numbers.dtype == np.bool_:
        return np.flatnonzero(numbers)
    integers = numbers.ndim == 1 and (numbers.size == 0 or numbers.dtype.kind in "iu")
    if not integers or not np.all((-n_items <= numbers) & (numbers < n_items)):
        wanted = f"ints below {n_items}, the number of items, or a mask of as many"
        raise ValueError(f"indices of LazyImages must be {wanted}. Got {indices!r}.")
    return numbers.astype(np.int64)


def _split(item: Any) -> tuple[Any, Sequence[Any]]:
    """The image of an item, and what the item has beside it."""
    return (item[0], item[1:]) if isinstance(item, tuple | list) else (item, ())


def _label(other: Sequence[Any]) -> Any:
    if len(other) == 0:
        raise ValueError(
            "Items of the data set must be an image and its label where labels are asked for. Got "
            "an image alone."
        )
    return other[0]


class LazyRows:
    """`LazyImages` with a row of numbers for each image, as all checked data have it.

    Transforms that draw do so from torch's global generator, which is put back afterwards. What
    they draw each time that rows are loaded comes from one generator for all selections of rows.

    Parameters
    ----------
    images : LazyImages
    generator : torch.Generator, optional
        Always starts alike by default.
    """

    def __init__(self, images: LazyImages, generator: torch.Generator | None = None) -> None:
        self.images = images
        self.shape = (len(images), math.prod(images.shape[1:]))
        self.dtype = images.dtype
        self.generator = torch.Generator().manual_seed(0) if generator is None else generator

    def seed(self, seed: int) -> None:
        """Start the generator of these rows and of all selections of them anew."""
        self.generator.manual_seed(seed)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Any) -> LazyRows:
        return LazyRows(self.images[key], self.generator)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        seed = int(torch.randint(2**62, (), generator=self.generator))
        with seeded(seed, torch.device("cpu")):
            return np.asarray(self.images, dtype=dtype).reshape(self.shape)


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
        _refuse_dates(name, values)
    _refuse_missing_labels(y)
    if isinstance(X, torch.utils.data.Dataset):
        raise TypeError(
            f"X must be an array. Got the data set {type(X).__name__}: wrap it in "
            "sknoprop.datasets.LazyImages, or read it by sknoprop.datasets.load_torchvision."
        )
    expected = _expected_shape(estimator) if reset else estimator.image_shape_
    lazy = isinstance(X, LazyImages)
    # (np.ndim would ask array-likes for a function of their own.)
    ndim = X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim
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


def _refuse_dates(name: str, values: Any) -> None:
    """Raise a ValueError for times among `X`, and for ones that are missing among `y`.

    As numbers they would be counts of whatever unit they have, and a missing one the smallest.
    """
    columns = getattr(values, "dtypes", None)  # of a data frame
    kinds = columns if isinstance(columns, Iterable) else [getattr(values, "dtype", None)]
    if not any(getattr(dtype, "kind", "") in ("M", "m") for dtype in kinds):
        return
    if name == "X":
        raise ValueError("X must be numbers. Got dates or times; turn them into numbers first.")
    if np.isnat(np.asarray(values)).any():
        raise ValueError(f"{name} must have no missing labels. Got NaT.")


def _refuse_missing_labels(y: Any) -> None:
    """Raise a ValueError for None, NaN or pandas' NA among labels that are objects.

    They can be neither sorted nor compared, which NumPy says in words of its own; and NumPy makes
    "nan" of one in a list of strings.
    """
    labels: np.ndarray = np.asarray(() if y is None else y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    elif labels.dtype.kind == "U" and isinstance(y, list):
        labels = np.array(y, dtype=object)
    if labels.dtype != object or labels.ndim != 1:  # what is no array is refused elsewhere
        return
    for row, label in enumerate(labels):
        try:
            missing = label is None or bool(label != label)
        except TypeError:  # NA is neither like itself nor unlike
            missing = True
        except ValueError:  # arrays as labels
            return
        if missing:
            raise ValueError(f"y must have no missing labels. Got {label!r} in row {row}.")


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
