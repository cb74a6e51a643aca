"""Which features are cut more finely: those whose frequencies of classes are known to need it."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import LinearRegression

from sknoprop.networks import NumberEncoding
from sknoprop.networks.finer_bins import finer_edges, finer_pieces
from sknoprop.networks.resolution import ROWS_OF_ERROR, enough_bins, suited_encoding
from tests.models import losses_cut_and_left_alone


def skewed(n, seed=0):
    return np.random.default_rng(seed).lognormal(size=n)


def cut(x, n_bins):
    return np.quantile(x, np.linspace(0, 1, n_bins + 1))


def zigzag(x, n_bins, seed=1, low=0.1, high=0.9):
    """Classes whose frequencies go up and down in straight lines between quantiles."""
    heights = np.where(np.arange(n_bins + 1) % 2, high, low)
    p = np.interp(x, cut(x, n_bins), heights)
    return (np.random.default_rng(seed).random(len(x)) < p).astype(int)


@pytest.mark.parametrize("seed", range(5))
def test_frequencies_that_pieces_can_be_need_no_more(seed):
    x = skewed(30_000, seed)
    assert finer_edges(x, zigzag(x, 8, seed), cut(x, 8)) is None
    assert finer_edges(x, zigzag(x, 16, seed), cut(x, 16)) is None
    noise = np.random.default_rng(seed).integers(0, 5, len(x))
    assert finer_edges(x, noise, cut(x, 8)) is None


@pytest.mark.parametrize("n_bins", [16, 32, 64, 128])
@pytest.mark.parametrize("few", [3, 5, 8])
def test_the_fewest_that_leave_little(n_bins, few):
    """Quantiles, and the edges that there are."""
    x = skewed(30_000)
    _, edges = finer_edges(x, zigzag(x, n_bins), cut(x, few))
    np.testing.assert_array_equal(edges, np.union1d(cut(x, n_bins), cut(x, few)[:-1]))


@pytest.mark.parametrize(
    ("n", "n_bins"), [(1_599, None), (1_600, 16), (6_399, 32), (6_400, 64), (90_000, 256)]
)
def test_a_fine_bin_has_a_hundred_rows(n, n_bins):
    """And there are two hundred and fifty-six of them at most."""
    x = skewed(n)
    y = (np.argsort(np.argsort(x)) * 400 // n) % 2 if n > 10_000 else zigzag(x, 100, high=1.0)
    with (
        patch("sknoprop.networks.finer_bins.MUCH", -1.0),
        patch("sknoprop.networks.finer_bins.BELIEVED", 2.0),
    ):
        found = finer_edges(x, y, cut(x, 8))
    assert (found and len(found[1]) - 1) == n_bins


def test_what_is_left_is_that_of_regressions():
    """Variance between fine bins, less that of a regression of their frequencies on the pieces.

    The pieces of each row, by the encoding itself, in the mean of a bin; and what chance gives is
    subtracted.
    """
    x, n_bins = skewed(20_000), 128
    y = zigzag(x, 32) + zigzag(x, 4, seed=2)
    left, _ = finer_edges(x, y, cut(x, 8))
    bins = np.searchsorted(cut(x, n_bins)[1:-1], x, side="right")
    encoding = NumberEncoding(x[:, None], 8)
    rows = encoding(encoding.left.new_tensor(x)[:, None])[:, 1:].numpy()
    of_class = np.eye(3)[y]
    size = np.bincount(bins)
    pieces, classes = (
        np.stack([np.bincount(bins, column) / size for column in values.T], 1)
        for values in (rows, of_class)
    )
    line = LinearRegression().fit(pieces, classes, sample_weight=size)
    rest = size @ np.square(classes - line.predict(pieces)) / of_class.mean(0)
    free = (n_bins - 9) * 2
    np.testing.assert_allclose(left, (rest.sum() - free) / (len(x) * 2), rtol=1e-9)


def test_a_departure_is_seen_as_rarely_as_is_said():
    """Of 400 features with frequencies on eight pieces, were any chance believed."""
    seen = []
    with patch("sknoprop.networks.finer_bins.MUCH", -1.0):
        for seed in range(400):
            x = skewed(3_200, seed)
            y = zigzag(x, 8, seed, 0.3, 0.7)
            with patch("sknoprop.networks.finer_bins.BELIEVED", 0.1):
                seen.append(finer_edges(x, y, cut(x, 8)) is not None)
    assert abs(np.mean(seen) - 0.1) < 4 * np.sqrt(0.09 / 400)


def test_little_is_left_alone_though_it_is_no_chance():
    x = skewed(100_000)
    y = zigzag(x, 32, low=0.43, high=0.57)  # a third of 0.07**2 of a variance of 0.25: 0.65 %
    assert finer_edges(x, y, cut(x, 8)) is None
    with patch("sknoprop.networks.finer_bins.MUCH", 0.004):
        assert finer_edges(x, y, cut(x, 8)) is not None


def test_features_of_few_values_are_left_alone():
    for n_values, found in ((31, False), (32, True)):
        x = np.arange(20_000) % float(n_values)
        edges = finer_edges(x, (np.arange(20_000) % n_values) % 2, cut(x, 8))
        assert (edges is not None) == found


@pytest.mark.parametrize(
    ("unit", "offset"), [(1e-300, 0.0), (1e300, 0.0), (1.0, 1e6), (2.0**-20, 1.0)]
)
def test_neither_units_nor_order_decide(unit, offset):
    x = np.random.default_rng(0).integers(0, 2**20, 20_000) / 2**20
    y = zigzag(x, 32)
    left, edges = finer_edges(x, y, cut(x, 8))
    order = np.random.default_rng(1).permutation(len(x))
    other = unit * x[order] + offset
    again, moved = finer_edges(other, y[order], cut(other, 8))
    np.testing.assert_allclose(again, left, rtol=1e-5)
    np.testing.assert_allclose(moved, unit * edges + offset)


@given(
    arrays(np.float64, st.integers(40, 60), elements=st.floats(-4e307, 4e307), unique=True),
    st.integers(1, 4),
    st.integers(0, 5),
)
def test_edges_rise_whatever_is_given(values, n_classes, seed):
    """Tiny ones beside huge ones, and values that many rows share."""
    rng = np.random.default_rng(seed)
    which = np.minimum(rng.geometric(0.05, 1_700), len(values)) - 1
    x, y = values[which], which % n_classes
    edges = np.unique(cut(x, 8))
    assume(len(edges) > 2)
    found = finer_edges(x, y, edges)
    assert found is None or np.all(np.diff(found[1]) > 0)
    assert found is None or (found[1][0], found[1][-1]) == (x.min(), x.max())


def test_those_that_leave_most_come_first():
    """As far as pieces of all features are fewer than may be."""
    n = 30_000
    X = np.column_stack([skewed(n, seed) for seed in range(3)])
    y = zigzag(X[:, 0], 32, 1, 0.3, 0.7) + 2 * zigzag(X[:, 2], 64, 2)
    edges = {j: cut(X[:, j], 8) for j in range(3)}

    def pieces(most):
        return [len(cuts) - 1 for cuts in finer_pieces(X, y, edges, most).values()]

    assert pieces(105) == [32, 8, 64]
    assert pieces(104) == [8, 8, 64]
    assert pieces(81) == [8, 8, 64]
    assert pieces(80) == [32, 8, 8]
    assert pieces(48) == [8, 8, 8]


# What the encoding makes of it


def stripes(n, seed, n_features=9):
    """One feature of many whose classes change thirty times."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(size=(n, n_features))
    p = np.where(np.floor(30 * X[:, 3]) % 2, 0.9, 0.1)
    p = np.clip(p + 0.2 * (X[:, 0] - 0.5), 0, 1)
    return X, (rng.random(n) < p).astype(int)


