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
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sknoprop.networks.products import stacked_product

__all__ = [
    "STACKED",
    "Generators",
    "StackedBatchNorm",
    "StackedDropout",
    "StackedLinear",
    "StackedWeights",
    "take_blocks",
]

M = TypeVar("M", bound=nn.Module)

#: One random generator a block.
Generators = Sequence[torch.Generator]

#: Probabilities of dropout are multiples of one over this.
LEVELS = 2**16

#: Standard deviation of initial weights, times the root of the number of inputs: keeps the variance
#: through layers with ReLU (He et al. 2015, arXiv:1502.01852).
HE_GAIN = math.sqrt(2.0)

#: The same of torch's own layers. Signals grow weaker by 2.4 times a layer with ReLU, so that a
#: network starts out as good as constant.
TORCH_GAIN = 1.0 / math.sqrt(3.0)


class StackedWeights(nn.Module):
    """Weights of one linear map a block, drawn from the block's own generator.

    Parameters
    ----------
    shape : tuple of int
        Of one block's weights.
    n_inputs : int
        Numbers that each output is a sum of.
    generators : sequence of torch.Generator
        One a block.
    gain : float
        Weights are uniform with standard deviation ``gain / sqrt(n_inputs)``.
    """

    def __init__(
        self, shape: tuple[int, ...], n_inputs: int, generators: Generators, gain: float
    ) -> None:
        super().__init__()
        bound = gain * math.sqrt(3.0 / n_inputs)
        weight = torch.empty(len(generators), *shape, dtype=torch.float32)
        if not weight.is_meta:  # there only shapes are wanted, and no generator is asked
            for own, generator in zip(weight, generators, strict=True):
                uniform = torch.rand(shape, generator=generator, dtype=torch.float32)
                own.copy_((2.0 * uniform - 1.0) * bound)
        self.weight = nn.Parameter(weight)


class StackedLinear(StackedWeights):
    """One affine map a block.

    Parameters
    ----------
    in_features, out_features : int
    generators : sequence of torch.Generator
        One a block.
    gain : float, default=HE_GAIN
        Weights are uniform with standard deviation ``gain / sqrt(in_features)``.
    bias : bool, default=True
        Biases start at zero.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        generators: Generators,
        gain: float = HE_GAIN,
        bias: bool = True,
    ) -> None:
        # Inputs first: so gradients come in the order of the weights, and are not transposed.
        super().__init__((in_features, out_features), in_features, generators, gain)
        zeros = torch.zeros(len(generators), out_features, dtype=torch.float32)
        self.bias = nn.Parameter(zeros) if bias else None
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        """Map `x`, shared by all blocks or one a block.

        Parameters
        ----------
        x : Tensor of shape (n, in_features) or (n_blocks, ..., in_features)

        Returns
        -------
        Tensor of shape (n_blocks, ..., out_features)
        """
        return stacked_product(x, self.weight, None if self.bias is None else self.bias[:, None])

    def extra_repr(self) -> str:
        n_blocks, n_in, n_out = self.weight.shape
        return f"n_blocks={n_blocks}, in_features={n_in}, out_features={n_out}"


def normalize(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
    """Rows of each block less their mean, over their standard deviation, with a gain and a bias.

    Parameters
    ----------
    x : Tensor of shape (n_blocks, n, n_features)
    weight, bias : Tensor of shape (n_blocks, n_features)
        Gain and bias.
    eps : float
        Added to variances.

    Returns
    -------
    out : Tensor of shape (n_blocks, n, n_features)
    mean, var : Tensor of shape (n_blocks, 1, n_features)
    centered, rate, gain : Tensor
        What `normalize_gradients` takes.
    """
    mean = x.mean(1, keepdim=True)
    centered = x - mean
    var = centered.square().mean(1, keepdim=True)
    rate = (var + eps).rsqrt()
    gain = weight[:, None] * rate
    return torch.addcmul(bias[:, None], centered, gain), mean, var, centered, rate, gain


def normalize_gradients(
    grad: Tensor, centered: Tensor, rate: Tensor, gain: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `normalize` with respect to its rows, gain and bias."""
    n_rows = grad.shape[1]
    of_bias = grad.sum(1, keepdim=True)
    of_weight = (centered * grad).sum(1, keepdim=True) * rate
    # What moves all rows alike, or along themselves, is undone by the normalisation.
    of_x = torch.addcmul(of_bias * gain / -n_rows, grad, gain)
    of_x.addcmul_(centered, of_weight * rate * gain / -n_rows)
    return of_x, of_weight[:, 0], of_bias[:, 0]


