"""A few blocks at a time: the same gradients, in the memory of a few blocks."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from sknoprop import NoPropClassifier
from sknoprop.networks.stacked import StackedDropout
from sknoprop.schedules import CosineSchedule
from sknoprop.training.batches import Noised, Sample
from sknoprop.training.slices import BlockSlices
from tests.models import toy_data, toy_draws, toy_model

VARIANTS = ["dt", "ct", "fm"]


def batch_of(model, inputs, y):
    weight = torch.linspace(0.5, 1.5, len(y), dtype=torch.float64)
    draws = toy_draws(model, len(y))
    return Sample(inputs, Noised(y, replace(draws, levels=model.levels(draws.uniform)), weight))


def with_masks(model):
    """Set the generators of dropout, at their start."""
    for module in model.modules():
        if isinstance(module, StackedDropout):
            module.generators = [torch.Generator().manual_seed(i) for i in range(model.n_blocks)]
    return model.train()


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("head", ["light", "paper"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_are_those_of_all_blocks_together(variant, head, size):
    options = {"head": head, "dropout": 0.3, "batch_norm": True, "hidden_layer_sizes": (8, 6)}
    # A last latent with noise in it, lest the read-out's part of the loss be next to nothing.
    options |= {"schedule": CosineSchedule(log_snr_max=1.0), "readout": "linear"}
    options |= {"variant": variant, "n_blocks": 5}
    whole, inputs, y = toy_model(**options)
    sliced, _, _ = toy_model(**options)
    batch = batch_of(whole, inputs, y)
    scale = whole.scale()
    losses = with_masks(whole).losses(inputs, y, batch.noised.draws, batch.noised.sample_weight)
    expected = whole.objective(losses, scale)
    expected.backward()
    objective, blocks = BlockSlices(with_masks(sliced), size, scale).backward(batch)
    torch.testing.assert_close(objective, expected.detach())
    torch.testing.assert_close(blocks, losses.blocks.detach())
    for (name, ours), theirs in zip(sliced.named_parameters(), whole.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), name
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12, msg=name)
    for (name, ours), theirs in zip(sliced.named_buffers(), whole.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)  # running moments have moved too


class Saved:
    """What autograd keeps for a gradient."""

    def __init__(self, tensor):
        self.tensor = tensor


def most_kept(n_blocks, size):
    """Most bytes that a step keeps for its gradients at one time."""
    model, inputs, y = toy_model(n_blocks=n_blocks, dropout=0.3)
    batch = batch_of(with_masks(model), inputs, y)
    kept = [0, 0]

    def forget(n_bytes):
        kept[0] -= n_bytes

    def pack(tensor):
        saved = Saved(tensor)
        kept[0] += tensor.nbytes
        kept[1] = max(kept)
        weakref.finalize(saved, forget, tensor.nbytes)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
        BlockSlices(model, size, model.scale()).backward(batch)
    assert kept[0] == 0
    return kept[1]


def test_memory_does_not_grow_with_the_number_of_blocks():
    assert most_kept(8, 1) == most_kept(2, 1) > 0
    assert most_kept(8, 2) == most_kept(4, 2)
    assert most_kept(8, 8) > 3.5 * most_kept(8, 2)  # and so it does where all go together


@pytest.mark.parametrize("head", ["light", "paper"])  # written out or by autograd, if together
@pytest.mark.parametrize("variant", VARIANTS)
def test_fits_are_the_same_up_to_rounding(variant, head):
    X, y = toy_data(n=120)
    options = {"hidden_layer_sizes": (8, 6), "max_iter": 4, "random_state": 0, "dtype": "float64"}
    options["head"] = head
    together = NoPropClassifier(variant, **options).fit(X, y)
    apart = NoPropClassifier(variant, blocks_at_once=2, **options).fit(X, y)
    np.testing.assert_allclose(apart.loss_curve_, together.loss_curve_, rtol=1e-9)
    losses = [[epoch["train_loss"] for epoch in clf.history_] for clf in (apart, together)]
    np.testing.assert_allclose(*losses, rtol=1e-9)
    np.testing.assert_allclose(apart.predict_proba(X), together.predict_proba(X), atol=1e-9)


@pytest.mark.parametrize("shared", [{"embedding": "learned"}, {"schedule": "learned"}])
def test_what_blocks_share_cannot_be_trained_apart(shared):
    X, y = toy_data()
    clf = NoPropClassifier("ct", n_blocks=3, max_iter=1, blocks_at_once=2, **shared)
    with pytest.raises(ValueError, match=r"blocks_at_once=2 .* shared by all"):
        clf.fit(X, y)
    clf.set_params(blocks_at_once=3).fit(X, y)  # all of them: together
