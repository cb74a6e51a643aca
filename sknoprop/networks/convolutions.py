"""Convolutional paths: from images to features, one network a block.

Convolutions go block by block: what they compute is large enough for a call of its own, and a
grouped convolution of all blocks takes a third longer on a CPU, see
``benchmarks/stacked_convolutions.py``. Layers here map a list of one tensor a block to another;
`ConvPath` stacks the last of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sknoprop.networks.stacked import (
    HE_GAIN,
    TORCH_GAIN,
    Generators,
    StackedBatchNorm,
    StackedDropout,
    StackedWeights,
)

__all__ = ["PATHS", "ConvPath", "StackedConv2d", "paper_path", "residual_path"]

#: Smallest height and width that the paths can halve twice.
MIN_SIDE = 4


class StackedConv2d(StackedWeights):
    """One convolution with a square kernel a block; sides are kept, or divided by the stride.

    Parameters
    ----------
    in_channels, out_channels : int
    generators : sequence of torch.Generator
        One a block.
    kernel_size : int, default=3
        Odd.
    stride : int, default=1
    bias : bool, default=True
    gain : float, default=HE_GAIN
        As for `StackedLinear`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        generators: Generators,
        kernel_size: int = 3,
        stride: int = 1,
        bias: bool = True,
        gain: float = HE_GAIN,
    ) -> None:
        shape = (out_channels, in_channels, kernel_size, kernel_size)
        super().__init__(shape, in_channels * kernel_size**2, generators, gain)
        zeros = torch.zeros(len(generators), out_channels, dtype=torch.float32)
        self.bias = nn.Parameter(zeros) if bias else None
        self.stride = stride

    def forward(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Map one tensor ``(n_samples, in_channels, height, width)`` a block."""
        weights = self.weight.unbind()
        biases = [None] * len(weights) if self.bias is None else self.bias.unbind()
        padding = self.weight.shape[-1] // 2
        return [
            F.conv2d(x, weight, bias, self.stride, padding)
            for x, weight, bias in zip(images, weights, biases, strict=True)
        ]


class _Each(nn.Module):
    """A function without parameters, of each block's tensor."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Sequence[Tensor]) -> list[Tensor]:
        return [self.function(x) for x in images]


def _relu(x: Tensor) -> Tensor:
    # What comes in is the output of a convolution or a normalisation, which need it no more.
    return F.relu(x, inplace=True)


def _relu_and_halve(x: Tensor) -> Tensor:
    # The largest of four is the same before and after, and a quarter as many are rectified.
    return F.relu(F.max_pool2d(x, 2), inplace=True)


def _halve(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2)


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3))


class _BatchNorm(StackedBatchNorm):
    """Batch normalisation of each block's channels."""

    def forward(self, images: Sequence[Tensor]) -> list[Tensor]:  # type: ignore[override]
        columns = zip(
            *(images, self.running_mean, self.running_var),
            *(self.weight.unbind(), self.bias.unbind()),
            strict=True,
        )
        return [
            F.batch_norm(
                *(x, mean, variance, weight, bias),
                # A single number a channel has no variance to learn from.
                training=self.training and x[:, 0].numel() > 1,
                momentum=self.momentum,
                eps=self.eps,
            )
            for x, mean, variance, weight, bias in columns
        ]


