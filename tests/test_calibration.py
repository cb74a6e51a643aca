"""Temperature, and the rows that it is found by."""

import joblib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.datasets import load_wine, make_classification
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_score

import sknoprop.calibrating
import sknoprop.fitting
from sknoprop import NoPropClassifier, paper_parameters
from sknoprop.calibrating import calibrate
from sknoprop.calibration import (
    PRIOR,
    fit_temperature,
    gain_of_mean,
    temperature_ratio,
    tempered,
    tempered_losses,
)
from sknoprop.cycles import SHORTER
from sknoprop.inference import kernel_probabilities
from sknoprop.probes import Probes
from sknoprop.training import LeftOut, Rows, Settings, Validation, leave_out, train
from sknoprop.training.seeds import Seeds
from tests.models import toy_data, toy_draws, toy_model, training_lengths

F64 = torch.float64
SMALL = {"n_blocks": 3, "hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0}


def noisy(n=300, flipped=0.25, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 6))
    return X, (X[:, 0] > 0) ^ (rng.random(n) < flipped)


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0, 3.0])
def test_tempered_is_a_softmax_of_the_logarithms(temperature):
    p = torch.tensor(np.random.default_rng(0).dirichlet([0.3] * 5, size=(2, 40)))
    expected = softmax(np.log(p.numpy()) / temperature, -1)
    torch.testing.assert_close(tempered(p, temperature), torch.tensor(expected))


def test_what_is_impossible_or_tiny_stays_so():
    p = torch.tensor([[0.0, 1e-300, 1.0], [0.0, 0.0, 1e-200]], dtype=F64)
    torch.testing.assert_close(
        tempered(p, 0.5), torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]], dtype=F64)
    )
    assert float(tempered(p, 10.0)[0, 1]) == pytest.approx(1e-30)


def test_losses_are_those_of_the_mean_of_tempered_estimates():
    rng = np.random.default_rng(0)
    logits, y = 3.0 * rng.standard_normal((3, 20, 4)), rng.integers(0, 4, 20)
    p = softmax(logits / 1.7, -1).mean(0)
    found = tempered_losses(torch.tensor(softmax(logits, -1)), torch.tensor(y), 1.7)
    expected = [
        log_loss([label], row[None], labels=range(4)) for label, row in zip(y, p, strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=F64))
    impossible = tempered_losses(torch.tensor([[[0.0, 1.0]]], dtype=F64), torch.tensor([0]), 1.0)
    assert 700 < float(impossible) < 750, "finite, as a sum of losses must be"


@given(st.integers(0, 10**6), st.integers(1, 3), st.booleans(), st.sampled_from([0.8, 1.0, 1.3]))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_the_temperature_is_the_likeliest(seed, n_estimates, weighted, expected):
    """Against another search, for another way of writing the same function."""
    rng = np.random.default_rng(seed)
    logits = 2.0 * rng.standard_normal((n_estimates, 50, 3))
    y = rng.integers(0, 3, 50)
    weight = rng.random(50) if weighted else np.ones(50)

    def cost(log_t):
        p = softmax(logits / np.exp(log_t), -1).mean(0)
        prior = (log_t - np.log(expected)) ** 2 / (2 * 0.3**2)
        return -weight @ np.log(p[np.arange(50), y]) + prior

    best = minimize_scalar(cost, bounds=np.log([0.1, 10.0]), method="bounded")
    p = torch.tensor(softmax(logits, -1))
    own_weight = torch.tensor(weight) if weighted else None
    found = fit_temperature(p, torch.tensor(y), own_weight, expected)
    assert cost(np.log(found)) == pytest.approx(best.fun, abs=1e-6)


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found(true):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((20_000, 4))
    noise = rng.gumbel(size=logits.shape)
    y = (log_softmax(logits / true, -1) + noise).argmax(-1)
    p = torch.tensor(softmax(logits, -1))[None]
    assert fit_temperature(p, torch.tensor(y)) == pytest.approx(true, rel=0.05)


