"""Displays can be read: nothing overlaps, no name is lost, axes that count have whole numbers."""

from itertools import pairwise

import numpy as np
import pytest

from sknoprop.inspection import (
    BlockScoreDisplay,
    DenoisingDisplay,
    EmbeddingDisplay,
    LossCurveDisplay,
    ReliabilityDisplay,
    ScheduleDisplay,
)
from tests.figures import matplotlib, plt

pytestmark = pytest.mark.usefixtures("closed_figures")

#: Names that matplotlib hides, takes for formulas, or cannot read as formulas.
AWKWARD = ["_a", "", "$x^$", "costs $5 and $6", "__init__", " b", r"\$1"]
LONG = "a rather long name of a class, which nobody would ever call short"


def drawn(display):
    """The display, drawn: where formulas are read and room is given."""
    display.figure_.canvas.draw()
    return display


def read(text):
    """What is read where a text is drawn: no formula, and no backslash that keeps it from one."""
    assert not matplotlib.cbook.is_math_text(text.get_text())
    return text.get_text().replace(r"\$", "$")


def legend_names(ax):
    return [read(text) for text in ax.get_legend().get_texts()]


def boxes(texts):
    return [text.get_window_extent() for text in texts]


def judged(name, **kwargs):
    return ReliabilityDisplay.from_predictions([0, 1], [[0.5, 0.5], [0, 1]], name=name, **kwargs)


def step_by_step(n_steps, n_samples=1, n_classes=3, **kwargs):
    likely = np.full((n_steps, n_samples, n_classes), 1 / n_classes)
    return DenoisingDisplay(likely, **kwargs)


# Names.


def test_classes_are_named_as_they_are():
    n = len(AWKWARD)
    display = step_by_step(4, n, n, classes=AWKWARD, y_true=AWKWARD).plot(threshold=0.1)
    for ax, name in zip(drawn(display).axes_, AWKWARD, strict=True):
        assert legend_names(ax) == AWKWARD
        assert read(ax.title) == f"true class: {name}"
    heat = drawn(EmbeddingDisplay(np.eye(n), classes=AWKWARD).plot())
    assert [read(label) for label in heat.ax_.get_yticklabels()] == AWKWARD
    images = EmbeddingDisplay(np.zeros((n, 4)), classes=AWKWARD, image_shape=(2, 2))
    assert [read(text) for text in drawn(images.plot(n_cols=3)).text_] == AWKWARD


@pytest.mark.parametrize("name", AWKWARD)
def test_estimators_and_schedules_are_named_as_they_are(name):
    display = drawn(judged(name).plot())
    assert legend_names(display.ax_) == [f"{name} (ECE 25.0%)"]
    # On the axes of another display both are named.
    judged("other").plot(display.ax_)
    assert legend_names(display.ax_) == [f"{name} (ECE 25.0%)", "other (ECE 25.0%)"]
    schedule = drawn(ScheduleDisplay.from_schedule("cosine", name=name).plot())
    prefix = f"{name}: " if name else ""
    assert legend_names(schedule.ax_) == [f"{prefix}signal", f"{prefix}noise"]
    schedule.plot(quantity="log_snr")
    if name:
        assert legend_names(drawn(schedule).ax_) == [name]
    else:
        assert drawn(schedule).ax_.get_legend() is None


def test_a_label_of_ones_own_is_matplotlibs():
    display = judged("m").plot(label="$x^2$")
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["$x^2$"]
    assert judged("m").plot(label="_nolegend_").ax_.get_legend() is None
    display = ScheduleDisplay.from_schedule("cosine").plot(label="mine")
    assert legend_names(display.ax_) == ["mine: signal", "mine: noise"]


def test_where_no_class_is_likely_there_is_no_legend():
    display = drawn(step_by_step(3, n_samples=2, n_classes=12).plot())
    assert [ax.get_legend() for ax in display.axes_] == [None, None]


