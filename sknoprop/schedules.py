"""Noise schedules: how much label and how much noise a latent holds at each time.

Every schedule describes the Gaussian path::

    z_t = signal(t) * u + noise(t) * eps,      eps ~ N(0, I),  t in [0, 1],

from pure noise at ``t = 0`` to the label embedding ``u`` at ``t = 1``, as in NoProp (Li, Teh &
Pascanu 2025, arXiv:2503.24322). The signal-to-noise ratio ``snr(t) = signal(t)**2 / noise(t)**2``
rises with ``t``: towards the label, never away from it. Its logarithm is what defines a schedule
(Kingma, Salimans, Poole & Ho 2021, arXiv:2107.00630).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "SCHEDULES",
    "CosineSchedule",
    "LearnedSchedule",
    "LinearSchedule",
    "Schedule",
    "SigmoidSchedule",
    "StraightLineSchedule",
    "VariancePreservingSchedule",
]


class Schedule(nn.Module, ABC):
    """A Gaussian path from noise (``t = 0``) to the label embedding (``t = 1``).

    A schedule of one's own derives from `VariancePreservingSchedule` (and gives `log_snr`) or from
    this class (and gives `log_snr`, `signal`, `noise`, `clock` and `velocity_coefficients`). All
    methods take a tensor of times in [0, 1] of any shape and return one of that shape.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.schedules import SCHEDULES
    >>> signals = {k: schedule().signal(torch.tensor(0.5)) for k, schedule in SCHEDULES.items()}
    >>> {name: round(signal.item(), 2) for name, signal in signals.items()}
    {'cosine': 0.7, 'linear': 0.28, 'sigmoid': 0.71, 'straight': 0.5, 'learned': 0.22}
    """

    #: Whether training moves the schedule, which then is shared by all blocks.
    trainable = False

    @abstractmethod
    def log_snr(self, t: Tensor) -> Tensor:
        """Logarithm of the signal-to-noise ratio; rises with `t`.

        Parameters
        ----------
        t : Tensor of shape (...)

        Returns
        -------
        Tensor of shape (...)
        """

    @abstractmethod
    def signal(self, t: Tensor) -> Tensor:
        """Factor of the label embedding in ``z_t``.

        Parameters
        ----------
        t : Tensor of shape (...)

        Returns
        -------
        Tensor of shape (...)
        """

    @abstractmethod
    def noise(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise in ``z_t``.

        Parameters
        ----------
        t : Tensor of shape (...)

        Returns
        -------
        Tensor of shape (...)
        """

    @abstractmethod
    def clock(self, t: Tensor) -> Tensor:
        """Time tau in which velocities are measured: ``d tau = s dm - m ds``.

        With m and s the signal and noise, tau is twice the area that the ray to the point (s, m)
        sweeps over. On the straight line it is t, on a variance-preserving path the angle of that
        point. A path can be infinitely fast in t at its ends, in tau it never is.

        Parameters
        ----------
        t : Tensor of shape (...)

        Returns
        -------
        Tensor of shape (...)
        """

    @abstractmethod
    def velocity_coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives of `signal` and `noise` with respect to `clock`.

        With these, ``u = s v - (ds / d tau) z`` for the velocity ``v`` of a latent ``z``.

        Parameters
        ----------
        t : Tensor of shape (...)

        Returns
        -------
        signal_rate, noise_rate : Tensor of shape (...)
        """

    def snr(self, t: Tensor) -> Tensor:
        """Signal-to-noise ratio ``signal(t)**2 / noise(t)**2``.

        Parameters
        ----------
        t : Tensor of shape (...)

        Returns
        -------
        Tensor of shape (...)
        """
        return self.log_snr(t).exp()

    def log_snr_derivative(self, t: Tensor) -> Tensor:
        """Time derivative of `log_snr`; by automatic differentiation unless overridden.

        Parameters
        ----------
        t : Tensor of shape (...)

        Returns
        -------
        Tensor of shape (...)
        """
        with torch.enable_grad():
            t = t if t.requires_grad else t.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.log_snr(t).sum(), t, create_graph=self.trainable)
        return slope

    def snr_derivative(self, t: Tensor) -> Tensor:
        """``SNR'(t)``, the weight of the continuous-time loss (paper, equation 9); positive.

        Parameters
        ----------
        t : Tensor of shape (...)

        Returns
        -------
        Tensor of shape (...)
        """
        snr = self.snr(t)
        # Where there is no signal at all the slope of its logarithm is infinite.
        return torch.where(snr == 0.0, 0.0, snr * self.log_snr_derivative(t))


class VariancePreservingSchedule(Schedule):
    """Schedules with ``signal**2 + noise**2 = 1``.

    ``signal**2 = sigmoid(log_snr)`` is the paper's ``alpha_bar``, the signal's share of variance.
    """

    def signal(self, t: Tensor) -> Tensor:
        return torch.sigmoid(self.log_snr(t)).sqrt()

    def noise(self, t: Tensor) -> Tensor:
        return torch.sigmoid(-self.log_snr(t)).sqrt()

    def clock(self, t: Tensor) -> Tensor:
        return torch.atan((0.5 * self.log_snr(t)).exp())

    def velocity_coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        # m = sin(tau), s = cos(tau): this velocity is the v of Salimans & Ho (2022,
        # arXiv:2202.00512).
        return self.noise(t), -self.signal(t)


def _check_bounds(low: float, high: float) -> None:
    if not -700.0 < low < high < 700.0:  # what has an exponential in double precision
        wanted = "log_snr_min < log_snr_max, both between -700 and 700"
        raise ValueError(f"A schedule needs {wanted}. Got {low} and {high}.")


class _ClippedSchedule(VariancePreservingSchedule):
    """A fixed schedule of textbook form whose log SNR is infinite at the ends.

    Clipping the *values* would make the ends flat and the loss weight there zero, so the *time*
    is clipped instead: ``[0, 1]`` is mapped linearly onto the part of the textbook schedule in
    which the log SNR lies in ``[log_snr_min, log_snr_max]``. It stays strictly monotone. With the
    defaults the signal at ``t = 0`` is 3e-4 and the noise at ``t = 1`` is 0.018.
    """

    def __init__(self, log_snr_min: float = -16.0, log_snr_max: float = 8.0) -> None:
        super().__init__()
        _check_bounds(log_snr_min, log_snr_max)
        self.log_snr_min = log_snr_min
        self.log_snr_max = log_snr_max
        self._start = self._time_of(log_snr_min)
        self._span = self._time_of(log_snr_max) - self._start

    def extra_repr(self) -> str:
        return f"log_snr_min={self.log_snr_min}, log_snr_max={self.log_snr_max}"

    def log_snr(self, t: Tensor) -> Tensor:
        return self._textbook_log_snr(self._start + self._span * t)

    @abstractmethod
    def _textbook_log_snr(self, t: Tensor) -> Tensor:
        """Log SNR of the unclipped schedule."""

    @abstractmethod
    def _time_of(self, log_snr: float) -> float:
        """Its inverse: the time in [0, 1] at which the unclipped log SNR has this value."""


class CosineSchedule(_ClippedSchedule):
    """``alpha_bar(t) = sin(pi t / 2)**2``: the paper's choice for discrete time.

    That of Nichol & Dhariwal (2021, arXiv:2102.09672), with time running towards the label.

    Parameters
    ----------
    log_snr_min, log_snr_max : float, default=-16.0 and 8.0
        Log SNR at ``t = 0`` and ``t = 1``.
    """

    def _textbook_log_snr(self, t: Tensor) -> Tensor:
        return 2.0 * torch.tan(0.5 * math.pi * t).log()

    def _time_of(self, log_snr: float) -> float:
        return 2.0 / math.pi * math.atan(math.exp(0.5 * log_snr))

    def log_snr_derivative(self, t: Tensor) -> Tensor:
        # d/dx 2 log tan(pi x / 2) = 2 pi / sin(pi x)
        return 2.0 * math.pi * self._span / torch.sin(math.pi * (self._start + self._span * t))


class LinearSchedule(_ClippedSchedule):
    """Noise rate linear in time, ``alpha_bar = exp(-0.1 s - 9.95 s**2)`` with ``s = 1 - t``.

    The continuous form of the linear schedule of Ho, Jain & Abbeel (2020, arXiv:2006.11239),
    as in Song et al. (2021, arXiv:2011.13456, VP-SDE): ``beta`` rises from 0.1 to 20 away from
    the label. Its log SNR is at least -10.05, so a lower `log_snr_min` has no effect.

    Parameters
    ----------
    log_snr_min, log_snr_max : float, default=-16.0 and 8.0
        Bounds of the log SNR; at ``t = 0`` it is the larger of `log_snr_min` and -10.05.
    """

    beta_min, beta_max = 0.1, 20.0

    def _minus_log_alpha_bar(self, t: Tensor) -> Tensor:
        s = 1.0 - t
        return self.beta_min * s + 0.5 * (self.beta_max - self.beta_min) * s**2

    def _textbook_log_snr(self, t: Tensor) -> Tensor:
        # alpha_bar = exp(-b), so SNR = 1 / (exp(b) - 1).
        return -torch.expm1(self._minus_log_alpha_bar(t)).log()

    def _time_of(self, log_snr: float) -> float:
        # b = log(1 + exp(-log_snr)) solves the quadratic of _minus_log_alpha_bar.
        b = math.log1p(math.exp(-log_snr))
        half = 0.5 * (self.beta_max - self.beta_min)
        s = (-self.beta_min + math.sqrt(self.beta_min**2 + 4 * half * b)) / (2 * half)
        return 1.0 - min(s, 1.0)

    def log_snr_derivative(self, t: Tensor) -> Tensor:
        inner = self._start + self._span * t
        rate = self.beta_min + (self.beta_max - self.beta_min) * (1.0 - inner)
        return self._span * rate / -torch.expm1(-self._minus_log_alpha_bar(inner))


class SigmoidSchedule(_ClippedSchedule):
    """``alpha_bar`` follows a logistic curve from -3 to 3, rescaled to run from 0 to 1.

    The sigmoid schedule of Jabri, Fleet & Chen (2022, arXiv:2212.11972).

    Parameters
    ----------
    log_snr_min, log_snr_max : float, default=-16.0 and 8.0
        Log SNR at ``t = 0`` and ``t = 1``.
    """

    reach = 3.0

    def _textbook_log_snr(self, t: Tensor) -> Tensor:
        # SNR = (curve(t) - curve(0)) / (curve(1) - curve(t)) with curve(t) the logistic function
        # of reach (2 t - 1). Since sigmoid(a) - sigmoid(b) is sinh((a - b) / 2) over
        # 2 cosh(a / 2) cosh(b / 2), it is a ratio of two sinh, exact to the ends of time.
        return torch.log(torch.sinh(self.reach * t) / torch.sinh(self.reach * (1.0 - t)))

    def _time_of(self, log_snr: float) -> float:
        # sinh(r t) / sinh(r (1 - t)) = e solved for t.
        e, r = math.exp(log_snr), self.reach
        return math.atanh(e * math.sinh(r) / (1.0 + e * math.cosh(r))) / r

    def log_snr_derivative(self, t: Tensor) -> Tensor:
        inner = self._start + self._span * t
        r = self.reach
        return self._span * r * (1.0 / torch.tanh(r * inner) + 1.0 / torch.tanh(r * (1.0 - inner)))


class StraightLineSchedule(Schedule):
    """``signal = t``, ``noise = 1 - t``: flow matching's straight path (paper, equation 10)."""

    def log_snr(self, t: Tensor) -> Tensor:
        return 2.0 * (t.log() - torch.log1p(-t))

    def signal(self, t: Tensor) -> Tensor:
        return t

    def noise(self, t: Tensor) -> Tensor:
        return 1.0 - t

    def log_snr_derivative(self, t: Tensor) -> Tensor:
        return 2.0 / (t * (1.0 - t))

    def clock(self, t: Tensor) -> Tensor:
        return t

    def velocity_coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), -torch.ones_like(t)


