"""The cut of time: label information against numerical integrals."""

import math

import numpy as np
import pytest
import torch

from sknoprop import NoPropClassifier
from sknoprop.partition import NEGLIGIBLE, Partition, interpolate, label_information
from sknoprop.schedules import SCHEDULES, StraightLineSchedule
from tests.models import toy_data

F64 = torch.float64


def two_class_moments(root_snr, p):
    """Information and error of estimating a label in {0, 1} at distance 1, by quadrature."""
    eps = np.linspace(-10, 10, 4001)
    mass = np.exp(-0.5 * eps**2)
    mass /= mass.sum()
    information, mmse = [], []
    for r in root_snr:
        loss = error = 0.0
        for label, prior in ((0, 1 - p), (1, p)):
            z = r * label + eps
            log_odds = math.log(p / (1 - p)) + r * z - 0.5 * r**2
            sign = 1 if label else -1
            loss += prior * (mass * np.logaddexp(0.0, -sign * log_odds)).sum()
            posterior = 1 / (1 + np.exp(-log_odds))
            error += prior * (mass * (posterior - label) ** 2).sum()
        information.append(-p * math.log(p) - (1 - p) * math.log(1 - p) - loss)
        mmse.append(error)
    return np.array(information), np.array(mmse)


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_information_matches_quadrature(p):
    root_snr = np.linspace(0.0, 6.0, 25)
    information, _ = two_class_moments(root_snr, p)
    entropy = information[-1] if p == 0.5 else -p * math.log(p) - (1 - p) * math.log(1 - p)
    estimate = label_information(
        torch.tensor([[0.0], [1.0]]),
        torch.tensor([1 - p, p]),
        torch.tensor(root_snr),
        n_draws=20_000,
    )
    np.testing.assert_allclose(estimate, information / entropy, atol=0.02)


@pytest.mark.parametrize("rare", [0.1, 0.01, 1e-3, 1e-4])
def test_blocks_get_equal_information_however_rare_a_class_is(rare):
    """By quadrature: one of ten thousand is not drawn where labels are drawn as they come."""
    weight, prior = torch.tensor([[0.0], [1.0]]), torch.tensor([1 - rare, rare])
    edges = Partition.by_information(5, StraightLineSchedule(), weight, prior).edges.numpy()
    inner = edges[:-1]  # the last block has what is left
    information, _ = two_class_moments(inner / (1 - inner), rare)
    entropy = -rare * math.log(rare) - (1 - rare) * math.log(1 - rare)
    np.testing.assert_allclose(np.diff(information / entropy), 0.2, atol=0.04)


def test_a_class_that_never_occurs_is_as_none():
    given = torch.eye(3), torch.tensor([0.6, 0.4, 0.0])
    without = torch.eye(3)[:2], torch.tensor([0.6, 0.4])
    edges, expected = (
        Partition.by_information(4, StraightLineSchedule(), *g).edges for g in (given, without)
    )
    torch.testing.assert_close(edges, expected, rtol=0, atol=0.02)


def test_information_is_half_the_integral_of_the_error():
    """I-MMSE: the same curve from the denoiser's error, which the estimate never computes."""
    root_snr = np.linspace(0.0, 6.0, 601)
    information, mmse = two_class_moments(root_snr, 0.3)
    integral = 0.5 * np.concatenate(
        [[0.0], np.cumsum(0.5 * (mmse[1:] + mmse[:-1]) * np.diff(root_snr**2))]
    )
    np.testing.assert_allclose(integral, information, atol=1e-4)
    estimate = label_information(
        torch.tensor([[0.0], [1.0]]), torch.tensor([0.7, 0.3]), torch.tensor(root_snr), 20_000
    )
    entropy = -0.3 * math.log(0.3) - 0.7 * math.log(0.7)
    np.testing.assert_allclose(estimate, integral / entropy, atol=0.02)


@pytest.mark.parametrize(
    ("name", "scale"),
    # At 0.02 the schedule's end gives away a third of the label.
    [("cosine", 0.02)]
    + [(n, s) for n in ("cosine", "linear", "sigmoid", "straight") for s in (0.1, 1.0, 30.0)],
)
def test_blocks_get_equal_information_whatever_the_embedding_scale(name, scale):
    schedule = SCHEDULES[name]().double()
    weight, prior = scale * torch.eye(4), torch.tensor([0.4, 0.3, 0.2, 0.1])
    partition = Partition.by_information(5, schedule, weight, prior)
    edges = partition.edges.double()
    assert (edges.diff() > 0).all()
    assert float(edges[0]) == 0.0
    root_snr = (0.5 * schedule.log_snr(edges[1:])).exp()
    shares = label_information(weight, prior, root_snr)
    expected = torch.arange(1, 6) / 5 * (1 - NEGLIGIBLE)
    reach = min(float(shares[-1]), 1 - NEGLIGIBLE)
    torch.testing.assert_close(
        shares, (expected / (1 - NEGLIGIBLE) * reach).to(F64), rtol=0, atol=0.02
    )


@pytest.mark.parametrize("scale", [1e-6, 0.01, 0.05, 1.0])
@pytest.mark.parametrize("variant", ["dt", "ct"])
def test_no_block_goes_beyond_the_end_of_the_path(variant, scale):
    """The straight path is infinitely clear at time 1; these variants end it before."""
    clf = NoPropClassifier(
        variant,
        schedule="straight",
        partition="information",
        embedding=scale * np.eye(3),
        max_iter=1,
        random_state=0,
    ).fit(*toy_data(60))
    model = clf.blocks_
    assert (model.partition.edges.diff() > 0).all()
    assert float(model.partition.edges[-1]) <= model.path.horizon < 1.0
    assert (model.scale() > 0).all()
    times = clf.predict_trajectory(toy_data(60)[0][:3]).times
    assert (np.diff(times) > 0).all()


