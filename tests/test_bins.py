"""Which features are cut into bins: the tests of trend against textbooks, and what they decide."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import chi2, chi2_contingency
from sklearn.linear_model import LinearRegression

from sknoprop import NoPropClassifier
from sknoprop.networks import NumberEncoding
from sknoprop.networks.bins import edges_of_pieces, trend

#: Cochran's example (1954): leprosy patients whose health got worse, stayed, or got slightly,
#: moderately or much better, with little and much infiltration.
LEPROSY = np.array([[11, 1], [53, 13], [42, 16], [27, 15], [11, 7]])


def rows_of(counts, scores):
    """A row for each that is counted: its score, and its class."""
    bins, classes = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    return np.asarray(scores)[bins], classes


def random_counts(seed, n_bins=5, n_classes=4):
    return np.random.default_rng(seed).integers(1, 40, (n_bins, n_classes))


def test_two_classes_are_the_textbooks_trend():
    """Of Cochran's example, 6.67 of 6.88; and Armitage's formula, T**2 / Var(T)."""
    scores = np.array([-1.0, 0.0, 1.0, 2.0, 3.0])
    size, much = LEPROSY.sum(1), LEPROSY[:, 1]
    n, p = size.sum(), much.sum() / size.sum()
    t = scores @ (much - size * p)
    variance = p * (1 - p) * (size @ scores**2 - (size @ scores) ** 2 / n)
    found = trend(LEPROSY, scores)
    np.testing.assert_allclose(found.line, chi2.sf(t**2 / variance, 1))
    np.testing.assert_allclose(chi2.isf(found[:2], [1, 3]), [6.67, 6.88 - 6.67], atol=0.01)
    total = chi2_contingency(LEPROSY, correction=False).statistic
    np.testing.assert_allclose(found.departure, chi2.sf(total - t**2 / variance, 3))


@pytest.mark.parametrize("seed", range(3))
def test_both_parts_make_pearsons_statistic(seed):
    counts, scores = random_counts(seed), np.array([0.0, 1.0, 1.5, 4.0, 9.0])
    found = trend(counts, scores)
    parts = chi2.isf(found.line, 3) + chi2.isf(found.departure, 9)
    np.testing.assert_allclose(parts, chi2_contingency(counts).statistic)


@pytest.mark.parametrize("seed", range(3))
def test_bend_is_the_variance_that_a_line_leaves_between_bins(seed):
    """By regression of the classes' indicators on the score, and on indicators of the bins."""
    counts, scores = random_counts(seed), np.array([0.0, 1.0, 1.5, 4.0, 9.0])
    x, y = rows_of(counts, scores)
    of_class, of_bin = np.eye(4)[y], (x[:, None] == scores).astype(float)
    weight = of_class.mean(0) * (1 - of_class.mean(0))
    explained = [
        (LinearRegression().fit(inputs, of_class).predict(inputs)).var(0) / weight
        for inputs in (x[:, None], of_bin)
    ]
    share = np.average(explained[1] - explained[0], weights=1 - of_class.mean(0))
    by_chance = 9 / (len(y) * 3)
    np.testing.assert_allclose(trend(counts, scores).bend, share - by_chance)


def test_what_is_on_a_line_departs_as_rarely_as_is_said():
    """Of 4,000 tables drawn with frequencies on a line, and of as many without any."""
    rng, scores = np.random.default_rng(0), np.arange(6.0)
    level = np.array([0.5, 0.3, 0.2])
    for slope in (np.zeros(3), np.array([0.05, -0.02, -0.03])):
        p = level + scores[:, None] * slope
        found = [trend(np.array([rng.multinomial(60, q) for q in p]), scores) for _ in range(4000)]
        departures = np.array([f.departure for f in found])
        # Three standard errors of a share of 4,000; few rows bend the law a little.
        for size in (0.01, 0.1, 0.5):
            assert abs((departures < size).mean() - size) < 4 * (size * (1 - size) / 4000) ** 0.5
        lines = np.array([f.line for f in found])
        if slope.any():
            assert (lines < 0.1).mean() > 0.9
        else:
            assert abs((lines < 0.1).mean() - 0.1) < 4 * (0.09 / 4000) ** 0.5


