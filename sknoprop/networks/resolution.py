"""How many bins features are cut into: as few as labels need.

More bins bend more finely, and are more inputs: slower, and easier to learn by heart. Which counts
for more depends on the table. Where classes are clusters, or images, three bins are better than
eight and take a fraction of the time; where one feature by itself says much by its bends, eight are
better than three by far; where it says it by leaps at a few amounts, a hundred are. A linear model
on the bins tells these apart before any block is trained: ridge regression on the classes'
indicators, whose error on rows left out one at a time has a closed form (Allen 1974).
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
ROWS_OF_ERROR, ROWS_OF_BINS = 1_000, 4_000

#: Penalties, in units of the inputs' variance.
PENALTIES = 10.0 ** np.arange(-3, 4)

#: Largest leverage of a row: of one that is fitted exactly nothing is left to see.
MOST_LEVERAGE = 0.999


def leave_one_out_error(inputs: np.ndarray, targets: np.ndarray) -> float:
    """Squared error of ridge regression on rows that it has not seen, one at a time.

    The fit to the other rows is not made: where a fit to all leaves ``e`` of a row whose leverage
    is ``h``, the fit without it leaves ``e / (1 - h)`` (Allen 1974). There is an intercept without
    a penalty. Of several penalties the best counts.

    Parameters
    ----------
    inputs : ndarray of shape (n_samples, n_features)
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
    >>> x = np.arange(50.0)[:, None]
    >>> leave_one_out_error(x, 3 * x) < 1e-6, leave_one_out_error(x, (x - 24.5) ** 2) > 1
    (True, True)
    """
    n = len(inputs)
    targets = targets - targets.mean(0)
    inputs = inputs - inputs.mean(0)
    inputs = inputs / max(np.sqrt(inputs.var(0).sum()), np.finfo(np.float64).tiny)
    # The smaller of two symmetric matrices with the same eigenvalues. `axes` are projections of
    # rows on eigenvectors of the features.
    if inputs.shape[1] < n:
        values, vectors = np.linalg.eigh(inputs.T @ inputs)
        axes = inputs @ vectors
    else:
        values, vectors = np.linalg.eigh(inputs @ inputs.T)
        axes = vectors * np.sqrt(np.maximum(values, 0.0))
    values = np.maximum(values, 0.0)
    products, squares = axes.T @ targets, axes**2
    errors = []
    for penalty in PENALTIES:
        shrunk = 1.0 / (values + penalty)
        residual = targets - axes @ (shrunk[:, None] * products)
        leverage = np.minimum(squares @ shrunk + 1.0 / n, MOST_LEVERAGE)
        errors.append(((residual / (1.0 - leverage)[:, None]) ** 2).sum())
    return float(min(errors) / (targets**2).sum())


def enough_bins(X: np.ndarray, y: np.ndarray) -> int:
    """The fewest bins with which ridge regression is as good as with any of `CHOICES`.

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
    fewest = USUAL if len(usual.column.unique()) <= FEW_FEATURES else CHOICES[0]
    errors = {}
    for n_bins in CHOICES[CHOICES.index(fewest) :]:
        encoding = NumberEncoding(X, n_bins, y)
        # Of more pieces than rows a few fit by chance.
        if n_bins > USUAL and encoding.n_out - encoding.n_in >= len(seen):
            break
        errors[n_bins] = leave_one_out_error(encoding(seen).numpy(), targets)
    bound = (1.0 + TOLERANCE) * min(errors.values())
    return next(n_bins for n_bins, error in errors.items() if error <= bound)
