"""Trajectories of a model against the same steps written out, one time after the other."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sknoprop import NoPropClassifier
from sknoprop.inference import rows_encoded_at_once
from sknoprop.samplers import SAMPLERS, Sampler
from sknoprop.schedules import CosineSchedule, StraightLineSchedule
from sknoprop.trajectories import (
    rows_of_trajectories,
    sampling_times,
    trajectory_probabilities,
    trajectory_steps,
)
from tests.models import toy_data, toy_model


class InPlace(Sampler):
    """The probability flow, changing what the schedule gave, and by slopes it finds itself."""

    def step(self, denoise, schedule, z, t, s, eps):
        kept = schedule.noise(s)
        kept.div_(schedule.noise(t))
        with torch.enable_grad():
            at = t.detach().requires_grad_()
            (slope,) = torch.autograd.grad(schedule.log_snr(at), at)
        ratio = slope / schedule.log_snr_derivative(t)
        shaped = schedule.signal(t.expand(len(z), 1, 1))
        return schedule.signal(s) * denoise(z, t) * ratio + kept * (z - shaped * denoise(z, t))


class Late(Sampler):
    def step(self, denoise, schedule, z, t, s, eps):
        return denoise(z, 0.5 * (t + s))


class Constant(StraightLineSchedule):
    """Where it need not look at the times."""

    def velocity_coefficients(self, t):
        return [torch.tensor(1.0), torch.tensor(-1.0)]


class Midpoint(Sampler):
    """A user's own: it looks where no step begins, and needs what only its schedule has."""

    def step(self, denoise, schedule, z, t, s, eps):
        middle = 0.5 * (t + s)
        ahead = SAMPLERS["probability-flow"]().step(denoise, schedule, z, t, middle, None)
        label = denoise(ahead, middle)
        kept = schedule.noise(s) / schedule.noise(t)
        # Both are as they are with any schedule: all functions of time are asked once.
        ratio = schedule.snr(t) / schedule.snr(t).exp().log()
        slope = schedule.snr_derivative(middle) / schedule.snr(middle)
        ratio = ratio * slope / schedule.log_snr_derivative(middle) * schedule.unit
        return (schedule.signal(s) - kept * schedule.signal(t)) * label * ratio + kept * z


class Own(CosineSchedule):
    unit = 1.0


def written_out(model, features, sampler, times, noise):
    """Estimates of all steps, and the last latent."""
    said = []

    def denoise(z, t):
        block = sum(float(t) >= float(edge) for edge in model.partition.edges[1:-1])
        at = t.view(1, 1, 1).expand(model.n_blocks, 1, 1)
        latents = z[None].expand(model.n_blocks, *z.shape)
        p = model.class_probabilities(features, latents, at)[block]
        said.append((float(t), p))
        logits = model.head(features, latents, model.position(at))[block]
        weight = model.embedding.weight
        return model.parameterization.label(logits, z, t.view(1), weight, model.schedule)

    z = noise[0].expand(features.shape[1], -1, -1)
    estimates, n_steps = [], len(times) - 1
    for k in range(n_steps):
        last = k == n_steps - 1 and not sampler.stochastic
        step = SAMPLERS["probability-flow"]() if last else sampler
        before = len(said)
        z = step.step(denoise, model.schedule, z, times[k], times[k + 1], noise[k + 1])
        estimates.append(said[before][1].mean(1))
    return torch.stack(estimates), z


@pytest.mark.parametrize("parameterization", ["label", "velocity"])
@pytest.mark.parametrize("sampler", [*SAMPLERS, "own", "in place"])
@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
def test_what_is_computed_at_once_is_what_each_step_would(variant, sampler, parameterization):
    sampler = (SAMPLERS | {"own": Midpoint, "in place": InPlace})[sampler]()
    options = {"schedule": Own(), "parameterization": parameterization}
    model, inputs, _ = toy_model(n_classes=3, variant=variant, **options)
    with torch.no_grad():
        features = model.encoder(inputs)
        times = sampling_times(model, 7)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(len(times), 2, 3, generator=generator, dtype=torch.float64)
        *_, p = trajectory_probabilities(model, features, sampler, times, noise)
        estimates, z = written_out(model, features, sampler, times.double(), noise)
        *_, last = trajectory_steps(model, features, sampler, times, noise)
    if model.readout.reads_latent:
        expected = torch.softmax(model.readout.predict(z, model.embedding.weight), -1).mean(1)
    else:
        expected = estimates.mean(0) / estimates.mean(0).sum(-1, keepdim=True)
    torch.testing.assert_close(p, expected)
    torch.testing.assert_close(last[..., :3], z)


def test_more_rows_step_together_than_are_encoded_together(monkeypatch):
    """What an encoder makes of images is large, and a step has a price of its own."""
    X, y = load_digits(return_X_y=True)
    X, y = X[:90].reshape(-1, 1, 8, 8), y[:90]
    options = {"encoder": "cnn", "inference": "trajectory", "device": "cpu", "random_state": 0}
    clf = NoPropClassifier("fm", **options, n_blocks=2, n_steps=4, max_iter=1).fit(X, y)
    expected = clf.predict_proba(X)
    model = clf.blocks_
    monkeypatch.setattr(
        "sknoprop.inference.LARGEST_ARRAY", 8 * model.n_blocks * model.encoder.largest
    )
    together = rows_of_trajectories(model, clf.n_draws, 64)
    assert rows_encoded_at_once(model) == 8 < together < len(X)
    found = clf.predict_proba(X)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(clf.predict_proba(X[::-1])[::-1], found)
    for n in (1, 7, 8, 9, 65):
        np.testing.assert_array_equal(clf.predict_proba(X[:n]), found[:n])


def predictions(**params):
    X, y = toy_data()
    options = {"n_blocks": 2, "max_iter": 1, "inference": "trajectory", "random_state": 0}
    return NoPropClassifier("fm", **options | params).fit(X, y).predict_proba(X)


def test_a_schedule_may_have_constants():
    np.testing.assert_allclose(predictions(schedule=Constant()), predictions(), atol=1e-6)


def test_a_sampler_that_never_asks_at_the_time_is_told():
    with pytest.raises(ValueError, match=r"step begins, .*: 0\. It asked at 0\.1"):
        predictions(sampler=Late())


def test_what_is_kept_of_each_row_counts():
    model, _, _ = toy_model()
    assert rows_of_trajectories(model, 1, 1) == 192
    assert rows_of_trajectories(model, 1, 2**17) == 12
