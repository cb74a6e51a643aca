"""The step whose gradients are written out, against autograd."""

import copy
import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, Freezer

from benchmarks.twin import PlainEnsemble, PlainModel
from sknoprop import NoPropClassifier
from sknoprop.building import build_model
from sknoprop.defaults import fill_in
from sknoprop.networks.stacked import StackedBatchNorm, StackedDropout
from sknoprop.schedules import CosineSchedule
from sknoprop.training import dense
from sknoprop.training.batches import Batches, NoiseSource
from sknoprop.training.dense import DenseStep
from sknoprop.training.left_out import leave_out
from sknoprop.training.seeds import Seeds
from tests.models import toy_data

CASES = {
    "one layer": {"hidden_layer_sizes": (6,)},
    "no dropout": {"hidden_layer_sizes": (6,), "dropout": 0.0},
    "three layers": {"hidden_layer_sizes": (6, 20, 5)},
    "no normalisation": {"hidden_layer_sizes": (6, 5), "batch_norm": False},
    "normalised": {"hidden_layer_sizes": (6,), "batch_norm": True},
    "one block": {"n_blocks": 1},
    "eta": {"loss_weight": 0.3},
    "trained read-out": {"readout": "linear"},
    "few dimensions": {"embedding": np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.5]])},
    "images": {"image_shape": (1, 1, 5), "encoder": "mlp"},
}


def setting(variant, batch_size=19, **params):
    """A model in training and batches of toy data."""
    X, y = toy_data(80)
    estimator = NoPropClassifier(variant, dtype="float64").set_params(**params)
    params = fill_in(estimator.get_params(), len(X), 3)
    seeds = Seeds(0)
    model = build_model(params, X, y, seeds, 3).double().train()
    model.unfreeze()
    noise = NoiseSource(
        seeds.block_generators("noise", model.n_blocks),
        seeds.generator("shared", 1),
        n_draws=params["n_train_draws"],
        dim=model.embedding.dim,
        timed=not model.variant.single_level,
        dtype=torch.float64,
        levels=model.levels,
    )
    inputs = model.encoder.prepare(torch.as_tensor(X))
    batches = Batches(inputs, torch.as_tensor(y), batch_size, seeds.generator("order"), noise)
    return model, batches


def with_masks(model):
    """The model with masks drawn from the beginning."""
    masks = Seeds(1).block_generators("dropout", model.n_blocks)
    for module in model.modules():
        if isinstance(module, StackedDropout):
            module.generators = masks
    return model


def gradients(model):
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
@pytest.mark.parametrize(
    ("case", "weights"),
    [("one layer", "none"), ("three layers", "rows"), *((case, "left out") for case in CASES)],
)
def test_losses_and_gradients_are_autograds(case, weights, variant):
    model, batches = setting(variant, **CASES[case])
    rng = np.random.RandomState(0)
    if weights == "rows":
        batches.sample_weight = torch.as_tensor(rng.uniform(0.5, 1.5, 80))
    if weights == "left out" and model.n_blocks > 1:
        left_out = leave_out(batches.y.numpy(), None, model.n_blocks, rng)
        batches.left_out = left_out.to(torch.device("cpu"), torch.float64)
    assert DenseStep.takes(model, batches)
    twin, scale = copy.deepcopy(model), model.scale()
    by_hand = DenseStep(with_masks(model), scale)
    with_masks(twin)
    for batch in batches:  # masks and running moments go on
        own = batch.noised()
        losses = twin.losses(
            batch.inputs, own.y, own.draws, own.sample_weight, None, own.block_weight
        )
        expected = twin.objective(losses, scale)
        expected.backward()
        objective, blocks = by_hand.backward(by_hand.take(batch))
        torch.testing.assert_close(objective, expected.detach())
        torch.testing.assert_close(blocks, losses.blocks.detach())
        found, wanted = gradients(model), gradients(twin)
        assert found.keys() == wanted.keys()
        assert all(grad.is_contiguous() for grad in found.values()), "as optimisers take it to be"
        for name in wanted:  # summed over the steps so far
            torch.testing.assert_close(found[name], wanted[name], msg=name, rtol=1e-9, atol=1e-11)
    if case == "normalised":
        assert any(isinstance(module, StackedBatchNorm) for module in model.modules())
    for name, tensor in model.named_buffers():
        torch.testing.assert_close(tensor, twin.get_buffer(name), msg=name)


