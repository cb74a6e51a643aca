"""Displays show what a model says, by numbers worked out here; they need no more than it has."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknoprop import NoPropClassifier, inspection
from sknoprop.inspection import (
    BlockScoreDisplay,
    DenoisingDisplay,
    EmbeddingDisplay,
    LossCurveDisplay,
    ReliabilityDisplay,
    ScheduleDisplay,
)
from sknoprop.schedules import CosineSchedule, StraightLineSchedule
from tests.figures import plt

pytestmark = pytest.mark.usefixtures("closed_figures")

X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])
y = NAMES[Y]
HELD = slice(1, None, 3)


def fit(variant="dt", **params):
    small = {"n_blocks": 3, "hidden_layer_sizes": 8, "max_iter": 4, "random_state": 0}
    return NoPropClassifier(variant, **(small | params)).fit(X, y)


@pytest.fixture(scope="module")
def dt():
    return fit()


# What holds for all.

ALL = [
    (DenoisingDisplay, lambda d, clf: d.from_estimator(clf, X[:2])),
    (BlockScoreDisplay, lambda d, clf: d.from_estimator(clf, X[HELD], y[HELD])),
    (LossCurveDisplay, lambda d, clf: d.from_estimator(clf)),
    (ScheduleDisplay, lambda d, clf: d.from_estimator(clf)),
    (EmbeddingDisplay, lambda d, clf: d.from_estimator(clf)),
    (ReliabilityDisplay, lambda d, clf: d.from_estimator(clf, X[HELD], y[HELD])),
]


@pytest.mark.parametrize(("display", "make"), ALL, ids=lambda a: getattr(a, "__name__", ""))
def test_a_display_computes_once_draws_many_and_gives_its_numbers(display, make, dt):
    made = make(display, dt)
    assert not hasattr(made, "ax_"), "drawn before plot"
    assert made.plot() is made
    own = made.figure_
    n_panels = len(own.axes) if display is DenoisingDisplay else 1
    _, axes = plt.subplots(1, n_panels)
    made.plot(axes)
    assert made.ax_ is np.ravel(axes)[0]
    assert made.figure_ is not own
    frame = made.frame()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame)


@pytest.mark.parametrize(("display", "make"), ALL, ids=lambda a: getattr(a, "__name__", ""))
def test_what_is_not_fitted_or_not_suitable_is_named(display, make):
    with pytest.raises(NotFittedError):
        make(display, NoPropClassifier())
    with pytest.raises(TypeError, match=f"{display.__name__} needs a fitted estimator"):
        make(display, "classifier")
    if display is not ReliabilityDisplay:  # any classifier will do there
        other = LogisticRegression(max_iter=500).fit(X, y)
        with pytest.raises(TypeError, match=f"{display.__name__} reads .*LogisticRegression"):
            make(display, other)


@pytest.mark.parametrize(("display", "make"), ALL, ids=lambda a: getattr(a, "__name__", ""))
def test_a_pipeline_is_seen_through(display, make):
    pipe = make_pipeline(
        StandardScaler(), NoPropClassifier(max_iter=2, hidden_layer_sizes=8, random_state=0)
    ).fit(X, y)
    bare = make(display, pipe).frame().drop(columns="name", errors="ignore")
    scaled = NoPropClassifier(max_iter=2, hidden_layer_sizes=8, random_state=0)
    Z = StandardScaler().fit_transform(X)
    direct = {
        DenoisingDisplay: lambda c: DenoisingDisplay.from_estimator(c, Z[:2]),
        BlockScoreDisplay: lambda c: BlockScoreDisplay.from_estimator(c, Z[HELD], y[HELD]),
        ReliabilityDisplay: lambda c: ReliabilityDisplay.from_estimator(c, Z[HELD], y[HELD]),
    }.get(display, lambda c: make(display, c))(scaled.fit(Z, y))
    pd.testing.assert_frame_equal(bare, direct.frame().drop(columns="name", errors="ignore"))


@pytest.mark.slow
def test_importing_inspection_imports_neither_matplotlib_nor_pandas():
    # skorch and joblib may bring pandas by themselves: what counts is what inspection adds.
    code = """
