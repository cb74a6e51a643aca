"""The partition of time: which times each block owns.

Progress ``p`` runs from 0 (pure noise) to 1 (label); block ``i`` of ``n`` owns the progress
from ``i / n`` to ``(i + 1) / n``. What progress means in time is the cut:

* ``"uniform"``: progress is time, as in the paper.
* ``"information"``: progress is the share of the label's entropy that a latent at that time
  gives away, so every block has the same amount of label information to recover. This is the
  idea of DiffusionBlocks (Shing, Koyama & Akiba 2025, arXiv:2506.14202) of cutting time by
  probability mass, with the mass taken from the labels themselves: by the I-MMSE identity
  (Guo, Shamai & Verdu 2005), ``dI = mmse d(snr) / 2``, a block's share is also its share of the
  evidence bound of a perfect denoiser. It needs no constant for the embedding's size.

Times at which the label is as good as known hold nothing to learn: the information cut ends
where the label's entropy is used up but for `NEGLIGIBLE`, and the last block serves the rest. A
schedule that never gives that much away for an embedding is cut into equal shares of what it does.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sknoprop.schedules import Schedule

__all__ = ["NEGLIGIBLE", "PARTITIONS", "Partition", "label_information"]

#: Numbers that are worked on together where information is computed.
AT_ONCE = 2**17

#: Names a user may give for a cut of time.
PARTITIONS = ("information", "uniform")

#: Share of the label's entropy that is left to a cut by information when it ends, as estimated.
NEGLIGIBLE = 0.005

#: Share of draws that a class has at least, where there are few classes.
RARE = 1 / 32

#: Equal steps of time that information is known at. With more classes than `MANY_CLASSES` a quarter
#: of them: each takes longer, and cuts move by less than the draws behind them do.
N_LEVELS = 512
MANY_CLASSES = 128


def label_information(
    weight: Tensor, prior: Tensor, root_snr: Tensor, n_draws: int = 512
) -> Tensor:
    """Share of the label's entropy that a noisy embedding gives away.

    The mutual information between ``y ~ prior`` and ``z = m W[y] + s eps`` depends on the ratio
    ``r = m / s`` alone. It is ``H(y) + E[log P(y | z)]``, with the exact posterior
    ``P(k | z) ~ prior_k exp(r**2 <W_y, W_k> + r <eps, W_k> - r**2 |W_k|**2 / 2)``.

    Parameters
    ----------
    weight : Tensor of shape (n_classes, embedding_dim)
    prior : Tensor of shape (n_classes,)
        Class probabilities.
    root_snr : Tensor of shape (n_levels,)
        Ascending ratios of signal to noise.
    n_draws : int, default=512
        Draws of (label, noise); labels are stratified over the prior (over one that has rare
        classes more often, and draws weighted by what they are too many), noise comes in
        antithetic pairs, and all levels share them, so that the curve is smooth.

    Returns
    -------
    Tensor of shape (n_levels,)
        Estimates in [0, 1], ascending; in float64.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.partition import label_information
    >>> weight, prior = torch.eye(2), torch.tensor([0.5, 0.5])
    >>> label_information(weight, prior, torch.tensor([0.0, 1.0, 10.0])).round(decimals=1)
    tensor([0.0000, 0.3000, 1.0000], dtype=torch.float64)
    """
    weight, prior, root_snr = weight.double(), prior.double(), root_snr.double()
    # A fixed seed: the curve is a function of its arguments and of nothing else.
    generator = torch.Generator().manual_seed(0)
    # Stratified labels, each draw twice; eps then in pairs of opposite sign.
    quantiles = (torch.arange(n_draws // 2, dtype=torch.float64) + 0.5) / (n_draws // 2)
    # Rare classes, too, some draws each, which then count less: no label of theirs, no information.
    often = torch.where(prior > 0, prior.clamp_min(min(RARE, 0.5 / len(prior))), prior)
    often = often / often.sum() if (often > prior).any() else prior
    labels = torch.searchsorted(often.cumsum(0), quantiles).clamp_max(len(prior) - 1)
    eps = torch.randn(n_draws // 2, weight.shape[1], generator=generator, dtype=torch.float64)
    labels, eps = labels.repeat(2), torch.cat([eps, -eps])
    # Both depend on differences of rows only; centring keeps digits when rows are close.
    weight = weight - weight.mean(0)
    own = weight[labels]
    linear = eps @ weight.T - (eps * own).sum(1, keepdim=True)
    quadratic = -0.5 * torch.cdist(own, weight).square()
    entropy = torch.special.entr(prior).sum()
    log_prior = prior.log()
    counts = (prior / often)[labels]
    counts = counts / counts.mean()
    losses = []
    # A few levels at a time: one alone is mostly the cost of calls, all would not stay in cache.
    for r in root_snr[:, None, None].split(max(AT_ONCE // linear.numel(), 1)):
        evidence = torch.logsumexp(r * linear + r**2 * quadratic + log_prior, -1)
        losses.append((counts * (evidence - log_prior[labels])).mean(-1))
    loss = torch.cat(losses)
    return (1.0 - loss / entropy).clamp(0.0, 1.0).cummax(0).values


@dataclass(frozen=True)
class BlockSpan:
    """Times ``[start, end]`` that blocks own; both tensors of shape ``(n_blocks,)``."""

    start: Tensor
    end: Tensor

    @property
    def length(self) -> Tensor:
        return self.end - self.start


class Partition(nn.Module):
    """Which block owns which times.

    Parameters
    ----------
    n_blocks : int
        Number of blocks.
    times : Tensor of shape (n_grid,)
        Times at evenly spaced progress from 0 to 1, ascending from 0; between them progress is
        interpolated linearly.
    n_split : int, default=1
        Neighbouring blocks that came of one, see `split`.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.partition import Partition
    >>> partition = Partition.uniform(4)
    >>> partition.edges
    tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000])
    >>> partition.owner(torch.tensor([0.6, 1.0]))
    tensor([2, 3])
    """

    times: Tensor
    edges: Tensor

    def __init__(self, n_blocks: int, times: Tensor, n_split: int = 1) -> None:
        super().__init__()
        self.n_total = n_blocks
        self.n_split = n_split
        #: Which of all blocks this is about, see `take`.
        self.part = slice(None)
        self.register_buffer("times", times)
        self.register_buffer("edges", torch.empty(0, dtype=times.dtype))
        numbers = torch.arange(n_blocks + 1, device=times.device, dtype=torch.float32)
        self.edges = self.time_at(numbers / n_blocks)

    @classmethod
    def uniform(cls, n_blocks: int, horizon: float = 1.0) -> Partition:
        """Intervals of equal length.

        Parameters
        ----------
        n_blocks : int
        horizon : float, default=1.0
            Where the last one ends.

        Returns
        -------
        Partition
        """
        return cls(n_blocks, torch.tensor([0.0, horizon], dtype=torch.float32))

    @classmethod
    def by_information(
        cls,
        n_blocks: int,
        schedule: Schedule,
        weight: Tensor,
        prior: Tensor,
        horizon: float = 1.0,
    ) -> Partition:
        """Intervals with equal shares of label information.

        Parameters
        ----------
        n_blocks : int
        schedule : Schedule
            As it is now; it is not changed.
        weight : Tensor of shape (n_classes, embedding_dim)
            Class embeddings.
        prior : Tensor of shape (n_classes,)
            Class probabilities.
        horizon : float, default=1.0
            Where the path ends, beyond which no block goes.

        Returns
        -------
        Partition
            Uniform where the schedule gives the label away at once, or never.

        Examples
        --------
        >>> import torch
        >>> from sknoprop.partition import Partition
        >>> from sknoprop.schedules import CosineSchedule
        >>> given = CosineSchedule(), torch.eye(3), torch.full((3,), 1 / 3)
        >>> Partition.by_information(4, *given).edges.round(decimals=1)
        tensor([0.0000, 0.5000, 0.6000, 0.7000, 0.9000])
        """
        n_levels = N_LEVELS if len(prior) <= MANY_CLASSES else N_LEVELS // 4
        grid = torch.linspace(0.0, horizon, n_levels + 1, dtype=torch.float64)
        with torch.no_grad():
            root_snr = (0.5 * copy.deepcopy(schedule).double().log_snr(grid)).exp()
        inner = slice(0, -1) if not torch.isfinite(root_snr[-1]) else slice(None)
        grid = grid[inner]
        information = label_information(weight, prior, root_snr[inner])
        # Progress 0 is time 0 even though the first times, being pure noise, tell nothing.
        share = min(float(information[-1]), 1.0 - NEGLIGIBLE)
        progress = torch.linspace(0.0, 1.0, 257, dtype=torch.float64) * share
        times = interpolate(progress, information, grid)
        times[0] = 0.0
        partition = cls(n_blocks, times.float())
        if not (partition.edges.diff() > 0).all():
            # Embeddings so far apart, or so close, that this schedule gives the label away at
            # once, or never: there is nothing to cut by.
            return cls.uniform(n_blocks, float(grid[-1]))
        return partition

    @property
    def n_blocks(self) -> int:
        """Number of blocks it is about, see `take`."""
        return len(range(self.n_total)[self.part])

    def take(self, part: slice) -> Partition:
        """The same cut seen by some of its blocks.

        Parameters
        ----------
        part : slice
            Which of all blocks.

        Returns
        -------
        Partition
            It shares its tensors with this one.
        """
        taken = copy.copy(self)
        taken._buffers = dict(self._buffers)
        taken.part = part
        return taken

    @property
    def span(self) -> BlockSpan:
        """Times each block owns and is trained on."""
        return BlockSpan(self.edges[:-1][self.part], self.edges[1:][self.part])

    @property
    def frame(self) -> BlockSpan:
        """Times that a block's time input is relative to: its span, or that of what was split."""
        edges = self.edges[:: self.n_split]
        start, end = (e.repeat_interleave(self.n_split) for e in (edges[:-1], edges[1:]))
        return BlockSpan(start[self.part], end[self.part])

    def split(self, factor: int) -> Partition:
        """Each block's progress in equal parts, time inputs as they were.

        Parameters
        ----------
        factor : int
            Number of parts.

        Returns
        -------
        Partition
            With `factor` times as many blocks.
        """
        return Partition(self.n_total * factor, self.times, self.n_split * factor)

    def time_at(self, progress: Tensor) -> Tensor:
        """Time at which a progress is reached.

        Parameters
        ----------
        progress : Tensor of shape (...)
            From 0 to 1.

        Returns
        -------
        Tensor of shape (...)
        """
        grid = torch.linspace(
            0.0, 1.0, len(self.times), device=self.times.device, dtype=torch.float32
        )
        return interpolate(progress.to(self.times.dtype), grid.to(self.times.dtype), self.times)

    def owner(self, t: Tensor) -> Tensor:
        """Block that owns a time; the last one serves all times after its own.

        Parameters
        ----------
        t : Tensor of shape (...)

        Returns
        -------
        Tensor of shape (...), int64
            From 0 on.
        """
        return torch.searchsorted(self.edges[1:-1].contiguous(), t.contiguous(), right=True)

    def midpoints(self, n_levels: int = 1) -> Tensor:
        """Times in the middle of each block's progress, or of equal parts of it.

        Parameters
        ----------
        n_levels : int, default=1
            Number of parts.

        Returns
        -------
        Tensor of shape (n_blocks, n_levels)
        """
        parts = self.n_total * n_levels
        numbers = torch.arange(parts, device=self.times.device, dtype=torch.float32)
        progress = (numbers + 0.5) / parts
        return self.time_at(progress).view(self.n_total, n_levels)[self.part]


def interpolate(x: Tensor, xp: Tensor, fp: Tensor) -> Tensor:
    """Piecewise-linear interpolation through ``(xp, fp)``, `xp` ascending (ties allowed)."""
    right = torch.searchsorted(xp, x.contiguous()).clamp(1, len(xp) - 1)
    left = right - 1
    width = xp[right] - xp[left]
    share = torch.where(width > 0, (x - xp[left]) / width, torch.zeros_like(x))
    return fp[left] + share.clamp(0.0, 1.0) * (fp[right] - fp[left])
