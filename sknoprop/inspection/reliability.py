"""Whether probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sknoprop.inspection._checks import as_probabilities, check_positive_int
from sknoprop.inspection._plotting import (
    COLORS,
    draw_legend,
    escaped,
    fitted,
    import_pandas,
    label_numbers,
    legend_label,
    line_style,
    new_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D
    from pandas import DataFrame

__all__ = ["ReliabilityCurve", "ReliabilityDisplay"]


@dataclass(frozen=True)
class ReliabilityCurve:
    """Confidence in the likeliest class against how often it was right, in bins of confidence.

    Parameters
    ----------
    name : str
        Whose probabilities they are.
    confidence : ndarray of shape (n_filled,)
        Mean probability of the likeliest class in each bin that has rows.
    accuracy : ndarray of shape (n_filled,)
        Share of these rows whose likeliest class is the true one.
    count : ndarray of shape (n_filled,)
        Number of these rows.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoprop.inspection import ReliabilityCurve
    >>> bins = np.array([0.5, 0.75]), np.array([0.75, 0.75]), np.array([10, 30])
    >>> ReliabilityCurve("classifier", *bins).expected_calibration_error
    0.0625
    """

    name: str
    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance between confidence and accuracy over rows (Guo et al. 2017)."""
        gap = np.abs(self.confidence - self.accuracy)
        return float(np.average(gap, weights=self.count))


