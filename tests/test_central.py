"""Many classes: what blocks say at the centre of the classes, against Bayes' rule."""

import joblib
import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.metrics import log_loss

from sknoprop import NoPropClassifier
from sknoprop.central import central_probabilities
from sknoprop.inference import asked_at_centre, kernel_probabilities, rows_at_once
from sknoprop.kernels import log_density_at_centre, shared_draws, stationary_distribution
from sknoprop.probes import Probes, has_centre
from sknoprop.schedules import SCHEDULES
from tests.exact import F64, ExactModel
from tests.models import toy_model
from tests.test_kernels import EMBEDDINGS, LOG_SNRS, times_at

VARIANTS = ("dt", "ct", "fm")


def many_classes(n, n_classes=40, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((n_classes, 6))
    y = np.arange(n) % n_classes
    return centres[y] + 0.4 * rng.standard_normal((n, 6)), y


@pytest.mark.parametrize("embedding", sorted(EMBEDDINGS))
def test_densities_are_those_of_the_centre(embedding):
    weight = np.array(EMBEDDINGS[embedding][0])
    signal, noise = np.array([0.3, 0.9]), np.array([0.8, 0.4])
    found = log_density_at_centre(*map(torch.tensor, (weight, signal, noise)))
    for m, s, own in zip(signal, noise, found.numpy(), strict=True):
        centre = m * weight.mean(0)
        expected = [multivariate_normal.logpdf(centre, m * w, s**2) for w in weight]
        np.testing.assert_allclose(own, expected - np.max(expected), atol=1e-12)
        assert own.max() == 0.0


@pytest.mark.parametrize("embedding", sorted(EMBEDDINGS))
@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_an_exact_posterior_says_its_law_at_the_centre(name, embedding):
    """At every level, and whether or not the classes are equally far from it."""
    weight, prior = EMBEDDINGS[embedding]
    schedule = SCHEDULES[name]()
    model = ExactModel(prior, weight, schedule, times_at(schedule, LOG_SNRS))
    eps = torch.zeros(1, len(weight[0]), dtype=F64)
    law = central_probabilities(model, torch.zeros(6, 2, 1, dtype=F64), Probes(model, eps))
    torch.testing.assert_close(law, model.prior.expand_as(law), rtol=1e-9, atol=0)


def test_a_wrong_posterior_says_another():
    """The test above must notice the classic mistake of s where s squared belongs."""
    weight, prior = EMBEDDINGS["plane"]
    schedule = SCHEDULES["cosine"]()
    levels = times_at(schedule, LOG_SNRS)
    model = ExactModel(prior, weight, schedule, levels, noise_power=1.0)
    eps = torch.zeros(1, 2, dtype=F64)
    law = central_probabilities(model, torch.zeros(6, 1, 1, dtype=F64), Probes(model, eps))
    assert float((law - model.prior).abs().max()) > 0.01


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_is_the_law_of_a_kernel_with_one_latent(variant):
    """Of a network, too: the flow of rank one by hand, at each level of a block."""
    weight = torch.tensor([[0.0, 1.0, 0.0], [0.2, -1.0, 0.1], [1.1, 0.3, 0.0], [0.5, 0.5, 1.0]])
    model, inputs, _ = toy_model(4, variant=variant, embedding=weight.numpy())
    probes = Probes(model, torch.zeros(1, 3, dtype=F64))
    with torch.no_grad():
        features = model.encoder(inputs)
        found = central_probabilities(model, features, probes)
        laws = []
        for probe in probes:
            signal, noise = model.schedule.signal(probe.t), model.schedule.noise(probe.t)
            z = signal[:, None] * weight.double().mean(0)
            p = model.class_probabilities(features, z[:, None, None], probe.t[:, None, None])
            far = z[:, None] - signal[:, None, None] * weight.double()
            share = torch.softmax(-0.5 * far.square().sum(-1) / noise[:, None] ** 2, -1)
            laws.append(stationary_distribution(share[:, None, :, None] * p))
    torch.testing.assert_close(found, torch.stack(laws).mean(0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_one_hot_classes_have_a_centre_and_classes_on_a_line_have_none(schedule):
    model, *_ = toy_model(50, schedule=schedule)
    assert has_centre(model)
    assert asked_at_centre(model)
    assert not asked_at_centre(toy_model(5, schedule=schedule)[0])  # few: for their kernels
    line = np.linspace(-3.0, 3.0, 50)[:, None]
    with pytest.warns(UserWarning, match="span 1 dimension"):
        model, *_ = toy_model(50, schedule=schedule, embedding=line)
    assert not has_centre(model)
    # Were they further into noise, nothing would tell them apart.
    weight = model.embedding.weight
    assert float(log_density_at_centre(weight, torch.tensor(1e-3), torch.tensor(1.0)).min()) > -0.01


@pytest.mark.parametrize("variant", VARIANTS)
def test_with_many_classes_a_block_answers_for_itself_alone(variant):
    """What it says does not depend on the blocks beside it."""
    model, inputs, _ = toy_model(40, variant=variant)
    eps = shared_draws(2, 40, torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        whole = kernel_probabilities(model, model.encoder(inputs), Probes(model, eps))
        for i in range(model.n_blocks):
            one = model.take(slice(i, i + 1))
            own = kernel_probabilities(one, one.encoder(inputs), Probes(one, eps))
            torch.testing.assert_close(own[0], whole[i], rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_centre_is_as_good_as_the_full_kernel(variant):
    """Within three hundredths of log loss, and half a point of accuracy: now more, now less."""
    few = {"n_blocks": 4, "hidden_layer_sizes": (64,), "max_iter": 10}
    clf = NoPropClassifier(variant, **few, random_state=0).fit(*many_classes(2000))
    X, y = many_classes(2000, seed=1)
    kernels = [clf.predict_class_kernel(rows) for rows in np.split(X, 4)]
    laws = [stationary_distribution(torch.tensor(kernel)).numpy() for kernel in kernels]
    full = np.concatenate(laws, axis=1) ** (1 / clf.temperature_)
    full = (full / full.sum(-1, keepdims=True)).mean(0)
    found = clf.predict_proba(X)
    assert log_loss(y, found) < 1.03 * log_loss(y, full)
    assert np.mean(full.argmax(1) == y) - np.mean(found.argmax(1) == y) < 0.005


@pytest.mark.parametrize("variant", ["dt", "fm"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("head", "n_classes", "width"), [("light", 40, 33), ("paper", 33, 20)])
def test_rows_do_not_depend_on_their_neighbours(
    variant, dtype, head, n_classes, width, monkeypatch
):
    """Of numbers of classes and units that are no multiples of two; "fm" has several levels."""
    X, y = many_classes(700, n_classes)
    options = {"n_blocks": 2, "hidden_layer_sizes": (width,), "max_iter": 1, "head": head}
    clf = NoPropClassifier(variant, dtype=dtype, random_state=0, **options).fit(X, y)
    order = np.random.default_rng(0).permutation(len(X))[:389]
    for most in (256, 8):  # rows at once
        monkeypatch.setattr("sknoprop.inference.MOST_ROWS", most)
        p = clf.predict_block_proba(X)
        np.testing.assert_array_equal(clf.predict_block_proba(X[order]), p[:, order])
        np.testing.assert_array_equal(clf.predict_block_proba(X[7:8]), p[:, 7:8])


def test_blocks_are_judged_as_they_predict():
    """A block may have a centre where the model has none; its temperature is of what it says."""
    rng = np.random.default_rng(0)
    embedding = rng.standard_normal((40, 40)) / 4.0
    X, y = many_classes(400)
    options = {"n_blocks": 4, "hidden_layer_sizes": (16,), "max_iter": 2, "embedding": embedding}
    clf = NoPropClassifier(random_state=0, **options).fit(X, y)
    model = clf.blocks_
    alone = [has_centre(model.take(slice(i, i + 1))) for i in range(4)]
    assert not has_centre(model)
    assert any(alone)
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sknoprop.inference.central_probabilities", lambda *_: asked.append(1))
        NoPropClassifier(random_state=0, **options).fit(X, y)
    assert not asked


def test_draws_make_no_difference_with_many_classes():
    X, y = many_classes(400)
    clf = NoPropClassifier(n_blocks=2, hidden_layer_sizes=(20,), max_iter=2).fit(X, y)
    p = clf.predict_proba(X)
    np.testing.assert_array_equal(clf.set_params(n_draws=16).predict_proba(X), p)


def test_rows_at_once_are_those_of_one_latent():
    """As many as memory has room for where each row has one latent, and not a thousand."""
    model, *_ = toy_model(1000, n_blocks=2, partition="uniform")
    assert rows_at_once(model, 10_000) == rows_at_once(model, 1)


@pytest.mark.parametrize("variant", ["dt", "fm"])
def test_workers_judge_many_classes_as_one_process_does(variant):
    X, y = many_classes(400)
    X_val, y_val = many_classes(200, seed=1)
    options = {
        **{"n_blocks": 4, "hidden_layer_sizes": (16,), "max_iter": 100, "dtype": "float64"},
        **{"learning_rate": "constant", "n_iter_no_change": 3, "learning_rate_init": 0.05},
        **{"early_stopping": True, "random_state": 0},
    }
    one = NoPropClassifier(variant, **options).fit(X, y, X_val=X_val, y_val=y_val)
    with joblib.parallel_config("threading"):
        two = NoPropClassifier(variant, n_jobs=2, **options).fit(X, y, X_val=X_val, y_val=y_val)
    known = np.isfinite(two.validation_scores_)
    assert known.any(axis=0).all()
    np.testing.assert_allclose(
        two.validation_scores_[known], one.validation_scores_[: len(known)][known], rtol=1e-6
    )
    np.testing.assert_allclose(two.predict_proba(X), one.predict_proba(X), atol=1e-6)
