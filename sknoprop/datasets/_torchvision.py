"""From a torchvision data set to arrays."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from sklearn.utils import Bunch

from sknoprop._images import LazyImages

__all__ = ["load_torchvision"]

#: Data sets that have a name.
NAMES = ("CIFAR10", "CIFAR100", "FashionMNIST", "MNIST")


def load_torchvision(
    dataset: Any,
    *,
    root: str | os.PathLike | None = None,
    train: bool = True,
    download: bool = False,
    return_X_y: bool = False,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Read a data set of images into memory.

    Parameters
    ----------
    dataset : {"MNIST", "FashionMNIST", "CIFAR10", "CIFAR100"} or torch.utils.data.Dataset
        A name, for which torchvision is needed, or a data set whose items are an image and a
        label; its transforms are applied, once.
    root : str or path-like, default=None
        For a name: the folder that torchvision keeps its data sets in.
    train : bool, default=True
        For a name: whether to read the training images or the test images.
    download : bool, default=False
        For a name: whether torchvision may download what is not in `root`.
    return_X_y : bool, default=False
        Whether to return a pair instead of a Bunch.

    Returns
    -------
    data : Bunch
        With ``data``, an array ``(n_samples, channels, height, width)`` of uint8 (or of the dtype
        that a transform makes), ``target``, an array ``(n_samples,)`` (of int64 where labels are
        ints), ``target_names``, a list of str or None, and ``DESCR``.
    (X, y) : tuple of ndarray
        ``data`` and ``target``, with `return_X_y`.

    Raises
    ------
    ValueError
        If the name is none of the four, or `root` is missing.
    ImportError
        If torchvision is not installed.
    FileNotFoundError
        If the data set is not in `root`; it says what to do.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoprop.datasets import load_torchvision
    >>> images = [(np.full((8, 8), i, np.uint8), i % 2) for i in range(10)]
    >>> X, y = load_torchvision(images, return_X_y=True)
    >>> X.shape, X.dtype, y.shape
    ((10, 1, 8, 8), dtype('uint8'), (10,))
    """
    if isinstance(dataset, str):
        dataset = _by_name(dataset, root, train, download)
    X, y = _arrays(dataset)
    if return_X_y:
        return X, y
    names = getattr(dataset, "classes", None)
    return Bunch(
        data=X,
        target=y,
        target_names=None if names is None else [str(name) for name in names],
        DESCR=repr(dataset) if _is_torchvisions(dataset) else f"{type(dataset).__name__} of images",
    )


def _by_name(name: str, root: Any, train: bool, download: bool) -> Any:
    if name not in NAMES:
        raise ValueError(f"dataset must be one of {list(NAMES)}, or a data set. Got {name!r}.")
    if root is None:
        raise ValueError(f"Data set {name!r} needs root, the folder to read it from. Got None.")
    try:
        from torchvision import datasets
    except ImportError as error:
        raise ImportError(
            "Data sets by name need torchvision: pip install 'sknoprop[vision]'."
        ) from error
    try:
        return getattr(datasets, name)(root, train=train, download=download)
    except (RuntimeError, OSError) as error:
        fetch = (
            "It could not be downloaded: pass" if download else "Pass download=True to fetch it, or"
        )
        raise FileNotFoundError(
            f"{name} is not, or not whole, in root={str(root)!r}. {fetch} the folder that has it "
            f"in torchvision's layout. torchvision says: {error}"
        ) from error


def _arrays(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    images = _stored(dataset)
    if images is None:
        images, targets = LazyImages(dataset).both()
    else:
        targets = np.asarray(dataset.targets)
    if targets.ndim == 2 and targets.shape[1] == 1:  # each an array of one number
        targets = targets[:, 0]
    return images, targets.astype(np.int64) if targets.dtype.kind in "iu" else targets


def _is_torchvisions(dataset: Any) -> bool:
    return type(dataset).__module__.split(".")[0] == "torchvision"


def _stored(dataset: Any) -> np.ndarray | None:
    """All images at once, where a data set of torchvision's has them and no transform."""
    if not _is_torchvisions(dataset):
        return None  # what a data set of somebody's makes of its data is its own matter
    if any(getattr(dataset, f"{name}transform", None) for name in ("", "target_")):
        return None
    data: Any = getattr(dataset, "data", None)
    targets: Any = getattr(dataset, "targets", None)
    if np.ndim(targets) != 1 or not isinstance(data, (np.ndarray, torch.Tensor)):
        return None
    array = np.asarray(data)
    if array.dtype != np.uint8 or len(array) != len(targets):
        return None
    if array.ndim == 3:
        return array[:, None]
    return np.ascontiguousarray(np.moveaxis(array, -1, 1)) if array.ndim == 4 else None
