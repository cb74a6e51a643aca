"""Optimisers without what they load torch's compiler for."""

import copy
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from sknoprop import NoPropClassifier
from sknoprop._parameters import OPTIMIZERS
from sknoprop.training.optimizers import FUSED, starting_at_once
from tests.models import Counting, toy_data

TRAIN = """
import sys, numpy as np
from sknoprop import NoPropClassifier
X, y = np.random.default_rng(0).standard_normal((40, 3)), np.arange(40) % 2
NoPropClassifier(max_iter=2, n_blocks=2, warm_start=True).fit(X, y).fit(X, y).predict(X)
print("torch._dynamo" in sys.modules)
"""


def test_torchs_compiler_is_not_loaded():
    """It would take two seconds of every process that trains."""
    run = subprocess.run([sys.executable, "-c", TRAIN], check=True, capture_output=True, text=True)
    assert run.stdout.split() == ["False"]


@pytest.mark.parametrize("kind", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_steps_are_torchs_own(kind):
    def trained(kind):
        weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
        optimizer = kind([weight], lr=0.1)
        called = []
        optimizer.register_step_post_hook(lambda *_: called.append(1))

        def look():
            optimizer.zero_grad()
            loss = (weight - torch.arange(3.0)).square().sum()
            loss.backward()
            return loss

        for _ in range(5):
            optimizer.step(look)
        other = kind([torch.nn.Parameter(torch.zeros(3))], lr=0.1)
        other.load_state_dict(optimizer.state_dict())
        return weight.detach(), called, other.state_dict()["param_groups"]

    quick = starting_at_once(kind)
    assert quick is not kind
    assert issubclass(quick, kind)
    assert pickle.loads(pickle.dumps(quick)) is quick
    ours, theirs = trained(quick), trained(kind)
    torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=0)
    assert ours[1:] == theirs[1:]


def moved(kind, change=lambda optimizer, step: None, **options):
    """Where an optimiser takes three parameters in six steps, and what it remembers."""
    weights = [torch.nn.Parameter(torch.linspace(-1.0, 1.0, n)) for n in (3, 4, 5)]
    groups = [{"params": weights[:2]}, {"params": weights[2:], "weight_decay": 0.3}]
    optimizer = kind(groups, lr=0.1, fused=True, **options)
    generator = torch.Generator().manual_seed(0)
    for step in range(6):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        change(optimizer, step)
        optimizer.step()
    return [weight.detach() for weight in weights], optimizer.state_dict()


def lower_rate(optimizer, step):
    optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
    optimizer.param_groups[1]["betas"] = (0.5 + 0.05 * step, 0.9)


def freeze(optimizer, step):
    """One has no gradient at first, and thus no moments; another has none later."""
    frozen = 2 if step < 3 else 0
    [p for group in optimizer.param_groups for p in group["params"]][frozen].grad = None


def rate_as_tensor(optimizer, step):
    optimizer.param_groups[0]["lr"] = torch.tensor(0.05)


def scaled(optimizer, step):
    """As `torch.amp.GradScaler` does."""
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(4.0), torch.tensor(float(step == 2))


def not_fused(optimizer, step):
    optimizer.param_groups[1]["fused"] = False


def other_decay(optimizer, step):
    """Of Adam and AdamW, which torch makes one of the other by."""
    if "decoupled_weight_decay" in optimizer.param_groups[1]:  # not before torch 2.5
        optimizer.param_groups[1]["decoupled_weight_decay"] ^= step >= 2


CHANGES = {
    "nothing": {},
    "options": {"eps": 1e-3, "betas": (0.7, 0.8), "weight_decay": 0.2},
    "amsgrad": {"amsgrad": True},
    "maximize": {"maximize": True},
    "rate": {"change": lower_rate},
    "frozen": {"change": freeze},
    "rate as a tensor": {"change": rate_as_tensor},
    "scaled": {"change": scaled},
    "not fused": {"change": not_fused},
    "other decay": {"change": other_decay},
}


@pytest.mark.parametrize("case", CHANGES)
@pytest.mark.parametrize("kind", FUSED)
def test_fused_steps_are_torchs_own(kind, case):
    torch.testing.assert_close(
        moved(starting_at_once(kind), **CHANGES[case]), moved(kind, **CHANGES[case]), rtol=0, atol=0
    )


@pytest.mark.parametrize("kind", FUSED)
def test_steps_are_counted_on_from_a_state_that_was_loaded(kind):
    """Counts of all parameters lie in one array: a copy of one is a copy of its own."""

    def trained(kind):
        made = []
        for seed in range(2):
            weights = [torch.nn.Parameter(torch.linspace(-1.0, 1.0, n)) for n in (3, 4, 5)]
            optimizer = kind(weights, lr=0.1, fused=True)
            if made:
                optimizer.load_state_dict(copy.deepcopy(made[0][1].state_dict()))
            generator = torch.Generator().manual_seed(seed)
            for step in range(4):
                for weight in weights:
                    weight.grad = torch.randn(weight.shape, generator=generator)
                if step == 2:
                    weights[seed].grad = None
                optimizer.step()
            made.append((weights, optimizer))
        return [([w.detach() for w in ws], o.state_dict()["state"]) for ws, o in made]

    ours, theirs = trained(starting_at_once(kind)), trained(kind)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert [float(s["step"]) for s in ours[0][1].values()] == [3.0, 4.0, 4.0]
    assert [float(s["step"]) for s in ours[1][1].values()] == [7.0, 7.0, 8.0]