def test_long_names_stay_in_their_panels():
    display = step_by_step(4, 3, 3, classes=["a", LONG, "$" * 60], y_true=["a", LONG, "$" * 60])
    display = drawn(display.plot())
    for left, right in pairwise(boxes(ax.title for ax in display.axes_)):
        assert left.x1 < right.x0
    for ax in display.axes_:
        panel, (_, cut, dollars) = ax.get_window_extent(), ax.get_legend().get_texts()
        assert read(cut)[-1] == "…"
        assert LONG.startswith(read(cut)[:-1])
        assert set(read(dollars)) == {"$", "…"}
        legend = ax.get_legend().get_window_extent()
        assert panel.x0 <= legend.x0
        assert legend.x1 <= panel.x1


# Matplotlib's short keywords.


@pytest.mark.parametrize(
    ("given", "property_", "value"),
    [({"c": "k"}, "color", "k"), ({"lw": 3}, "linewidth", 3), ({"ls": ":"}, "linestyle", ":")],
)
def test_short_keywords_are_those_they_stand_for(given, property_, value):
    for display in (
        judged("m").plot(**given),
        ScheduleDisplay.from_schedule("cosine").plot(**given),
        ScheduleDisplay.from_schedule("cosine").plot(quantity="log_snr", **given),
    ):
        assert {plt.getp(line, property_) for line in display.lines_} == {value}


# Axes.


@pytest.mark.parametrize("n", [1, 2, 3, 12, 40])
def test_axes_that_count_have_whole_numbers(n):
    scores = {
        f"{which}_{score}": np.linspace(0.1, 0.9, n)
        for which in ("staged", "own")
        for score in ("accuracy", "log_loss")
    }
    for display in (
        LossCurveDisplay(np.ones((n, 2))),
        LossCurveDisplay(np.ones((n, 2)), validation_scores=-np.ones((n, 2))),
        step_by_step(n, n_samples=2),
        BlockScoreDisplay(**scores),
        EmbeddingDisplay(np.ones((2, n))),
    ):
        axes = drawn(display.plot()).figure_.axes
        ticks = display.ax_.get_xticks()
        np.testing.assert_array_equal(ticks, np.round(ticks), err_msg=str(display))
        low, high = display.ax_.get_xlim()
        assert ((low <= ticks) & (ticks <= high)).any()
        if isinstance(display, DenoisingDisplay):
            assert all((ax.get_xticks() % 1 == 0).all() for ax in axes)


def test_time_is_no_count():
    display = drawn(step_by_step(3, position=[0.0, 0.5, 1.0]).plot())
    assert 0.5 in display.ax_.get_xticks()


def test_one_step_is_seen():
    for lines in (
        LossCurveDisplay(np.ones((1, 3))).plot().lines_,
        step_by_step(1).plot().lines_[0],
    ):
        assert {line.get_marker() for line in lines} == {"o"}
    assert {line.get_marker() for line in step_by_step(2).plot().lines_[0]} == {""}


# Many blocks.


