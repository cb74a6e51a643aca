"""Which features are cut into bins, and where.

On the standardised value of a feature a layer bends where training has moved its units to; on
linear pieces it can bend at each edge. That is worth much where labels bend, and costs where they
do not: more inputs, and more to learn rows by heart from. So labels are asked. Pearson's
chi-squared of classes in bins is the sum of two parts: what frequencies that are linear in the
bins' scores explain, and the departure from them (Cochran 1954, Armitage 1955, for two classes; a
sum over classes for more). Each has the chi-squared law where there is nothing to explain, if no
class is too rare.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

__all__ = ["Trend", "edges_of_pieces", "trend"]

#: Chance of departures or lines as great as seen, were there none, below which one is believed.
BELIEVED = 1e-3

#: Distinct values a bin that a feature must have to count as continuous.
VALUES_A_BIN = 4

#: Rows that a value with a bin of its own must have, and a bin of other values in the mean.
ROWS_A_BIN = 8

#: Share of the labels' variance that departs from a line, for which features of few levels and
#: those of many, but with values that many rows share, get bins that those would not get.
BEND_OF_LEVELS, BEND_OF_HEAVY = 0.05, 0.01


class Trend(NamedTuple):
    """How the frequencies of classes change over bins.

    Attributes
    ----------
    line : float
        Chance of a line as steep, did classes not depend on the bin.
    departure : float
        Chance of as great a departure, were frequencies linear in the scores.
    bend : float
        Share of the variance of the classes' indicators that is between bins and not on the line,
        less what chance gives: the mean over classes, each with weight one less its frequency.
    """

    line: float
    departure: float
    bend: float


def trend(counts: np.ndarray, scores: np.ndarray) -> Trend:
    """Chi-squared tests of a linear trend in frequencies of classes, and of departure from it.

    Parameters
    ----------
    counts : ndarray of shape (n_bins, n_classes)
        Rows of each class in each bin; no bin is empty.
    scores : ndarray of shape (n_bins,)
        Not all the same.

    Returns
    -------
    Trend

    Examples
    --------
    >>> import numpy as np
    >>> from sknoprop.networks.bins import trend
    >>> counts = np.array([[50, 50], [50, 50], [10, 90]])
    >>> found = trend(counts, np.arange(3.0))
    >>> found.line < 1e-8, found.departure < 1e-3
    (True, True)
    >>> round(found.bend, 3)
    0.035
    """
    counts = np.asarray(counts, dtype=np.float64)
    counts = counts[:, counts.sum(0) > 0]
    n_bins, n_classes = counts.shape
    n = counts.sum()
    size, frequency = counts.sum(1), counts.sum(0) / n
    scores = scores - size @ scores / n
    apart = counts - np.outer(size, frequency)
    slope = scores @ apart / (size @ scores**2)
    on_line = np.outer(size * scores, slope)
    line, departure = (
        float((part**2 / np.outer(size, frequency)).sum()) for part in (on_line, apart - on_line)
    )
    of_line, free = n_classes - 1, max((n_bins - 2) * (n_classes - 1), 0)
    bend = (departure - free) / float(n * of_line) if free else 0.0
    return Trend(_chance(line, of_line), _chance(departure, free), bend)


def _chance(statistic: float, freedom: int) -> float:
    """Of a chi-squared number as large."""
    if freedom == 0:
        return 1.0
    half = torch.tensor([freedom, statistic], dtype=torch.float64) / 2
    return float(torch.special.gammaincc(half[0], half[1]))


def edges_of_pieces(values: np.ndarray, n_bins: int, labels: np.ndarray | None) -> np.ndarray:
    """Edges of the linear pieces of a feature, or fewer than three where it gets none.

    Without labels, continuous features have edges at quantiles and others have none. With labels,
    those lose them that are seen to be on a line, and nothing more is seen. Those that clearly
    depart from one get an edge at each value that many rows share (of few levels, at all that are
    not rare), and at quantiles of the other values. A feature of which labels show neither is left
    as it is: alone it may say nothing, and with another all.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
        Not all the same.
    n_bins : int
        At least 2.
    labels : ndarray of shape (n_samples,), int, or None
        Not negative.

    Returns
    -------
    ndarray of shape (n_edges,)
        Rising.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoprop.networks.bins import edges_of_pieces
    >>> values = np.arange(200) % 5.0
    >>> edges_of_pieces(values, 8, labels=None)  # of few levels
    array([], dtype=float64)
    >>> edges_of_pieces(values, 8, labels=(values == 2).astype(int))
    array([0., 1., 2., 3., 4.])
    """
    distinct, counts = np.unique(values, return_counts=True)
    continuous = len(distinct) >= VALUES_A_BIN * n_bins
    edges = _quantiles(values, n_bins) if continuous else np.empty(0)
    if labels is None or len(distinct) < 3:
        return edges
    many = max(len(values) / n_bins, ROWS_A_BIN) if continuous else ROWS_A_BIN
    heavy = distinct[counts >= many]
    own = edges
    if len(heavy) or not continuous:
        others = values[~np.isin(values, heavy)]
        own = np.union1d(heavy, _quantiles(others, min(n_bins, len(others) // ROWS_A_BIN)))
    if len(own) < 3:
        return edges
    # A bin begins with its edge. The last edge begins one if many rows share it.
    inner = own[1:] if own[-1] in heavy else own[1:-1]
    bins = np.unique(np.searchsorted(inner, values, side="right"), return_inverse=True)[1]
    size, n_classes = np.bincount(bins), int(labels.max()) + 1
    table = np.bincount(bins * n_classes + labels, minlength=len(size) * n_classes)
    # In units of the largest: neither huge nor tiny ones overflow.
    means = np.bincount(bins, values / np.abs(values).max()) / size
    seen = trend(table.reshape(len(size), n_classes), means)
    if seen.departure < BELIEVED:
        enough = seen.bend >= (BEND_OF_HEAVY if continuous else BEND_OF_LEVELS)
        return own if enough else edges
    return edges[:0] if seen.line < BELIEVED else edges


def _quantiles(values: np.ndarray, n_bins: int) -> np.ndarray:
    """Edges of as many bins with the same number of rows each, those that differ."""
    if n_bins == 0:
        return np.empty(0)
    return np.unique(np.quantile(values, np.linspace(0.0, 1.0, n_bins + 1)))
