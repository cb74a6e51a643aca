"""Mini-batches that never leave the device, and the noise that goes with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from sknoprop.model import Draws
from sknoprop.networks.seeding import seeded
from sknoprop.networks.stacked import Generators
from sknoprop.training.left_out import LeftOut
from sknoprop.variants import Levels

__all__ = ["Augmentation", "Batch", "Batches", "LazyInputs", "NoiseSource", "Noised", "Sample"]

T = TypeVar("T")

#: Random numbers drawn at once for one block, about: one call a block then serves many steps.
CHUNK_NUMBERS = 2**18

#: Numbers of inputs gathered at once, about: a call takes as long as to copy a small batch.
GATHERED_NUMBERS = 2**14


@dataclass(frozen=True)
class Noised:
    """Labels of rows with their noise and weights."""

    y: Tensor
    draws: Draws
    sample_weight: Tensor | None = None
    block_weight: Tensor | None = None
    """In each block, where blocks leave rows out."""

    def __len__(self) -> int:
        return len(self.y)

    @property
    def weight(self) -> Tensor | None:
        """Of rows, or of rows in each block."""
        return self.sample_weight if self.block_weight is None else self.block_weight

    def part(self, rows: slice) -> Noised:
        """Some of the rows."""
        draws = self.draws
        levels = None if draws.levels is None else draws.levels[:, rows]
        return Noised(
            self.y[rows],
            Draws(draws.eps[:, rows], draws.uniform[:, rows], draws.last[rows], levels),
            None if self.sample_weight is None else self.sample_weight[rows],
            None if self.block_weight is None else self.block_weight[:, rows],
        )


@dataclass(frozen=True)
class Sample:
    """What the loss of one training step is of."""

    inputs: Tensor
    noised: Noised

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Batch:
    """Rows of one training step, which are some of those that noise was drawn for at once."""

    inputs: Tensor
    chunk: Noised
    bounds: Sequence[int]
    """Where in the chunk the rows of one step end and those of the next begin."""
    number: int
    """Which of the chunk's steps this one is."""

    def __len__(self) -> int:
        return len(self.inputs)

    def noised(self, n_steps: int = 1) -> Noised:
        """Rows of this step, or of as many from this one on."""
        first, last = self.bounds[self.number], self.bounds[self.number + n_steps]
        return self.chunk.part(slice(first, last))

    def sample(self) -> Sample:
        """Of this step."""
        return Sample(self.inputs, self.noised())


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
    dtype : torch.dtype, default=torch.float32
    levels : callable, optional
        From uniform draws to the noise levels there, `NoPropModel.levels`.
    reads : bool, default=True
        Whether a read-out is trained; else its noise is nought.
    """

    generators: Generators
    shared: torch.Generator
    n_draws: int
    dim: int
    timed: bool
    dtype: torch.dtype = torch.float32
    levels: Callable[[Tensor], Levels | None] | None = None
    reads: bool = True

    def draw(self, n_rows: int) -> Draws:
        """Draws for `n_rows` rows, on the generators' device."""
        n_blocks = len(self.generators)
        eps = torch.empty(
            *(n_blocks, n_rows, self.n_draws, self.dim),
            dtype=self.dtype,
            device=self.shared.device,
        )
        uniform = eps.new_zeros(n_blocks, n_rows, self.n_draws)
        for block, generator in enumerate(self.generators):
            eps[block].normal_(generator=generator)
            if self.timed:
                uniform[block].uniform_(generator=generator)
        last = eps.new_zeros(n_rows, self.dim)
        if self.reads:
            last.normal_(generator=self.shared)
        return Draws(eps, uniform, last, self.levels(uniform) if self.levels else None)


class LazyInputs:
    """Prepared inputs that are loaded when they are indexed, as a tensor is.

    Parameters
    ----------
    load : callable
        From an array of row numbers to prepared inputs on the device.
    n_rows : int
    generator : torch.Generator
        What loading draws from, where it does.
    """

    def __init__(
        self, load: Callable[[np.ndarray], Tensor], n_rows: int, generator: torch.Generator
    ) -> None:
        self.load = load
        self.n_rows = n_rows
        self.generator = generator

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.load(index.cpu().numpy())

    def split(self, size: int) -> Iterator[Tensor]:
        """All rows in order, `size` at a time."""
        for start in range(0, self.n_rows, size):
            yield self.load(np.arange(start, min(start + size, self.n_rows)))


