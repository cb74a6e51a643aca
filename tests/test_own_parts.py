"""Schedules, networks, optimisers and images of one's own that do not fit: said before training."""

import enum
import tracemalloc

import numpy as np
import pytest
import torch
from torch import nn

import sknoprop.fitting as fitting
from sknoprop import NoPropClassifier
from sknoprop._schedules import check_schedule
from sknoprop.building import _warn_of_rows
from sknoprop.datasets import LazyImages, load_torchvision
from sknoprop.networks import CustomPath, NumberEncoding
from sknoprop.schedules import (
    SCHEDULES,
    CosineSchedule,
    LearnedSchedule,
    LinearSchedule,
    Schedule,
    SigmoidSchedule,
    StraightLineSchedule,
    VariancePreservingSchedule,
)
from tests.models import toy_data

SMALL = {"n_blocks": 2, "hidden_layer_sizes": (8,), "max_iter": 2, "random_state": 0}


@pytest.fixture
def untrained(monkeypatch):
    """Whatever is refused is refused before anything is trained."""

    def train(*args, **kwargs):
        raise AssertionError("it was trained")

    monkeypatch.setattr(fitting, "train", train)


def of_log_snr(log_snr):
    """A schedule class with that log SNR."""

    class Own(VariancePreservingSchedule):
        def log_snr(self, t):
            return log_snr(t)

    return Own


class WrongRatio(StraightLineSchedule):
    def log_snr(self, t):
        return t.log() - torch.log1p(-t)  # of the ratio, and not of its square


class NegativeNoise(StraightLineSchedule):
    def noise(self, t):
        return t - 1.0


class BackwardClock(StraightLineSchedule):
    def clock(self, t):
        return 1.0 - t


class NoNoise(StraightLineSchedule):
    def noise(self, t):
        return 0.0


WRONG_SCHEDULES = {
    "falling": (of_log_snr(lambda t: 6 - 16 * t), "log_snr that rises"),
    "constant": (of_log_snr(lambda t: 0 * t), "log_snr that rises"),
    "here and there": (of_log_snr(lambda t: 8 * t + torch.sin(20 * t)), "log_snr that rises"),
    "not a number": (of_log_snr(lambda t: t * np.nan), "log_snr that is finite"),
    "infinite": (of_log_snr(lambda t: torch.where(t > 0.5, np.inf, t)), "log_snr that is finite"),
    "one number": (of_log_snr(lambda t: torch.tensor(1.0)), r"log_snr .*Got torch.float32 of sh"),
    "double": (of_log_snr(lambda t: 8 * t.double()), "log_snr .*Got torch.float64 of shape"),
    "ratio": (WrongRatio, r"logarithm of \(signal / noise\)"),
    "sign": (NegativeNoise, "signal and noise that are positive"),
    "clock": (BackwardClock, "clock that rises"),
    "no tensor": (NoNoise, "method noise that .*Got float"),
    "too high": (lambda: SigmoidSchedule(-16, 20), "log_snr at 1 that single .*, and not 20"),
    "far too high": (lambda: CosineSchedule(-16, 40), "log_snr that is finite"),
    "below the least": (lambda: LinearSchedule(-16, -12), "log_snr that rises"),
}


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
@pytest.mark.parametrize("case", WRONG_SCHEDULES)
def test_a_schedule_that_does_not_lead_to_the_label_is_refused(case, variant, untrained):
    make, message = WRONG_SCHEDULES[case]
    clf = NoPropClassifier(variant, schedule=make(), **SMALL)
    with pytest.raises(ValueError, match=f"The 'schedule' parameter .*{message}"):
        clf.fit(*toy_data())


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_of_the_package_are_none_of_those(name):
    assert issubclass(SCHEDULES[name], Schedule)
    for dtype in (torch.float32, torch.float64):
        check_schedule(SCHEDULES[name](), dtype)


