"""Posterior against Gaussian conditioning; samplers against an exact denoiser."""

import math

import numpy as np
import pytest
import torch
from scipy.special import ndtri

from sknoprop.samplers import SAMPLERS, integrate, posterior, velocity
from sknoprop.schedules import SCHEDULES, CosineSchedule

NAMES = sorted(SCHEDULES)
F64 = torch.float64


def scalar(value):
    return torch.tensor(value, dtype=F64)


@pytest.fixture(params=NAMES)
def schedule(request):
    return SCHEDULES[request.param]().double().requires_grad_(False)


PAIRS = [(0.0, 0.1), (0.05, 0.9), (0.3, 0.35), (0.7, 0.99), (0.5, 0.5001)]


@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_posterior_is_gaussian_conditioning(schedule, t, s):
    """Condition the joint normal of (z_s, z_t) given u numerically."""
    m_t, s_t = float(schedule.signal(scalar(t))), float(schedule.noise(scalar(t)))
    m_s, s_s = float(schedule.signal(scalar(s))), float(schedule.noise(scalar(s)))
    # Noising is Markov away from the label: z_t = ratio * z_s + fresh noise.
    ratio = m_t / m_s
    covariance = np.array([[s_s**2, ratio * s_s**2], [ratio * s_s**2, s_t**2]])
    gain = covariance[0, 1] / covariance[1, 1]
    variance = covariance[0, 0] - gain * covariance[1, 0]
    q = posterior(schedule, scalar(t), scalar(s))
    # mean = m_s u + gain (z_t - m_t u)
    assert float(q.latent) == pytest.approx(gain, rel=1e-9, abs=1e-15)
    assert float(q.label) == pytest.approx(m_s - gain * m_t, rel=1e-6)
    assert float(q.variance) == pytest.approx(variance, rel=1e-6)


@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_posterior_reproduces_the_marginal(schedule, t, s):
    q = posterior(schedule, scalar(t), scalar(s))
    mean = q.label + q.latent * schedule.signal(scalar(t))
    variance = q.latent**2 * schedule.noise(scalar(t)) ** 2 + q.variance
    torch.testing.assert_close(mean, schedule.signal(scalar(s)))
    torch.testing.assert_close(variance, schedule.noise(scalar(s)) ** 2)


def test_posterior_has_the_papers_coefficients():
    """a_t, b_t, c_t from products of alphas, as the paper writes them (eq. 5-6)."""
    n_blocks = 10
    schedule = CosineSchedule()
    grid = torch.arange(n_blocks + 1, dtype=F64) / n_blocks
    alpha_bar = schedule.signal(grid).square().numpy()
    alpha = np.append(alpha_bar[:-1] / alpha_bar[1:], alpha_bar[-1])
    # alpha_bar_t is the product of alpha_s over s = t .. T.
    np.testing.assert_allclose(np.cumprod(alpha[::-1])[::-1], alpha_bar)
    for t in range(1, n_blocks + 1):
        q = posterior(schedule, grid[t - 1], grid[t])
        rest = 1 - alpha_bar[t - 1]
        a = math.sqrt(alpha_bar[t]) * (1 - alpha[t - 1]) / rest
        b = math.sqrt(alpha[t - 1]) * (1 - alpha_bar[t]) / rest
        c = (1 - alpha_bar[t]) * (1 - alpha[t - 1]) / rest
        np.testing.assert_allclose([q.label, q.latent, q.variance], [a, b, c], rtol=1e-9)
    assert float(q.label) == pytest.approx(1.0, abs=0.02), "the last block's weight ends at 1"


@pytest.mark.parametrize("name", ["ancestral", "probability-flow"])
def test_a_step_in_parts_with_one_estimate_is_the_same_step(schedule, name):
    """Mean and variance of z_0.6 given z_0.2, by way of z_0.35 or at once, the label held."""
    u, z = torch.tensor([0.7, -1.3], dtype=F64), torch.tensor([0.2, 1.1], dtype=F64)
    sampler = SAMPLERS[name]()

    def step(z, t, s, eps):
        times = scalar(t), scalar(s)
        return sampler.step(lambda z, t: u, schedule, z, *times, torch.full_like(z, eps))

    mean = step(step(z, 0.2, 0.35, 0.0), 0.35, 0.6, 0.0)
    torch.testing.assert_close(mean, step(z, 0.2, 0.6, 0.0))
    # Steps are linear in their noise: unit noise in each part, the squares of what it moves.
    first = step(step(z, 0.2, 0.35, 1.0), 0.35, 0.6, 0.0) - mean
    second = step(step(z, 0.2, 0.35, 0.0), 0.35, 0.6, 1.0) - mean
    at_once = step(z, 0.2, 0.6, 1.0) - mean
    torch.testing.assert_close(first.square() + second.square(), at_once.square())


