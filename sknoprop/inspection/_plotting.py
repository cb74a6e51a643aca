"""What all displays share: optional imports, fitted estimators, axes and colours."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COLORS",
    "block_colors",
    "fitted",
    "import_pandas",
    "label_numbers",
    "new_axes",
    "transformed",
    "whole_ticks",
]

#: Colours that stay apart for colour-blind readers and in print (Okabe & Ito 2008).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def _pyplot() -> ModuleType:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Plotting requires matplotlib. You can install it with `pip install 'sknoprop[plot]'`."
        ) from error
    return plt


def import_pandas() -> ModuleType:
    """The pandas package.

    Raises
    ------
    ImportError
        With what to install.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "A display's frame requires pandas. You can install it with `pip install pandas`."
        ) from error
    return pandas


def new_axes(
    ax: Axes | None = None, n_axes: int = 1, size: tuple[float, float] = (5.0, 3.6)
) -> np.ndarray:
    """Axes to draw on: those given, or as many new ones side by side.

    Parameters
    ----------
    ax : matplotlib Axes, array-like of them, or None
    n_axes : int, default=1
    size : tuple of float, default=(5.0, 3.6)
        Width and height of one, in inches.

    Returns
    -------
    ndarray of shape (n_axes,) of matplotlib Axes

    Raises
    ------
    ValueError
        If another number of axes is given than is drawn on.
    """
    plt = _pyplot()
    if ax is None:
        width, height = size
        _, axes = plt.subplots(
            1,
            n_axes,
            figsize=(width * n_axes, height),
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        return axes.ravel()
    axes = np.array([ax], dtype=object) if not np.iterable(ax) else np.ravel(np.asarray(ax))
    if len(axes) != n_axes:
        raise ValueError(f"ax must hold {n_axes} axes, one for each panel. Got {len(axes)}.")
    return axes


def whole_ticks(ax: Axes) -> None:
    """Ticks at whole numbers only: of blocks, epochs or dimensions."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def block_colors(n_blocks: int) -> list[Any]:
    """Colours from the block next to the noise (dark) to the one next to the label (light)."""
    colormap = _pyplot().get_cmap("viridis")
    return [colormap(share) for share in np.linspace(0.0, 0.88, n_blocks)]


def fitted(estimator: Any, needed: str, display: str) -> Any:
    """The fitted classifier itself, the last step where a pipeline is given.

    Parameters
    ----------
    estimator : estimator or Pipeline
    needed : str
        Method or fitted attribute that the display reads.
    display : str
        Name of the display, for messages.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        Before `fit`.
    TypeError
        If the estimator has nothing of that name.
    """
    if not hasattr(estimator, "fit"):
        raise TypeError(f"{display} needs a fitted estimator. Got {estimator!r}.")
    check_is_fitted(estimator)
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    if not hasattr(last, needed):
        raise TypeError(
            f"{display} reads {needed!r}, as a fitted NoPropClassifier (or a Pipeline that ends in "
            f"one) has it. Got {type(last).__name__}."
        )
    return last


def label_numbers(y_true: Any, classes: np.ndarray) -> np.ndarray:
    """Where in `classes` each label stands.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,), or a column
    classes : ndarray of shape (n_classes,)

    Returns
    -------
    ndarray of shape (n_samples,), int64

    Raises
    ------
    ValueError
        If a label is none of the classes, or `y_true` is empty or has another shape.
    """
    labels = column_or_1d(np.asarray(y_true)).tolist()
    if not labels:
        raise ValueError("y_true must hold at least one label. Got none.")
    places = {label: place for place, label in enumerate(classes.tolist())}
    unknown = [label for label in labels if label not in places]
    if unknown:
        raise ValueError(
            f"y_true must hold labels among the classes {classes.tolist()}. Got {unknown[0]!r}."
        )
    return np.array([places[label] for label in labels], dtype=np.int64)


def transformed(estimator: Any, X: Any) -> Any:
    """Rows as the last step of a pipeline sees them; as they are for other estimators."""
    if isinstance(estimator, Pipeline) and len(estimator) > 1:
        return estimator[:-1].transform(X)
    return X