def test_a_few_rows_say_little():
    """One row that is as wrong as can be moves log T by less than its prior's spread."""
    p = torch.tensor([[[0.9, 0.1]]], dtype=F64)
    assert 0.0 < np.log(fit_temperature(p, torch.tensor([1]))) < PRIOR
    assert 0.0 < np.log(fit_temperature(p, torch.tensor([1]), expected=2.0) / 2.0) < PRIOR


def doubtful(n_estimates, n_classes, spread, scale, clear=1.0, n=20_000, seed=0):
    """Estimates whose logits err, each in its own way, and labels."""
    rng = np.random.default_rng(seed)
    true = 1.5 * rng.standard_normal((n, n_classes))
    y = (true + rng.gumbel(size=true.shape)).argmax(-1)
    errors = spread * rng.standard_normal((n_estimates, n, n_classes))
    clear = np.broadcast_to(clear, n_estimates)[:, None, None]
    return torch.tensor(softmax(scale * (clear * true + errors), -1)), torch.tensor(y)


def share_of_the_way(p, y):
    """From the temperature of each alone to that of their mean, as labels show both."""
    alone = fit_temperature(p.flatten(0, 1)[None], y.repeat(len(p)))
    by_labels = alone - fit_temperature(p, y)
    assert by_labels > 0.01 * alone, "else there is little to find"
    return (alone - alone * temperature_ratio(p, alone)) / by_labels


@pytest.mark.parametrize(
    ("n_estimates", "n_classes", "scale"), [(2, 2, 1.0), (6, 2, 1.0), (2, 5, 1.0), (6, 3, 2.5)]
)
@pytest.mark.parametrize(
    ("spread", "least", "most"), [(0.2, 0.9, 1.1), (0.4, 0.85, 1.1), (1, 0.67, 1.1)]
)
def test_how_much_less_sure_the_mean_is_shows_without_labels(
    n_estimates, n_classes, scale, spread, least, most
):
    """All of it where estimates differ little; where they differ much some of it is left."""
    assert least < share_of_the_way(*doubtful(n_estimates, n_classes, spread, scale)) < most


def test_it_shows_well_enough_where_some_are_vague_and_where_all_are_far_too_sure():
    vague = share_of_the_way(*doubtful(5, 3, 0.2, 1.0, clear=(1.0, 1.0, 1.0, 0.3, 0.1)))
    assert 0.9 < vague < 1.2, "too far, but not by much"
    p, y = doubtful(5, 3, 2.0, 2.0)
    assert fit_temperature(p[:1], y) > 5.0, "near the end of what is searched"
    assert 0.6 < share_of_the_way(p, y) < 1.1


@given(st.integers(0, 10**6), st.floats(0.5, 2.0), st.booleans())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_the_ratio_is_what_labels_drawn_from_the_mean_ask_of_each_alone(
    seed, temperature, weighted
):
    """Against another search, for another way of writing the same function."""
    rng = np.random.default_rng(seed)
    logits = 2.0 * rng.standard_normal((3, 40, 4)) + rng.standard_normal((40, 4))
    law = softmax(logits / temperature, -1).mean(0)
    weight = torch.tensor(rng.random(40)) if weighted else None
    if weighted:
        law *= weight.numpy()[:, None]

    def cost(log_t):
        return -np.einsum("nc,enc->", law, log_softmax(logits / np.exp(log_t), -1))

    best = minimize_scalar(cost, bounds=np.log([0.01, 100.0]), method="bounded")
    found = temperature_ratio(torch.tensor(softmax(logits, -1)), temperature, weight)
    assert cost(np.log(temperature / found)) == pytest.approx(best.fun, rel=1e-6)
    assert found < 1.0
    agreed = torch.tensor(softmax(logits[:1], -1)).expand(3, -1, -1)
    assert temperature_ratio(agreed, temperature) == pytest.approx(1.0, rel=1e-3)


