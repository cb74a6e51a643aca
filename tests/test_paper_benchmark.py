"""The benchmark of the paper's table: its cells are whole, and its baselines learn everywhere."""

import json

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from benchmarks.paper import run
from benchmarks.paper.baselines import Baseline
from benchmarks.paper.cells import (
    METHODS,
    SIZES,
    Size,
    cell_name,
    cells,
    figures,
    parameters,
    shifted,
)
from benchmarks.paper.run import by_trajectories, readings
from sknoprop import NoPropClassifier

TINY = Size("tiny", None, None, 1, 2, 3, dict.fromkeys(METHODS, 1))


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:40].reshape(-1, 1, 8, 8), y[:40]


def test_the_table_is_whole():
    # 3 data sets x (4 methods x 3 embeddings + the adjoint method for one embedding), and ours
    assert len({cell_name(*cell) for cell in cells()}) == 3 * (4 * 3 + 1) + 3 * 3 * 2
    for cell in cells():
        assert all(figures(*cell)[:2]) or cell[2] in ("blocks", "modern")
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


def test_inference_draws_differ_and_the_model_is_left_as_it_was(digits, monkeypatch):
    params = parameters("mnist", "fm", "one-hot", TINY) | {"hidden_layer_sizes": 8}
    clf = NoPropClassifier(**params, random_state=0).fit(*digits)
    before = clf.predict_proba(digits[0])
    monkeypatch.setattr(run, "N_ALIKE", 5)
    first, other = (by_trajectories(clf, digits[0], seed) for seed in (0, 1))
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(by_trajectories(clf, digits[0], 0), first)
    same = by_trajectories(clf, np.repeat(digits[0][:1], 10, 0), 0)
    assert len(np.unique(same, axis=0)) == 2, "five rows share their noise"
    found = readings(clf, *digits, n_draws=2)
    assert len(found["trajectory"]) == 2
    assert found["kernel"]["log_loss"] < found["trajectory"][0]["log_loss"]
    assert clf.get_params() == NoPropClassifier(**params, random_state=0).get_params()
    np.testing.assert_array_equal(clf.predict_proba(digits[0]), before)


def test_shifted_images_are_the_images_shifted():
    images = torch.rand(6, 2, 5, 7) + 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = shifted(images, most=2)
    moves = []
    for image, moved in zip(images, found, strict=True):
        for down in range(-2, 3):
            for right in range(-2, 3):
                rolled = image.roll((-down, -right), (-2, -1)).clone()
                rolled[:, 5 - down if down > 0 else 0 : 5 if down > 0 else -down] = 0
                rolled[..., 7 - right if right > 0 else 0 : 7 if right > 0 else -right] = 0
                if torch.equal(rolled, moved):
                    moves.append((down, right))
    assert len(moves) == 6, "each is one shift of its own image"
    assert len(set(moves)) > 1


def test_runs_are_kept_and_tabled(digits, monkeypatch, tmp_path):
    record = {"cell": "mnist-fm-one-hot", "size": "reduced", "epoch_s": 1.5, "device": "x"}
    record |= {"peak_bytes": 2e9, "seed": 0}
    for part, accuracy in (("train", 90.0), ("test", 80.0)):
        one = {"accuracy": accuracy, "log_loss": 0.5}
        record[part] = {"trajectory": [one, one], "kernel": one}
    done = run.file_of(tmp_path, SIZES["reduced"], "mnist-fm-one-hot", 0)
    done.write_text(json.dumps(record))
    monkeypatch.setattr(run, "measure", None)  # what is there is not run again
    run.run("", ["mnist-fm-one-hot"], SIZES["reduced"], tmp_path)
    (row,) = run.table(tmp_path).splitlines()[2:]
    assert "| 90.00 ± 0.00 | 80.00 ± 0.00 | 0.500 | 80.00 | 0.500 | 1.5 | 2.00 | x |" in row
    assert row.endswith("| 99.97 ± .0 | 99.21 ± .09 | 1.06 |")


@pytest.mark.parametrize("cell", ["blocks", "modern"])
def test_cells_of_ours_run(cell, monkeypatch, tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (24, 3, 32, 32), dtype=np.uint8), np.arange(24) % 10
    monkeypatch.setattr(run, "load_torchvision", lambda *args, **options: images)
    tiny = Size("tiny", 20, 10, 1, 1, 2, dict.fromkeys(METHODS, 1))
    record = run.measure("", "cifar10", "fm", cell, tiny, 0, tmp_path / "fit.checkpoint")
    assert record["cell"] == f"cifar10-fm-{cell}"
    assert record["epoch_s"] > 0


@pytest.mark.slow
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
