"""What is computed of each row alone: the right numbers, the same bits wherever a row stands."""

from contextlib import contextmanager

import numpy as np
import pytest
import scipy.special
import torch

from sknoprop import NoPropClassifier
from sknoprop.rowwise import power, product, softmax, sum_of_classes
from tests.models import toy_data

#: What a prediction has: blocks, rows, latents, classes.
SHAPE = 5, 256, 6, 3


@pytest.fixture(autouse=True)
def predicting():
    with torch.no_grad():
        yield


@contextmanager
def threads(n):
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def numbers(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def rows_last(x):
    return x.transpose(-3, -1).contiguous().transpose(-3, -1)


@pytest.mark.parametrize("made", [lambda x: x, rows_last], ids=["rows first", "rows last"])
def test_softmax_is_scipys(made):
    logits = 20 * numbers(*SHAPE)
    found = softmax(made(logits))
    expected = scipy.special.softmax(logits.numpy(), -1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-13)
    assert found.stride() == made(logits).stride()
    table = made(logits)[0, :, 0]  # with one row a row, in memory or not
    np.testing.assert_allclose(softmax(table).numpy(), expected[0, :, 0], rtol=1e-13)


def test_powers_products_and_sums_are_numpys():
    x = numbers(20, 6).abs()
    x[0, 0] = 0.0
    np.testing.assert_allclose(power(x, 0.3).numpy(), x.numpy() ** 0.3, rtol=1e-13)
    z, matrix = numbers(4, 8, 6), numbers(6, 3)
    np.testing.assert_allclose(product(z, matrix).numpy(), z.numpy() @ matrix.numpy(), rtol=1e-12)
    for n in (1, 2, 32, 33):
        values = numbers(7, n)
        found = sum_of_classes(values)
        np.testing.assert_allclose(found.numpy(), values.numpy().sum(-1), rtol=1e-12, atol=1e-14)


def powers(p):
    return sum(power(p, exponent) for exponent in (0.3, 0.6, 0.7, 0.9, 1.3, 1.7, 2.1))


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize(
    ("function", "rows"),
    [
        (softmax, rows_last(numbers(5, 256, 40, 7, dtype=torch.float32))),
        (powers, rows_last(numbers(5, 256, 40, 7).float().abs())),
        (lambda z: product(z, numbers(10, 5, dtype=torch.float32)), numbers(1, 256, 2, 10).float()),
        (
            lambda z: product(z, numbers(20, 10, dtype=torch.float32)),
            numbers(1, 256, 1, 20).float(),
        ),
        (sum_of_classes, rows_last(numbers(5, 256, 40, 7, dtype=torch.float32))),
    ],
    ids=["softmax", "power", "product", "larger product", "sum"],
)
def test_no_row_is_rounded_by_where_it_stands(function, rows, n_threads):
    with threads(n_threads):
        expected = function(rows)
        for order in (torch.arange(255, -1, -1), torch.arange(256).roll(5)):
            moved = rows.transpose(0, 1).contiguous()[order].transpose(0, 1)
            if not rows.is_contiguous():
                moved = rows_last(moved)
            assert torch.equal(function(moved), expected[:, order])


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"variant": "fm", "embedding": "learned", "embedding_dim": 5, "readout": "linear"},
        {"variant": "ct", "embedding": "prototype", "readout": "posterior"},
        {"variant": "dt", "embedding": "learned", "embedding_dim": 4, "readout": "nearest"},
        {"variant": "fm", "parameterization": "velocity", "inference": "kernel", "n_draws": 5},
        {"variant": "dt", "inference": "kernel"},
    ],
    ids=str,
)
def test_nor_is_a_prediction(options, n_threads):
    X, y = toy_data(300, n_features=20, n_classes=10)
    settings = {"inference": "trajectory", "max_iter": 2, "random_state": 0} | options
    clf = NoPropClassifier(**settings).fit(X, y)
    with threads(n_threads):
        expected = clf.predict_proba(X)
        np.testing.assert_array_equal(clf.predict_proba(X[::-1])[::-1], expected)
        np.testing.assert_array_equal(clf.predict_proba(X[5:8]), expected[5:8])
