"""The engine: noise, batches, history, faults."""

import copy
import signal
import sys
from dataclasses import astuple, replace

import joblib
import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    Freezer,
    GradientNormClipping,
    LRScheduler,
    ProgressBar,
    TrainEndCheckpoint,
)

from sknoprop import NoPropClassifier
from sknoprop.model import NoPropModel
from sknoprop.training import Batches, NoiseSource, TrainingError, states
from sknoprop.training.dense import DenseStep
from sknoprop.training.seeds import Seeds
from sknoprop.variants import Levels
from tests.models import toy_data

SMALL = {"n_blocks": 3, "hidden_layer_sizes": (8,), "max_iter": 4, "random_state": 0}
HELD_OUT = {"early_stopping": True}
SGD = {"learning_rate": "constant", "optimizer": "sgd"}


def noise_source(blocks, n_draws=2, dim=3):
    seeds = Seeds(0)
    return NoiseSource(
        [seeds.generator("noise", i) for i in blocks],
        seeds.generator("shared"),
        n_draws=n_draws,
        dim=dim,
        timed=True,
    )


def test_a_blocks_noise_does_not_depend_on_its_neighbours():

    together, alone = noise_source(range(4)).draw(10), noise_source([2]).draw(10)
    assert torch.equal(together.eps[2], alone.eps[0])
    assert torch.equal(together.uniform[2], alone.uniform[0])
    assert not torch.equal(together.eps[1], together.eps[2])


def test_noise_is_standard():
    draws = noise_source([0], n_draws=50, dim=20).draw(200)
    assert abs(float(draws.eps.mean())) < 5 / 200_000**0.5
    assert float(draws.eps.std()) == pytest.approx(1.0, abs=0.01)
    assert 0 <= float(draws.uniform.min()) < 0.001
    assert 0.999 < float(draws.uniform.max()) < 1


def test_noise_of_the_read_out_is_standard_where_one_is_trained(monkeypatch):
    source = noise_source([0], dim=20)
    assert float(source.draw(2_000).last.std()) == pytest.approx(1.0, abs=0.02)
    assert not replace(source, reads=False).draw(20).last.any()
    seen, own = [], NoPropModel.readout_loss

    def looked_at(model, u, y, draws, *args):
        seen.append(draws.last)
        return own(model, u, y, draws, *args)

    monkeypatch.setattr(NoPropModel, "readout_loss", looked_at)
    X, y = toy_data(200)
    NoPropClassifier("dt", readout="linear", **SMALL).fit(X, y)
    noise = torch.cat(seen)
    assert abs(float(noise.mean())) < 0.2
    assert float(noise.std()) == pytest.approx(1.0, abs=0.1)


def test_seeds_differ_by_purpose_and_block():
    seeds = Seeds(0)
    first = {
        float(torch.rand(1, generator=seeds.generator(purpose, block)))
        for purpose in ("init", "noise", "dropout", "order", "shared", "predict")
        for block in range(5)
    }
    assert len(first) == 30


@pytest.mark.parametrize("gathered", [1, 8, 2**14])
@pytest.mark.parametrize(("n", "batch_size", "sizes"), [(10, 4, [4, 3, 3]), (65, 64, [33, 32])])
def test_an_epoch_is_every_row_once(n, batch_size, sizes, gathered, monkeypatch):
    monkeypatch.setattr("sknoprop.training.batches.GATHERED_NUMBERS", gathered)
    inputs = torch.arange(n, dtype=torch.float32)[:, None]
    order = torch.Generator().manual_seed(0)
    batches = Batches(inputs, torch.arange(n), batch_size, order, noise_source([0, 1]))
    seen = []
    for _ in range(2):
        parts = list(batches)
        assert sorted(map(len, parts), reverse=True) == sizes
        noised = [batch.noised() for batch in parts]
        rows = torch.cat([own.y for own in noised])
        assert sorted(rows.tolist()) == list(range(n))
        for batch, own in zip(parts, noised, strict=True):
            assert torch.equal(batch.inputs[:, 0].long(), own.y)
            assert own.draws.eps.shape == (2, len(batch), 2, 3)
        seen.append(rows.tolist())
    assert seen[0] != seen[1], "shuffled anew"


