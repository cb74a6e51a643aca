"""What happens to the process, the machine or the data: nothing that was learnt is lost."""

import gc
import os
import random
import signal
import threading
import warnings

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from sknoprop import NoPropClassifier
from sknoprop.callbacks import FitCheckpoint
from sknoprop.inference import kernel_probabilities
from sknoprop.training import TrainingError
from sknoprop.training.divergence import likely_cause
from tests.models import toy_data
from tests.processes import run_apart

SMALL = {
    "n_blocks": 2,
    "hidden_layer_sizes": (8,),
    "batch_size": 20,
    "max_iter": 2,
    "random_state": 0,
    "device": "cpu",  # where each step is looked at
}

#: Ctrl-Cs at moments nobody chose.
N_SIGNALS = int(os.environ.get("SKNOPROP_TEST_SIGNALS", "3"))


class Until(Callback):
    """Ends training after some epochs."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt


def learnt(clf):
    moments = [own[k] for own in clf._trained.optimizer.values() for k in sorted(own)]
    tensors = [*clf.blocks_.state_dict().values(), *moments, torch.tensor(clf.loss_curve_)]
    return [tensor.clone() for tensor in tensors]


def same(one, two):
    return len(one) == len(two) and all(map(torch.equal, one, two))


def interrupted_at_any_moment():
    warnings.simplefilter("ignore")
    X, y = toy_data(60)
    random.seed(0)
    NoPropClassifier(**SMALL).fit(X, y)
    options = SMALL | {"max_iter": 100_000, "early_stopping": True, "warm_start": True}
    n_kept = 0
    for _ in range(N_SIGNALS):
        clf = NoPropClassifier(**options)
        wait = random.uniform(0.0, 0.3)
        threading.Timer(wait, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            clf.fit(X, y)
        except KeyboardInterrupt:
            assert not hasattr(clf, "classes_")
            continue
        n_kept += 1
        assert len(clf.loss_curve_) == len(clf.validation_scores_) == clf.n_iter_
        ended = NoPropClassifier(**options, callbacks=[Until(clf.n_iter_)]).fit(X, y)
        assert same(learnt(clf), learnt(ended))
    assert n_kept > N_SIGNALS // 2, "hardly any of them struck training: a useless test"


@pytest.mark.slow
def test_a_signal_at_any_moment_leaves_a_whole_epoch_or_nothing():
    assert run_apart(interrupted_at_any_moment) == 0


def full_disk(folder):
    import resource

    X, y = toy_data(60)
    clf = NoPropClassifier(**SMALL).fit(X, y)
    before = learnt(clf)
    clf.save(folder / "model.safetensors")
    content = (folder / "model.safetensors").read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    with pytest.raises(OSError, match="File too large"):
        clf.set_params(n_draws=2).save(folder / "model.safetensors")
    clf.set_params(callbacks=[FitCheckpoint(folder / "fit.ckpt")])
    with pytest.raises(OSError, match="File too large"):
        clf.fit(X[:, :3], y)
    assert same(learnt(clf), before)
    assert (folder / "model.safetensors").read_bytes() == content
    assert os.listdir(folder) == ["model.safetensors"]


def test_a_full_disk_leaves_the_older_file_and_no_part_of_another(tmp_path):
    pytest.importorskip("resource")
    assert run_apart(full_disk, tmp_path) == 0


@pytest.mark.parametrize(
    ("params", "weight", "message"),
    [
        ({"optimizer": "sgd"}, None, r"block\(s\) \[0, 1\].*epoch 3, after 2 of 3 steps: "),
        ({"optimizer": "sgd"}, None, r"Likely cause: steps too large, with .*_init=1e\+38"),
        ({"optimizer": "sgd"}, [1.0] * 59 + [1e4], r"sample_weight .* is [5-9]\d\.\d times"),
    ],
)
def test_divergence_is_seen_in_the_step_it_happens(params, weight, message, monkeypatch):
    monkeypatch.setattr("sknoprop.training.divergence.LARGE", 50.0)
    X, y = toy_data(60)
    options = SMALL | {"learning_rate": "constant", "n_iter_no_change": None, "batch_norm": False}
    options["warm_start"] = True
    clf, twin = (NoPropClassifier(**options | params).fit(X, y) for _ in range(2))
    before = learnt(clf)
    clf.set_params(learning_rate_init=1e38)
    with pytest.raises(TrainingError, match=message):
        clf.fit(X, y, sample_weight=weight)
    assert same(learnt(clf), before)
    # Weights and moments are the last good ones: training goes on from them.
    clf.set_params(learning_rate_init=0.01)
    assert same(learnt(clf.fit(X, y)), learnt(twin.fit(X, y)))


class Spoiling(Callback):
    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 2:
            next(net.module_.readout.parameters()).data.fill_(np.nan)


def test_what_is_no_blocks_is_named_so():
    clf = NoPropClassifier(**SMALL, readout="linear", callbacks=[Spoiling()])
    with pytest.raises(TrainingError, match=r"loss of what blocks share .* epoch 2, after 1 of 3"):
        clf.fit(*toy_data(60))
    assert not hasattr(clf, "classes_")


def test_features_of_great_size_are_named():
    inputs = torch.tensor([[1.0, -2e8], [0.0, 1.0]])
    assert "X has standardised values as large as 2e+08." in likely_cause(inputs, None, 0.1)
    assert "X has NaN or an infinity." in likely_cause(inputs * np.nan, None, 0.1)
    assert "loss_weight, the embedding" in likely_cause(inputs.byte(), None, 0.1, any_step=False)
    assert "steps too large" in likely_cause(inputs.byte(), None, 0.1)


def live_objects():
    gc.collect()
    kinds = [type(o) for o in gc.get_objects()]
    return {
        "tensors": sum(issubclass(kind, torch.Tensor) for kind in kinds),
        "modules": sum(issubclass(kind, torch.nn.Module) for kind in kinds),
        "estimators": sum(issubclass(kind, NoPropClassifier) for kind in kinds),
    }


def n_of_torch():
    return sum(issubclass(type(o), torch.nn.Module | torch.Tensor) for o in gc.get_objects())


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"variant": "fm", "embedding": "learned", "calibrate": True},
        {"early_stopping": True, "optimizer": "sgd"},
        {"blocks_at_once": 1},
        {"n_jobs": 2},
        {"image_shape": (1, 4, 4), "encoder": "cnn"},
    ],
    ids=["plain", "learned", "stopping", "slices", "workers", "images"],
)
def test_what_a_fit_took_goes_with_it(params):
    """And not when garbage is collected next: on a GPU memory may have run out by then."""
    X, y = toy_data(60, n_features=16)
    clf = NoPropClassifier(**SMALL | params).fit(X, y)
    gc.collect()
    gc.disable()
    try:
        before = n_of_torch()
        clf.fit(X, y).predict_proba(X)
        clf.set_params(inference="trajectory").predict_proba(X)
        assert n_of_torch() <= before
    finally:
        gc.enable()


def test_many_fits_leave_nothing_behind():
    X, y = toy_data(60)
    clf = NoPropClassifier(**SMALL)

    def fits(n):
        for i in range(n):
            clf.set_params(variant=("dt", "ct", "fm")[i % 3], early_stopping=i % 2 == 0)
            clf.fit(X, y).predict_proba(X)
        return live_objects()

    before = fits(3)
    assert fits(12) == before
    other = NoPropClassifier(**SMALL).fit(X, y)
    more = live_objects()
    assert all(more[kind] > before[kind] for kind in ("tensors", "modules", "estimators"))
    del other


def test_an_epoch_does_not_look_at_all_that_were_before():
    """What a long training reads of its own history grows with its length, not its square."""
    X, y = toy_data(12)
    n_reads = {}
    for n_epochs in (100, 200):
        counting = Counting()
        clf = NoPropClassifier(**SMALL | {"max_iter": n_epochs}, callbacks=[counting])
        clf.fit(X, y, X_val=X, y_val=y)
        n_reads[n_epochs] = Row.n_reads
        assert clf.n_iter_ == n_epochs
        for name in ("train_loss", "valid_loss"):
            losses = np.array(clf.history_[:, name])
            lowest = np.minimum.accumulate(losses)
            best = np.append(True, losses[1:] < lowest[:-1])
            np.testing.assert_array_equal(clf.history_[:, f"{name}_best"], best)
    assert n_reads[200] < 2.5 * n_reads[100]


class Row(dict):
    """An epoch that counts how often it is looked at."""

    n_reads = 0

    def __getitem__(self, key):
        Row.n_reads += 1
        return super().__getitem__(key)

    def __contains__(self, key):
        Row.n_reads += 1
        return super().__contains__(key)

    def get(self, key, default=None):
        Row.n_reads += 1
        return super().get(key, default)


class Counting(Callback):
    def on_train_begin(self, net, **kwargs):
        Row.n_reads = 0

    def on_epoch_begin(self, net, **kwargs):
        net.history[-1] = Row(net.history[-1])


@pytest.mark.parametrize("n_before", [0, 1])
def test_too_little_memory_is_not_taken_for_a_network_that_does_not_suit(n_before):
    """Neither where a frozen network is first tried nor where the training rows go through it."""
    calls = []

    def hungry(module, inputs):
        calls.append(1)
        if len(calls) > n_before:
            raise torch.cuda.OutOfMemoryError("no room")

    network = torch.nn.Flatten()
    network.register_forward_pre_hook(hungry)
    with pytest.raises((MemoryError, torch.cuda.OutOfMemoryError), match="no room"):
        NoPropClassifier(encoder=network, **SMALL).fit(*toy_data(60))


def too_little_memory_above(n_rows):
    def probabilities(model, features, probes):
        if features.shape[1] > n_rows:
            raise torch.cuda.OutOfMemoryError("no room")
        return kernel_probabilities(model, features, probes)

    return probabilities


def test_predictions_that_do_not_fit_are_tried_with_half_the_rows(monkeypatch):
    X, y = toy_data(150)
    clf = NoPropClassifier(**SMALL).fit(X, y)
    expected = clf.predict_proba(X)
    monkeypatch.setattr("sknoprop.classifier.kernel_probabilities", too_little_memory_above(64))
    with pytest.warns(RuntimeWarning, match="Too little memory to predict") as caught:
        found = clf.predict_proba(X)
    assert [str(w.message).split()[5] for w in caught] == ["256", "128"]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Too little memory")
@pytest.mark.parametrize(
    ("dtype", "sizes"),
    [("float32", [256, 128, 64, 32, 16, 8, 4, 1]), ("float64", [192, 96, 48, 24, 12, 1])],
)
def test_with_too_little_memory_rows_are_still_rounded_alike(dtype, sizes, monkeypatch):
    """Of two rows, or six in double precision, one may be rounded otherwise than another."""
    X, y = toy_data(100)
    clf = NoPropClassifier(**SMALL, dtype=dtype).fit(X, y)
    found = []

    def probabilities(model, features, probes):
        found.append(features.shape[1])
        if features.shape[1] > 1:
            raise torch.cuda.OutOfMemoryError("no room")
        return kernel_probabilities(model, features, probes)

    monkeypatch.setattr("sknoprop.classifier.kernel_probabilities", probabilities)
    clf.predict_proba(X)
    assert found == sizes + [1] * 99


@pytest.mark.filterwarnings("ignore:Too little memory")
def test_too_little_memory_for_one_row_says_what_takes_less(monkeypatch):
    X, y = toy_data(60)
    clf = NoPropClassifier(**SMALL).fit(X, y)
    monkeypatch.setattr("sknoprop.classifier.kernel_probabilities", too_little_memory_above(0))
    with pytest.raises(MemoryError, match=r"one row at a time.*n_draws \(now 2\).*no room"):
        clf.predict_proba(X)


@pytest.mark.parametrize("options", [{"loss_weight": 1e300}, {"embedding": 1e30 * np.eye(2)}])
def test_what_diverges_before_the_first_step_is_not_laid_on_its_size(options):
    clf = NoPropClassifier(**SMALL | {"learning_rate_init": 1e-9} | options)
    X, y = toy_data(60, n_classes=2)
    with pytest.raises(TrainingError, match=r"epoch 1, before any step.*loss_weight, the emb"):
        clf.fit(X, y)
