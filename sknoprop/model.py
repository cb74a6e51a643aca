"""The model: T independent denoising blocks and the path that ties them to the label."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sknoprop.embeddings import ClassEmbedding
from sknoprop.kernels import kernel_latents
from sknoprop.networks.encoders import Encoder
from sknoprop.networks.heads import Head
from sknoprop.networks.latents import CandidateLatents
from sknoprop.networks.stacked import STACKED, take_blocks
from sknoprop.parameterizations import Parameterization
from sknoprop.partition import Partition
from sknoprop.readouts import Readout
from sknoprop.schedules import Schedule
from sknoprop.variants import Levels, Path, Variant, prior_divergence

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
    levels: Levels | None = None
    """Noise levels at those times, of `NoPropModel.levels`; computed in the step if None."""


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


def mean_over_rows(loss: Tensor, sample_weight: Tensor | None) -> Tensor:
    """Mean of losses ``(n_blocks, n_samples, n_draws)`` over rows and draws: ``(n_blocks,)``.

    Weights are those of `NoPropModel.losses`: the mean of weighted losses over all batches is
    then the weighted mean over all rows, whatever rows a batch holds.
    """
    if sample_weight is None:
        return loss.mean((1, 2))
    return (loss.mean(2) * sample_weight).mean(1)


class NoPropModel(nn.Module):
    """Encoder, heads, embedding, read-out and path.

    Parameters
    ----------
    encoder : Encoder
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

    #: What the networks' products are rounded to, if not to the dtype of the parameters. Set while
    #: training and only then.
    products: torch.dtype | None = None

    temperature: Tensor

    def __init__(
        self,
        encoder: Encoder,
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
        #: Of the blocks' class probabilities, see `sknoprop.calibration`.
        self.register_buffer("temperature", torch.ones((), dtype=torch.float32))
        self.schedule = schedule
        self.partition = partition
        self.variant = variant
        self.parameterization = parameterization
        self.loss_weight = loss_weight
        self.path = Path(schedule, partition, parameterization, variant.horizon(schedule))
        self.unfreeze()

    @property
    def n_blocks(self) -> int:
        return self.partition.n_blocks

    def take(self, part: slice) -> NoPropModel:
        """Some of the blocks as a model of their own, whose tensors are parts of this one's."""
        taken: NoPropModel = take_blocks(self, part)
        taken.partition = self.partition.take(part)
        path = self.path
        taken.path = Path(path.schedule, taken.partition, path.parameterization, path.horizon)
        return taken

    @property
    def shares_parameters(self) -> bool:
        """Whether blocks have a learned embedding or schedule in common."""
        return self.embedding.trainable or self.schedule.trainable

    @property
    def trains_readout(self) -> bool:
        """Whether the loss has a term for the read-out."""
        wanted = self.variant.trains_readout and self.readout.reads_latent
        return wanted or self.embedding.trainable

    @property
    def takes_candidates(self) -> bool:
        """Whether `CandidateLatents` need not be multiplied out."""
        return self.head.takes_candidates and self.parameterization.local

    def latent_size(self, own: bool, n_candidates: int | None = None) -> int:
        """Numbers a block makes of one latent and row, at most, where no gradients are kept.

        Parameters
        ----------
        own : bool
            Whether each row has latents of its own, in an array.
        n_candidates : int, optional
            Classes of `CandidateLatents`.
        """
        if n_candidates is not None and self.takes_candidates:
            return max(self.head.latent_size(False), n_candidates)
        own = own or n_candidates is not None
        return max(self.head.latent_size(own), *self.embedding.weight.shape)

    def unfreeze(self) -> None:
        """Let gradients reach what training moves, and nothing else."""
        self.requires_grad_(True)
        self.schedule.requires_grad_(self.schedule.trainable)
        # Without a term that trains the read-out it stays what it starts as: the exact posterior.
        self.readout.requires_grad_(self.trains_readout)

    def block_tensors(self) -> dict[str, Tensor]:
        """Parameters and running moments that belong to single blocks, by name.

        Block i owns slice i along the first axis of each.
        """
        tensors: dict[str, Tensor] = {}
        for prefix, module in self.named_modules():
            if isinstance(module, STACKED):
                tensors |= {
                    f"{prefix}.{name}": tensor.data
                    for name, tensor in (
                        *module.named_parameters(recurse=False),
                        *module.named_buffers(recurse=False),
                    )
                }
        return tensors

    def scale(self) -> Tensor:
        """Constant by which a block's loss exceeds its mean squared error: ``(n_blocks,)``."""
        return self.loss_weight * self.variant.scale(self.path)

    def position(self, t: Tensor, blocks: slice = slice(None)) -> Tensor | None:
        """Where in the intervals of `blocks` times `t` of shape ``(n_blocks, ...)`` lie."""
        if self.variant.single_level:
            return None
        span = self.partition.frame
        shape = (-1, *[1] * (t.dim() - 1))
        start, length = span.start[blocks].view(shape), span.length[blocks].view(shape)
        # Times after the last block's own are shown to it as the last ones it knows.
        return ((t - start) / length).clamp(0.0, 1.0)

    @torch.no_grad()
    def levels(self, uniform: Tensor) -> Levels | None:
        """Noise levels at draws for many steps, which then need not compute them.

        Parameters
        ----------
        uniform : Tensor of shape (n_blocks, n_samples, n_draws)
            As in `Draws`.

        Returns
        -------
        Levels or None
            All of the shape of `uniform`; None with a schedule that steps change.
        """
        if self.schedule.trainable:
            return None
        levels = self._levels(uniform)
        parts = (levels.t, levels.signal, levels.noise, levels.weight)
        return Levels(*(part.expand(uniform.shape) for part in parts))

    def _levels(self, uniform: Tensor) -> Levels:
        levels = self.variant.levels(self.path, uniform)
        return replace(levels, weight=self.loss_weight * levels.weight)

    @torch.no_grad()
    def constants(self) -> tuple[Tensor, Tensor] | None:
        """What `losses` computes alike in each step; None with a schedule that is trained."""
        return None if self.schedule.trainable else self._last_level()

    def _last_level(self) -> tuple[Tensor, Tensor]:
        end = self.partition.edges.new_full((), self.path.horizon)
        return self.schedule.signal(end), self.schedule.noise(end)

    def losses(
        self,
        inputs: Tensor,
        y: Tensor,
        draws: Draws,
        sample_weight: Tensor | None = None,
        constants: tuple[Tensor, Tensor] | None = None,
        block_weight: Tensor | None = None,
    ) -> Losses:
        """Loss terms of all blocks on one batch.

        Parameters
        ----------
        inputs : Tensor
            Prepared by the encoder, ``n_samples`` rows.
        y : Tensor of shape (n_samples,)
            Labels 0 to ``n_classes - 1``.
        draws : Draws
        sample_weight : Tensor of shape (n_samples,), optional
            Factors of the rows' losses, 1 on the average over the training rows.
        constants : tuple of Tensor, optional
            What `constants` gave, lest each step compute it anew: signal and noise of the last
            latent.
        block_weight : Tensor of shape (n_blocks, n_samples), optional
            Factors of the rows' losses in each block instead, where blocks leave rows out.

        Returns
        -------
        Losses
            Means over the rows.
        """
        path, weight = self.path, self.embedding.weight
        of_rows = sample_weight if block_weight is None else block_weight
        u, levels, z, position = self.latents(y, draws, of_rows)
        logits = self._logits(inputs, z, position)
        loss = self.variant.denoising_loss(path, weight, logits, z, levels, u[:, None], draws.eps)
        blocks = loss.mean((1, 2))
        readout = zero = blocks.new_zeros(())
        if self.trains_readout and self.variant.trains_readout:
            readout = self.readout_loss(u, y, draws, sample_weight, constants)
        elif self.trains_readout:
            # The paper's extrapolation term: the label read off each block's own estimate.
            at = levels.t[..., None]
            guess = self.parameterization.label(logits, z, at, weight, self.schedule)
            log_p = torch.log_softmax(self.readout(guess, weight), -1)
            miss = -log_p.gather(-1, y.view(1, -1, 1, 1).expand(*log_p.shape[:-1], 1))
            miss = mean_over_rows(miss.squeeze(-1), of_rows)
            blocks = blocks + self.partition.span.length * miss
        prior = zero
        if self.shares_parameters:
            divergence = prior_divergence(self.schedule, u)
            prior = mean_over_rows(divergence[None, :, None], sample_weight)[0]
        return Losses(blocks, readout, prior)

    def readout_loss(
        self,
        u: Tensor,
        y: Tensor,
        draws: Draws,
        sample_weight: Tensor | None,
        constants: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """Cross-entropy of the read-out at the last latent, of embeddings `u` of labels `y`.

        The other parameters are those of `losses`.

        Returns
        -------
        Tensor of shape ()
        """
        signal, noise = constants or self._last_level()
        logits = self.readout(signal * u + noise * draws.last, self.embedding.weight)
        miss = nn.functional.cross_entropy(logits, y, reduction="none")
        return mean_over_rows(miss[None, :, None], sample_weight)[0]

    def latents(
        self, y: Tensor, draws: Draws, of_rows: Tensor | None
    ) -> tuple[Tensor, Levels, Tensor, Tensor | None]:
        """Noised embeddings of labels, for one training step.

        Parameters
        ----------
        y : Tensor of shape (n_samples,)
            Labels.
        draws : Draws
        of_rows : Tensor of shape (n_samples,) or (n_blocks, n_samples), or None
            Weights of the rows.

        Returns
        -------
        u : Tensor of shape (n_samples, embedding_dim)
            The embeddings.
        levels : Levels
            With the weights of the rows in theirs.
        z : Tensor of shape (n_blocks, n_samples, n_draws, embedding_dim)
            The latents.
        position : Tensor of shape (n_blocks, n_samples, n_draws) or None
            Where in its block's interval each time lies.
        """
        u = self.embedding(y)
        levels = draws.levels or self._levels(draws.uniform)
        if of_rows is not None:
            levels = replace(levels, weight=levels.weight * of_rows.unsqueeze(-1))
        signal, noise = levels.signal.unsqueeze(-1), levels.noise.unsqueeze(-1)
        z = torch.addcmul(signal * u.unsqueeze(1), noise, draws.eps)
        # In the interval a block was made for, the uniform draw is the time's position.
        whole = self.partition.n_split == 1 and not self.variant.single_level
        return u, levels, z, draws.uniform if whole else self.position(levels.t)

    def _logits(self, inputs: Tensor, z: Tensor, position: Tensor | None) -> Tensor:
        # Of the networks alone: levels, latents and losses stay in full precision.
        low = torch.autocast(z.device.type, self.products) if self.products else nullcontext()
        with low:
            logits: Tensor = self.head(self.encoder(inputs), z, position)
        return logits.to(z.dtype)

    def objective(self, losses: Losses, scale: Tensor) -> Tensor:
        """What the optimiser minimises.

        With nothing shared, each block's loss is divided by its `scale`: a positive constant of
        its own, so the blocks' optima are the paper's. With a learned embedding or schedule the
        blocks' weights relative to each other matter, and the loss is the paper's. Where embeddings
        have become small it is divided, as a whole, by their mean square about their mean, as if
        that were a constant.
        """
        if self.shares_parameters:
            # Squared errors shrink with learned embeddings, a hundredfold and more. Adam, which
            # divides by the size that gradients had for a thousand steps, would all but stop.
            rows = self.embedding.weight.detach()
            return losses.total() / (rows - rows.mean(0)).square().sum(1).mean().clamp_max(1.0)
        return (losses.blocks / scale).sum() + losses.readout

    def class_probabilities(
        self, features: Tensor, z: Tensor | CandidateLatents, t: Tensor
    ) -> Tensor:
        """``P(y | x, z_t)`` as each block sees it.

        Parameters
        ----------
        features : Tensor of shape (n_blocks, n_samples, width)
        z : Tensor of shape (n_blocks, n_samples or 1, n_latents, embedding_dim)
            Or a `CandidateLatents`: what comes back is of its classes alone, up to a factor of
            each latent's own.
        t : Tensor of shape (n_blocks, 1, n_latents or 1)

        Returns
        -------
        Tensor of shape (n_blocks, n_samples, n_latents, n_classes or n_candidates)
        """
        position, weight = self.position(t), self.embedding.weight
        read = self.parameterization.probabilities
        if isinstance(z, Tensor):
            return read(self.head(features, z, position), z, t[..., None], weight, self.schedule)
        if self.takes_candidates:
            none = t.new_empty(0)  # a softmax does without the latents
            return read(self.head(features, z, position), none, t, weight, self.schedule)
        _, *level = z.noised
        latents = kernel_latents(weight[z.origins], *level).flatten(2, 3)
        p = self.class_probabilities(features, latents, t)
        return p.gather(-1, z.classes[None, :, None].expand(*p.shape[:3], -1))
