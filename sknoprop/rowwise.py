"""What is computed of each row alone, and rounded alike wherever the row stands.

Of many numbers next to each other a processor takes several at a time, and torch the last ones, of
each thread's share, by another formula of one number each: softmax across an axis that is not the
last, powers and sums then depend on where a row stands; products of a few numbers a row do so where
rows come first. ``exp`` and ``log`` do not. A prediction must not, so it is made of these.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["power", "product", "softmax", "sum_of_classes"]


def sum_of_classes(x: Tensor) -> Tensor:
    """Sum along the last axis, in an order that does not depend on the other axes."""
    # Several sums at once may be taken in an order that depends on where a sample stands. Few
    # classes are added one after the other, the sums next to each other.
    if x.shape[-1] > 32:
        return x.contiguous().sum(-1)
    first, *others = x.unbind(-1)
    total = first.clone()
    for other in others:
        total += other
    return total


def softmax(logits: Tensor) -> Tensor:
    """Softmax along the last axis; where samples come last in memory, they do so in the result.

    Parameters
    ----------
    logits : Tensor of shape (..., n_classes)

    Returns
    -------
    Tensor of shape (..., n_classes)

    Examples
    --------
    >>> import torch
    >>> from sknoprop.rowwise import softmax
    >>> softmax(torch.tensor([0.25, 0.75]).log())
    tensor([0.2500, 0.7500])
    """
    # Along the last axis in memory torch takes row after row. (No prediction has gradients.)
    if logits.is_contiguous() or torch.is_grad_enabled():
        return torch.softmax(logits, -1)
    if logits.dim() < 3:
        return softmax(logits.contiguous())
    by_class = logits.transpose(-3, -1)  # where samples are last, a maximum of classes is quick
    p = (by_class - by_class.amax(-3, keepdim=True)).exp_().transpose(-3, -1)
    return p.mul_(sum_of_classes(p).reciprocal_()[..., None])


def power(x: Tensor, exponent: Tensor | float) -> Tensor:
    """``x ** exponent`` of numbers that are not negative, and a positive exponent."""
    return x.log().mul_(exponent).exp_()


def product(x: Tensor, matrix: Tensor) -> Tensor:
    """``x @ matrix``, with the rows of `x` last in memory.

    Parameters
    ----------
    x : Tensor of shape (..., n_in)
    matrix : Tensor of shape (n_in, n_out)

    Returns
    -------
    Tensor of shape (..., n_out)
    """
    rows = x.reshape(-1, x.shape[-1])
    return torch.mm(matrix.T, rows.T).T.view(*x.shape[:-1], -1)
