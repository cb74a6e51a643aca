"""The benchmark of the paper's table: its cells are whole, and its baselines learn everywhere."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from benchmarks.paper import run
from benchmarks.paper.baselines import Baseline
from benchmarks.paper.cells import METHODS, SIZES, Size, cell_name, cells, parameters
from benchmarks.paper.run import readings
from sknoprop import NoPropClassifier

TINY = Size("tiny", None, None, 1, 2, 3, dict.fromkeys(METHODS, 1))


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:40].reshape(-1, 1, 8, 8), y[:40]


def test_the_table_is_whole():
    # 3 data sets x (4 methods x 3 embeddings + the adjoint method for one embedding)
    assert len({cell_name(*cell) for cell in cells()}) == 3 * (4 * 3 + 1)
    for cell in cells():
        for size in SIZES.values():
            NoPropClassifier(**parameters(*cell, size))._validate_params()


@pytest.mark.parametrize("method", ["backprop", "adjoint"])
@pytest.mark.parametrize("embedding", ["one-hot", "prototype"])
def test_gradients_of_a_baseline_reach_all_of_it(method, embedding, digits):
    if method == "adjoint":
        pytest.importorskip("torchdiffeq")
    params = parameters("mnist", method, embedding, TINY) | {"hidden_layer_sizes": 8}
    if method == "backprop":
        params |= {"n_blocks": 2}
    estimator = NoPropClassifier(**params, random_state=0)
    net = Baseline(method, estimator, torch.device("cpu"), 3).fit(*digits).net
    unmoved = [name for name, p in net.named_parameters() if p.requires_grad and not p.grad.any()]
    assert unmoved == []
    proba = (
        Baseline(method, estimator, torch.device("cpu"), 3).fit(*digits).predict_proba(digits[0])
    )
    np.testing.assert_allclose(proba.sum(1), 1)


def test_inference_draws_differ_and_the_model_is_left_as_it_was(digits):
    params = parameters("mnist", "fm", "one-hot", TINY) | {"hidden_layer_sizes": 8}
    clf = NoPropClassifier(**params, random_state=0).fit(*digits)
    before = clf.predict_proba(digits[0])
    found = readings(clf, *digits, n_draws=2)
    assert found["trajectory"][0] != found["trajectory"][1]
    assert found["kernel"]["log_loss"] < found["trajectory"][0]["log_loss"]
    np.testing.assert_array_equal(clf.predict_proba(digits[0]), before)


@pytest.mark.parametrize("method", METHODS)
def test_a_cell_of_each_method_runs(method, monkeypatch):
    if method == "adjoint":
        pytest.importorskip("torchdiffeq")
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (24, 1, 28, 28), dtype=np.uint8), np.arange(24) % 10
    monkeypatch.setattr(run, "load_torchvision", lambda *args, **options: images)
    tiny = Size("tiny", 20, 10, 1, 1, 2, dict.fromkeys(METHODS, 1))
    record = run.measure("", "mnist", method, "one-hot", tiny, 0)
    assert record["cell"] == f"mnist-{method}-one-hot"
    for part in ("train", "test"):
        (score,) = record[part]["trajectory"]
        assert 0 <= score["accuracy"] <= 100
        assert np.isfinite(score["log_loss"])