def test_noise_levels_are_those_of_each_batchs_own_draws():
    """They are computed for many batches at once."""
    inputs = torch.zeros(30, 1)
    source = replace(noise_source([0, 1]), levels=lambda u: Levels(u, 2 * u, 3 * u, 4 * u))
    batches = Batches(inputs, torch.arange(30), 7, torch.Generator().manual_seed(0), source)
    for batch in batches:
        draws = batch.noised().draws
        for factor, field in enumerate(astuple(draws.levels), 1):
            assert torch.equal(field, factor * draws.uniform)


def test_history_has_epochs_with_one_loss_a_block():
    clf = NoPropClassifier(**SMALL).fit(*toy_data())
    assert clf.n_iter_ == 4
    assert clf.loss_curve_.shape == (4, 3)
    assert np.isfinite(clf.loss_curve_).all()
    assert len(clf.history_) == 4
    assert clf.history_[-1]["batches"] == [{}], "no record of single batches"
    # Nothing is shared, so the objective is the blocks' losses and (for "dt") the read-out's.
    fm = NoPropClassifier("fm", **SMALL).fit(*toy_data())
    np.testing.assert_allclose(fm.history_[:, "train_loss"], fm.loss_curve_.sum(1), rtol=1e-5)


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
def test_losses_fall(variant):
    options = SMALL | {"max_iter": 60}
    clf = NoPropClassifier(variant, **options).fit(*toy_data(n=200))
    assert (clf.loss_curve_[-5:].mean(0) < clf.loss_curve_[:5].mean(0)).all()


def test_callbacks_that_listen_to_steps_find_them_in_the_history():
    seen = []

    class Listening(Callback):
        def on_batch_end(self, net, **kwargs):
            seen.append(net.history[-1, "batches", -1, ("train_loss", "train_batch_size")])

    X, y = toy_data(90)
    clf = NoPropClassifier(**SMALL, batch_size=40, callbacks=[Listening()]).fit(X, y)
    assert [row for epoch in clf.history_[:, "batches"] for row in epoch] == [
        {"train_loss": loss, "train_batch_size": size} for loss, size in seen
    ]
    clipped = NoPropClassifier(**SMALL, callbacks=[GradientNormClipping(1.0)]).fit(X, y)
    assert clipped.history_[-1]["batches"] == [{}], "it looks at gradients alone"
    losses, sizes = np.array(seen).reshape(clf.n_iter_, -1, 2).transpose(2, 0, 1)
    assert (sizes == 30).all()
    np.testing.assert_allclose(losses.mean(1), clf.history_[:, "train_loss"], rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Maximum iterations", "ignore:Setting self.device")
@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda path: Checkpoint(dirname=path, monitor="train_loss_best"), {}),
        (lambda path: Checkpoint(dirname=path, f_pickle="net.pkl", load_best=True), HELD_OUT),
        (lambda path: TrainEndCheckpoint(dirname=path), {}),
        (lambda path: ProgressBar(detect_notebook=False), {}),
        (lambda path: ProgressBar("count", detect_notebook=False), {}),
        (lambda path: ProgressBar(detect_notebook=False), HELD_OUT),
        (lambda path: LRScheduler("CyclicLR", base_lr=1e-3, step_every="batch", max_lr=0.01), SGD),
        (lambda path: LRScheduler("ReduceLROnPlateau", patience=0, threshold=0.9), SGD | HELD_OUT),
        (lambda path: EarlyStopping(load_best=True), HELD_OUT),
        (lambda path: Freezer("encoder*"), {}),
    ],
)
def test_skorchs_callbacks_work(make, options, tmp_path):
    X, y = toy_data(90)
    callback = make(str(tmp_path))
    clf = NoPropClassifier(**SMALL | options, callbacks=[callback]).fit(X, y)
    plain = NoPropClassifier(**SMALL | options).fit(X, y)
    same = np.array_equal(clf.predict_proba(X), plain.predict_proba(X))
    if isinstance(callback, LRScheduler):
        epochs = callback.step_every == "epoch"
        rates = clf.history_[:, "event_lr"] if epochs else clf.history_[:, "batches", :, "event_lr"]
        assert len(np.unique(rates)) > 1
    elif isinstance(callback, Freezer):
        encoder = clf.blocks_.encoder.layers[0].weight
        still = SMALL | {"max_iter": 1, "learning_rate_init": 1e-30}
        untrained = NoPropClassifier(**still).fit(X, y)
        torch.testing.assert_close(encoder, untrained.blocks_.encoder.layers[0].weight)
    elif isinstance(callback, EarlyStopping):
        assert callback.best_epoch_ == 1 + int(np.argmin(clf.history_[:, "valid_loss"]))
    else:
        assert same or getattr(callback, "load_best", False)
    if isinstance(callback, Checkpoint | TrainEndCheckpoint):
        kept = torch.load(next(tmp_path.glob("*params.pt")), weights_only=True)
        assert kept.keys() == clf.blocks_.state_dict().keys()


