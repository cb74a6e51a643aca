"""How many bins features are cut into, against fits that are made and tables that are known."""

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import Ridge

from sknoprop import NoPropClassifier
from sknoprop.networks import NumberEncoding
from sknoprop.networks.resolution import PENALTIES, enough_bins, leave_one_out_error


def left_out_one_by_one(inputs, targets, penalty):
    """Squared errors of as many fits as there are rows, relative to the targets' variance."""
    errors = []
    for i in range(len(inputs)):
        others = np.arange(len(inputs)) != i
        fit = Ridge(alpha=penalty).fit(inputs[others], targets[others])
        errors.append(np.square(fit.predict(inputs[i : i + 1]) - targets[i]).sum())
    return np.sum(errors) / np.square(targets - targets.mean(0)).sum()


@pytest.mark.parametrize("n_features", [1, 7, 29, 30, 80])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_the_closed_form_is_that_of_fits_without_a_row(n_features, offset):
    rng = np.random.default_rng(n_features)
    inputs = offset + rng.normal(size=(30, n_features)) * rng.uniform(0.1, 3.0, n_features)
    targets = np.eye(3)[np.argmax(inputs[:, :1] - offset + rng.normal(size=(30, 3)), axis=1)]
    # In units of the inputs' whole variance, as penalties are.
    inputs /= np.sqrt(inputs.var(0).sum())
    expected = min(left_out_one_by_one(inputs, targets, penalty) for penalty in PENALTIES)
    np.testing.assert_allclose(leave_one_out_error(inputs, targets), expected, rtol=1e-6)


def test_units_do_not_change_the_error():
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(40, 5)), rng.normal(size=(40, 2))
    expected = leave_one_out_error(inputs, targets)
    for unit in (1e-30, 1e30):
        np.testing.assert_allclose(leave_one_out_error(unit * inputs, targets), expected)
        np.testing.assert_allclose(leave_one_out_error(inputs, unit * targets), expected)


def test_inputs_that_say_nothing_are_no_better_than_the_mean():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(200, 1))
    assert leave_one_out_error(rng.normal(size=(200, 300)), targets) > 0.98
    assert leave_one_out_error(np.ones((200, 3)), targets) > 1.0


def bends(n, n_features, seed):
    """Classes by bends of some features, each by itself."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, n_features))
    score = np.cos(4 * X[:, 0]) + np.cos(4 * X[:, 1]) - np.cos(4 * X[:, 2])
    return X, (score + 0.5 * rng.normal(size=n) > 0.5).astype(int)


def clusters(n, n_features, seed):
    return make_classification(
        n, n_features, n_informative=10, n_clusters_per_class=3, random_state=seed
    )


@pytest.mark.parametrize("seed", range(3))
def test_bends_get_many_bins_and_clusters_few(seed):
    assert enough_bins(*bends(1_500, 20, seed)) == 8
    assert enough_bins(*clusters(1_500, 30, seed)) == 3


def test_the_choice_pays():
    """On rows that neither the blocks nor the choice have seen."""
    for make, right, wrong in ((bends, 8, 3), (clusters, 3, 8)):
        X, y = make(2_000, 30, 0)
        losses = {}
        for n_bins in (right, wrong, "auto"):
            clf = NoPropClassifier(n_bins=n_bins, max_iter=20, random_state=0)
            p = clf.fit(X[:800], y[:800]).predict_proba(X[800:])
            losses[n_bins] = -np.log(p[np.arange(1_200), y[800:]]).mean()
        assert losses["auto"] == losses[right] < losses[wrong]


def test_more_rows_than_are_looked_at_and_any_order_of_classes():
    """Sorted, or in turns: what is looked at has all classes."""
    X, y = bends(40_000, 20, 0)
    assert enough_bins(X, y) == 8
    order = np.argsort(y, kind="stable")
    assert enough_bins(X[order], y[order]) == 8
    of_class = [np.flatnonzero(y == c)[:12_000] for c in (0, 1)]
    turns = np.column_stack(of_class).ravel()
    assert enough_bins(X[turns], y[turns]) == 8


def test_features_of_few_values_leave_the_choice_alone(digits):
    X, _, y, _ = digits
    assert enough_bins(X, y) == 8
    assert NumberEncoding(X, enough_bins(X, y), y).n_out == X.shape[1]
    assert enough_bins(np.ones((50, 2)), np.arange(50) % 2) == 8


def test_a_class_a_row_and_units_of_all_sizes():
    X = np.random.default_rng(0).normal(size=(60, 3)) * [1e-300, 1.0, 1e300]
    assert enough_bins(X, np.arange(60)) in (3, 5, 8)


def test_a_number_is_taken_at_its_word():
    X, y = bends(300, 3, 0)
    clf = NoPropClassifier(n_bins=4, max_iter=1, random_state=0).fit(X, y)
    assert clf.blocks_.encoder.encoding.n_out == 3 + 3 * 4
    clf = NoPropClassifier(max_iter=1, random_state=0).fit(X, y)
    assert clf.n_bins == "auto"
    assert clf.blocks_.encoder.encoding.n_out == 3 + 3 * enough_bins(X, y)