def test_a_group_without_gradients():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = starting_at_once(torch.optim.AdamW)([weight], fused=True)
    optimizer.step()
    assert torch.equal(weight.detach(), torch.ones(2))


def test_hooks_of_all_optimisers_are_called():
    called = []
    handles = [
        register_optimizer_step_pre_hook(lambda *_: called.append("before")),
        register_optimizer_step_post_hook(lambda *_: called.append("after")),
    ]
    try:
        moved(starting_at_once(torch.optim.AdamW))
    finally:
        for handle in handles:
            handle.remove()
    assert called == ["before", "after"] * 6


def test_a_hook_may_change_what_a_step_is_given():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = starting_at_once(torch.optim.AdamW)([weight], fused=True)
    asked = []
    optimizer.register_step_pre_hook(
        lambda *_: ((optimizer,), {"closure": lambda: asked.append(1)})
    )
    optimizer.step()
    assert asked == [1]


def test_others_optimisers_are_left_as_they_are():
    assert starting_at_once(Counting) is Counting
    assert starting_at_once(torch.optim.RMSprop) is torch.optim.RMSprop


def test_fits_are_as_with_torchs_own(monkeypatch):
    X, y = toy_data(40)
    params = {"n_blocks": 2, "max_iter": 3, "random_state": 0}
    clf = NoPropClassifier(**params).fit(X, y)
    monkeypatch.setattr("sknoprop.training.loop.starting_at_once", lambda kind: kind)
    expected = NoPropClassifier(**params).fit(X, y)
    for name, value in expected.blocks_.state_dict().items():
        torch.testing.assert_close(clf.blocks_.state_dict()[name], value, rtol=0, atol=0)


class Groups(Callback):
    """Gives the first blocks' layers a group of their own, behind the others."""

    def __init__(self, split):
        self.split = split
        self.seen = []

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        groups = net.optimizer_.param_groups
        if self.split:
            first, *others = groups[-1]["params"]
            groups[-1]["params"] = others
            groups.append({**groups[-1], "params": [first]})
        self.seen.append([(len(group["params"]), group["weight_decay"]) for group in groups])


@pytest.mark.parametrize(
    "options", [{}, {"embedding": "learned"}, {"variant": "ct", "schedule": "learned"}], ids=str
)
def test_moments_are_of_their_parameters_whatever_groups_there_are(options):
    """Training that goes on with other groups than before is training that goes on."""
    X, y = toy_data(120)

    def fit(*splits):
        clf = NoPropClassifier(**options, n_blocks=2, random_state=0, max_iter=3, warm_start=True)
        for split in splits:
            clf.set_params(callbacks=[Groups(split)]).fit(X, y)
        return clf.predict_proba(X)

    np.testing.assert_allclose(fit(True, True), fit(False, False), atol=1e-6)
    np.testing.assert_allclose(fit(True, False), fit(False, False), atol=1e-6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_blocks_share_does_not_decay(optimizer):
    """Embeddings that shrink are drowned in noise."""
    groups = Groups(False)
    NoPropClassifier(
        "ct",
        n_blocks=2,
        schedule="learned",
        embedding="learned",
        optimizer=optimizer,
        weight_decay=0.25,
        max_iter=1,
        callbacks=[groups],
        random_state=0,
    ).fit(*toy_data(60))
    (seen,) = groups.seen
    assert [decay for _, decay in seen] == [0.0, 0.0, 0.25]
    assert seen[0][0] == 1


class Late(Callback):
    """Regroups parameters when training is under way; a user interrupts it later."""

    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        epoch = len(net.history)
        groups = net.optimizer_.param_groups
        if epoch == 2 and len(groups) == 1:
            first, *others = groups[-1]["params"]
            groups[-1]["params"] = others
            groups.append({**groups[-1], "params": [first]})
        if epoch == 4:
            signal.raise_signal(signal.SIGINT)


def test_an_interrupt_after_parameters_were_regrouped():
    X, y = toy_data(120)
    options = {"learning_rate": "constant", "n_iter_no_change": None, "warm_start": True}
    options |= {"n_blocks": 2, "random_state": 0}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.warns(ConvergenceWarning, match="interrupted"):
            stopped = NoPropClassifier(**options, max_iter=6, callbacks=[Late()]).fit(X, y)
    finally:
        signal.signal(signal.SIGINT, before)
    whole = NoPropClassifier(**options, max_iter=3).fit(X, y)
    np.testing.assert_allclose(stopped.predict_proba(X), whole.predict_proba(X), atol=1e-6)
    for clf in (stopped, whole):
        clf.set_params(callbacks=None, max_iter=2).fit(X, y)
    np.testing.assert_allclose(stopped.predict_proba(X), whole.predict_proba(X), atol=1e-5)


def test_plain_steps_have_inputs_as_they_are():
    """What gradient descent does is not divided by the size of gradients."""
    X = np.random.default_rng(0).standard_normal((40, 100))
    scales = {
        optimizer: float(
            NoPropClassifier(n_bins=0, max_iter=1, optimizer=optimizer)
            .fit(X, np.arange(40) % 2)
            .blocks_.encoder.input_scale
        )
        for optimizer in ("adamw", "sgd", torch.optim.SGD, torch.optim.RMSprop)
    }
    assert [round(scale, 2) for scale in scales.values()] == [0.64, 1.0, 1.0, 0.64]
