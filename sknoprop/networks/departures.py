"""How far classes' frequencies are from linear in what is known of bins: a chi-squared test.

Pearson's chi-squared of classes in bins is the sum of what frequencies that are linear in the bins'
scores explain, and of the departure from them: Cochran (1954) and Armitage (1955) for two classes
and one score; a sum over classes for more, and a regression on several scores at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

__all__ = ["Departure", "departure_from_linear"]

#: Share of what is expected of a class in a bin below which a line does not fall.
LEAST = 0.1

#: Size of a score, in units of the largest, below which what others do not say of it is rounding.
ROUNDING = 1e-9


class Departure(NamedTuple):
    """How far frequencies of classes are from linear in the scores of bins.

    Attributes
    ----------
    chance : float
        Of as great a departure, were they linear.
    bend : float
        Share of the variance of the classes' indicators that is between bins and not linear, less
        what chance gives: the mean over classes, each with weight one less its frequency.
    """

    chance: float
    bend: float


def departure_from_linear(counts: np.ndarray, scores: np.ndarray) -> Departure:
    """Chi-squared test of departure from frequencies of classes that are linear in scores.

    Parameters
    ----------
    counts : ndarray of shape (n_bins, n_classes)
        Rows of each class in each bin; no bin is empty.
    scores : ndarray of shape (n_bins,) or (n_bins, n_scores)
        What the rows of a bin are in the mean.

    Returns
    -------
    Departure
        None, of chance one, where scores leave no bin to tell by, or there is one class.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoprop.networks.departures import departure_from_linear
    >>> counts = np.array([[50, 50], [50, 50], [10, 90]])
    >>> found = departure_from_linear(counts, np.arange(3.0))
    >>> found.chance < 1e-3, round(found.bend, 3)
    (True, 0.035)
    >>> departure_from_linear(counts, np.eye(3)[:, :2])
    Departure(chance=1.0, bend=0.0)
    """
    counts = np.asarray(counts, dtype=np.float64)
    counts = counts[:, counts.sum(0) > 0]
    n_bins, n_classes = counts.shape
    n = float(counts.sum())
    size, frequency = counts.sum(1), counts.sum(0) / n
    expected = np.outer(size, frequency)
    # Weighted regression: rows by the root of their weight, scores from their mean.
    root = np.sqrt(size)[:, None]
    scores = scores.reshape(n_bins, -1)
    scores = (scores - size @ scores / n) * root
    directions, lengths, _ = np.linalg.svd(scores, full_matrices=False)
    directions = directions[:, lengths > ROUNDING * lengths.max(initial=0.0)]
    free = (n_bins - 1 - directions.shape[1]) * (n_classes - 1)
    if free < 1:
        return Departure(1.0, 0.0)
    linear = root * (directions @ (directions.T @ ((counts - expected) / root)))
    rest = (counts - expected - linear) ** 2
    # A departure is from what scores expect, which in some bins may be much less than in all.
    fitted = np.maximum(expected + linear, LEAST * expected)
    half = torch.tensor([free, (rest / fitted).sum()], dtype=torch.float64) / 2
    chance = float(torch.special.gammaincc(half[0], half[1]))
    return Departure(chance, (float((rest / expected).sum()) - free) / (n * (n_classes - 1)))