def test_forward_marginals_match_a_simulated_chain():
    """Noise a label step by step, by q(z_{t-1} | z_t), and compare moments at every step."""
    rng = np.random.default_rng(0)
    schedule = CosineSchedule()
    grid = torch.linspace(0.0, 1.0, 11, dtype=F64)
    alpha_bar = schedule.signal(grid).square().numpy()
    n, u = 400_000, 1.7
    z = math.sqrt(alpha_bar[-1]) * u + math.sqrt(1 - alpha_bar[-1]) * rng.standard_normal(n)
    for t in range(10, 0, -1):
        alpha = alpha_bar[t - 1] / alpha_bar[t]
        z = math.sqrt(alpha) * z + math.sqrt(1 - alpha) * rng.standard_normal(n)
        mean, deviation = (
            float(schedule.signal(grid[t - 1])) * u,
            float(schedule.noise(grid[t - 1])),
        )
        assert abs(z.mean() - mean) < 5 * deviation / math.sqrt(n)
        assert abs(z.std() / deviation - 1) < 5 / math.sqrt(2 * n)


def test_velocity_is_the_derivative_along_a_path(schedule):
    u = torch.tensor([0.3, -1.2], dtype=F64)
    eps = torch.tensor([0.7, 0.1], dtype=F64)

    def path(t):
        return schedule.signal(t) * u + schedule.noise(t) * eps

    for t in (0.2, 0.5, 0.8):
        after, before = scalar(t + 1e-6), scalar(t - 1e-6)
        difference = (path(after) - path(before)) / (schedule.clock(after) - schedule.clock(before))
        exact = velocity(schedule, path(scalar(t)), u, scalar(t))
        torch.testing.assert_close(exact, difference, rtol=1e-5, atol=1e-7)


class TwoClasses:
    """Labels -1 and 1 with probabilities 0.3 and 0.7 given x: everything in closed form."""

    probability = 0.7

    def __init__(self, schedule):
        self.schedule = schedule

    def denoise(self, z, t):
        # log odds of class 1 = log prior odds + 2 m z / s^2;  E[u | z] = 2 P(1 | z) - 1
        prior = math.log(self.probability / (1 - self.probability))
        evidence = 2 * self.schedule.signal(t) * z / self.schedule.noise(t) ** 2
        return 2 * torch.sigmoid(prior + evidence) - 1


def evenly_spread_normals(n):
    return torch.tensor(ndtri((np.arange(n) + 0.5) / n), dtype=F64).unsqueeze(1)


def time_grid(schedule, n):
    """Times evenly spread in the schedule's clock."""
    fine = torch.cat([torch.logspace(-12, -3, 20_000, dtype=F64), torch.linspace(1e-3, 1, 100_001)])
    clock = schedule.clock(fine)
    wanted = torch.linspace(float(clock[0]), float(clock[-1]), n, dtype=F64)
    times = fine[torch.searchsorted(clock, wanted).clamp_max(len(fine) - 1)]
    return torch.cat([torch.zeros(1, dtype=F64), times[1:]]).unique()


@pytest.mark.parametrize("name", ["euler", "heun", "probability-flow"])
def test_deterministic_samplers_recover_the_posterior(schedule, name):
    """On the line the flow is monotone, so evenly spread noise must split 0.3 to 0.7."""
    problem = TwoClasses(schedule)
    z0 = evenly_spread_normals(2000)
    times = time_grid(schedule, 1500)
    *_, z = integrate(SAMPLERS[name](), problem.denoise, schedule, z0, times)
    assert float((z > 0).double().mean()) == pytest.approx(0.7, abs=0.005)
    assert float((z.abs() - 1).abs().max()) < 0.35, "latents end at the labels"


