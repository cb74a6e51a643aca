"""A fit that is cut off goes on from its file, to the last bit."""

import io
import os
import pickle
import signal

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import nn

from sknoprop import NoPropClassifier
from sknoprop.callbacks import FitCheckpoint, _digest
from sknoprop.datasets import LazyImages
from sknoprop.schedules import CosineSchedule
from sknoprop.training import TrainingError
from tests.models import Counting, toy_data
from tests.processes import run_apart

SMALL = {
    "n_blocks": 2,
    "hidden_layer_sizes": (8,),
    "batch_size": 20,
    "max_iter": 5,
    "dropout": 0.3,
    "batch_norm": True,
    "random_state": 0,
}


def network():
    return nn.Sequential(nn.LazyLinear(6), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.ReLU())


#: What has a state of its own.
CASES = {
    "dt": {},
    "fm": {"variant": "fm", "n_train_draws": 2, "blocks_at_once": 1},
    "stopping": {"variant": "fm", "early_stopping": True},
    "patience": {"learning_rate": "constant", "n_iter_no_change": 1, "tol": 0.02, "max_iter": 8},
    "embedding": {"embedding": "learned", "early_stopping": True},
    "schedule": {"variant": "ct", "schedule": "learned", "readout": "linear"},
    "network": {"encoder": network, "variant": "ct"},
    "sgd": {"optimizer": "sgd", "dtype": "float64"},
    "number": {"optimizer": Counting},
}