def test_the_ratio_of_what_is_certain_or_impossible_is_within_bounds():
    certain = [[[1.0, 0.0]], [[0.0, 1.0]]]
    impossible = [[[0.5, 0.3, 0.2]], [[0.6, 0.4, 0.0]]]
    for p in (certain, impossible):
        assert 0.1 <= temperature_ratio(torch.tensor(p, dtype=F64), 1.0) <= 1.0
    for tiny in (0.0, 1e-12, 1e-3):
        agreed = torch.tensor([[[1.0 - tiny, tiny]]] * 3, dtype=F64)
        assert temperature_ratio(agreed, 1.0) == pytest.approx(1.0, rel=1e-3)


def test_rows_are_dealt_class_by_class():
    y = np.repeat([0, 1, 2], [100, 40, 3])
    left_out = leave_out(y, None, 4, np.random.RandomState(0))
    block = left_out.block.numpy()
    assert (block[y == 2] == -1).all()  # too few of them
    for k, expected in ((0, 10), (1, 4)):
        found = [np.sum(block[y == k] == b) for b in range(4)]
        assert max(found) - min(found) <= 1
        assert max(found) <= expected
    again = leave_out(y, None, 4, np.random.RandomState(0))
    assert torch.equal(again.block, left_out.block)
    assert leave_out(y, None, 1, np.random.RandomState(0)) is None
    assert leave_out(np.arange(50), None, 4, np.random.RandomState(0)) is None
    assert leave_out(y[:40], None, 4, np.random.RandomState(0)) is None  # too few to find out


def test_heavy_rows_are_learnt_by_all():
    y, weight = np.arange(200) % 2, np.ones(200)
    weight[[3, 8]] = 1e4, 1e30
    left_out = leave_out(y, weight, 4, np.random.RandomState(0))
    assert (left_out.block[[3, 8]] == -1).all()
    assert torch.isfinite(left_out.factor).all()
    X, y = noisy()
    weight = np.ones(len(y))
    weight[4] = 1e30
    assert np.isfinite(NoPropClassifier(**SMALL).fit(X, y, weight).predict_proba(X)).all()


def test_weights_say_as_much_as_their_number_does():
    """A validation row of nearly all weight is one row, and says no more than one."""
    X, y = noisy()
    weight = np.full(100, 1e-6)
    weight[0] = 1.0
    model, rows = NoPropClassifier(**SMALL).fit(X, y).blocks_, None
    inputs = model.encoder.prepare(torch.tensor(X[:100]))
    labels = torch.tensor(y[:100].astype(int))
    eps = torch.randn(2, 2, generator=torch.Generator().manual_seed(0))
    judge = Validation(inputs, labels, torch.tensor(weight), eps)
    model.temperature.fill_(1.0)
    calibrate(model, rows, judge, eps, Seeds(0), 1.0, compared=True)
    first = float(model.temperature)
    assert abs(np.log(first)) < PRIOR
    judge = Validation(inputs, labels, torch.tensor(7.0 * weight), eps)
    model.temperature.fill_(1.0)
    loss = float(calibrate(model, rows, judge, eps, Seeds(0), 1.0, compared=True).of_mean.mean())
    assert float(model.temperature) == pytest.approx(first, rel=1e-3)
    probes = Probes(model, eps)
    p = kernel_probabilities(model, model.encoder(inputs[:1]), probes)  # at that temperature
    one = -np.log(float(p[:, 0, labels[0]].mean()))
    assert loss == pytest.approx(one, abs=1e-3), "of the one row that counts"


@pytest.mark.parametrize("n_blocks", [10, 60])
def test_blocks_may_be_more_than_rows_to_leave_out(n_blocks):
    X, y = noisy(60)
    clf = NoPropClassifier(**(SMALL | {"n_blocks": n_blocks, "max_iter": 1})).fit(X[:51], y[:51])
    assert np.isfinite(clf.predict_proba(X)).all()
    assert NoPropClassifier(**SMALL).fit(X[:19], y[:19]).temperature_ == 1.0


