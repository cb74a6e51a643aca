"""Recorded steps, with a stand-in for CUDA graphs; tests/test_gpu.py has the real ones."""

import copy
import time
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from skorch.callbacks import Callback
from torch import nn

from sknoprop import NoPropClassifier
from sknoprop.training import net, recorded
from sknoprop.training.autograd import AutogradStep
from sknoprop.training.recorded import RecordedStep
from tests.models import toy_data, toy_model
from tests.test_dense import setting

SMALL = {
    "n_blocks": 3,
    "hidden_layer_sizes": (8, 8),
    "max_iter": 3,
    "batch_size": 7,  # of 40 rows: two sizes of batches
    "random_state": 0,
}
CASES = {
    "dt": {"variant": "dt"},
    "ct": {"variant": "ct"},
    "fm": {"variant": "fm"},
    "learned": {"embedding": "learned", "embedding_dim": 2},
    "learned schedule": {"variant": "ct", "schedule": "learned"},
    "trained read-out": {"variant": "dt", "readout": "linear"},
    "block by block": {"blocks_at_once": 1},
    "all rows": {"calibrate": False},
}


class StandIn:
    """Does again what was done while it was recorded, and leaves results where they were."""

    def __init__(self, run, step):
        self.run, self.model = run, step.model
        tensors = [t.clone() for t in self.model.state_dict().values()]
        states = [generator.get_state() for generator in step.generators]
        self.result = run()
        self.grads = [p.grad for p in self.model.parameters()]
        # A graph does nothing while it is recorded.
        for tensor, before in zip(self.model.state_dict().values(), tensors, strict=True):
            tensor.copy_(before)
        for generator, state in zip(step.generators, states, strict=True):
            generator.set_state(state)

    def replay(self):
        parameters = list(self.model.parameters())
        given = [p.grad for p in parameters]
        for parameter in parameters:
            parameter.grad = None
        for place, value in zip(self.result, self.run(), strict=True):
            place.copy_(value)
        for parameter, place, before in zip(parameters, self.grads, given, strict=True):
            if place is not None:
                place.copy_(parameter.grad)
            parameter.grad = before


@pytest.fixture
def graphs(monkeypatch):
    """All that were recorded, on a CPU."""
    made, steps = [], []

    class Place:
        def capture(self, run, generators):
            made.append(StandIn(run, steps[-1]))
            return made[-1], made[-1].result

    class OnCPU(RecordedStep):
        def __init__(self, step, model, generators):
            super().__init__(step, model, generators)
            steps.append(self)

        @staticmethod
        def takes(model, n_steps):
            return True

    monkeypatch.setattr("torch.cuda.device", lambda _: nullcontext())
    monkeypatch.setattr(recorded._Place, "on", lambda _: Place())
    monkeypatch.setattr("sknoprop.training.net.RecordedStep", OnCPU)
    return made


def learnt(clf):
    return clf.blocks_.state_dict()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_training_is_the_same_to_the_last_bit(case, request):
    X, y = toy_data(40)
    expected = NoPropClassifier(**(SMALL | case)).fit(X, y)
    graphs = request.getfixturevalue("graphs")
    clf = NoPropClassifier(**(SMALL | case)).fit(X, y)
    torch.testing.assert_close(learnt(clf), learnt(expected), rtol=0, atol=0)
    assert len(graphs) == 2  # batches of six and of seven rows
    np.testing.assert_array_equal(clf.loss_curve_, expected.loss_curve_)


def test_gradients_are_added_to_those_there_are(graphs):
    """As a callback may want that looks at several batches a step."""
    model, batches = setting("fm", 20, hidden_layer_sizes=(6,), dropout=0.0)
    batch = next(iter(batches))
    plain = AutogradStep(model, model.scale())
    sample = plain.take(batch)
    plain.backward(sample)
    once = [p.grad for p in model.parameters()]
    model.zero_grad()
    step = net.RecordedStep(plain, model, [])
    for _ in range(3):  # as it is, recorded, replayed
        step.backward(step.take(batch))
    assert len(graphs) == 1
    for parameter, grad in zip(model.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, None if grad is None else 3 * grad)


