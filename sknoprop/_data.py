"""Rows that count: their weights, and those that are held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import train_test_split

from sknoprop._images import LazyRows
from sknoprop.training.seeds import Seeds

__all__ = ["Data", "hold_out", "weighted_data"]


@dataclass(frozen=True)
class Data:
    """Rows that count.

    Parameters
    ----------
    X : ndarray or LazyRows of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,), int64
        Numbers of the classes.
    sample_weight : ndarray of shape (n_samples,), float64, or None
        Positive, of mean one; None if all are equal.
    """

    X: np.ndarray | LazyRows
    y: np.ndarray
    sample_weight: np.ndarray | None = None

    def take(self, index: np.ndarray) -> Data:
        """Some of the rows."""
        weight = None if self.sample_weight is None else self.sample_weight[index]
        return weighted_data(self.X[index], self.y[index], weight)


def weighted_data(
    X: np.ndarray | LazyRows, y: np.ndarray, sample_weight: np.ndarray | None
) -> Data:
    """Drop rows of weight zero and scale weights to mean one.

    Raises
    ------
    ValueError
        If no weight is positive.
    """
    if sample_weight is None:
        return Data(X, y)
    counts = sample_weight > 0
    if not counts.any():
        raise ValueError(
            "NoPropClassifier needs a row of positive weight. Got sample_weight (times "
            "class_weight) of zero for all rows."
        )
    if not counts.all():
        X, y, sample_weight = X[counts], y[counts], sample_weight[counts]
    if (sample_weight == sample_weight[0]).all():
        return Data(X, y)
    scaled = sample_weight / sample_weight.max()  # first, lest a sum of huge weights overflow
    return Data(X, y, scaled / scaled.mean())


def hold_out(data: Data, fraction: float, seeds: Seeds) -> tuple[Data, Data]:
    """Split rows into those to train on and those to validate with.

    Classes keep their shares as far as their rows allow; each keeps a row to train on.

    Raises
    ------
    ValueError
        If too few rows are left for either.
    """
    n = len(data.y)
    random = seeds.numpy("split")
    order = random.permutation(n)
    _, first = np.unique(data.y[order], return_index=True)
    kept = order[first]
    free = np.setdiff1d(np.arange(n), kept)
    n_held = round(fraction * n)
    if not 0 < n_held < len(free):
        raise ValueError(
            f"early_stopping holds out validation_fraction={fraction} of {n} rows, which leaves "
            "none to validate with or not one of each class to train on. Pass X_val and y_val, "
            "change validation_fraction, or set early_stopping=False."
        )
    y = data.y[free]
    counts = np.unique(y, return_counts=True)[1]
    even = counts.min() > 1 and min(n_held, len(free) - n_held) >= len(counts)
    rest, held = train_test_split(
        free, test_size=n_held, stratify=y if even else None, random_state=random
    )
    return data.take(np.sort(np.concatenate([rest, kept]))), data.take(np.sort(held))
