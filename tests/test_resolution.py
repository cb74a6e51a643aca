"""How many bins features are cut into, against fits that are made and tables that are known."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from sknoprop import NoPropClassifier
from sknoprop.networks import NumberEncoding
from sknoprop.networks.resolution import (
    CHOICES,
    PENALTIES,
    ROWS_OF_ERROR,
    enough_bins,
    leave_one_out_error,
    suited_encoding,
)
from tests.models import losses_cut_and_left_alone


def left_out_one_by_one(kernel, targets, penalty):
    """Squared errors of as many fits as there are rows, relative to the targets' variance.

    Each solves the equations of kernel ridge regression with an intercept, whose multiplier they
    have in a row of their own.
    """
    n, errors = len(kernel), 0.0
    for i in range(n):
        others = np.delete(np.arange(n), i)
        system = np.zeros((n, n))
        system[:-1, :-1] = kernel[np.ix_(others, others)] + penalty * np.eye(n - 1)
        system[-1, :-1] = system[:-1, -1] = 1.0
        solved = np.linalg.solve(system, np.vstack([targets[others], np.zeros(targets.shape[1])]))
        predicted = kernel[i, others] @ solved[:-1] + solved[-1]
        errors += np.square(predicted - targets[i]).sum()
    return errors / np.square(targets - targets.mean(0)).sum()


def error_of(kernel, targets):
    return leave_one_out_error(torch.from_numpy(kernel), torch.from_numpy(targets))


def in_units(inputs):
    """With a mean square distance of one from their mean, which stays where it is."""
    return inputs / np.sqrt(inputs.var(0).sum())


def rows(n_features, offset=0.0):
    rng = np.random.default_rng(n_features)
    inputs = rng.normal(size=(30, n_features)) * rng.uniform(0.1, 3.0, n_features)
    targets = np.eye(3)[np.argmax(inputs[:, :1] + rng.normal(size=(30, 3)), axis=1)]
    return in_units(offset + inputs), targets


@pytest.mark.parametrize("n_features", [1, 7, 29, 80])
@pytest.mark.parametrize("offset", [0.0, 10.0])
def test_the_closed_form_is_that_of_fits_without_a_row(n_features, offset):
    inputs, targets = rows(n_features, offset)
    kernel = inputs @ inputs.T
    expected = min(left_out_one_by_one(kernel, targets, penalty) for penalty in PENALTIES)
    np.testing.assert_allclose(error_of(kernel, targets), expected, rtol=1e-6)


def test_of_inner_products_it_is_that_of_linear_ridge_regression():
    inputs, targets = rows(7)
    errors = []
    for penalty in PENALTIES:
        predicted = cross_val_predict(Ridge(alpha=penalty), inputs, targets, cv=LeaveOneOut())
        errors.append(np.square(predicted - targets).sum())
    expected = min(errors) / np.square(targets - targets.mean(0)).sum()
    np.testing.assert_allclose(error_of(inputs @ inputs.T, targets), expected, rtol=1e-6)


def test_units_do_not_change_the_error():
    inputs, targets = rows(5)
    kernel = inputs @ inputs.T
    expected = error_of(kernel, targets)
    for unit in (1e-30, 1e30):
        np.testing.assert_allclose(error_of(unit * kernel, targets), expected)
        np.testing.assert_allclose(error_of(kernel, unit * targets), expected)


def test_inputs_that_say_nothing_are_no_better_than_the_mean():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(200, 1))
    inputs = rng.normal(size=(200, 300))
    assert error_of(inputs @ inputs.T, targets) > 0.98
    assert error_of(np.ones((200, 200)), targets) > 1.0


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


def leaps(n, n_features, seed):
    """One class at some amounts, another at those between."""
    X = np.random.default_rng(seed).uniform(0.0, 10.0, size=(n, n_features))
    return X, np.floor(X[:, 0] * 2).astype(int) % 2


@pytest.mark.parametrize("seed", range(3))
def test_leaps_and_bends_get_many_bins_and_clusters_few(seed):
    assert enough_bins(*clusters(1_500, 30, seed)) == 3
    assert enough_bins(*bends(1_500, 12, seed)) >= 8
    assert enough_bins(*leaps(1_500, 4, seed)) > 32


@pytest.mark.parametrize("seed", range(4))
def test_what_is_smooth_in_all_features_is_not_the_bins(seed):
    """On bins alone a ball is approximated the better, the more there are."""
    X = np.random.default_rng(seed).uniform(-1.0, 1.0, size=(1_200, 4))
    assert enough_bins(X, (np.square(X).sum(1) > 4 / 3).astype(int)) == 8


def test_the_choice_pays():
    """On rows that neither the blocks nor the choice have seen."""
    for make, n_features, wrong in ((bends, 12, 3), (clusters, 30, 32), (leaps, 4, 8)):
        X, y = make(2_000, n_features, 0)
        losses = []
        for n_bins in ("auto", wrong):
            clf = NoPropClassifier(n_bins=n_bins, max_iter=20, random_state=0)
            p = clf.fit(X[:800], y[:800]).predict_proba(X[800:])
            losses.append(-np.log(p[np.arange(1_200), y[800:]]).mean())
        assert losses[0] < 0.95 * losses[1]


@pytest.mark.parametrize(("n", "n_features"), [(240, 90), (600, 20), (1_500, 40), (1_500, 4)])
def test_above_eight_bins_pieces_are_fewer_than_rows(n, n_features):
    X, y = leaps(n, n_features, 0)
    n_bins = enough_bins(X, y)
    assert n_bins <= 8 or n_bins * n_features < min(n, ROWS_OF_ERROR)


def test_all_classes_are_looked_at_in_any_order_of_many_rows():
    X, y = leaps(40_000, 4, 0)
    orders = {
        "sorted": np.argsort(y, kind="stable"),
        "in turns": np.column_stack([np.flatnonzero(y == c)[:18_000] for c in (0, 1)]).ravel(),
    }
    for order in orders.values():
        assert enough_bins(X[order], y[order]) > 32


def test_features_of_few_values_leave_the_choice_alone(digits):
    X, _, y, _ = digits
    assert enough_bins(X, y) == 8
    assert NumberEncoding(X, enough_bins(X, y), y).n_out == X.shape[1]
    assert enough_bins(np.ones((50, 2)), np.arange(50) % 2) == 8


# Departures that are faint


def days(n, seed):
    """Delays on some days of some months: each by itself says little, together they say all."""
    rng = np.random.default_rng(seed)
    month, day = rng.integers(0, 12, n), rng.integers(0, 28, n)
    bad = np.random.default_rng(0).random((12, 28)) < 0.3
    return np.column_stack([month, day]).astype(float), bad[month, day].astype(int)


def test_faint_departures_of_many_rows_are_cut():
    X, y = days(9_000, 1)
    assert NumberEncoding(X, 8, y).n_out == 2, "none is clear"
    assert suited_encoding(X, y).n_out == 2 + 11 + 27
    assert suited_encoding(X, y, n_bins=0).n_out == 2
    # So far as there are rows enough to believe it.
    assert suited_encoding(X[:300], y[:300]).n_out == 2
    noise = np.random.default_rng(0).integers(0, 2, len(y))
    assert suited_encoding(X, noise).n_out == 2


def test_cutting_them_pays():
    cut, left_alone = losses_cut_and_left_alone(days(6_000, 1), days(3_000, 2), max_iter=6)
    assert cut < 0.8 * left_alone


def test_pixels_are_left_alone_though_labels_depart_from_lines(digits):
    """Most do, none by much; ten times as many inputs would be slower, and no better."""
    X, _, y, _ = digits
    assert NumberEncoding(X, 8, y, faint=True).n_out > 5 * X.shape[1]
    assert suited_encoding(X, y).n_out == suited_encoding(X, y, 8).n_out == X.shape[1]


@pytest.mark.parametrize(
    ("n", "ratio", "n_out"),
    [(16_000, 1.047, 40), (16_000, 1.048, 2), (800, 1.0, 40), (800, 1.001, 2)],
)
def test_what_does_harm_is_more_error_than_chance_makes(n, ratio, n_out, monkeypatch):
    """A twentieth more, if of all rows a twentieth is judged; if all are, any."""
    X, y = days(n, 1)
    monkeypatch.setattr("sknoprop.networks.bins.FAINT_LEVELS", 0)
    monkeypatch.setattr("sknoprop.networks.bins.BELIEVED", 1.0)
    monkeypatch.setattr("sknoprop.networks.bins.BEND_OF_LEVELS", 1.0)
    errors = iter([1.0, ratio])
    monkeypatch.setattr("sknoprop.networks.resolution.leave_one_out_error", lambda *_: next(errors))
    assert suited_encoding(X, y, 8).n_out == n_out


def test_more_pieces_than_rows_that_are_judged_are_not_cut(monkeypatch):
    """These could not tell, and would take memory without a bound."""
    X, y = days(9_000, 1)
    monkeypatch.setattr("sknoprop.networks.resolution.ROWS_OF_ERROR", 38)
    assert suited_encoding(X, y, 8).n_out == 2
    monkeypatch.setattr("sknoprop.networks.resolution.ROWS_OF_ERROR", 39)
    monkeypatch.setattr("sknoprop.networks.resolution.HARMLESS", 10.0)
    assert suited_encoding(X, y, 8).n_out == 2 + 38


def test_digits_are_spared_however_many_there_are(digits):
    X, _, y, _ = digits
    for n in (500, 600, 1_000):
        assert suited_encoding(X[:n], y[:n]).n_out == X.shape[1]


def test_where_errors_cannot_be_judged_what_is_clear_is_cut():
    """All rows that would be are of one class."""
    X, y = days(9_000, 1)
    y[np.random.default_rng(0).permutation(len(X))[:ROWS_OF_ERROR]] = 0
    assert suited_encoding(X, y, 8).n_out == NumberEncoding(X, 8, y).n_out == 2
    assert NumberEncoding(X, 8, y, faint=True).n_out > 2


def test_a_class_a_row_and_units_of_all_sizes():
    X = np.random.default_rng(0).normal(size=(60, 3)) * [1e-300, 1.0, 1e300]
    assert enough_bins(X, np.arange(60)) in CHOICES


def test_a_number_is_taken_at_its_word():
    X, y = bends(300, 3, 0)
    clf = NoPropClassifier(n_bins=4, max_iter=1, random_state=0).fit(X, y)
    assert clf.blocks_.encoder.encoding.n_out == 3 + 3 * 4
    clf = NoPropClassifier(max_iter=1, random_state=0).fit(X, y)
    assert clf.n_bins == "auto"
    assert clf.blocks_.encoder.encoding.n_out == 3 + 3 * enough_bins(X, y)


def test_numbers_that_are_not_finite_are_left_to_those_who_refuse_them():
    X, y = bends(300, 12, 0)
    X[7, 3] = np.nan
    assert enough_bins(X, y) == 8


def test_a_row_that_is_alone_counts_as_not_seen():
    """Far from all others, and the only one of its class: a fit to all rows has it exactly."""
    rng = np.random.default_rng(0)
    inputs = np.vstack([rng.normal(size=(29, 3)), [[500.0, 0.0, 0.0]]])
    targets = np.eye(2)[np.r_[np.zeros(29, int), 1]]
    inputs = in_units(inputs)
    kernel = inputs @ inputs.T
    expected = min(left_out_one_by_one(kernel, targets, penalty) for penalty in PENALTIES)
    assert expected > 0.9
    np.testing.assert_allclose(error_of(kernel, targets), expected, rtol=1e-4)


def test_rows_that_are_mostly_alike():
    """No distance between most of them, and warnings are errors here."""
    rng = np.random.default_rng(0)
    X = rng.exponential(size=(600, 15))
    X[:450] = 0.0
    assert enough_bins(X, rng.integers(0, 2, 600)) in CHOICES
    X[0] = 1e300
    assert enough_bins(X, rng.integers(0, 2, 600)) in CHOICES


def test_fewer_bins_are_fewer_inputs():
    """Features of twelve to thirty-one values are cut into three bins, and not into eight."""
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 17, (900, 100)).astype(float)
    X = np.column_stack([rng.normal(size=(900, 11)), levels])
    y = (levels[:, :20].sum(1) > 160).astype(int)
    n_bins = enough_bins(X, y)
    assert NumberEncoding(X, n_bins, y).n_out <= NumberEncoding(X, 8, y).n_out or n_bins > 8


def test_a_stream_has_eight_bins():
    """Its first part may be too small to tell."""
    X, y = leaps(300, 2, 0)
    clf = NoPropClassifier(n_blocks=1, hidden_layer_sizes=8, random_state=0)
    assert clf.partial_fit(X, y, classes=[0, 1]).blocks_.encoder.encoding.n_out == 2 + 2 * 8


@pytest.mark.parametrize(("error", "finer"), [(0.94, True), (0.95, False)])
def test_harm_is_measured_from_the_least_error_so_far(error, finer, monkeypatch):
    """What faint departures gained more bins do not give away: errors of three in turn."""
    X, y = days(13_000, 1)
    amount = np.random.default_rng(2).uniform(size=len(y))
    y = np.where(np.arange(len(y)) % 2, y, np.floor(30 * amount) % 2).astype(int)
    errors = iter([1.0, 0.9, error])
    monkeypatch.setattr("sknoprop.networks.resolution.enough_bins", lambda *_: 8)
    monkeypatch.setattr("sknoprop.networks.resolution.leave_one_out_error", lambda *_: next(errors))
    encoding = suited_encoding(np.column_stack([X, amount]), y)
    cut = [len(edges) for edges in encoding.edges().values()]
    assert cut[:2] == [12, 28], "faint departures"
    assert (cut[2] > 9) == finer
