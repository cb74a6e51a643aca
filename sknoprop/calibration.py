"""Temperature: how sure the blocks' estimates may be.

Networks are trained to be right, not to be as sure as they are right. One number mends most of it:
class probabilities are taken to the power ``1 / T`` and normalised (temperature scaling: Guo et
al. 2017, arXiv:1706.04599), with the T that makes labels of rows that were not trained on
likeliest.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sknoprop.kernels import sum_of_classes

__all__ = ["fit_temperature", "tempered", "tempered_losses"]

#: Standard deviation of ``log T`` before any row is seen: few rows say little about it.
PRIOR = 0.3

#: Largest temperature, and the inverse of the smallest.
MOST = 10.0


def tempered(p: Tensor, temperature: Tensor | float) -> Tensor:
    """Class probabilities to the power ``1 / temperature``, normalised.

    Parameters
    ----------
    p : Tensor of shape (..., n_classes)
        Not negative.
    temperature : Tensor of shape () or float
        Positive: above 1 less sure, below 1 surer.

    Returns
    -------
    Tensor of shape (..., n_classes)

    Examples
    --------
    >>> import torch
    >>> from sknoprop.calibration import tempered
    >>> tempered(torch.tensor([0.8, 0.2]), 2.0).round(decimals=4)
    tensor([0.6667, 0.3333])
    """
    # Relative to the largest, lest all be too small for a power.
    power = (p / p.amax(-1, keepdim=True)) ** (1.0 / temperature)
    return power / sum_of_classes(power)[..., None]


def tempered_losses(p: Tensor, y: Tensor, temperature: Tensor | float) -> Tensor:
    """Log loss of each row by the mean of several estimates, each of them tempered.

    Parameters
    ----------
    p : Tensor of shape (n_estimates, n_samples, n_classes)
    y : Tensor of shape (n_samples,)
        Numbers of the classes.
    temperature : Tensor of shape () or float

    Returns
    -------
    Tensor of shape (n_samples,)

    Examples
    --------
    >>> import torch
    >>> from sknoprop.calibration import tempered_losses
    >>> p = torch.tensor([[[0.8, 0.2]]])
    >>> tempered_losses(p, torch.tensor([0]), 2.0).round(decimals=4)  # -log(2 / 3)
    tensor([0.4055])
    """
    own = y.expand(len(p), -1)[..., None]
    likelihood = tempered(p, temperature).gather(-1, own)[..., 0].mean(0)
    return -likelihood.clamp_min(torch.finfo(p.dtype).tiny).log()


def fit_temperature(p: Tensor, y: Tensor, sample_weight: Tensor | None = None) -> float:
    """The likeliest temperature of estimates, given labels that they were not trained on.

    Minimises the log loss of the estimates' mean, each tempered, summed over the rows, plus
    ``(log T)**2 / (2 * 0.3**2)``: log T is taken to be normal, with mean zero, before rows are
    seen.

    Parameters
    ----------
    p : Tensor of shape (n_estimates, n_samples, n_classes), float64
    y : Tensor of shape (n_samples,)
        Numbers of the classes.
    sample_weight : Tensor of shape (n_samples,), optional
        By default all rows weigh one.

    Returns
    -------
    float
        From 0.1 to 10.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.calibration import fit_temperature
    >>> p = torch.tensor([[[0.99, 0.01]]]).expand(1, 100, 2)  # always sure of the first class
    >>> y = (torch.arange(100) % 4 == 0).long()  # which one row in four is not of
    >>> fit_temperature(p.double(), y) > 2
    True
    """
    weight = torch.ones_like(y, dtype=p.dtype) if sample_weight is None else sample_weight

    def cost(log_t: float) -> float:
        losses = tempered_losses(p, y, math.exp(log_t))
        return float((weight * losses).sum()) + 0.5 * (log_t / PRIOR) ** 2

    # Golden sections: of one estimate the cost falls to its least value and rises again.
    ratio = 0.5 * (math.sqrt(5.0) - 1.0)
    low, high = -math.log(MOST), math.log(MOST)
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    of_left, of_right = cost(left), cost(right)
    while high - low > 1e-4:
        if of_left <= of_right:
            high, right, of_right = right, left, of_left
            left = high - ratio * (high - low)
            of_left = cost(left)
        else:
            low, left, of_left = left, right, of_right
            right = low + ratio * (high - low)
            of_right = cost(right)
    return math.exp(0.5 * (low + high))
