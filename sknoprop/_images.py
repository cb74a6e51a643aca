"""Images: one as an array, data sets of them, and rows of numbers that are loaded when needed."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sknoprop.networks.seeding import seeded

__all__ = ["LazyImages", "LazyRows", "image_bytes"]

#: Dtypes of tensors that are images.
KNOWN = (torch.uint8, torch.bool, torch.float32, torch.float64)


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
        array = np.asarray(_of_levels(item))
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


def _of_levels(image: Any) -> Any:
    """An image of PIL's whose numbers are levels: no bits, and none of colours in a palette."""
    mode = getattr(image, "mode", None)
    if mode not in ("1", "P", "PA") or not hasattr(image, "convert"):
        return image
    if mode == "1":
        return image.convert("L")
    colors = np.reshape(image.getpalette(), (-1, 3))
    return image.convert("L" if (colors == colors[:, :1]).all() else "RGB")


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
