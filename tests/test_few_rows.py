"""Few rows are computed as few only where that is the same to the last bit."""

import copy
import gc
import platform
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sknoprop import NoPropClassifier, few_rows
from sknoprop.few_rows import Trial, rows_for_few
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


def rows_taken(model, n_samples, at_once=256):
    return rows_for_few(model, n_samples, at_once, draws(model))


@pytest.fixture
def answer(monkeypatch):
    """What is said of each number of rows, and what was asked."""

    def answer(says):
        asked = []

        def alike(trial, few):
            asked.append((few, trial.n_rows))
            return says(few)

        monkeypatch.setattr(Trial, "rounds_alike", alike)
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
    assert asked == [(4, 256), (16, 256)]
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        rows_taken(model, 1)
    finally:
        torch.set_num_threads(before)
    rows_taken(copy.deepcopy(model), 1)
    assert asked == 3 * [(4, 256), (16, 256)]


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
    model = SimpleNamespace(embedding=SimpleNamespace(weight=weight), encoder=None)
    assert rows_for_few(model, 1, 256, torch.zeros(2, 3)) == 256


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("wrong shapes")])
def test_too_little_memory_to_try_says_nothing_and_other_errors_are_not_hidden(
    error, model, monkeypatch
):
    def wrong(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(few_rows, "kernel_probabilities", wrong)
        if isinstance(error, MemoryError):
            assert rows_taken(model, 1) == 256
        else:
            with pytest.raises(RuntimeError, match="wrong shapes"):
                rows_taken(model, 1)
    monkeypatch.setattr(Trial, "rounds_alike", lambda *_: True)
    assert rows_taken(model, 1) == 4


# What is found


def trial(model, many=64):
    return Trial(model, Probes(model, draws(model)), many)


def rounded_up(x, index):
    x = x.clone()
    x[index] = torch.nextafter(x[index], torch.full_like(x[index], torch.inf))
    return x


def test_as_many_rows_are_rounded_as_they_are(model):
    assert trial(model).rounds_alike(64)


def test_rows_like_those_of_training_and_all_different():
    """Of other rows, huge ones say, all roundings may make the same."""
    X, y = toy_data(60)
    X = 1e6 + 1e3 * X
    clf = NoPropClassifier(**SMALL).fit(X, y)
    rows = trial(clf.blocks_, 1000).rows.numpy()
    np.testing.assert_allclose(rows.mean(0), X.mean(0), atol=200)
    np.testing.assert_allclose(rows.std(0), X.std(0), rtol=0.1)
    assert len(np.unique(rows)) == rows.size
    images = (3 * np.arange(60 * 8) % 256).reshape(60, 2, 2, 2).astype(np.uint8)
    clf = NoPropClassifier(encoder="mlp", **SMALL).fit(images, y)
    rows = trial(clf.blocks_, 1000).rows.numpy().reshape(1000, 2, 4)
    flat = images.reshape(60, 2, 4)
    np.testing.assert_allclose(rows.mean((0, 2)), flat.mean((0, 2)), atol=8)
    np.testing.assert_allclose(rows.std((0, 2)), flat.std((0, 2)), rtol=0.1)


@torch.no_grad()
def test_blocks_are_asked_about_features_that_differ_though_rows_do_not(model):
    model.encoder.layers[0].weight.data.zero_()
    found = trial(model)
    assert float(found.features.std(1).max()) == 0.0
    assert float(found.asked.std(1).min()) > 0.5
    expected = kernel_probabilities(model, found.asked, found.probes)
    assert torch.equal(found.laws, expected)


@pytest.mark.parametrize("place", [0, 5, 15])
@torch.no_grad()
def test_a_feature_that_is_rounded_otherwise_is_noticed(place, model, monkeypatch):
    """Of one row, in one block, in its last digit."""
    found = trial(model)
    exact = {len(found.rows): found.features} | {16: found.features[:, :16]}
    monkeypatch.setattr(few_rows, "PARTS", 1)
    same = kernel_probabilities(model, found.asked, found.probes)[:, :16]
    monkeypatch.setattr(few_rows, "kernel_probabilities", lambda *_: same)
    monkeypatch.setattr(few_rows, "features_of", lambda _, __, size, ___: exact[size])
    assert found.rounds_alike(16)
    exact[16] = rounded_up(exact[16], (1, place, int(exact[16][1, place].argmax())))
    assert not found.rounds_alike(16)


@pytest.mark.parametrize("part", [0, 3])
@pytest.mark.parametrize("place", [0, 5, 15])
def test_a_probability_that_is_rounded_otherwise_is_noticed(place, part, model, monkeypatch):
    found = trial(model)
    parts = [list(array.split(16, 1)) for array in (found.features, found.laws)]
    features, laws = (iter(array) for array in parts)
    monkeypatch.setattr(few_rows, "features_of", lambda *_: next(features))
    monkeypatch.setattr(few_rows, "kernel_probabilities", lambda *_: next(laws))
    assert found.rounds_alike(16)
    parts[1][part] = rounded_up(parts[1][part], (1, place, 2))
    features, laws = (iter(array) for array in parts)
    assert not found.rounds_alike(16)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="no products of others are known")
def test_few_rows_are_rounded_alike_by_some_products():
    """Else nothing would be gained."""
    X, y = toy_data(300, 20, 2)
    clf = NoPropClassifier(**SMALL | {"hidden_layer_sizes": (128,)}).fit(X, y)
    clf.predict_proba(X[:1])
    assert any(few_rows._found[clf.blocks_].values())


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


class Noisy(torch.nn.Module):
    """Counts its calls, draws from torch's generator, and looks at the other rows."""

    calls = 0

    def forward(self, x):
        Noisy.calls += 1
        return x.flatten(1) - x.flatten(1).mean(0) + torch.rand(())


@pytest.mark.parametrize("frozen", [False, True])
def test_networks_of_users_are_not_tried(frozen):
    X, y = toy_data(60)
    images = X[:, :4].reshape(60, 1, 2, 2)
    network = torch.nn.Sequential(Noisy(), torch.nn.Linear(4, 4, bias=not frozen))
    network.requires_grad_(not frozen)
    clf = NoPropClassifier(encoder=network, **SMALL).fit(images, y)
    found = []
    for _ in range(2):
        Noisy.calls = 0
        torch.manual_seed(0)
        found.append((clf.predict_proba(images[:1]), Noisy.calls))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


def test_what_is_asked_first_decides_nothing():
    X, y = toy_data(200, 20, 40)
    fitted = NoPropClassifier(**SMALL | {"hidden_layer_sizes": (128,)}).fit(X, y)
    verdicts = []
    for first in (X[:1], np.zeros((1, 20)), np.full((1, 20), 1e30)):
        clf = copy.deepcopy(fitted)
        clf.predict_proba(first)
        verdicts.append(few_rows._found[clf.blocks_])
        np.testing.assert_array_equal(clf.predict_proba(X[:3]), clf.predict_proba(X)[:3])
    assert verdicts[0] == verdicts[1] == verdicts[2]