import sys, sknoprop
before = {'matplotlib', 'pandas'} & set(sys.modules)
import sknoprop.inspection
print(before, {'matplotlib', 'pandas'} & set(sys.modules), sep=";")
"""
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    before, after = printed.strip().split(";")
    assert after == before
    assert "matplotlib" not in after


@pytest.mark.parametrize(
    ("package", "act", "says"),
    [
        ("matplotlib.pyplot", lambda d: d.plot(), r"pip install 'sknoprop\[plot\]'"),
        ("pandas", lambda d: d.frame(), "pip install pandas"),
    ],
)
def test_what_is_missing_is_named(package, act, says, monkeypatch):
    display = ScheduleDisplay.from_schedule("cosine")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=says):
        act(display)


def test_inspection_sees_public_names_only():
    for path in Path(inspection.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                own = isinstance(node.value, ast.Name) and node.value.id == "self"
                assert own or node.attr == "__name__", f"{path.name}: {node.attr}"


# Denoising.


def test_denoising_along_time_is_the_mean_trajectory():
    clf = fit("fm", n_steps=6, n_draws=4, readout="linear")
    display = DenoisingDisplay.from_estimator(clf, X[::50], y[::50]).plot()
    times, _, proba = clf.predict_trajectory(X[::50])
    np.testing.assert_array_equal(display.position, times)
    np.testing.assert_allclose(display.y_proba, proba.mean(2))
    last = clf.set_params(inference="trajectory").predict_proba(X[::50])
    np.testing.assert_allclose(display.y_proba[-1], last)
    line = display.lines_[2][1]  # the third row's second class
    np.testing.assert_array_equal(line.get_ydata(), display.y_proba[:, 2, 1])
    assert [ax.get_title() for ax in display.axes_] == [f"true class: {n}" for n in NAMES]


def test_denoising_over_blocks_is_the_running_mean(dt):
    display = DenoisingDisplay.from_estimator(dt, X[:2], along="blocks")
    own = dt.predict_block_proba(X[:2])
    np.testing.assert_allclose(display.y_proba[1], (own[0] + own[1]) / 2)
    np.testing.assert_array_equal(display.position, [1, 2, 3])


def test_denoising_frame_names_each_number():
    p = np.arange(12.0).reshape(2, 2, 3)
    frame = DenoisingDisplay(p, position=[0.0, 1.0], classes=["a", "b", "c"]).frame()
    at = frame.set_index(["position", "sample", "class"])["probability"]
    assert at[1.0, 0, "b"] == p[1, 0, 1]
    assert at[0.0, 1, "c"] == p[0, 1, 2]


def test_classes_that_never_matter_are_grey():
    p = np.array([[[0.6, 0.4, 0.0]], [[0.9, 0.1, 0.0]]])
    display = DenoisingDisplay(p).plot(threshold=0.3)
    (lines,) = display.lines_
    assert [line.get_label() for line in lines] == ["0", "1", "_nolegend_"]
    assert lines[2].get_color() == "0.8"


def test_the_true_class_is_named_however_unlikely():
    p = np.array([[[0.9, 0.1, 0.0], [0.9, 0.1, 0.0]]])
    display = DenoisingDisplay(p, y_true=[2, 0]).plot(threshold=0.3)
    first, second = display.lines_
    assert [line.get_label() for line in first] == ["0", "_nolegend_", "2"]
    assert first[2].get_color() not in ("0.8", first[0].get_color())
    # In the other row it is as grey as before.
    assert [line.get_label() for line in second] == ["0", "_nolegend_", "_nolegend_"]
    assert second[2].get_color() == "0.8"


def test_denoising_checks_its_arguments(dt):
    with pytest.raises(ValueError, match="along must be"):
        DenoisingDisplay.from_estimator(dt, X[:2], along="depth")
    with pytest.raises(ValueError, match="n_steps, n_samples, n_classes"):
        DenoisingDisplay(np.ones((2, 3)))
    with pytest.raises(ValueError, match="y_true must be of length 2"):
        DenoisingDisplay(np.ones((4, 2, 3)), y_true=[0, 1, 2])
    display = DenoisingDisplay.from_estimator(dt, X[:2])
    with pytest.raises(ValueError, match="ax must hold 2 axes"):
        display.plot(plt.gca())


# Scores of blocks.


def test_block_scores_are_scikit_learns(dt):
    display = BlockScoreDisplay.from_estimator(dt, X[HELD], y[HELD]).plot(metric="accuracy")
    stages, own = list(dt.staged_predict_proba(X[HELD])), dt.predict_block_proba(X[HELD])
    for k in range(3):
        for p, name in ((stages[k], "staged"), (own[k], "own")):
            labels = dt.classes_[p.argmax(1)]
            assert getattr(display, f"{name}_accuracy")[k] == accuracy_score(y[HELD], labels)
            assert getattr(display, f"{name}_log_loss")[k] == pytest.approx(log_loss(y[HELD], p))
    staged_line, own_line = display.lines_
    np.testing.assert_array_equal(staged_line.get_ydata(), display.staged_accuracy)
    np.testing.assert_array_equal(own_line.get_ydata(), display.own_accuracy)
    display.plot(which="own")
    (line,) = display.lines_
    np.testing.assert_array_equal(line.get_ydata(), display.own_log_loss)


def test_block_scores_tell_one_that_works_from_many_that_do():
    """One block that knows and two that guess: seen in each block's own scores."""
    truth = np.array([0, 1, 0, 1])
    knows, guesses = np.eye(2)[truth], np.full((4, 2), 0.5)
    display = BlockScoreDisplay.from_predictions(truth, [guesses, knows, guesses])
    np.testing.assert_allclose(display.own_log_loss, [np.log(2), 0.0, np.log(2)], atol=1e-9)
    np.testing.assert_allclose(display.staged_log_loss, -np.log([1 / 2, 3 / 4, 2 / 3]))


