"""Mini-batches that never leave the device, and the noise that goes with them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TypeVar

import torch
from torch import Tensor

from sknoprop.model import Draws
from sknoprop.networks.stacked import Generators

__all__ = ["Batch", "Batches", "NoiseSource"]

T = TypeVar("T")

#: Random numbers drawn at once for one block, about: one call a block then serves many steps.
CHUNK_NUMBERS = 2**18


@dataclass(frozen=True)
class Batch:
    """Rows of one training step, with their noise."""

    inputs: Tensor
    y: Tensor
    draws: Draws
    sample_weight: Tensor | None = None

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


def _batched(items: Iterator[T], n: int) -> Iterator[list[T]]:
    # itertools has this from Python 3.12 on.
    while chunk := list(islice(items, n)):
        yield chunk


class Batches:
    """One epoch's mini-batches each time it is iterated over.

    Rows are shuffled anew each epoch and gathered by index on the device: no sample is touched
    one by one. Sizes of batches differ by one row at most.

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
    sample_weight : Tensor of shape (n_samples,), optional
        Positive, of mean one.
    """

    def __init__(
        self,
        inputs: Tensor,
        y: Tensor,
        batch_size: int,
        order: torch.Generator,
        noise: NoiseSource,
        sample_weight: Tensor | None = None,
    ) -> None:
        self.inputs = inputs
        self.y = y
        self.order = order
        self.noise = noise
        self.sample_weight = sample_weight
        self.n_batches = math.ceil(len(y) / batch_size)

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[Batch]:
        n = len(self.y)
        order = torch.randperm(n, generator=self.order).to(self.y.device)
        bounds = [n * i // self.n_batches for i in range(self.n_batches + 1)]
        # Noise is drawn for several batches in one call, however many blocks there are.
        per_row = self.noise.n_draws * self.noise.dim
        at_once = max(CHUNK_NUMBERS * self.n_batches // (n * per_row), 1)
        for chunk in _batched(pairwise(bounds), at_once):
            first = chunk[0][0]
            draws = self.noise.draw(chunk[-1][1] - first, self.inputs)
            for start, stop in chunk:
                index = order[start:stop]
                part = slice(start - first, stop - first)
                yield Batch(
                    self.inputs[index],
                    self.y[index],
                    Draws(draws.eps[:, part], draws.uniform[:, part], draws.last[part]),
                    None if self.sample_weight is None else self.sample_weight[index],
                )
