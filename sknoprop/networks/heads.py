"""Heads: join the features of the input with the latent and the time into class logits.

The first thing a head does with the features, the latent and the time is linear in each, so
their contributions are *added*: what depends on the latent alone is computed once for all rows,
and what depends on the row once for all latents.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from sknoprop.networks.encoders import MANY_INPUTS
from sknoprop.networks.latents import (
    CandidateLatents,
    NoisedClasses,
    outputs_of_classes,
    rows_of,
)
from sknoprop.networks.products import stacked_product
from sknoprop.networks.stacked import (
    HE_GAIN,
    Generators,
    StackedDropout,
    StackedLinear,
)
from sknoprop.networks.times import time_features

__all__ = ["Head", "LightHead"]

#: Numbers that are worked on at a time where no gradients are kept: 2 MB in float32, which stays
#: in a core's cache from the sum to the product.
PIECE = 2**19


class Head(nn.Module, ABC):
    """Class logits from features, latent and time."""

    #: Of initial weights: the head's and those of the encoder's dense layers below it.
    gain = HE_GAIN

    #: Of the encoder, see there.
    many_inputs: int | None = MANY_INPUTS

    #: Whether what is made of a latent first is linear, so that `CandidateLatents` are taken.
    takes_candidates = True

    @property
    def largest(self) -> int:
        """Numbers that a path makes of one latent in one array, at most, for each block."""
        return 0

    @abstractmethod
    def latent_size(self, own: bool) -> int:
        """Numbers beside logits that a block makes of one latent and row, at most.

        Where no gradients are kept.

        Parameters
        ----------
        own : bool
            Whether each row has latents of its own, in an array. What becomes of others may not be
            kept for each row.

        Returns
        -------
        int
        """

    @abstractmethod
    def first_of_classes(
        self, noised: NoisedClasses, position: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The first product, of noised classes: what each class and what each draw adds to it.

        Where `takes_candidates`; it is the same for all rows.

        Parameters
        ----------
        noised : NoisedClasses
        position : Tensor of shape (n_blocks, 1, 1) or None
            As for `forward`.

        Returns
        -------
        of_classes : Tensor of shape (n_blocks, n_classes, width)
        of_draws : Tensor of shape (n_blocks, n_draws, width)
        """

    @abstractmethod
    def forward(
        self, features: Tensor, z: Tensor | CandidateLatents, position: Tensor | None
    ) -> Tensor:
        """Logits of each block for each row and latent.

        Parameters
        ----------
        features : Tensor of shape (n_blocks, n_samples, width)
            From the encoder.
        z : Tensor of shape (n_blocks, n_samples or 1, n_latents, embedding_dim)
            Latents, a set for each row or one set for all. Or a `CandidateLatents`, where
            `takes_candidates`, for logits of the candidate classes alone.
        position : Tensor broadcastable to (n_blocks, n_samples, n_latents), or None
            Times relative to the blocks' intervals; None if each block owns a single level.

            A `CandidateLatents` has one level a block: ``(n_blocks, 1, 1)``.

        Returns
        -------
        Tensor of shape (n_blocks, n_samples, n_latents, n_classes or n_candidates)
        """


