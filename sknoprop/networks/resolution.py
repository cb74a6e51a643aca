"""How many bins features are cut into: as few as labels need.

More bins bend more finely, and are more inputs: slower, and easier to learn by heart. Which counts
for more depends on the table. Where classes are clusters, or images, three bins are better than
eight and take a fraction of the time; where one feature by itself says much by its bends, eight are
better than three by far; where it says it by leaps at a few amounts, a hundred are. This can be
told before any block is trained, by ridge regression on the classes' indicators, whose error on
rows left out one at a time has a closed form (Allen 1974). It is given the bins, and a Gaussian
kernel beside them: what is smooth in all features a network learns without bins. (More bins also
weigh the features that are cut against those that are not, as they do in a network.)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

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
    rows = np.random.default_rng(0).permutation(len(X))[:ROWS_OF_BINS]
    X, y = np.asarray(X[rows], dtype=np.float64), np.asarray(y[rows], dtype=np.int64)
    seen = torch.from_numpy(X[:ROWS_OF_ERROR])
    found = np.equal.outer(y[:ROWS_OF_ERROR], np.unique(y[:ROWS_OF_ERROR]))
    targets = torch.from_numpy(found.astype(np.float64))

    if not np.isfinite(X).all():
        return USUAL  # such rows are refused where they are trained on, by what is wrong with them
    usual = NumberEncoding(X, USUAL, y)
    n_usual = usual.n_out - usual.n_in
    if n_usual == 0 or targets.shape[1] < 2:
        return USUAL
    smooth = _centered(_gaussian(usual.standardize(seen)))
    fewest = USUAL if len(usual.column.unique()) <= FEW_FEATURES else CHOICES[0]
    errors: dict[int, float] = {}
    n_pieces = 0
    for n_bins in CHOICES[CHOICES.index(fewest) :]:
        encoding = usual if n_bins == USUAL else NumberEncoding(X, n_bins, y)
        n_before, n_pieces = n_pieces, encoding.n_out - encoding.n_in
        # Of more pieces than rows a few fit by chance; as many as before are the same ones.
        if n_bins > USUAL and (n_pieces >= len(seen) or n_pieces == n_before):
            break
        # Features of few values may be cut into three bins and not into eight.
        if n_bins < USUAL and n_pieces >= n_usual:
            continue
        inputs = encoding(seen)
        errors[n_bins] = leave_one_out_error(_centered(inputs @ inputs.T) + smooth, targets)
    bound = (1.0 + TOLERANCE) * min(errors.values())
    return next(n_bins for n_bins, error in errors.items() if error <= bound)
