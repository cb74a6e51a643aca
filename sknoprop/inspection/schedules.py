"""Signal, noise and weight over time, and which block owns which times."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sknoprop._modes import own_default_device
from sknoprop.inspection._checks import check_positive_int
from sknoprop.inspection._plotting import (
    COLORS,
    counted,
    draw_legend,
    escaped,
    fitted,
    import_pandas,
    legend_label,
    line_style,
    new_axes,
    round_step,
)
from sknoprop.schedules import SCHEDULES, Schedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D
    from matplotlib.transforms import Bbox
    from pandas import DataFrame

__all__ = ["ScheduleDisplay"]

_LABELS = {
    "levels": "factor in $z_t$",
    "log_snr": "log signal-to-noise ratio",
    "loss_weight": "weight of the squared error",
}


class ScheduleDisplay:
    """A schedule over time, with the blocks' intervals where they are known.

    It is recommended to create one with `from_schedule` or `from_estimator`.

    Parameters
    ----------
    t : ndarray of shape (n_times,)
        Times, from 0 (pure noise) to 1 (label).
    signal, noise, log_snr : ndarray of shape (n_times,)
        What the schedule says at these times.
    loss_weight : ndarray of shape (n_times,)
        Factor of a squared error at these times in the loss; NaN where nothing is trained. For
        "dt" and "ct" the error is that of the label's embedding, for "fm" that of the velocity.
    edges : ndarray of shape (n_blocks + 1,), default=None
        Where blocks' intervals begin and end.
    name : str, default=None
        What the curves are of.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        One a curve.

    Notes
    -----
    Where blocks share nothing, training divides each block's loss by a constant of its own, see
    `loss_curve_` of `NoPropClassifier`: the weight then matters within a block, not between them.

    Examples
    --------
    >>> from sknoprop.inspection import ScheduleDisplay
    >>> display = ScheduleDisplay.from_schedule("straight", n_times=3)
    >>> display.signal.tolist()
    [0.0, 0.5, 1.0]
    """

    ax_: Axes
    figure_: Figure | SubFigure
    lines_: list[Line2D]

    def __init__(
        self,
        t: np.ndarray,
        *,
        signal: np.ndarray,
        noise: np.ndarray,
        log_snr: np.ndarray,
        loss_weight: np.ndarray,
        edges: np.ndarray | None = None,
        name: str | None = None,
    ) -> None:
        self.t = t
        self.signal = signal
        self.noise = noise
        self.log_snr = log_snr
        self.loss_weight = loss_weight
        self.edges = edges
        self.name = name

    @classmethod
    @own_default_device()
    def from_schedule(
        cls, schedule: str | Schedule, *, n_times: int = 257, name: str | None = None
    ) -> ScheduleDisplay:
        """Evaluate a schedule.

        Parameters
        ----------
        schedule : {"cosine", "linear", "sigmoid", "straight", "learned"} or Schedule
            "learned" is as before training.
        n_times : int, default=257
            Number of evenly spaced times.
        name : str, default=None
            By default that of the schedule.

        Returns
        -------
        ScheduleDisplay
            With the paper's weight in continuous time, ``SNR'(t) / 2``.

        Raises
        ------
        ValueError
            If there is no schedule of this name, or `n_times` is no positive int.
        TypeError
            If it is neither a name nor a schedule.
        """
        check_positive_int(n_times, "n_times")
        if isinstance(schedule, str):
            if schedule not in SCHEDULES:
                raise ValueError(
                    f"schedule must be among {sorted(SCHEDULES)}, or a Schedule. Got {schedule!r}."
                )
            name = schedule if name is None else name
            schedule = SCHEDULES[schedule]()
        elif not isinstance(schedule, Schedule):
            raise TypeError(f"schedule must be a name or a Schedule. Got {schedule!r}.")
        name = type(schedule).__name__ if name is None else name
        t = torch.linspace(0.0, 1.0, n_times, dtype=torch.float64)
        schedule = copy.deepcopy(schedule).cpu().double()
        weight = 0.5 * schedule.snr_derivative(t)
        return cls(**_evaluated(schedule, t), loss_weight=weight.detach().numpy(), name=name)

    @classmethod
    @own_default_device()
    def from_estimator(
        cls, estimator: Any, *, n_times: int = 64, name: str | None = None
    ) -> ScheduleDisplay:
        """Take a fitted classifier's schedule, loss and cut of time.

        Parameters
        ----------
        estimator : NoPropClassifier
            Fitted, or a fitted pipeline that ends in one.
        n_times : int, default=64
            Number of times in the interval of each block, and in that after the last of them.
        name : str, default=None
            By default that of the variant and its schedule's class.

        Returns
        -------
        ScheduleDisplay
            In discrete time a block has but one noise level, that at the beginning of its
            interval; its weight is spread over the interval.

        Raises
        ------
        ValueError
            If `n_times` is no positive int.
        TypeError
            If the estimator is no such classifier.
        sklearn.exceptions.NotFittedError
            Before `fit`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sknoprop import NoPropClassifier
        >>> from sknoprop.inspection import ScheduleDisplay
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = NoPropClassifier(n_blocks=4, max_iter=1).fit(X, y)
        >>> ScheduleDisplay.from_estimator(clf).edges.tolist()
        [0.0, 0.25, 0.5, 0.75, 1.0]
        """
        check_positive_int(n_times, "n_times")
        clf = fitted(estimator, "blocks_", cls.__name__)
        model = clf.blocks_
        span = model.partition.span
        inside = torch.arange(n_times).to(span.start) / n_times
        t = span.start[:, None] + span.length[:, None] * inside
        with torch.no_grad():
            weight = model.variant.weight(model.path, t[:, None])[:, 0]
            # A block's weight holds the length of its interval: here it is per unit of time.
            weight = model.loss_weight * weight / span.length[:, None]
        rest = torch.linspace(float(span.end[-1]), 1.0, n_times, device=t.device)
        t = torch.cat([t.flatten(), rest]).double().cpu()
        weight = torch.cat([weight.expand(-1, n_times).flatten(), torch.full_like(rest, torch.nan)])
        schedule = copy.deepcopy(model.schedule).cpu().double()
        edges = model.partition.edges.cpu().double().numpy()
        if name is None:
            name = f"{clf.variant}, {type(schedule).__name__}"
        loss_weight = weight.double().cpu().numpy()
        return cls(**_evaluated(schedule, t), loss_weight=loss_weight, edges=edges, name=name)

    def plot(
        self, ax: Any = None, *, quantity: str = "levels", show_blocks: bool = True, **kwargs: Any
    ) -> ScheduleDisplay:
        """Draw one quantity over time.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None for a new figure; that of another display to compare the two.
        quantity : {"levels", "log_snr", "loss_weight"}, default="levels"
            Signal and noise, the logarithm of their squared ratio, or the weight of the loss.
        show_blocks : bool, default=True
            Whether to shade the blocks' intervals, if they are known, with the numbers of as many
            as have room.
        **kwargs : dict
            Passed on to matplotlib's ``plot``.

        Returns
        -------
        ScheduleDisplay
            This one.

        Raises
        ------
        ValueError
            If `quantity` is none of these.
        """
        if quantity not in _LABELS:
            raise ValueError(
                f"quantity must be 'levels', 'log_snr' or 'loss_weight'. Got {quantity!r}."
            )
        (self.ax_,) = new_axes(ax)
        self.figure_ = self.ax_.figure
        self.ax_.set_xlim(0, 1)
        if show_blocks and self.edges is not None:
            self._shade(self.edges)
        # Another display's curves on the same axes have had the first colours.
        n_lines = len(self.ax_.lines) // (2 if quantity == "levels" else 1)
        label = legend_label(escaped(self.name)) if self.name else None
        style = line_style(kwargs, color=COLORS[n_lines % len(COLORS)], label=label)
        if quantity == "levels":
            # Two curves: what they are called tells whose they are.
            label = style.pop("label")
            prefix = "" if label is None else f"{label}: "
            dashed: dict[str, Any] = {"linestyle": "--"} | style
            self.lines_ = [
                *self.ax_.plot(self.t, self.signal, label=f"{prefix}signal", **style),
                *self.ax_.plot(self.t, self.noise, label=f"{prefix}noise", **dashed),
            ]
        else:
            values = getattr(self, quantity)
            # At the ends of time some schedules are infinite.
            values = np.where(np.isfinite(values), values, np.nan)
            self.lines_ = self.ax_.plot(self.t, values, **style)
            if quantity == "loss_weight":
                self.ax_.set_yscale("log")
        self.ax_.set(xlabel="time (0: noise, 1: label)", ylabel=_LABELS[quantity])
        draw_legend(self.ax_, fontsize="small")
        return self

    def _shade(self, edges: np.ndarray) -> None:
        """Bands for the blocks, every other one shaded, with their numbers on top."""
        numbers = []
        for block, (start, end) in enumerate(pairwise(edges)):
            if block % 2 == 0:
                self.ax_.axvspan(start, end, color="0.93", zorder=0, linewidth=0)
            number = self.ax_.annotate(
                str(block + 1),
                (0.5 * (start + end), 1.0),
                xycoords=self.ax_.get_xaxis_transform(),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize="small",
                color="0.4",
            )
            numbers.append(number)
        written = _with_room([number.get_window_extent() for number in numbers])
        for block, number in enumerate(numbers, start=1):
            if block not in written:
                number.remove()

    def frame(self) -> DataFrame:
        """Numbers as a data frame.

        Returns
        -------
        pandas DataFrame
            A row a time, with columns "t", "signal", "noise", "log_snr", "loss_weight", and
            "block" (from 1 on; the last one serves all times after its own) if it is known.
        """
        pd = import_pandas()
        frame = pd.DataFrame(
            {
                name: getattr(self, name)
                for name in ("t", "signal", "noise", "log_snr", "loss_weight")
            }
        )
        if self.edges is not None:
            frame["block"] = 1 + np.searchsorted(self.edges[1:-1], self.t, side="right")
        return frame


@torch.no_grad()
def _evaluated(schedule: Schedule, t: torch.Tensor) -> dict[str, np.ndarray]:
    values = {"signal": schedule.signal(t), "noise": schedule.noise(t), "t": t}
    values["log_snr"] = schedule.log_snr(t)
    return {name: value.numpy() for name, value in values.items()}


def _with_room(boxes: list[Bbox]) -> list[int]:
    """Blocks, from 1 on, whose numbers do not run into each other: every k-th one if that helps."""
    gap = 0.5 * boxes[0].height

    def apart(left: int, right: int) -> bool:
        return bool(boxes[right - 1].x0 - boxes[left - 1].x1 >= gap)

    step = 1
    while step == 1 or step <= len(boxes) / 8:
        regular = counted(len(boxes), step)
        if all(apart(left, right) for left, right in pairwise(regular)):
            return regular
        step = round_step(step + 1)
    # Where blocks crowd in some times only, all that have room: most of them elsewhere.
    written = [1]
    for block in range(2, len(boxes) + 1):
        if apart(written[-1], block):
            written.append(block)
    return written
