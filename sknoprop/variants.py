"""The three variants of NoProp: which times are trained, and with what loss.

A variant owns no parameters. Given the model's choices (schedule, embedding, parameterization,
partition) it says where noise levels lie and what a block's error costs. Every loss here is the
paper's, written as a sum over blocks of a mean over rows and draws; a block's share depends on
that block's parameters and on nothing of another block's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sknoprop.parameterizations import Parameterization
from sknoprop.partition import Partition
from sknoprop.schedules import Schedule

__all__ = [
    "VARIANTS",
    "ContinuousTime",
    "DiscreteTime",
    "FlowMatching",
    "Levels",
    "Path",
    "Variant",
    "prior_divergence",
]

#: Where a path that ends without noise is cut: the log SNR at which fixed schedules end.
LOG_SNR_END = 8.0


@dataclass(frozen=True)
class Path:
    """What a variant is applied to: the path from noise to label, cut into blocks.

    Parameters
    ----------
    schedule : Schedule
    partition : Partition
    parameterization : Parameterization
    horizon : float
        Last time of the path: where trajectories end.
    """

    schedule: Schedule
    partition: Partition
    parameterization: Parameterization
    horizon: float


@dataclass(frozen=True)
class Levels:
    """Noise levels that a step trains at.

    Parameters
    ----------
    t : Tensor broadcastable to (n_blocks, n_samples, n_draws)
        Times.
    signal, noise : Tensor broadcastable to (n_blocks, n_samples, n_draws)
        Of the schedule at these times.
    weight : Tensor broadcastable to (n_blocks, n_samples, n_draws)
        Factor of a squared error there; those of a `NoPropModel` have eta in it.
    """

    t: Tensor
    signal: Tensor
    noise: Tensor
    weight: Tensor

    def __getitem__(self, index: Any) -> Levels:
        """Those of some blocks, rows or draws, each field having been indexed alike."""
        return Levels(self.t[index], self.signal[index], self.noise[index], self.weight[index])


def prior_divergence(schedule: Schedule, u: Tensor) -> Tensor:
    """Divergence of the first latent from pure noise, ``KL(q(z_0 | y) || N(0, I))``.

    With a fixed embedding and schedule a constant near zero. In the size of a learned embedding it
    grows with the square of the signal at ``t = 0``: not at all on the straight line, and hardly
    with schedules that start from next to no signal.

    Parameters
    ----------
    schedule : Schedule
    u : Tensor of shape (..., embedding_dim)
        Embeddings of labels.

    Returns
    -------
    Tensor of shape (...)

    Examples
    --------
    >>> import torch
    >>> from sknoprop.schedules import StraightLineSchedule
    >>> from sknoprop.variants import prior_divergence
    >>> prior_divergence(StraightLineSchedule(), torch.eye(2))
    tensor([0., 0.])
    """
    t = torch.zeros((), dtype=u.dtype, device=u.device)
    variance = schedule.noise(t) ** 2
    mean_square = (schedule.signal(t) * u) ** 2
    return 0.5 * (mean_square + variance - 1.0 - variance.log()).sum(-1)


def snr_gain(path: Path) -> Tensor:
    """Rise of the signal-to-noise ratio over each block's times: shape ``(n_blocks,)``."""
    start = path.partition.edges[:-1]
    end = torch.cat([start[1:], start.new_full((1,), path.horizon)])
    return (path.schedule.snr(end) - path.schedule.snr(start))[path.partition.part]


def last_noisy_time(schedule: Schedule) -> float:
    """1, or where the log SNR is `LOG_SNR_END` if it goes to infinity."""
    with torch.no_grad():
        if torch.isfinite(schedule.log_snr(torch.ones((), dtype=torch.float32))):
            return 1.0
        grid = torch.linspace(0.0, 1.0, 10001, dtype=torch.float64)[1:-1]
        return float(grid[schedule.log_snr(grid) <= LOG_SNR_END][-1])