class Cut(Callback):
    """Ends a fit as an error does that nobody saw coming."""

    def __init__(self, epoch, moment="on_epoch_end"):
        self.epoch = epoch
        setattr(self, moment, self.cut)

    def cut(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise RuntimeError("cut")


def outcome(clf):
    """All that a fit leaves, but for durations."""
    tensors = {f"model.{k}": v for k, v in clf.blocks_.state_dict().items()}
    for number, own in clf._trained.optimizer.items():
        tensors |= {f"{number}.{k}": torch.as_tensor(v) for k, v in own.items()}
    tensors |= {"curve": torch.tensor(clf.loss_curve_)}
    if clf.validation_scores_ is not None:
        tensors |= {"scores": torch.tensor(clf.validation_scores_)}
    best = [epoch["train_loss_best"] for epoch in clf.history_]
    return tensors | {"best": torch.tensor(best), "classes": torch.tensor(clf.classes_)}


def assert_same(one, two):
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("case", CASES)
def test_a_fit_that_was_cut_off_twice_ends_as_if_it_had_not(case, tmp_path):
    X, y = toy_data(60)
    options = SMALL | CASES[case]
    expected = outcome(NoPropClassifier(**options).fit(X, y))
    path = tmp_path / "fit.ckpt"
    for cut in (Cut(3, "on_batch_end"), Cut(4)):
        clf = NoPropClassifier(**options, callbacks=[FitCheckpoint(path), cut])
        with pytest.raises(RuntimeError, match="cut"):
            clf.fit(X, y)
        assert path.exists()
        assert not hasattr(clf, "blocks_")
    seen = Epochs()
    clf = NoPropClassifier(**options, callbacks=[FitCheckpoint(path), seen]).fit(X, y)
    assert_same(outcome(clf), expected)
    assert seen.numbers == list(range(4 + (cut.epoch == 4), clf.n_iter_ + 1))
    assert os.listdir(tmp_path) == []


class Fresh(Callback):
    """Gives the net another optimiser in the middle."""

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 3:
            net._initialize_optimizer()


def test_an_optimiser_of_a_callbacks_is_the_one_that_is_gone_on_with(tmp_path):
    X, y = toy_data(60)
    options = SMALL | {"learning_rate": "constant", "n_iter_no_change": None, "max_iter": 7}
    expected = outcome(NoPropClassifier(**options, callbacks=[Fresh()]).fit(X, y))
    checkpoint = FitCheckpoint(tmp_path / "fit.ckpt")
    with pytest.raises(RuntimeError, match="cut"):
        NoPropClassifier(**options, callbacks=[Fresh(), checkpoint, Cut(6)]).fit(X, y)
    clf = NoPropClassifier(**options, callbacks=[Fresh(), checkpoint]).fit(X, y)
    assert_same(outcome(clf), expected)


class OfMode(CosineSchedule):
    """A schedule of the user's that is another in training."""

    trainable = True

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def log_snr(self, t):
        return super().log_snr(t) + 0.5 * self.training + 0.0 * self.weight


def test_training_is_in_training_mode_whoever_looks():
    """A part may come in evaluation mode, and nobody but a callback makes training look again."""
    X, y = toy_data(60)
    options = SMALL | {"variant": "ct", "max_iter": 3, "early_stopping": False}
    for schedule in (OfMode(), OfMode().eval()):
        alone, looked_at = (
            NoPropClassifier(**options, schedule=schedule, callbacks=callbacks).fit(X, y)
            for callbacks in (None, [Callback()])
        )
        assert_same(outcome(looked_at), outcome(alone))


class Leaving(Callback):
    """Puts a hook on a module in the last step of the first epoch, and is gone."""

    def __init__(self):
        self.called = []

    def on_batch_end(self, net, **kwargs):
        net.module_.head.register_forward_hook(lambda *_: self.called.append(1))
        net.callbacks_[:] = [pair for pair in net.callbacks_ if pair[1] is not self]


class Staying(Callback):
    """Puts one there after the first epoch, and listens to no step."""

    def __init__(self):
        self.called = []

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 1:
            net.module_.head.register_forward_hook(lambda *_: self.called.append(1))


@pytest.mark.parametrize("kind", [Leaving, Staying])
def test_what_a_callback_left_behind_is_seen(kind):
    X, y = toy_data(60)
    callback = kind()
    options = SMALL | {"max_iter": 3, "batch_size": 60, "early_stopping": False, "calibrate": False}
    NoPropClassifier(**options, callbacks=[("own", callback)]).fit(X, y)
    assert len(callback.called) >= 2, "in each step of the epochs that followed"


class Looking(Callback):
    """Asks the model at each epoch's end, as it then is."""

    def on_epoch_end(self, net, dataset_train=None, **kwargs):
        assert not net.module_.training
        with torch.no_grad():
            net.module_.encoder(dataset_train.inputs)


class Steps(Callback):
    """Counts steps, and brings another callback that does."""

    def __init__(self, others=()):
        self.n_steps, self.others = 0, others

    def on_train_begin(self, net, **kwargs):
        net.callbacks_ += [(str(i), other) for i, other in enumerate(self.others)]

    def on_batch_end(self, net, **kwargs):
        self.n_steps += 1


def test_a_callback_that_looks_changes_nothing():
    X, y = toy_data()
    options = {"n_blocks": 2, "hidden_layer_sizes": (8, 8), "max_iter": 3, "random_state": 0}
    plain = NoPropClassifier(**options).fit(X, y)
    seen = NoPropClassifier(**options, callbacks=[Looking()]).fit(X, y)
    np.testing.assert_array_equal(seen.predict_proba(X), plain.predict_proba(X))


def test_steps_are_told_to_those_who_look_at_them(monkeypatch):
    late = Steps()
    first = Steps([late])
    told = []
    notify = NeuralNet.notify
    monkeypatch.setattr(
        NeuralNet, "notify", lambda net, event, **kw: (told.append(event), notify(net, event, **kw))
    )
    clf = NoPropClassifier(n_blocks=2, max_iter=3, batch_size=10, callbacks=[first])
    clf.fit(*toy_data())
    assert first.n_steps == late.n_steps == 12
    assert told.count("on_batch_end") == 12
    assert "on_batch_begin" not in told, "nobody looks at it, and telling costs time"


class Epochs(Callback):
    """Numbers of the epochs that were run."""

    def __init__(self):
        self.numbers = []

    def on_epoch_end(self, net, **kwargs):
        self.numbers.append(len(net.history))


def images(n=24):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, 1, 4, 4)).astype(np.uint8), np.arange(n) % 2


class Jittered:
    """A data set whose images are changed at random when they are loaded."""

    def __init__(self):
        self.images, self.targets = images()

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        noise = torch.randint(0, 9, (1, 4, 4), dtype=torch.uint8)
        return torch.as_tensor(self.images[index]) // 2 + noise, self.targets[index]


def jitter(x):
    return x + torch.randint(0, 9, (1,), dtype=x.dtype)


