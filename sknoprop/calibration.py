"""Temperature: how sure the blocks' estimates may be.

Networks are trained to be right, not to be as sure as they are right. One number mends most of it:
class probabilities are taken to the power ``1 / T`` and normalised (temperature scaling: Guo et
al. 2017, arXiv:1706.04599), with the T that makes labels of rows that were not trained on
likeliest. The mean of estimates that differ is less sure than they are, so its T is lower.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sknoprop.rowwise import power, sum_of_classes

__all__ = ["fit_temperature", "gain_of_mean", "temperature_ratio", "tempered", "tempered_losses"]

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
    powers = power(p / p.amax(-1, keepdim=True), 1.0 / temperature)
    return powers / sum_of_classes(powers)[..., None]


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


def fit_temperature(
    p: Tensor, y: Tensor, sample_weight: Tensor | None = None, expected: float = 1.0
) -> float:
    """The likeliest temperature of estimates, given labels that they were not trained on.

    Minimises the log loss of the estimates' mean, each tempered, summed over the rows, plus
    ``log(T / expected)**2 / (2 * 0.3**2)``: log T is taken to be normal before rows are seen.

    Parameters
    ----------
    p : Tensor of shape (n_estimates, n_samples, n_classes), float64
    y : Tensor of shape (n_samples,)
        Numbers of the classes.
    sample_weight : Tensor of shape (n_samples,), optional
        By default all rows weigh one.
    expected : float, default=1.0
        The likeliest temperature before rows are seen.

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
    centre = math.log(expected)

    def cost(log_t: float) -> float:
        losses = tempered_losses(p, y, math.exp(log_t))
        return float((weight * losses).sum()) + 0.5 * ((log_t - centre) / PRIOR) ** 2

    # Of one estimate it falls to its least value and rises again.
    return math.exp(_minimum(cost, -math.log(MOST), math.log(MOST)))


def gain_of_mean(p: Tensor) -> Tensor:
    """By how much the mean of estimates has the lower log loss than they have on the average.

    It needs no labels: it is what is expected if these are drawn from the mean m, the mean over
    estimates of the Kullback-Leibler divergence ``sum_c m_c log(m_c / p_c)``.

    Parameters
    ----------
    p : Tensor of shape (n_estimates, n_samples, n_classes)

    Returns
    -------
    Tensor of shape (n_samples,)
        Not negative; zero where all estimates are the same.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.calibration import gain_of_mean
    >>> gain_of_mean(torch.tensor([[[0.9, 0.1]], [[0.1, 0.9]]])).round(decimals=4)
    tensor([0.5108])
    """
    logs = p.clamp_min(torch.finfo(p.dtype).tiny).log()
    mean = p.mean(0)
    log_mean = mean.clamp_min(torch.finfo(p.dtype).tiny).log()
    return (mean * (log_mean - logs.mean(0))).sum(-1).clamp_min(0.0)


def temperature_ratio(p: Tensor, temperature: float, sample_weight: Tensor | None = None) -> float:
    """Temperature of the estimates' mean, relative to that of each alone.

    It needs no labels. Were they drawn from the mean at `temperature`, then a higher one would be
    likeliest for each estimate alone, as the mean is less sure than they are. By as much as that
    is higher is the mean's to be lower, for `temperature` to be the likeliest of each alone.

    Parameters
    ----------
    p : Tensor of shape (n_estimates, n_samples, n_classes), float64
    temperature : float
        Of each estimate alone.
    sample_weight : Tensor of shape (n_samples,), optional
        By default all rows weigh one.

    Returns
    -------
    float
        From 0.1 to 1, which it is if all estimates agree.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.calibration import temperature_ratio
    >>> p = torch.tensor([[[0.9, 0.1]], [[0.8, 0.2]]], dtype=torch.float64)
    >>> round(temperature_ratio(p, 1.0), 2)
    0.95
    """
    law = tempered(p, temperature).mean(0)
    if sample_weight is not None:
        law = law * sample_weight[:, None]
    log_p = p.clamp_min(torch.finfo(p.dtype).tiny).log()

    def surprise(log_ratio: float) -> float:
        scaled = log_p * (math.exp(log_ratio) / temperature)
        return -float((law * torch.log_softmax(scaled, -1)).sum())

    return math.exp(_minimum(surprise, -math.log(MOST), 0.0))


def _minimum(cost: Callable[[float], float], low: float, high: float) -> float:
    """Where a cost is least that falls and then rises, to one in ten thousand."""
    # By golden sections.
    ratio = 0.5 * (math.sqrt(5.0) - 1.0)
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    of_left, of_right = cost(left), cost(right)
    while high - low > 1e-4:
        if of_left < of_right:
            high, right, of_right = right, left, of_left
            left = high - ratio * (high - low)
            of_left = cost(left)
        else:
            low, left, of_left = left, right, of_right
            right = low + ratio * (high - low)
            of_right = cost(right)
    return 0.5 * (low + high)
