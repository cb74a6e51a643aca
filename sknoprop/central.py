"""Class probabilities of a block from one latent that says nothing of the class.

A block that knows ``P(y | x, z)`` gives the class probabilities at *any* latent z of its level, by
Bayes' rule::

    P(c | x) = P(c | x, z) / q(z | c) / sum_k P(k | x, z) / q(z | k).

It is the class kernel of `sknoprop.kernels` with z for its only latent: ``flow[c, y]`` is then
``P(y | x, z) q(z | c) / sum_k q(z | k)``, of rank one, and this its stationary law. At most latents
that is a poor estimate: what a block says far from a class hangs on rare events. The centre, the
mean embedding without noise, is where classes' densities differ least: of one-hot embeddings they
are the same, and the block's answer is ``P(c | x)`` as it stands.

Where classes are many, this is what blocks are asked. A kernel over all of them would have a latent
for each, and as many answers to each latent; here a row costs one pass of the head, as it does in
any network.
"""

from __future__ import annotations

from torch import Tensor

from sknoprop.model import NoPropModel
from sknoprop.probes import Probe, Probes
from sknoprop.rowwise import sum_of_classes

__all__ = ["central_probabilities"]


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
    # One after the other: torch's own mean may be rounded by where a row stands.
    first, *others = probes
    total = _law(model, features, first)
    for probe in others:
        total += _law(model, features, probe)
    return total / len(probes)


def _law(model: NoPropModel, features: Tensor, probe: Probe) -> Tensor:
    z, factor = probe.centre
    law = model.class_probabilities(features, z, probe.t[:, None, None])[:, :, 0] * factor
    return law / sum_of_classes(law)[..., None]
