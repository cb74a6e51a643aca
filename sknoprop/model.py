"""The model: T independent denoising blocks and the path that ties them to the label."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sknoprop.embeddings import ClassEmbedding
from sknoprop.networks.encoders import MLPEncoder
from sknoprop.networks.heads import Head
from sknoprop.parameterizations import Parameterization
from sknoprop.partition import Partition
from sknoprop.readouts import Readout
from sknoprop.schedules import Schedule
from sknoprop.variants import Path, Variant, prior_divergence

__all__ = ["Draws", "Losses", "NoPropModel"]


@dataclass(frozen=True)
class Draws:
    """The random numbers of one training step."""

    eps: Tensor
    """Noise of the latents, shape (n_blocks, n_samples, n_draws, embedding_dim)."""
    uniform: Tensor
    """Where in its interval each time lies, shape (n_blocks, n_samples, n_draws)."""
    last: Tensor
    """Noise of the last latent, for the read-out, shape (n_samples, embedding_dim)."""


@dataclass(frozen=True)
class Losses:
    """The terms of the loss on one batch."""

    blocks: Tensor
    """Each block's denoising loss (and, for flow matching with a learned embedding, its
    extrapolation term), shape (n_blocks,)."""
    readout: Tensor
    """Cross-entropy of the read-out at the last latent, shape ()."""
    prior: Tensor
    """Divergence of the first latent from pure noise, shape ()."""

    def total(self) -> Tensor:
        """The paper's loss."""
        return self.blocks.sum() + self.readout + self.prior


class NoPropModel(nn.Module):
    """Encoder, heads, embedding, read-out and path.

    Parameters
    ----------
    encoder : MLPEncoder
    head : Head
    embedding : ClassEmbedding
    readout : Readout
    schedule : Schedule
    partition : Partition
    variant : Variant
    parameterization : Parameterization
    loss_weight : float
        eta, the factor of the denoising term.
    """

    def __init__(
        self,
        encoder: MLPEncoder,
        head: Head,
        embedding: ClassEmbedding,
        readout: Readout,
        schedule: Schedule,
        partition: Partition,
        variant: Variant,
        parameterization: Parameterization,
        loss_weight: float,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.embedding = embedding
        self.readout = readout
        self.schedule = schedule
        self.partition = partition
        self.variant = variant
        self.parameterization = parameterization
        self.loss_weight = loss_weight
        self.path = Path(schedule, partition, parameterization, variant.horizon(schedule))
        # Without a term that trains the read-out it stays what it starts as: the exact posterior.
        self.readout.requires_grad_(variant.trains_readout or embedding.trainable)

    @property
    def n_blocks(self) -> int:
        return self.partition.n_blocks

    @property
    def shares_parameters(self) -> bool:
        """Whether blocks have a learned embedding or schedule in common."""
        return self.embedding.trainable or self.schedule.trainable

    def scale(self) -> Tensor:
        """Constant by which a block's loss exceeds its mean squared error: ``(n_blocks,)``."""
        return self.loss_weight * self.variant.scale(self.path)

    def position(self, t: Tensor, blocks: slice = slice(None)) -> Tensor | None:
        """Where in the intervals of `blocks` times `t` of shape ``(n_blocks, ...)`` lie."""
        if self.variant.single_level:
            return None
        span = self.partition.span
        shape = (-1, *[1] * (t.dim() - 1))
        start, length = span.start[blocks].view(shape), span.length[blocks].view(shape)
        # Times after the last block's own are shown to it as the last ones it knows.
        return ((t - start) / length).clamp(0.0, 1.0)

    def losses(self, inputs: Tensor, y: Tensor, draws: Draws) -> Losses:
        """Loss terms of all blocks on one batch.

        Parameters
        ----------
        inputs : Tensor
            Prepared by the encoder, ``n_samples`` rows.
        y : Tensor of shape (n_samples,)
            Labels 0 to ``n_classes - 1``.
        draws : Draws

        Returns
        -------
        Losses
        """
        path, weight = self.path, self.embedding.weight
        u = self.embedding(y)
        t = self.variant.times(path, draws.uniform)
        at = t[..., None]
        z = self.schedule.signal(at) * u[:, None] + self.schedule.noise(at) * draws.eps
        logits = self.head(self.encoder(inputs), z, self.position(t))
        loss = self.variant.denoising_loss(path, weight, logits, z, t, u[:, None], draws.eps)
        blocks = self.loss_weight * loss.mean((1, 2))
        zero = blocks.new_zeros(())
        if self.variant.trains_readout:
            end = u.new_tensor(path.horizon)
            last = self.schedule.signal(end) * u + self.schedule.noise(end) * draws.last
            readout = nn.functional.cross_entropy(self.readout(last, weight), y)
        else:
            readout = zero
            if self.embedding.trainable:
                # The paper's extrapolation term: the label read off each block's own estimate.
                guess = self.parameterization.label(logits, z, at, weight, self.schedule)
                log_p = torch.log_softmax(self.readout(guess, weight), -1)
                miss = -log_p.gather(-1, y.view(1, -1, 1, 1).expand(*log_p.shape[:-1], 1))
                blocks = blocks + self.partition.span.length * miss.mean((1, 2, 3))
        prior = prior_divergence(self.schedule, u).mean() if self.shares_parameters else zero
        return Losses(blocks, readout, prior)

    def objective(self, losses: Losses, scale: Tensor) -> Tensor:
        """What the optimiser minimises.

        With nothing shared, each block's loss is divided by its `scale`: a positive constant of
        its own, so the blocks' optima are the paper's. With a learned embedding or schedule the
        blocks' weights relative to each other matter, and the loss is the paper's as it stands.
        """
        if self.shares_parameters:
            return losses.total()
        return (losses.blocks / scale).sum() + losses.readout

    def class_probabilities(self, features: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """``P(y | x, z_t)`` as each block sees it.

        Parameters
        ----------
        features : Tensor of shape (n_blocks, n_samples, width)
        z : Tensor of shape (n_blocks, n_samples or 1, n_latents, embedding_dim)
        t : Tensor of shape (n_blocks, 1, n_latents or 1)

        Returns
        -------
        Tensor of shape (n_blocks, n_samples, n_latents, n_classes)
        """
        logits = self.head(features, z, self.position(t))
        return self.parameterization.probabilities(
            logits, z, t[..., None], self.embedding.weight, self.schedule
        )
