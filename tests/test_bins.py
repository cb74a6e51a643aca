"""Which features are cut into bins, and where."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone

from sknoprop import NoPropClassifier
from sknoprop.networks import NumberEncoding
from sknoprop.networks.bins import edges_of_pieces
from sknoprop.networks.departures import Departure, departure_from_linear


def continuous(n=2000, seed=0):
    return np.random.default_rng(seed).normal(size=n)


def labels_of(p, seed=1):
    return (np.random.default_rng(seed).random(len(p)) < p).astype(int)


def test_continuous_features_keep_their_quantiles():
    x = continuous()
    bent = labels_of(0.5 + 0.3 * np.sign(np.abs(x) - 0.7))
    for y in (bent, labels_of(np.clip(0.5 + 0.15 * x, 0.0, 1.0)), np.zeros(len(x), int), None):
        np.testing.assert_allclose(edges_of_pieces(x, 8, y), np.quantile(x, np.linspace(0, 1, 9)))


def test_levels_get_an_edge_each_where_labels_bend_by_much():
    x = np.random.default_rng(0).integers(0, 7, 3000).astype(float)
    step, slight = labels_of(np.where(x == 4, 0.8, 0.3)), labels_of(np.where(x == 4, 0.45, 0.3))
    np.testing.assert_array_equal(edges_of_pieces(x, 8, step), np.arange(7.0))
    np.testing.assert_array_equal(edges_of_pieces(x, 8, labels_of(np.full(3000, 0.3))), [])
    table = np.array([np.bincount(slight[x == k], minlength=2) for k in range(7)])
    assert departure_from_linear(table, np.arange(7)).chance < 1e-3, "it is believed"
    assert len(edges_of_pieces(x, 8, slight)) == 0, "and not enough"


@pytest.mark.parametrize(
    ("n", "levels", "shared"), [(200, 0.05, 0.01), (400, 0.05, 0.01), (4_000, 0.005, 0.001)]
)
def test_how_faint_a_departure_is_enough(n, levels, shared, monkeypatch):
    """Twenty rows' worth of levels, four of a shared value; of few rows what is clear."""
    few = np.arange(n) % 7.0
    spike = np.where(np.arange(n) < 0.4 * n, 0.0, np.arange(n))
    for x, enough in ((few, levels), (spike, shared)):
        cut = []
        for bend in (0.99 * enough, 1.01 * enough):
            found = Departure(1e-9, bend)
            monkeypatch.setattr("sknoprop.networks.bins.departure_from_linear", lambda *_: found)  # noqa: B023
            edges = edges_of_pieces(x, 8, np.arange(n) % 2, faint=True)
            cut.append(len(edges) > len(edges_of_pieces(x, 8, None)))
            clear = edges_of_pieces(x, 8, np.arange(n) % 2)
            assert len(clear) <= len(edges)
        assert cut == [False, True]
    for found in (Departure(2e-3, 0.9), Departure(0.0, -0.1)):
        monkeypatch.setattr("sknoprop.networks.bins.departure_from_linear", lambda *_: found)  # noqa: B023
        assert len(edges_of_pieces(few, 8, np.arange(n) % 2, faint=True)) == 0, "chance"


def test_the_highest_level_is_a_bin_of_its_own():
    """Three levels: a bend needs all of them."""
    x = np.random.default_rng(0).integers(0, 3, 1000).astype(float)
    middle = labels_of(np.where(x == 1, 0.9, 0.2))
    np.testing.assert_array_equal(edges_of_pieces(x, 8, middle), [0.0, 1.0, 2.0])


def test_a_value_that_many_rows_share_leaves_the_others_their_quantiles():
    """Nine in ten have no gains: quantiles of all rows would be one edge at nought and one more."""
    rng = np.random.default_rng(0)
    x = np.where(rng.random(4000) < 0.9, 0.0, rng.lognormal(8, 1, 4000))
    y = labels_of(np.where(x > 3000, 0.9, 0.2))
    gains = x[x > 0]
    expected = [0.0, *np.quantile(gains, np.linspace(0, 1, 9))]
    np.testing.assert_allclose(edges_of_pieces(x, 8, y), expected)
    assert len(edges_of_pieces(x, 8, None)) <= 3