def test_callbacks_take_part():
    class Counter(Callback):
        def __init__(self):
            self.batches = self.epochs = 0

        def on_batch_end(self, net, training, **kwargs):
            self.batches += training

        def on_epoch_end(self, net, **kwargs):
            self.epochs += 1
            assert len(net.history[-1, "block_losses"]) == 3

    first, second = Counter(), Counter()
    X, y = toy_data(n=200)
    NoPropClassifier(**SMALL, batch_size=100, callbacks=[first, ("named", second)]).fit(X, y)
    assert (first.epochs, first.batches) == (second.epochs, second.batches) == (4, 8)


def test_divergence_is_said_and_an_earlier_fit_survives():
    X, y = toy_data()
    clf = NoPropClassifier(**SMALL).fit(X, y)
    before = clf.predict_proba(X)
    clf.set_params(learning_rate_init=1e38, optimizer="sgd", learning_rate="constant")
    with pytest.raises(TrainingError, match=r"loss of block\(s\) .* not finite in epoch .*"):
        clf.fit(X[:, :3], y)
    assert clf.n_features_in_ == 5
    np.testing.assert_array_equal(clf.predict_proba(X), before)


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("verbose", [1, 2])
def test_without_a_console_there_is_no_bar(verbose, n_jobs, monkeypatch):
    """As where Python is started by pythonw."""
    X, y = toy_data()
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", None)
    with joblib.parallel_config("threading"):
        clf = NoPropClassifier(**SMALL, verbose=verbose, n_jobs=n_jobs, early_stopping=True)
        assert clf.fit(X, y).n_iter_ > 0


def test_verbose_shows_a_bar_then_also_a_line_an_epoch(capsys):
    NoPropClassifier(**SMALL, verbose=1, early_stopping=True).fit(*toy_data())
    shown = capsys.readouterr()
    assert "3 blocks" in shown.err
    assert "4/4" in shown.err
    assert "loss=" in shown.err
    assert "validation=" in shown.err
    assert shown.out == ""
    NoPropClassifier(**SMALL, verbose=2).fit(*toy_data())
    assert "train_loss" in capsys.readouterr().out
    NoPropClassifier(**SMALL).fit(*toy_data())
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""


@pytest.mark.parametrize(
    "optimizer", ["adam", "adamw", "sgd", torch.optim.RMSprop, torch.optim.Adagrad]
)
@pytest.mark.parametrize("learning_rate", ["constant", "one-cycle"])
def test_optimizers(optimizer, learning_rate):
    """With momentum, betas or neither, with weight decay or without."""
    options = {"learning_rate": learning_rate, "n_iter_no_change": None}
    clf = NoPropClassifier(**SMALL, optimizer=optimizer, **options)
    assert np.isfinite(clf.fit(*toy_data()).loss_curve_).all()


class Interrupting(Callback):
    """Ctrl-C in the middle of an epoch, or a callback's way of ending training."""

    def __init__(self, epoch, batch=None):
        self.epoch, self.batch, self.seen = epoch, batch, 0

    def on_epoch_begin(self, net, **kwargs):
        self.seen = 0

    def on_batch_end(self, net, training, **kwargs):
        self.seen += 1
        if self.batch == self.seen and len(net.history) == self.epoch:
            raise KeyboardInterrupt

    def on_epoch_end(self, net, **kwargs):
        if self.batch is None and len(net.history) == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("epoch", "batch", "n_iter"), [(2, None, 2), (3, 1, 2), (1, 1, 0)])
def test_a_callback_may_end_training(epoch, batch, n_iter):
    clf = NoPropClassifier(**SMALL, callbacks=[Interrupting(epoch, batch)]).fit(*toy_data())
    assert clf.n_iter_ == n_iter
    assert clf.loss_curve_.shape == (n_iter, 3)
    assert clf.predict(toy_data()[0]).shape == (40,)


@pytest.mark.parametrize("moment", ["on_train_begin", "on_epoch_end", "on_train_end"])
def test_a_callback_may_say_stop_at_any_moment(moment):
    callback = Callback()
    setattr(callback, moment, stop)
    clf = NoPropClassifier(**SMALL, callbacks=[callback]).fit(*toy_data())
    assert clf.n_iter_ == {"on_train_begin": 0, "on_epoch_end": 1, "on_train_end": 4}[moment]