def test_block_scores_along_trajectories_are_those_of_its_stages():
    clf = fit(inference="trajectory", n_draws=2)
    display = BlockScoreDisplay.from_estimator(clf, X, y)
    expected = [log_loss(y, p) for p in clf.staged_predict_proba(X)]
    np.testing.assert_allclose(display.staged_log_loss, expected)
    with pytest.raises(ValueError, match="n_steps=None"):
        BlockScoreDisplay.from_estimator(clf.set_params(n_steps=2), X, y)


def test_block_scores_check_their_arguments(dt):
    with pytest.raises(ValueError, match="y_proba must be of shape"):
        BlockScoreDisplay.from_predictions([0, 1], np.ones((3, 2, 3)) / 3)
    display = BlockScoreDisplay.from_estimator(dt, X, y)
    with pytest.raises(ValueError, match="metric must be"):
        display.plot(metric="brier")
    with pytest.raises(ValueError, match="which must be"):
        display.plot(which="all")


# Curves of training.


def test_loss_curves_are_the_classifiers():
    clf = fit(early_stopping=True, max_iter=3)
    clf.set_params(warm_start=True, early_stopping=False, max_iter=2).fit(X, y)
    display = LossCurveDisplay.from_estimator(clf).plot()
    np.testing.assert_array_equal(display.lines_[2].get_ydata(), clf.loss_curve_[:, 2])
    np.testing.assert_array_equal(display.validation_epochs, [1, 2, 3])
    frame = display.frame().set_index(["epoch", "block"])
    assert frame.loc[(2, 3), "validation_log_loss"] == -clf.validation_scores_[1, 2]
    assert frame.loc[(5, 1), "loss"] == clf.loss_curve_[4, 0]
    assert np.isnan(frame.loc[(5, 1), "validation_log_loss"])
    display.plot(curve="validation")
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), -clf.validation_scores_[:, 0])


def test_without_validation_there_is_none_to_draw(dt):
    display = LossCurveDisplay.from_estimator(dt)
    with pytest.raises(ValueError, match="early_stopping=True"):
        display.plot(curve="validation")
    with pytest.raises(ValueError, match="curve must be"):
        display.plot(curve="accuracy")


