"""How finely features are cut: into as few bins as labels need, and at levels where it helps.

More bins bend more finely, and are more inputs: slower, and easier to learn by heart. Which counts
for more depends on the table. Where classes are clusters, or images, three bins are better than
eight and take a fraction of the time; where one feature by itself says much by its bends, eight are
better than three by far; where it says it by leaps at a few amounts, a hundred are. This can be
told before any block is trained, by ridge regression on the classes' indicators, whose error on
rows left out one at a time has a closed form (Allen 1974). It is given the bins, and a Gaussian
kernel beside them: what is smooth in all features a network learns without bins. (More bins also
weigh the features that are cut against those that are not, as they do in a network.)

The same tells whether to cut the levels of codes and counts by which labels depart from a line but
faintly, and single features more finely. Of many rows a departure is no chance, and may be the
trace of much that features say together; of pixels it only makes inputs many.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sknoprop.networks.bins import BEND_OF_LEVELS, FAINT_LEVELS, USUAL
from sknoprop.networks.finer_bins import finer_pieces
from sknoprop.networks.numbers import NumberEncoding

__all__ = ["enough_bins", "leave_one_out_error", "suited_encoding"]

#: Numbers of bins to choose from.
CHOICES = (3, 5, 8, 16, 32, 64, 128)

#: Features that are cut, up to which there are at least eight bins: so few are cheap to cut, and
#: fewer bins gain nothing there.
FEW_FEATURES = 10

#: How much more error fewer bins may have than the best: what is not worth the time of more.
TOLERANCE = 0.01

#: How much more error an encoding may make of the few rows that are judged, if these are a small
#: part of all. All rows may show what they do not; on pixels of digits it is 16 % and more.
HARMLESS = 0.05

#: How much less error it has to make where much speaks against it.
CLEARLY = 0.05

#: Rows that errors are measured on, and those that bins are measured on, at most.
ROWS_OF_ERROR, ROWS_OF_BINS = 800, 4_000

#: Penalties, where a centred kernel's diagonal is one in the mean.
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)

#: Largest leverage of a row, lest rounding errors divide by nought: with the smallest penalty and
#: as many rows it is smaller.
MOST_LEVERAGE = 1.0 - 1e-9


def leave_one_out_error(kernel: Tensor, targets: Tensor) -> float:
    """Squared error of kernel ridge regression on rows that it has not seen, one at a time.

    The fit to the other rows is not made: where a fit to all leaves ``e`` of a row whose leverage
    is ``h``, the fit without it leaves ``e / (1 - h)`` (Allen 1974). There is an intercept without
    a penalty. Of several penalties the best counts.

    Parameters
    ----------
    kernel : Tensor of shape (n_samples, n_samples), float64
        Inner products of rows, from whatever origin.
    targets : Tensor of shape (n_samples, n_targets), float64
        Not all rows the same.

    Returns
    -------
    float
        Relative to the targets' variance: one is no better than their mean.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.networks.resolution import leave_one_out_error
    >>> x = torch.linspace(-1.0, 1.0, 50, dtype=torch.float64)[:, None]
    >>> leave_one_out_error(x @ x.T, 3 * x) < 1e-6, leave_one_out_error(x @ x.T, x**2) > 1
    (True, True)
    """
    targets = targets - targets.mean(0)
    values, vectors = torch.linalg.eigh(_centered(kernel))
    values = values.clamp_min(0.0)
    products, squares = vectors.T @ targets, vectors**2
    errors = []
    for penalty in PENALTIES:
        kept = values / (values + penalty)
        residual = targets - vectors @ (kept[:, None] * products)
        leverage = (squares @ kept + 1.0 / len(kernel)).clamp_max(MOST_LEVERAGE)
        errors.append(float(((residual / (1.0 - leverage)[:, None]) ** 2).sum()))
    return min(errors) / float((targets**2).sum())


def _centered(kernel: Tensor) -> Tensor:
    """Inner products from the rows' mean, in units of their mean square distance from it."""
    mean = kernel.mean(0)
    kernel = kernel - mean - mean[:, None] + mean.mean()
    return kernel / kernel.diagonal().mean().clamp_min(torch.finfo(kernel.dtype).tiny)


def _gaussian(inputs: Tensor) -> Tensor:
    """Gaussian kernel with the median distance for its scale."""
    squares = (inputs**2).sum(1)
    apart = (squares[:, None] + squares - 2.0 * inputs @ inputs.T).clamp_min(0.0)
    scale, largest = float(apart.median()), float(apart.max())
    if scale <= torch.finfo(apart.dtype).eps * largest:  # most rows are alike
        scale = max(largest, 1.0)
    return torch.exp(-apart / scale)


class _Errors:
    """Errors of encodings of the same rows, each beside the same Gaussian kernel.

    Parameters
    ----------
    X, y : ndarray
        Training data, or some of their rows in any order; the first ones are judged.
    encoding : NumberEncoding
        That says what standardised values are.
    """

    def __init__(self, X: np.ndarray, y: np.ndarray, encoding: NumberEncoding) -> None:
        self.rows = torch.from_numpy(X[:ROWS_OF_ERROR])
        found = np.equal.outer(y[:ROWS_OF_ERROR], np.unique(y[:ROWS_OF_ERROR]))
        self.targets = torch.from_numpy(found.astype(np.float64))
        self.smooth = _centered(_gaussian(encoding.standardize(self.rows)))

    def of(self, encoding: NumberEncoding) -> float:
        inputs = encoding(self.rows)
        return leave_one_out_error(_centered(inputs @ inputs.T) + self.smooth, self.targets)