def stop(*args, **kwargs):
    raise KeyboardInterrupt


@pytest.fixture
def heard():
    """Python's way with Ctrl-C, which it does not have where it was started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Signalling(Callback):
    """A user's Ctrl-C while a callback runs."""

    def __init__(self, moment, epoch):
        setattr(self, moment, self.signal)
        self.epoch = epoch

    def signal(self, net, **kwargs):
        if len(net.history) == self.epoch:
            signal.raise_signal(signal.SIGINT)


def outcome(clf):
    """What a training leaves, to the last bit."""
    moments = [own[k] for own in clf._trained.optimizer.values() for k in sorted(own)]
    tensors = [*clf.blocks_.state_dict().values(), *moments, torch.tensor(clf.loss_curve_)]
    return [tensor.clone() for tensor in tensors]


def assert_same(one, two):
    for ours, theirs in zip(one, two, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize(
    ("moment", "epoch", "n_iter"),
    [("on_batch_end", 3, 2), ("on_grad_computed", 2, 1), ("on_epoch_end", 3, 3)],
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"variant": "fm", "embedding": "learned", "early_stopping": True},
        {"learning_rate": "constant", "optimizer": torch.optim.RMSprop, "blocks_at_once": 2},
    ],
)
def test_a_user_who_interrupts_gets_the_last_whole_epoch(moment, epoch, n_iter, options):
    """To the last bit the model of a callback's that ends training then; said in a warning."""
    X, y = toy_data(60)
    options = SMALL | {"batch_size": 20, "dropout": 0.3, "batch_norm": True} | options
    clf = NoPropClassifier(**options, callbacks=[Signalling(moment, epoch)])
    with pytest.warns(ConvergenceWarning, match=rf"interrupted after {n_iter} of 4 epochs"):
        clf.fit(X, y)
    assert clf.n_iter_ == len(clf.history_) == len(clf.loss_curve_) == n_iter
    ended = NoPropClassifier(**options, callbacks=[Interrupting(n_iter)]).fit(X, y)
    assert_same(outcome(clf), outcome(ended))


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize(
    ("moment", "epoch", "part"),
    [
        ("on_train_begin", 0, False),
        ("on_batch_end", 1, False),
        ("on_train_end", 4, False),
        ("on_batch_end", 5, True),
        ("on_epoch_end", 5, True),  # a stream is interrupted, not a part of it
    ],
)
def test_without_a_whole_epoch_an_interrupt_is_the_callers(moment, epoch, part):
    X, y = toy_data()
    clf = NoPropClassifier(**SMALL).fit(X, y)
    before = outcome(clf)
    clf.set_params(callbacks=[Signalling(moment, epoch)])
    with pytest.raises(KeyboardInterrupt):
        clf.partial_fit(X, y) if part else clf.fit(X[:, :2], y)
    assert clf.n_features_in_ == 5
    assert_same(outcome(clf), before)


@pytest.mark.parametrize("step", [1, 3, 7])
def test_an_interrupt_in_a_warm_start_keeps_its_whole_epochs(step, monkeypatch):
    X, y = toy_data(60)
    options = SMALL | {"batch_size": 20, "warm_start": True}
    clf, twin = (NoPropClassifier(**options).fit(X, y) for _ in range(2))
    with monkeypatch.context() as patch:
        interrupted_at(patch, step)
        if step <= 3:  # in the first epoch
            with pytest.raises(KeyboardInterrupt):
                clf.fit(X, y)
        else:
            with pytest.warns(ConvergenceWarning, match="interrupted after 2 of 4 epochs"):
                clf.fit(X, y)
    if step > 3:
        twin.set_params(callbacks=[Interrupting(6)]).fit(X, y).set_params(callbacks=None)
    assert clf.n_iter_ == (4 if step <= 3 else 6)
    assert_same(outcome(clf), outcome(twin))
    assert_same(outcome(clf.partial_fit(X, y)), outcome(twin.partial_fit(X, y)))


def interrupted_at(monkeypatch, step):
    """Ctrl-C in the middle of a step."""
    backward, n_steps = DenseStep.backward, 0

    def interrupted(*args):
        nonlocal n_steps
        n_steps += 1
        if n_steps == step:
            raise KeyboardInterrupt
        return backward(*args)

    monkeypatch.setattr(DenseStep, "backward", interrupted)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("epoch", [1, 3])