# Schedules.


@pytest.mark.parametrize("schedule", ["straight", StraightLineSchedule()])
def test_a_schedule_is_evaluated(schedule):
    display = ScheduleDisplay.from_schedule(schedule, n_times=5)
    t = np.linspace(0, 1, 5)
    np.testing.assert_allclose(display.signal, t)
    np.testing.assert_allclose(display.noise, 1 - t)
    inner = slice(1, -1)
    np.testing.assert_allclose(
        display.log_snr[inner], 2 * np.log(t[inner] / (1 - t[inner])), atol=1e-12
    )
    # The weight is half the slope of t**2 / (1 - t)**2.
    np.testing.assert_allclose(display.loss_weight[inner], t[inner] / (1 - t[inner]) ** 3)
    display.plot(quantity="log_snr")  # whose ends are infinite
    assert np.isfinite(display.ax_.get_ylim()).all()


@pytest.mark.parametrize("variant", ["dt", "ct"])
def test_weights_of_label_errors_add_up_to_the_rise_of_the_snr(variant):
    """The paper's weights, whole over the blocks' times: half the rise, times eta."""
    clf = fit(variant, loss_weight=3.0)
    display = ScheduleDisplay.from_estimator(clf, n_times=400)
    trained = np.isfinite(display.loss_weight)
    width = np.repeat(np.diff(display.edges) / 400, 400)
    assert trained.sum() == len(width)
    snr = CosineSchedule().snr(torch.tensor([0.0, display.edges[-1]]).double()).numpy()
    whole = (display.loss_weight[trained] * width).sum()
    assert whole == pytest.approx(1.5 * (snr[1] - snr[0]), rel=0.02)
    assert (np.diff(display.loss_weight[trained]) >= -1e-6).all()


def test_flow_matching_weighs_velocities_alike():
    display = ScheduleDisplay.from_estimator(fit("fm", loss_weight=3.0))
    trained = np.isfinite(display.loss_weight)
    np.testing.assert_allclose(display.loss_weight[trained], 3.0, rtol=1e-6)
    assert display.t[trained].max() < display.edges[-1]


def test_a_classifiers_blocks_are_marked(dt):
    display = ScheduleDisplay.from_estimator(dt).plot(show_blocks=True)
    np.testing.assert_allclose(display.edges, [0, 1 / 3, 2 / 3, 1], atol=1e-6)
    assert [text.get_text() for text in display.ax_.texts] == ["1", "2", "3"]
    assert not ScheduleDisplay.from_estimator(dt).plot(show_blocks=False).ax_.texts
    frame = display.frame()
    assert frame.loc[frame["t"] == 0.0, "block"].tolist() == [1]
    assert frame.loc[frame["t"] > 0.7, "block"].unique().tolist() == [3]


def test_two_schedules_on_one_axes_have_their_own_colours():
    first = ScheduleDisplay.from_schedule("cosine").plot()
    second = ScheduleDisplay.from_schedule("linear").plot(first.ax_)
    assert first.lines_[0].get_color() == first.lines_[1].get_color()
    assert first.lines_[0].get_color() != second.lines_[0].get_color()


def test_schedules_check_their_arguments():
    with pytest.raises(ValueError, match="schedule must be among"):
        ScheduleDisplay.from_schedule("triangle")
    with pytest.raises(TypeError, match="name or a Schedule"):
        ScheduleDisplay.from_schedule(3)
    with pytest.raises(ValueError, match="quantity must be"):
        ScheduleDisplay.from_schedule("cosine").plot(quantity="snr")


def test_a_learned_schedule_is_left_as_it_is():
    clf = fit("ct", schedule="learned", max_iter=1)
    before = {k: v.clone() for k, v in clf.blocks_.schedule.state_dict().items()}
    ScheduleDisplay.from_estimator(clf).plot(quantity="loss_weight")
    for name, after in clf.blocks_.schedule.state_dict().items():
        torch.testing.assert_close(after, before[name], rtol=0, atol=0)