class _Dropout(StackedDropout):
    """Dropout of single numbers in each block's tensor; neighbouring rows share a mask."""

    def forward(self, images: Sequence[Tensor]) -> list[Tensor]:  # type: ignore[override]
        if not self.training or self.p == 0.0:
            return list(images)
        thinned = []
        for x, generator in zip(images, self.own_generators(), strict=True):
            shape = -(-len(x) // self.rows_per_mask), *x.shape[1:]
            (mask,) = self.draw([generator], [math.prod(shape)], x.dtype)
            mask = mask.view(shape)
            thinned.append(x * mask.repeat_interleave(self.rows_per_mask, 0)[: len(x)])
        return thinned


class _Residual(nn.Module):
    """Two convolutions with batch normalisation, and a way around them (He et al. 2016)."""

    def __init__(
        self, in_channels: int, out_channels: int, generators: Generators, stride: int
    ) -> None:
        super().__init__()
        n_blocks = len(generators)

        def conv(n_in: int, kernel_size: int, stride: int) -> list[nn.Module]:
            return [
                StackedConv2d(n_in, out_channels, generators, kernel_size, stride, bias=False),
                _BatchNorm(out_channels, n_blocks),
            ]

        self.body = nn.Sequential(
            *conv(in_channels, 3, stride), _Each(_relu), *conv(out_channels, 3, 1)
        )
        self.around = nn.Sequential(*conv(in_channels, 1, stride))

    def forward(self, images: Sequence[Tensor]) -> list[Tensor]:
        both = zip(self.body(images), self.around(images), strict=True)
        return [_relu(body + around) for body, around in both]


class ConvPath(nn.Module):
    """Features of images, one network a block.

    Parameters
    ----------
    layers : list of nn.Module
        From a list of one tensor ``(n_samples, channels, height, width)`` a block to another.
    name : str
        Of the architecture, in `PATHS`.
    image_shape : tuple of int
        Channels, height and width.
    n_out : int
        Number of features.
    largest : int
        Numbers in the largest tensor that a layer makes of one image.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.networks import PATHS
    >>> generators = [torch.Generator().manual_seed(block) for block in range(2)]
    >>> path = PATHS["cnn"]((1, 8, 8), generators).eval()
    >>> path(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([2, 5, 512])
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        name: str,
        image_shape: Sequence[int],
        n_out: int,
        largest: int,
    ) -> None:
        super().__init__()
        self.name = name
        self.layers = nn.Sequential(*layers)
        self.image_shape = tuple(image_shape)
        self.n_out = n_out
        self.largest = largest

    def forward(self, images: Tensor) -> Tensor:
        """Features of images.

        Parameters
        ----------
        images : Tensor of shape (n_samples, channels, height, width) or (n_blocks, n_samples, \
channels, height, width)
            Shared by all blocks or one set a block.

        Returns
        -------
        Tensor of shape (n_blocks, n_samples, n_out)
        """
        n_blocks = len(cast(StackedConv2d, self.layers[0]).weight)
        each = [images] * n_blocks if images.dim() == 4 else list(images.unbind())
        return torch.stack([x.flatten(1) for x in self.layers(each)])


def _check_sides(image_shape: Sequence[int]) -> None:
    if min(image_shape[1:]) < MIN_SIDE:
        raise ValueError(
            f"Convolutional encoders need images of at least {MIN_SIDE} x {MIN_SIDE} pixels. Got "
            f"images of shape (channels, height, width) = {tuple(image_shape)}; use encoder='mlp', "
            "or put channels first if they are last."
        )


def paper_path(image_shape: Sequence[int], generators: Generators) -> ConvPath:
    """The paper's path of images (figure 6): three convolutions, dropout of .2 after each.

    Initial weights, which the paper does not give, have the size of torch's own.

    Parameters
    ----------
    image_shape : (channels, height, width)
    generators : sequence of torch.Generator
        One a block.

    Raises
    ------
    ValueError
        If images are smaller than 4 x 4.
    """
    _check_sides(image_shape)
    channels, height, width = image_shape

    def conv(n_in: int, n_out: int) -> StackedConv2d:
        return StackedConv2d(n_in, n_out, generators, gain=TORCH_GAIN)

    layers: list[nn.Module] = [
        *(conv(channels, 32), _Each(_relu_and_halve), _Dropout(0.2)),
        *(conv(32, 64), _Each(_relu), _Dropout(0.2)),
        *(conv(64, 128), _Each(_relu_and_halve), _Dropout(0.2)),
    ]
    n_out = 128 * (height // 4) * (width // 4)
    largest = max(32 * height * width, 128 * (height // 2) * (width // 2))
    return ConvPath(layers, "cnn", image_shape, n_out, largest)


def residual_path(
    image_shape: Sequence[int], generators: Generators, wide: bool = False
) -> ConvPath:
    """A residual network: a convolution, stages that halve the sides, the mean of what is left.

    Residual blocks and batch normalisation as in He et al. (2016, arXiv:1512.03385).

    Parameters
    ----------
    image_shape : (channels, height, width)
    generators : sequence of torch.Generator
        One a block.
    wide : bool, default=False
        Four times as many channels, and the first stage at full size: some eighty times the work.
        Otherwise the first convolution is pooled, as most of the time would be spent on it.

    Raises
    ------
    ValueError
        If images are smaller than 4 x 4.
    """
    _check_sides(image_shape)
    channels, height, width = image_shape
    widths = (64, 128, 256, 512) if wide else (16, 32, 64)
    layers: list[nn.Module] = [
        StackedConv2d(channels, widths[0], generators, bias=False),
        *([] if wide else [_Each(_halve)]),
        _BatchNorm(widths[0], len(generators)),
        _Each(_relu),
        *(_Residual(a, b, generators, 2) for a, b in pairwise(widths)),
        _Each(_mean),
    ]
    name = "resnet-wide" if wide else "resnet"
    return ConvPath(layers, name, image_shape, widths[-1], widths[0] * height * width)


#: Names a user may give for a path of images.
PATHS: dict[str, Callable[[Sequence[int], Generators], ConvPath]] = {
    "cnn": paper_path,
    "resnet": residual_path,
    "resnet-wide": partial(residual_path, wide=True),
}