@pytest.mark.parametrize("readout", ["denoiser", "linear"])
@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
def test_steps_prepared_one_by_one_are_those_prepared_together(variant, readout, monkeypatch):
    """And those of stretches that end where no chunk of noise does."""
    X, y = toy_data(90)
    clf = NoPropClassifier(variant, max_iter=2, batch_size=13, readout=readout, random_state=0)
    together = clf.fit(X, y).predict_proba(X)
    prepared, sizes = DenseStep._prepared, []

    def counted(self, batch, n_steps):
        stretch = prepared(self, batch, n_steps)
        sizes.append(len(stretch.steps))
        return stretch

    monkeypatch.setattr(DenseStep, "_prepared", counted)
    for numbers, steps in [(1, [1] * 7), (2_000, [3, 3, 1])]:
        sizes.clear()
        monkeypatch.setattr(dense, "STRETCH_NUMBERS", numbers)
        np.testing.assert_array_equal(clf.fit(X, y).predict_proba(X), together)
        assert sizes == 2 * steps


def test_a_step_may_be_looked_at_again():
    """As some optimisers do, with the masks it had."""
    model, batches = setting("fm")
    step = DenseStep(with_masks(model), model.scale())
    first, second = [step.backward(step.take(batch)) for batch in [next(iter(batches))] * 2]
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_dropout_may_change_within_an_epoch():
    model, batches = setting("fm")
    step = DenseStep(with_masks(model), model.scale())
    made = []
    prepared = step._prepared
    step._prepared = lambda *args: made.append(args) or prepared(*args)
    for number, batch in enumerate(batches):
        model.encoder.dropout.p = model.head.dropout.p = p = 0.1 * number
        masks = step.take(batch).masks
        assert len(masks) == (0 if number == 0 else len(step.layers))
        for mask in masks:  # (probabilities are multiples of 2**-16)
            assert mask.unique().tolist() == pytest.approx([0.0, 1.0 / (1.0 - p)], rel=2**-15)
    assert [n_steps for _, n_steps in made] == [None, 1, 1, 1, 1], "not for many steps each time"


def test_rows_of_an_epoch_do_not_outlive_it():
    """Nor are they pickled with the net, as skorch's checkpoints may."""
    seen = []

    class Looking(Callback):
        def on_grad_computed(self, net, **kwargs):
            seen.append((net.step_, len(net.step_._stretch.steps)))
            assert not pickle.loads(pickle.dumps(net.step_))._stretch.steps

        def on_epoch_end(self, net, **kwargs):
            assert not net.step_._stretch.steps
            assert net.step_._stretch.chunk is None

    X, y = toy_data(60)
    NoPropClassifier("fm", max_iter=2, callbacks=[Looking()]).fit(X, y)
    assert all(isinstance(step, DenseStep) and n_steps for step, n_steps in seen)
    assert seen


def test_nothing_outlives_a_step():
    """Activations would wait for the garbage collector, which counts objects and not bytes."""
    model, batches = setting("fm")
    step = DenseStep(with_masks(model), model.scale())
    step.backward(step.take(next(iter(batches))))
    lasting = {p.data_ptr() for p in model.parameters()}
    lasting |= {step.scale.data_ptr(), step.half_scale.data_ptr()}
    for part in (step, step.out, *step.layers, *step.thinnings):
        kept = [value for value in vars(part).values() if isinstance(value, torch.Tensor)]
        assert {tensor.data_ptr() for tensor in kept} <= lasting


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
def test_gradients_of_a_block_know_no_other_block(variant):
    model, batches = setting(variant)
    other = copy.deepcopy(model)
    for tensor in other.block_tensors().values():
        tensor[1] += 0.5
    batch = next(iter(batches))
    for one in (model, other):
        step = DenseStep(with_masks(one), model.scale())
        step.backward(step.take(batch))
    alone = [i for i in range(model.n_blocks) if i != 1]
    for name, grad in gradients(model).items():
        assert torch.equal(grad[alone], gradients(other)[name][alone]), name
        assert not torch.equal(grad[1], gradients(other)[name][1]), name


def test_what_is_frozen_gets_no_gradient():
    model, batches = setting("fm")
    model.head.out.bias.requires_grad_(False)
    step = DenseStep(with_masks(model), model.scale())
    step.backward(step.take(next(iter(batches))))
    assert model.head.out.bias.grad is None
    assert model.head.out.weight.grad is not None


@pytest.mark.parametrize(
    ("variant", "params"),
    [
        ("fm", {"embedding": "learned"}),
        ("dt", {"embedding": "prototype"}),
        ("ct", {"schedule": "learned"}),
        ("fm", {"parameterization": "velocity"}),
        ("dt", {"head": "paper"}),
        ("dt", {"n_train_draws": 2}),
        ("dt", {"batch_size": 1}),
    ],
)
def test_what_is_left_to_autograd(variant, params):
    model, batches = setting(variant, **params)
    assert not DenseStep.takes(model, batches)