def _piece_of(n_samples: int, numbers: int) -> int:
    """Rows of a piece, if one row comes to so many numbers: a power of two, or all."""
    return min(2 ** math.floor(math.log2(max(PIECE // numbers, 1))), n_samples)


class LightHead(Head):
    """One non-linearity: latent and time are added to the features before it.

    A further latent costs element-wise work and the output layer.

    Parameters
    ----------
    width : int
        Number of features, those of the encoder.
    embedding_dim, n_classes : int
    generators : sequence of torch.Generator
        One a block.
    dropout : float
        Probability of dropping a hidden feature in training.
    timed : bool
        Whether blocks own intervals and thus are told the time.
    normalize : bool
        Makes no difference: features come normalised from the encoder, and the latent that is
        added to them is of one scale as it is.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.networks import LightHead
    >>> generators = [torch.Generator().manual_seed(block) for block in range(2)]
    >>> head = LightHead(16, 3, 3, generators, dropout=0.0, timed=False, normalize=False)
    >>> features, z = torch.zeros(2, 5, 16), torch.zeros(2, 1, 4, 3)  # four latents for all rows
    >>> head(features, z, None).shape
    torch.Size([2, 5, 4, 3])
    """

    time_dim = 8

    def __init__(
        self,
        width: int,
        embedding_dim: int,
        n_classes: int,
        generators: Generators,
        dropout: float,
        timed: bool,
        normalize: bool,
    ) -> None:
        super().__init__()
        self.timed = timed
        n_times = self.time_dim if timed else 0
        self.latent = StackedLinear(embedding_dim + n_times, width, generators, bias=False)
        with torch.no_grad():  # as two layers of their own would start, the one for time smaller
            n_inputs = embedding_dim + n_times
            self.latent.weight[:, :embedding_dim] *= math.sqrt(n_inputs / embedding_dim)
            if timed:
                self.latent.weight[:, embedding_dim:] *= math.sqrt(n_inputs / (2 * n_times))
        self.dropout = StackedDropout(dropout)
        self.out = StackedLinear(width, n_classes, generators, gain=1.0)

    def latent_size(self, own: bool) -> int:
        in_pieces = not own and self.out.weight.device.type == "cpu"
        return 0 if in_pieces else self.latent.out_features

    def forward(self, features, z, position):  # type: ignore[no-untyped-def]
        if isinstance(z, CandidateLatents):
            return self._of_candidates(features, z)
        parts = self._parts(z, position)
        weight = self.latent.weight
        if all(part.shape[1:3] == (features.shape[1], 1) for part in parts):
            # One latent a row, as in training: one product, added to the features as it is made.
            rows = torch.cat([part[:, :, 0] for part in parts], -1)
            hidden = stacked_product(rows, weight, features).unsqueeze(2)
        else:
            # What is the same for all rows, or all latents, is multiplied once.
            of_parts = weight.split([part.shape[-1] for part in parts], 1)
            products = [stacked_product(p, own) for p, own in zip(parts, of_parts, strict=True)]
            of_latents = sum(products[1:], products[0])
            if not torch.is_grad_enabled() and features.device.type == "cpu":
                return self._in_pieces(features, of_latents)
            hidden = features.unsqueeze(2) + of_latents
        return self.out(self.dropout(hidden.relu()))

    def rows(self, z: Tensor, position: Tensor | None) -> Tensor:
        """What the first product is of, where each row has one latent: latents beside times.

        Parameters
        ----------
        z : Tensor of shape (n_blocks, n_samples, 1, embedding_dim)
        position : Tensor of shape (n_blocks, n_samples, 1) or None
            As for `forward`.

        Returns
        -------
        Tensor of shape (n_blocks, n_samples, n)
        """
        return torch.cat([part[:, :, 0] for part in self._parts(z, position)], -1)

    def _parts(self, z: Tensor, position: Tensor | None) -> list[Tensor]:
        if not self.timed:
            return [z]
        assert position is not None
        return [z, time_features(position, self.time_dim)]

    def _in_pieces(self, features: Tensor, of_latents: Tensor) -> Tensor:
        """The same for prediction on a CPU: no array has all hidden features of all latents.

        Of a kernel with ten classes nine tenths of the time would be spent on writing that array to
        memory and reading it again. Where rows share latents, ``relu(f + l) = max(f, -l) + l``: the
        product with `l` is one for all rows, and a piece is written once and not twice.

        Rows come last in memory: a product with its long side last comes several times faster, and
        what is done to probabilities is done to many next to each other.
        """
        n_blocks, n_samples, width = features.shape
        n_latents, n_classes = of_latents.shape[2], self.out.out_features
        n_at_once = min(max(PIECE // (n_samples * width), 1), n_latents)
        logits = features.new_empty(n_blocks, n_classes, n_latents, n_samples)
        weight = self.out.weight.mT.contiguous().to(features.dtype)  # lower by autocast
        shared = of_latents.shape[1] == 1
        added = (-of_latents if shared else of_latents).transpose(1, 2)  # rows after latents
        buffer = features.new_empty(n_at_once, n_samples, width)
        for i in range(n_blocks):
            places = logits[i].split(n_at_once, 1)
            for latents, place in zip(added[i].split(n_at_once), places, strict=True):
                piece = buffer[: len(latents)]
                if shared:
                    torch.maximum(features[i], latents, out=piece)
                else:
                    torch.add(features[i], latents, out=piece).relu_()
                torch.mm(weight[i], piece.view(-1, width).T, out=place.flatten(1))
        # What products lack, the same for all rows.
        lacking = of_latents if shared else of_latents.new_zeros(n_blocks, 1, 1, width)
        logits += self.out(lacking).transpose(1, -1)
        return logits.transpose(1, -1)

    def first_of_classes(
        self, noised: NoisedClasses, position: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        dim = noised.eps.shape[1]
        of_classes, of_draws = noised.products(self.latent.weight[:, :dim])
        if self.timed:
            assert position is not None
            times = time_features(position, self.time_dim)
            of_draws = of_draws + stacked_product(times[:, 0], self.latent.weight[:, dim:])
        return of_classes, of_draws

    def _of_candidates(self, features: Tensor, z: CandidateLatents) -> Tensor:
        """The same for latents of each row's own classes, and logits of each row's own."""
        assert z.first is not None
        of_classes, of_draws = z.first
        n_blocks, n_samples, width = features.shape
        n_latents = z.origins.shape[1] * of_draws.shape[1]
        on_cpu = features.device.type == "cpu"
        n_rows = _piece_of(n_samples, n_latents * width) if on_cpu else n_samples
        logits = features.new_empty(n_blocks, n_samples, n_latents, z.classes.shape[1])
        buffer = features.new_empty(n_rows, *z.origins.shape[1:], *of_draws.shape[1:])
        table, bias = self.out.weight.mT.contiguous(), self.out.bias
        assert bias is not None
        for i in range(n_blocks):
            for start in range(0, n_samples, n_rows):
                rows = slice(start, start + n_rows)
                inputs = features[i, rows, None] + rows_of(of_classes[i], z.origins[rows])
                hidden = torch.add(inputs[:, :, None], of_draws[i], out=buffer[: len(inputs)])
                latents = hidden.relu_().flatten(1, 2)
                classes = z.classes[rows]
                outputs_of_classes(table[i], bias[i], latents, classes, logits[i, rows])
        return logits
