"""Products of many independent blocks, with their gradients.

Networks here are small, and what autograd spends on keeping books of each operation takes longer
than the operation: gradients of what each step goes through are written out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["NARROW", "hidden_layer", "stacked_product"]

#: Output features below which a product is better written the other way round.
NARROW = 16


def _product(addend: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    if weight.shape[-1] >= NARROW:
        return torch.baddbmm(addend, x, weight)
    # A result with its long side last comes several times faster on a CPU.
    return torch.baddbmm(addend.mT, weight.mT.contiguous(), x.mT).mT.contiguous()


def _of_weight(x: Tensor, grad: Tensor) -> Tensor:
    return torch.bmm(x.mT, grad) if grad.shape[-1] >= NARROW else torch.bmm(grad.mT, x).mT


class _Narrow(torch.autograd.Function):
    """``addend + x @ weight`` of each block for few output features."""

    @staticmethod
    def forward(ctx, addend, x, weight):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, weight)
        ctx.shape = addend.shape
        return _product(addend, x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        x, weight = (tensor.to(grad.dtype) for tensor in ctx.saved_tensors)  # lower by autocast
        of_addend = grad.sum_to_size(ctx.shape) if ctx.needs_input_grad[0] else None
        of_x = torch.bmm(grad, weight.mT) if ctx.needs_input_grad[1] else None
        return of_addend, of_x, _of_weight(x, grad)


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
    if addend is None:
        addend = weight.new_zeros(1, 1, 1)
    product = _Narrow.apply if n_out < NARROW else torch.baddbmm
    out = product(addend, rows, weight)
    return out if x.dim() <= 3 else out.view(*x.shape[:-1], n_out)


class _HiddenLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx, addend, x, weight, mask, out_weight, out_bias):  # type: ignore[no-untyped-def]
        hidden = torch.baddbmm(addend, x, weight).relu_()
        if mask is not None:
            hidden.mul_(mask)
        ctx.save_for_backward(x, weight, hidden, out_weight, mask)
        return _product(out_bias, hidden, out_weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        *saved, mask = ctx.saved_tensors
        x, weight, hidden, out_weight = (tensor.to(grad.dtype) for tensor in saved)
        of_hidden = torch.bmm(grad, out_weight.mT)
        if mask is not None:
            of_hidden.mul_(mask)
        of_sum = torch.ops.aten.threshold_backward(of_hidden, hidden, 0)
        of_x = torch.bmm(of_sum, weight.mT) if ctx.needs_input_grad[1] else None
        of_out = _of_weight(hidden, grad), grad.sum(1, keepdim=True)
        return of_sum, of_x, torch.bmm(x.mT, of_sum), None, *of_out


def hidden_layer(
    addend: Tensor,
    x: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    out_weight: Tensor,
    out_bias: Tensor,
) -> Tensor:
    """``relu(addend + x @ weight) * mask @ out_weight + out_bias`` of each block.

    Parameters
    ----------
    addend : Tensor of shape (n_blocks, n, n_hidden)
    x : Tensor of shape (n_blocks, n, n_in)
    weight : Tensor of shape (n_blocks, n_in, n_hidden)
    mask : Tensor of shape (n_blocks, n, n_hidden) or None
        Not negative; None for ones.
    out_weight : Tensor of shape (n_blocks, n_hidden, n_out)
    out_bias : Tensor of shape (n_blocks, 1, n_out)

    Returns
    -------
    Tensor of shape (n_blocks, n, n_out)
    """
    out: Tensor = _HiddenLayer.apply(addend, x, weight, mask, out_weight, out_bias)
    return out
