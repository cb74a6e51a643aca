"""Few rows are computed as few only where that is the same to the last bit."""

import copy
import gc
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sknoprop import NoPropClassifier, few_rows
from sknoprop.few_rows import rows_for_few, rows_round_alike
from sknoprop.inference import kernel_probabilities
from sknoprop.kernels import shared_draws
from sknoprop.probes import Probes
from tests.models import toy_data, toy_model

SMALL = {"n_blocks": 2, "hidden_layer_sizes": (8,), "max_iter": 2, "random_state": 0}


@pytest.fixture
def model():
    return toy_model(dtype="float32")[0]


def draws(model):
    return shared_draws(2, model.embedding.dim, torch.Generator().manual_seed(0)).to(
        model.embedding.weight
    )


def rows(n=3):
    return torch.tensor(toy_data(n)[0])


def rows_taken(model, n_samples, at_once=256):
    return rows_for_few(model, n_samples, at_once, draws(model), lambda n: rows()[:n])


@pytest.fixture
def answer(monkeypatch):
    """What is said of each number of rows, and what was asked."""

    def answer(says):
        asked = []

        def alike(model, first, probes, few, many):
            asked.append((len(first), few, many))
            return says(few)

        monkeypatch.setattr(few_rows, "rows_round_alike", alike)
        return asked

    return answer


@pytest.mark.parametrize(
    ("n_samples", "least", "taken"),
    [(1, 1, 4), (4, 1, 4), (5, 1, 16), (64, 1, 64), (65, 1, 256), (1, 16, 16), (1, 99, 256)],
)
def test_the_fewest_rows_that_are_enough_and_rounded_alike(n_samples, least, taken, model, answer):
    answer(lambda few: few >= least)
    assert rows_taken(model, n_samples) == taken
    assert rows_taken(model, n_samples, at_once=4) == 4, "as many as there may be"


@pytest.mark.parametrize(("n_samples", "taken"), [(1, 12), (12, 12), (13, 48), (49, 192)])
def test_in_double_precision_multiples_of_twelve(n_samples, taken, answer):
    answer(lambda few: True)
    assert rows_taken(toy_model(dtype="float64")[0], n_samples, 192) == taken


def test_it_is_tried_once_a_model_and_number_of_threads(model, answer):
    asked = answer(lambda few: few == 16)
    for n_samples in (1, 1, 3, 9):
        assert rows_taken(model, n_samples) == 16
    assert asked == [(3, 4, 256), (3, 16, 256)]
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        rows_taken(model, 1)
    finally:
        torch.set_num_threads(before)
    rows_taken(copy.deepcopy(model), 1)
    assert asked == 3 * [(3, 4, 256), (3, 16, 256)]


def test_a_model_that_is_gone_is_forgotten(answer):
    answer(lambda few: True)
    gc.collect()
    n_before = len(few_rows._found)
    model = toy_model()[0]
    rows_taken(model, 1)
    assert len(few_rows._found) == n_before + 1
    del model
    gc.collect()
    assert len(few_rows._found) == n_before


def test_on_a_gpu_there_are_always_as_many():
    weight = SimpleNamespace(device=torch.device("cuda"))
    model = SimpleNamespace(embedding=SimpleNamespace(weight=weight))
    assert rows_for_few(model, 1, 256, torch.zeros(2, 3), rows) == 256


