"""How many bins features are cut into: as few as labels need.

More bins bend more finely, and are more inputs: slower, and easier to learn by heart. Which counts
for more depends on the table. Where classes are clusters, or images, three bins are better than
eight and take a fraction of the time; where one feature by itself says much by its bends, eight are
better than three by far; where it says it by leaps at a few amounts, a hundred are. This can be
told before any block is trained, by ridge regression on the classes' indicators, whose error on
rows left out one at a time has a closed form (Allen 1974). It is given the bins, and a Gaussian
kernel beside them: what is smooth in all features a network learns without bins.
"""

from __future__ import annotations

import numpy as np
import torch

from sknoprop.networks.bins import USUAL
from sknoprop.networks.numbers import NumberEncoding

__all__ = ["enough_bins", "leave_one_out_error"]

#: Numbers of bins to choose from.
CHOICES = (3, 5, 8, 16, 32, 64, 128)

#: Features that are cut, up to which there are at least eight bins: so few are cheap to cut, and
#: fewer bins gain nothing there.
FEW_FEATURES = 10

#: How much more error fewer bins may have than the best: what is not worth the time of more.
TOLERANCE = 0.01

#: Rows that errors are measured on, and those that bins are measured on, at most.
ROWS_OF_ERROR, ROWS_OF_BINS = 800, 4_000

#: Penalties, in units of the mean of a kernel's diagonal.
PENALTIES = 10.0 ** np.arange(-3, 4)

#: Largest leverage of a row: of one that is fitted exactly nothing is left to see.
MOST_LEVERAGE = 0.999


def leave_one_out_error(kernel: np.ndarray, targets: np.ndarray) -> float:
    """Squared error of kernel ridge regression on rows that it has not seen, one at a time.

    The fit to the other rows is not made: where a fit to all leaves ``e`` of a row whose leverage
    is ``h``, the fit without it leaves ``e / (1 - h)`` (Allen 1974). There is an intercept without
    a penalty. Of several penalties the best counts.

    Parameters
    ----------
    kernel : ndarray of shape (n_samples, n_samples)
        Inner products of rows, from whatever origin.
    targets : ndarray of shape (n_samples, n_targets)
        Not all rows the same.

    Returns
    -------
    float
        Relative to the targets' variance: one is no better than their mean.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoprop.networks.resolution import leave_one_out_error
    >>> x = np.linspace(-1.0, 1.0, 50)[:, None]
    >>> leave_one_out_error(x @ x.T, 3 * x) < 1e-6, leave_one_out_error(x @ x.T, x**2) > 1
    (True, True)
    """
    n = len(kernel)
    targets = targets - targets.mean(0)
    values, vectors = np.linalg.eigh(_centered(kernel))
    values = np.maximum(values, 0.0)
    products, squares = vectors.T @ targets, vectors**2
    errors = []
    for penalty in PENALTIES:
        kept = values / (values + penalty)
        residual = targets - vectors @ (kept[:, None] * products)
        leverage = np.minimum(squares @ kept + 1.0 / n, MOST_LEVERAGE)
        errors.append(((residual / (1.0 - leverage)[:, None]) ** 2).sum())
    return float(min(errors) / (targets**2).sum())


def _centered(kernel: np.ndarray) -> np.ndarray:
    """Inner products from the rows' mean, in units of their mean square distance from it."""
    mean = kernel.mean(0)
    kernel = kernel - mean - mean[:, None] + mean.mean()
    return kernel / max(np.trace(kernel) / len(kernel), np.finfo(np.float64).tiny)


def _gaussian(inputs: np.ndarray) -> np.ndarray:
    """Gaussian kernel with the median distance for its scale."""
    squares = (inputs**2).sum(1)
    apart = np.maximum(squares[:, None] + squares - 2.0 * inputs @ inputs.T, 0.0)
    return np.exp(-apart / max(np.median(apart), np.finfo(np.float64).tiny))


def enough_bins(X: np.ndarray, y: np.ndarray) -> int:
    """The fewest bins with which kernel ridge regression is as good as with any of `CHOICES`.

    The same for a table whatever `random_state` is.

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
    rows = np.random.default_rng(0).permutation(len(X))[:ROWS_OF_BINS]
    X, y = np.asarray(X[rows], dtype=np.float64), np.asarray(y[rows], dtype=np.int64)
    seen = torch.from_numpy(X[:ROWS_OF_ERROR])
    targets = np.equal.outer(y[:ROWS_OF_ERROR], np.unique(y[:ROWS_OF_ERROR])).astype(np.float64)

    usual = NumberEncoding(X, USUAL, y)
    if usual.n_out == usual.n_in or targets.shape[1] < 2:
        return USUAL
    if not np.isfinite(X).all():
        return USUAL  # such rows are refused where they are trained on, by what is wrong with them
    smooth = _centered(_gaussian(usual.standardize(seen).numpy()))
    fewest = USUAL if len(usual.column.unique()) <= FEW_FEATURES else CHOICES[0]
    errors: dict[int, float] = {}
    n_pieces = 0
    for n_bins in CHOICES[CHOICES.index(fewest) :]:
        encoding = NumberEncoding(X, n_bins, y)
        n_before, n_pieces = n_pieces, encoding.n_out - encoding.n_in
        # Of more pieces than rows a few fit by chance. No more pieces are the same ones.
        if n_bins > USUAL and (n_pieces >= len(seen) or n_pieces == n_before):
            break
        inputs = encoding(seen).numpy()
        errors[n_bins] = leave_one_out_error(_centered(inputs @ inputs.T) + smooth, targets)
    bound = (1.0 + TOLERANCE) * min(errors.values())
    return next(n_bins for n_bins, error in errors.items() if error <= bound)