# Embeddings.


def test_a_heat_map_is_the_embedding():
    weight = np.array([[-2.0, -1.0], [0.0, 1.0], [3.0, 2.0]])
    display = EmbeddingDisplay.from_estimator(fit(embedding=weight)).plot()
    np.testing.assert_array_equal(display.im_.get_array(), weight)
    assert display.im_.get_clim() == (-3.0, 3.0)
    assert [tick.get_text() for tick in display.ax_.get_yticklabels()] == list(NAMES)
    assert display.frame().loc["virginica", 0] == 3.0


@pytest.mark.parametrize("image_shape", [(2, 3), (1, 2, 3)])
def test_embeddings_as_images_lie_where_their_names_are(image_shape):
    weight = np.arange(30.0).reshape(5, 6)
    display = EmbeddingDisplay(weight, classes=list("abcde"), image_shape=image_shape)
    display.plot(n_cols=2)
    canvas = np.ma.filled(display.im_.get_array().astype(float), np.nan)
    for k, text in enumerate(display.text_):
        assert text.get_text() == "abcde"[k]
        left, top = int(text.get_position()[0]) - 1, int(text.get_position()[1]) + 1
        image = canvas[top : top + 2, left : left + 3]
        np.testing.assert_array_equal(image, weight[k].reshape(2, 3))
    assert np.isfinite(canvas).sum() == 30


def test_colour_images_have_their_channels_last():
    weight = np.random.default_rng(0).random((2, 12))
    display = EmbeddingDisplay(weight, image_shape=(3, 2, 2)).plot()
    image = np.asarray(display.im_.get_array())[1:3, :2]
    scaled = (weight - weight.min()) / (weight.max() - weight.min())
    np.testing.assert_allclose(image, scaled[0].reshape(3, 2, 2).transpose(1, 2, 0))


def test_embeddings_check_their_arguments():
    with pytest.raises(ValueError, match="is not of embeddings with 4"):
        EmbeddingDisplay(np.eye(4), image_shape=(2, 3))
    with pytest.raises(ValueError, match="height, width"):
        EmbeddingDisplay(np.eye(4), image_shape=(4,))
    with pytest.raises(ValueError, match="1 or 3 channels"):
        EmbeddingDisplay(np.eye(4), image_shape=(2, 2, 1))
    with pytest.raises(ValueError, match="need an image_shape"):
        EmbeddingDisplay(np.eye(4)).plot(kind="images")
    with pytest.raises(ValueError, match="kind must be"):
        EmbeddingDisplay(np.eye(4)).plot(kind="bars")


# Reliability.


def test_reliability_by_hand():
    truth = np.array(["a", "a", "b", "b", "b", "a"])
    p = np.array([0.95, 0.91, 0.05, 0.45, 0.99, 1.0])  # of "a"
    display = ReliabilityDisplay.from_predictions(truth, np.c_[p, 1 - p], n_bins=10, name="hand")
    (curve,) = display.curves
    # Confidences .55 (right), .95 .91 .95 .99 1.0 (right but for .99).
    np.testing.assert_allclose(curve.confidence, [0.55, 0.96])
    np.testing.assert_allclose(curve.accuracy, [1.0, 0.8])
    np.testing.assert_array_equal(curve.count, [1, 5])
    error = (0.45 + 5 * 0.16) / 6
    assert curve.expected_calibration_error == pytest.approx(error)
    display.plot()
    assert display.lines_[0].get_label() == f"hand (ECE {error:.1%})"
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), curve.accuracy)
    display.plot(min_count=2)  # draws one bin less, of the same error
    assert display.lines_[0].get_label() == f"hand (ECE {error:.1%})"
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), curve.accuracy[1:])


def test_calibrated_probabilities_lie_on_the_diagonal_and_overconfident_ones_below():
    rng = np.random.default_rng(0)
    p = rng.dirichlet([0.5, 0.5, 0.5], size=20000)
    truth = (p.cumsum(1) < rng.random((len(p), 1))).sum(1)
    (curve,) = ReliabilityDisplay.from_predictions(truth, p).curves
    assert curve.expected_calibration_error < 0.015
    sure = p**3 / (p**3).sum(1, keepdims=True)
    (curve,) = ReliabilityDisplay.from_predictions(truth, sure).curves
    assert (curve.accuracy < curve.confidence).all()
    assert curve.expected_calibration_error > 0.1


