"""Layers against their plain counterparts."""

import numpy as np
import pytest
import torch
from torch import nn

from sknoprop.networks import HEADS, Encoder, ImageEncoding, NumberEncoding
from sknoprop.networks.encoders import MANY_INPUTS
from sknoprop.networks.products import NARROW, stacked_product
from sknoprop.networks.stacked import StackedBatchNorm, StackedDropout, StackedLinear, take_blocks
from sknoprop.networks.times import time_features


def generators(n, first=0):
    return [torch.Generator().manual_seed(first + i) for i in range(n)]


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_out", [3, NARROW, NARROW + 1])
def test_stacked_linear_is_one_linear_a_block(bias, n_out):
    layer = StackedLinear(5, n_out, generators(4), bias=bias)
    if bias:
        nn.init.normal_(layer.bias, generator=torch.Generator().manual_seed(1))
    shared, own = rand(7, 5), rand(4, 6, 2, 5)
    for i in range(4):
        b = layer.bias[i] if bias else None
        expected = nn.functional.linear(shared, layer.weight[i].T, b)
        torch.testing.assert_close(layer(shared)[i], expected)
        expected = nn.functional.linear(own[i], layer.weight[i].T, b)
        torch.testing.assert_close(layer(own)[i], expected)


@pytest.mark.parametrize("n_out", [3, NARROW])
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_gradients_of_stacked_products(n_out, rows):
    """Against finite differences, which know nothing of how the products are written."""
    x = rand(2, 3, 4).double().requires_grad_()
    weight = rand(2, 4, n_out, seed=1).double().requires_grad_()
    addend = rand(2, rows, n_out, seed=2).double().requires_grad_() if rows else None
    expected = x @ weight + (addend if rows else 0.0)
    torch.testing.assert_close(stacked_product(x, weight, addend), expected)
    assert torch.autograd.gradcheck(stacked_product, (x, weight, addend))


def test_initial_values_of_a_block_are_its_own():
    all_blocks = StackedLinear(5, 3, generators(4))
    two = StackedLinear(5, 3, generators(2, first=2))
    assert torch.equal(all_blocks.weight[2:], two.weight)
    deviation = StackedLinear(400, 300, generators(1)).weight.std()
    assert float(deviation.detach()) == pytest.approx((2 / 400) ** 0.5, rel=0.01)


@pytest.mark.parametrize("n_in", [3, MANY_INPUTS, 1000])
def test_many_inputs_start_out_as_they_would_and_take_no_larger_steps(n_in):
    X = rand(50, n_in).numpy()
    encoder = Encoder(NumberEncoding(X, n_bins=0), (16,), generators(2))
    numbers = NumberEncoding(X, n_bins=0)(torch.from_numpy(X))
    plain = StackedLinear(n_in, 16, generators(2))
    inputs = encoder.prepare(torch.from_numpy(X))
    torch.testing.assert_close(encoder(inputs), plain(numbers.float()), rtol=1e-4, atol=1e-5)
    # Adam's first step moves each weight by its rate: a row's features by the sum of its inputs.
    optimizer = torch.optim.Adam(encoder.parameters(), lr=0.01)
    before = encoder(inputs[:1])
    before.sum().backward()
    optimizer.step()
    moved = float((before - encoder(inputs[:1])).detach().abs().max())
    of_inputs = 0.01 * (min(n_in, MANY_INPUTS) / n_in * float(numbers[0].abs().sum()) + 1.0)
    assert moved == pytest.approx(of_inputs, rel=1e-3)  # and the bias
    assert moved <= 0.01 * (MANY_INPUTS * float(numbers[0].abs().max()) + 1.0) * 1.001


def test_many_inputs_are_as_they_are_with_normalisation_and_those_of_images_scaled_last():
    X = rand(50, 1000).numpy()
    encoder = Encoder(NumberEncoding(X, n_bins=0), (16,), generators(2), normalize=True)
    assert encoder.input_scale == 1.0
    images = np.random.default_rng(0).integers(0, 256, (20, 3 * 8 * 8), dtype=np.uint8)
    encoding = ImageEncoding.measured((3, 8, 8), images)
    encoder, plain = Encoder(encoding, (16,), generators(2)), StackedLinear(192, 16, generators(2))
    assert float(encoder.input_scale) == pytest.approx(MANY_INPUTS / 192)
    inputs = encoder.prepare(torch.from_numpy(images))
    assert inputs.dtype == torch.uint8
    expected = plain(encoding.normalize(inputs, torch.float32).flatten(1))
    torch.testing.assert_close(encoder(inputs), expected, rtol=1e-4, atol=1e-5)