def test_a_model_that_was_changed_is_recorded_anew(graphs):
    class Half(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.module_.encoder.dropout.p = net.module_.head.dropout.p = 0.5

    X, y = toy_data(40)
    NoPropClassifier(**SMALL, callbacks=[Half()]).fit(X, y)
    assert len(graphs) == 4


def test_a_parameter_that_was_frozen_is_not_trained(graphs):
    class Freeze(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 1:
                net.module_.head.out.weight.requires_grad_(False)
                Freeze.frozen = net.module_.head.out.weight.detach().clone()

    X, y = toy_data(40)
    clf = NoPropClassifier(**SMALL, callbacks=[Freeze()]).fit(X, y)
    torch.testing.assert_close(clf.blocks_.head.out.weight.detach(), Freeze.frozen, rtol=0, atol=0)


@pytest.mark.parametrize("event", ["on_batch_begin", "on_grad_computed", "on_batch_end"])
def test_steps_that_callbacks_look_at_are_not_recorded(event, graphs):
    class Looking(Callback):
        pass

    seen = []
    setattr(Looking, event, lambda self, net, *args, **kwargs: seen.append(event))
    X, y = toy_data(40)
    NoPropClassifier(**SMALL, callbacks=[Looking()]).fit(X, y)
    assert len(seen) >= 18
    assert not graphs


def test_hooks_are_called(graphs):
    class Hook(Callback):
        calls = 0

        def on_train_begin(self, net, **kwargs):
            net.module_.encoder.register_forward_hook(self.count)

        def count(self, *args):
            Hook.calls += 1

    X, y = toy_data(40)
    NoPropClassifier(**SMALL, callbacks=[Hook()]).fit(X, y)
    assert Hook.calls >= 18
    assert not graphs


def test_losses_are_those_of_the_first_look(request):
    """Of an optimiser that looks several times a step."""
    X, y = toy_data(40)
    params = SMALL | {"optimizer": torch.optim.LBFGS, "max_iter": 2}
    expected = NoPropClassifier(**params).fit(X, y)
    graphs = request.getfixturevalue("graphs")
    clf = NoPropClassifier(**params).fit(X, y)
    assert graphs
    np.testing.assert_array_equal(clf.loss_curve_, expected.loss_curve_)
    torch.testing.assert_close(learnt(clf), learnt(expected), rtol=0, atol=0)


def test_nets_with_recordings_can_be_pickled(graphs):
    class Pickling(Callback):
        def on_epoch_end(self, net, **kwargs):
            assert net.recorded_._recordings
            Pickling.copied = copy.deepcopy(net.recorded_)

    X, y = toy_data(40)
    NoPropClassifier(**SMALL, callbacks=[Pickling()]).fit(X, y)
    assert Pickling.copied._recordings == {}


def test_nothing_of_the_steps_is_kept(graphs):
    class Keeping(Callback):
        def on_train_end(self, net, **kwargs):
            Keeping.net = net

    X, y = toy_data(40)
    clf = NoPropClassifier(**SMALL, callbacks=[Keeping()]).fit(X, y)
    assert not hasattr(Keeping.net, "recorded_")
    assert all(parameter.grad is None for parameter in clf.blocks_.parameters())


def test_anomalies_are_looked_for_in_steps_that_are_not_recorded(graphs):
    X, y = toy_data(40)
    with torch.autograd.set_detect_anomaly(True):
        NoPropClassifier(**SMALL).fit(X, y)
    assert not graphs


@pytest.mark.parametrize(("version", "n_known"), [("2.11.0+cu130", 2), ("2.14.1", 0)])
def test_recordings_are_made_one_at_a_time_each_in_its_place(version, n_known, monkeypatch):
    """Threads may train at once; a process records but one thing."""
    known, places, running, most = [], [], [], []

    class Graph:
        def register_generator_state(self, generator):  # which torch 2.14 warns of
            known.append(generator)

    @contextmanager
    def graph(made, pool, stream, capture_error_mode):
        places.append((pool, stream, capture_error_mode))
        running.append(made)
        most.append(len(running))
        time.sleep(0.01)
        yield
        running.remove(made)

    monkeypatch.setattr("torch.cuda.CUDAGraph", Graph)
    monkeypatch.setattr("torch.cuda.graph", graph)
    monkeypatch.setattr("torch.cuda.Stream", lambda device: ("stream on", device))
    monkeypatch.setattr("torch.cuda.graph_pool_handle", lambda: "pool")
    monkeypatch.setattr("torch.__version__", version)
    device = torch.device("cuda", 1)
    place = recorded._Place.on(device)
    made = Parallel(4, backend="threading")(
        delayed(place.capture)(lambda: "result", [torch.Generator()] * 2) for _ in range(8)
    )
    assert [result for _, result in made] == ["result"] * 8
    assert max(most) == 1
    assert set(places) == {("pool", ("stream on", device), "thread_local")}
    assert len(known) == 8 * n_known


def on_a_gpu(model):
    place = SimpleNamespace(edges=SimpleNamespace(device=torch.device("cuda")))
    return SimpleNamespace(modules=model.modules, partition=place)


def test_what_is_recorded():
    model = toy_model()[0]
    assert not RecordedStep.takes(model, 10_000)  # on a CPU
    model = on_a_gpu(model)
    assert RecordedStep.takes(model, 10_000)
    assert not RecordedStep.takes(model, 10)  # over before it pays


def test_others_code_is_not_recorded():
    """It may read numbers back."""

    class Theirs(nn.Module):
        pass

    model = toy_model()[0]
    model.theirs = Theirs()
    assert not RecordedStep.takes(on_a_gpu(model), 10_000)
    X, y = toy_data(40)
    clf = NoPropClassifier(encoder=network, n_bins=0, max_iter=1, n_blocks=2).fit(X, y)
    assert not RecordedStep.takes(on_a_gpu(clf.blocks_), 10_000)


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(5, 4))
