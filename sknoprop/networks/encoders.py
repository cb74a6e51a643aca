"""Encoders: the only part that knows what the input is.

An encoder has two stages. `prepare` has no parameters and is the same for all blocks, so it may
be computed once for a whole data set; `forward` turns prepared inputs into each block's
features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from sknoprop.networks.images import ImageEncoding
from sknoprop.networks.stacked import (
    HE_GAIN,
    Generators,
    StackedBatchNorm,
    StackedDropout,
    StackedLinear,
)

__all__ = ["Encoder", "NumberEncoding"]


class NumberEncoding(nn.Module):
    """Numbers standardised, and beside that cut into bins with linear pieces.

    For each feature with quantiles ``b_0 < ... < b_k``, k > 1, of the training data, component j
    is ``clip((x - b_{j-1}) / (b_j - b_{j-1}), 0, 1)``: the piecewise-linear encoding of Gorishniy,
    Rubachev & Babenko (2022, arXiv:2203.05556). A layer on top of it can bend each feature at
    each quantile, and no scale, shift or heavy tail of a feature matters. The first and last
    piece go on by one bin's width outside the range of the training data, so that values there
    still differ. The standardised value is kept in front: it is what is linear. It is clipped
    smoothly, ``x / sqrt(1 + (x / c)**2)``, so that an outlier cannot drown the rest (as in
    RealMLP: Holzmueller, Grinsztajn & Steinwart 2024, arXiv:2407.04491).

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Training data, finite.
    n_bins : int
        Largest number of bins a feature; 0 or 1 leaves the standardised values alone. So does a
        feature with fewer than `values_per_bin` distinct values a bin (counts, levels, pixels of
        few grey tones): steps between them are all there is, and a layer has those already.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sknoprop.networks import NumberEncoding
    >>> X = np.column_stack([np.arange(100.0), np.arange(100) % 2])
    >>> encoding = NumberEncoding(X, n_bins=4)
    >>> encoding.n_in, encoding.n_out  # of two levels no pieces are made
    (2, 6)
    >>> encoding(torch.tensor([[61.875, 0.0]]))[:, 2:].round(decimals=2)
    tensor([[1.0000, 1.0000, 0.5000, 0.0000]], dtype=torch.float64)
    """

    mean: Tensor
    scale: Tensor
    column: Tensor
    left: Tensor
    width: Tensor
    low: Tensor
    high: Tensor

    #: Standard deviations at which values are clipped smoothly.
    clip = 5.0

    #: Distinct values a bin that a feature must have to be cut into bins.
    values_per_bin = 4

    def __init__(self, X: np.ndarray, n_bins: int) -> None:
        super().__init__()
        X = np.asarray(X, dtype=np.float64)
        # Moments of data scaled by its largest magnitude: neither huge nor tiny units overflow.
        unit = np.abs(X).max(axis=0)
        unit[unit == 0.0] = 1.0
        mean = (X / unit).mean(axis=0) * unit
        scale = (X / unit).std(axis=0) * unit
        # A spread of rounding errors is no spread.
        constant = scale <= 10 * np.finfo(np.float64).eps * unit
        scale[constant] = 1.0
        column, left, width, low, high = [], [], [], [], []
        for j in np.flatnonzero(~constant) if n_bins > 1 else ():
            if len(np.unique(X[:, j])) < self.values_per_bin * n_bins:
                continue
            edges = np.unique(np.quantile(X[:, j], np.linspace(0.0, 1.0, n_bins + 1)))
            n_pieces = len(edges) - 1
            if n_pieces < 2:
                continue
            for k, (a, b) in enumerate(pairwise(edges)):
                column.append(j)
                left.append(a)
                width.append(b - a)
                low.append(-1.0 if k == 0 else 0.0)
                high.append(2.0 if k == n_pieces - 1 else 1.0)
        for name, values in (
            ("mean", mean),
            ("scale", scale),
            ("left", left),
            ("width", width),
            ("low", low),
            ("high", high),
        ):
            self.register_buffer(name, torch.tensor(np.asarray(values), dtype=torch.float64))
        self.register_buffer("column", torch.tensor(column, dtype=torch.int64))

    @classmethod
    def from_statistics(cls, statistics: Mapping[str, Tensor]) -> NumberEncoding:
        """The encoding with buffers that are known, instead of data to measure them on.

        Parameters
        ----------
        statistics : mapping of str to Tensor
            All buffers, by name.

        Returns
        -------
        NumberEncoding
        """
        encoding = cls.__new__(cls)
        nn.Module.__init__(encoding)
        for name, values in statistics.items():
            encoding.register_buffer(name, values)
        return encoding

    @property
    def n_in(self) -> int:
        """Number of features."""
        return len(self.mean)

    @property
    def n_out(self) -> int:
        """Number of encoded features."""
        return len(self.mean) + len(self.column)

    def standardize(self, x: Tensor) -> Tensor:
        """Standardised and smoothly clipped values.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)

        Returns
        -------
        Tensor of shape (n_samples, n_features), float64
        """
        standard = ((x.to(self.mean.dtype) - self.mean) / self.scale).clamp(-1e9, 1e9)
        return standard * torch.rsqrt(1.0 + (standard / self.clip) ** 2)

    def forward(self, x: Tensor) -> Tensor:
        """Encode rows of numbers.

        Computed in float64, the dtype of the statistics in a model of any dtype, so that a
        feature far from zero loses nothing before it is centred.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)

        Returns
        -------
        Tensor of shape (n_samples, n_out), float64
            The standardised values, then the pieces of all features.
        """
        x = x.to(self.mean.dtype)
        standard = self.standardize(x)
        # `x[:, column]`, in a fifth of the time; the rest in its place.
        pieces = x.gather(1, self.column.expand(len(x), -1))
        pieces.sub_(self.left).div_(self.width).clamp_(self.low, self.high)
        return torch.cat([standard, pieces], dim=1)


class Encoder(nn.Module):
    """Features of the input, one network a block: a path of images, if any, and dense layers.

    After the last layer there is no non-linearity: heads add the latent first.

    Parameters
    ----------
    encoding : NumberEncoding, ImageEncoding or FrozenEncoding
        What inputs are turned into once for all blocks; it has no trained parameters.
    hidden_layer_sizes : sequence of int
        Widths of the dense layers; at least one.
    generators : sequence of torch.Generator
        One a block.
    dropout : float, default=0.0
        Between the dense layers.
    normalize : bool, default=False
        Batch normalisation after each dense layer.
    path : nn.Module, optional
        From encoded inputs to ``(n_blocks, n_samples, path.n_out)``, a `ConvPath` say.
    gain : float, default=sqrt(2)
        Of the dense layers' initial weights, uniform with standard deviation
        ``gain / sqrt(n_inputs)``.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sknoprop.networks import Encoder, NumberEncoding
    >>> X = np.random.default_rng(0).normal(size=(50, 4))
    >>> generators = [torch.Generator().manual_seed(block) for block in range(3)]
    >>> encoder = Encoder(NumberEncoding(X, n_bins=8), (16, 32), generators)
    >>> encoder(encoder.prepare(torch.from_numpy(X))).shape
    torch.Size([3, 50, 32])
    """

    def __init__(
        self,
        encoding: nn.Module,
        hidden_layer_sizes: Sequence[int],
        generators: Generators,
        dropout: float = 0.0,
        normalize: bool = False,
        path: nn.Module | None = None,
        gain: float = HE_GAIN,
    ) -> None:
        super().__init__()
        self.encoding = encoding
        self.path = path
        n_in = cast(int, encoding.n_out if path is None else path.n_out)
        self.widths = (n_in, *hidden_layer_sizes)
        self.layers = nn.ModuleList(
            StackedLinear(a, b, generators, gain) for a, b in pairwise(self.widths)
        )
        self.norms = nn.ModuleList(
            StackedBatchNorm(width, len(generators)) if normalize else nn.Identity()
            for width in self.widths[1:]
        )
        self.dropout = StackedDropout(dropout)

    @property
    def n_out(self) -> int:
        """Number of features."""
        return self.widths[-1]

    @property
    def dtype(self) -> torch.dtype:
        """Of the layers."""
        return cast(StackedLinear, self.layers[0]).weight.dtype

    @property
    def largest(self) -> int:
        """Numbers that one row becomes in one array on its way, at most, for each block."""
        # An array of a dense layer has all blocks, one of a path has one; the first layer's input
        # is one for all where there is no path.
        n_blocks = len(cast(StackedLinear, self.layers[0]).weight)
        n_in, *widths = self.widths
        if self.path is None:
            return max(*widths, math.ceil(n_in / n_blocks))
        return max(n_in, *widths, math.ceil(cast(int, self.path.largest) / n_blocks))

    def prepare(self, x: Tensor) -> Tensor:
        """What `forward` takes, of raw inputs.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)

        Returns
        -------
        Tensor of shape (n_samples, ...)
            Bytes are left as they are, the rest has the dtype of the layers.
        """
        prepared: Tensor = self.encoding(x)
        return prepared if prepared.dtype == torch.uint8 else prepared.to(self.dtype)

    def dense_inputs(self, inputs: Tensor) -> Tensor:
        """What the first dense layer is of.

        Parameters
        ----------
        inputs : Tensor of shape (n_samples, ...)
            Prepared.

        Returns
        -------
        Tensor of shape (n_samples, n_in), or (n_blocks, n_samples, n_in) where there is a path
        """
        features = inputs
        if isinstance(self.encoding, ImageEncoding):
            features = self.encoding.normalize(inputs, self.dtype)
        if self.path is not None:
            features = self.path(features)
        elif features.dim() > 2:
            features = features.flatten(1)
        return features

    def forward(self, inputs: Tensor) -> Tensor:
        """Features, before the non-linearity of the head.

        Parameters
        ----------
        inputs : Tensor of shape (n_samples, ...)
            Prepared.

        Returns
        -------
        Tensor of shape (n_blocks, n_samples, hidden_layer_sizes[-1])
        """
        features = self.dense_inputs(inputs)
        for k, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            if k > 0:
                features = self.dropout(features.relu().unsqueeze(2)).squeeze(2)
            features = norm(layer(features))
        return features