class LearnedSchedule(VariancePreservingSchedule):
    """A schedule learned with the network, monotone by construction (paper, appendix B).

    ``alpha_bar(t) = sigmoid(-gamma(t))``, ``gamma(t) = gamma_0 + (gamma_1 - gamma_0) (1 - g(t))``,
    where ``g`` rises from 0 to 1 and is a normalised two-layer network whose weights are all
    positive, after Kingma et al. (2021). The paper leaves the network's form open; here it is
    ``slope * t + sum_j out_j * sigmoid(in_j * t + bias_j)`` with positive slope, out and in.

    Parameters
    ----------
    n_hidden : int, default=64
        Number of sigmoid units.
    log_snr_min, log_snr_max : float, default=-12.0 and 6.0
        Initial log SNR at ``t = 0`` and ``t = 1`` (``-gamma_1`` and ``-gamma_0``); learned.
    """

    trainable = True

    def __init__(
        self, n_hidden: int = 64, log_snr_min: float = -12.0, log_snr_max: float = 6.0
    ) -> None:
        super().__init__()
        _check_bounds(log_snr_min, log_snr_max)
        if n_hidden < 1 or n_hidden != int(n_hidden):
            raise ValueError(f"n_hidden must be a positive int. Got {n_hidden!r}.")
        # softplus(raw) is the weight. The units' centres are spread over [0, 1] at the start
        # so that the initial curve is close to a straight line in the log SNR.
        units = torch.arange(n_hidden, dtype=torch.float32)
        self.slope_ = nn.Parameter(units.new_zeros(()))
        self.in_ = nn.Parameter(torch.full_like(units, 10.0))
        self.bias_ = nn.Parameter(-10.0 * (units + 0.5) / n_hidden)
        self.out_ = nn.Parameter(torch.full_like(units, math.log(math.expm1(1.0 / n_hidden))))
        self.gamma_0_ = nn.Parameter(units.new_tensor(-log_snr_max))
        width = log_snr_max - log_snr_min
        self.width_ = nn.Parameter(units.new_tensor(width + math.log(-math.expm1(-width))))

    def _network(self, t: Tensor) -> Tensor:
        units = torch.sigmoid(F.softplus(self.in_) * t.unsqueeze(-1) + self.bias_)
        return F.softplus(self.slope_) * t + units @ F.softplus(self.out_)

    def log_snr(self, t: Tensor) -> Tensor:
        ends = self._network(torch.arange(2.0, dtype=t.dtype, device=t.device))
        rise = (self._network(t) - ends[0]) / (ends[1] - ends[0])
        return -self.gamma_0_ - F.softplus(self.width_) * (1.0 - rise)

    def log_snr_derivative(self, t: Tensor) -> Tensor:
        ends = self._network(torch.arange(2.0, dtype=t.dtype, device=t.device))
        rate, out = F.softplus(self.in_), F.softplus(self.out_)
        units = torch.sigmoid(rate * t.unsqueeze(-1) + self.bias_)
        slope = F.softplus(self.slope_) + (units * (1.0 - units)) @ (rate * out)
        return F.softplus(self.width_) * slope / (ends[1] - ends[0])


#: Names a user may give for a schedule.
SCHEDULES: dict[str, type[Schedule]] = {
    "cosine": CosineSchedule,
    "linear": LinearSchedule,
    "sigmoid": SigmoidSchedule,
    "straight": StraightLineSchedule,
    "learned": LearnedSchedule,
}
