"""Read-outs against Bayes' rule."""

import numpy as np
import torch
from scipy.stats import multivariate_normal

from sknoprop.readouts import LinearReadout, PosteriorReadout, gaussian_class_logits

WEIGHT = torch.tensor([[1.0, 0.5], [-1.0, 2.0], [0.0, 0.0]], dtype=torch.float64)
PRIOR = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
Z = torch.randn(10, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_linear_readout_starts_at_the_exact_posterior():
    readout = LinearReadout(WEIGHT, PRIOR, signal=0.8, noise=0.6)
    found = torch.softmax(readout(Z, WEIGHT), -1).detach().numpy()
    density = np.array(
        [[multivariate_normal.pdf(z, 0.8 * w, 0.36 * np.eye(2)) for w in WEIGHT] for z in Z]
    )
    expected = density * PRIOR.numpy()
    np.testing.assert_allclose(found, expected / expected.sum(1, keepdims=True))


def test_sharp_readout_picks_the_nearest_embedding():
    readout = LinearReadout(WEIGHT, PRIOR, signal=0.98, noise=0.018)
    nearest = torch.cdist(Z, 0.98 * WEIGHT).argmin(1)
    assert torch.equal(readout(Z, WEIGHT).argmax(1), nearest)


def test_frequent_classes_win_latents_almost_as_near():
    """Two classes at distance 2: the boundary moves by s^2 log(p_0 / p_1) / (2 m)."""
    weight = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    prior = torch.tensor([0.9, 0.1], dtype=torch.float64)
    boundary = 0.6**2 * np.log(9.0) / (2 * 0.8)
    z = torch.tensor([[boundary - 1e-6], [boundary + 1e-6]], dtype=torch.float64)
    readout = LinearReadout(weight, prior, signal=0.8, noise=0.6)
    assert readout(z, weight).argmax(1).tolist() == [0, 1]


def test_posterior_readout_is_equation_16():
    readout = PosteriorReadout(WEIGHT, PRIOR, signal=0.8, noise=0.6)
    found = torch.softmax(readout(Z, WEIGHT), -1)
    y_hat = torch.softmax(readout.guess(Z, WEIGHT), -1) @ WEIGHT
    distance = torch.cdist(y_hat, WEIGHT).square()
    expected = torch.softmax(-distance / (2 * (0.6 / 0.8) ** 2), -1)
    torch.testing.assert_close(found, expected)


def test_gaussian_logits_differ_as_log_densities():
    logits = gaussian_class_logits(Z, WEIGHT, 0.5, 2.0).numpy()
    density = np.array(
        [[multivariate_normal.logpdf(z, 0.5 * w, 4 * np.eye(2)) for w in WEIGHT] for z in Z]
    )
    difference = logits - density
    np.testing.assert_allclose(difference, difference[:, :1].repeat(3, 1))
