"""Mini-batches that never leave the device, and the noise that goes with them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sknoprop.model import Draws
from sknoprop.networks.stacked import Generators

__all__ = ["Batch", "Batches", "NoiseSource"]

#: Random numbers drawn at once for one block, about: one call a block then serves many steps.
CHUNK_NUMBERS = 2**18


@dataclass(frozen=True)
class Batch:
    """Rows of one training step, with their noise."""

    inputs: Tensor
    y: Tensor
    draws: Draws

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class NoiseSource:
    """Where training noise comes from.

    Parameters
    ----------
    generators : sequence of torch.Generator
        One a block, on the device.
    shared : torch.Generator
        For the read-out's noise.
    n_draws, dim : int
        Latents a row and step; embedding dimension.
    timed : bool
        Whether times are drawn.
    """

    generators: Generators
    shared: torch.Generator
    n_draws: int
    dim: int
    timed: bool

    def rows_at_once(self, batch_size: int) -> int:
        """Rows to draw for in one go: whole batches, and independent of the number of blocks."""
        batches = CHUNK_NUMBERS // (self.n_draws * self.dim * batch_size)
        return max(batches, 1) * batch_size

    def draw(self, n_rows: int, like: Tensor) -> Draws:
        """Draws for `n_rows` rows, of the dtype and device of `like`."""
        n_blocks = len(self.generators)
        eps = like.new_empty(n_blocks, n_rows, self.n_draws, self.dim)
        uniform = like.new_zeros(n_blocks, n_rows, self.n_draws)
        for block, generator in enumerate(self.generators):
            eps[block].normal_(generator=generator)
            if self.timed:
                uniform[block].uniform_(generator=generator)
        last = like.new_empty(n_rows, self.dim).normal_(generator=self.shared)
        return Draws(eps, uniform, last)


class Batches:
    """One epoch's mini-batches each time it is iterated over.

    Rows are shuffled anew each epoch and gathered by index on the device: no sample is touched
    one by one. Batches are of one size, as small as their number allows; the last may be smaller.

    Parameters
    ----------
    inputs : Tensor
        Prepared by the encoder; rows first.
    y : Tensor of shape (n_samples,)
    batch_size : int
        Largest batch.
    order : torch.Generator
        Decides the order of rows; on the CPU.
    noise : NoiseSource
    """

    def __init__(
        self,
        inputs: Tensor,
        y: Tensor,
        batch_size: int,
        order: torch.Generator,
        noise: NoiseSource,
    ) -> None:
        self.inputs = inputs
        self.y = y
        self.order = order
        self.noise = noise
        self.n_batches = math.ceil(len(y) / batch_size)
        self.batch_size = math.ceil(len(y) / self.n_batches)

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[Batch]:
        n = len(self.y)
        order = torch.randperm(n, generator=self.order).to(self.y.device)
        chunk = self.noise.rows_at_once(self.batch_size)
        for first in range(0, n, chunk):
            rows = order[first : first + chunk]
            draws = self.noise.draw(len(rows), self.inputs)
            for start in range(0, len(rows), self.batch_size):
                part = slice(start, start + self.batch_size)
                index = rows[part]
                yield Batch(
                    self.inputs[index],
                    self.y[index],
                    Draws(draws.eps[:, part], draws.uniform[:, part], draws.last[part]),
                )