def test_a_feature_of_many_gets_the_bins_that_it_needs():
    X, y = stripes(13_000, 0)
    edges = suited_encoding(X, y).edges()
    assert len(edges[3]) > 64
    assert {len(edges[j]) for j in edges if j != 3} == {9}
    # Of few rows nobody can tell, and a number is taken at its word.
    few = suited_encoding(X[:1_500], y[:1_500]).edges()
    assert len({len(cuts) for cuts in few.values()}) == 1
    assert suited_encoding(X, y, 8).n_out == 9 * 9


@pytest.mark.parametrize(("error", "finer"), [(0.952, True), (0.954, False)])
def test_where_fewer_than_eight_bins_are_enough_more_have_to_pay(error, finer, monkeypatch):
    """Averages of pixels leave much, and more bins make it worse."""
    X, y = stripes(13_000, 0)
    errors = iter([1.0, error])
    monkeypatch.setattr("sknoprop.networks.resolution.enough_bins", lambda *_: 5)
    monkeypatch.setattr("sknoprop.networks.resolution.leave_one_out_error", lambda *_: next(errors))
    assert (suited_encoding(X, y).n_out > 9 * 6) == finer


def wave(n, seed):
    """One feature of twelve says all there is to say; 800 rows see no more of it by 16 bins."""
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.uniform(size=n), rng.standard_normal((n, 11))])
    return X, (np.floor(24 * X[:, 0]).astype(int) % 2) ^ (rng.random(n) < 0.1)