def test_more_validation_rows_than_needed_are_not_all_looked_at(monkeypatch):
    X, y = noisy()
    X_val, y_val = noisy(500, seed=1)
    monkeypatch.setattr("sknoprop.calibrating.MOST_ROWS", 100)
    seen = []
    fit = sknoprop.calibrating.fit_temperature
    monkeypatch.setattr(
        "sknoprop.calibrating.fit_temperature", lambda *a: seen.append(a[0].shape) or fit(*a)
    )
    NoPropClassifier(**SMALL).fit(X, y, X_val=X_val, y_val=y_val)
    assert seen == [(3, 100, 2)]


def test_many_classes_are_tempered_too():
    rng = np.random.default_rng(0)
    y = np.arange(800) % 40
    X = rng.standard_normal((40, 6))[y] + 0.5 * rng.standard_normal((800, 6))
    clf = NoPropClassifier(**(SMALL | {"max_iter": 20})).fit(X, y)
    alone, of_mean = by_rows_left_out(clf, X, y)
    # A block alone has candidates by its own first pass, here by that of all.
    assert clf.temperature_ == pytest.approx(of_mean, rel=0.1)
    assert of_mean < 0.8 * alone
    same = clf.predict_proba(np.repeat(X[:1], 300, axis=0))
    assert (same == same[0]).all()


@pytest.mark.parametrize("n_blocks", [2, 5, 12])
def test_weights_are_of_mean_one_in_each_block(n_blocks):
    rng = np.random.default_rng(0)
    y, weight = rng.integers(0, 3, 400), rng.random(400)
    weight /= weight.mean()
    left_out = leave_out(y, weight, n_blocks, np.random.RandomState(0))
    weights = left_out.weights(torch.arange(400)) * torch.tensor(weight)
    torch.testing.assert_close(weights.mean(1), torch.ones(n_blocks, dtype=F64))
    assert torch.equal(weights == 0, left_out.block == torch.arange(n_blocks)[:, None])
    part = left_out.take(slice(1, n_blocks))
    assert torch.equal(part.weights(torch.arange(400)), left_out.weights(torch.arange(400))[1:])


def test_many_rows_leave_out_enough_and_no_more():
    y = np.zeros(100_000, dtype=int)
    left_out = leave_out(y, None, 7, np.random.RandomState(0))
    assert 1_900 < int((left_out.block >= 0).sum()) <= 2_000 + 7


def test_a_block_does_not_learn_the_labels_it_leaves_out():
    def trained(y):
        model, inputs, _ = toy_model(n_blocks=2)
        block = torch.full((len(y),), -1)
        block[:10] = 0
        rows = Rows(inputs, y, None, LeftOut(block, torch.ones(2, dtype=F64)))
        options = (torch.optim.AdamW, 0.01, 0.0, True, 3, 16, 1)
        train(model, rows, None, Settings(*options), Seeds(0))
        return model.block_tensors()

    y = torch.tensor(toy_data()[1])
    other = y.clone()
    other[:10] = (y[:10] + 1) % 3
    before, after = trained(y), trained(other)
    for name in before:
        assert torch.equal(before[name][0], after[name][0]), name
    assert not torch.equal(before["head.out.weight"][1], after["head.out.weight"][1])


