"""Few rows are computed with few others, where that rounds them as it does among many."""

import numpy as np
import pytest
import torch

import sknoprop.classifier as classifier
from sknoprop import NoPropClassifier
from tests.models import toy_data

SMALL = {"n_blocks": 2, "hidden_layer_sizes": (40,), "max_iter": 2, "random_state": 0}


@pytest.fixture
def sizes(monkeypatch):
    """Rows that features are made of, in each call."""
    seen, own = [], classifier.features_of

    def features_of(model, rows, size, at_once):
        seen.append(size)
        return own(model, rows, size, at_once)

    monkeypatch.setattr(classifier, "features_of", features_of)
    return seen


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float32", {1: 16, 16: 16, 17: 32, 100: 128, 129: 256, 256: 256, 300: 256}),
        ("float64", {1: 12, 13: 24, 97: 192, 200: 192}),
    ],
)
def test_few_rows_are_computed_with_few_others(dtype, expected, sizes):
    X, y = toy_data(400)
    clf = NoPropClassifier(dtype=dtype, **SMALL).fit(X, y)
    for n_rows, size in expected.items():
        clf.predict_proba(X[:n_rows])
        sizes.clear()
        clf.predict_proba(X[:n_rows])  # it is known by now whether they are rounded alike
        assert sizes == [size] * -(-n_rows // size), n_rows


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("variant", ["dt", "fm"])
def test_they_are_what_they_are_among_many(variant, dtype, n_threads):
    X, y = toy_data(300, n_classes=5)
    clf = NoPropClassifier(variant, dtype=dtype, **SMALL).fit(X, y)
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        whole = clf.predict_block_proba(X)
        for n_rows in (1, 2, 5, 16, 17, 40, 100):
            for _ in range(2):  # the first time they are compared, then not
                some = clf.predict_block_proba(X[-n_rows:])
                np.testing.assert_array_equal(some, whole[:, -n_rows:])
    finally:
        torch.set_num_threads(before)


WRONG = {
    "by their number": lambda p: p * (1 + 1e-15 * p.shape[1]),
    "by their place": lambda p: p * (1 + 1e-15 * torch.arange(p.shape[1]).double()[:, None]),
}


@pytest.mark.parametrize("case", WRONG)
def test_where_they_are_rounded_otherwise_they_are_computed_with_many(case, sizes, monkeypatch):
    X, y = toy_data(300)
    own = classifier.kernel_probabilities

    def rounded(model, features, eps):
        return WRONG[case](own(model, features, eps))

    monkeypatch.setattr(classifier, "kernel_probabilities", rounded)
    clf = NoPropClassifier(**SMALL).fit(X, y)
    whole = clf.predict_block_proba(X)
    for _ in range(2):
        sizes.clear()
        np.testing.assert_array_equal(clf.predict_block_proba(X[:3]), whole[:, :3])
    assert sizes == [256]