def test_units_and_classes_without_rows_change_nothing():
    counts, scores = random_counts(0), np.array([0.0, 1.0, 1.5, 4.0, 9.0])
    wider = np.insert(counts, 2, 0, axis=1)
    for other in (trend(counts, 7 - 3 * scores), trend(wider, scores)):
        np.testing.assert_allclose(other, trend(counts, scores))


def test_one_class_or_two_bins_depart_from_nothing():
    assert trend(np.array([[5], [9], [2]]), np.arange(3.0)) == (1.0, 1.0, 0.0)
    found = trend(np.array([[5, 30], [30, 5]]), np.arange(2.0))
    assert found.line < 1e-6
    assert found[1:] == (1.0, 0.0)


def continuous(n=2000, seed=0):
    return np.random.default_rng(seed).normal(size=n)


def labels_of(p, seed=1):
    return (np.random.default_rng(seed).random(len(p)) < p).astype(int)


def test_continuous_features_lose_their_pieces_to_a_line_alone():
    x = continuous()
    quantiles = np.quantile(x, np.linspace(0, 1, 9))
    bent = labels_of(0.5 + 0.3 * np.sign(np.abs(x) - 0.7))
    line = labels_of(np.clip(0.5 + 0.15 * x, 0.0, 1.0))
    nothing = labels_of(np.full(len(x), 0.5))
    for y in (bent, nothing, None):
        np.testing.assert_allclose(edges_of_pieces(x, 8, y), quantiles)
    assert len(edges_of_pieces(x, 8, line)) == 0


def test_levels_get_an_edge_each_where_labels_bend_by_much():
    x = np.random.default_rng(0).integers(0, 7, 3000).astype(float)
    step, slight = labels_of(np.where(x == 4, 0.8, 0.3)), labels_of(np.where(x == 4, 0.45, 0.3))
    np.testing.assert_array_equal(edges_of_pieces(x, 8, step), np.arange(7.0))
    np.testing.assert_array_equal(edges_of_pieces(x, 8, labels_of(np.full(3000, 0.3))), [])
    seen = trend(np.array([np.bincount(slight[x == k], minlength=2) for k in range(7)]), range(7))
    assert seen.departure < 1e-3, "it is believed"
    assert len(edges_of_pieces(x, 8, slight)) == 0, "and not enough"


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


def test_few_rows_beside_a_shared_value_make_few_bins():
    x = np.r_[np.zeros(300), np.arange(1.0, 41.0)]
    y = (x > 20).astype(int)
    edges = edges_of_pieces(x, 8, y)
    np.testing.assert_allclose(edges, [0.0, *np.quantile(x[x > 0], np.linspace(0, 1, 6))])


def test_no_feature_of_pixels_of_digits_gets_pieces(digits):
    """They bend, each by little; sixty-four times as many inputs would gain nothing."""
    X, _, y, _ = digits
    assert NumberEncoding(X, 8, y).n_out == X.shape[1]


def test_the_estimator_asks_its_labels():
    """A rule on a code: levels in no order."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 12, 600), rng.normal(size=600)])
    y = np.isin(X[:, 0], [1, 4, 5, 9])
    clf = NoPropClassifier(max_iter=1, random_state=0).fit(X, y)
    columns = clf.blocks_.encoder.encoding.column
    assert (columns == 0).sum() >= 8
    shuffled = NoPropClassifier(max_iter=1, random_state=0).fit(X, rng.permutation(y))
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
    y = labels_of(0.5 + x / 15)
    assert len(edges_of_pieces(unit * np.arange(600.0), 8, np.sort(y))) > 2


@given(
    arrays(
        np.float64, st.integers(3, 60), elements=st.sampled_from([-1e300, -2.0, 0, 1e-300, 1, 7])
    ),
    st.integers(2, 12),
    st.integers(1, 5),
    st.integers(0, 9),
)
def test_edges_rise_whatever_is_given(x, n_bins, n_classes, seed):
    assume(np.ptp(x / np.abs(x).max().clip(1e-300)) > 0)
    y = np.random.default_rng(seed).integers(0, n_classes, len(x))
    edges = edges_of_pieces(x, n_bins, y)
    assert np.all(np.diff(edges) > 0)
    assert np.isin(edges, x).all() or len(x) > 8
