"""How long the data have a fit train."""

import math
import os
from dataclasses import replace

import joblib
import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from skorch.callbacks import Callback
from torch import nn
from torch.nn.utils import prune

import sknoprop.cycles
import sknoprop.fitting
from sknoprop import NoPropClassifier
from sknoprop.calibrating import Judged
from sknoprop.callbacks import FitCheckpoint
from sknoprop.cycles import LENGTHS, SHORTER, adapt_length
from sknoprop.defaults import fill_in
from sknoprop.training import Trained, TrainingError
from tests.models import toy_data, training_lengths
from tests.test_callbacks import Cut, Epochs, Interrupted, assert_same, outcome
from tests.test_faults import Until


class Nth(Interrupted):
    """The user interrupts in an epoch, counted over all cycles."""

    def __init__(self, number):
        super().__init__(None)
        self.number, self.seen = number, 0

    def on_epoch_begin(self, net, **kwargs):
        self.seen += 1
        self.epoch = len(net.history) if self.seen == self.number else None
        super().on_epoch_begin(net, **kwargs)


class Model(nn.Module):
    def __init__(self, temperature):
        super().__init__()
        self.register_buffer("temperature", torch.tensor(temperature))
        self.number = nn.Parameter(torch.zeros(()), requires_grad=False)


def of_rows(loss):
    """Losses of rows that all have the same."""
    return torch.full((100,), loss, dtype=torch.float64)


class Course:
    """Cycles whose losses, or errors, are known beforehand."""

    def __init__(self, temperature, *losses):
        self.model, self.too_sure = Model(temperature), temperature > 1.0
        self.fresh = Model(1.0).state_dict()
        self.model.number += 1
        self.losses = losses
        self.asked, self.dropouts = [], []

    def train(self, before, n_epochs, dropout):
        history = [] if before is None else before.history
        self.asked.append((len(history), n_epochs))
        self.dropouts.append(dropout)
        self.model.number += 1
        self.model.temperature.fill_(1.0)
        if isinstance(self.losses[len(self.asked) - 1], KeyboardInterrupt):
            raise self.losses[len(self.asked) - 1]
        history = [*history, *[{}] * n_epochs]
        after = self.losses[len(self.asked) - 1]
        interrupted = isinstance(after, str) and after == "interrupted"
        return Trained(history, interrupted=3 if interrupted else None)

    def judge(self):
        self.model.temperature.fill_(2.0)
        loss = self.losses[len(self.asked) - 1]
        if isinstance(loss, Exception):
            raise loss
        return self.judged(loss)

    def judged(self, loss):
        """By what is to be looked at: blocks alone where they are unsure, else their mean."""
        losses = loss if isinstance(loss, torch.Tensor) else of_rows(loss)
        other = torch.full_like(losses, math.nan)
        return Judged(other, losses) if self.too_sure else Judged(losses, other)

    def run(self, losses=1.0, n_epochs=10, fresh=True, **trained):
        first = Trained([{}] * n_epochs, **trained)
        judged = None if losses is None else self.judged(losses)
        fresh = self.fresh if fresh else None
        return adapt_length(self.model, first, judged, self.train, self.judge, n_epochs, fresh)


@pytest.mark.parametrize(
    ("losses", "asked", "n_epochs"),
    [
        ([0.9, 0.8], [(10, 10), (20, 20)], 40),
        ([0.9, 0.95], [(10, 10), (20, 20)], 20),
        ([1.0], [(10, 10)], 10),
        ([float("nan")], [(10, 10)], 10),
        ([TrainingError("diverged")], [(10, 10)], 10),
        ([0.9, TrainingError("diverged")], [(10, 10), (20, 20)], 20),
    ],
    ids=["all", "the first", "none", "nan", "an error", "an error later"],
)
def test_cycles_follow_while_they_pay_and_what_does_not_is_forgotten(losses, asked, n_epochs):
    course = Course(0.9, *losses)
    trained = course.run()
    assert course.asked == asked
    assert len(trained.history) == n_epochs
    n_kept = {10: 0, 20: 1, 40: 2}[n_epochs]
    assert int(course.model.number) == 1 + n_kept
    assert float(course.model.temperature) == pytest.approx(2.0 if n_kept else 0.9)
    assert trained.interrupted is None