def test_several_classifiers_are_compared_on_one_axes(dt):
    models = {"NoProp": dt, "logistic": LogisticRegression(max_iter=500).fit(X, y)}
    display = ReliabilityDisplay.from_estimators(models, X[HELD], y[HELD]).plot()
    p = models["logistic"].predict_proba(X[HELD])
    (alone,) = ReliabilityDisplay.from_predictions(y[HELD], p, name="logistic").curves
    np.testing.assert_array_equal(display.curves[1].accuracy, alone.accuracy)
    more = ReliabilityDisplay.from_estimator(dt, X, y, name="seen").plot(display.ax_)
    colors = [line.get_color() for line in (*display.lines_, *more.lines_)]
    assert len(set(colors)) == 3
    assert display.frame().groupby("name")["count"].sum().to_dict() == {
        "NoProp": 50,
        "logistic": 50,
    }


def test_reliability_checks_its_arguments():
    with pytest.raises(ValueError, match="y_proba must be of shape"):
        ReliabilityDisplay.from_predictions([0, 1], np.ones((2, 3)) / 3)
    with pytest.raises(ValueError, match="n_bins"):
        ReliabilityDisplay.from_predictions([0, 1], np.eye(2), n_bins=0)


def test_labels_may_be_a_column_and_classes_in_any_order(dt):
    """A column compared with a row would be a table of all with all."""
    clf = dt
    expected = BlockScoreDisplay.from_estimator(clf, X, y)
    column = BlockScoreDisplay.from_estimator(clf, X, pd.DataFrame({"y": y}))
    turned = BlockScoreDisplay.from_predictions(
        y, clf.predict_block_proba(X)[..., ::-1], classes=clf.classes_[::-1]
    )
    for name, wanted in vars(expected).items():
        for found in (column, turned):
            np.testing.assert_allclose(getattr(found, name), wanted, rtol=1e-12)
    curves = [
        ReliabilityDisplay.from_predictions(labels, clf.predict_proba(X)).curves[0]
        for labels in (y, y[:, None])
    ]
    np.testing.assert_array_equal(curves[0].accuracy, curves[1].accuracy)


@pytest.mark.parametrize("labels", [["a", "b"], [0, 7], np.eye(2)], ids=str)
def test_labels_that_are_no_classes_are_named(labels):
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    displays = (
        lambda: BlockScoreDisplay.from_predictions(labels, p[None], classes=[0, 1]),
        lambda: ReliabilityDisplay.from_predictions(labels, p, classes=[0, 1]),
        lambda: DenoisingDisplay(p[None], classes=[0, 1], y_true=labels),
    )
    for make in displays:
        with pytest.raises(ValueError, match=r"among the classes \[0, 1\]|y should be a 1d array"):
            make()


def test_what_cannot_be_shown_is_named():
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    with pytest.raises(ValueError, match=r"positive int. Got 2.5"):
        ReliabilityDisplay.from_predictions([0, 1], p, n_bins=2.5)
    with pytest.raises(ValueError, match="Got NaN or infinity"):
        ReliabilityDisplay.from_predictions([0, 1], p * np.nan)
    for names in (["a"], {"a": 1, "b": 2}):
        with pytest.raises(ValueError, match="must be 2 names"):
            DenoisingDisplay(p[None], y_true=[0, 1]).plot(class_names=names)
    shown = DenoisingDisplay(p[None], y_true=[0, 1]).plot(class_names=pd.Series(["a", "b"], [5, 6]))
    assert [axes.get_title() for axes in shown.axes_] == ["true class: a", "true class: b"]
    # Colours of an image that is of one colour.
    EmbeddingDisplay(np.ones((2, 12)), image_shape=(3, 2, 2)).plot()
