"""Rows that a block is not trained on, so that it can be judged by them.

Blocks are trained apart, so each may leave out other rows, and all together still learn from every
one. What a block says of the rows that it left out shows how sure blocks may be: cross-validation
at the cost of none.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["MOST_ROWS", "LeftOut", "leave_out"]

#: A block leaves out one row in so many, at most.
ONE_IN = 10

#: Rows that a temperature is found by, at most: enough for one number.
MOST_ROWS = 2_000

#: Classes with fewer rows than this are left out by no block.
FEWEST_OF_CLASS = 5

#: Nor is a row with more than this share of all weight: its block would learn another task.
HEAVY = 0.01


@dataclass(frozen=True)
class LeftOut:
    """Which block leaves out which rows.

    Parameters
    ----------
    block : Tensor of shape (n_samples,), int64
        The block that leaves the row out; a number that is no block's for those that all see.
    factor : Tensor of shape (n_blocks,)
        By which the other rows count more in each block, so that weights are of mean one.
    """

    block: Tensor
    factor: Tensor

    def weights(self, index: Tensor) -> Tensor:
        """Weights of some rows in each block: shape ``(n_blocks, len(index))``."""
        numbers = torch.arange(len(self.factor), device=self.block.device)
        return (self.block[index] != numbers[:, None]) * self.factor[:, None]

    def take(self, part: slice) -> LeftOut:
        """What is left out by some of the blocks, on the CPU."""
        return LeftOut((self.block - part.start).cpu(), self.factor[part].cpu())

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> LeftOut:
        """The same on another device, with factors of another dtype if one is given."""
        return LeftOut(self.block.to(device), self.factor.to(device, dtype))

    @property
    def digest(self) -> str:
        """Of which block leaves out which rows."""
        return hashlib.sha256(self.block.cpu().numpy().tobytes()).hexdigest()


def leave_out(
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    n_blocks: int,
    random: np.random.RandomState,
) -> LeftOut | None:
    """Deal rows to blocks, which each leave their own out: class by class, at random.

    Parameters
    ----------
    y : ndarray of shape (n_samples,), int64
        Numbers of the classes.
    sample_weight : ndarray of shape (n_samples,), or None
    n_blocks : int
    random : RandomState

    Returns
    -------
    LeftOut or None
        None if there are too few rows, or a single block.
    """
    weight = np.ones(len(y)) if sample_weight is None else sample_weight
    dealt = np.bincount(y)[y] >= FEWEST_OF_CLASS
    if sample_weight is not None:
        dealt &= weight <= HEAVY * weight.sum()
    if n_blocks == 1 or dealt.sum() < ONE_IN * FEWEST_OF_CLASS:
        return None
    order = random.permutation(np.flatnonzero(dealt))
    order = order[np.argsort(y[order], kind="stable")]
    n_hands = max(n_blocks, ONE_IN, -(-n_blocks * len(order) // MOST_ROWS))
    hand = np.arange(len(order)) % n_hands
    block = np.full(len(y), -1)
    block[order] = np.where(hand < n_blocks, hand, -1)
    kept = [weight[block != number].sum() for number in range(n_blocks)]
    return LeftOut(torch.as_tensor(block), torch.as_tensor(weight.sum() / np.array(kept)))