def test_stacked_batch_norm_is_torchs_for_each_block():
    ours, theirs = StackedBatchNorm(3, 2), [nn.BatchNorm1d(3) for _ in range(2)]
    for step in range(3):
        x = 3 * rand(2, 5, 4, 3, seed=step) + 1
        out = ours(x)
        for i, norm in enumerate(theirs):
            torch.testing.assert_close(out[i].reshape(-1, 3), norm(x[i].reshape(-1, 3)))
    ours.eval()
    x = rand(2, 5, 4, 3, seed=9)
    for i, norm in enumerate(theirs):
        torch.testing.assert_close(ours.running_var[i], norm.running_var)
        torch.testing.assert_close(ours(x)[i].reshape(-1, 3), norm.eval()(x[i].reshape(-1, 3)))


def test_gradients_of_stacked_batch_norm_are_torchs_for_each_block():
    ours = StackedBatchNorm(3, 2).double()
    x, out_grad = 3 * rand(2, 7, 3).double() + 1, rand(2, 7, 3, seed=1).double()
    with torch.no_grad():
        ours.weight.uniform_(0.5, 2.0)
    x.requires_grad_()
    (out_grad * ours(x)).sum().backward()
    for i in range(2):
        theirs, own = nn.BatchNorm1d(3).double(), x[i].detach().requires_grad_()
        with torch.no_grad():
            theirs.weight.copy_(ours.weight[i])
        (out_grad[i] * theirs(own)).sum().backward()
        torch.testing.assert_close(x.grad[i], own.grad)
        torch.testing.assert_close(ours.weight.grad[i], theirs.weight.grad)
        torch.testing.assert_close(ours.bias.grad[i], theirs.bias.grad)


def test_batch_norm_survives_a_single_row():
    assert torch.isfinite(StackedBatchNorm(3, 2)(rand(2, 1, 1, 3))).all()


def test_dropout_masks_are_a_blocks_own_and_shared_by_draws():
    layer = StackedDropout(0.75)
    layer.generators = generators(3)
    x = torch.ones(3, 803, 2, 40)
    out = layer(x)
    assert set(out.unique().tolist()) == {0.0, 4.0}
    assert torch.equal(out[:, :, 0], out[:, :, 1])
    assert float(out.mean()) == pytest.approx(1.0, abs=0.06)
    # Rows share a mask with their neighbours and with nobody else.
    first = out[:, :: layer.rows_per_mask, 0]
    assert torch.equal(first.repeat_interleave(layer.rows_per_mask, 1)[:, :803], out[:, :, 0])
    assert (first[:, 1:] != first[:, :-1]).any(-1).all()
    layer.generators = generators(1, first=2)
    assert torch.equal(layer(x[2:])[0], out[2])
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize("p", [1e-7, 0.1, 0.35, 0.5, 0.999, 1.0 - 1e-7])
def test_what_dropout_keeps_makes_up_for_what_it_drops(p):
    """With probabilities of sixteen bits; also features that are drawn in one number."""
    layer, n = StackedDropout(p), 2**20
    (mask,) = layer.draw(generators(1), [n], torch.float32)
    kept = 1.0 / layer.factor
    assert kept == pytest.approx(1.0 - p, abs=2**-16)
    assert kept > 0.0
    assert ((mask == 0.0) | (mask - layer.factor).abs().le(1e-6 * layer.factor)).all()
    of_feature = (mask > 0.0).double().view(-1, 4)
    error = (kept * (1.0 - kept) / len(of_feature)) ** 0.5
    assert (of_feature.mean(0) - kept).abs().max() <= 5.0 * error
    together = of_feature.T @ of_feature / len(of_feature)
    apart = together[~torch.eye(4, dtype=torch.bool)] - kept**2
    assert apart.abs().max() <= 5.0 * (kept**2 * (1.0 - kept**2) / len(of_feature)) ** 0.5


def test_masks_drawn_at_once_are_those_drawn_in_turn():
    layer, sizes = StackedDropout(0.4), [5, 8, 1, 7]
    together = layer.draw(generators(2), sizes, torch.float32)
    own = generators(2)
    for mask, size in zip(together, sizes, strict=True):
        assert mask.shape == (2, size)
        assert torch.equal(mask, *layer.draw(own, [size], torch.float32))


def test_dropout_without_generators_says_so():
    with pytest.raises(RuntimeError, match="no generators"):
        StackedDropout(0.5)(torch.ones(1, 2, 1, 3))


def test_take_blocks_shares_values_and_changes_nothing():
    layer = nn.Sequential(StackedLinear(5, 3, generators(4)), StackedBatchNorm(3, 4)).eval()
    part = take_blocks(layer, slice(1, 3))
    x = rand(7, 5)
    torch.testing.assert_close(part(x), layer(x)[1:3])
    assert layer[0].weight.shape[0] == 4


def piecewise(x, edges):
    """The encoding written out for one value."""
    out = []
    k = len(edges) - 1
    for j in range(k):
        share = (x - edges[j]) / (edges[j + 1] - edges[j])
        low = -1.0 if j == 0 else 0.0
        high = 2.0 if j == k - 1 else 1.0
        out.append(min(max(share, low), high))
    return out


