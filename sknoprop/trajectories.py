"""Prediction along the paper's trajectories, from noise to label.

Features of the input are computed once a row and reused for every step and draw, and what depends
on the time alone once for all steps. A GPU is then asked for nothing that it has to be waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from sknoprop.inference import rows_within_bounds
from sknoprop.model import NoPropModel
from sknoprop.networks.heads import Head
from sknoprop.networks.stacked import take_blocks
from sknoprop.samplers import Sampler, integrate
from sknoprop.schedules import Schedule

__all__ = [
    "rows_of_trajectories",
    "sampling_times",
    "trajectory_probabilities",
    "trajectory_steps",
]


#: Rows whose steps are taken together on a GPU, at most: naming the operations of a step takes as
#: long as they take with these.
MOST_ROWS_ON_GPU = 2**13


def rows_of_trajectories(model: NoPropModel, n_draws: int, others: int) -> int:
    """Rows whose trajectories are computed together, see `rows_within_bounds`.

    Parameters
    ----------
    model : NoPropModel
    n_draws : int
    others : int
        Numbers of each row in other arrays, in double precision.
    """
    of_latent = model.latent_size(True) + model.head.largest
    numbers = max(model.n_blocks * n_draws * of_latent, 2 * others)
    return rows_within_bounds(model, numbers, MOST_ROWS_ON_GPU)


def sampling_times(model: NoPropModel, n_steps: int | None) -> Tensor:
    """Times of a trajectory of `n_steps` steps, from 0 to the horizon.

    For blocks that own single levels these are among the levels, by default and at most all of
    them: between its level and the next a block could but repeat its estimate, and a step taken
    in parts with one estimate is the same step (posteriors compose). Else they are evenly spaced
    in progress, by default 40 steps.

    Returns
    -------
    Tensor of shape (n_steps + 1,)
    """
    end = torch.tensor([model.path.horizon], dtype=model.partition.edges.dtype)
    if model.variant.single_level:
        levels = model.partition.span.start.cpu()
        n_steps = len(levels) if n_steps is None else min(n_steps, len(levels))
        return torch.cat([levels[(torch.arange(n_steps) * len(levels)) // n_steps], end])
    n_steps = 40 if n_steps is None else n_steps
    numbers = torch.arange(n_steps, device=model.partition.edges.device, dtype=torch.float32)
    progress = numbers / n_steps
    return torch.cat([model.partition.time_at(progress).cpu(), end])


def _tabulated(name: str) -> Any:
    return lambda self, t: self._look_up(name, t)


class _ScheduleAtTimes(Schedule):
    """Another schedule, whose values at the times of a trajectory are computed at once.

    Parameters
    ----------
    schedule : Schedule
        What else it has, beside what `Schedule` has, is found here too.
    times : Tensor of shape (n_times,)
        On the schedule's device. Values at one time are on the CPU, as the time is: numbers to
        whatever is computed with them.
    """

    def __init__(self, schedule: Schedule, times: Tensor) -> None:
        super().__init__()
        self._own = schedule
        self.trainable = schedule.trainable
        self._times = times
        self._rows = {t: row for row, t in enumerate(times.tolist())}
        self._tables: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._own, name)

    def _values(self, name: str, t: Tensor) -> tuple[Tensor, ...]:
        values = getattr(self._own, name)(t.to(self._times.device))
        values = values if isinstance(values, tuple | list) else (values,)
        # A schedule of the user's may have a constant, of no shape.
        return tuple(value.cpu() if value.dim() == 0 else value for value in values)

    def _look_up(self, name: str, t: Tensor) -> Any:
        alone = t.dim() == 0 and not t.requires_grad
        row = self._rows.get(t.item()) if alone else None
        if row is None:  # a sampler's own idea
            found = self._values(name, t)
        else:
            if name not in self._tables:
                values = self._values(name, self._times)
                columns = (v.expand(len(self._times)).cpu().unbind() for v in values)
                self._tables[name] = list(zip(*columns, strict=True))
            # Copies: a sampler may compute in place.
            found = tuple(value.clone() for value in self._tables[name][row])
        return found if len(found) > 1 else found[0]

    signal = _tabulated("signal")
    noise = _tabulated("noise")
    clock = _tabulated("clock")
    velocity_coefficients = _tabulated("velocity_coefficients")
    log_snr = _tabulated("log_snr")
    log_snr_derivative = _tabulated("log_snr_derivative")
    snr = _tabulated("snr")
    snr_derivative = _tabulated("snr_derivative")


class _Denoiser:
    """``u_hat(z, t)`` of the block that owns t; keeps the class probabilities it is made of.

    Parameters
    ----------
    model : NoPropModel
    features : Tensor of shape (n_blocks, n_samples, width)
    times : Tensor of shape (n_times,)
        Of the trajectory, on the CPU, as all times are that it is then asked at.
    """

    def __init__(self, model: NoPropModel, features: Tensor, times: Tensor) -> None:
        self.model = model
        self.features = features
        self.schedule = _ScheduleAtTimes(model.schedule, times.to(features.device))
        #: What was last made of a latent at each time: shape (n_samples, n_draws, n_classes).
        self.made: dict[float, Tensor] = {}
        self._heads: dict[int, Head] = {}
        #: The block that owns each time, and where in the block's interval it lies.
        self._places = dict(zip(times.tolist(), self._place(times), strict=True))

    def _place(self, times: Tensor) -> list[tuple[int, Tensor | None]]:
        model = self.model
        times = times.to(self.features.device)
        owners = model.partition.owner(times)
        blocks = owners.tolist()
        positions = model.position(times.expand(model.n_blocks, -1))
        if positions is None:
            return [(block, None) for block in blocks]
        own = positions.gather(0, owners[None])[0]
        return list(zip(blocks, own.view(-1, 1, 1, 1).unbind(), strict=True))

    def owner(self, t: Tensor) -> int:
        """The block that owns one of the trajectory's times."""
        return self._places[float(t)][0]

    def made_at(self, t: Tensor) -> Tensor:
        """What was made of the latent at the time a step begins."""
        if float(t) not in self.made:
            asked = ", ".join(f"{at:.6g}" for at in self.made) or "none"
            raise ValueError(
                "A sampler must ask for the label at the time its step begins, from whose latent "
                f"classes are read: {float(t):.6g}. It asked at {asked}."
            )
        return self.made[float(t)]

    def __call__(self, z: Tensor, t: Tensor) -> Tensor:
        model = self.model
        place = self._places.get(float(t))
        block, position = self._place(t.view(1))[0] if place is None else place
        own = slice(block, block + 1)
        if block not in self._heads:
            self._heads[block] = take_blocks(model.head, own)
        logits = self._heads[block](self.features[own], z[None], position)[0]
        label, self.made[float(t)] = model.parameterization.label_and_probabilities(
            logits, z, t, model.embedding.weight, self.schedule
        )
        return label