@pytest.mark.parametrize(("temperature", "before"), [(0.9, []), (1.3, [1.0])])
def test_each_further_cycle_has_half_the_dropout_and_one_anew_has_all(temperature, before):
    losses = [of_rows(1.0) - gain for gain in (0.1, 0.2)]
    course = Course(temperature, *[GAINS["clearly less"] * -1 + 1] * len(before), *losses)
    course.run()
    assert course.dropouts == [*before, 0.5, 0.25]


def test_who_is_as_sure_as_right_trains_neither_further_nor_anew():
    course = Course(1.0, 0.1, 0.1)
    assert len(course.run().history) == 10
    assert course.asked == []


def gains(mean):
    """By how much each of a hundred rows is likelier: by `mean` standard errors on the average."""
    own = torch.randn(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return 0.1 * ((own - own.mean()) / own.std() + mean / 10)


GAINS = {
    "clearly": gains(1.05),
    "clearly less": gains(-1.05),
    "by chance": gains(0.95),
    "less by chance": gains(-0.95),
    "alike": torch.zeros(100, dtype=torch.float64),
}


@pytest.mark.parametrize("how", [*GAINS, "nan", "an error"])
def test_who_is_too_sure_trains_anew_for_less_long_if_that_clearly_pays(how):
    losses = {"nan": float("nan"), "an error": TrainingError("diverged")}
    losses |= {name: 1.0 - gain for name, gain in GAINS.items()}
    course = Course(1.3, losses[how], 2.0)
    trained = course.run()
    assert course.asked[0] == (0, 10 // SHORTER)
    # Where the rows clearly say that less is worse they are asked about more, too.
    assert course.asked[1:] == ([(10, 10)] if how == "clearly less" else [])
    assert len(trained.history) == (10 // SHORTER if how == "clearly" else 10)
    assert trained.interrupted is None
    # Each training adds one to what it began with, which is nothing.
    assert int(course.model.number) == 1
    assert float(course.model.temperature) == pytest.approx(2.0 if how == "clearly" else 1.3)


@pytest.mark.parametrize(
    ("temperature", "how", "n_epochs"),
    [
        (1.3, ["clearly", "clearly"], 40),
        (1.3, ["clearly", "by chance"], 20),
        (1.3, ["by chance"], 10),
        (0.9, ["by chance", "by chance"], 40),
        (0.9, ["less by chance"], 10),
    ],
)
def test_who_was_too_sure_trains_further_only_if_that_clearly_pays(temperature, how, n_epochs):
    losses = [of_rows(1.0)]
    for name in how:
        losses.append(losses[-1] - GAINS[name])
    worse = [1.0 - GAINS["clearly less"]] if temperature > 1.0 else []
    course = Course(temperature, *worse, *losses[1:])
    assert len(course.run().history) == n_epochs
    assert int(course.model.number) == {10: 1, 20: 2, 40: 3}[n_epochs]
    assert course.asked[: len(worse)] == [(0, 10 // SHORTER)] * len(worse)
    assert course.asked[len(worse) :] == [(10, 10), (20, 20)][: len(how)]


def test_a_cycle_of_few_epochs_has_at_least_one_when_trained_anew():
    course = Course(1.3, 0.9)
    assert len(course.run(n_epochs=SHORTER - 1).history) == 1


def test_of_one_row_nothing_is_clear():
    one = torch.ones(1)
    course = Course(1.3, 0.5 * one)
    assert len(course.run(one).history) == 10
    course = Course(0.9, 0.5 * one, one)
    assert len(course.run(one).history) == 20, "but it may be likelier"


@pytest.mark.parametrize("temperature", [0.9, 1.3])
def test_nor_do_those_that_cannot_be_judged_or_were_interrupted(temperature):
    for run in ({"losses": None}, {"interrupted": 4}):
        course = Course(temperature, 0.1, 0.1)
        trained = course.run(**run)
        assert course.asked == []
        assert trained.interrupted == run.get("interrupted")


def test_what_went_on_from_earlier_training_is_not_trained_anew():
    course = Course(1.3, 0.1)
    assert len(course.run(fresh=False).history) == 10
    assert course.asked == []


@pytest.mark.parametrize("how", ["interrupted", KeyboardInterrupt()], ids=["later", "at once"])
def test_who_interrupts_gets_the_cycles_before(how):
    course = Course(0.9, 0.8, how)
    trained = course.run()
    assert trained.interrupted == len(trained.history) == 20
    assert int(course.model.number) == 2
    course = Course(1.3, how)
    trained = course.run()
    assert trained.interrupted == len(trained.history) == 10
    assert float(course.model.temperature) == pytest.approx(1.3)


def parity(n=200, seed=0):
    """A rule without noise, which takes many steps to learn."""
    X = np.random.default_rng(seed).integers(0, 2, (n, 6)).astype(float)
    return X, X[:, 0] != X[:, 1]


def blurred(n=200, seed=0):
    """Labels that one column says little about: more steps learn the noise."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 6))
    return X, (X[:, 0] > 0) ^ (rng.random(n) < 0.4)


FAST = {"n_blocks": 2, "hidden_layer_sizes": (32,), "random_state": 0}


def n_epochs(X, y, **params):
    """Of a cycle."""
    return fill_in(NoPropClassifier(**params).get_params(), len(X), len(np.unique(y)))["max_iter"]


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
def test_more_is_trained_where_it_pays_on_fresh_rows(variant):
    (X, y), (fresh, labels) = parity(), parity(seed=1)
    cycle = n_epochs(X, y)
    auto = NoPropClassifier(variant, **FAST).fit(X, y)
    one = NoPropClassifier(variant, **FAST, max_iter=cycle).fit(X, y)
    assert auto.n_iter_ in (2 * cycle, 4 * cycle)
    assert one.n_iter_ == cycle
    assert log_loss(labels, auto.predict_proba(fresh)) < log_loss(labels, one.predict_proba(fresh))


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
def test_and_not_where_rows_say_little(variant):
    """Two hundred of them do not say whether less would be better, either."""
    X, y = blurred()
    auto = NoPropClassifier(variant, **FAST).fit(X, y)
    one = NoPropClassifier(variant, **FAST, max_iter=n_epochs(X, y)).fit(X, y)
    np.testing.assert_array_equal(auto.predict_proba(X), one.predict_proba(X))
    assert auto.temperature_ == one.temperature_ > 1.0


#: What learns by heart, given the time.
LARGE = {"n_blocks": 5, "hidden_layer_sizes": (128, 64), "random_state": 0}


def vague(n=1600, seed=0):
    """Twenty columns of which one says something of the label."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 20))
    return X, (X[:, 0] > 0) ^ (rng.random(n) < 0.15)


def test_less_is_trained_where_rows_would_be_learnt_by_heart():
    (X, y), (fresh, labels) = vague(), vague(seed=1)
    cycle = n_epochs(X, y)
    auto = NoPropClassifier(**LARGE).fit(X, y)
    whole = NoPropClassifier(**LARGE, max_iter=cycle).fit(X, y)
    assert auto.n_iter_ == cycle // SHORTER
    assert log_loss(labels, auto.predict_proba(fresh)) < log_loss(
        labels, whole.predict_proba(fresh)
    )


@pytest.fixture
def less_pays(monkeypatch):
    """Whatever rows say, a shorter cycle is clearly better where one is tried."""
    monkeypatch.setattr(sknoprop.cycles, "_verdict", lambda old, new, too_sure: int(too_sure))


@pytest.mark.parametrize(
    ("variant", "options"),
    [("dt", {}), ("ct", {}), ("fm", {}), ("dt", {"embedding": "learned"}), ("fm", {"n_jobs": 2})],
    ids=str,
)
def test_all_that_is_left_of_a_whole_cycle_is_the_time_it_took(variant, options, less_pays):
    X, y = vague()
    cycle = n_epochs(X, y)
    with joblib.parallel_config("threading"):
        auto = NoPropClassifier(variant, **LARGE, **options).fit(X, y)
        short = NoPropClassifier(variant, **LARGE, **options, max_iter=cycle // SHORTER).fit(X, y)
    assert auto.n_iter_ == len(auto.loss_curve_) == len(auto.history_) == cycle // SHORTER
    np.testing.assert_array_equal(auto.loss_curve_, short.loss_curve_)
    np.testing.assert_array_equal(auto.predict_proba(X), short.predict_proba(X))
    assert auto.temperature_ == short.temperature_


def test_a_warm_start_of_blocks_that_are_too_sure_is_one_cycle_more(less_pays, monkeypatch):
    X, y = vague()
    cycle = n_epochs(X, y)
    clf = NoPropClassifier(**LARGE, warm_start=True).fit(X, y)
    lengths = training_lengths(monkeypatch)
    assert clf.fit(X, y).n_iter_ == cycle // SHORTER + cycle
    assert clf.temperature_ != 1.0
    assert lengths == [cycle]


class UpTo(Callback):
    """Raises an error when so many epochs are done, in all trainings together."""

    def __init__(self, number, error):
        self.number, self.error, self.seen = number, error, 0

    def on_epoch_end(self, net, **kwargs):
        self.seen += 1
        if self.seen >= self.number:
            raise self.error


@pytest.mark.parametrize("more", [1, 5])
def test_a_callback_that_ends_the_shorter_cycle_ends_training(more, monkeypatch):
    X, y = vague()
    cycle = n_epochs(X, y)
    lengths = training_lengths(monkeypatch)
    clf = NoPropClassifier(**LARGE, callbacks=[UpTo(cycle + more, KeyboardInterrupt())]).fit(X, y)
    assert clf.n_iter_ == cycle
    assert lengths == [cycle, cycle // SHORTER]


class Pruning(Callback):
    """Gives the model parameters of other names."""

    def on_train_begin(self, net, **kwargs):
        layer = net.module_.encoder.layers[0]
        prune.l1_unstructured(layer, "weight", amount=0.2)


def test_what_a_callback_has_rebuilt_is_not_trained_anew():
    X, y = vague()
    clf = NoPropClassifier(**LARGE, callbacks=[Pruning()]).fit(X, y)
    assert clf.n_iter_ == n_epochs(X, y)


def test_a_shorter_cycle_that_diverges_is_forgotten(monkeypatch):
    X, y = vague()
    cycle = n_epochs(X, y)
    one = NoPropClassifier(**LARGE, max_iter=cycle).fit(X, y)
    train = sknoprop.fitting.train

    def diverge(model, rows, judge, settings, *others):
        trained = train(model, rows, judge, settings, *others)
        if settings.n_epochs < cycle:
            raise TrainingError("diverged")
        return trained

    monkeypatch.setattr(sknoprop.fitting, "train", diverge)
    clf = NoPropClassifier(**LARGE).fit(X, y)
    assert clf.n_iter_ == cycle
    np.testing.assert_array_equal(clf.predict_proba(X), one.predict_proba(X))


def test_one_that_was_cut_off_while_it_was_trained_anew_ends_as_if_it_had_not(tmp_path):
    X, y = vague(800)
    cycle, path = n_epochs(X, y), tmp_path / "fit.ckpt"
    whole = NoPropClassifier(**LARGE).fit(X, y)
    shorter = cycle // SHORTER
    runs = {10: range(1, 11), cycle - 7: [*range(11, cycle + 1), 1, 2, 3]}
    for cut, numbers in runs.items():
        seen = Epochs()
        end = UpTo(cut, RuntimeError("cut"))
        clf = NoPropClassifier(**LARGE, callbacks=[FitCheckpoint(path), seen, end])
        with pytest.raises(RuntimeError, match="cut"):
            clf.fit(X, y)
        assert seen.numbers == list(numbers)
    seen = Epochs()
    clf = NoPropClassifier(**LARGE, callbacks=[FitCheckpoint(path), seen]).fit(X, y)
    assert seen.numbers[: shorter - 3] == list(range(4, shorter + 1))
    assert_same(outcome(clf), outcome(whole))
    assert os.listdir(tmp_path) == []


def test_a_warm_start_goes_on_from_what_was_trained_anew(less_pays):
    X, y = vague()
    cycle = n_epochs(X, y)
    auto = NoPropClassifier(**LARGE, warm_start=True).fit(X, y)
    short = NoPropClassifier(**LARGE, warm_start=True, max_iter=cycle // SHORTER).fit(X, y)
    for clf in (auto, short):
        clf.set_params(max_iter=3).fit(X, y)
        assert clf.n_iter_ == cycle // SHORTER + 3
    np.testing.assert_array_equal(auto.predict_proba(X), short.predict_proba(X))


def test_who_interrupts_the_shorter_cycle_keeps_the_first(tmp_path):
    X, y = vague()
    cycle, path = n_epochs(X, y), tmp_path / "fit.ckpt"
    one = NoPropClassifier(**LARGE, max_iter=cycle).fit(X, y)
    clf = NoPropClassifier(**LARGE, callbacks=[FitCheckpoint(path), Nth(cycle + 5)])
    with pytest.warns(ConvergenceWarning, match=f"after {cycle} epochs"):
        clf.fit(X, y)
    assert clf.n_iter_ == cycle
    np.testing.assert_array_equal(clf.predict_proba(X), one.predict_proba(X))
    # Nothing of the fit is lost: run again, it ends as if it had not been interrupted.
    seen = Epochs()
    clf = NoPropClassifier(**LARGE, callbacks=[FitCheckpoint(path), seen]).fit(X, y)
    assert seen.numbers == list(range(5, cycle // SHORTER + 1))
    assert_same(outcome(clf), outcome(NoPropClassifier(**LARGE).fit(X, y)))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "params",
    [
        {"calibrate": False},
        {"inference": "trajectory"},
        {"n_blocks": 1},
        {"max_iter": 38},
    ],
    ids=str,
)
def test_a_cycle_is_all_where_nothing_can_judge_it(params):
    X, y = parity()
    clf = NoPropClassifier(**FAST | params).fit(X, y)
    assert clf.n_iter_ == n_epochs(X, y, **{"max_iter": params.get("max_iter", "auto")})


def test_rows_to_validate_with_judge_as_well():
    (X, y), (fresh, labels) = parity(), parity(seed=1)
    clf = NoPropClassifier(**FAST).fit(X, y, X_val=fresh, y_val=labels)
    assert clf.n_iter_ > n_epochs(X, y)
    assert len(clf.validation_scores_) == len(clf.loss_curve_) == clf.n_iter_


def test_workers_train_the_same_cycles():
    X, y = parity()
    options = FAST | {"dtype": "float64"}
    together = NoPropClassifier(**options).fit(X, y)
    with joblib.parallel_config("threading"):
        apart = NoPropClassifier(**options, n_jobs=2).fit(X, y)
    assert apart.n_iter_ == together.n_iter_ > n_epochs(X, y)
    np.testing.assert_allclose(apart.predict_proba(X), together.predict_proba(X), atol=1e-6)


def test_two_fits_agree_and_a_warm_start_goes_on():
    X, y = parity()
    clf = NoPropClassifier(**FAST, warm_start=True).fit(X, y)
    twin = NoPropClassifier(**FAST).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), twin.predict_proba(X))
    known = clf.n_iter_
    assert clf.fit(X, y).n_iter_ >= known + n_epochs(X, y)


def test_who_interrupts_a_further_cycle_keeps_those_before():
    X, y = parity()
    cycle = n_epochs(X, y)
    one = NoPropClassifier(**FAST, max_iter=cycle).fit(X, y)
    for epoch in (cycle + 1, cycle + 5):
        clf = NoPropClassifier(**FAST, callbacks=[Interrupted(epoch)])
        with pytest.warns(ConvergenceWarning, match=f"after {cycle} epochs"):
            clf.fit(X, y)
        assert clf.n_iter_ == cycle
        np.testing.assert_array_equal(clf.predict_proba(X), one.predict_proba(X))


def test_a_fit_that_was_cut_off_in_each_cycle_ends_as_if_it_had_not(tmp_path):
    X, y = parity()
    cycle, path = n_epochs(X, y), tmp_path / "fit.ckpt"
    whole = NoPropClassifier(**FAST).fit(X, y)
    assert whole.n_iter_ == cycle * (1 + sum(LENGTHS)), "else there is less to cut"
    begun = [0, 9, cycle + 9]
    for cut in (10, cycle + 10, 2 * cycle + 10):
        seen = Epochs()
        clf = NoPropClassifier(**FAST, callbacks=[FitCheckpoint(path), seen, Cut(cut)])
        with pytest.raises(RuntimeError, match="cut"):
            clf.fit(X, y)
        assert seen.numbers == list(range(begun.pop(0) + 1, cut + 1))
        begun[:1] = [cut] if begun else []
    clf = NoPropClassifier(**FAST, callbacks=[FitCheckpoint(path)]).fit(X, y)
    assert_same(outcome(clf), outcome(whole))
    assert os.listdir(tmp_path) == []


def test_one_that_was_cut_off_between_cycles_trains_none_of_them_again(tmp_path, monkeypatch):
    X, y = blurred()
    path, cycle = tmp_path / "fit.ckpt", n_epochs(X, y)
    whole = NoPropClassifier(**FAST).fit(X, y)

    def cut(*args, **kwargs):
        raise RuntimeError("cut")

    checkpoint, seen = FitCheckpoint(path), Epochs()
    clf = NoPropClassifier(**FAST, callbacks=[checkpoint, seen])
    with monkeypatch.context() as patch:
        patch.setattr(sknoprop.fitting, "calibrate", cut)
        with pytest.raises(RuntimeError, match="cut"):
            clf.fit(X, y)
    assert len(seen.numbers) == cycle
    assert path.exists()
    assert_same(outcome(clf.fit(X, y)), outcome(whole))
    assert len(seen.numbers) == cycle + cycle // SHORTER, "the first cycle is over"
    assert os.listdir(tmp_path) == []


def test_a_callback_that_ends_a_cycle_ends_them_all():
    X, y = parity()
    cycle = n_epochs(X, y)
    clf = NoPropClassifier(**FAST, callbacks=[Until(cycle - 3)]).fit(X, y)
    assert clf.n_iter_ == cycle - 3
    clf = NoPropClassifier(**FAST, callbacks=[Until(2 * cycle - 3)]).fit(X, y)
    assert clf.n_iter_ in (2 * cycle - 3, cycle), "what was cut short may not have paid"


def test_a_checkpoint_keeps_no_states_after_a_fit_that_was_interrupted(tmp_path):
    X, y = parity()
    checkpoint = FitCheckpoint(tmp_path / "fit.ckpt")
    clf = NoPropClassifier(**FAST, callbacks=[checkpoint, Interrupted(n_epochs(X, y) + 3)])
    with pytest.warns(ConvergenceWarning):
        clf.fit(X, y)
    assert checkpoint.over_ == []
    assert os.listdir(tmp_path) == ["fit.ckpt"]


def test_a_warm_start_says_how_many_of_its_own_epochs_are_kept():
    X, y = parity()
    cycle = n_epochs(X, y)
    clf = NoPropClassifier(**FAST, warm_start=True, max_iter=4).fit(X, y)
    clf.set_params(max_iter="auto", callbacks=[Interrupted(4 + cycle + 3)])
    with pytest.warns(ConvergenceWarning, match=f"after {cycle} epochs"):
        clf.fit(X, y)
    assert clf.n_iter_ == 4 + cycle


def test_each_cycle_has_noise_of_its_own(monkeypatch):
    seen = []
    train = sknoprop.fitting.train

    def spy(model, rows, judge, settings, seeds, before):
        seen.append(seeds.epoch)
        return train(model, rows, judge, settings, seeds, before)

    monkeypatch.setattr(sknoprop.fitting, "train", spy)
    X, y = parity()
    cycle = n_epochs(X, y)
    clf = NoPropClassifier(**FAST, warm_start=True).fit(X, y)
    assert seen == [0, cycle, 2 * cycle]
    clf.fit(X, y)
    assert seen[3] == 4 * cycle


def dropouts(monkeypatch):
    """What share of dropout each training is asked to have, and what the model has then."""
    seen = []
    train = sknoprop.fitting.train

    def spy(model, rows, judge, settings, seeds, before):
        seen.append((settings.dropout, model.encoder.dropout.p, model.head.dropout.p))
        return train(model, rows, judge, settings, seeds, before)

    monkeypatch.setattr(sknoprop.fitting, "train", spy)
    return seen


@pytest.mark.parametrize(("dropout", "shares"), [("auto", [1.0, 0.5, 0.25]), (0.3, [1.0] * 3)])
def test_dropout_falls_from_cycle_to_cycle_if_it_is_left_to_the_data(dropout, shares, monkeypatch):
    X, y = parity()
    seen = dropouts(monkeypatch)
    clf = NoPropClassifier(**FAST, dropout=dropout).fit(X, y)
    p = 0.35 if dropout == "auto" else dropout
    assert seen == [(share, p, p) for share in shares]
    assert clf.blocks_.encoder.dropout.p == clf.blocks_.head.dropout.p == p


@pytest.mark.parametrize("head", ["light", "paper"])
def test_a_share_of_dropout_is_dropout_of_that_much(head, monkeypatch):
    X, y = parity()
    train = sknoprop.fitting.train

    def half(model, rows, judge, settings, *others):
        return train(model, rows, judge, replace(settings, dropout=0.5), *others)

    options = FAST | {"head": head, "max_iter": 5, "calibrate": False}
    by_parameter = NoPropClassifier(**options, dropout=0.2).fit(X, y)
    whole = NoPropClassifier(**options, dropout=0.4).fit(X, y)
    monkeypatch.setattr(sknoprop.fitting, "train", half)
    by_share = NoPropClassifier(**options, dropout=0.4).fit(X, y)
    np.testing.assert_array_equal(by_share.predict_proba(X), by_parameter.predict_proba(X))
    assert (by_share.predict_proba(X) != whole.predict_proba(X)).any()


def test_an_error_in_a_cycle_of_less_dropout_leaves_the_model_with_all_of_it():
    X, y = parity()
    cut = UpTo(n_epochs(X, y) + 3, TrainingError("diverged"))
    clf = NoPropClassifier(**FAST, callbacks=[cut]).fit(X, y)
    assert clf.n_iter_ == n_epochs(X, y)
    assert clf.blocks_.head.dropout.p == 0.35


def test_a_stream_has_its_epochs_and_no_more():
    X, y = toy_data(60)
    clf = NoPropClassifier(**FAST)
    for _ in range(3):
        clf.partial_fit(X, y, classes=[0, 1, 2])
    assert clf.n_iter_ == 3
