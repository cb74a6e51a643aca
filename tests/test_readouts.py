"""Read-outs against Bayes' rule."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from sknoprop import NoPropClassifier
from sknoprop.readouts import (
    LinearReadout,
    NearestReadout,
    PosteriorReadout,
    gaussian_class_logits,
)
from sknoprop.samplers import EulerSampler
from sknoprop.trajectories import sampling_times, trajectory_probabilities
from tests.models import toy_data, toy_draws, toy_model

WEIGHT = torch.tensor([[1.0, 0.5], [-1.0, 2.0], [0.0, 0.0]], dtype=torch.float64)
PRIOR = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
Z = torch.randn(10, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_linear_readout_starts_at_the_exact_posterior():
    readout = LinearReadout(WEIGHT, PRIOR, signal=0.8, noise=0.6)
    found = torch.softmax(readout(Z, WEIGHT), -1).detach().numpy()
    density = np.array(
        [[multivariate_normal.pdf(z, 0.8 * w, 0.36 * np.eye(2)) for w in WEIGHT] for z in Z]
    )
    expected = density * PRIOR.numpy()
    np.testing.assert_allclose(found, expected / expected.sum(1, keepdims=True))


def test_sharp_readout_picks_the_nearest_embedding():
    readout = LinearReadout(WEIGHT, PRIOR, signal=0.98, noise=0.018)
    nearest = torch.cdist(Z, 0.98 * WEIGHT).argmin(1)
    assert torch.equal(readout(Z, WEIGHT).argmax(1), nearest)


def test_frequent_classes_win_latents_almost_as_near():
    """Two classes at distance 2: the boundary moves by s^2 log(p_0 / p_1) / (2 m)."""
    weight = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    prior = torch.tensor([0.9, 0.1], dtype=torch.float64)
    boundary = 0.6**2 * np.log(9.0) / (2 * 0.8)
    z = torch.tensor([[boundary - 1e-6], [boundary + 1e-6]], dtype=torch.float64)
    readout = LinearReadout(weight, prior, signal=0.8, noise=0.6)
    assert readout(z, weight).argmax(1).tolist() == [0, 1]


def test_posterior_readout_is_equation_16():
    readout = PosteriorReadout(WEIGHT, PRIOR, signal=0.8, noise=0.6)
    found = torch.softmax(readout(Z, WEIGHT), -1)
    y_hat = torch.softmax(readout.guess(Z, WEIGHT), -1) @ WEIGHT
    distance = torch.cdist(y_hat, WEIGHT).square()
    expected = torch.softmax(-distance / (2 * (0.6 / 0.8) ** 2), -1)
    torch.testing.assert_close(found, expected)


def test_nearest_readout_asks_the_embedding_of_now():
    """Whatever the one it was made with, the class frequencies and what was trained of it."""
    readout = NearestReadout(torch.ones(3, 2, dtype=torch.float64), PRIOR, signal=0.8, noise=0.6)
    found = torch.softmax(readout.predict(Z, WEIGHT), -1)
    distance = torch.cdist(Z, WEIGHT)
    assert torch.equal(found.argmax(1), distance.argmin(1))
    expected = torch.softmax(-distance.square() / (2 * (0.6 / 0.8) ** 2), -1)
    torch.testing.assert_close(found, expected)


def test_a_learned_embedding_is_read_by_the_nearest_at_the_end_of_a_trajectory():
    X, y = toy_data(n=60)
    clf = NoPropClassifier(
        "fm",
        **{"embedding": "learned", "embedding_dim": 4, "readout": "nearest", "max_iter": 5},
        **{"inference": "trajectory", "n_draws": 1, "random_state": 0},
    ).fit(X, y)
    last = clf.predict_trajectory(X).latents[-1, :, 0]
    distance = np.linalg.norm(last[:, None] - clf.embedding_, axis=-1)
    np.testing.assert_array_equal(clf.predict(X), clf.classes_[distance.argmin(1)])
    assert clf.blocks_.readout.weight.requires_grad is False
    unlike = NoPropClassifier(**clf.get_params() | {"readout": "linear"}).fit(X, y)
    np.testing.assert_array_equal(unlike.embedding_, clf.embedding_)  # trained alike


def test_gaussian_logits_differ_as_log_densities():
    logits = gaussian_class_logits(Z, WEIGHT, 0.5, 2.0).numpy()
    density = np.array(
        [[multivariate_normal.logpdf(z, 0.5 * w, 4 * np.eye(2)) for w in WEIGHT] for z in Z]
    )
    difference = logits - density
    np.testing.assert_allclose(difference, difference[:, :1].repeat(3, 1))


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
def test_the_denoisers_is_the_mean_of_what_blocks_say(variant):
    """By Euler's and the ancestral method one evaluation a step: collected and averaged."""
    X, y = toy_data(n=60)
    options = {"inference": "trajectory", "n_draws": 3, "n_steps": 6, "dtype": "float64"}
    clf = NoPropClassifier(variant, n_blocks=3, max_iter=3, random_state=0, **options).fit(X, y)
    said = []
    clf.blocks_.encoder.register_forward_hook(lambda *_: said.clear())
    original = type(clf.blocks_.head).forward

    def listen(head, *arguments):
        logits = original(head, *arguments)
        said.append(torch.softmax(logits[0], -1).mean(1)[:5].numpy())
        return logits

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(clf.blocks_.head), "forward", listen)
        stages = list(clf.staged_predict_proba(X[:5]))
    assert len(said) == (3 if variant == "dt" else 6)
    assert len(stages) == 3
    for number, stage in enumerate(stages, 1):
        steps = said[: len(said) * number // 3]
        np.testing.assert_allclose(stage, np.mean(steps, axis=0), rtol=1e-12)
    np.testing.assert_array_equal(clf.predict_proba(X[:5]), stages[-1])


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
def test_each_step_is_taken_by_the_block_that_owns_its_time(variant):
    """Blocks that say their own number, whatever they see, are heard in their order."""
    options = {"partition": "uniform", "parameterization": "label"}
    model, inputs, _ = toy_model(n_classes=4, variant=variant, **options)
    with torch.no_grad():
        model.head.out.weight.zero_()
        model.head.out.bias.copy_(50.0 * torch.eye(4))
        features = model.encoder(inputs)
        times = sampling_times(model, 8)
        noise = torch.randn(9, 2, 4, generator=torch.Generator().manual_seed(0)).double()
        stages = list(trajectory_probabilities(model, features, EulerSampler(), times, noise))
    for number, stage in enumerate(stages, 1):
        expected = torch.zeros(4, dtype=torch.float64)
        expected[:number] = 1 / number
        torch.testing.assert_close(stage, expected.expand_as(stage))
    assert len(stages) == 4


def test_looks_ahead_do_not_count():
    """Heun's method with the last step alone is Euler's; its first estimates are Euler's too."""
    X, y = toy_data(n=60)
    options = {"inference": "trajectory", "n_steps": 1, "dtype": "float64"}
    clf = NoPropClassifier("fm", n_blocks=2, max_iter=3, random_state=0, **options).fit(X, y)
    first = clf.set_params(sampler="heun").predict_proba(X)
    np.testing.assert_array_equal(first, clf.set_params(sampler="euler").predict_proba(X))
    clf.set_params(n_steps=2)
    euler = next(clf.staged_predict_proba(X))
    np.testing.assert_array_equal(
        next(clf.set_params(sampler="heun").staged_predict_proba(X)), euler
    )


@pytest.mark.parametrize("sampler", ["ancestral", "euler", "heun", "probability-flow"])
def test_blocks_of_one_level_take_one_step_each(sampler):
    X, y = toy_data(n=60)
    clf = NoPropClassifier("dt", n_blocks=3, max_iter=3, random_state=0, inference="trajectory")
    clf.set_params(sampler=sampler).fit(X, y)
    most = clf.predict_proba(X)
    np.testing.assert_array_equal(clf.set_params(n_steps=40).predict_proba(X), most)
    assert not np.array_equal(clf.set_params(n_steps=2).predict_proba(X), most)


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
@pytest.mark.parametrize("embedding", ["one-hot", "learned"])
def test_without_a_read_out_only_a_learned_embedding_needs_one(variant, embedding):
    options = {"variant": variant, "embedding": embedding, "embedding_dim": 4}
    model, inputs, y = toy_model(readout="denoiser", **options)
    linear, _, _ = toy_model(readout="linear", **options)
    draws = toy_draws(model, len(y))
    losses, expected = model.losses(inputs, y, draws), linear.losses(inputs, y, draws)
    if embedding == "learned":
        assert model.trains_readout
        torch.testing.assert_close(losses.total(), expected.total())
    else:
        assert not any(p.requires_grad for p in model.readout.parameters())
        assert float(losses.readout) == 0.0
    torch.testing.assert_close(losses.blocks, expected.blocks)


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
def test_blocks_do_not_depend_on_the_read_out(variant):
    X, y = toy_data(n=60)
    found = [
        NoPropClassifier(variant, readout=readout, max_iter=3, random_state=0).fit(X, y)
        for readout in ("denoiser", "linear", "nearest", "posterior")
    ]
    for clf in found[1:]:
        np.testing.assert_array_equal(clf.predict_proba(X), found[0].predict_proba(X))