class Buffered(VariancePreservingSchedule):
    """With a tensor in double precision, and what it is to reach as its user names it."""

    log_snr_max = "high"

    def __init__(self):
        super().__init__()
        self.register_buffer("ends", torch.tensor([-12.0, 6.0], dtype=torch.float64))

    def log_snr(self, t):
        return self.ends[0] + (self.ends[1] - self.ends[0]) * t


FINE_SCHEDULES = {
    "flat ends": of_log_snr(lambda t: (-14 + 22 * t).clamp(-12, 6)),
    "saturated": of_log_snr(lambda t: -12 + 20 * torch.sigmoid(50 * (t - 0.5))),
    "double": Buffered,
    "learned in double": lambda: LearnedSchedule().double(),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("case", FINE_SCHEDULES)
def test_a_schedule_that_leads_to_the_label_is_taken(case, dtype):
    X, y = toy_data(90)
    clf = NoPropClassifier("ct", schedule=FINE_SCHEDULES[case](), dtype=dtype, **SMALL)
    assert np.isfinite(clf.fit(X, y).predict_proba(X)).all()


def test_double_precision_reaches_further():
    X, y = toy_data(90)
    clf = NoPropClassifier("dt", schedule=SigmoidSchedule(-16, 20), dtype="float64", **SMALL)
    assert np.isfinite(clf.fit(X, y).predict_proba(X)).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LearnedSchedule(log_snr_min=5.0, log_snr_max=5.0), "log_snr_min < log_snr_max"),
        (lambda: CosineSchedule(-16.0, 2000.0), "between -700 and 700. Got -16.0 and 2000.0"),
        (lambda: LinearSchedule(-2000.0, 8.0), "between -700 and 700"),
        (lambda: LearnedSchedule(n_hidden=0), "n_hidden must be a positive int. Got 0"),
        (lambda: LearnedSchedule(n_hidden=2.5), "n_hidden must be a positive int. Got 2.5"),
    ],
)
def test_bounds_of_schedules_are_checked_where_they_are_given(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Rows(nn.Module):
    """What a function makes of the features of a linear layer."""

    def __init__(self, function):
        super().__init__()
        self.linear = nn.Linear(5, 4)
        self.function = function

    def forward(self, x):
        return self.function(self.linear(x))


WRONG_NETWORKS = {
    "more rows": lambda h: h.view(-1, 2),
    "one row": lambda h: h.mean(0, keepdim=True),
    "no features": lambda h: h[:, :0],
    "complex": lambda h: torch.complex(h, h),
}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("case", WRONG_NETWORKS)
def test_a_network_must_give_a_row_of_features_for_each_input(case, frozen, untrained):
    network = Rows(WRONG_NETWORKS[case]).requires_grad_(not frozen)
    with pytest.raises(ValueError, match=r"'encoder' parameter .*one row of features for each"):
        NoPropClassifier(encoder=network, n_bins=0, **SMALL).fit(*toy_data())


def test_a_network_is_held_to_it_later_too():
    generators = [torch.Generator().manual_seed(0)]
    path = CustomPath(Rows(lambda h: h[:2]), generators, torch.zeros(2, 5))
    assert path(torch.zeros(2, 5)).shape == (1, 2, 4)
    with pytest.raises(ValueError, match=r"of shape \(2, 4\) back for 3 of them"):
        path(torch.zeros(3, 5))


def test_a_trained_network_gives_floats(untrained):
    clf = NoPropClassifier(encoder=Rows(lambda h: h.long()), n_bins=0, **SMALL)
    with pytest.raises(ValueError, match=r"'encoder' parameter .*floating point.*Got torch.int64"):
        clf.fit(*toy_data())


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("function", [torch.Tensor.double, torch.Tensor.float])
def test_of_any_precision(function, dtype):
    X, y = toy_data(60)
    clf = NoPropClassifier(encoder=Rows(function), n_bins=0, dtype=dtype, **SMALL).fit(X, y)
    assert np.isfinite(clf.predict_proba(X)).all()


def test_a_frozen_network_must_have_values_and_finite_features():
    X, y = toy_data()
    lazy = nn.LazyLinear(4)
    for parameter in lazy.parameters():
        parameter.requires_grad = False
    with pytest.raises(ValueError, match=r"'encoder' parameter .*lazy layers that never ran"):
        NoPropClassifier(encoder=lazy, **SMALL).fit(X, y)
    X[0, 0] = 1e30
    with pytest.raises(ValueError, match=r"'encoder' parameter .*features that are not finite"):
        NoPropClassifier(encoder=Rows(lambda h: h**8).requires_grad_(False), **SMALL).fit(X, y)


class Signs(torch.optim.Optimizer):
    """As one reads it on a blog: the closure is not called."""

    def __init__(self, params, lr=1e-3):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p -= group["lr"] * p.grad.sign()


def test_an_optimizer_must_call_the_closure(untrained):
    with pytest.raises(ValueError, match=r"'optimizer' parameter .*Signs, .*not call the closure"):
        NoPropClassifier(optimizer=Signs, **SMALL).fit(*toy_data())


class Name(enum.StrEnum):
    FM = "fm"
    TYPO = "one_hot"


@pytest.mark.parametrize("name", ["embedding", "hidden_layer_sizes", "schedule", "batch_norm"])
def test_names_of_an_enum_are_names(name, untrained):
    with pytest.raises(ValueError, match=f"'{name}' parameter .*one_hot"):
        NoPropClassifier(Name.FM, **(SMALL | {name: Name.TYPO})).fit(*toy_data())


def test_right_names_of_an_enum_are_taken():
    X, y = toy_data()
    plain = NoPropClassifier("fm", **SMALL).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(
        NoPropClassifier(Name.FM, **SMALL).fit(X, y).predict_proba(X), plain
    )


@pytest.mark.parametrize("shape", [[[1], 2, 3], [1, 2], 5, "123", [1.0, 1, 5]])
def test_an_image_shape_is_three_ints(shape, untrained):
    with pytest.raises(ValueError, match="'image_shape' parameter"):
        NoPropClassifier(image_shape=shape, **SMALL).fit(*toy_data())


def test_what_is_wrong_with_validation_rows_is_said_of_them():
    X, y = toy_data()
    clf = NoPropClassifier(early_stopping=True, **SMALL)
    for X_val, message in ((X[:, :2], "X has 2 features"), (X * np.nan, "contains NaN")):
        with pytest.raises(ValueError, match=f"Of X_val and y_val: .*{message}"):
            clf.fit(X, y, X_val=X_val, y_val=y)


def test_more_bins_than_rows_take_no_memory():
    X, _ = toy_data()
    tracemalloc.start()
    try:
        assert NumberEncoding(X, n_bins=2**22).n_out == X.shape[1] * (1 + len(X) // 4)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20, "and not a number for each bin"


# Images


def flat():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh()).requires_grad_(False)


def test_black_and_white_images_are_the_same_one_by_one():
    rng = np.random.default_rng(0)
    images, y = rng.random((30, 1, 8, 8)) > 0.5, np.arange(30) % 3
    clf = NoPropClassifier(encoder=flat(), **SMALL).fit(images, y)
    lazy = LazyImages([(torch.tensor(image), 0) for image in images])
    np.testing.assert_allclose(clf.predict_proba(lazy), clf.predict_proba(images), atol=1e-6)


def test_palettes_and_single_bits_of_pil_are_colours():
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    red = image.new("RGB", (8, 8), (255, 0, 0))
    (X,) = load_torchvision([(red.convert("P"), 0)], return_X_y=True)[0]
    assert (np.array([255, 0, 0])[:, None, None] == X).all()
    gray = image.new("P", (8, 8), 3)
    gray.putpalette([level for level in range(0, 256, 5) for _ in range(3)])
    bit = image.new("1", (8, 8), 1)
    X, _ = load_torchvision([(gray, 0), (bit, 1)], return_X_y=True)  # of one shape and dtype
    assert X.shape == (2, 1, 8, 8)
    assert X.dtype == np.uint8
    assert X[:, 0, 0, 0].tolist() == [15, 255]


def test_indices_of_lazy_images_may_be_a_mask():
    items = [(np.full((8, 8), i, np.uint8), i) for i in range(6)]
    odd = np.arange(6) % 2 == 1
    assert LazyImages(items, odd).targets.tolist() == [1, 3, 5]
    assert LazyImages(items, [4, -1]).targets.tolist() == [4, 5]
    assert len(LazyImages(items, [])) == 0
    for wrong in ([1.9], [6], [-7], odd[:5], [[1]], ["a"]):
        with pytest.raises(ValueError, match="indices of LazyImages must be ints below 6"):
            LazyImages(items, wrong)


class Exploding(Schedule):
    """A path that does not preserve variance: all of the label at all times, and less noise."""

    def noise(self, t):
        return 10.0 * 0.002**t

    def signal(self, t):
        return torch.ones_like(t)

    def log_snr(self, t):
        return -2.0 * self.noise(t).log()

    def clock(self, t):
        return 10.0 - self.noise(t)

    def velocity_coefficients(self, t):
        return torch.zeros_like(t), -torch.ones_like(t)


@pytest.mark.parametrize("variant", ["ct", "fm"])
def test_trajectories_start_from_as_much_noise_as_the_path_has(variant):
    """Class frequencies of rows that are all alike, by where trajectories end."""
    X, y = np.zeros((300, 2)), np.repeat([0, 1], [90, 210])
    clf = NoPropClassifier(
        variant,
        schedule=Exploding(),
        embedding=np.array([[-1.0], [1.0]]),
        hidden_layer_sizes=(32,),
        inference="trajectory",
        readout="nearest",
        n_draws=400,
        random_state=0,
    ).fit(X, y)
    steps = clf.predict_trajectory(X[:1])
    assert 9.0 < steps.latents[0].std() < 11.0
    assert clf.predict_proba(X[:1])[0, 0] == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize(
    ("rows", "dimensions"),
    [([[-1.0], [0.0], [1.0]], 1), ([[0.0, 1.0], [1.0, 2.0], [3.0, 4.0]], 1)],
    ids=str,
)
def test_embeddings_that_do_not_determine_probabilities_are_warned_of(rows, dimensions):
    X, y = toy_data(60)
    message = rf"3 rows that span {dimensions} dimension.*determined by 2 only"
    with pytest.warns(UserWarning, match=message):
        NoPropClassifier(embedding=rows, **SMALL).fit(X, y)


def test_embeddings_far_from_zero_are_warned_of():
    with pytest.warns(UserWarning, match="times as far from zero as from their mean"):
        NoPropClassifier(embedding=100.0 + np.eye(3), **SMALL).fit(*toy_data(60))


@pytest.mark.parametrize("rows", [np.eye(3), [[0.0, 0.0], [1.0, 0.0], [1.0, 1e-3]]], ids=str)
def test_others_are_not(rows, recwarn):
    NoPropClassifier(embedding=rows, **SMALL).fit(*toy_data(60))
    assert not [w for w in recwarn if w.category is UserWarning]


def test_many_classes_in_general_position_are_not_warned_of(recwarn):
    _warn_of_rows(np.random.default_rng(0).standard_normal((500, 500)))
    assert not list(recwarn)


def test_equal_prototypes_are_refused(untrained):
    X, y = np.repeat([[0.0, 1.0], [1.0, 0.0]], 30, axis=0), np.arange(60) % 2
    with pytest.raises(ValueError, match="equal examples of some classes"):
        NoPropClassifier(embedding="prototype", **SMALL).fit(X, y)
