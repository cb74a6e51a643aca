"""Products of many independent blocks, as fast as their shapes allow."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["NARROW", "affine", "stacked_product", "weight_gradient"]

#: Output features below which a product is better written the other way round.
NARROW = 16


def affine(addend: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """``addend + x @ weight`` of each block, not for autograd.

    Parameters
    ----------
    addend : Tensor broadcastable to (n_blocks, n, n_out)
    x : Tensor of shape (n_blocks, n, n_in)
    weight : Tensor of shape (n_blocks, n_in, n_out)

    Returns
    -------
    Tensor of shape (n_blocks, n, n_out)
    """
    if weight.shape[-1] >= NARROW or weight.device.type != "cpu":
        return torch.baddbmm(addend, x, weight)
    # A result with its long side last comes several times faster on a CPU.
    return torch.baddbmm(addend.mT, weight.mT.contiguous(), x.mT).mT.contiguous()


def weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """Gradient of `affine` with respect to its weight, of that with respect to what it gives.

    Parameters
    ----------
    x : Tensor of shape (n_blocks, n, n_in)
    grad : Tensor of shape (n_blocks, n, n_out)

    Returns
    -------
    Tensor of shape (n_blocks, n_in, n_out)
    """
    return torch.bmm(x.mT, grad) if grad.shape[-1] >= NARROW else torch.bmm(grad.mT, x).mT


class _Narrow(torch.autograd.Function):
    """``addend + x @ weight`` of each block for few output features."""

    @staticmethod
    def forward(ctx, addend, x, weight):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, weight)
        ctx.shape = addend.shape
        return affine(addend, x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        x, weight = (tensor.to(grad.dtype) for tensor in ctx.saved_tensors)  # lower by autocast
        of_addend = grad.sum_to_size(ctx.shape) if ctx.needs_input_grad[0] else None
        of_x = torch.bmm(grad, weight.mT) if ctx.needs_input_grad[1] else None
        return of_addend, of_x, weight_gradient(x, grad)


def stacked_product(x: Tensor, weight: Tensor, addend: Tensor | None = None) -> Tensor:
    """``x @ weight`` of each block, plus `addend`.

    Parameters
    ----------
    x : Tensor of shape (n, n_in) or (n_blocks, ..., n_in)
        Shared by all blocks or one a block.
    weight : Tensor of shape (n_blocks, n_in, n_out)
    addend : Tensor of shape (n_blocks, 1 or n, n_out), optional
        With as many rows as `x` has in a block, or one for all of them.

    Returns
    -------
    Tensor of shape (n_blocks, ..., n_out)
    """
    n_blocks, n_in, n_out = weight.shape
    # One product a block, also where all have the same input: a single wide product is not
    # faster, and what it gives has to be put in order of blocks, and its gradient back.
    rows = x.expand(n_blocks, -1, -1) if x.dim() == 2 else x.reshape(n_blocks, -1, n_in)
    if weight.dtype == torch.float64 and not torch.is_grad_enabled():
        # Rows last: in double precision others may be rounded by where they stand.
        nothing = weight.new_zeros(1, 1, 1) if addend is None else addend
        out = torch.baddbmm(nothing.mT, weight.mT.contiguous(), rows.mT).mT.contiguous()
    elif n_out < NARROW:
        product = _Narrow.apply if torch.is_grad_enabled() else affine
        out = product(weight.new_zeros(1, 1, 1) if addend is None else addend, rows, weight)
    else:
        out = torch.bmm(rows, weight) if addend is None else torch.baddbmm(addend, rows, weight)
    return out if x.dim() <= 3 else out.view(*x.shape[:-1], n_out)
