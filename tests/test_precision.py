"""Products in bfloat16 while training, and all else in float32."""

import joblib
import numpy as np
import pytest
import torch

from sknoprop import NoPropClassifier
from sknoprop.model import Draws
from sknoprop.networks.stacked import StackedBatchNorm, StackedDropout, StackedLinear
from tests.models import toy_data, toy_draws, toy_model

SMALL = {"n_blocks": 2, "hidden_layer_sizes": (16,), "max_iter": 3, "random_state": 0}


def generators(n):
    return [torch.Generator().manual_seed(i) for i in range(n)]


@pytest.mark.parametrize("n_out", [3, 24])
def test_a_layer_rounds_its_factors_and_adds_in_full(n_out):
    """For few outputs the product is written another way, with a gradient of its own."""
    layer = StackedLinear(40, n_out, generators(2))
    x = torch.randn(2, 7, 40, generator=generators(1)[0], requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    rounded = x.bfloat16().double() @ layer.weight.bfloat16().double()
    torch.testing.assert_close(out.double(), rounded, rtol=2**-8, atol=2**-8)
    cotangent = torch.randn(out.shape, generator=generators(1)[0]).bfloat16()
    of_x, of_weight, of_bias = torch.autograd.grad(out, (x, layer.weight, layer.bias), cotangent)
    assert {g.dtype for g in (of_x, of_weight, of_bias)} == {torch.float32}
    exact = cotangent.double()
    close = {"rtol": 2**-7, "atol": 2**-6}
    torch.testing.assert_close(of_x.double(), exact @ layer.weight.double().mT, **close)
    torch.testing.assert_close(of_weight.double(), x.double().mT @ exact, **close)
    torch.testing.assert_close(of_bias.double(), exact.sum(1), **close)


def test_moments_and_masks_are_in_full():
    norm, dropout = StackedBatchNorm(5, 2), StackedDropout(0.35)
    x = 1000.0 + torch.randn(2, 64, 5, generator=generators(1)[0])
    low = x.bfloat16()
    torch.testing.assert_close(norm(low), StackedBatchNorm(5, 2)(low.float()))
    dropout.generators = generators(2)
    thinned = dropout(torch.ones(2, 4000, 1, 5, dtype=torch.bfloat16))
    kept = thinned[thinned > 0]
    assert float(kept.float().mean()) == pytest.approx(1 / 0.65, rel=2**-8)
    assert len(kept) / thinned.numel() == pytest.approx(0.65, abs=0.02)


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
@pytest.mark.parametrize("head", ["light", "paper"])
def test_losses_are_those_of_full_precision_but_for_rounding(variant, head):
    model, inputs, y = toy_model(variant=variant, head=head, batch_norm=True, dtype="float32")
    draws = toy_draws(model, len(y))
    draws = Draws(draws.eps.float(), draws.uniform.float(), draws.last.float())
    full = model.train().losses(inputs, y, draws)
    model.products = torch.bfloat16
    low = model.losses(inputs, y, draws)
    assert low.blocks.dtype == full.blocks.dtype
    assert not torch.equal(low.blocks, full.blocks)
    torch.testing.assert_close(low.blocks, full.blocks, rtol=0.02, atol=0.0)
    # And a block's loss still is a function of its own parameters alone.
    low.blocks[0].backward()
    others = [p.grad[1:] for p in model.head.parameters()]
    assert all(float(grad.abs().max()) == 0.0 for grad in others)


def test_what_is_learnt_is_single_precision():
    X, y = toy_data()
    low, full = (NoPropClassifier(dtype=d, **SMALL).fit(X, y) for d in ("bfloat16", "float32"))
    assert {p.dtype for p in low.blocks_.parameters()} == {torch.float32}
    assert low.blocks_.products is None  # predictions are in full
    difference = np.abs(low.predict_proba(X) - full.predict_proba(X))
    assert 0.0 < difference.max() < 0.05


@pytest.mark.parametrize(
    "options",
    [
        {"variant": "fm"},
        {"variant": "ct", "schedule": "learned", "embedding": "learned"},
        {"variant": "dt", "head": "paper", "batch_norm": True},
        {"variant": "fm", "encoder": "cnn"},
        {"variant": "dt", "encoder": "resnet", "dropout": 0.1},
    ],
    ids=str,
)
def test_training_goes_the_same_way(options, digits):
    X, _, y, _ = digits
    images = {"image_shape": (1, 8, 8), "max_iter": 1} if "encoder" in options else {}
    settings = SMALL | images | options
    low, full = (
        NoPropClassifier(**settings, dtype=dtype).fit(X[:100], y[:100])
        for dtype in ("bfloat16", "float32")
    )
    np.testing.assert_allclose(low.loss_curve_, full.loss_curve_, rtol=0.05)
    assert np.abs(low.predict_proba(X[:10]) - full.predict_proba(X[:10])).max() < 0.1


def test_slices_and_workers_round_alike():
    X, y = toy_data()
    low = SMALL | {"dtype": "bfloat16"}
    together = NoPropClassifier(**low).fit(X, y).predict_proba(X)
    sliced = NoPropClassifier(blocks_at_once=1, **low).fit(X, y).predict_proba(X)
    with joblib.parallel_config("threading"):
        apart = NoPropClassifier(n_jobs=2, **low).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(sliced, together, atol=1e-3)
    np.testing.assert_allclose(apart, together, atol=1e-3)


def test_a_device_without_it_is_named(monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("This device does not support bfloat16.")

    monkeypatch.setattr("torch.autocast.__enter__", refuse)
    with pytest.raises(ValueError, match=r"'dtype' parameter .* 'float32' or 'float64' on cpu"):
        NoPropClassifier(dtype="bfloat16", **SMALL).fit(*toy_data())
