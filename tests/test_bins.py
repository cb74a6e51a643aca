"""Which features are cut into bins: the tests of trend against textbooks, and what they decide."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import chi2_contingency, chisquare
from sklearn.base import clone
from sklearn.linear_model import LinearRegression

from sknoprop import NoPropClassifier
from sknoprop.networks import NumberEncoding
from sknoprop.networks.bins import Departure, departure_from_line, edges_of_pieces

#: Cochran's example (1954): leprosy patients whose health got worse, stayed, or got slightly,
#: moderately or much better, with little and much infiltration.
LEPROSY = np.array([[11, 1], [53, 13], [42, 16], [27, 15], [11, 7]])


def rows_of(counts, scores):
    """A row for each that is counted: its score, and its class."""
    bins, classes = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    return np.asarray(scores)[bins], classes


def random_counts(seed, n_bins=5, n_classes=4):
    return np.random.default_rng(seed).integers(1, 40, (n_bins, n_classes))


SCORES = np.array([0.0, 1.0, 1.5, 4.0, 9.0])


def test_two_classes_are_the_textbooks_trend():
    """Cochran's example: of 6.88, 6.67 are on the line. By Armitage's formula, T**2 / Var(T)."""
    scores = np.array([-1.0, 0.0, 1.0, 2.0, 3.0])
    size, much = LEPROSY.sum(1), LEPROSY[:, 1]
    n, p = size.sum(), much.sum() / size.sum()
    t = scores @ (much - size * p)
    line = t**2 / (p * (1 - p) * (size @ scores**2 - (size @ scores) ** 2 / n))
    total = chi2_contingency(LEPROSY, correction=False).statistic
    np.testing.assert_allclose([line, total], [6.67, 6.88], atol=0.005)
    np.testing.assert_allclose(n * departure_from_line(LEPROSY, scores).bend + 3, total - line)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_that_of_regressions(seed):
    """Of the classes' indicators on the score, and on indicators of the bins; and what the first
    expects in each bin is compared with what is there by scipy's test of goodness of fit."""
    counts = random_counts(seed)
    x, y = rows_of(counts, SCORES)
    of_class, of_bin = np.eye(4)[y], (x[:, None] == SCORES).astype(float)
    weight = of_class.mean(0) * (1 - of_class.mean(0))
    line = LinearRegression().fit(x[:, None], of_class)
    bins = LinearRegression().fit(of_bin, of_class)
    by_line, by_bins = (
        np.average(model.predict(inputs).var(0) / weight, weights=1 - of_class.mean(0))
        for model, inputs in ((line, x[:, None]), (bins, of_bin))
    )
    found = departure_from_line(counts, SCORES)
    np.testing.assert_allclose(found.bend, by_bins - by_line - 9 / (len(y) * 3))
    expected = line.predict(SCORES[:, None]) * counts.sum(1, keepdims=True)
    fit = chisquare(counts.ravel(), expected.ravel(), ddof=counts.size - 10)
    np.testing.assert_allclose(found.chance, fit.pvalue)


@pytest.mark.parametrize(
    ("size", "level", "slope", "slack"),
    [
        ([60] * 6, [0.5, 0.3, 0.2], [0.0, 0.0, 0.0], 0.1),
        ([60] * 6, [0.5, 0.3, 0.2], [0.05, -0.02, -0.03], 0.1),
        # Most rows in a bin where one class is rare, as of amounts that are mostly nought: the line
        # is not fitted by the rows' own variances, and a departure is seen somewhat too often.
        ([2000] + [50] * 8, [0.99, 0.01], [-0.06, 0.06], 0.5),
    ],
    ids=["no line", "a line", "unequal bins"],
)
def test_what_is_on_a_line_departs_as_rarely_as_is_said(size, level, slope, slack):
    """Of 4,000 tables drawn with frequencies on a line."""
    rng, scores = np.random.default_rng(0), np.arange(float(len(size)))
    p = np.array(level) + scores[:, None] * np.array(slope)
    tables = np.stack([rng.multinomial(m, q, 4000) for m, q in zip(size, p, strict=True)], 1)
    chances = np.array([departure_from_line(table, scores).chance for table in tables])
    for share in (0.01, 0.1, 0.5):
        four_errors = 4 * (share * (1 - share) / 4000) ** 0.5
        assert abs((chances < share).mean() - share) < slack * share + four_errors


def test_units_and_classes_without_rows_change_nothing():
    counts = random_counts(0)
    wider = np.insert(counts, 2, 0, axis=1)
    expected = departure_from_line(counts, SCORES)
    for other in (departure_from_line(counts, 7 - 3 * SCORES), departure_from_line(wider, SCORES)):
        np.testing.assert_allclose(other, expected)


def test_one_class_or_two_bins_depart_from_nothing():
    for counts in ([[5], [9], [2]], [[5, 30], [30, 5]], [[5, 30]]):
        assert departure_from_line(np.array(counts), np.arange(len(counts))) == (1.0, 0.0)


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
    assert departure_from_line(table, np.arange(7)).chance < 1e-3, "it is believed"
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
            monkeypatch.setattr("sknoprop.networks.bins.departure_from_line", lambda *_: found)  # noqa: B023
            edges = edges_of_pieces(x, 8, np.arange(n) % 2, faint=True)
            cut.append(len(edges) > len(edges_of_pieces(x, 8, None)))
            clear = edges_of_pieces(x, 8, np.arange(n) % 2)
            assert len(clear) <= len(edges)
        assert cut == [False, True]
    for found in (Departure(2e-3, 0.9), Departure(0.0, -0.1)):
        monkeypatch.setattr("sknoprop.networks.bins.departure_from_line", lambda *_: found)  # noqa: B023
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
    found = departure_from_line(np.array([[14, 6], [7, 13], [14, 6]]), np.arange(3.0))
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
