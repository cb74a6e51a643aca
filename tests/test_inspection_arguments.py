"""Displays name what they cannot show: by its parameter, what was given and what is allowed."""

import numpy as np
import pytest

from sknoprop import NoPropClassifier
from sknoprop.inspection import (
    BlockScoreDisplay,
    DenoisingDisplay,
    EmbeddingDisplay,
    ReliabilityDisplay,
    ScheduleDisplay,
)

pytestmark = pytest.mark.usefixtures("closed_figures")

HALVES = np.full((2, 2), 0.5)


# Probabilities.


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([[5.0, -3.0], [2.0, 7.0]], r"none below zero.* Got -3\.0"),
        ([[-5.0, -3.0], [2.0, 7.0]], r"Got -5\.0"),
        ([[1.1, -0.1], [0.0, 1.0]], r"Got -0\.1"),
        ([[0.5, 0.5], [2.0, 7.0]], "Got a row that sums to 9"),
        ([[0.5, 0.5], [0.5, 0.45]], r"sums to 0\.95"),
        ([[0.0, 0.0], [0.0, 1.0]], "sums to 0"),
        ([[0.5, 0.5], [0.5]], "be an array of numbers"),
        ([["a", "b"], ["c", "d"]], "be an array of numbers"),
    ],
    ids=str,
)
def test_logits_are_not_judged_as_probabilities(given, says):
    with pytest.raises(ValueError, match=f"^y_proba must .*{says}"):
        ReliabilityDisplay.from_predictions([0, 1], given)
    with pytest.raises(ValueError, match=f"^y_proba must .*{says}"):
        BlockScoreDisplay.from_predictions([0, 1], [given])
    with pytest.raises(ValueError, match=f"^staged must .*{says}"):
        BlockScoreDisplay.from_predictions([0, 1], [HALVES], staged=[given])


def test_probabilities_of_single_precision_are_probabilities():
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=4.0, size=(500, 1000)).astype(np.float32)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert (p.astype(float).sum(axis=1) != 1.0).any()
    truth = np.arange(500)
    (curve,) = ReliabilityDisplay.from_predictions(truth, p, classes=np.arange(1000)).curves
    assert curve.count.sum() == 500
    display = BlockScoreDisplay.from_predictions(
        truth % 3, p[None, :, :3] / p[:, :3].sum(1)[:, None]
    )
    assert np.isfinite(display.own_log_loss).all()


def test_bins_are_counted_by_an_int():
    with pytest.raises(ValueError, match=r"n_bins must be a positive int\. Got True"):
        ReliabilityDisplay.from_predictions([0, 1], HALVES, n_bins=True)
    (curve,) = ReliabilityDisplay.from_predictions([0, 1], HALVES, n_bins=np.int64(3)).curves
    assert curve.count.tolist() == [2]


def test_nothing_to_judge_is_said():
    with pytest.raises(ValueError, match="y_true must hold at least one label"):
        ReliabilityDisplay.from_predictions([], np.empty((0, 2)), classes=[0, 1])
    with pytest.raises(ValueError, match="y_true must hold at least one label"):
        BlockScoreDisplay.from_predictions([], np.empty((3, 0, 2)), classes=[0, 1])
    with pytest.raises(ValueError, match="estimators must hold at least one classifier"):
        ReliabilityDisplay.from_estimators({}, HALVES, [0, 1])
    with pytest.raises(ValueError, match="curves must hold at least one ReliabilityCurve"):
        ReliabilityDisplay([])
    with pytest.raises(TypeError, match=r"estimators must be a dict of classifiers\. Got \[\]"):
        ReliabilityDisplay.from_estimators([], HALVES, [0, 1])


# Scores of blocks.


def test_stages_may_be_lists():
    own = [[[0.4, 0.6], [0.2, 0.8]], [[0.8, 0.2], [0.4, 0.6]]]
    listed = BlockScoreDisplay.from_predictions([0, 1], own, staged=own)
    np.testing.assert_array_equal(listed.staged_accuracy, listed.own_accuracy)
    np.testing.assert_array_equal(listed.staged_log_loss, listed.own_log_loss)