class Augmentation:
    """Changes images of a batch at random, on the device.

    Neighbours of a batch, which is in random order, are changed alike, `rows_per_call` at a time:
    transforms of torchvision draw once a call.

    Parameters
    ----------
    transform : callable
        From images ``(n_samples, channels, height, width)`` to as many of the same shape and
        dtype. It may draw from torch's global generator, which is put back afterwards.
    generator : torch.Generator
        Decides what is drawn.
    """

    rows_per_call = 8

    def __init__(self, transform: Callable[[Tensor], Tensor], generator: torch.Generator) -> None:
        self.transform = transform
        self.generator = generator

    def __call__(self, images: Tensor) -> Tensor:
        """Changed images.

        Raises
        ------
        ValueError, TypeError
            If their shape or dtype is not that of `images`.
        """
        seed = int(torch.randint(2**62, (), generator=self.generator))
        with seeded(seed, images.device):
            parts = [self.transform(part) for part in images.split(self.rows_per_call)]
        kinds = {type(part).__name__ for part in parts if not isinstance(part, Tensor)}
        if kinds:
            raise TypeError(
                "The 'augmentation' parameter of NoPropClassifier must return images as a tensor. "
                f"Got {', '.join(sorted(kinds))} back."
            )
        changed = torch.cat(parts)
        if (changed.shape, changed.dtype) != (images.shape, images.dtype):
            raise ValueError(
                "The 'augmentation' parameter of NoPropClassifier must keep the shape and dtype of "
                f"images, {tuple(images.shape)} and {images.dtype}. Got {tuple(changed.shape)} and "
                f"{changed.dtype} back."
            )
        return changed


def _rows(inputs: Tensor | LazyInputs, index: Tensor) -> Tensor:
    # A copy of whole rows, which plain indexing of a tensor takes several times as long over.
    return inputs.index_select(0, index) if isinstance(inputs, Tensor) else inputs[index]


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
    augment : Augmentation, optional
        Applied to the inputs of each batch.
    left_out : LeftOut, optional
    """

    def __init__(
        self,
        inputs: Tensor | LazyInputs,
        y: Tensor,
        batch_size: int,
        order: torch.Generator,
        noise: NoiseSource,
        sample_weight: Tensor | None = None,
        augment: Augmentation | None = None,
        left_out: LeftOut | None = None,
    ) -> None:
        self.augment = augment
        self.left_out = left_out
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
            first, last = chunk[0][0], chunk[-1][1]
            draws = self.noise.draw(last - first)
            rows = order[first:last]
            weight = None if self.sample_weight is None else self.sample_weight[rows]
            of_blocks = None
            if self.left_out is not None:
                of_blocks = self.left_out.weights(rows)
                of_blocks = of_blocks if weight is None else of_blocks * weight
            noised = Noised(self.y[rows], draws, weight, of_blocks)
            bounds_within = [start - first for start, _ in chunk] + [last - first]
            for number, inputs in enumerate(self._inputs(rows, bounds_within)):
                yield Batch(inputs, noised, bounds_within, number)

    def _inputs(self, rows: Tensor, bounds: Sequence[int]) -> Iterator[Tensor]:
        """Of the rows between each bound and the next."""
        at_once = 1
        if isinstance(self.inputs, Tensor):
            per_row = self.inputs[0].numel()
            at_once = max(GATHERED_NUMBERS // ((bounds[1] - bounds[0]) * per_row), 1)
        for several in _batched(pairwise(bounds), at_once):
            first, last = several[0][0], several[-1][1]
            inputs = _rows(self.inputs, rows[first:last])
            for start, stop in several:
                own = inputs[start - first : stop - first]
                yield own if self.augment is None else self.augment(own)