@pytest.mark.parametrize("n_blocks", [2, 12, 13, 40, 100])
def test_loss_curves_of_many_blocks_have_room(n_blocks):
    display = drawn(LossCurveDisplay(np.random.default_rng(0).random((9, n_blocks))).plot())
    panel = display.ax_.get_window_extent()
    assert panel.width > 0.65 * display.figure_.bbox.width
    legend, bars = display.ax_.get_legend(), display.figure_.axes[1:]
    if n_blocks <= 12:
        assert legend_names(display.ax_) == [str(block + 1) for block in range(n_blocks)]
        assert legend.get_window_extent().width < panel.width
        assert not bars
        return
    assert legend is None
    (bar,) = bars
    ticks = bar.get_yticks()
    assert 5 < len(ticks) < 14
    assert ticks[0] == 1
    assert set(ticks) <= set(range(1, n_blocks + 1))
    # A block's colour in the bar is that of its line.
    (mesh,) = (mesh for mesh in bar.collections if mesh.get_array() is not None)
    for block in (1, n_blocks // 2, n_blocks):
        assert tuple(mesh.to_rgba(block)) == display.lines_[block - 1].get_color()


@pytest.mark.parametrize("n_blocks", [1, 2, 12, 40, 100])
@pytest.mark.parametrize(
    "spread",
    [lambda s: s, lambda s: np.minimum(s * 1.07, 1.0 - 0.002 * (1 - s)), lambda s: s**3],
    ids=["even", "last narrow", "crowded"],
)
def test_numbers_of_blocks_do_not_overlap(n_blocks, spread):
    display = ScheduleDisplay.from_schedule("cosine")
    display.edges = spread(np.linspace(0, 1, n_blocks + 1))
    texts = drawn(display.plot()).ax_.texts
    for left, right in pairwise(boxes(texts)):
        assert left.x1 + 1 < right.x0
    numbers = [int(text.get_text()) for text in texts]
    assert numbers[0] == 1
    assert len(numbers) >= min(n_blocks, 5)
    for number, text in zip(numbers, texts, strict=True):
        assert text.xy[0] == pytest.approx(display.edges[number - 1 : number + 1].mean())


def test_numbers_of_even_blocks_are_counted_in_steps():
    display = ScheduleDisplay.from_schedule("cosine")
    for n_blocks, expected in ((12, range(1, 13)), (40, [1, *range(5, 41, 5)])):
        display.edges = np.linspace(0, 1, n_blocks + 1)
        texts = display.plot().ax_.texts
        assert [int(text.get_text()) for text in texts] == list(expected)


# Many classes.


@pytest.mark.parametrize("n_classes", [2, 5, 12, 40, 100])
def test_names_beside_a_heat_map_do_not_overlap(n_classes):
    names = [f"{k} {LONG}" if k % 2 else str(k) for k in range(n_classes)]
    display = drawn(EmbeddingDisplay(np.ones((n_classes, 4)), classes=names).plot())
    labels = display.ax_.get_yticklabels()
    for upper, lower in pairwise(boxes(labels)):
        assert upper.y0 > lower.y1
    assert len(labels) >= min(n_classes, 12)
    for label, row in zip(labels, display.ax_.get_yticks(), strict=True):
        assert names[row].startswith(label.get_text().rstrip("…"))
    assert display.ax_.get_window_extent().width > 0.4 * display.figure_.bbox.width


@pytest.mark.parametrize("n_cols", [2, 5, 10])
@pytest.mark.parametrize("n_classes", [2, 5, 12, 40])
def test_names_above_images_do_not_overlap(n_classes, n_cols):
    names = [f"{k} {LONG}" if k % 3 else str(k) for k in range(n_classes)]
    weights = np.random.default_rng(0).random((n_classes, 64))
    display = EmbeddingDisplay(weights, classes=names, image_shape=(8, 8)).plot(n_cols=n_cols)
    found = boxes(drawn(display).text_)
    for k, (left, right) in enumerate(pairwise(found), start=1):
        assert k % n_cols == 0 or left.x1 < right.x0
    # Nor do they cover the image above: eight numbers high, and a name's room of three.
    to_pixels = display.ax_.transData.transform
    above = to_pixels([(0, 0), (0, -3)])
    assert max(box.height for box in found) <= above[1, 1] - above[0, 1]
    for text, name in zip(display.text_, names, strict=True):
        assert name.startswith(text.get_text().rstrip("…"))
        assert len(text.get_text()) >= min(len(name), 4)


def test_a_heat_map_is_not_smeared():
    display = EmbeddingDisplay(np.zeros((3, 2))).plot()
    assert display.im_.get_interpolation() == "nearest"
    low, high = display.im_.get_clim()
    assert low < high


@pytest.mark.parametrize(
    ("layout", "within"),
    [
        (None, False),
        (None, True),
        ("tight", False),
        ("constrained", False),
        ("constrained", True),
        ("compressed", False),
    ],
)
def test_displays_fit_into_figures_of_ones_own(layout, within):
    """Of any layout, or none; and a figure within another."""
    names = [*"abc", LONG]
    for display, n_panels in (
        (EmbeddingDisplay(np.eye(4), classes=names, image_shape=(2, 2)), 1),
        (EmbeddingDisplay(np.eye(4), classes=names), 1),
        (step_by_step(3, 2, 4, classes=names, y_true=["a", LONG]), 2),
        (LossCurveDisplay(np.ones((3, 40))), 1),
    ):
        whole = plt.figure(layout=layout, figsize=(9, 4))
        figure = whole.subfigures(1, 2)[1] if within else whole
        display.plot(figure.subplots(1, n_panels))
        assert display.figure_ is figure
        whole.canvas.draw()