def test_number_encoding_by_hand():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.standard_normal(100), rng.exponential(size=100), np.full(100, 7.0)])
    encoding = NumberEncoding(X, n_bins=4)
    assert encoding.n_out == 3 + 4 + 4
    probe = np.array([[0.1, 0.5, 7.0], [-50.0, 60.0, 8.0]])
    out = encoding(torch.tensor(probe)).numpy()
    for row, x in zip(out, probe, strict=True):
        standard = (x[:2] - X[:, :2].mean(0)) / X[:, :2].std(0)
        np.testing.assert_allclose(row[:2], standard / np.sqrt(1 + (standard / 5) ** 2))
        edges = [np.quantile(X[:, j], np.linspace(0, 1, 5)) for j in range(2)]
        np.testing.assert_allclose(
            row[3:], piecewise(x[0], edges[0]) + piecewise(x[1], edges[1]), atol=1e-12
        )


def test_without_labels_features_of_few_values_are_not_binned():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 2, 200), rng.integers(0, 17, 200), rng.random(200)])
    assert NumberEncoding(X.astype(float), n_bins=8).column.unique().tolist() == [2]
    assert NumberEncoding(X.astype(float), n_bins=0).n_out == 3


@pytest.mark.parametrize("unit", [1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_units_do_not_matter(unit):
    X = np.random.default_rng(0).standard_normal((60, 2))
    expected = NumberEncoding(X, 4)(torch.tensor(X))
    found = NumberEncoding(unit * X, 4)(torch.tensor(unit * X))
    torch.testing.assert_close(found, expected)


def test_large_offsets_lose_nothing():
    X = np.random.default_rng(0).standard_normal((60, 1))
    expected = NumberEncoding(X, 4)(torch.tensor(X))
    found = NumberEncoding(X + 1e6, 4)(torch.tensor(X + 1e6))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_rounding_errors_are_no_spread():
    X = np.full((50, 1), 0.1) + 1e-17
    assert float(NumberEncoding(X, 8).scale) == 1.0


@pytest.mark.parametrize("head", sorted(HEADS))
@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_heads_add_latents_to_features(head, timed, normalize):
    """One set of latents for all rows gives what repeating it for each row gives."""
    module = HEADS[head](
        6, 4, 3, generators(2), dropout=0.0, timed=timed, normalize=normalize
    ).eval()
    features, z = rand(2, 5, 6), rand(2, 1, 7, 4, seed=1)
    position = torch.rand(2, 1, 7) if timed else None
    shared = module(features, z, position)
    assert shared.shape == (2, 5, 7, 3)
    wide = None if position is None else position.expand(2, 5, 7)
    torch.testing.assert_close(shared, module(features, z.expand(2, 5, 7, 4), wide))
    # So does one latent a row, as in training, for each of the seven.
    for k in range(7):
        one = module(
            features,
            z[:, :, k : k + 1].expand(2, 5, 1, 4),
            wide if wide is None else wide[:, :, k, None],
        )
        torch.testing.assert_close(one[:, :, 0], shared[:, :, k])


@pytest.mark.parametrize("own_latents", [False, True])
def test_predictions_in_pieces_are_the_training_formula(own_latents, monkeypatch):
    """On a CPU a prediction works on a few latents of a block at a time; training on all."""
    head = HEADS["light"](6, 3, 4, generators(2), dropout=0.5, timed=True, normalize=False).eval()
    features, position = rand(2, 8, 6), torch.rand(2, 1, 1)
    z = rand(2, 8 if own_latents else 1, 5, 3, seed=1)
    expected = head(features, z, position)
    assert expected.requires_grad
    pieces = []
    name = "add" if own_latents else "maximum"
    plain = getattr(torch, name)

    def counted(*args, out):
        if out.shape[-1] == 6:  # hidden features
            pieces.append(1)
        return plain(*args, out=out)

    monkeypatch.setattr(torch, name, counted)
    for numbers, n_pieces in ((8 * 6, 10), (2 * 8 * 6, 6), (2**18, 2)):
        monkeypatch.setattr("sknoprop.networks.heads.PIECE", numbers)
        pieces.clear()
        with torch.no_grad():
            torch.testing.assert_close(head(features, z, position), expected)
        assert len(pieces) == n_pieces


@pytest.mark.parametrize("timed", [True, False])
def test_light_head_starts_as_a_layer_each_for_latent_and_time(timed):
    head = HEADS["light"](500, 40, 3, generators(2), dropout=0.0, timed=timed, normalize=False)
    latent, time = head.latent.weight.detach().split([40, 8 if timed else 0], dim=1)
    assert float(latent.std()) == pytest.approx((2 / 40) ** 0.5, rel=0.02)
    if timed:
        assert float(time.std()) == pytest.approx((1 / 8) ** 0.5, rel=0.02)


def batch_norm(x):
    """Normalise over all axes but the last."""
    rows = x.reshape(-1, x.shape[-1])
    return nn.functional.batch_norm(rows, None, None, training=True).view(x.shape)


@pytest.mark.parametrize("normalize", [False, True], ids=["continuous time", "discrete time"])
def test_paper_head_is_figure_6(normalize):
    """Written out, with one layer on what is concatenated where the head sums parts."""
    timed = not normalize
    head = HEADS["paper"](6, 4, 3, generators(1), 0.0, timed, normalize)
    features, z, position = rand(1, 5, 6), rand(1, 5, 7, 4, seed=1), torch.rand(1, 5, 7)
    norm = batch_norm if normalize else nn.Identity()

    def dense(layer, x):
        return nn.functional.linear(x, layer.weight[0].T, layer.bias[0])

    latent = norm(dense(head.latent[0], z)).relu()
    if normalize:
        first, last = head.residual[0], head.residual[3]
        latent = latent + norm(dense(last, norm(dense(first, latent)).relu()))
    # With normalisation the encoder ends in it, see test_encoder_normalises_each_layer.
    own = features if normalize else features.relu()
    parts = [own[:, :, None].expand(-1, -1, 7, -1), latent]
    layers = [head.from_features, head.from_latent]
    if timed:
        parts.append(dense(head.time[0], time_features(position, 64)).relu())
        layers.append(head.from_time)
    weight = torch.cat([layer.weight[0] for layer in layers])
    hidden = torch.cat(parts, -1) @ weight + head.from_features.bias[0]
    hidden = norm(dense(head.fused[2], norm(hidden).relu())).relu()
    expected = dense(head.out, hidden)
    found = head(features, z, position if timed else None)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("timed", [True, False])
def test_the_papers_network_starts_as_torchs_own_layers(timed):
    """A layer on what is concatenated counts as one, though the head sums parts."""
    head = HEADS["paper"](120, 40, 50, generators(20), 0.0, timed, normalize=not timed)
    encoder = Encoder(
        *(NumberEncoding(rand(9, 70).numpy(), 0), (120,), generators(20)),
        gain=head.gain,
        many_inputs=head.many_inputs,
    )
    layers = [m for part in (head, encoder) for m in part.modules() if isinstance(m, StackedLinear)]
    assert len(layers) == 8
    for layer in layers:
        _, n_in, n_out = layer.weight.shape
        if layer in (head.from_features, head.from_latent, head.from_time):
            n_in *= 3 if timed else 2
        own, plain = layer.weight.detach(), nn.Linear(n_in, n_out).weight.detach()
        assert float(own.std()) == pytest.approx(float(plain.std()), rel=0.04)
        assert float(own.abs().max()) == pytest.approx(float(plain.abs().max()), rel=0.01)


def test_time_features_tell_times_apart():
    times = torch.linspace(0, 1, 50)
    features = time_features(times, 8)
    angles = np.outer(times.double(), np.arange(1, 5) * np.pi / 2)
    np.testing.assert_allclose(features, np.hstack([np.sin(angles), np.cos(angles)]), atol=1e-6)
    assert torch.cdist(features, features).add(torch.eye(50) * 9).min() > 0.01


def test_encoder_layers():
    X = np.random.default_rng(0).standard_normal((30, 2))
    encoder = Encoder(NumberEncoding(X, 3), (7, 5), generators(2))
    inputs = encoder.prepare(torch.tensor(X))
    assert inputs.dtype == torch.float32
    first, second = encoder.layers
    for i in range(2):
        hidden = (inputs @ first.weight[i] + first.bias[i]).relu()
        torch.testing.assert_close(encoder(inputs)[i], hidden @ second.weight[i] + second.bias[i])


def test_encoder_normalises_each_layer():
    X = np.random.default_rng(0).standard_normal((30, 2))
    encoder = Encoder(NumberEncoding(X, 3), (7, 5), generators(2), normalize=True)
    inputs = encoder.prepare(torch.tensor(X))
    first, second = encoder.layers
    for i in range(2):
        hidden = batch_norm(inputs @ first.weight[i] + first.bias[i]).relu()
        expected = batch_norm(hidden @ second.weight[i] + second.bias[i])
        torch.testing.assert_close(encoder(inputs)[i], expected, rtol=1e-4, atol=1e-4)


def test_values_beyond_all_bounds_are_clipped_not_lost():
    X = np.random.default_rng(0).standard_normal((30, 1))
    far = NumberEncoding(X, 0)(torch.tensor([[1e200], [-1e200]], dtype=torch.float64))
    torch.testing.assert_close(far, torch.tensor([[5.0], [-5.0]], dtype=torch.float64))
