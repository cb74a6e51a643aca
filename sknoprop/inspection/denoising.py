"""How the class probabilities of single rows move from noise to label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sknoprop.inspection._checks import as_numbers, check_length
from sknoprop.inspection._plotting import (
    COLORS,
    draw_legend,
    escaped,
    fit_text,
    fitted,
    import_pandas,
    label_numbers,
    laid_out,
    legend_label,
    new_axes,
    transformed,
    whole_ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D
    from pandas import DataFrame

__all__ = ["DenoisingDisplay"]

#: What a step of each kind of path is called.
_LABELS = {"time": "time (0: noise, 1: label)", "blocks": "blocks asked"}


class DenoisingDisplay:
    """Class probabilities of some rows, step by step.

    Either along the time of the paper's trajectories, where a step is what the block owning that
    time makes of row and latent, or over blocks, where a step is the prediction after one more of
    them. It is recommended to create one with `from_estimator`.

    Parameters
    ----------
    y_proba : array-like of shape (n_steps, n_samples, n_classes)
        Class probabilities.
    position : array-like of shape (n_steps,), default=None
        Where each step is drawn; by default 1, 2, ...
    classes : array-like of shape (n_classes,), default=None
        Class labels; by default 0, 1, ...
    y_true : array-like of shape (n_samples,), default=None
        True labels, for the titles.
    xlabel : str, default="step"
        What a position is.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The first panel.
    axes_ : ndarray of shape (n_samples,) of matplotlib Axes
        One panel a row.
    figure_ : matplotlib Figure
    lines_ : list of list of matplotlib Line2D
        For each row the line of each class.

    Raises
    ------
    ValueError
        If shapes or lengths do not fit each other, or a true label is none of the classes.

    See Also
    --------
    sknoprop.NoPropClassifier.predict_trajectory : Latents and probabilities of trajectories.
    sknoprop.NoPropClassifier.staged_predict_proba : Probabilities after each block.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknoprop import NoPropClassifier
    >>> from sknoprop.inspection import DenoisingDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = NoPropClassifier("fm", max_iter=3, random_state=0).fit(X, y)
    >>> display = DenoisingDisplay.from_estimator(clf, X[[0, 75, 149]], y[[0, 75, 149]])
    >>> display.y_proba.shape
    (41, 3, 3)
    """

    ax_: Axes
    axes_: np.ndarray
    figure_: Figure | SubFigure
    lines_: list[list[Line2D]]

    def __init__(
        self,
        y_proba: Any,
        *,
        position: Any = None,
        classes: Any = None,
        y_true: Any = None,
        xlabel: str = "step",
    ) -> None:
        self.y_proba = as_numbers(y_proba, "y_proba")
        if self.y_proba.ndim != 3 or not self.y_proba.size:
            raise ValueError(
                "y_proba must be of shape (n_steps, n_samples, n_classes), with at least one of "
                f"each. Got an array of shape {self.y_proba.shape}."
            )
        n_steps, n_samples, n_classes = self.y_proba.shape
        self.position = np.arange(1, n_steps + 1) if position is None else np.asarray(position)
        self.classes = np.arange(n_classes) if classes is None else np.asarray(classes)
        self.y_true = None if y_true is None else np.asarray(y_true)
        self.xlabel = xlabel
        for name, values, expected in (
            ("position", self.position, n_steps),
            ("classes", self.classes, n_classes),
            ("y_true", self.y_true, n_samples),
        ):
            if values is not None:
                check_length(values, name, expected)
        self._true = None if y_true is None else label_numbers(self.y_true, self.classes)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any = None, *, along: str = "time"
    ) -> DenoisingDisplay:
        """Compute the probabilities of each row of `X` at each step.

        Parameters
        ----------
        estimator : NoPropClassifier
            Fitted, or a fitted pipeline that ends in one.
        X : array-like of shape (n_samples, n_features)
            The few rows to be shown.
        y : array-like of shape (n_samples,), default=None
            Their true labels.
        along : {"time", "blocks"}, default="time"
            Along the time of trajectories (the mean of `n_draws` of them), or over the
            predictions after each block.

        Returns
        -------
        DenoisingDisplay

        Raises
        ------
        ValueError
            If `along` is none of these, or `y` does not hold one of the classes for each row.
        TypeError
            If the estimator is no such classifier.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        if along not in _LABELS:
            raise ValueError(f"along must be 'time' or 'blocks'. Got {along!r}.")
        needed = "predict_trajectory" if along == "time" else "staged_predict_proba"
        clf = fitted(estimator, needed, cls.__name__)
        X = transformed(estimator, X)
        position = None
        if along == "time":
            steps = clf.predict_trajectory(X)
            position, y_proba = steps.times, steps.probabilities.mean(axis=2)
        else:
            y_proba = np.stack(list(clf.staged_predict_proba(X)))
        return cls(
            y_proba, position=position, classes=clf.classes_, y_true=y, xlabel=_LABELS[along]
        )

    def plot(
        self, ax: Any = None, *, threshold: float = 0.2, class_names: Any = None
    ) -> DenoisingDisplay:
        """Draw a panel for each row with a line for each class.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of them, default=None
            One a row; None for a new figure.
        threshold : float, default=0.2
            Classes that never get so likely are drawn in grey and without a name; the true class
            of a row always has a colour and a name.
        class_names : array-like of shape (n_classes,), default=None
            Names to show instead of the class labels.

        Returns
        -------
        DenoisingDisplay
            This one. Names that have no room in their panel are cut.

        Raises
        ------
        ValueError
            If another number of axes is given than there are rows, or of names than there are
            classes.
        """
        names = self.classes if class_names is None else np.asarray(class_names)
        n_samples = self.y_proba.shape[1]
        if names.shape != self.classes.shape:
            raise ValueError(
                f"class_names must be {len(self.classes)} names, one a class. Got {class_names!r}."
            )
        self.axes_ = new_axes(ax, n_samples, size=(2.9, 2.8))
        self.ax_ = self.axes_[0]
        self.figure_ = self.ax_.figure
        self.lines_ = []
        named = self.y_proba.max(axis=0) >= threshold
        if self._true is not None:
            named[np.arange(n_samples), self._true] = True
        # A class has one colour in all panels; those that matter nowhere need none.
        shown = np.flatnonzero(named.any(axis=0))
        color = {int(c): COLORS[k % len(COLORS)] for k, c in enumerate(shown)}
        style = {int(c): ("-", "--", ":")[k // len(COLORS) % 3] for k, c in enumerate(shown)}
        for row, axes in enumerate(self.axes_):
            lines = []
            for c, path in enumerate(self.y_proba[:, row].T):
                (line,) = axes.plot(
                    self.position,
                    path,
                    color=color[c] if named[row, c] else "0.8",
                    linestyle=style[c] if named[row, c] else "-",
                    linewidth=2.0 if named[row, c] else 1.0,
                    marker="o" if len(path) == 1 else "",  # one step makes no line
                    zorder=3 if named[row, c] else 2,
                    label=legend_label(escaped(names[c])) if named[row, c] else "_nolegend_",
                )
                lines.append(line)
            self.lines_.append(lines)
            axes.set(xlabel=self.xlabel, ylim=(-0.03, 1.03))
            if np.issubdtype(self.position.dtype, np.integer):
                whole_ticks(axes)
        self.ax_.set_ylabel("class probability")
        laid_out(self.ax_)
        for row, axes in enumerate(self.axes_):
            # Names may be no wider than their panel, or they run into the next one.
            room = axes.get_window_extent().width
            legend = {"loc": "best", "fontsize": "small", "frameon": True, "framealpha": 0.9}
            draw_legend(axes, 0.6 * room, **legend)
            if self._true is not None:
                title = axes.set_title("", fontsize="medium")
                fit_text(title, f"true class: {names[self._true[row]]}", room)
        return self

    def frame(self) -> DataFrame:
        """Numbers as a data frame.

        Returns
        -------
        pandas DataFrame
            Columns "step", "position", "sample", "class" and "probability".
        """
        pd = import_pandas()
        step, sample, label = np.indices(self.y_proba.shape).reshape(3, -1)
        return pd.DataFrame(
            {
                "step": step,
                "position": self.position[step],
                "sample": sample,
                "class": self.classes[label],
                "probability": self.y_proba.ravel(),
            }
        )