def test_too_little_memory_to_try_says_nothing(model, monkeypatch):
    def hungry(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(few_rows, "rows_round_alike", hungry)
        assert rows_taken(model, 1) == 256
    monkeypatch.setattr(few_rows, "rows_round_alike", lambda *_: True)
    assert rows_taken(model, 1) == 4


def test_other_errors_are_not_hidden(model, monkeypatch):
    def wrong(*_):
        raise RuntimeError("wrong shapes")

    monkeypatch.setattr(few_rows, "rows_round_alike", wrong)
    with pytest.raises(RuntimeError, match="wrong shapes"):
        rows_taken(model, 1)


# What is found


def alike(model, few=16, many=64):
    return rows_round_alike(model, rows(), Probes(model, draws(model)), few, many)


def rounded_up(x, index):
    x = x.clone()
    x[index] = torch.nextafter(x[index], torch.full_like(x[index], torch.inf))
    return x


def test_as_many_rows_are_rounded_as_they_are(model):
    assert alike(model, 16, 16)
    model.encoder.layers[0].weight.data[0, 0, 0] = torch.nan
    assert alike(model, 16, 16), "whatever they are"


def rows_alone(rows, size):
    """Features that no product rounds."""
    filled = torch.cat([rows[:, 0], torch.zeros(size - len(rows))])
    return filled[:, None].to(torch.float32).expand(4, size, 8).clone()


@pytest.mark.parametrize("place", [0, 5, 14])
@pytest.mark.parametrize("of", [16, 64])
def test_a_feature_that_is_rounded_otherwise_is_noticed(place, of, model, monkeypatch):
    """Of one row, in one block, in its last digit."""

    def rounded(model, rows, size, at_once):
        features = rows_alone(rows, size)
        return rounded_up(features, (1, place, 7)) if size == of else features

    def same(model, features, probes):
        return features.double()

    monkeypatch.setattr(few_rows, "kernel_probabilities", same)
    monkeypatch.setattr(few_rows, "features_of", lambda _, rows, size, __: rows_alone(rows, size))
    assert alike(model)
    monkeypatch.setattr(few_rows, "features_of", rounded)
    assert not alike(model)


@pytest.mark.parametrize("place", [0, 5, 15])
def test_a_probability_that_is_rounded_otherwise_is_noticed(place, model, monkeypatch):
    def rounded(model, features, probes):
        p = features.double()
        return rounded_up(p, (1, place, 2)) if len(p[0]) == 16 else p

    monkeypatch.setattr(few_rows, "features_of", lambda _, rows, size, __: rows_alone(rows, size))
    monkeypatch.setattr(few_rows, "kernel_probabilities", rounded)
    assert not alike(model)


def test_features_are_all_different(model, monkeypatch):
    """Of a row that is sure of its class all roundings would make the same."""
    seen = []

    def probabilities(model, features, probes):
        seen.append(features)
        return features.double()

    monkeypatch.setattr(few_rows, "kernel_probabilities", probabilities)
    monkeypatch.setattr(few_rows, "features_of", lambda _, rows, size, __: torch.ones(4, size, 8))
    assert alike(model)
    assert seen[0].unique().numel() > 0.99 * seen[0].numel()
    np.testing.assert_array_equal(torch.cat(seen[1:], 1), seen[0])


# In predictions


@pytest.mark.parametrize(("says", "n_rows"), [(True, 4), (False, 256)])
def test_a_prediction_takes_as_many_rows_as_were_found(says, n_rows, answer, monkeypatch):
    X, y = toy_data(90)
    clf = NoPropClassifier(**SMALL).fit(X, y)
    whole, taken = clf.predict_proba(X), []

    def probabilities(model, features, probes):
        taken.append(features.shape[1])
        return kernel_probabilities(model, features, probes)

    answer(lambda few: says)
    monkeypatch.setattr("sknoprop.classifier.kernel_probabilities", probabilities)
    np.testing.assert_allclose(clf.predict_proba(X[:3]), whole[:3], atol=1e-6)
    assert taken == [n_rows]


@pytest.mark.parametrize(
    ("variant", "n_classes", "n_threads"),
    [*((variant, n, 1) for variant in ("dt", "ct", "fm") for n in (2, 10, 40)), ("fm", 2, 2)],
)
def test_few_rows_are_predicted_as_among_many(variant, n_classes, n_threads):
    X, y = toy_data(300, 20, n_classes)
    clf = NoPropClassifier(variant, **SMALL | {"hidden_layer_sizes": (128,)}).fit(X, y)
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        whole = clf.predict_proba(X)
        for n in (1, 3, 16, 40):
            np.testing.assert_array_equal(clf.predict_proba(X[-n:]), whole[-n:])
    finally:
        torch.set_num_threads(before)


def test_an_encoder_that_looks_at_the_other_rows_is_left_as_it_is():
    """Its predictions are its own affair; no row may change with what was tried before."""

    class Others(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1) - x.flatten(1).mean(0)

    X, y = toy_data(60)
    clf = NoPropClassifier(encoder=Others(), **SMALL).fit(X[:, :4].reshape(60, 1, 2, 2), y)
    images = X[:1, :4].reshape(1, 1, 2, 2)
    first = clf.predict_proba(images)
    np.testing.assert_array_equal(clf.predict_proba(images), first)
    assert not any(few_rows._found[clf.blocks_].values())