class _Normalized(torch.autograd.Function):
    """`normalize`, for autograd.

    `torch.nn.functional.batch_norm` wants the features of all blocks side by side: on a CPU it
    takes longer to put them there and back, and their gradients, than to normalise them.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, eps):  # type: ignore[no-untyped-def]
        out, mean, var, *saved = normalize(x, weight, bias, eps)
        ctx.save_for_backward(*saved)
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, *_):  # type: ignore[no-untyped-def]
        return *normalize_gradients(grad, *ctx.saved_tensors), None


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
        ones = torch.ones(n_blocks, n_features, dtype=torch.float32)
        zeros = torch.zeros_like(ones)
        self.weight = nn.Parameter(ones.clone())
        self.bias = nn.Parameter(zeros.clone())
        self.register_buffer("running_mean", zeros)
        self.register_buffer("running_var", ones)
        self.momentum = momentum
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x` of shape ``(n_blocks, ..., n_features)``."""
        n_blocks, n_features = self.weight.shape
        rows = x.reshape(n_blocks, -1, n_features).to(self.weight.dtype)  # moments in full
        n_rows = rows.shape[1]
        # A batch of one row has no variance to learn from: it is normalised as in prediction.
        if self.training and n_rows > 1:
            out, mean, var = _Normalized.apply(rows, self.weight, self.bias, self.eps)
            self.note(mean, var, n_rows)
        else:
            gain = self.weight * (self.running_var + self.eps).rsqrt()
            centered = rows - self.running_mean[:, None]
            out = torch.addcmul(self.bias[:, None], centered, gain[:, None])
        return out.view(x.shape)

    def note(self, mean: Tensor, var: Tensor, n_rows: int) -> None:
        """Let the moments of a batch, ``(n_blocks, 1, n_features)``, move the running ones."""
        self.running_mean.lerp_(mean[:, 0], self.momentum)
        self.running_var.lerp_(var[:, 0] * (n_rows / (n_rows - 1)), self.momentum)


class StackedModule(nn.Module):
    """Any other module all of whose own tensors have an axis of blocks in front."""


#: Layers whose tensors have an axis of blocks.
STACKED = (StackedWeights, StackedBatchNorm, StackedModule)


class StackedDropout(nn.Module):
    """Dropout with masks from each block's own generator.

    A mask is shared by the draws of a row (third axis from the end), so that the latents of one
    row see one thinned network, and by `rows_per_mask` neighbouring rows of the batch, which are
    in random order. The expected loss is that of masks of one's own; random numbers, which would
    cost as much as the layers do, are so many times fewer.

    Parameters
    ----------
    p : float
        Probability of dropping a feature, up to 2**-17.
    """

    #: Set while training and only then, see `sknoprop.training`; a generator is no part of a
    #: model and does not travel with it.
    generators: Generators | None = None

    rows_per_mask = 8

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Thin `x` of shape ``(n_blocks, n_samples, n_draws, n_features)``."""
        if not self.training or self.p == 0.0:
            return x
        mask = self.mask(x).repeat_interleave(self.rows_per_mask, 1)[:, : x.shape[1]]
        return x * mask.unsqueeze(2)

    def mask(self, x: Tensor) -> Tensor:
        """Factors for `x` in training, a row for each `rows_per_mask` rows of it.

        Parameters
        ----------
        x : Tensor of shape (n_blocks, n_samples, ..., n_features)

        Returns
        -------
        Tensor of shape (n_blocks, ceil(n_samples / rows_per_mask), n_features)
        """
        n_masks, n_features = -(-x.shape[1] // self.rows_per_mask), x.shape[-1]
        (mask,) = self.draw(self.own_generators(), [n_masks * n_features], x.dtype)
        return mask.view(len(x), n_masks, n_features)

    def draw(
        self, generators: Generators, sizes: Sequence[int], dtype: torch.dtype
    ) -> list[Tensor]:
        """Factors of features, drawn in turn as if each mask were asked for on its own.

        Parameters
        ----------
        generators : sequence of torch.Generator
            One a block.
        sizes : sequence of int
            Features of each mask.
        dtype : torch.dtype
            That of factors, which are float32 where it has few numbers between nought and one.

        Returns
        -------
        list of Tensor of shape (n_blocks, size)
        """
        # A generator takes longer over a number than all else that is done to a mask, and most of
        # its bits would not be asked: four features share those of one.
        n_numbers = [-(-size // 4) for size in sizes]
        shape = len(generators), sum(n_numbers)
        bits = torch.empty(shape, dtype=torch.int64, device=generators[0].device)
        for own, generator in zip(bits, generators, strict=True):
            own.random_(-(2**63), None, generator=generator)
        levels = bits.view(torch.int16).to(torch.promote_types(dtype, torch.float32))
        masks = levels.ge_(self._n_dropped - LEVELS // 2).mul_(self.factor)
        parts = masks.split([4 * n for n in n_numbers], 1)
        return [part[:, :size] for part, size in zip(parts, sizes, strict=True)]

    @property
    def factor(self) -> float:
        """Of what is kept: one over the probability of that."""
        return LEVELS / (LEVELS - self._n_dropped)

    @property
    def _n_dropped(self) -> int:
        """Of `LEVELS` equally likely numbers, those that drop a feature."""
        return min(round(self.p * LEVELS), LEVELS - 1)

    def own_generators(self) -> Generators:
        """One generator a block, while training."""
        if self.generators is None:
            raise RuntimeError("Dropout has no generators: set `generators` before training.")
        return self.generators

    def extra_repr(self) -> str:
        return f"p={self.p}"


def take_blocks(module: M, index: slice) -> M:
    """A copy of `module` with some of its blocks; all tensors are shared with the original."""
    taken = copy.copy(module)
    if isinstance(module, STACKED):
        taken._parameters = {
            name: value if value is None else nn.Parameter(value[index], value.requires_grad)
            for name, value in module._parameters.items()
        }
        taken._buffers = {
            name: value if value is None else value[index]
            for name, value in module._buffers.items()
        }
    generators = vars(module).get("generators")
    if generators is not None:
        vars(taken)["generators"] = generators[index]
    taken._modules = {
        name: value if value is None else take_blocks(value, index)
        for name, value in module._modules.items()
    }
    return taken