class Variant(ABC):
    """One formulation of NoProp."""

    #: Schedule, cut of time and sampler that go with it by default.
    schedule: str
    partition: str
    sampler: str

    #: Whether a block owns one noise level, and so needs no time input.
    single_level = False

    #: Whether the last latent's cross-entropy is part of the loss with a fixed embedding too.
    trains_readout = True

    def horizon(self, schedule: Schedule) -> float:
        """Last time of the path that the loss speaks of.

        Where a schedule's noise vanishes at t = 1, its signal-to-noise ratio, which weights the
        loss, is infinite there: such a path ends where the log SNR is 8.

        Parameters
        ----------
        schedule : Schedule

        Returns
        -------
        float
            At most 1.
        """
        return last_noisy_time(schedule)

    def readout_level(self, schedule: Schedule, trained: bool) -> tuple[float, float]:
        """Signal and noise of the latents that the read-out starts out for.

        Parameters
        ----------
        schedule : Schedule
        trained : bool
            Whether the embedding, and so in any case the read-out, is trained.

        Returns
        -------
        signal, noise : float
        """
        t = torch.tensor(last_noisy_time(schedule), dtype=torch.float32)
        with torch.no_grad():
            return float(schedule.signal(t)), float(schedule.noise(t))

    def levels(self, path: Path, uniform: Tensor) -> Levels:
        """Noise levels to train at, with the weights of the loss there.

        Parameters
        ----------
        path : Path
        uniform : Tensor of shape (n_blocks, n_samples, n_draws)
            Uniform draws from [0, 1); times are uniform over each block's interval, unless a
            block has but one.

        Returns
        -------
        Levels
        """
        t = self._times(path, uniform)
        weight = self.weight(path, t)
        return Levels(t, path.schedule.signal(t), path.schedule.noise(t), weight)

    def _times(self, path: Path, uniform: Tensor) -> Tensor:
        span = path.partition.span
        return torch.addcmul(span.start[:, None, None], span.length[:, None, None], uniform)

    @abstractmethod
    def weight(self, path: Path, t: Tensor) -> Tensor:
        """The paper's weight of the squared error at times `t`, times the interval's length.

        Parameters
        ----------
        path : Path
        t : Tensor of shape (n_blocks, n_samples or 1, n_draws or 1)

        Returns
        -------
        Tensor broadcastable to (n_blocks, n_samples, n_draws)
        """

    def denoising_loss(
        self,
        path: Path,
        weight: Tensor,
        logits: Tensor,
        z: Tensor,
        levels: Levels,
        u: Tensor,
        eps: Tensor,
    ) -> Tensor:
        """Loss of each block at each row and draw, with the weights that `levels` have.

        Parameters
        ----------
        path : Path
        weight : Tensor of shape (n_classes, embedding_dim)
            Class embeddings.
        logits : Tensor of shape (n_blocks, n_samples, n_draws, n_classes)
            What blocks made of row and latent.
        z : Tensor of shape (n_blocks, n_samples, n_draws, embedding_dim)
            Latents.
        levels : Levels
            Their noise levels.
        u : Tensor of shape (n_samples, 1, embedding_dim)
            Embeddings of the labels.
        eps : Tensor of shape (n_blocks, n_samples, n_draws, embedding_dim)
            Noise of the latents.

        Returns
        -------
        Tensor of shape (n_blocks, n_samples, n_draws)
            With the paper's weights its mean over rows and draws, summed over blocks, estimates
            the paper's term.
        """
        t = levels.t[..., None]
        label = path.parameterization.label(logits, z, t, weight, path.schedule)
        return levels.weight * (label - u).square().sum(-1)

    @abstractmethod
    def scale(self, path: Path) -> Tensor:
        """Factor of each block's loss relative to its mean squared error.

        Dividing a block's loss by its own positive constant moves no optimum as long as blocks
        share nothing; it makes blocks comparable and one step size fit all.

        Parameters
        ----------
        path : Path

        Returns
        -------
        Tensor of shape (n_blocks,)
            Positive.
        """


class DiscreteTime(Variant):
    """NoProp-DT: one noise level a block.

    Block t of T sees ``z_{t-1}`` and costs
    ``1/2 (SNR(t) - SNR(t-1)) |u_hat_t(z_{t-1}, x) - u|**2``: summed over blocks, the paper's
    ``T/2 E_t[...]`` (eq. 8).

    Examples
    --------
    >>> import torch
    >>> from sknoprop.parameterizations import LabelParameterization
    >>> from sknoprop.partition import Partition
    >>> from sknoprop.schedules import CosineSchedule
    >>> from sknoprop.variants import DiscreteTime, Path
    >>> path = Path(CosineSchedule(), Partition.uniform(4), LabelParameterization(), 1.0)
    >>> DiscreteTime().levels(path, torch.zeros(4, 8, 1)).t.flatten()
    tensor([0.0000, 0.2500, 0.5000, 0.7500])
    """

    schedule = "cosine"
    partition = "uniform"
    sampler = "ancestral"
    single_level = True

    def _times(self, path, uniform):  # type: ignore[no-untyped-def]
        return path.partition.span.start[:, None, None]

    def weight(self, path, t):  # type: ignore[no-untyped-def]
        return self.scale(path)[:, None, None]

    def scale(self, path):  # type: ignore[no-untyped-def]
        return 0.5 * snr_gain(path)


