"""What all displays share: optional imports, fitted estimators, axes, colours and texts."""

from __future__ import annotations

from itertools import count
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

__all__ = [
    "COLORS",
    "block_bar",
    "block_colors",
    "counted",
    "draw_legend",
    "escaped",
    "fit_text",
    "fitted",
    "import_pandas",
    "label_numbers",
    "laid_out",
    "legend_label",
    "line_style",
    "new_axes",
    "round_step",
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
    """Ticks at whole numbers only: of blocks, epochs, steps or dimensions."""
    from matplotlib.ticker import MaxNLocator

    # With one number to show, two ticks could not both be whole.
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def block_colors(n_blocks: int) -> list[Any]:
    """Colours from the block next to the noise (dark) to the one next to the label (light)."""
    colormap = _pyplot().get_cmap("viridis")
    return [colormap(share) for share in np.linspace(0.0, 0.88, n_blocks)]


def block_bar(ax: Axes, n_blocks: int) -> None:
    """A bar that tells blocks' colours, where they are too many for a legend."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    colors = ListedColormap(block_colors(n_blocks))
    norm = BoundaryNorm(np.arange(n_blocks + 1) + 0.5, n_blocks)
    bar = ax.figure.colorbar(
        ScalarMappable(norm, colors),
        ax=ax,
        ticks=counted(n_blocks, round_step(n_blocks / 8)),
        label="block (1: next to the noise)",
    )
    bar.minorticks_off()


def round_step(least: float) -> int:
    """The first of 1, 2, 5, 10, 20, 50, ... that is not below: steps that are easily counted."""
    step = next(k * 10**power for power in count() for k in (1, 2, 5) if k * 10**power >= least)
    return int(step)


def counted(n: int, step: int) -> list[int]:
    """Some of the numbers from 1 to n, as one counts in steps: 1, 2, 3 or 1, 3, 5 or 1, 5, 10."""
    return list(range(1, n + 1, step)) if step <= 2 else [1, *range(step, n + 1, step)]


def line_style(kwargs: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    """A user's keywords for a line over one's own: their short names (c, lw) are the same ones."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    return defaults | normalize_kwargs(kwargs, Line2D)


def escaped(text: Any) -> str:
    """A user's text to be drawn as it is: between dollars matplotlib would read a formula."""
    return str(text).replace("$", r"\$")


def legend_label(text: str) -> str:
    """A label that a legend shows: matplotlib leaves out empty ones, and those after a "_".

    A space in front keeps them, on whoever's legend; `draw_legend` takes it away.
    """
    return f" {text}" if not text or text.startswith("_") else text


def draw_legend(ax: Axes, room: float | None = None, **kwargs: Any) -> None:
    """A legend of all that has a label, if anything has; `room` is that of a text, in pixels."""
    handles, labels = ax.get_legend_handles_labels()
    if not handles:  # of which matplotlib would warn
        return
    for text, label in zip(ax.legend(handles, labels, **kwargs).get_texts(), labels, strict=True):
        if label == " " or label.startswith(" _"):
            text.set_text(label[1:])
        if room is not None and text.get_window_extent().width > room:
            fit_text(text, text.get_text().replace(r"\$", "$"), room)


def laid_out(ax: Axes) -> None:
    """Give axes the room they will have, so that it can be measured before they are drawn."""
    engine = ax.figure.get_layout_engine()
    if engine is not None:
        engine.execute(ax.figure.figure)
    ax.apply_aspect()


def fit_text(text: Text, content: str, room: float) -> None:
    """Write as much of a user's text as there is room for, in pixels, with an ellipsis after it."""
    text.set_text(escaped(content))
    width = text.get_window_extent().width
    if width <= room:
        return
    # A guess from above by the mean width of a letter, for texts that are far too long.
    length = min(len(content) - 1, 2 + int(1.5 * len(content) * room / width))
    for end in range(length, -1, -1):
        text.set_text(escaped(content[:end].rstrip() + "…"))
        if text.get_window_extent().width <= room:
            return


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