@pytest.mark.parametrize("lazy", [False, True])
def test_images_that_are_changed_at_random(lazy, tmp_path):
    X, y = images()
    X = LazyImages(Jittered()) if lazy else X // 2
    options = SMALL | {"encoder": "cnn", "max_iter": 3, "augmentation": None if lazy else jitter}
    expected = outcome(NoPropClassifier(**options).fit(X, y))
    checkpoint = FitCheckpoint(tmp_path / "fit.ckpt")
    clf = NoPropClassifier(**options, callbacks=[checkpoint, Cut(2, "on_batch_end")])
    with pytest.raises(RuntimeError, match="cut"):
        clf.fit(X, y)
    assert_same(outcome(clf.set_params(callbacks=[checkpoint]).fit(X, y)), expected)


class Killing(Callback):
    """Ends the process as a machine does that is switched off."""

    def __init__(self, epoch, moment):
        self.epoch = epoch
        setattr(self, moment, self.kill)

    def kill(self, net, **kwargs):
        if len(net.history) == self.epoch:
            os.kill(os.getpid(), signal.SIGKILL)


def fit_and_die(case, path, epoch, moment):
    callbacks = [FitCheckpoint(path)]
    if moment == "writing":
        sync = os.fsync

        def fsync(file):
            nonlocal epoch
            epoch -= 1
            if epoch == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            sync(file)

        os.fsync = fsync
    elif moment is not None:
        callbacks.append(Killing(epoch, moment))
    clf = NoPropClassifier(**SMALL | CASES[case], callbacks=callbacks).fit(*toy_data(60))
    torch.save(outcome(clf), path.with_suffix(".outcome"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "deaths"),
    [
        ("dt", [(1, "on_batch_end"), (1, "on_epoch_end"), (4, "on_epoch_begin")]),
        ("stopping", [(2, "writing"), (2, "writing"), (5, "on_train_end")]),
        ("embedding", [(3, "on_grad_computed")]),
        ("network", [(3, "on_epoch_end"), (5, "on_batch_end")]),
    ],
)
def test_a_killed_process_is_simply_run_again(case, deaths, tmp_path):
    expected = outcome(NoPropClassifier(**SMALL | CASES[case]).fit(*toy_data(60)))
    path = tmp_path / "fit.ckpt"
    for epoch, moment in deaths:
        assert run_apart(fit_and_die, case, path, epoch, moment) == -signal.SIGKILL
    assert run_apart(fit_and_die, case, path, 0, None) == 0
    assert not path.exists()
    found = torch.load(path.with_suffix(".outcome"), weights_only=True)
    assert_same(found, expected)


@pytest.mark.parametrize(
    "params",
    [
        {"n_bins": 0},  # there are no pieces, and so tensors without numbers
        {"embedding": np.asfortranarray(np.eye(3))[::-1]},
        {"embedding": np.eye(3, dtype=">f8")},
        {"embedding": np.eye(3, dtype=object)},
    ],
    ids=str,
)
def test_any_fit_can_have_a_checkpoint(params, tmp_path):
    X, y = toy_data(60)
    options = SMALL | params
    expected = outcome(NoPropClassifier(**options).fit(X, y))
    checkpoint = FitCheckpoint(tmp_path / "fit.ckpt")
    clf = NoPropClassifier(**options, callbacks=[checkpoint, Cut(2)])
    with pytest.raises(RuntimeError, match="cut"):
        clf.fit(X, y)
    assert_same(outcome(clf.set_params(callbacks=[checkpoint]).fit(X, y)), expected)


@pytest.fixture
def cut_off(tmp_path):
    """A classifier whose fit was cut off; its file is there."""
    clf = NoPropClassifier(**SMALL, callbacks=[FitCheckpoint(tmp_path / "fit.ckpt"), Cut(2)])
    with pytest.raises(RuntimeError, match="cut"):
        clf.fit(*toy_data(60))
    return clf.set_params(callbacks=clf.callbacks[:1])


