"""Probes: the latents at which blocks are asked for their kernels, and what all rows share there.

They depend on the model and the draws alone. A prediction of many rows takes a few at a time, and
makes its probes once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from sknoprop.kernels import (
    kernel_latents,
    latent_shares,
    log_density_at_centre,
    shares_of_distances,
)
from sknoprop.model import NoPropModel
from sknoprop.networks.latents import CandidateLatents, NoisedClasses

__all__ = ["MIN_LEVELS", "Probe", "Probes", "has_centre", "kernel_levels"]

#: Levels at which the kernels of all blocks together are taken, at least.
MIN_LEVELS = 10

#: Pairs of classes that are kept, at most: as many as take no longer than a few rows do.
MOST_PAIRS = 2**20

#: Largest difference of the log densities of the centre given each class. Where it is larger, as it
#: may be with few dimensions and little noise, a block's errors are multiplied by more.
MOST_APART = 1.0


def kernel_levels(model: NoPropModel) -> Tensor:
    """Times at which each block's kernel is taken: shape ``(n_blocks, n_levels)``.

    The one level a block owns, or the middles of equal parts of its interval's progress.
    """
    if model.variant.single_level:
        return model.partition.span.start[:, None]
    return model.partition.midpoints(math.ceil(MIN_LEVELS / model.partition.n_total))


@torch.no_grad()
def has_centre(model: NoPropModel) -> bool:
    """Whether all classes are about as far from their mean, for the noise that blocks have.

    Parameters
    ----------
    model : NoPropModel
        As it is now.

    Returns
    -------
    bool
        Of one-hot embeddings True, whatever the schedule.
    """
    t = kernel_levels(model)
    # Distances count most where there is least noise.
    ratio = (model.schedule.signal(t) / model.schedule.noise(t)).max()
    log_density = log_density_at_centre(model.embedding.weight, ratio, torch.ones_like(ratio))
    return -float(log_density.min()) <= MOST_APART


class _Classes:
    """What all levels share."""

    def __init__(self, weight: Tensor, eps: Tensor) -> None:
        self.weight, self.eps = weight, eps

    @cached_property
    def apart(self) -> Tensor | None:
        """Squared distances of all pairs; None where they are too many to keep."""
        if len(self.weight) ** 2 > MOST_PAIRS:
            return None
        # By a product, as all pairs of a thousand classes are many. From where one embedding lies,
        # as all may be far from zero; and in double precision, as some may be close to each other.
        own = (self.weight - self.weight[:1]).double()
        squares = own.square().sum(1)
        apart = squares[:, None] + squares - 2.0 * own @ own.T
        return apart.clamp_min_(0.0).to(self.weight.dtype)

    @cached_property
    def along(self) -> Tensor:
        """Products of draws and embeddings: ``(n_draws, n_classes)``."""
        return self.eps @ self.weight.T


class Probe:
    """One level of each block: times `t` of shape ``(n_blocks,)``, and the noised classes there."""

    def __init__(self, model: NoPropModel, t: Tensor, classes: _Classes) -> None:
        self.model, self.t, self.classes = model, t, classes
        signal, noise = model.schedule.signal(t), model.schedule.noise(t)
        self.noised = NoisedClasses(classes.weight, signal, noise, classes.eps)

    def of_classes(self, part: slice) -> tuple[Tensor, Tensor]:
        """Latents of some classes, and how much they count for each class.

        Returns
        -------
        latents : Tensor of shape (n_blocks, 1, n_latents, embedding_dim)
        shares : Tensor of shape (n_blocks, 1, n_latents, n_classes)
        """
        n_classes = len(self.noised.weight)
        if part.start == 0 and part.stop >= n_classes:
            return self._of_all_classes
        return self._of_classes(part)

    @cached_property
    def _of_all_classes(self) -> tuple[Tensor, Tensor]:
        return self._of_classes(slice(None))

    def _of_classes(self, part: slice) -> tuple[Tensor, Tensor]:
        weight, *level = self.noised
        rows = weight[None]
        latents = kernel_latents(rows[:, part], *level).flatten(2, 3)
        return latents, latent_shares(rows[:, part], rows, *level).flatten(2, 3)

    def of_candidates(self, candidates: Tensor, part: slice) -> tuple[CandidateLatents, Tensor]:
        """Latents of some of each row's candidate classes, and what they count for each of these.

        Returns
        -------
        latents : CandidateLatents
        shares : Tensor of shape (n_blocks, n_samples, n_latents, n_candidates)
        """
        origins = candidates[:, part]
        latents = CandidateLatents(self.noised, origins, candidates, self._first)
        weight, *level = self.noised
        if self.classes.apart is None:
            shares = latent_shares(weight[origins], weight[candidates], *level)
        else:
            apart = self.classes.apart[origins[:, :, None], candidates[:, None, :]]
            along = self.classes.along[:, candidates].transpose(0, 1)
            signal, noise, _ = level
            shares = shares_of_distances(apart, along, signal, noise)
        return latents, shares.flatten(2, 3)

    @cached_property
    def centre(self) -> tuple[Tensor, Tensor]:
        """The mean of the noised embeddings, and what answers there are multiplied by.

        Returns
        -------
        latent : Tensor of shape (n_blocks, 1, 1, embedding_dim)
        factor : Tensor of shape (n_blocks, 1, n_classes), float64
            One over the density of the centre given each class, up to a factor.
        """
        weight, signal, noise, _ = self.noised
        log_density = log_density_at_centre(weight, signal, noise).double()
        return signal.view(-1, 1, 1, 1) * weight.mean(0), (-log_density).exp()[:, None]

    @cached_property
    def _first(self) -> tuple[Tensor, Tensor] | None:
        if not self.model.takes_candidates:
            return None
        position = self.model.position(self.t[:, None, None])
        return self.model.head.first_of_classes(self.noised, position)


class Probes:
    """Probes of all blocks of a model.

    Parameters
    ----------
    model : NoPropModel
        As it is now: a model that is trained on has others.
    eps : Tensor of shape (n_draws, embedding_dim)
        Noise shared by all rows, classes and blocks.
    centred : bool, optional
        Whether classes have a centre, if that is known: blocks of a model that has none may have.
    """

    def __init__(self, model: NoPropModel, eps: Tensor, centred: bool | None = None) -> None:
        self.model, self.eps, self._known = model, eps, centred
        classes = _Classes(model.embedding.weight, eps)
        self.levels = [Probe(model, t, classes) for t in kernel_levels(model).unbind(1)]

    @cached_property
    def centred(self) -> bool:
        """Whether classes have a centre."""
        return has_centre(self.model) if self._known is None else self._known

    def __len__(self) -> int:
        """Number of levels a block."""
        return len(self.levels)

    def __iter__(self) -> Iterator[Probe]:
        return iter(self.levels)