class _Choice:
    """An encoding whose place others take that do no harm.

    Parameters
    ----------
    n_samples : int
        Of which some are judged.
    errors : _Errors
    encoding : NumberEncoding
        The first.
    """

    def __init__(self, n_samples: int, errors: _Errors, encoding: NumberEncoding) -> None:
        self.encoding, self.errors, self.least = encoding, errors, np.nan
        # Where all rows are judged, no error more is harmless.
        self.left_out = max(1.0 - ROWS_OF_ERROR / n_samples, 0.0)

    def offer(self, other: NumberEncoding, more: float) -> None:
        """Take another encoding that has so much more error at most, by the least so far."""
        # Of more pieces than rows that are judged these cannot tell.
        if torch.equal(other.left, self.encoding.left) or len(other.column) >= ROWS_OF_ERROR:
            return
        if np.isnan(self.least):
            self.least = self.errors.of(self.encoding)
        error = self.errors.of(other)
        if error <= (1.0 + more * self.left_out) * self.least:
            self.encoding = other
        self.least = min(self.least, error)


def _some_rows(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows to judge by, drawn at random; None if they cannot be."""
    rows = np.random.default_rng(0).permutation(len(X))[:ROWS_OF_BINS]
    X, y = np.asarray(X[rows], dtype=np.float64), np.asarray(y[rows], dtype=np.int64)
    several = len(np.unique(y[:ROWS_OF_ERROR])) > 1
    # Rows that are not finite are refused where they are trained on, by what is wrong with them.
    return (X, y) if several and np.isfinite(X).all() else None


def suited_encoding(X: np.ndarray, y: np.ndarray, n_bins: int | None = None) -> NumberEncoding:
    """The encoding that labels ask for.

    Levels and shared values by which they depart from a line faintly are cut, too, unless that
    makes the error of kernel ridge regression on rows left out larger: by anything at all where all
    rows are judged, by `HARMLESS` where these are few of many. So are, if nobody says how many
    bins there are, features of many rows into more (`sknoprop.networks.finer_bins`); where fewer
    than eight are chosen only if that makes the error clearly smaller.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Training data.
    y : ndarray of shape (n_samples,), int
        Classes, from 0 on.
    n_bins : int, optional
        For `NumberEncoding`; `enough_bins` by default.

    Returns
    -------
    NumberEncoding

    Examples
    --------
    >>> import numpy as np
    >>> from sknoprop.networks.resolution import suited_encoding
    >>> day, month = np.random.default_rng(0).integers(0, 12, (2, 9_000))
    >>> y = (day == month).astype(int)  # each by itself says next to nothing
    >>> y[day == 7] = 0
    >>> suited_encoding(np.column_stack([day, month]).astype(float), y).n_out
    24
    """
    n_chosen = enough_bins(X, y) if n_bins is None else n_bins
    encoding = NumberEncoding(X, n_chosen, y)
    if n_chosen < 2 or len(X) * BEND_OF_LEVELS <= FAINT_LEVELS:
        return encoding
    some = _some_rows(X, y)
    if some is None:
        return encoding
    choice = _Choice(len(X), _Errors(*some, encoding), encoding)
    choice.offer(NumberEncoding(X, n_chosen, y, faint=True), HARMLESS)
    if n_bins is None:
        edges = finer_pieces(X, y, choice.encoding.edges(), ROWS_OF_ERROR)
        # Where fewer than usual are enough, classes may be clusters or images, which more blur.
        more = HARMLESS if n_chosen >= USUAL else -CLEARLY
        choice.offer(choice.encoding.cut_at(edges), more)
    return choice.encoding


def enough_bins(X: np.ndarray, y: np.ndarray) -> int:
    """The fewest bins with which kernel ridge regression is as good as with any of `CHOICES`.

    The same for a table whatever `random_state` is. Of more than 800 rows as many are looked at; in
    another order these are others.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Training data, finite.
    y : ndarray of shape (n_samples,), int
        Classes, from 0 on.

    Returns
    -------
    int
        One of `CHOICES`; eight where so many cut no feature, as none has values enough.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoprop.networks.resolution import enough_bins
    >>> X = np.random.default_rng(0).normal(size=(600, 12))
    >>> enough_bins(X, (X.sum(1) > 0).astype(int))
    3
    >>> enough_bins(X, (np.abs(X[:, 0]) > 1).astype(int))
    32
    """
    some = _some_rows(X, y)
    if some is None:
        return USUAL
    X, y = some
    usual = NumberEncoding(X, USUAL, y)
    n_usual = usual.n_out - usual.n_in
    if n_usual == 0:
        return USUAL
    fewest = USUAL if len(usual.column.unique()) <= FEW_FEATURES else CHOICES[0]
    judge, errors = _Errors(X, y, usual), dict[int, float]()
    n_pieces = 0
    for n_bins in CHOICES[CHOICES.index(fewest) :]:
        encoding = usual if n_bins == USUAL else NumberEncoding(X, n_bins, y)
        n_before, n_pieces = n_pieces, encoding.n_out - encoding.n_in
        # Of more pieces than rows a few fit by chance; as many as before are the same ones.
        if n_bins > USUAL and (n_pieces >= len(judge.rows) or n_pieces == n_before):
            break
        # Features of few values may be cut into three bins and not into eight.
        if n_bins < USUAL and n_pieces >= n_usual:
            continue
        errors[n_bins] = judge.of(encoding)
    bound = (1.0 + TOLERANCE) * min(errors.values())
    return next(n_bins for n_bins, error in errors.items() if error <= bound)