@pytest.mark.parametrize(
    ("params", "more", "message"),
    [
        ({"max_iter": 6}, {}, r"differs in max_iter \(5 there, 6 here\)"),
        ({"n_blocks": 3, "dropout": 0.0}, {}, r"dropout \(0.3 there, 0.0 here\), n_blocks \(2"),
        ({"random_state": 1}, {}, r"random_state \(0 there, 1 here\)"),
        ({"encoder": network}, {}, "encoder .'mlp' there, <function network>"),
        ({}, {"X": toy_data(60, seed=1)[0]}, "differs in X"),
        ({}, {"y": toy_data(60)[1][::-1]}, "differs in y"),
        ({}, {"sample_weight": np.arange(60.0) + 1}, "sample_weight or class_weight"),
        ({}, {"X_val": toy_data()[0], "y_val": toy_data()[1]}, "X_val, y_val"),
    ],
)
def test_the_file_of_another_fit_is_refused(params, more, message, cut_off):
    X, y = toy_data(60)
    path = cut_off.callbacks[0].path
    content = path.read_bytes()
    with pytest.raises(ValueError, match=f"another fit, which .*{message}"):
        clone(cut_off).set_params(**params).fit(**{"X": X, "y": y} | more)
    assert path.read_bytes() == content
    os.unlink(path)
    clone(cut_off).set_params(**params).fit(**{"X": X, "y": y} | more)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[:500] + bytes([content[500] ^ 1]) + content[501:],
        lambda content: pickle.dumps(os.getcwd),
    ],
)
def test_a_damaged_file_is_named(damage, cut_off):
    path = cut_off.callbacks[0].path
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"damaged, or none of .*\. Delete .*fit.ckpt"):
        cut_off.fit(*toy_data(60))
    assert not hasattr(cut_off, "classes_")


def forged(change):
    """What is changed on purpose; the digest is no secret."""

    def damage(content):
        size = len(_digest(b""))
        found = torch.load(io.BytesIO(content[size:]), weights_only=True)
        change(found)
        buffer = io.BytesIO()
        torch.save(found, buffer)
        return _digest(buffer.getvalue()) + buffer.getvalue()

    return damage


def first_weight_alone(found):
    found["state"]["now"]["model"]["head.out.weight"] = torch.zeros(1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: _digest(b"x") + b"x",
        lambda content: (_digest(other := pickle.dumps(os.getcwd))) + other,
        forged(lambda found: found.clear()),
        forged(lambda found: found["identity"].clear()),
        forged(lambda found: found["state"].clear()),
        forged(lambda found: found["state"]["now"].pop("generators")),
        forged(lambda found: found["state"]["now"].update(history="[")),
        forged(lambda found: found["state"]["now"].update(model=3)),
        forged(first_weight_alone),
    ],
)
def test_a_forged_file_is_refused_and_an_earlier_fit_stays(damage, cut_off):
    X, y = toy_data(60)
    checkpoint, path = cut_off.callbacks[0], cut_off.callbacks[0].path
    content = path.read_bytes()
    clf = clone(cut_off).set_params(callbacks=None).fit(X, y)
    expected = clf.predict_proba(X)
    path.write_bytes(damage(content))
    with pytest.raises(ValueError, match=r"The checkpoint (is none|holds no).*Delete .*fit.ckpt"):
        clf.set_params(callbacks=[checkpoint]).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)


def test_a_file_of_an_older_format_is_named(cut_off):
    path = cut_off.callbacks[0].path
    older = forged(lambda found: found.update(format=1, state={"history": "[]"}))
    path.write_bytes(older(path.read_bytes()))
    with pytest.raises(ValueError, match=r"is of format 1, this sknoprop reads 2.*Delete .*ckpt"):
        cut_off.fit(*toy_data(60))


def test_parameters_stay_as_they_are_and_a_clone_goes_on(cut_off):
    X, y = toy_data(60)
    assert cut_off.callbacks[0].get_params() == {"path": cut_off.callbacks[0].path, "every": 1}
    twin = clone(pickle.loads(pickle.dumps(cut_off)))
    assert twin.callbacks[0] is not cut_off.callbacks[0]
    twin.set_params(callbacks=[*twin.callbacks, seen := Epochs()]).fit(X, y)
    assert seen.numbers == [3, 4, 5]


def test_a_warm_start_goes_on_in_its_second_fit(tmp_path):
    X, y = toy_data(60)
    path = tmp_path / "fit.ckpt"
    options = SMALL | {"warm_start": True}
    expected = outcome(NoPropClassifier(**options).fit(X, y).fit(X, y))

    def second_fit(*callbacks):
        clf = NoPropClassifier(**options).fit(X, y)
        return clf.set_params(callbacks=[FitCheckpoint(path), *callbacks]).fit(X, y)

    with pytest.raises(RuntimeError, match="cut"):
        second_fit(Cut(8))
    with pytest.raises(ValueError, match=r"n_iter_ before \(5 there, 0 here\)"):
        NoPropClassifier(**options, callbacks=[FitCheckpoint(path)]).fit(X, y)
    assert_same(outcome(second_fit()), expected)


