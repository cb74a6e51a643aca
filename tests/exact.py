"""A stand-in for a trained model: the exact posterior of known class probabilities.

It has what `sknoprop.inference` asks of a model, and nothing learnt. The posterior is written
here from Bayes' rule, not taken from the package.
"""

from types import SimpleNamespace

import torch

from sknoprop.kernels import kernel_latents
from sknoprop.networks.latents import CandidateLatents

F64 = torch.float64


class ExactModel:
    """Blocks that know ``P(y | x, z)`` for class probabilities `prior` given x."""

    def __init__(self, prior, weight, schedule, levels, noise_power=2.0, conditional=False):
        self.prior = torch.as_tensor(prior, dtype=F64)
        self.embedding = SimpleNamespace(
            weight=torch.as_tensor(weight, dtype=F64), n_classes=len(weight)
        )
        self.schedule = schedule.double().requires_grad_(False)
        self.levels = torch.as_tensor(levels, dtype=F64)
        self.n_blocks = len(levels)
        self.variant = SimpleNamespace(single_level=True)
        self.partition = SimpleNamespace(span=SimpleNamespace(start=self.levels))
        self.noise_power = noise_power  # 2 is right
        self.takes_candidates = False
        self.conditional = conditional  # whether candidates' probabilities are given it is one

    def posterior(self, z, t):
        """P(c | z) ~ prior_c exp(-|z - m W_c|^2 / (2 s^2)); t broadcasts with a last axis of 1."""
        signal, noise = self.schedule.signal(t), self.schedule.noise(t)
        distance = (z.unsqueeze(-2) - signal.unsqueeze(-1) * self.embedding.weight).square().sum(-1)
        return torch.softmax(self.prior.log() - 0.5 * distance / noise**self.noise_power, -1)

    def latent_size(self, own, n_candidates=None):
        return max(self.embedding.weight.shape)

    def class_probabilities(self, features, z, t):
        if isinstance(z, CandidateLatents):
            weight, *level = z.noised
            latents = kernel_latents(weight[z.origins], *level)
            p = self.posterior(latents.flatten(2, 3), t[..., None])
            p = p.gather(-1, z.classes[None, :, None].expand(*p.shape[:3], -1))
            return p / p.sum(-1, keepdim=True) if self.conditional else p
        return self.posterior(z, t[..., None]).expand(-1, features.shape[1], -1, -1)
