"""Which features are cut into bins, and where.

On the standardised value of a feature a layer bends where training has moved its units to; on
linear pieces it can bend at each edge. Continuous features have edges at quantiles. That misses
two kinds: features of few levels, which may be codes in no order, and those with values that many
rows share, such as amounts that are mostly nought, where most quantiles are the same. To cut all
of them makes inputs many and teaches little, so labels are asked (`sknoprop.networks.departures`).
"""

from __future__ import annotations

import numpy as np

from sknoprop.networks.departures import departure_from_linear

__all__ = ["edges_of_pieces"]

#: Chance of a departure as great as seen, were there none, below which it is believed.
BELIEVED = 1e-3

#: Distinct values a bin that a feature must have to count as continuous, in as many bins as asked
#: for or in eight. (More bins than values allow are as many as they allow.)
VALUES_A_BIN, USUAL = 4, 8

#: Distinct values below which those of others are levels.
MOST_LEVELS = 32

#: Rows that a value with an edge of its own must have, and a bin of other values in the mean.
ROWS_A_BIN = 8

#: Share of the labels' variance that must depart from a line, for levels to have edges, and for
#: values that many rows share in features which have pieces anyway. (Pixels of ten digits stay
#: below the first. So do three levels of more than twenty classes, whatever they say.)
BEND_OF_LEVELS, BEND_OF_SHARED = 0.05, 0.01

#: Times the number of rows, what is enough where departures may be faint, from four hundred rows
#: on. (The day of a month says little about delays by itself, and much together with the month.)
FAINT_LEVELS, FAINT_SHARED = 20, 4


def edges_of_pieces(
    values: np.ndarray, n_bins: int, labels: np.ndarray | None, faint: bool = False
) -> np.ndarray:
    """Edges of the linear pieces of a feature, or fewer than three where it gets none.

    Continuous features have edges at quantiles, others have none. Where labels clearly depart from
    a line there is an edge at each value that many rows share, with one at either side, and at
    quantiles of the other values; or at each level, if there are few.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
        Not all the same.
    n_bins : int
        At least 2.
    labels : ndarray of shape (n_samples,), int64, or None
        Not negative.
    faint : bool, default=False
        Whether of more than four hundred rows a smaller departure is enough.

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
    if distinct[-1] / 2 - distinct[0] / 2 > np.finfo(np.float64).max / 2:
        return np.empty(0)  # no width of a bin is that large
    continuous = len(distinct) >= VALUES_A_BIN * min(n_bins, USUAL)
    n_bins = min(n_bins, max(len(distinct) // VALUES_A_BIN, USUAL))
    edges = _quantiles(values, n_bins) if continuous else np.empty(0)
    if labels is None or not (continuous or 2 < len(distinct) < MOST_LEVELS):
        return edges
    many = max(len(values) / n_bins if continuous else 0, ROWS_A_BIN)
    shared = np.flatnonzero(counts >= many)
    own = distinct[shared]
    if continuous:
        if not len(shared):
            return edges
        beside = distinct[np.clip([shared - 1, shared + 1], 0, len(distinct) - 1)]
        others = values[~np.isin(values, own)]
        quantiles = _quantiles(others, min(n_bins, len(others) // ROWS_A_BIN))
        own = np.unique(np.concatenate([own, *beside, quantiles]))
    if len(own) < 3:
        return edges
    # A bin begins with its edge, and so does the last value, if many rows share it.
    inner = own[1:] if counts[-1] >= many else own[1:-1]
    bins = np.searchsorted(inner, values, side="right")
    n_classes = int(labels.max()) + 1
    table = np.bincount(bins * n_classes + labels, minlength=len(own) * n_classes)
    # In units of the largest, from the smallest on: no units overflow, and no offset hides digits.
    unit = max(-distinct[0], distinct[-1])
    sums = np.bincount(bins, values / unit - distinct[0] / unit, minlength=len(own))
    size = np.bincount(bins, minlength=len(own))
    filled = size > 0
    means = sums[filled] / size[filled]
    chance, bend = departure_from_linear(table.reshape(-1, n_classes)[filled], means)
    enough = BEND_OF_SHARED if continuous else BEND_OF_LEVELS
    if faint:
        enough = min(enough, (FAINT_SHARED if continuous else FAINT_LEVELS) / len(values))
    return own if chance < BELIEVED and bend >= enough else edges


def _quantiles(values: np.ndarray, n_bins: int) -> np.ndarray:
    """Edges of as many bins with the same number of rows each, those that differ."""
    if n_bins == 0:
        return np.empty(0)
    return np.unique(np.quantile(values, np.linspace(0.0, 1.0, n_bins + 1)))