def test_the_file_stays_where_a_fit_may_yet_go_on(tmp_path):
    X, y = toy_data(60)
    path = tmp_path / "fit.ckpt"
    written = Written(path)
    clf = NoPropClassifier(**SMALL, callbacks=[FitCheckpoint(path, every=2), written])
    clf.fit(X, y)
    assert written.epochs == [2, 3, 4, 5], "from the second epoch on, gone after the last"
    assert not path.exists()
    interrupted = Interrupted(4)
    with pytest.warns(ConvergenceWarning, match="after 3 of 5"):
        clf.set_params(callbacks=[FitCheckpoint(path), interrupted]).fit(X, y)
    assert path.exists()
    assert_same(
        outcome(clf.set_params(callbacks=[FitCheckpoint(path)]).fit(X, y)),
        outcome(clone(clf).set_params(callbacks=None).fit(X, y)),
    )
    with pytest.raises(RuntimeError, match="cut"):
        clf.set_params(callbacks=[FitCheckpoint(path), Cut(2)]).fit(X, y)
    with pytest.warns(ConvergenceWarning, match="after 2 of 5"):  # in the first epoch gone on with
        clf.set_params(callbacks=[FitCheckpoint(path), Interrupted(3)]).fit(X, y)
    path.unlink()
    clf.set_params(callbacks=[FitCheckpoint(path), Diverging(4)])
    with pytest.raises(TrainingError):
        clf.fit(X, y)
    assert path.exists()


class Written(Callback):
    """Epochs at whose end the file is there."""

    def __init__(self, path):
        self.path, self.epochs = path, []

    def on_epoch_end(self, net, **kwargs):
        if self.path.exists():
            self.epochs.append(len(net.history))


class Interrupted(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch:
            before = signal.signal(signal.SIGINT, signal.default_int_handler)
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.signal(signal.SIGINT, before)


class Diverging(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch:
            next(net.module_.head.parameters()).data.fill_(torch.nan)


def test_a_part_of_a_stream_leaves_the_file_alone(cut_off):
    X, y = toy_data(60)
    content = cut_off.callbacks[0].path.read_bytes()
    clf = clone(cut_off).partial_fit(X, y, classes=[0, 1, 2]).partial_fit(X, y)
    assert clf.n_iter_ == 2
    assert cut_off.callbacks[0].path.read_bytes() == content


@pytest.mark.parametrize(
    ("params", "path", "every", "error", "message"),
    [
        ({"random_state": None}, "fit.ckpt", 1, ValueError, "'random_state' .* Got None"),
        ({}, "fit.ckpt", 0, ValueError, "'every' .* positive int. Got 0"),
        ({}, "fit.ckpt", 1.5, ValueError, "'every' .* positive int. Got 1.5"),
        ({}, "nowhere/fit.ckpt", 1, FileNotFoundError, "folder that is there"),
    ],
)
def test_bad_input_is_named_before_training(params, path, every, error, message, tmp_path):
    seen = Epochs()
    checkpoint = FitCheckpoint(tmp_path / path, every=every)
    clf = NoPropClassifier(**SMALL | params, callbacks=[checkpoint, seen])
    with pytest.raises(error, match=message):
        clf.fit(*toy_data(60))
    assert seen.numbers == []


def test_a_history_that_cannot_be_written_is_named(tmp_path):
    class Recording(Callback):
        def __init__(self, value):
            self.value = value

        def on_epoch_begin(self, net, **kwargs):
            net.history.record("mine", self.value)

    checkpoint = FitCheckpoint(tmp_path / "fit.ckpt")
    clf = NoPropClassifier(**SMALL, callbacks=[Recording(np.float32(1)), checkpoint])
    clf.fit(*toy_data(60))
    with pytest.raises(TypeError, match="can write tensors, numbers and strings"):
        clf.set_params(callbacks=[Recording(object()), checkpoint]).fit(*toy_data(60))
    assert os.listdir(tmp_path) == []