def test_uniform_cut():
    partition = Partition.uniform(4)
    torch.testing.assert_close(partition.edges, torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
    torch.testing.assert_close(partition.midpoints(1)[:, 0], torch.tensor([1, 3, 5, 7]) / 8)
    assert partition.midpoints(3).shape == (4, 3)
    shorter = Partition.uniform(4, horizon=0.8)
    torch.testing.assert_close(shorter.span.length, torch.full((4,), 0.2))


def test_every_time_has_one_owner():
    partition = Partition.uniform(4)
    times = torch.tensor([0.0, 0.1, 0.25, 0.5, 0.99, 1.0])
    assert partition.owner(times).tolist() == [0, 0, 1, 2, 3, 3]
    assert Partition.uniform(1).owner(torch.tensor(0.7)) == 0


def test_some_of_the_blocks_see_the_same_cut():
    partition = Partition.uniform(4)
    some = partition.take(slice(1, 3))
    assert (some.n_blocks, some.n_total, partition.n_blocks) == (2, 4, 4)
    torch.testing.assert_close(some.span.start, torch.tensor([0.25, 0.5]))
    torch.testing.assert_close(some.frame.end, torch.tensor([0.5, 0.75]))
    torch.testing.assert_close(some.midpoints(2), torch.tensor([[5.0, 7.0], [9.0, 11.0]]) / 16)
    assert some.owner(torch.tensor(0.9)) == 3, "owners are numbered among all"


def test_split_blocks_own_less_and_are_told_times_as_before():
    split = Partition.uniform(2, horizon=0.8).split(3)
    torch.testing.assert_close(split.edges, 0.8 * torch.arange(7) / 6)
    torch.testing.assert_close(split.frame.start, torch.tensor([0.0, 0, 0, 0.4, 0.4, 0.4]))
    torch.testing.assert_close(split.frame.length, torch.full((6,), 0.4))
    twice = split.split(2)
    assert twice.n_blocks == 12
    torch.testing.assert_close(twice.frame.length, torch.full((12,), 0.4))


def test_interpolation_matches_numpy():
    xp = torch.tensor([0.0, 0.1, 0.1, 0.5, 1.0], dtype=F64)
    fp = torch.tensor([0.0, 1.0, 2.0, 2.5, 7.0], dtype=F64)
    x = torch.tensor([-1.0, 0.05, 0.3, 0.75, 2.0], dtype=F64)
    np.testing.assert_allclose(interpolate(x, xp, fp), np.interp(x, xp, fp))


def test_a_thousand_classes():
    information = label_information(
        torch.eye(1000), torch.full((1000,), 1e-3), torch.tensor([0.1, 3.0, 9.0])
    )
    assert float(information[0]) < 0.02
    assert float(information[2]) > 0.99


@pytest.mark.parametrize("scale", [1e-9, 1e9])
@pytest.mark.parametrize("name", ["cosine", "straight"])
def test_embeddings_out_of_all_proportion_still_leave_every_block_some_time(name, scale):
    prior = torch.full((3,), 1 / 3)
    partition = Partition.by_information(6, SCHEDULES[name](), scale * torch.eye(3), prior)
    assert (partition.span.length > 1e-5).all()
    assert 0 < float(partition.edges[-1]) <= 1


@pytest.mark.parametrize("name", ["cosine", "straight", "linear", "sigmoid"])
def test_with_many_classes_fewer_levels_cut_alike(name, monkeypatch):
    """They move a cut by less than other draws would."""
    given = SCHEDULES[name](), torch.eye(10), torch.full((10,), 0.1)
    fine = Partition.by_information(10, *given).edges
    monkeypatch.setattr("sknoprop.partition.MANY_CLASSES", 9)
    moved = (Partition.by_information(10, *given).edges - fine).abs().max()
    monkeypatch.undo()
    monkeypatch.setattr(
        "sknoprop.partition.label_information",
        lambda *arguments: label_information(*arguments, n_draws=4096),
    )
    exact = Partition.by_information(10, *given).edges
    assert 0.0 < moved < (fine - exact).abs().max()
    assert moved < 2e-3


@pytest.mark.parametrize(
    ("params", "even"),
    [
        ({}, True),
        ({"embedding": "learned"}, True),
        ({"embedding": "prototype"}, False),
        ({"embedding": 50.0 * np.eye(3)}, False),
        ({"variant": "ct"}, False),
        ({"variant": "fm"}, False),
        ({"variant": "ct", "schedule": "learned"}, True),
        ({"variant": "ct", "schedule": "learned", "partition": "information"}, False),
        ({"embedding": "prototype", "partition": "uniform"}, True),
    ],
    ids=str,
)
def test_the_cut_that_goes_with_other_choices(params, even):
    """By information where rows may have any length; evenly where training moves the schedule."""
    clf = NoPropClassifier(**params, n_blocks=4, max_iter=1, random_state=0).fit(*toy_data(60))
    lengths = clf.blocks_.partition.span.length
    assert bool(torch.allclose(lengths, torch.full((4,), 0.25))) == even