def test_ancestral_sampler_recovers_the_posterior(schedule):
    problem = TwoClasses(schedule)
    n = 20_000
    generator = torch.Generator().manual_seed(0)
    z0 = evenly_spread_normals(n)
    times = time_grid(schedule, 300)
    noise = torch.randn(len(times) - 1, n, 1, generator=generator, dtype=F64)
    *_, z = integrate(SAMPLERS["ancestral"](), problem.denoise, schedule, z0, times, noise)
    deviation = math.sqrt(0.7 * 0.3 / n)
    assert abs(float((z > 0).double().mean()) - 0.7) < 4 * deviation + 0.003


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_the_denoiser_says_the_posterior_at_every_step(schedule, name):
    """The law of total expectation, E[P(1 | x, z_t)] = P(1 | x), that its read-out rests on."""
    problem = TwoClasses(schedule)
    n, times = 4000, time_grid(schedule, 600)
    eps = torch.randn(len(times), n, 1, generator=torch.Generator().manual_seed(0), dtype=F64)
    said = {}

    def denoise(z, t):
        label = problem.denoise(z, t)
        said[float(t)] = 0.5 * (1.0 + label)
        return label

    list(integrate(SAMPLERS[name](), denoise, schedule, evenly_spread_normals(n), times, eps))
    # Draws of noise: four standard deviations, and what 600 steps are away from the limit.
    deviation = math.sqrt(0.7 * 0.3 / n) if name == "ancestral" else 0.0
    for t in times[:-1:50]:
        assert abs(float(said[float(t)].mean()) - 0.7) < 4 * deviation + 0.01
    # Each step varies more from trajectory to trajectory than one before it.
    spread = [float(said[float(t)].std()) for t in times[[1, 200, 400, -2]]]
    assert spread == sorted(spread)
    assert spread[0] < 0.1 < 0.3 < spread[-1]


def test_reverse_sde_without_noise_is_not_the_flow(schedule):
    """The mistake of a public implementation must not pass the test above."""
    problem = TwoClasses(schedule)

    class Wrong(SAMPLERS["ancestral"]):
        def step(self, denoise, schedule, z, t, s, eps):
            return super().step(denoise, schedule, z, t, s, torch.zeros_like(z))

    times = time_grid(schedule, 300)
    *_, z = integrate(
        Wrong(),
        problem.denoise,
        schedule,
        evenly_spread_normals(2000),
        times,
        torch.zeros(len(times)),
    )
    assert abs(float((z > 0).double().mean()) - 0.7) > 0.05


def test_higher_order_converges_faster():
    """Latents from 40 steps against 4000: Heun's error must be far below Euler's."""
    schedule = SCHEDULES["straight"]()
    problem = TwoClasses(schedule)
    z0 = evenly_spread_normals(200)

    def run(kind, n_steps):
        times = torch.linspace(0.0, 0.9, n_steps + 1, dtype=F64)
        return list(integrate(SAMPLERS[kind](), problem.denoise, schedule, z0, times))[-2]

    def error(kind):
        # Both runs stop at the same last but one time only if grids are refined around it.
        fine = torch.linspace(0.0, 0.9 * 39 / 40, 4001, dtype=F64)
        exact = list(
            integrate(
                SAMPLERS["heun"](), problem.denoise, schedule, z0, torch.cat([fine, scalar([0.9])])
            )
        )[-2]
        return float((run(kind, 40) - exact).abs().max())

    assert error("heun") < 0.1 * error("euler")


@pytest.mark.parametrize("n_steps", [1, 2, 5, 10, 40])
@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_few_steps_stay_finite_and_end_near_labels(schedule, name, n_steps):
    problem = TwoClasses(schedule)
    times = torch.linspace(0.0, 1.0, n_steps + 1, dtype=F64)
    z0 = evenly_spread_normals(100)
    noise = torch.randn(n_steps, 100, 1, generator=torch.Generator().manual_seed(1), dtype=F64)
    *_, z = integrate(SAMPLERS[name](), problem.denoise, schedule, z0, times, noise)
    assert torch.isfinite(z).all()
    assert float(z.abs().max()) < 2.0


def test_own_steps_of_the_straight_line_are_exact_for_a_known_label():
    schedule = SCHEDULES["straight"]()
    u, z0 = torch.tensor([[2.0, -1.0]], dtype=F64), torch.tensor([[0.3, 0.4]], dtype=F64)
    for name in ("euler", "heun", "probability-flow"):
        times = torch.linspace(0.0, 1.0, 6, dtype=F64)
        path = list(integrate(SAMPLERS[name](), lambda z, t: u.expand_as(z), schedule, z0, times))
        for t, z in zip(times[1:], path, strict=True):
            torch.testing.assert_close(z, t * u + (1 - t) * z0)