def by_rows_left_out(clf, X, y, weight=None):
    """Temperatures of blocks alone, and of their mean, from what the classifier predicts."""
    weight = np.ones(len(y)) if weight is None else weight / weight.mean()
    y = np.unique(y, return_inverse=True)[1]
    random = Seeds(clf._seed).numpy("left out")
    n_blocks = len(clf.blocks_.head.out.weight)
    block = leave_out(y, weight, n_blocks, random).block.numpy()
    rows = np.concatenate([np.flatnonzero(block == b) for b in range(n_blocks)])
    clf.blocks_.temperature.fill_(1.0)
    p = torch.tensor(clf.predict_block_proba(X)[:, rows])
    own = p[block[rows], range(len(rows))][None]
    labels, weight = torch.tensor(y[rows]), torch.tensor(weight[rows])
    step = -(-len(rows) // sknoprop.calibrating.ENOUGH_ROWS)

    def effective(weight):
        return weight * weight.sum() / (weight**2).sum()

    alone = fit_temperature(own, labels, effective(weight))
    ratio = temperature_ratio(p[:, ::step], alone, effective(weight[::step]))
    clf.blocks_.temperature.fill_(clf.temperature_)
    return alone, ratio * fit_temperature(own, labels, effective(weight), 1.0 / ratio)


@pytest.mark.parametrize("enough", [500, 20])
@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
def test_the_temperature_is_found_by_rows_left_out(variant, enough, monkeypatch):
    monkeypatch.setattr(sknoprop.calibrating, "ENOUGH_ROWS", enough)
    X, y = noisy()
    weight = np.random.default_rng(1).integers(1, 4, len(y)).astype(float)
    clf = NoPropClassifier(variant, **SMALL).fit(X, y, sample_weight=weight)
    alone, of_mean = by_rows_left_out(clf, X, y, weight)
    assert clf.temperature_ == pytest.approx(of_mean, rel=1e-3)
    assert of_mean < 0.9 * alone


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(2, 5))
def test_what_a_mean_gains_is_what_labels_drawn_from_it_show(seed, n_estimates, n_classes):
    p = np.random.default_rng(seed).dirichlet(np.ones(n_classes), (n_estimates, 3))
    mean = p.mean(0)
    expected = [
        sum(
            mean[row, label] * (np.log(mean[row, label]) - np.log(p[:, row, label]).mean())
            for label in range(n_classes)
        )
        for row in range(3)
    ]
    np.testing.assert_allclose(gain_of_mean(torch.tensor(p)), expected, rtol=1e-9, atol=1e-12)


def test_sure_estimates_gain_a_finite_amount():
    p = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]]], dtype=F64)
    assert torch.isfinite(gain_of_mean(p)).all()
    assert float(gain_of_mean(p[[0, 2]])) == 0.0


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_the_loss_of_the_mean_is_estimated_by_rows_left_out(weighted, monkeypatch):
    """By blocks that have learnt much by heart, so that their mean is far better than each."""
    found = []

    def spy(*arguments, compared):
        found.append(calibrate(*arguments, compared=True))
        return found[-1] if compared else None

    monkeypatch.setattr(sknoprop.fitting, "calibrate", spy)
    (X, y), (fresh, labels) = noisy(2000), noisy(4000, seed=1)
    weight = np.random.default_rng(1).integers(1, 4, len(y)).astype(float) if weighted else None
    params = {"n_blocks": 5, "hidden_layer_sizes": (128, 64), "n_bins": 8}
    params |= {"max_iter": 80, "random_state": 0}
    clf = NoPropClassifier(**params).fit(X, y, weight)
    of_mean = log_loss(labels, clf.predict_proba(fresh))
    clf.blocks_.temperature.fill_(by_rows_left_out(clf, X, y, weight)[0])
    alone = np.mean([log_loss(labels, p) for p in clf.predict_block_proba(fresh)])
    given = np.ones(len(y)) if weight is None else weight
    block = leave_out(y.astype(int), given, 5, Seeds(clf._seed).numpy("left out")).block.numpy()
    left = np.flatnonzero(block >= 0)
    own = clf.predict_block_proba(X)[block[left], left, y[left].astype(int)]
    of_left_out = -np.average(np.log(own), weights=given[left])
    # Losses of these rows and of fresh ones differ by chance (.015), what is gained does not.
    assert float(found[0].alone.mean()) == pytest.approx(of_left_out, rel=1e-6)
    gained = of_left_out - float(found[0].of_mean.mean())
    assert gained == pytest.approx(alone - of_mean, rel=0.6)
    # All of it is at the temperature of the mean, which is lower than that of blocks alone.
    temperature = float(clf.blocks_.temperature)
    clf.blocks_.temperature.fill_(1.0)
    p = clf.predict_block_proba(X)[:, left]
    effective = given[left] * given[left].sum() / (given[left] ** 2).sum()
    ratio = temperature_ratio(torch.tensor(p), temperature, torch.tensor(effective))
    assert ratio < 0.9
    p = p ** (1.0 / (ratio * temperature))
    p /= p.sum(-1, keepdims=True)
    own = p[block[left], range(len(left)), y[left].astype(int)]
    apart = (p.mean(0) * np.log(p.mean(0) / p)).sum(-1).mean(0)
    expected = np.average(-np.log(own) - apart, weights=given[left])
    assert float(found[0].of_mean.mean()) == pytest.approx(expected, rel=1e-4)