def test_one_feature_that_says_all_is_found_among_others():
    X, y = wave(4_000, 0)
    assert enough_bins(X, y) == 3
    edges = suited_encoding(X, y).edges()
    assert len(edges[0]) > 24
    assert {len(edges[j]) for j in range(1, 12)} == {4}


def test_it_pays_among_others_too():
    cut, left_alone = losses_cut_and_left_alone(wave(4_000, 0), wave(2_000, 1), max_iter=10)
    assert cut < 0.8 * left_alone


def test_it_pays():
    cut, left_alone = losses_cut_and_left_alone(stripes(13_000, 0), stripes(4_000, 1), max_iter=5)
    assert cut < 0.8 * left_alone


@pytest.mark.parametrize(("error", "finer"), [(1.046, True), (1.048, False)])
def test_error_that_more_bins_make_is_a_twentieth_at_most(error, finer, monkeypatch):
    X, y = stripes(13_000, 0)
    errors = iter([1.0, error])
    monkeypatch.setattr("sknoprop.networks.resolution.enough_bins", lambda *_: 8)
    monkeypatch.setattr("sknoprop.networks.resolution.leave_one_out_error", lambda *_: next(errors))
    assert (suited_encoding(X, y).n_out > 9 * 9) == finer


def test_bins_are_fewer_than_the_rows_that_are_judged(monkeypatch):
    monkeypatch.setattr("sknoprop.networks.resolution.enough_bins", lambda *_: 8)
    for n_features, finer in ((84, True), (95, False)):
        X, y = stripes(13_000, 0, n_features)
        n_pieces = len(suited_encoding(X, y).column)
        assert n_pieces < ROWS_OF_ERROR
        assert (n_pieces > 8 * n_features) == finer


def test_edges_of_an_encoding_cut_it_alike():
    X = np.column_stack([skewed(500), np.ones(500), np.arange(500) % 2, skewed(500, 1)])
    encoding = NumberEncoding(X, 8)
    edges = encoding.edges()
    assert list(edges) == [0, 3]
    np.testing.assert_allclose(edges[3], cut(X[:, 3], 8))
    again = encoding.cut_at(edges)
    rows = encoding.mean.new_tensor(X)
    np.testing.assert_allclose(again(rows), encoding(rows), rtol=1e-12)
    fewer = encoding.cut_at({0: cut(X[:, 0], 3), 3: np.array([0.0, 1.0])})
    np.testing.assert_array_equal(fewer.column, [0, 0, 0])
    assert fewer(rows).shape == (500, 4 + 3)
