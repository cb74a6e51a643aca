"""Optimisers without what they load torch's compiler for."""

import pickle
import subprocess
import sys

import pytest
import torch

from sknoprop import NoPropClassifier
from sknoprop._parameters import OPTIMIZERS
from sknoprop.training.optimizers import starting_at_once
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