def test_it_is_that_of_the_mean_after_further_cycles_too():
    X, y = make_classification(400, 10, n_informative=6, n_classes=4, random_state=0)
    clf = NoPropClassifier("fm", **(SMALL | {"hidden_layer_sizes": (32,), "max_iter": "auto"}))
    clf.fit(X, y)
    assert clf.n_iter_ > 50, "one cycle"
    alone, of_mean = by_rows_left_out(clf, X, y)
    assert clf.temperature_ == pytest.approx(of_mean, rel=1e-3)
    assert of_mean < 0.9 * alone


def test_further_cycles_hang_on_blocks_alone(monkeypatch):
    """Blocks that are too sure train no further, be their mean less sure than it is right."""
    cycles = training_lengths(monkeypatch)
    rng = np.random.default_rng(0)
    y = np.arange(400) % 4
    X = 2.0 * rng.standard_normal((4, 6))[y] + 1.65 * rng.standard_normal((400, 6))
    clf = NoPropClassifier("fm", n_blocks=3, random_state=0).fit(X, y)
    alone, of_mean = by_rows_left_out(clf, X, y)
    assert of_mean < 0.95 < 1.02 < alone, "else they agree"
    assert cycles == [cycles[0], cycles[0] // SHORTER], "less is tried, and no more"


def test_validation_rows_are_taken_where_there_are_any():
    X, y = noisy()
    X_val, y_val = noisy(100, seed=1)
    clf = NoPropClassifier(**SMALL).fit(X, y, X_val=X_val, y_val=y_val)
    clf.blocks_.temperature.fill_(1.0)
    p = torch.tensor(clf.predict_block_proba(X_val))
    found = fit_temperature(p, torch.tensor(y_val.astype(int)))
    assert clf.temperature_ == pytest.approx(found, rel=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"calibrate": False},
        {"n_blocks": 1},
        {"inference": "trajectory"},
        paper_parameters("dt") | {"max_iter": 1},
    ],
    ids=str,
)
def test_without_rows_to_find_it_by_it_is_one(options):
    X, y = noisy(60)
    clf = NoPropClassifier(**(SMALL | options)).fit(X, y)
    assert clf.temperature_ == 1.0
    assert NoPropClassifier(**SMALL).partial_fit(X, y, [False, True]).temperature_ == 1.0


SHARED = [
    {"embedding": "learned"},
    {"embedding": "prototype"},
    {"variant": "fm", "embedding": "learned"},
    {"variant": "ct", "schedule": "learned"},
]


@pytest.mark.parametrize("options", SHARED, ids=str)
def test_blocks_that_share_an_embedding_or_a_schedule_leave_rows_out_too(options):
    """What they share knows the rows left out, but cannot tell one from another of its class."""
    X, y = load_wine(return_X_y=True)
    params = SMALL | options | {"max_iter": 20}
    clf = NoPropClassifier(**params).fit(X[::2], y[::2])
    assert clf.temperature_ < 0.9
    at_one = NoPropClassifier(**params, calibrate=False).fit(X[::2], y[::2])
    found, before = (log_loss(y[1::2], c.predict_proba(X[1::2])) for c in (clf, at_one))
    assert found < before


