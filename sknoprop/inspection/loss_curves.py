"""How each block learnt: its loss over the epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sknoprop.inspection._plotting import (
    block_bar,
    block_colors,
    fitted,
    import_pandas,
    new_axes,
    whole_ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D
    from pandas import DataFrame

__all__ = ["LossCurveDisplay"]

#: With more blocks a legend would cover the curves, or push the axes aside.
_MOST_NAMED = 12


class LossCurveDisplay:
    """Training loss and validation score of each block over the epochs.

    It is recommended to create one with `from_estimator`.

    Parameters
    ----------
    loss_curve : array-like of shape (n_epochs, n_blocks)
        Denoising loss of each block, see `loss_curve_` of `NoPropClassifier`.
    validation_scores : array-like of shape (n_judged, n_blocks), default=None
        Negative log loss of each block's own class probabilities on held-out rows.
    validation_epochs : array-like of shape (n_judged,), default=None
        Epochs, from 1 on, that they are of; by default all.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        One a block.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknoprop import NoPropClassifier
    >>> from sknoprop.inspection import LossCurveDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = NoPropClassifier(n_blocks=3, max_iter=5, random_state=0).fit(X, y)
    >>> LossCurveDisplay.from_estimator(clf).loss_curve.shape
    (5, 3)
    """

    ax_: Axes
    figure_: Figure | SubFigure
    lines_: list[Line2D]

    def __init__(
        self, loss_curve: Any, *, validation_scores: Any = None, validation_epochs: Any = None
    ) -> None:
        self.loss_curve = np.asarray(loss_curve, dtype=float)
        self.validation_scores = None
        self.validation_epochs = None
        if validation_scores is not None:
            scores = np.asarray(validation_scores, dtype=float)
            epochs = np.arange(1, len(scores) + 1)
            self.validation_scores = scores
            self.validation_epochs = epochs if validation_epochs is None else validation_epochs

    @classmethod
    def from_estimator(cls, estimator: Any) -> LossCurveDisplay:
        """Take the curves of a fitted classifier.

        Parameters
        ----------
        estimator : NoPropClassifier
            Fitted, or a fitted pipeline that ends in one.

        Returns
        -------
        LossCurveDisplay

        Raises
        ------
        TypeError
            If the estimator is no such classifier.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        clf = fitted(estimator, "validation_scores_", cls.__name__)
        scores = clf.validation_scores_
        judged = [i for i, epoch in enumerate(clf.history_, 1) if "block_valid_losses" in epoch]
        return cls(
            clf.loss_curve_,
            validation_scores=scores,
            validation_epochs=None if scores is None else np.array(judged),
        )

    def plot(self, ax: Any = None, *, curve: str = "loss") -> LossCurveDisplay:
        """Draw a curve for each block.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None for a new figure.
        curve : {"loss", "validation"}, default="loss"
            The denoising loss in training, or the log loss of each block's own class
            probabilities on held-out rows.

        Returns
        -------
        LossCurveDisplay
            This one. More than 12 blocks have a colour bar instead of a legend.

        Raises
        ------
        ValueError
            If `curve` is none of these, or there are no validation scores to draw.
        """
        if curve not in ("loss", "validation"):
            raise ValueError(f"curve must be 'loss' or 'validation'. Got {curve!r}.")
        epochs, losses = np.arange(1, len(self.loss_curve) + 1), self.loss_curve
        if curve == "validation":
            if self.validation_scores is None or self.validation_epochs is None:
                raise ValueError(
                    "There are no validation scores. Fit with early_stopping=True, or pass X_val "
                    "and y_val to fit."
                )
            epochs, losses = self.validation_epochs, -self.validation_scores
        (self.ax_,) = new_axes(ax)
        self.figure_ = self.ax_.figure
        n_blocks = losses.shape[1]
        marker = "o" if len(losses) == 1 else ""  # one epoch makes no line
        self.lines_ = [
            self.ax_.plot(
                epochs, losses[:, block], color=color, marker=marker, label=str(block + 1)
            )[0]
            for block, color in enumerate(block_colors(n_blocks))
        ]
        what = "denoising loss (scaled)" if curve == "loss" else "log loss on held-out rows"
        self.ax_.set(xlabel="epoch", ylabel=what)
        self.ax_.grid(axis="y", color="0.9")
        whole_ticks(self.ax_)
        if n_blocks > _MOST_NAMED:
            block_bar(self.ax_, n_blocks)
        else:
            self.ax_.legend(title="block", fontsize="small", ncols=1 + (n_blocks - 1) // 5)
        return self

    def frame(self) -> DataFrame:
        """Numbers as a data frame.

        Returns
        -------
        pandas DataFrame
            A row for each epoch and block, with columns "epoch", "block", "loss" and
            "validation_log_loss" (missing where an epoch was not judged).
        """
        pd = import_pandas()
        n_epochs, n_blocks = self.loss_curve.shape
        validation = np.full(self.loss_curve.shape, np.nan)
        if self.validation_scores is not None and self.validation_epochs is not None:
            validation[np.asarray(self.validation_epochs) - 1] = -self.validation_scores
        return pd.DataFrame(
            {
                "epoch": np.repeat(np.arange(1, n_epochs + 1), n_blocks),
                "block": np.tile(np.arange(1, n_blocks + 1), n_epochs),
                "loss": self.loss_curve.ravel(),
                "validation_log_loss": validation.ravel(),
            }
        )
