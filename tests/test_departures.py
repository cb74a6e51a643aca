"""Frequencies of classes that are not linear in scores, against textbooks and regressions."""

import numpy as np
import pytest
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import chi2_contingency, chisquare
from sklearn.linear_model import LinearRegression

from sknoprop.networks.departures import LEAST, departure_from_linear

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
    np.testing.assert_allclose(n * departure_from_linear(LEPROSY, scores).bend + 3, total - line)


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
    found = departure_from_linear(counts, SCORES)
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
    chances = np.array([departure_from_linear(table, scores).chance for table in tables])
    for share in (0.01, 0.1, 0.5):
        four_errors = 4 * (share * (1 - share) / 4000) ** 0.5
        assert abs((chances < share).mean() - share) < slack * share + four_errors


@pytest.mark.parametrize("seed", range(3))
def test_of_several_scores_it_is_that_of_a_regression_on_them_all(seed):
    counts = random_counts(seed, n_bins=9)
    scores = np.random.default_rng(seed).normal(size=(9, 3))
    bins, y = rows_of(counts, np.arange(9))
    of_class, of_bin = np.eye(4)[y], np.eye(9)[bins]
    weight = of_class.mean(0) * (1 - of_class.mean(0))
    line = LinearRegression().fit(scores[bins], of_class)
    table = LinearRegression().fit(of_bin, of_class)
    by_line, by_bins = (
        np.average(model.predict(inputs).var(0) / weight, weights=1 - of_class.mean(0))
        for model, inputs in ((line, scores[bins]), (table, of_bin))
    )
    free = (9 - 1 - 3) * 3
    found = departure_from_linear(counts, scores)
    np.testing.assert_allclose(found.bend, by_bins - by_line - free / (len(y) * 3))
    expected = np.maximum(line.predict(scores) * counts.sum(1, keepdims=True), 0)
    least = LEAST * np.outer(counts.sum(1), of_class.mean(0))
    chi2 = (
        np.square(counts - line.predict(scores) * counts.sum(1, keepdims=True))
        / np.maximum(expected, least)
    ).sum()
    np.testing.assert_allclose(found.chance, chi2_distribution.sf(chi2, free))


def test_scores_that_others_say_count_once():
    counts = random_counts(0)
    again = np.column_stack([SCORES, 3 - 2 * SCORES, np.full(5, 1e6), SCORES**2])
    expected = departure_from_linear(counts, again[:, [0, 3]])
    np.testing.assert_allclose(departure_from_linear(counts, again), expected)
    constant = departure_from_linear(counts, np.zeros((5, 2)))
    total = chi2_contingency(counts, correction=False)
    np.testing.assert_allclose(constant.chance, total.pvalue)


def test_units_and_classes_without_rows_change_nothing():
    counts = random_counts(0)
    wider = np.insert(counts, 2, 0, axis=1)
    expected = departure_from_linear(counts, SCORES)
    for other in (
        departure_from_linear(counts, 7 - 3 * SCORES),
        departure_from_linear(wider, SCORES),
    ):
        np.testing.assert_allclose(other, expected)


def test_what_scores_say_all_of_departs_from_nothing():
    assert departure_from_linear(random_counts(0), np.eye(5)[:, 1:]) == (1.0, 0.0)


def test_one_class_or_two_bins_depart_from_nothing():
    for counts in ([[5], [9], [2]], [[5, 30], [30, 5]], [[5, 30]]):
        assert departure_from_linear(np.array(counts), np.arange(len(counts))) == (1.0, 0.0)
