"""Losses against the paper's formulas written out, and limits against integrals."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from scipy.special import logsumexp

from sknoprop.parameterizations import (
    PARAMETERIZATIONS,
    LabelParameterization,
    VelocityParameterization,
    project_to_simplex,
)
from sknoprop.partition import Partition
from sknoprop.samplers import velocity
from sknoprop.schedules import SCHEDULES, CosineSchedule, StraightLineSchedule
from sknoprop.variants import (
    VARIANTS,
    ContinuousTime,
    DiscreteTime,
    FlowMatching,
    Path,
    prior_divergence,
    snr_gain,
)
from tests.exact import F64, ExactModel
from tests.models import toy_draws, toy_model


def softmax(a):
    e = np.exp(a - a.max())
    return e / e.sum()


def logits_of(model, inputs, y, draws):
    """Logits and latents of a step, for writing losses out by hand."""
    t = model.variant.levels(model.path, draws.uniform).t
    u = model.embedding.weight[y]
    m, s = model.schedule.signal(t)[..., None], model.schedule.noise(t)[..., None]
    z = m * u[None, :, None] + s * draws.eps
    logits = model.head(model.encoder(inputs), z, model.position(t))
    t = t.expand(draws.uniform.shape)
    return tuple(a.detach().numpy() for a in (t, z, logits, u))


def cross_entropy(model, z, y):
    weight, bias = model.readout.weight.detach().numpy(), model.readout.bias.detach().numpy()
    logits = np.asarray(z) @ weight.T + bias
    return np.mean(logsumexp(logits, axis=1) - logits[np.arange(len(logits)), np.asarray(y)])


@pytest.mark.parametrize("embedding", ["one-hot", "learned"])
def test_discrete_time_loss_is_equation_8(embedding):
    model, inputs, y = toy_model(
        variant="dt", embedding=embedding, embedding_dim=4, loss_weight=0.1, readout="linear"
    )
    draws = toy_draws(model, len(y))
    _, z, logits, u = logits_of(model, inputs, y, draws)
    W = model.embedding.weight.detach().numpy()
    grid = torch.arange(5, dtype=F64) / 4
    alpha_bar = CosineSchedule().signal(grid).square().numpy()
    for t in range(1, 5):  # block t is shown z_{t-1}
        ab, eps = alpha_bar[t - 1], draws.eps[t - 1].numpy()
        shown = math.sqrt(ab) * u[:, None] + math.sqrt(1 - ab) * eps
        np.testing.assert_allclose(z[t - 1], shown, rtol=1e-6, atol=1e-9)
    snr = alpha_bar / (1 - alpha_bar)
    # T/2 eta E_{t ~ U{1..T}}[...]: a mean over blocks times T / 2.
    T, n, D = logits.shape[:3]
    total = 0.0
    for t in range(1, T + 1):
        error = np.mean(
            [
                np.sum((softmax(logits[t - 1, i, d]) @ W - u[i]) ** 2)
                for i in range(n)
                for d in range(D)
            ]
        )
        total += (snr[t] - snr[t - 1]) * error / T
    denoising = T / 2 * 0.1 * total
    last = math.sqrt(alpha_bar[-1]) * u + math.sqrt(1 - alpha_bar[-1]) * draws.last.numpy()
    readout = cross_entropy(model, last, y)
    with torch.no_grad():
        losses = model.losses(inputs, y, draws)
    assert float(losses.blocks.sum()) == pytest.approx(denoising, rel=1e-6)
    assert float(losses.readout) == pytest.approx(readout, rel=1e-5, abs=1e-12)
    if embedding == "learned":
        # KL(N(m u, s^2 I) || N(0, I)), row by row
        m2, s2 = alpha_bar[0], 1 - alpha_bar[0]
        kl = np.mean(0.5 * (m2 * (u**2).sum(1) + 4 * (s2 - 1 - math.log(s2))))
        assert float(losses.prior) == pytest.approx(kl, rel=1e-5, abs=1e-12)
        total = float(losses.total())
        assert total == pytest.approx(denoising + readout + kl, rel=1e-6)


@pytest.mark.parametrize("schedule", ["cosine", "sigmoid", "learned"])
@pytest.mark.parametrize("partition", ["uniform", "information"])
def test_continuous_time_loss_is_equation_9(schedule, partition):
    model, inputs, y = toy_model(
        variant="ct", schedule=schedule, partition=partition, loss_weight=0.5
    )
    draws = toy_draws(model, len(y))
    times, _, logits, u = logits_of(model, inputs, y, draws)
    edges = model.partition.edges.detach().numpy()
    W = model.embedding.weight.numpy()
    expected = []
    for block in range(model.n_blocks):
        width = edges[block + 1] - edges[block]
        terms = []
        for i in range(len(y)):
            for d in range(3):
                t = times[block, i, d]
                assert edges[block] <= t <= edges[block + 1]
                step = 1e-7
                with torch.no_grad():
                    ends = model.schedule.snr(torch.tensor([t - step, t + step], dtype=F64))
                slope = float(ends.diff()) / (2 * step)
                error = np.sum((softmax(logits[block, i, d]) @ W - u[i]) ** 2)
                terms.append(0.5 * 0.5 * slope * error)
        expected.append(width * np.mean(terms))
    np.testing.assert_allclose(model.losses(inputs, y, draws).blocks.detach(), expected, rtol=1e-4)


@pytest.mark.parametrize("parameterization", sorted(PARAMETERIZATIONS))
def test_flow_matching_loss_is_equation_12(parameterization):
    model, inputs, y = toy_model(variant="fm", parameterization=parameterization, n_blocks=1)
    draws = toy_draws(model, len(y))
    times, z, logits, u = logits_of(model, inputs, y, draws)
    z0, W = draws.eps.numpy(), model.embedding.weight.numpy()
    terms = []
    for i in range(len(y)):
        for d in range(3):
            t = times[0, i, d]
            np.testing.assert_allclose(z[0, i, d], t * u[i] + (1 - t) * z0[0, i, d])
            if parameterization == "velocity":
                v = logits[0, i, d] @ W
            else:
                v = (softmax(logits[0, i, d]) @ W - z[0, i, d]) / (1 - t)
            terms.append(np.sum((v - (u[i] - z0[0, i, d])) ** 2))
    width = float(model.partition.edges[1])
    with torch.no_grad():
        loss = model.losses(inputs, y, draws)
    assert float(loss.blocks[0]) == pytest.approx(width * np.mean(terms), rel=1e-6)
    assert float(loss.readout) == 0.0
    assert float(loss.prior) == 0.0


@pytest.mark.parametrize("parameterization", sorted(PARAMETERIZATIONS))
def test_flow_matching_with_learned_embedding_adds_the_extrapolation_term(parameterization):
    options = {"embedding": "learned", "embedding_dim": 3, "partition": "uniform", "n_blocks": 2}
    model, inputs, y = toy_model(variant="fm", parameterization=parameterization, **options)
    draws = toy_draws(model, len(y))
    # The label form's factor 1 / (1 - t) is bounded; stay where the bound is not reached.
    draws = replace(draws, uniform=0.9 * draws.uniform)
    times, z, logits, u = logits_of(model, inputs, y, draws)
    W = model.embedding.weight.detach().numpy()
    expected = np.zeros(2)
    for block in range(2):
        errors, misses = [], []
        for i in range(len(y)):
            for d in range(3):
                t, a = times[block, i, d], logits[block, i, d]
                zt = z[block, i, d]
                v = a @ W if parameterization == "velocity" else (softmax(a) @ W - zt) / (1 - t)
                errors.append(np.sum((v - (u[i] - draws.eps.numpy()[block, i, d])) ** 2))
                misses.append(cross_entropy(model, [zt + (1 - t) * v], [int(y[i])]))
        expected[block] = 0.5 * np.mean(errors) + 0.5 * np.mean(misses)
    np.testing.assert_allclose(model.losses(inputs, y, draws).blocks.detach(), expected, rtol=1e-5)


def exact_error(prior, weight, schedule, t):
    """E|u_hat - u|^2 of the exact denoiser for two classes on a line, by quadrature."""
    model = ExactModel(prior, weight, schedule, [t])
    eps = torch.linspace(-9, 9, 801, dtype=F64)
    mass = torch.exp(-0.5 * eps**2)
    mass = mass / mass.sum()
    t = torch.tensor(t, dtype=F64)
    W = model.embedding.weight
    total = 0.0
    for c, p in enumerate(prior):
        z = schedule.signal(t) * W[c] + schedule.noise(t) * eps[:, None]
        u_hat = model.posterior(z, t.view(1, 1)) @ W
        total += p * float((mass * (u_hat - W[c]).square().sum(-1)).sum())
    return total


def test_continuous_time_is_the_limit_of_discrete_time():
    """Sum over blocks of the DT term for the exact denoiser tends to the CT integral."""
    prior, weight = [0.3, 0.7], [[-1.0], [1.0]]
    schedule = CosineSchedule(log_snr_min=-12.0, log_snr_max=4.0).double()
    t = torch.linspace(0.0, 1.0, 1601, dtype=F64)
    error = np.array([exact_error(prior, weight, schedule, float(a)) for a in t])
    integral = trapezoid(0.5 * schedule.snr_derivative(t).numpy() * error, t.numpy())
    # It also is the information gained: ln-entropy less what the last latent leaves open.
    entropy = -sum(p * math.log(p) for p in prior)
    assert integral == pytest.approx(entropy, abs=1e-3)
    gaps = []
    for n_blocks in (10, 40, 160):
        path = Path(
            schedule, Partition.uniform(n_blocks).double(), LabelParameterization(), horizon=1.0
        )
        scale = DiscreteTime().scale(path).numpy()
        errors = error[:: 1600 // n_blocks][:-1]
        gaps.append(abs(float(scale @ errors) - integral))
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2]
    assert gaps[2] < 0.02


@pytest.mark.parametrize("name", [n for n in sorted(SCHEDULES) if n != "learned"])
@pytest.mark.parametrize("variant", sorted(VARIANTS))
@pytest.mark.parametrize("cut", ["uniform", "information"])
def test_weights_are_positive_and_finite(variant, name, cut):
    model, *_ = toy_model(variant=variant, schedule=name, partition=cut, n_blocks=10)
    scale = model.scale()
    assert torch.isfinite(scale).all()
    assert (scale > 0).all()


def test_snr_gains_sum_to_the_whole_rise():
    schedule = CosineSchedule().double()
    path = Path(schedule, Partition.uniform(7).double(), LabelParameterization(), horizon=1.0)
    ends = schedule.snr(torch.tensor([0.0, 1.0], dtype=F64))
    assert float(snr_gain(path).sum()) == pytest.approx(float(ends[1] - ends[0]))
    # The continuous scale is the integral of its weight.
    t = torch.linspace(1 / 7, 2 / 7, 2001, dtype=F64)
    integral = trapezoid(0.5 * schedule.snr_derivative(t).numpy(), t.numpy())
    assert float(ContinuousTime().scale(path)[1]) == pytest.approx(integral, rel=1e-5)


def test_flow_matching_scale_is_the_mean_of_its_weight():
    path = Path(
        StraightLineSchedule(), Partition.uniform(4).double(), LabelParameterization(), horizon=1.0
    )
    # The integral of 1 / (1 - t)^2 over [1/4, 1/2] is 1 / (1 - 1/2) - 1 / (1 - 1/4).
    assert float(FlowMatching().scale(path)[1]) == pytest.approx(2 - 4 / 3, rel=1e-3)
    # An error in the velocity counts as it is: what is left is the interval's length.
    velocities = replace(path, parameterization=PARAMETERIZATIONS["velocity"]())
    np.testing.assert_allclose(FlowMatching().scale(velocities), 1 / 4)


def test_prior_divergence_matches_torch():
    schedule = CosineSchedule(log_snr_min=-2.0)
    u = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros(())
    first = torch.distributions.Normal(schedule.signal(zero) * u, schedule.noise(zero))
    expected = torch.distributions.kl_divergence(first, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(prior_divergence(schedule, u), expected.sum(1))


def test_horizon_ends_where_noise_does():
    assert DiscreteTime().horizon(CosineSchedule()) == 1.0
    end = DiscreteTime().horizon(StraightLineSchedule())
    assert end == pytest.approx(1 / (1 + math.exp(-4)), abs=2e-4)
    assert FlowMatching().horizon(StraightLineSchedule()) == 1.0


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize("kind", sorted(PARAMETERIZATIONS))
def test_label_and_velocity_say_the_same(name, kind):
    """The scaled error is the difference of the two velocities, whatever is predicted."""
    schedule = SCHEDULES[name]().double().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    logits, eps = (torch.randn(6, 3, generator=generator, dtype=F64) for _ in range(2))
    weight = torch.randn(3, 3, generator=generator, dtype=F64)
    u = weight[torch.tensor([0, 1, 2, 0, 1, 2])]
    t = torch.linspace(0.05, 0.8, 6, dtype=F64)[:, None]
    z = schedule.signal(t) * u + schedule.noise(t) * eps
    form = PARAMETERIZATIONS[kind]()
    label = form.label(logits, z, t, weight, schedule)
    difference = velocity(schedule, z, label, t) - velocity(schedule, z, u, t)
    error = form.error(logits, t, weight, schedule, u, eps)
    torch.testing.assert_close(form.velocity_scale(t, schedule).sqrt() * error, difference)


def test_straight_line_extrapolates_as_the_paper():
    form, schedule = PARAMETERIZATIONS["velocity"](), StraightLineSchedule()
    logits, z = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.3, 0.4]])
    t = torch.tensor([[0.25]])
    label = form.label(logits, z, t, torch.eye(2), schedule)
    torch.testing.assert_close(label, z + 0.75 * logits)


def test_velocity_probabilities_recover_a_convex_combination():
    form, schedule = PARAMETERIZATIONS["velocity"](), StraightLineSchedule()
    weight = torch.tensor([[1.0, 0.5, 0.0], [0.0, 2.0, 0.0], [0.3, 0.0, -1.0]], dtype=F64)
    p = torch.tensor([[0.2, 0.5, 0.3]], dtype=F64)
    t, z = torch.tensor([[0.5]], dtype=F64), torch.zeros(1, 3, dtype=F64)
    # v = (u_hat - z) / (1 - t) for u_hat = p W, as logits in the span of W.
    found = form.probabilities(2 * p, z, t, weight, schedule)
    torch.testing.assert_close(found, p)


def test_projection_is_the_nearest_point_of_the_simplex():
    """Against the optimality conditions, and against a fine grid of the simplex."""
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    found = project_to_simplex(points)
    torch.testing.assert_close(found.sum(1), torch.ones(20, dtype=F64))
    assert (found >= 0).all()
    line = np.linspace(0, 1, 201)
    grid = np.array([(a, b, 1 - a - b) for a in line for b in line if a + b <= 1 + 1e-12])
    for point, best in zip(points.numpy(), found.numpy(), strict=True):
        nearest = np.min(((grid - point) ** 2).sum(1))
        assert ((best - point) ** 2).sum() <= nearest + 1e-12


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
@pytest.mark.parametrize("schedule", ["cosine", "learned"])
def test_what_is_computed_ahead_changes_nothing(variant, schedule):
    """What training computes once, or for many steps, is what each step would compute."""
    model, inputs, y = toy_model(variant=variant, schedule=schedule, readout="linear")
    draws = toy_draws(model, len(y))
    constants = model.constants()
    assert (constants is None) == (schedule == "learned")
    expected = model.losses(inputs, y, draws)
    levels = model.levels(draws.uniform)
    assert (levels is None) == (schedule == "learned")
    if levels is not None:
        draws = replace(draws, levels=levels[:, : len(y)])
    found = model.losses(inputs, y, draws, None, constants)
    for name in ("blocks", "readout", "prior"):
        assert torch.equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize(
    "rows",
    [
        [[0.0], [1.0]],
        [[1.0], [2.0]],
        [[1.0, 0.0], [0.0, 1.0]],
        [[1.0, 0.0], [0.0, 1.0], [0.0, 1.4]],
        [[1.0, 0.0], [0.7, 0.7], [0.0, 1.0]],
        [[5.0, 0.0, 1.0], [0.0, 7.0, 1.0], [3.0, 3.0, 1.0]],
    ],
    ids=str,
)
def test_a_velocity_that_says_the_label_says_its_probabilities(rows):
    """A mean of embeddings has one set of weights, if they are points in general position."""
    weight = torch.tensor(rows, dtype=F64)
    given = torch.rand(50, len(rows), generator=torch.Generator().manual_seed(0), dtype=F64)
    given /= given.sum(1, keepdim=True)
    t, z = torch.tensor(0.5, dtype=F64), torch.randn(50, weight.shape[1], dtype=F64)
    # On the straight line u = z + (1 - t) v; v = logits W, solved by least squares.
    velocity = (given @ weight - z) / (1.0 - t)
    logits = velocity @ torch.linalg.pinv(weight)
    if weight.shape[1] <= len(rows):  # any velocity can be said
        torch.testing.assert_close(logits @ weight, velocity)
    found = VelocityParameterization().probabilities(logits, z, t, weight, StraightLineSchedule())
    torch.testing.assert_close(found, given)


def test_of_mixtures_with_one_mean_a_velocity_says_the_most_even():
    weight = torch.tensor([[-1.0], [0.0], [1.0]], dtype=F64)
    zero, t = torch.zeros(1, dtype=F64), torch.tensor(0.5, dtype=F64)
    logits = torch.zeros(3, dtype=F64)
    found = VelocityParameterization().probabilities(
        logits, zero, t, weight, StraightLineSchedule()
    )
    torch.testing.assert_close(found, torch.full((3,), 1 / 3, dtype=F64))


@pytest.mark.parametrize("size", [0.05, 1.0, 20.0])
@pytest.mark.parametrize(
    "options",
    [
        {"variant": "dt", "embedding": "learned"},
        {"variant": "ct", "embedding": "learned", "schedule": "learned"},
        {"variant": "fm", "embedding": "prototype"},
    ],
    ids=str,
)
def test_with_what_is_shared_the_gradient_points_where_the_papers_does(options, size):
    """Of the whole loss as it stands; how long it is does not follow the embeddings' size."""
    model, inputs, y = toy_model(**options)
    with torch.no_grad():
        model.embedding.weight.mul_(size)
    parameters = [*model.encoder.parameters(), *model.head.parameters(), model.embedding.weight]
    losses = model.losses(inputs, y, toy_draws(model, len(y)))
    ours = torch.autograd.grad(
        model.objective(losses, model.scale()), parameters, retain_graph=True
    )
    papers = torch.autograd.grad(losses.total(), parameters)
    rows = model.embedding.weight.detach().numpy()
    factor = 1.0 / min(np.square(rows - rows.mean(0)).sum(1).mean(), 1.0)
    for own, theirs in zip(ours, papers, strict=True):
        torch.testing.assert_close(own, factor * theirs)