def test_stages_of_another_shape_are_named():
    own = np.stack([HALVES, HALVES])
    for staged in (np.full((2, 3, 2), 0.5), HALVES, 0.5):
        with pytest.raises(ValueError, match=r"staged must be of shape \(n_blocks, 2, 2\)"):
            BlockScoreDisplay.from_predictions([0, 1], own, staged=staged)
    with pytest.raises(ValueError, match="There are 1 stages of 2 blocks"):
        BlockScoreDisplay.from_predictions([0, 1], own, staged=own[:1])


# Denoising.


@pytest.mark.parametrize("name", ["position", "classes", "y_true"])
def test_denoising_takes_no_scalars(name):
    with pytest.raises(ValueError, match=f"{name} must be of length 2. Got a single 0"):
        DenoisingDisplay(np.full((2, 2, 2), 0.5), **{name: 0})


@pytest.mark.parametrize("shape", [(0, 1, 2), (1, 0, 2), (1, 1, 0)], ids=str)
def test_denoising_needs_something_to_draw(shape):
    with pytest.raises(ValueError, match=r"y_proba must be of shape .* at least one of each"):
        DenoisingDisplay(np.empty(shape))


# Embeddings.


@pytest.mark.parametrize("given", [[1, 2, 3], 1.0, np.ones((2, 2, 2)), np.empty((0, 3))], ids=str)
def test_embeddings_are_a_row_a_class(given):
    with pytest.raises(ValueError, match=r"embedding must be of shape \(n_classes, embedding_dim"):
        EmbeddingDisplay(given)


def test_embeddings_have_a_class_a_row():
    with pytest.raises(ValueError, match=r"classes must be of length 3\. Got 1\."):
        EmbeddingDisplay(np.eye(3), classes=["a"])
    with pytest.raises(ValueError, match=r"classes must be of length 3\. Got a single 'abc'"):
        EmbeddingDisplay(np.eye(3), classes="abc")


@pytest.mark.parametrize("given", [np.array([2, 2]), [2, 2], (np.int64(2), 2)], ids=repr)
def test_an_image_shape_may_be_an_array(given):
    display = EmbeddingDisplay(np.eye(4), image_shape=given)
    assert display.image_shape == (2, 2)
    assert display.plot().text_


@pytest.mark.parametrize(
    "given", [4, (-2, -2), (2.0, 2.0), ("a", "b"), [[2, 2]], (4, True), [[1], 2, 2]]
)
def test_what_is_no_image_shape_is_named(given):
    with pytest.raises(ValueError, match="image_shape must be"):
        EmbeddingDisplay(np.eye(4), image_shape=given)


@pytest.mark.parametrize("n_cols", [0, -1, 2.5, True])
def test_images_are_counted_by_an_int(n_cols):
    with pytest.raises(ValueError, match=f"n_cols must be a positive int. Got {n_cols}"):
        EmbeddingDisplay(np.eye(4), image_shape=(2, 2)).plot(n_cols=n_cols)


# Schedules.


@pytest.mark.parametrize("n_times", [0, -2, 2.5, True])
def test_times_are_counted_by_an_int(n_times):
    X, y = np.arange(8.0)[:, None], np.arange(8) % 2
    clf = NoPropClassifier(n_blocks=2, max_iter=1, hidden_layer_sizes=4).fit(X, y)
    for make, given in (
        (ScheduleDisplay.from_schedule, "cosine"),
        (ScheduleDisplay.from_estimator, clf),
    ):
        with pytest.raises(ValueError, match=f"n_times must be a positive int. Got {n_times}"):
            make(given, n_times=n_times)


def test_rounded_probabilities_are_probabilities():
    """Of low precision, or with an error of rounding below zero."""
    p = np.array([[0.333, 0.333, 0.333], [-1e-17, 0.4, 0.6]])
    assert ReliabilityDisplay.from_predictions([1, 2], p, classes=[0, 1, 2]).curves
    scores = BlockScoreDisplay.from_predictions([1, 2], p[None], classes=[0, 1, 2])
    assert np.isfinite(scores.own_log_loss).all()