@pytest.mark.parametrize("options", SHARED, ids=str)
def test_of_blocks_that_share_each_loss_is_of_the_rows_it_learns(options):
    model, inputs, y = toy_model(n_blocks=2, **options)
    weights = torch.ones(2, len(y), dtype=F64)
    weights[0, :10] = 0.0
    draws = toy_draws(model, len(y))
    losses = model.losses(inputs, y, draws, None, None, weights).blocks
    other = inputs.clone()
    other[:10] += 1.0
    changed = model.losses(other, y, draws, None, None, weights).blocks
    assert losses[0] == changed[0]
    assert losses[1] != changed[1]


def test_a_warm_start_leaves_out_the_same_rows_and_finds_it_anew():
    X, y = noisy()
    clf = NoPropClassifier("fm", warm_start=True, **SMALL).fit(X, y)
    first, rows = clf.temperature_, clf._trained.left_out
    clf.set_params(max_iter=100).fit(X, y)
    assert clf._trained.left_out == rows
    assert clf.temperature_ > first  # what is learnt by heart is too sure


@pytest.mark.parametrize("change", ["more blocks", "other rows", "a part", "switched on"])
def test_rows_that_were_learnt_do_not_decide(change):
    """The temperature stays what it was, as blocks would be too sure of rows they know."""
    X, y = noisy()
    options = SMALL | {"variant": "fm", "warm_start": True, "calibrate": change != "switched on"}
    clf = NoPropClassifier(**options).fit(X, y)
    before = clf.temperature_
    if change == "more blocks":
        clf.set_params(n_blocks=6).fit(X, y)
    elif change == "a part":
        clf.partial_fit(X[:50], y[:50])
    else:
        n = 250 if change == "other rows" else 300
        clf.set_params(calibrate=True).fit(X[:n], y[:n])
    assert clf.temperature_ == before
    assert clf._trained.left_out is None


def test_groups_and_slices_of_blocks_leave_out_the_same():
    X, y = noisy()
    together = NoPropClassifier(**SMALL).fit(X, y)
    sliced = NoPropClassifier(**SMALL, blocks_at_once=1).fit(X, y)
    with joblib.parallel_config("threading"):
        apart = NoPropClassifier(**SMALL, n_jobs=2).fit(X, y)
    for other in (sliced, apart):
        assert other.temperature_ == pytest.approx(together.temperature_, rel=1e-3)
        np.testing.assert_allclose(other.predict_proba(X), together.predict_proba(X), atol=1e-4)


def test_kernels_and_trajectories_are_without_it():
    X, y = noisy()
    clf = NoPropClassifier(**SMALL).fit(X, y)
    assert clf.temperature_ != 1.0
    along = NoPropClassifier(**SMALL).fit(X, y).set_params(inference="trajectory")
    before = clf.predict_class_kernel(X), along.predict_proba(X), clf.predict_proba(X)
    clf.blocks_.temperature.fill_(3.0)
    along.blocks_.temperature.fill_(3.0)
    after = clf.predict_class_kernel(X), along.predict_proba(X), clf.predict_proba(X)
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    assert np.abs(before[2] - after[2]).max() > 0.01


def test_blocks_that_know_noise_by_heart_become_less_sure():
    X, y = noisy()
    X_test, y_test = noisy(2_000, seed=1)
    options = {"hidden_layer_sizes": (64,), "max_iter": 150, "dropout": 0.0, "weight_decay": 0.0}
    losses, temperatures = [], []
    for asked in (False, True):
        clf = NoPropClassifier(**(SMALL | options), calibrate=asked).fit(X, y)
        losses.append(log_loss(y_test, clf.predict_proba(X_test)))
        temperatures.append(clf.temperature_)
    assert temperatures[1] > 1.5
    assert losses[1] < losses[0] - 0.05


def test_blocks_that_are_too_soft_become_surer():
    X, y = load_wine(return_X_y=True)
    clf = NoPropClassifier("fm", max_iter=100, random_state=0)  # in one cycle
    without, with_it = (
        -cross_val_score(clf.set_params(calibrate=c), X, y, scoring="neg_log_loss", cv=3)
        for c in (False, True)
    )
    assert with_it.mean() < 0.85 * without.mean()