class ReliabilityDisplay:
    """Reliability diagram of one or several classifiers, with their calibration errors.

    On the diagonal, of the predictions made with a probability of 0.8 four in five are right;
    below it a classifier is too sure, above it not sure enough. Any number of classes will do:
    it is the likeliest one whose probability is judged. It is recommended to create one with
    `from_estimator`, `from_estimators` or `from_predictions`.

    Parameters
    ----------
    curves : list of ReliabilityCurve
        One a classifier.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        One a curve.

    Raises
    ------
    ValueError
        If there are no curves.

    References
    ----------
    .. [1] Guo, Pleiss, Sun & Weinberger (2017). "On Calibration of Modern Neural Networks".
           arXiv:1706.04599.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknoprop import NoPropClassifier
    >>> from sknoprop.inspection import ReliabilityDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> models = {v: NoPropClassifier(v, max_iter=3).fit(X, y) for v in ("dt", "fm")}
    >>> display = ReliabilityDisplay.from_estimators(models, X, y)
    >>> [curve.name for curve in display.curves]
    ['dt', 'fm']
    """

    ax_: Axes
    figure_: Figure | SubFigure
    lines_: list[Line2D]

    def __init__(self, curves: list[ReliabilityCurve]) -> None:
        if not curves:
            raise ValueError("curves must hold at least one ReliabilityCurve. Got none.")
        self.curves = curves

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any, *, n_bins: int = 10, name: str | None = None
    ) -> ReliabilityDisplay:
        """Judge a fitted classifier by some rows.

        Parameters
        ----------
        estimator : classifier
            Any of scikit-learn's kind that has `predict_proba`, or a pipeline that ends in one.
        X : array-like of shape (n_samples, n_features)
            Rows that were not trained on.
        y : array-like of shape (n_samples,)
            Their true labels.
        n_bins : int, default=10
            Number of bins of equal width.
        name : str, default=None
            By default that of the class.

        Returns
        -------
        ReliabilityDisplay

        Raises
        ------
        TypeError
            If the estimator has no `predict_proba`.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        last = fitted(estimator, "predict_proba", cls.__name__)
        name = type(last).__name__ if name is None else name
        return cls.from_estimators({name: estimator}, X, y, n_bins=n_bins)

    @classmethod
    def from_estimators(
        cls, estimators: Mapping[str, Any], X: Any, y: Any, *, n_bins: int = 10
    ) -> ReliabilityDisplay:
        """Judge several fitted classifiers by the same rows.

        Parameters
        ----------
        estimators : dict of classifiers
            By the names to show.
        X : array-like of shape (n_samples, n_features)
            Rows that were not trained on.
        y : array-like of shape (n_samples,)
            Their true labels.
        n_bins : int, default=10
            Number of bins of equal width.

        Returns
        -------
        ReliabilityDisplay

        Raises
        ------
        ValueError
            If there are no estimators or no rows.
        TypeError
            If an estimator has no `predict_proba`, or they are no dict.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        if not isinstance(estimators, Mapping):
            raise TypeError(f"estimators must be a dict of classifiers. Got {estimators!r}.")
        if not estimators:
            raise ValueError("estimators must hold at least one classifier. Got none.")
        curves = []
        for name, estimator in estimators.items():
            fitted(estimator, "predict_proba", cls.__name__)
            proba = estimator.predict_proba(X)
            curves.append(_curve(name, y, proba, estimator.classes_, n_bins))
        return cls(curves)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_proba: Any,
        *,
        classes: Any = None,
        n_bins: int = 10,
        name: str = "classifier",
    ) -> ReliabilityDisplay:
        """Judge class probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels.
        y_proba : array-like of shape (n_samples, n_classes)
            Class probabilities.
        classes : array-like of shape (n_classes,), default=None
            Class labels, in the order of the probabilities; by default the sorted ones of
            `y_true`.
        n_bins : int, default=10
            Number of bins of equal width.
        name : str, default="classifier"
            What to call them.

        Returns
        -------
        ReliabilityDisplay

        Raises
        ------
        ValueError
            If shapes do not fit each other, there are no rows, a label is none of the classes,
            `y_proba` holds no probabilities (none below zero, summing to one in each row), or
            `n_bins` is no positive int.

        Examples
        --------
        >>> from sknoprop.inspection import ReliabilityDisplay
        >>> y_proba = [[0.75, 0.25], [0.75, 0.25], [0.75, 0.25], [0.0, 1.0]]
        >>> display = ReliabilityDisplay.from_predictions([0, 0, 1, 1], y_proba)
        >>> display.curves[0].count.tolist()
        [3, 1]
        """
        classes = np.unique(y_true) if classes is None else np.asarray(classes)
        return cls([_curve(name, y_true, y_proba, classes, n_bins)])

    def plot(
        self, ax: Any = None, *, min_count: int = 1, show_reference: bool = True, **kwargs: Any
    ) -> ReliabilityDisplay:
        """Draw a curve for each classifier, with its expected calibration error in the legend.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None for a new figure; that of another display to add to it.
        min_count : int, default=1
            Bins with fewer rows are not drawn; they count in the error all the same.
        show_reference : bool, default=True
            Whether to draw the diagonal.
        **kwargs : dict
            Passed on to matplotlib's ``plot``.

        Returns
        -------
        ReliabilityDisplay
            This one. Points are the larger the more rows their bin has.
        """
        (self.ax_,) = new_axes(ax, size=(4.6, 4.4))
        self.figure_ = self.ax_.figure
        if show_reference:
            self.ax_.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1.0, zorder=1)
        self.lines_ = []
        # What is on the axes already has had the first colours and markers.
        taken = len(self.ax_.collections)
        for k, curve in enumerate(self.curves, start=taken):
            error = curve.expected_calibration_error
            label = legend_label(f"{escaped(curve.name)} (ECE {error:.1%})")
            color = COLORS[k % len(COLORS)]
            drawn = curve.count >= min_count
            points = curve.confidence[drawn], curve.accuracy[drawn]
            style = line_style(kwargs, color=color, linewidth=1.5, label=label)
            (line,) = self.ax_.plot(*points, **style)
            self.lines_.append(line)
            self.ax_.scatter(
                *points,
                s=12 + 150 * np.sqrt(curve.count[drawn] / curve.count.sum()),
                color=line.get_color(),
                marker="oDs^v"[k % 5],
                alpha=0.75,
                linewidths=0,
                zorder=3,
            )
        self.ax_.set(xlabel="confidence in the likeliest class", ylabel="share that is right")
        self.ax_.set_aspect("equal")
        draw_legend(self.ax_, fontsize="small", loc="best")
        return self

    def frame(self) -> DataFrame:
        """Numbers as a data frame.

        Returns
        -------
        pandas DataFrame
            A row for each curve and bin with rows, with columns "name", "confidence",
            "accuracy", "count" and "expected_calibration_error".
        """
        pd = import_pandas()
        return pd.concat(
            [
                pd.DataFrame(
                    {
                        "name": curve.name,
                        "confidence": curve.confidence,
                        "accuracy": curve.accuracy,
                        "count": curve.count,
                        "expected_calibration_error": curve.expected_calibration_error,
                    }
                )
                for curve in self.curves
            ],
            ignore_index=True,
        )


def _curve(name: str, y_true: Any, y_proba: Any, classes: Any, n_bins: int) -> ReliabilityCurve:
    check_positive_int(n_bins, "n_bins")
    y_true = label_numbers(y_true, np.asarray(classes))
    y_proba = as_probabilities(y_proba, "y_proba", (len(y_true), len(classes)))
    confidence = y_proba.max(axis=1)
    right = y_proba.argmax(axis=1) == y_true
    # Bins of equal width; a confidence of 1 belongs to the last.
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    count = np.bincount(bins, minlength=n_bins)
    filled = count > 0
    count = count[filled]
    return ReliabilityCurve(
        name,
        np.bincount(bins, weights=confidence, minlength=n_bins)[filled] / count,
        np.bincount(bins, weights=right, minlength=n_bins)[filled] / count,
        count,
    )
