"""Which features are cut more finely than others: those whose pieces leave much unsaid.

How many bins a table has is found with a few hundred rows, which cannot show what many rows would:
that classes along one feature, such as a coordinate or an amount, change more often than eight
pieces do. The features are asked one by one, so all rows can be: what do frequencies of classes in
fine bins depart from, if they are linear on the pieces (`sknoprop.networks.departures`)? Where that
is a hundredth of the labels' variance, the feature gets the fewest pieces that leave less. On five
tables of 13,000 to 40,000 rows that were learnt better for it this was 1 to 9 % in some features;
on flights, which a finer cut of all features made worse, less in each. Averages of pixels leave as
much, and were learnt worse; there fewer than eight bins are enough, and then a few hundred rows
have to speak for it (`sknoprop.networks.resolution`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sknoprop.networks.bins import BELIEVED, MOST_LEVELS
from sknoprop.networks.departures import Departure, departure_from_linear

__all__ = ["finer_edges", "finer_pieces"]

#: Share of the labels' variance, between fine bins and not linear on the pieces, that is much.
MUCH = 0.01

#: Rows of a fine bin, at least. (With half as many, contacts' edges told chance.)
ROWS_A_BIN = 100

#: Numbers of fine bins, if there are rows enough.
FINE = (16, 32, 64, 128, 256)


def finer_edges(
    values: np.ndarray, labels: np.ndarray, edges: np.ndarray
) -> tuple[float, np.ndarray] | None:
    """The fewest pieces of a feature that leave little unsaid.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
        Of one feature.
    labels : ndarray of shape (n_samples,), int64
        Not negative.
    edges : ndarray of shape (n_edges,)
        Of its pieces, rising, from the smallest to the largest value.

    Returns
    -------
    tuple of float and ndarray, or None
        What these pieces leave, and edges of more: those there are, and quantiles. None if it is
        not much.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoprop.networks.finer_bins import finer_edges
    >>> x, noise = np.random.default_rng(0).random((2, 20_000))
    >>> eight = np.quantile(x, np.linspace(0, 1, 9))
    >>> left, edges = finer_edges(x, np.floor(30 * x).astype(int) % 2, eight)
    >>> left > 0.5, len(edges) - 1
    (True, 128)
    >>> finer_edges(x, (x > noise).astype(int), eight) is None
    True
    """
    enough = [n for n in FINE if len(values) >= n * ROWS_A_BIN]
    if not enough:
        return None
    order = np.argsort(values)
    values, labels = values[order], labels[order]
    if np.count_nonzero(np.diff(values)) + 1 < MOST_LEVELS:
        return None
    # From the smallest on, in units of the range: no sum overflows, and no offset hides digits.
    start, unit = values[0], values[-1] - values[0]
    quantiles = np.quantile(values, np.linspace(0.0, 1.0, enough[-1] + 1))
    # The last edge is the largest value, and known to it but for rounding.
    own = edges[:-1]
    cuts = np.unique(np.concatenate([own, quantiles]))
    starts = np.unique(np.searchsorted(values, cuts[:-1]))
    size = np.diff(starts, append=len(values))
    n_classes = int(labels.max()) + 1
    cells = np.repeat(np.arange(len(size)), size) * n_classes + labels
    counts = np.bincount(cells, minlength=len(size) * n_classes).reshape(-1, n_classes)
    means = np.add.reduceat((values - start) / unit, starts) / size

    def left_by(edges: np.ndarray) -> Departure:
        # No edge is inside a bin, so the pieces of its mean are the mean of its pieces.
        left = (edges[:-1] - start) / unit
        width = np.maximum(np.diff(edges) / unit, np.finfo(np.float64).tiny)
        pieces = np.clip((means[:, None] - left) / width, 0.0, 1.0)
        return departure_from_linear(counts, pieces)

    chance, unsaid = left_by(np.append(own, values[-1]))
    if chance >= BELIEVED or unsaid < MUCH:
        return None
    for n_bins in enough:
        finer = np.unique(np.concatenate([own, quantiles[:: enough[-1] // n_bins]]))
        if left_by(finer).bend < MUCH:
            break
    return unsaid, finer


def finer_pieces(
    X: np.ndarray, labels: np.ndarray, edges: Mapping[int, np.ndarray], most: int
) -> dict[int, np.ndarray]:
    """Edges of all features, finer where these leave much unsaid, and most of all there.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Training data, finite.
    labels : ndarray of shape (n_samples,), int
        Not negative.
    edges : mapping of int to ndarray of shape (n_edges,)
        By feature, for all that are cut.
    most : int
        Pieces of all features together, of which there are fewer.

    Returns
    -------
    dict of int to ndarray of shape (n_edges,)
        By feature.
    """
    labels = np.asarray(labels, dtype=np.int64)
    found = {j: finer_edges(np.asarray(X[:, j], float), labels, edges[j]) for j in edges}
    pieces, n_pieces = dict(edges), sum(len(own) - 1 for own in edges.values())
    asking = {j: finer for j, finer in found.items() if finer is not None}
    for j in sorted(asking, key=lambda j: -asking[j][0]):
        more = len(asking[j][1]) - len(edges[j])
        if n_pieces + more < most:
            pieces[j], n_pieces = asking[j][1], n_pieces + more
    return pieces
