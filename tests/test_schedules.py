"""Schedules against closed forms, finite differences and each other."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid

from sknoprop.schedules import (
    SCHEDULES,
    CosineSchedule,
    LearnedSchedule,
    LinearSchedule,
    SigmoidSchedule,
    StraightLineSchedule,
    VariancePreservingSchedule,
)

NAMES = sorted(SCHEDULES)
TIMES = torch.linspace(0.002, 0.998, 499, dtype=torch.float64)


@pytest.fixture(params=NAMES)
def schedule(request):
    return SCHEDULES[request.param]().double()


def test_signal_rises_and_noise_falls_towards_the_label(schedule):
    assert (schedule.signal(TIMES).diff() > 0).all()
    assert (schedule.noise(TIMES).diff() < 0).all()
    assert (schedule.snr(TIMES).diff() > 0).all()


def test_ends_are_noise_and_label(schedule):
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    signal, noise = schedule.signal(ends), schedule.noise(ends)
    assert signal[0] < 0.01
    assert noise[0] > 0.999
    assert signal[1] > 0.99
    assert noise[1] < 0.06


def test_snr_is_the_ratio_of_signal_to_noise(schedule):
    ratio = (schedule.signal(TIMES) / schedule.noise(TIMES)) ** 2
    torch.testing.assert_close(schedule.snr(TIMES), ratio, rtol=1e-10, atol=0)


def test_snr_derivative_is_positive_and_matches_finite_differences(schedule):
    step = 1e-6
    with torch.no_grad():
        slope = schedule.snr_derivative(TIMES)
        difference = (schedule.snr(TIMES + step) - schedule.snr(TIMES - step)) / (2 * step)
    assert (slope > 0).all()
    torch.testing.assert_close(slope, difference, rtol=1e-6, atol=1e-8)


def test_slope_of_the_log_snr_matches_finite_differences(schedule):
    step = 1e-6
    inner = TIMES[10:-10]
    with torch.no_grad():
        slope = schedule.log_snr_derivative(inner)
        difference = (schedule.log_snr(inner + step) - schedule.log_snr(inner - step)) / (2 * step)
    torch.testing.assert_close(slope, difference, rtol=1e-6, atol=1e-6)


def test_velocity_coefficients_match_finite_differences(schedule):
    step = 1e-6
    with torch.no_grad():
        signal_rate, noise_rate = schedule.velocity_coefficients(TIMES)
        duration = schedule.clock(TIMES + step) - schedule.clock(TIMES - step)
        for rate, curve in ((signal_rate, schedule.signal), (noise_rate, schedule.noise)):
            difference = (curve(TIMES + step) - curve(TIMES - step)) / duration
            torch.testing.assert_close(rate, difference, rtol=1e-5, atol=1e-6)


def test_clock_is_the_area_swept(schedule):
    """d tau = s dm - m ds, integrated numerically from the first time to the last."""
    with torch.no_grad():
        t = torch.linspace(0.01, 0.99, 20_001, dtype=torch.float64)
        signal, noise = schedule.signal(t).numpy(), schedule.noise(t).numpy()
        area = trapezoid(noise, signal) - trapezoid(signal, noise)
        swept = schedule.clock(t[-1:]) - schedule.clock(t[:1])
    assert float(swept) == pytest.approx(area, rel=1e-6)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "straight"])
def test_variance_is_preserved(name):
    schedule = SCHEDULES[name]().double()
    total = schedule.signal(TIMES) ** 2 + schedule.noise(TIMES) ** 2
    torch.testing.assert_close(total, torch.ones_like(TIMES))


def test_float32_keeps_the_order(schedule):
    t = torch.linspace(0.0, 0.999, 1000)
    assert (schedule.float().log_snr(t).diff() > 0).all()


# The textbook forms, written here from the papers, with time running towards the label.


def _cosine_alpha_bar(t):
    return math.sin(0.5 * math.pi * t) ** 2


def _linear_alpha_bar(t):
    # The integral of beta(s) = 0.1 + 19.9 s over [0, 1 - t], by numerical quadrature.
    s = np.linspace(0.0, 1.0 - t, 20001)
    return math.exp(-trapezoid(0.1 + 19.9 * s, s))


def _sigmoid_alpha_bar(t):
    def sigmoid(a):
        return 1.0 / (1.0 + math.exp(-a))

    return (sigmoid(6 * t - 3) - sigmoid(-3)) / (sigmoid(3) - sigmoid(-3))


@pytest.mark.parametrize(
    ("kind", "alpha_bar"),
    [
        (CosineSchedule, _cosine_alpha_bar),
        (LinearSchedule, _linear_alpha_bar),
        (SigmoidSchedule, _sigmoid_alpha_bar),
    ],
)
def test_closed_forms_on_clipped_time(kind, alpha_bar):
    # With wide clipping time is the textbook's up to a part in a thousand or better.
    schedule = kind(log_snr_min=-30.0, log_snr_max=30.0)
    for t in (0.1, 0.3, 0.5, 0.7, 0.9):
        inner = schedule._start + schedule._span * t
        value = schedule.signal(torch.tensor(t, dtype=torch.float64)) ** 2
        assert float(value) == pytest.approx(alpha_bar(inner), rel=1e-6)
        assert inner == pytest.approx(t, abs=1e-3)


@pytest.mark.parametrize("kind", [CosineSchedule, SigmoidSchedule])
def test_clipped_ends_are_as_asked(kind):
    schedule = kind(log_snr_min=-9.0, log_snr_max=5.0)
    ends = schedule.log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([-9.0, 5.0], dtype=torch.float64))


def test_linear_schedule_cannot_start_below_its_own_noise():
    start = LinearSchedule().log_snr(torch.zeros(1, dtype=torch.float64))
    # alpha_bar = exp(-10.05)
    assert float(start) == pytest.approx(math.log(1.0 / math.expm1(10.05)), abs=1e-9)


def test_straight_line():
    schedule = StraightLineSchedule()
    torch.testing.assert_close(schedule.signal(TIMES) + schedule.noise(TIMES), TIMES * 0 + 1)
    assert float(schedule.snr_derivative(torch.tensor(0.0))) == 0.0


def test_clip_ends_are_shown():
    assert repr(CosineSchedule(-9.0, 5.0)) == "CosineSchedule(log_snr_min=-9.0, log_snr_max=5.0)"


def test_clip_ends_must_be_in_order():
    with pytest.raises(ValueError, match=r"log_snr_min < log_snr_max, .* Got 1\.0 and 1\.0"):
        CosineSchedule(1.0, 1.0)


@pytest.mark.parametrize("seed", range(50))
def test_learned_schedule_is_monotone_whatever_its_parameters(seed):
    generator = torch.Generator().manual_seed(seed)
    schedule = LearnedSchedule().double()
    with torch.no_grad():
        for parameter in schedule.parameters():
            parameter += 3.0 * torch.randn(
                parameter.shape, generator=generator, dtype=torch.float64
            )
        assert (schedule.log_snr(TIMES).diff() > 0).all()
        assert (schedule.snr_derivative(TIMES) > 0).all()


def test_learned_schedule_starts_near_a_straight_line_in_log_snr():
    schedule = LearnedSchedule(log_snr_min=-10.0, log_snr_max=4.0).double()
    line = -10.0 + 14.0 * TIMES
    with torch.no_grad():
        assert (schedule.log_snr(TIMES) - line).abs().max() < 1.5


def test_learned_schedule_has_gradients_everywhere():
    schedule = LearnedSchedule()
    t = torch.linspace(0.1, 0.9, 5)
    (schedule.snr_derivative(t) + schedule.signal(t)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in schedule.parameters())


def test_own_schedule_needs_its_log_snr_only():
    class LogLinear(VariancePreservingSchedule):
        def log_snr(self, t):
            return -8.0 + 14.0 * t

    schedule = LogLinear()
    torch.testing.assert_close(schedule.log_snr_derivative(TIMES), 14.0 + 0 * TIMES)
    torch.testing.assert_close(schedule.snr_derivative(TIMES), 14.0 * schedule.snr(TIMES))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weight_of_no_signal_at_all_is_nought(dtype):
    """At time 0 the slope of the log is infinite, and the product 0 in the limit."""

    class Straight(VariancePreservingSchedule):
        def log_snr(self, t):
            return 2.0 * (t.log() - torch.log1p(-t))

    t = torch.tensor([0.0, 1e-3, 0.5], dtype=dtype)
    expected = 2.0 * t / (1.0 - t) ** 3
    torch.testing.assert_close(Straight().snr_derivative(t), expected)
