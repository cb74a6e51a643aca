"""Random generators: one seed decides everything, and a block's numbers are its own.

A block's initial values, training noise and dropout come from generators that depend on the
seed and on the block's number alone, so its training does not depend on which other blocks are
trained beside it. What all blocks share (the order of rows, the read-out's noise, the draws of
prediction) has generators of its own.
"""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["Seeds"]

#: What a generator is for; part of its key, so never renumber.
_PURPOSES = {
    "init": 0,
    "noise": 1,
    "dropout": 2,
    "order": 3,
    "shared": 4,
    "predict": 5,
    "split": 6,
    "augment": 7,
    "load": 8,
    "left out": 9,
}


class Seeds:
    """Source of generators.

    Parameters
    ----------
    entropy : int
        Non-negative.
    epoch : int, default=0
        Epochs trained before, where training goes on: it then gets numbers of its own.
    first : int, default=0
        Number of the first block, where only some are trained.
    """

    def __init__(self, entropy: int, epoch: int = 0, first: int = 0) -> None:
        self.entropy = entropy
        self.epoch = epoch
        self.first = first

    def generator(
        self, purpose: str, block: int = 0, device: torch.device | str = "cpu"
    ) -> torch.Generator:
        """A fresh generator for `purpose` of `block`, at its start."""
        key = (_PURPOSES[purpose], block, *([self.epoch] if self.epoch else []))
        state = np.random.SeedSequence(self.entropy, spawn_key=key).generate_state(1, np.uint64)
        # torch takes seeds below 2**63 on all devices.
        return torch.Generator(device).manual_seed(int(state[0] >> np.uint64(1)))

    def numpy(self, purpose: str) -> np.random.RandomState:
        """A fresh generator of numpy's, for scikit-learn's tools."""
        return np.random.RandomState(self.generator(purpose).initial_seed() % 2**32)

    def block_generators(
        self, purpose: str, n_blocks: int, device: torch.device | str = "cpu"
    ) -> list[torch.Generator]:
        """One generator a block."""
        numbers = range(self.first, self.first + n_blocks)
        return [self.generator(purpose, block, device) for block in numbers]
