"""Encoders: the only part that knows what the input is.

An encoder has two stages. `prepare` has no parameters and is the same for all blocks, so it may
be computed once for a whole data set; `forward` turns prepared inputs into each block's
features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

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

__all__ = ["Encoder"]

#: Inputs of a first layer without batch normalisation that are taken as they are. A step of Adam's
#: moves each weight by as much, however many there are: of thousands of inputs, many of them alike,
#: it would carry features far beyond where any row is told from another, and there they would stay.
MANY_INPUTS = 64


class Encoder(nn.Module):
    """Features of the input, one network a block: a path of images, if any, and dense layers.

    After the last layer there is no non-linearity: heads add the latent first.

    Without batch normalisation a first layer of more than `many_inputs` has its inputs made
    smaller, and its weights larger, by one factor: features start out the same, and a step of
    Adam's moves them no further than with `many_inputs` inputs.

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
    many_inputs : int or None, default=64
        None leaves inputs as they are, however many.

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

    input_scale: Tensor

    def __init__(
        self,
        encoding: nn.Module,
        hidden_layer_sizes: Sequence[int],
        generators: Generators,
        dropout: float = 0.0,
        normalize: bool = False,
        path: nn.Module | None = None,
        gain: float = HE_GAIN,
        many_inputs: int | None = MANY_INPUTS,
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
        scale = 1.0
        if many_inputs is not None and n_in > many_inputs and path is None and not normalize:
            scale = many_inputs / n_in
            with torch.no_grad():
                cast(StackedLinear, self.layers[0]).weight.div_(scale)
        # A buffer: weights are of the scale that they were trained with.
        self.register_buffer("input_scale", torch.tensor(scale, device="cpu"))

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
        if prepared.dtype == torch.uint8:
            return prepared
        # Images are normalised, and may be augmented, before they are scaled.
        if not isinstance(self.encoding, ImageEncoding):
            prepared = prepared * self.input_scale
        return prepared.to(self.dtype)

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
        images = self.encoding if isinstance(self.encoding, ImageEncoding) else None
        features = inputs if images is None else images.normalize(inputs, self.dtype)
        if self.path is not None:
            return cast(Tensor, self.path(features))
        if images is not None:
            features = features * self.input_scale
        return features.flatten(1) if features.dim() > 2 else features

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
