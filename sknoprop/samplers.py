"""Samplers: running the learnt denoising from pure noise to the label.

A sampler moves a latent from time t to a later time s, given a denoiser ``u_hat(z, t)``: the
estimate of the label embedding that the block owning t makes. All of them are exact in the
limit of many steps for the exact denoiser ``E[u | x, z_t]``. The last step of the deterministic
ones lands on the denoiser's estimate, but for what noise the path ends with: there may be none to
divide by.

All formulas hold for any Gaussian path ``z_t = m(t) u + s(t) eps``, variance preserving or not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sknoprop.schedules import Schedule

__all__ = [
    "SAMPLERS",
    "AncestralSampler",
    "EulerSampler",
    "HeunSampler",
    "Posterior",
    "ProbabilityFlowSampler",
    "Sampler",
    "integrate",
    "posterior",
    "velocity",
]

#: ``denoise(z, t)``: estimate of the label embedding, of the shape of `z`.
Denoiser = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Posterior:
    """``q(z_s | z_t, u) = N(label * u + latent * z_t, variance * I)`` for t < s.

    Parameters
    ----------
    label, latent : Tensor of shape (...)
        Factors of the label embedding and of the noisier latent in the mean.
    variance : Tensor of shape (...)
        Of each coordinate.
    """

    label: Tensor
    latent: Tensor
    variance: Tensor


def posterior(schedule: Schedule, t: Tensor, s: Tensor) -> Posterior:
    """Posterior of the cleaner latent ``z_s`` given the noisier ``z_t`` and the label, t < s.

    These are the paper's ``a_t, b_t, c_t`` (eq. 6) for neighbouring grid points, written for
    any two times. With ``1 - SNR(t) / SNR(s)`` computed as ``-expm1`` of the difference in log
    SNR, neighbouring times lose no digits.

    Parameters
    ----------
    schedule : Schedule
    t, s : Tensor of shape (...)
        Times, ``t < s``.

    Returns
    -------
    Posterior
        Of tensors of the shape of the times.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.samplers import posterior
    >>> from sknoprop.schedules import StraightLineSchedule
    >>> q = posterior(StraightLineSchedule(), torch.tensor(0.5), torch.tensor(0.8))
    >>> [round(value.item(), 4) for value in (q.label, q.latent, q.variance)]
    [0.75, 0.1, 0.0375]
    """
    ratio = schedule.log_snr(t) - schedule.log_snr(s)
    gained = -torch.expm1(ratio)
    # alpha_{t|s} s_s^2 / s_t^2 in the notation of Kingma et al. (2021), appendix A.
    kept = schedule.signal(t) / schedule.signal(s) * (schedule.noise(s) / schedule.noise(t)) ** 2
    return Posterior(
        label=schedule.signal(s) * gained,
        latent=kept,
        variance=schedule.noise(s) ** 2 * gained,
    )


def velocity(schedule: Schedule, z: Tensor, label: Tensor, t: Tensor) -> Tensor:
    """Velocity of the probability-flow ODE at ``(z, t)``, in the schedule's own clock.

    ``m' u_hat + s' eps_hat`` with ``eps_hat = (z - m u_hat) / s`` the noise that the estimate
    `label` implies; derivatives are with respect to `Schedule.clock`.

    Parameters
    ----------
    schedule : Schedule
    z, label : Tensor of shape (..., embedding_dim)
        Latent and estimate of the label embedding.
    t : Tensor broadcastable to `z`
        Times.

    Returns
    -------
    Tensor of shape (..., embedding_dim)

    Examples
    --------
    >>> import torch
    >>> from sknoprop.samplers import velocity
    >>> from sknoprop.schedules import StraightLineSchedule
    >>> z, label = torch.tensor([0.5, 0.0]), torch.tensor([1.0, 0.0])
    >>> velocity(StraightLineSchedule(), z, label, torch.tensor(0.75))  # (label - z) / (1 - t)
    tensor([2., 0.])
    """
    signal_rate, noise_rate = schedule.velocity_coefficients(t)
    rate = noise_rate / schedule.noise(t)
    return (signal_rate - rate * schedule.signal(t)) * label + rate * z


class Sampler(ABC):
    """One step of a sampler."""

    #: Whether a step draws noise.
    stochastic = False

    @abstractmethod
    def step(
        self,
        denoise: Denoiser,
        schedule: Schedule,
        z: Tensor,
        t: Tensor,
        s: Tensor,
        eps: Tensor | None,
    ) -> Tensor:
        """Move the latent `z` from time `t` to the later time `s`.

        Parameters
        ----------
        denoise : callable
            ``denoise(z, t)``: estimate of the label embedding, of the shape of `z`.
        schedule : Schedule
        z : Tensor of shape (..., embedding_dim)
        t, s : Tensor of shape ()
            Times, ``t < s``. In predictions they, and what the schedule makes of them, are on the
            CPU, wherever `z` is: numbers, which a GPU need not be waited for.
        eps : Tensor broadcastable to `z`, or None
            Standard normal noise of this step, for stochastic samplers.

        Returns
        -------
        Tensor of shape (..., embedding_dim)
        """


class AncestralSampler(Sampler):
    """The paper's inference (equation 3): draw from the posterior with ``u_hat`` in place of u.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.samplers import AncestralSampler
    >>> from sknoprop.schedules import CosineSchedule
    >>> z, eps = torch.zeros(2), torch.tensor([1.0, -1.0])
    >>> step = CosineSchedule(), z, torch.tensor(0.0), torch.tensor(0.5), eps
    >>> AncestralSampler().step(lambda z, t: torch.zeros(2), *step).round(decimals=2)
    tensor([ 0.7100, -0.7100])
    """

    stochastic = True

    def step(self, denoise, schedule, z, t, s, eps):  # type: ignore[no-untyped-def]
        q = posterior(schedule, t, s)
        return q.label * denoise(z, t) + q.latent * z + q.variance.sqrt() * eps


class ProbabilityFlowSampler(Sampler):
    """The deterministic step that keeps every marginal (Song, Meng & Ermon 2021, DDIM).

    ``z_s = m(s) u_hat + s(s) eps_hat``, exact for the probability-flow ODE as long as
    ``u_hat`` stays what it is. Mind that dropping the noise from the *reverse SDE* is something
    else: its score term is twice that of this ODE.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.samplers import ProbabilityFlowSampler
    >>> from sknoprop.schedules import StraightLineSchedule
    >>> times = torch.tensor(0.0), torch.tensor(0.5)
    >>> step = StraightLineSchedule(), torch.tensor([-1.0, 1.0]), *times, None
    >>> ProbabilityFlowSampler().step(lambda z, t: torch.tensor([1.0, 0.0]), *step)
    tensor([0.0000, 0.5000])
    """

    def step(self, denoise, schedule, z, t, s, eps):  # type: ignore[no-untyped-def]
        # Numbers first: fewer operations on latents.
        kept = schedule.noise(s) / schedule.noise(t)
        return (schedule.signal(s) - kept * schedule.signal(t)) * denoise(z, t) + kept * z


class EulerSampler(Sampler):
    """Euler's method on the probability-flow ODE, in the schedule's clock.

    On the straight line the same as `ProbabilityFlowSampler`.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.samplers import EulerSampler
    >>> from sknoprop.schedules import StraightLineSchedule
    >>> times = torch.tensor(0.0), torch.tensor(0.5)
    >>> step = StraightLineSchedule(), torch.tensor([-1.0, 1.0]), *times, None
    >>> EulerSampler().step(lambda z, t: torch.tensor([1.0, 0.0]), *step)
    tensor([0.0000, 0.5000])
    """

    def step(self, denoise, schedule, z, t, s, eps):  # type: ignore[no-untyped-def]
        duration = schedule.clock(s) - schedule.clock(t)
        return z + duration * velocity(schedule, z, denoise(z, t), t)


class HeunSampler(Sampler):
    """Heun's second-order method on the same ODE; two evaluations a step.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.samplers import HeunSampler
    >>> from sknoprop.schedules import StraightLineSchedule
    >>> times = torch.tensor(0.0), torch.tensor(0.5)
    >>> step = StraightLineSchedule(), torch.tensor([-1.0, 1.0]), *times, None
    >>> HeunSampler().step(lambda z, t: torch.tanh(z), *step).round(decimals=2)
    tensor([-0.8500,  0.8500])
    """

    def step(self, denoise, schedule, z, t, s, eps):  # type: ignore[no-untyped-def]
        duration = schedule.clock(s) - schedule.clock(t)
        first = velocity(schedule, z, denoise(z, t), t)
        ahead = z + duration * first
        second = velocity(schedule, ahead, denoise(ahead, s), s)
        return z + 0.5 * duration * (first + second)


#: Names a user may give for a sampler.
SAMPLERS: dict[str, type[Sampler]] = {
    "ancestral": AncestralSampler,
    "euler": EulerSampler,
    "heun": HeunSampler,
    "probability-flow": ProbabilityFlowSampler,
}


def integrate(
    sampler: Sampler,
    denoise: Denoiser,
    schedule: Schedule,
    z: Tensor,
    times: Tensor,
    noise: Tensor | None = None,
) -> Iterator[Tensor]:
    """Latents after each step of a trajectory.

    Parameters
    ----------
    sampler : Sampler
    denoise : callable
        ``denoise(z, t)``: estimate of the label embedding, of the shape of `z`.
    schedule : Schedule
    z : Tensor of shape (..., embedding_dim)
        Latent at the first time: pure noise where that is 0.
    times : Tensor of shape (n_steps + 1,)
        Ascending.
    noise : Tensor of shape (n_steps, ...), optional
        Noise of each step, for stochastic samplers.

    Yields
    ------
    Tensor of the shape of `z`
        At each time after the first. A deterministic sampler's last step is the exact one of
        `ProbabilityFlowSampler` whatever the sampler: at the last time there is (almost) no
        noise left, and the velocity there divides by it.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.samplers import EulerSampler, integrate
    >>> from sknoprop.schedules import StraightLineSchedule
    >>> label, times = torch.tensor([1.0, 0.0]), torch.linspace(0.0, 1.0, 5)
    >>> path = StraightLineSchedule(), torch.tensor([-1.0, 1.0]), times
    >>> [z.tolist() for z in integrate(EulerSampler(), lambda z, t: label, *path)]
    [[-0.5, 0.75], [0.0, 0.5], [0.5, 0.25], [1.0, 0.0]]
    """
    n_steps = len(times) - 1
    last = ProbabilityFlowSampler()
    for k in range(n_steps):
        step = sampler if sampler.stochastic or k < n_steps - 1 else last
        eps = None if noise is None else noise[k]
        z = step.step(denoise, schedule, z, times[k], times[k + 1], eps)
        yield z