class ContinuousTime(Variant):
    """NoProp-CT: an interval of time a block.

    ``1/2 E_t[SNR'(t) |u_hat(z_t, x, t) - u|**2]`` with t uniform over the block's interval,
    times the interval's length: summed over blocks, the integral of eq. 9 from 0 to the
    partition's last edge. With a uniform cut that is all of it (up to a log SNR of 8 on a path
    that ends without noise); a cut by information leaves out the times at which the label is as
    good as known.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.parameterizations import LabelParameterization
    >>> from sknoprop.partition import Partition
    >>> from sknoprop.schedules import CosineSchedule
    >>> from sknoprop.variants import ContinuousTime, Path
    >>> path = Path(CosineSchedule(), Partition.uniform(2), LabelParameterization(), 1.0)
    >>> levels = ContinuousTime().levels(path, torch.tensor([0.0, 0.5]).expand(2, 1, 2))
    >>> levels.t[:, 0]
    tensor([[0.0000, 0.2500],
            [0.5000, 0.7500]])
    """

    schedule = "cosine"
    partition = "information"
    sampler = "probability-flow"

    def weight(self, path, t):  # type: ignore[no-untyped-def]
        return 0.5 * path.schedule.snr_derivative(t) * path.partition.span.length[:, None, None]

    def scale(self, path):  # type: ignore[no-untyped-def]
        # The integral of SNR' over an interval is the rise of the SNR.
        span = path.partition.span
        return 0.5 * (path.schedule.snr(span.end) - path.schedule.snr(span.start))


class FlowMatching(Variant):
    """NoProp-FM: an interval of time a block, velocities matched.

    ``E_t[|v(z_t, x, t) - (m' u + s' z_0)|**2]`` with t uniform over the block's interval, times
    its length. On the straight line the target is ``u - z_0`` (eq. 12); on other schedules
    velocities are those in `Schedule.clock`.

    Examples
    --------
    >>> from sknoprop.parameterizations import VelocityParameterization
    >>> from sknoprop.partition import Partition
    >>> from sknoprop.schedules import StraightLineSchedule
    >>> from sknoprop.variants import FlowMatching, Path
    >>> path = Path(StraightLineSchedule(), Partition.uniform(4), VelocityParameterization(), 1.0)
    >>> FlowMatching().scale(path)
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """

    schedule = "straight"
    partition = "information"
    sampler = "euler"
    trains_readout = False

    def horizon(self, schedule):  # type: ignore[no-untyped-def]
        return 1.0

    def readout_level(self, schedule, trained):  # type: ignore[no-untyped-def]
        # A trained read-out here reads the blocks' own guesses, which are off by whole
        # embeddings; an untrained one the end of a trajectory.
        return (1.0, 1.0) if trained else super().readout_level(schedule, trained)

    def weight(self, path, t):  # type: ignore[no-untyped-def]
        return path.partition.span.length[:, None, None]

    def levels(self, path, uniform):  # type: ignore[no-untyped-def]
        levels = super().levels(path, uniform)
        # What `denoising_loss` computes may be the error in label, not that in velocity.
        scale = path.parameterization.velocity_scale(levels.t, path.schedule)
        return replace(levels, weight=levels.weight * scale)

    def denoising_loss(self, path, weight, logits, z, levels, u, eps):  # type: ignore[no-untyped-def]
        t = levels.t[..., None]
        error = path.parameterization.error(logits, t, weight, path.schedule, u, eps)
        return levels.weight * error.square().sum(-1)

    def scale(self, path):  # type: ignore[no-untyped-def]
        span = path.partition.span
        inside = (torch.arange(64, device=span.start.device, dtype=torch.float32) + 0.5) / 64
        t = span.start[:, None] + span.length[:, None] * inside
        return span.length * path.parameterization.velocity_scale(t, path.schedule).mean(1)


#: Names a user may give for a variant.
VARIANTS: dict[str, type[Variant]] = {
    "dt": DiscreteTime,
    "ct": ContinuousTime,
    "fm": FlowMatching,
}