def test_rounded_products_and_other_losses_are_left_to_autograd():
    model, batches = setting("fm")
    assert DenseStep.takes(model, batches)
    model.products = torch.bfloat16
    assert not DenseStep.takes(model, batches)
    twin, batches = setting("fm")
    twin.__class__ = PlainModel
    assert not DenseStep.takes(twin, batches)
    X, y = toy_data()
    assert PlainEnsemble("dt", max_iter=20, random_state=0).fit(X, y).score(X, y) > 0.6


def test_defaults_are_trained_by_hand(monkeypatch):
    X, y = toy_data(60)
    fit = NoPropClassifier("fm", max_iter=2, dtype="float64", random_state=0)
    by_hand = fit.fit(X, y).predict_proba(X)

    def never(self, *args):
        raise AssertionError("autograd was asked")

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", never)
        np.testing.assert_array_equal(fit.fit(X, y).predict_proba(X), by_hand)
    monkeypatch.setattr(DenseStep, "takes", lambda model, batches: False)
    np.testing.assert_allclose(fit.fit(X, y).predict_proba(X), by_hand, atol=1e-8)


def on_batches(change):
    """A callback that changes the model at the beginning of each step but the first."""

    class Changing(Callback):
        def on_batch_begin(self, net, batch=None, training=None, **kwargs):
            if len(net.history) > 1:
                change(net.module_)

    return Changing()


def clip(module):
    weight = module.head.out.weight
    if not weight._backward_hooks:
        weight.register_hook(lambda grad: grad.clamp(-1e-4, 1e-4))


def replace(module):
    """Other parameters, which the optimiser does not know."""
    for own in (*module.encoder.layers, module.head.out, module.head.latent):
        for name, parameter in list(own._parameters.items()):
            if parameter is not None:
                own._parameters[name] = torch.nn.Parameter(0.9 * parameter.detach())


class Clipped(Callback):
    """Weights and biases kept small after each step, as new tensors; nobody hears of batches."""

    def on_train_begin(self, net, **kwargs):
        def clip(*args):
            for parameter in net.module_.parameters():
                parameter.data = parameter.data.clamp(-0.05, 0.05)

        net.optimizer_.register_step_post_hook(clip)


class Stretched(Callback):
    """An embedding that is no longer one-hot."""

    def on_epoch_begin(self, net, **kwargs):
        net.module_.embedding.weight.data.mul_(1.1)


CALLBACKS = {
    "parameters are replaced": on_batches(replace),
    "parameters are clipped": Clipped(),
    "the embedding is changed": Stretched(),
    "moments are kept": on_batches(lambda module: module.encoder.norms[0].eval()),
    "no dropout": on_batches(lambda module: module.head.dropout.eval()),
    "another dropout in the head": on_batches(
        lambda module: vars(module.head.dropout).update(p=0.3)
    ),
    "gradients are clipped": on_batches(clip),
    "the network is frozen": Freezer("encoder.layers.0*"),
    "the read-out is frozen": Freezer("readout*"),
}


@pytest.mark.parametrize("case", CALLBACKS)
def test_callbacks_are_heeded_as_by_autograd(case, monkeypatch):
    X, y = toy_data(90)
    options = {"readout": "linear", "dtype": "float64", "optimizer": torch.optim.SGD}
    clf = NoPropClassifier("dt", max_iter=4, random_state=0, learning_rate_init=0.05, **options)
    plain = clf.fit(X, y).predict_proba(X)
    found = clf.set_params(callbacks=[CALLBACKS[case]]).fit(X, y).predict_proba(X)
    assert np.abs(found - plain).max() > 1e-6 or case == "the read-out is frozen"
    monkeypatch.setattr(DenseStep, "takes", lambda model, batches: False)
    np.testing.assert_allclose(clf.fit(X, y).predict_proba(X), found, atol=1e-9)


class Doubled(CosineSchedule):
    """Computed by numpy, in double precision."""

    def log_snr_derivative(self, t):
        return torch.as_tensor(np.asarray(super().log_snr_derivative(t), dtype=float))

    def snr(self, t):
        return torch.as_tensor(np.asarray(super().snr(t), dtype=float))


@pytest.mark.parametrize("variant", ["dt", "ct"])
def test_a_schedule_in_double_precision(variant):
    X, y = toy_data()
    clf = NoPropClassifier(variant, schedule=Doubled(), max_iter=2, random_state=0)
    assert np.isfinite(clf.fit(X, y).predict_proba(X)).all()


def test_autocast_around_a_fit_is_autograds():
    X, y = toy_data()
    with torch.autocast("cpu", torch.bfloat16):
        clf = NoPropClassifier("fm", max_iter=2, random_state=0).fit(X, y)
    assert np.isfinite(clf.predict_proba(X)).all()
