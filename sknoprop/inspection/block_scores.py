"""What depth is good for: scores after each block, and of each block alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import log_loss

from sknoprop.inspection._checks import as_probabilities
from sknoprop.inspection._plotting import (
    COLORS,
    fitted,
    import_pandas,
    label_numbers,
    new_axes,
    transformed,
    whole_ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D
    from pandas import DataFrame

__all__ = ["BlockScoreDisplay"]

_LABELS = {"accuracy": "accuracy", "log_loss": "log loss"}


class BlockScoreDisplay:
    """Accuracy and log loss after each block and of each block alone.

    The two curves together answer whether depth helps or one block does all the work: if it did,
    the others' own scores would be no better than chance, and those after each block would not
    move once it has been asked. Log losses are at the temperature of all blocks' mean
    (`temperature_`), at which one block, or a few, are as a rule somewhat too sure. It is
    recommended to create one with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    staged_accuracy, staged_log_loss : ndarray of shape (n_blocks,)
        Scores of the prediction after each block.
    own_accuracy, own_log_loss : ndarray of shape (n_blocks,)
        Scores of each block's own estimate.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        One a score that is drawn.

    See Also
    --------
    sknoprop.NoPropClassifier.staged_predict_proba : Class probabilities after each block.
    sknoprop.NoPropClassifier.predict_block_proba : Each block's own estimate.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknoprop import NoPropClassifier
    >>> from sknoprop.inspection import BlockScoreDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = NoPropClassifier(n_blocks=3, max_iter=3, random_state=0).fit(X, y)
    >>> display = BlockScoreDisplay.from_estimator(clf, X, y)
    >>> display.own_accuracy.shape
    (3,)
    """

    ax_: Axes
    figure_: Figure | SubFigure
    lines_: list[Line2D]

    def __init__(
        self,
        *,
        staged_accuracy: np.ndarray,
        staged_log_loss: np.ndarray,
        own_accuracy: np.ndarray,
        own_log_loss: np.ndarray,
    ) -> None:
        self.staged_accuracy = staged_accuracy
        self.staged_log_loss = staged_log_loss
        self.own_accuracy = own_accuracy
        self.own_log_loss = own_log_loss

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any) -> BlockScoreDisplay:
        """Score a classifier's blocks on some rows.

        Parameters
        ----------
        estimator : NoPropClassifier
            Fitted, or a fitted pipeline that ends in one.
        X : array-like of shape (n_samples, n_features)
            Rows that were not trained on.
        y : array-like of shape (n_samples,)
            Their true labels.

        Returns
        -------
        BlockScoreDisplay
            Along trajectories (``inference="trajectory"``) what is after each block is a stage
            of them; each block's own estimate is that of its class kernel all the same.

        Raises
        ------
        TypeError
            If the estimator is no such classifier.
        ValueError
            If there are fewer stages than blocks.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        clf = fitted(estimator, "predict_block_proba", cls.__name__)
        X = transformed(estimator, X)
        own = clf.predict_block_proba(X)
        # By kernels, stages are running means of what has just been computed.
        along = clf.inference == "trajectory"
        staged = np.stack(list(clf.staged_predict_proba(X))) if along else None
        return cls.from_predictions(y, own, staged=staged, classes=clf.classes_)

    @classmethod
    def from_predictions(
        cls, y_true: Any, y_proba: Any, *, staged: Any = None, classes: Any = None
    ) -> BlockScoreDisplay:
        """Score class probabilities of blocks.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels.
        y_proba : array-like of shape (n_blocks, n_samples, n_classes)
            Each block's own estimate.
        staged : array-like of shape (n_blocks, n_samples, n_classes), default=None
            Predictions after each block; by default running means of the blocks' own.
        classes : array-like of shape (n_classes,), default=None
            Class labels, in the order of the probabilities; by default the sorted ones of
            `y_true`.

        Returns
        -------
        BlockScoreDisplay

        Raises
        ------
        ValueError
            If shapes do not fit each other, there are no rows, a label is none of the classes,
            what is given are no probabilities, or there are fewer stages than blocks.

        Examples
        --------
        >>> from sknoprop.inspection import BlockScoreDisplay
        >>> y_proba = [[[0.4, 0.6], [0.2, 0.8]], [[0.8, 0.2], [0.4, 0.6]]]
        >>> display = BlockScoreDisplay.from_predictions([0, 1], y_proba)
        >>> display.own_accuracy.tolist(), display.staged_accuracy.tolist()
        ([0.5, 1.0], [0.5, 1.0])
        """
        classes = np.unique(y_true) if classes is None else np.asarray(classes)
        y_true = label_numbers(y_true, classes)
        shape = ("n_blocks", len(y_true), len(classes))
        own = as_probabilities(y_proba, "y_proba", shape)
        if staged is None:
            staged = np.cumsum(own, axis=0) / np.arange(1, len(own) + 1)[:, None, None]
        staged = as_probabilities(staged, "staged", shape)
        if len(staged) != len(own):
            raise ValueError(
                f"There are {len(staged)} stages of {len(own)} blocks: some blocks take no step, "
                "and it cannot be shown after which block a stage is. Set n_steps=None."
            )
        # Those of single precision sum to one but nearly, which scikit-learn warns of.
        own, staged = (p / p.sum(axis=-1, keepdims=True) for p in (own, staged))
        numbers = np.arange(len(classes))  # labels would have to be sorted
        return cls(
            staged_accuracy=np.array([_accuracy(y_true, p) for p in staged]),
            staged_log_loss=np.array([log_loss(y_true, p, labels=numbers) for p in staged]),
            own_accuracy=np.array([_accuracy(y_true, p) for p in own]),
            own_log_loss=np.array([log_loss(y_true, p, labels=numbers) for p in own]),
        )

    def plot(
        self, ax: Any = None, *, metric: str = "log_loss", which: str = "both"
    ) -> BlockScoreDisplay:
        """Draw a score over blocks.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None for a new figure.
        metric : {"log_loss", "accuracy"}, default="log_loss"
            Which score.
        which : {"both", "staged", "own"}, default="both"
            The score after each block, of each block alone, or both.

        Returns
        -------
        BlockScoreDisplay
            This one.

        Raises
        ------
        ValueError
            If `metric` or `which` is none of these.
        """
        if metric not in _LABELS:
            raise ValueError(f"metric must be 'log_loss' or 'accuracy'. Got {metric!r}.")
        if which not in ("both", "staged", "own"):
            raise ValueError(f"which must be 'both', 'staged' or 'own'. Got {which!r}.")
        (self.ax_,) = new_axes(ax)
        self.figure_ = self.ax_.figure
        self.lines_ = []
        blocks = np.arange(1, len(self.own_log_loss) + 1)
        if which != "own":
            self.lines_ += self.ax_.plot(
                blocks,
                getattr(self, f"staged_{metric}"),
                marker="o",
                color=COLORS[0],
                label="after this block",
            )
        if which != "staged":
            self.lines_ += self.ax_.plot(
                blocks,
                getattr(self, f"own_{metric}"),
                marker="D",
                linestyle=":",
                color=COLORS[1],
                label="this block alone",
            )
        self.ax_.set(xlabel="block (1: next to the noise)", ylabel=_LABELS[metric])
        whole_ticks(self.ax_)
        self.ax_.grid(axis="y", color="0.9")
        self.ax_.margins(y=0.12)
        self.ax_.legend(fontsize="small")
        return self

    def frame(self) -> DataFrame:
        """Numbers as a data frame.

        Returns
        -------
        pandas DataFrame
            A row a block, with columns "block", "staged_accuracy", "own_accuracy",
            "staged_log_loss" and "own_log_loss".
        """
        pd = import_pandas()
        return pd.DataFrame(
            {
                "block": np.arange(1, len(self.own_log_loss) + 1),
                "staged_accuracy": self.staged_accuracy,
                "own_accuracy": self.own_accuracy,
                "staged_log_loss": self.staged_log_loss,
                "own_log_loss": self.own_log_loss,
            }
        )


def _accuracy(y_true: np.ndarray, y_proba: np.ndarray) -> float:
    return float((y_proba.argmax(axis=1) == y_true).mean())
