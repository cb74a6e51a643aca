"""Class probabilities of a block from one latent that says nothing of the class.

A block that knows ``P(y | x, z)`` gives the class probabilities at *any* latent z of its level, by
Bayes' rule::

    P(c | x) = P(c | x, z) / q(z | c) / sum_k P(k | x, z) / q(z | k).

It is the class kernel of `sknoprop.kernels` with z for its only latent: ``flow[c, y]`` is then
``P(y | x, z) q(z | c) / sum_k q(z | k)``, of rank one, and this its stationary law. At most latents
little is gained by it, as what a block says far from a class hangs on rare events. The centre, the
mean embedding without noise, is as far from all classes as can be: from one-hot embeddings equally
far, and then the block's answer is ``P(c | x)`` as it stands.

Where classes are many, this is what blocks are asked. A kernel over all of them would have a latent
for each, and as many answers to each latent; here a row costs one pass of the head, as it does in
any network.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sknoprop.model import NoPropModel
from sknoprop.probes import Probe, Probes, kernel_levels
from sknoprop.rowwise import sum_of_classes

__all__ = ["central_probabilities", "has_centre", "log_density_at_centre"]

#: Largest difference of the log densities of the centre given each class. Where it is larger, as it
#: may be with few dimensions and little noise, what a block is mistaken in is multiplied by more.
MOST_APART = 1.0


def log_density_at_centre(weight: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    """``log q(z | c)`` at the mean of the noised embeddings, less that of the nearest class.

    Parameters
    ----------
    weight : Tensor of shape (n_classes, embedding_dim)
        Class embeddings.
    signal, noise : Tensor of shape (...)

    Returns
    -------
    Tensor of shape (..., n_classes)
        Nought for the nearest class, negative for those further away.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.central import log_density_at_centre
    >>> one = torch.ones(())
    >>> bool((log_density_at_centre(torch.eye(5), one, one).abs() < 1e-6).all())
    True
    >>> log_density_at_centre(torch.tensor([[-1.0], [0.0], [1.0]]), one, one)
    tensor([-0.5000, -0.0000, -0.5000])
    """
    apart = (weight - weight.mean(0)).square().sum(1)
    return -0.5 * ((signal / noise) ** 2)[..., None] * (apart - apart.min())


@torch.no_grad()
def has_centre(model: NoPropModel) -> bool:
    """Whether all classes are about as far from their mean, for the noise that blocks have.

    Parameters
    ----------
    model : NoPropModel
        As it is now.

    Returns
    -------
    bool
        Of one-hot embeddings True, whatever the schedule.
    """
    t = kernel_levels(model)
    signal, noise = model.schedule.signal(t), model.schedule.noise(t)
    log_density = log_density_at_centre(model.embedding.weight, signal, noise)
    return -float(log_density.min()) <= MOST_APART


def central_probabilities(model: NoPropModel, features: Tensor, probes: Probes) -> Tensor:
    """Each block's own estimate of the class probabilities, from the centre of its levels.

    Parameters
    ----------
    model : NoPropModel
    features : Tensor of shape (n_blocks, n_samples, width)
    probes : Probes
        Of the model; their levels are asked, and no draws.

    Returns
    -------
    Tensor of shape (n_blocks, n_samples, n_classes), float64
        The mean over a block's levels.
    """
    laws = [_law(model, features, probe) for probe in probes]
    return torch.stack(laws).mean(0) if len(laws) > 1 else laws[0]


def _law(model: NoPropModel, features: Tensor, probe: Probe) -> Tensor:
    weight, signal, noise, _ = probe.noised
    z = signal.view(-1, 1, 1, 1) * weight.mean(0)
    p = model.class_probabilities(features, z, probe.t[:, None, None])[:, :, 0].double()
    law = p * (-log_density_at_centre(weight, signal, noise)).double().exp()[:, None]
    return law / sum_of_classes(law)[..., None]
