"""Convolutional paths against plain layers, and images against their rows."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sknoprop.networks import PATHS, ImageEncoding
from sknoprop.networks.convolutions import StackedConv2d, paper_path, residual_path
from sknoprop.networks.stacked import StackedDropout, take_blocks
from tests.test_networks import generators, rand


@pytest.mark.parametrize(
    ("kernel_size", "stride", "bias"), [(3, 1, True), (3, 2, False), (1, 2, False)]
)
def test_stacked_convolution_is_one_convolution_a_block(kernel_size, stride, bias):
    layer = StackedConv2d(2, 5, generators(3), kernel_size, stride, bias)
    if bias:
        nn.init.normal_(layer.bias, generator=torch.Generator().manual_seed(1))
    images = [rand(4, 2, 7, 6, seed=i) for i in range(3)]
    for i, out in enumerate(layer(images)):
        plain = nn.Conv2d(2, 5, kernel_size, stride, padding=kernel_size // 2, bias=bias)
        plain.weight.data = layer.weight[i].data
        if bias:
            plain.bias.data = layer.bias[i].data
        torch.testing.assert_close(out, plain(images[i]))


def test_initial_convolutions_of_a_block_are_its_own():
    two = StackedConv2d(3, 4, generators(2, first=2))
    assert torch.equal(StackedConv2d(3, 4, generators(4)).weight[2:], two.weight)
    deviation = StackedConv2d(64, 64, generators(1)).weight.std()
    assert float(deviation.detach()) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.01)


def convolutions(path):
    return [m for m in path.modules() if isinstance(m, StackedConv2d)]


def test_the_papers_path_starts_as_torchs_own_layers():
    for layer in convolutions(paper_path((3, 10, 13), generators(20))):
        _, n_out, n_in, height, width = layer.weight.shape
        own = layer.weight.detach()
        plain = nn.Conv2d(n_in, 20 * n_out, (height, width)).weight.detach()
        assert float(own.std()) == pytest.approx(float(plain.std()), rel=0.04)
        assert float(own.abs().max()) == pytest.approx(float(plain.abs().max()), rel=0.01)


def test_the_papers_path_is_figure_6():
    path = paper_path((3, 10, 13), generators(2)).eval()
    images = rand(4, 3, 10, 13)
    for i in range(2):
        plain = nn.Sequential(
            *(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Dropout(0.2)),
            *(nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2)),
            nn.Flatten(),
        ).eval()
        for own, layer in zip(
            (m for m in plain if isinstance(m, nn.Conv2d)), convolutions(path), strict=True
        ):
            own.weight.data, own.bias.data = layer.weight[i].data, layer.bias[i].data
        torch.testing.assert_close(path(images)[i], plain(images))
    dropouts = [m.p for m in path.modules() if isinstance(m, StackedDropout)]
    assert dropouts == [0.2, 0.2, 0.2]
    assert path(images).shape == (2, 4, path.n_out)
    own = torch.stack([images, images + 1])
    torch.testing.assert_close(path(own)[1], path(images + 1)[1])


class PlainResidual(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.a, self.b = nn.Conv2d(n_in, n_out, 3, 2, 1, bias=False), nn.BatchNorm2d(n_out)
        self.c, self.d = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False), nn.BatchNorm2d(n_out)
        self.e, self.f = nn.Conv2d(n_in, n_out, 1, 2, bias=False), nn.BatchNorm2d(n_out)

    def forward(self, x):
        return F.relu(self.d(self.c(F.relu(self.b(self.a(x))))) + self.f(self.e(x)))


@pytest.mark.parametrize(("wide", "widths"), [(False, (16, 32, 64)), (True, (64, 128, 256, 512))])
def test_the_residual_path_is_a_residual_network(wide, widths):
    path = residual_path((1, 9, 8), generators(2), wide)
    images = rand(6, 1, 9, 8)
    first = nn.Conv2d(1, widths[0], 3, padding=1, bias=False)
    plain = nn.Sequential(
        *(first, nn.Identity() if wide else nn.MaxPool2d(2), nn.BatchNorm2d(widths[0]), nn.ReLU()),
        *(PlainResidual(a, b) for a, b in pairwise(widths)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )
    for own, layer in zip(
        (m for m in plain.modules() if isinstance(m, nn.Conv2d)), convolutions(path), strict=True
    ):
        own.weight.data = layer.weight[1].data
    torch.testing.assert_close(path(images)[1], plain(images), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(  # with the running moments of that one batch
        path.eval()(images)[1], plain.eval()(images), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", PATHS)
def test_blocks_of_a_path_share_no_gradient(name):
    path = PATHS[name]((1, 8, 8), generators(3))
    for dropout in path.modules():
        if isinstance(dropout, StackedDropout):
            dropout.generators = generators(3)
    features = path(rand(5, 1, 8, 8))
    grads = torch.autograd.grad(features[1].square().sum(), list(path.parameters()))
    for grad in grads:
        assert (grad[[0, 2]] == 0).all()
        assert (grad[1] != 0).any()


@pytest.mark.parametrize("name", PATHS)
def test_blocks_can_be_taken_out_of_a_path(name):
    path = PATHS[name]((1, 8, 8), generators(3)).eval()
    images = rand(5, 1, 8, 8)
    alone = take_blocks(path, slice(1, 2))
    torch.testing.assert_close(alone(images), path(images)[1:2])


def test_dropout_of_a_path_keeps_the_mean_and_comes_from_the_blocks_generators():
    path = paper_path((1, 4, 4), generators(2))
    dropout = next(m for m in path.modules() if isinstance(m, StackedDropout))
    with pytest.raises(RuntimeError, match="no generators"):
        dropout([torch.ones(3, 2, 2, 2)] * 2)
    dropout.generators = generators(2)
    many = [torch.ones(100, 20, 5, 5)] * 2
    first = dropout(many)
    values = first[0].unique().tolist()
    assert values == pytest.approx([0.0, 1.25], rel=2**-15)  # of a probability of sixteen bits
    # A mask is shared by eight rows: as many draws as 13 rows have.
    assert abs(float(first[0].mean()) - 1) < 5 * 0.5 / (13 * 500) ** 0.5
    assert not torch.equal(first[0], first[1])
    dropout.generators = generators(1, first=1)
    assert torch.equal(dropout(many[:1])[0], first[1]), "whatever other blocks there are"


@pytest.mark.parametrize("path", PATHS.values())
def test_images_too_small_for_a_path_are_named(path):
    with pytest.raises(ValueError, match=r"at least 4 x 4 .* Got .*\(1, 3, 9\)"):
        path((1, 3, 9), generators(1))


def test_images_are_standardised_by_channel():
    rng = np.random.default_rng(0)
    X = rng.normal([3.0, -1e6, 5.0], [2.0, 1e-2, 0.0], (500, 4, 3)).transpose(0, 2, 1)
    encoding = ImageEncoding.measured((3, 2, 2), X.reshape(500, -1))
    images = encoding(torch.as_tensor(X.reshape(500, -1)))
    assert images.shape == (500, 3, 2, 2)
    # A number near a million is known to 1e-10, a hundred-millionth of that channel's spread.
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3).double(), atol=1e-7, rtol=0)
    deviation = images.std((0, 2, 3), correction=0)
    torch.testing.assert_close(deviation, torch.tensor([1.0, 1.0, 0.0]).double(), atol=1e-6, rtol=0)


def test_bytes_stay_bytes_until_they_are_needed():
    X = np.arange(60, dtype=np.uint8).reshape(5, 12)
    encoding = ImageEncoding.measured((3, 2, 2), X)
    prepared = encoding(torch.as_tensor(X))
    assert prepared.dtype == torch.uint8
    late = encoding.normalize(prepared, torch.float64)
    torch.testing.assert_close(late, encoding(torch.as_tensor(X.astype(float))))
