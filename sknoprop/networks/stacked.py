"""Layers of many independent blocks computed as one.

Every parameter has a leading axis of length ``n_blocks``; block i uses slice i alone, so the
gradient of one block's loss with respect to another's parameters is exactly zero. Initial
values of a block come from a generator of its own: they do not depend on which other blocks
share the stack.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = [
    "STACKED",
    "Generators",
    "StackedBatchNorm",
    "StackedDropout",
    "StackedLinear",
    "take_blocks",
]

#: One random generator a block.
Generators = Sequence[torch.Generator]


class StackedLinear(nn.Module):
    """One affine map a block.

    Parameters
    ----------
    in_features, out_features : int
    generators : sequence of torch.Generator
        One a block.
    gain : float, default=sqrt(2)
        Weights are uniform with standard deviation ``gain / sqrt(in_features)``; the default
        keeps the variance through ReLU layers (He et al. 2015, arXiv:1502.01852).
    bias : bool, default=True
        Biases start at zero.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        generators: Generators,
        gain: float = math.sqrt(2.0),
        bias: bool = True,
    ) -> None:
        super().__init__()
        bound = gain * math.sqrt(3.0 / in_features)
        shape = (out_features, in_features)
        weight = torch.empty(len(generators), *shape)
        if not weight.is_meta:  # there only shapes are wanted, and no generator is asked
            for own, generator in zip(weight, generators, strict=True):
                own.copy_((2.0 * torch.rand(shape, generator=generator) - 1.0) * bound)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(len(generators), out_features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map `x`, shared by all blocks or one a block.

        Parameters
        ----------
        x : Tensor of shape (n, in_features) or (n_blocks, ..., in_features)

        Returns
        -------
        Tensor of shape (n_blocks, ..., out_features)
        """
        n_blocks, n_out, n_in = self.weight.shape
        if x.dim() == 2:
            # The same input for all blocks: one wide product instead of n_blocks narrow ones.
            bias = None if self.bias is None else self.bias.reshape(-1)
            wide = nn.functional.linear(x, self.weight.view(n_blocks * n_out, n_in), bias)
            # Made contiguous here, where it is smallest: what is added to it later would take
            # over its strides, and every product after that would copy more.
            return wide.view(-1, n_blocks, n_out).transpose(0, 1).contiguous()
        rows = x.reshape(n_blocks, -1, n_in)
        if self.bias is None:
            out = torch.bmm(rows, self.weight.mT)
        else:
            out = torch.baddbmm(self.bias[:, None], rows, self.weight.mT)
        return out.view(*x.shape[:-1], n_out)

    def extra_repr(self) -> str:
        n_blocks, n_out, n_in = self.weight.shape
        return f"n_blocks={n_blocks}, in_features={n_in}, out_features={n_out}"


class StackedBatchNorm(nn.Module):
    """Batch normalisation of each block's features over its own rows.

    Parameters
    ----------
    n_features : int
    n_blocks : int
    momentum : float, default=0.1
        Weight of a new batch in the running moments used for prediction.
    eps : float, default=1e-5
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, n_features: int, n_blocks: int, momentum: float = 0.1, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_blocks, n_features))
        self.bias = nn.Parameter(torch.zeros(n_blocks, n_features))
        self.register_buffer("running_mean", torch.zeros(n_blocks, n_features))
        self.register_buffer("running_var", torch.ones(n_blocks, n_features))
        self.momentum = momentum
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x` of shape ``(n_blocks, ..., n_features)``."""
        n_blocks, n_features = self.weight.shape
        rows = x.reshape(n_blocks, -1, n_features)
        # A batch of one row has no variance to learn from: it is normalised as in prediction.
        if self.training and rows.shape[1] > 1:
            var, mean = torch.var_mean(rows, dim=1, correction=0)
            with torch.no_grad():
                unbiased = var * (rows.shape[1] / (rows.shape[1] - 1))
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(unbiased, self.momentum)
        else:
            mean, var = self.running_mean, self.running_var
        factor = self.weight * torch.rsqrt(var + self.eps)
        out = rows * factor[:, None] + (self.bias - mean * factor)[:, None]
        return out.view(x.shape)


#: Layers whose tensors have an axis of blocks.
STACKED = (StackedLinear, StackedBatchNorm)


class StackedDropout(nn.Module):
    """Dropout with a mask from each block's own generator.

    The mask is shared by the draws of a row (third axis from the end): the latents of one row
    see one thinned network.

    Parameters
    ----------
    p : float
        Probability of dropping a feature.
    """

    #: Set while training and only then, see `sknoprop.training`; a generator is no part of a
    #: model and does not travel with it.
    generators: Generators | None = None

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Thin `x` of shape ``(n_blocks, n_samples, n_draws, n_features)``."""
        if not self.training or self.p == 0.0:
            return x
        if self.generators is None:
            raise RuntimeError("Dropout has no generators: set `generators` before training.")
        mask = x.new_empty(len(x), x.shape[1], 1, x.shape[-1])
        for own, generator in zip(mask, self.generators, strict=True):
            own.uniform_(generator=generator)
        # (Uniform numbers and a comparison cost half of what bernoulli_ does on a CPU.)
        return x * mask.ge_(self.p).div_(1.0 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def take_blocks(module: nn.Module, index: slice) -> nn.Module:
    """A copy of `module` with some of its blocks; parameters are shared with the original."""
    taken = copy.copy(module)
    taken._parameters = {
        name: value if value is None else nn.Parameter(value[index], value.requires_grad)
        for name, value in module._parameters.items()
    }
    taken._buffers = {
        name: value if value is None else value[index] for name, value in module._buffers.items()
    }
    taken._modules = {
        name: value if value is None else take_blocks(value, index)
        for name, value in module._modules.items()
    }
    return taken