def test_a_shared_value_among_the_others_is_no_slope_of_theirs():
    """Missing numbers that were replaced by the median: a spike, that pieces must reach alone."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=4000)
    missing = rng.random(4000) < 0.3
    x[missing] = 0.0
    edges = edges_of_pieces(x, 8, labels_of(np.where(missing, 0.8, 0.3)))
    (spike,) = np.flatnonzero(edges == 0)
    assert not ((x > edges[spike - 1]) & (x < edges[spike + 1]) & (x != 0)).any()
    assert len(edges) == 9 + 3


def test_a_slight_bend_at_a_shared_value_is_not_enough():
    rng = np.random.default_rng(0)
    x = np.where(rng.random(40_000) < 0.5, 0.0, rng.normal(size=40_000))
    y = labels_of(np.where(x == 0, 0.45, 0.5))
    np.testing.assert_allclose(edges_of_pieces(x, 8, y), edges_of_pieces(x, 8, None))


def test_a_value_is_shared_if_a_bin_of_rows_has_it():
    rng = np.random.default_rng(0)
    for share, n_edges in ((0.11, 9), (0.14, 9 + 3)):
        x = np.where(rng.random(4000) < share, 0.0, rng.normal(size=4000))
        assert len(edges_of_pieces(x, 8, (x == 0).astype(int))) == n_edges


def test_a_departure_that_chance_may_make_is_not_believed():
    x, y = np.repeat([0.0, 1.0, 2.0], 20), np.tile(np.arange(20), 3)
    y = (y < np.where(x == 1, 13, 6)).astype(int)
    found = departure_from_linear(np.array([[14, 6], [7, 13], [14, 6]]), np.arange(3.0))
    assert 1e-3 < found.chance < 0.02
    assert found.bend > 0.05
    assert len(edges_of_pieces(x, 8, y)) == 0


def test_few_rows_beside_a_shared_value_make_few_bins():
    x = np.r_[np.zeros(300), np.arange(1.0, 41.0)]
    y = ((x > 0) & (x < 21)).astype(int)
    edges = edges_of_pieces(x, 8, y)
    np.testing.assert_allclose(edges, [0.0, *np.quantile(x[x > 0], np.linspace(0, 1, 6))])


def test_rare_levels_have_no_edge():
    x = np.r_[np.repeat(np.arange(5.0), 100), np.repeat([5.0, 6.0, 7.0], [8, 7, 1])]
    np.testing.assert_array_equal(edges_of_pieces(x, 8, (x == 2).astype(int)), np.arange(6.0))


def test_more_bins_than_values_allow_are_as_many_as_they_allow():
    """Four values a bin, unless fewer than eight bins are asked for."""
    x = continuous(3000)
    for n_bins in (750, 800, 2**22):
        assert len(edges_of_pieces(x, n_bins, None)) == 751
    assert len(edges_of_pieces(x, 700, None)) == 701
    levels = np.arange(2000) % 50.0
    for n_bins, n_edges in ((8, 9), (12, 13), (16, 13), (2**22, 13)):
        assert len(edges_of_pieces(levels, n_bins, None)) == n_edges
    few = np.arange(2000) % 20.0
    for n_bins, n_edges in ((5, 6), (6, 0), (8, 0), (2**22, 0)):
        assert len(edges_of_pieces(few, n_bins, None)) == n_edges


def test_many_classes_and_labels_of_any_type():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 12, 5000), rng.normal(size=5000)])
    y = (100 * np.isin(X[:, 0], [1, 4, 5, 9]) + rng.integers(0, 100, 5000)).astype(np.uint64)
    encoding = NumberEncoding(X, 8, y)
    assert encoding.n_out == NumberEncoding(X, 8, y.tolist()).n_out
    halves = NumberEncoding(X, 8, y >= 100)
    assert (halves.column == 0).sum() == 11


def test_an_offset_bends_no_line():
    """Scores are sums of many values, which differ in their last digits alone."""
    x = 1.0 + 1e-13 * np.random.default_rng(0).integers(0, 7, 10**6)
    steps = np.unique(x, return_inverse=True)[1]
    y = labels_of(0.05 + 0.15 * steps)
    assert len(edges_of_pieces(x, 8, y)) == 0


def test_values_too_far_apart_for_a_width_are_not_cut():
    x = np.repeat([-1.7e308, 1.7e308, 1.75e308], 100)
    assert NumberEncoding(x[:, None], 8, (x == 1.7e308).astype(int)).n_out == 1


def test_no_feature_of_pixels_of_digits_gets_pieces(digits):
    """They bend, each by little; sixty-four times as many inputs would gain nothing."""
    X, _, y, _ = digits
    assert NumberEncoding(X, 8, y).n_out == X.shape[1]


def test_the_estimator_asks_its_labels():
    """A rule on a code: levels in no order."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 12, 600), rng.normal(size=600)])
    y = np.isin(X[:, 0], [1, 4, 5, 9])
    clf = NoPropClassifier(n_bins=8, max_iter=1, random_state=0).fit(X, y)
    columns = clf.blocks_.encoder.encoding.column
    assert (columns == 0).sum() >= 8
    shuffled = clone(clf).fit(X, rng.permutation(y))
    assert not (shuffled.blocks_.encoder.encoding.column == 0).any()


def test_labels_in_any_order_and_of_any_name_decide_alike():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 12, 600).astype(float)
    y = np.isin(x, [1, 4, 5, 9]).astype(int)
    order = rng.permutation(600)
    for other in (edges_of_pieces(x, 8, 1 - y), edges_of_pieces(x[order], 8, y[order])):
        np.testing.assert_array_equal(other, edges_of_pieces(x, 8, y))


@pytest.mark.parametrize("unit", [1e-300, 1e300])
def test_units_decide_nothing(unit):
    x = np.random.default_rng(0).integers(0, 12, 600) - 5.0
    y = np.isin(x, [1, 4, 5, -3]).astype(int)
    np.testing.assert_allclose(edges_of_pieces(unit * x, 8, y), unit * edges_of_pieces(x, 8, y))
    assert len(edges_of_pieces(unit * x, 8, labels_of(0.5 + x / 15))) == 0, "a line"


@given(
    arrays(np.int64, st.integers(8, 80), elements=st.integers(0, 40)),
    arrays(np.float64, 41, elements=st.floats(-1e300, 1e300), unique=True),
    st.integers(2, 12),
    st.integers(1, 5),
)
def test_edges_rise_whatever_is_given(order, values, n_bins, n_classes):
    x = np.sort(values)[order]
    assume(len(np.unique(x)) > 1)
    for y in (order % n_classes, order // 9 % n_classes):
        edges = edges_of_pieces(x, n_bins, y)
        assert np.all(np.diff(edges) > 0)
        assert not len(edges) or x.min() <= edges[0] <= edges[-1] <= x.max()
        assert np.isfinite(
            NumberEncoding(x[:, None], n_bins, y)(torch.from_numpy(x[:, None])).numpy()
        ).all()
