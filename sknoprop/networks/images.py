"""Images as rows of numbers, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["ImageEncoding"]

#: Rows that moments are measured on, at most; fewer of large images, for their numbers.
MAX_ROWS, MAX_NUMBERS = 4096, 2**22


class ImageEncoding(nn.Module):
    """Images, each channel of them standardised.

    Bytes stay bytes, an eighth of the memory and less, until `normalize` is called on a batch of
    them; other numbers are standardised when they are prepared.

    Parameters
    ----------
    shape : tuple of int
        Channels, height and width.
    mean, scale : Tensor of shape (channels,), float64
        What each channel is centred with, and then divided by.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sknoprop.networks import ImageEncoding
    >>> rows = np.arange(64, dtype=np.uint8).reshape(4, 16)
    >>> encoding = ImageEncoding.measured((1, 4, 4), rows)
    >>> images = encoding(torch.from_numpy(rows))
    >>> images.shape, images.dtype
    (torch.Size([4, 1, 4, 4]), torch.uint8)
    >>> round(encoding.normalize(images, torch.float32).std(correction=0).item(), 4)
    1.0
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, shape: Sequence[int], mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.shape = tuple(int(size) for size in shape)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    @classmethod
    def measured(cls, shape: Sequence[int], X: Any) -> ImageEncoding:
        """The encoding with mean and standard deviation of each channel of training images.

        Parameters
        ----------
        shape : tuple of int
            Channels, height and width.
        X : ndarray of shape (n_samples, channels * height * width)
            Or what is indexed like one, as rows that are loaded batch by batch. Of many, evenly
            spaced ones are looked at.

        Returns
        -------
        ImageEncoding
        """
        n_rows = min(len(X), MAX_ROWS, max(MAX_NUMBERS // X.shape[1], 64))
        rows = X[np.linspace(0, len(X) - 1, n_rows).astype(int)]
        values = np.asarray(rows, dtype=np.float64).reshape(len(rows), shape[0], -1)
        # Moments of values scaled by the largest magnitude: neither huge nor tiny units overflow.
        unit = np.abs(values).max(axis=(0, 2), initial=0.0)
        unit[unit == 0.0] = 1.0
        scaled = values / unit[:, None]
        mean, scale = scaled.mean(axis=(0, 2)) * unit, scaled.std(axis=(0, 2)) * unit
        scale[scale <= 10 * np.finfo(np.float64).eps * unit] = 1.0
        return cls(shape, torch.tensor(mean), torch.tensor(scale))

    @property
    def n_in(self) -> int:
        """Number of values of an image."""
        return math.prod(self.shape)

    @property
    def n_out(self) -> int:
        """Number of values of an encoded image, the same."""
        return self.n_in

    def forward(self, x: Tensor) -> Tensor:
        """Rows as images; they are standardised unless they are bytes, see `normalize`.

        Parameters
        ----------
        x : Tensor of shape (n_samples, channels * height * width)

        Returns
        -------
        Tensor of shape (n_samples, channels, height, width)
            Of uint8 or float64.
        """
        images = x.view(-1, *self.shape)
        return images if images.dtype == torch.uint8 else self.standardize(images)

    def normalize(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Prepared images, or bytes, as standardised values of a dtype.

        Parameters
        ----------
        images : Tensor of shape (n_samples, channels, height, width)
            From `forward`.
        dtype : torch.dtype

        Returns
        -------
        Tensor of shape (n_samples, channels, height, width)
        """
        if images.dtype == torch.uint8:
            images = self.standardize(images)
        return images.to(dtype)

    def standardize(self, x: Tensor) -> Tensor:
        """Standardised values of images or rows.

        Parameters
        ----------
        x : Tensor of shape (n_samples, channels, height, width) or \
(n_samples, channels * height * width)

        Returns
        -------
        Tensor of the shape of `x`, float64
        """
        images = x.reshape(-1, *self.shape).to(self.mean.dtype)
        mean, scale = self.mean[:, None, None], self.scale[:, None, None]
        return ((images - mean) / scale).clamp(-1e9, 1e9).view(x.shape)