def _latents(
    denoise: _Denoiser, sampler: Sampler, times: Tensor, noise: Tensor
) -> tuple[Tensor, Iterator[Tensor]]:
    """The first latent of each trajectory, and the latents after each step."""
    # Of the variance that latents there have, those of embeddings of unit variance: one, where the
    # path preserves it.
    first = denoise.schedule.noise(times[0]) ** 2 + denoise.schedule.signal(times[0]) ** 2
    start = (first.sqrt() * noise[0]).expand(denoise.features.shape[1], -1, -1)
    steps = noise[1:] if sampler.stochastic else None
    return start, integrate(sampler, denoise, denoise.schedule, start, times, steps)


def trajectory_probabilities(
    model: NoPropModel, features: Tensor, sampler: Sampler, times: Tensor, noise: Tensor
) -> Iterator[Tensor]:
    """Class probabilities along the paper's trajectories, averaged over draws.

    Parameters
    ----------
    model : NoPropModel
    features : Tensor of shape (n_blocks, n_samples, width)
    sampler : Sampler
    times : Tensor of shape (n_steps + 1,)
        On the CPU.
    noise : Tensor of shape (n_steps + 1, n_draws, embedding_dim)
        The first latent, then the noise of each step, shared by all rows.

    Yields
    ------
    Tensor of shape (n_samples, n_classes), float64
        After each block that takes a step: the mean of what blocks made of the latents so far;
        after the last one, where the model has a read-out of latents: that of the last latent.
    """
    times = times.to(noise.dtype)
    denoise = _Denoiser(model, features, times)
    owners = [denoise.owner(t) for t in times[:-1]]
    _, latents = _latents(denoise, sampler, times, noise)
    total = torch.zeros((), dtype=torch.float64, device=noise.device)
    for k, z in enumerate(latents):
        # What counts is what was made of the latent at the start of the step: Heun's method asks
        # at its end too, of a latent that is then left.
        total = total + denoise.made_at(times[k]).mean(1, dtype=total.dtype)
        denoise.made.clear()
        is_last = k == len(owners) - 1
        if is_last and model.readout.reads_latent:
            logits = model.readout.predict(z, model.embedding.weight)
            yield torch.softmax(logits.double(), -1).mean(1)
        elif is_last or owners[k + 1] != owners[k]:
            yield total / total.sum(-1, keepdim=True)


def trajectory_steps(
    model: NoPropModel, features: Tensor, sampler: Sampler, times: Tensor, noise: Tensor
) -> Iterator[Tensor]:
    """Latents of the paper's trajectories, and what blocks make of them, at each time.

    Parameters are those of `trajectory_probabilities`.

    Yields
    ------
    Tensor of shape (n_samples, n_draws, embedding_dim + n_classes), float64
        The latent, then the class probabilities that the block owning the time reads off it;
        at the last time those of the read-out.
    """
    times = times.to(noise.dtype)
    denoise = _Denoiser(model, features, times)
    start, following = _latents(denoise, sampler, times, noise)
    latents = [start, *following]
    for z, t in zip(latents[:-1], times[:-1], strict=True):
        denoise(z, t)
        yield torch.cat([z, denoise.made_at(t)], -1).double()
    logits = model.readout.predict(latents[-1], model.embedding.weight)
    yield torch.cat([latents[-1].double(), torch.softmax(logits.double(), -1)], -1)