def test_an_interrupt_while_an_epoch_is_copied(epoch, monkeypatch):
    """Copies are half made then, but training itself stands at the end of an epoch."""
    X, y = toy_data()
    copied, n_calls = states._copied, 0

    def interrupted(learnt, kept):
        nonlocal n_calls
        n_calls += 1
        if n_calls == epoch:
            if kept:
                kept["model"]["head.out.weight"].fill_(torch.nan)
            signal.raise_signal(signal.SIGINT)
        return copied(learnt, kept)

    options = SMALL | {"early_stopping": True}
    with monkeypatch.context() as patch:
        patch.setattr(states, "_copied", interrupted)
        with pytest.warns(ConvergenceWarning, match=f"interrupted after {epoch} of 4 epochs"):
            clf = NoPropClassifier(**options).fit(X, y)
    ended = NoPropClassifier(**options, callbacks=[Interrupting(epoch)]).fit(X, y)
    assert_same(outcome(clf), outcome(ended))


@pytest.mark.usefixtures("heard")
def test_an_interrupt_while_tensors_are_copied(monkeypatch):
    X, y = toy_data()
    copied, n_calls = torch._foreach_copy_, 0

    def interrupted(copies, tensors):
        nonlocal n_calls
        n_calls += 1
        if n_calls == 2:  # after the third epoch: the first one's copies are made one by one
            copies[0].fill_(torch.nan)
            signal.raise_signal(signal.SIGINT)
        return copied(copies, tensors)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "_foreach_copy_", interrupted)
        with pytest.warns(ConvergenceWarning, match="interrupted after 3 of 4 epochs"):
            clf = NoPropClassifier(**SMALL).fit(X, y)
    ended = NoPropClassifier(**SMALL, callbacks=[Interrupting(3)]).fit(X, y)
    assert_same(outcome(clf), outcome(ended))


class Numbering(torch.optim.SGD):
    """Knows something that is no parameter's."""

    def step(self, closure=None):
        self.state["n_steps"] = self.state.get("n_steps", 0) + 1
        return super().step(closure)


def test_what_an_optimizer_knows_need_not_be_of_parameters():
    clf = NoPropClassifier(**SMALL, optimizer=Numbering).fit(*toy_data())
    assert clf._trained.optimizer["n_steps"] == 4


class Reloading(Callback):
    """Gives an optimiser what it knows anew, as other tensors and in another order."""

    def on_epoch_begin(self, net, **kwargs):
        known = net.optimizer_.state_dict()
        state = copy.deepcopy(dict(reversed(known["state"].items())))
        net.optimizer_.load_state_dict(known | {"state": state})


@pytest.mark.usefixtures("heard")
def test_an_interrupt_after_an_optimizer_was_given_other_tensors():
    X, y = toy_data(60)
    options = SMALL | {"batch_size": 20}
    clf = NoPropClassifier(**options, callbacks=[Reloading(), Signalling("on_batch_end", 4)])
    with pytest.warns(ConvergenceWarning, match="interrupted after 3 of 4 epochs"):
        clf.fit(X, y)
    ended = NoPropClassifier(**options, callbacks=[Interrupting(3)]).fit(X, y)
    assert_same(outcome(clf), outcome(ended))


class Careful(torch.optim.SGD):
    """Looks at the loss, as some optimisers do."""

    def step(self, closure=None):
        loss = closure()
        assert loss.item() == loss.item()
        return super().step(None if loss is None else lambda: loss)


class Replacing(torch.optim.SGD):
    """Puts other tensors in the place of parameters."""

    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data = parameter.data.clone()
        return loss


def test_optimisers_of_ones_own():
    X, y = toy_data()
    small = {"n_blocks": 2, "hidden_layer_sizes": (4,), "max_iter": 2, "weight_decay": 0.0}
    NoPropClassifier(optimizer=Careful, **small).fit(X, y)
    with pytest.raises(ValueError, match="Replacing, puts other tensors"):
        NoPropClassifier(optimizer=Replacing, **small).fit(X, y)


@pytest.mark.parametrize("numbers", [1, 35])
def test_data_may_be_prepared_in_parts(numbers, monkeypatch):
    X, y = toy_data(60)
    whole = NoPropClassifier(**SMALL).fit(X, y)
    monkeypatch.setattr("sknoprop.fitting.CHUNK_NUMBERS", numbers)
    assert_same(outcome(NoPropClassifier(**SMALL).fit(X, y)), outcome(whole))
