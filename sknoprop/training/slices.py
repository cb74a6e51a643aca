"""A few blocks at a time: the gradients of one step in the memory of a few blocks.

What a step keeps for its gradients grows with the number of blocks it looks at. As blocks share
nothing, their losses may be taken one after another, each with its gradient at once, with the very
draws they would have had together; the optimiser's step comes after the last.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sknoprop.model import Draws, NoPropModel
from sknoprop.networks.stacked import STACKED
from sknoprop.training.batches import Batch, Sample

__all__ = ["BlockSlices"]


class BlockSlices:
    """A model in slices of neighbouring blocks, whose tensors are parts of its own.

    Parameters
    ----------
    model : NoPropModel
        In training, with nothing trained that blocks share.
    size : int
        Blocks in a slice.
    scale : Tensor of shape (n_blocks,)
        As for `AutogradStep`.
    """

    def __init__(self, model: NoPropModel, size: int, scale: Tensor) -> None:
        self.scale = scale
        starts = range(0, model.n_blocks, size)
        self.parts = [slice(i, min(i + size, model.n_blocks)) for i in starts]
        self.models = [model.take(part).train() for part in self.parts]
        self.constants = [own.constants() for own in self.models]
        # Parameters of the model, with those of a slice that are views of them.
        self.views = [
            (whole, view, part)
            for part, own in zip(self.parts, self.models, strict=True)
            for ours, theirs in zip(own.modules(), model.modules(), strict=True)
            if isinstance(ours, STACKED)
            for view, whole in zip(ours.parameters(False), theirs.parameters(False), strict=True)
        ]

    def take(self, batch: Batch) -> Sample:
        """As `AutogradStep.take`."""
        return batch.sample()

    def backward(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """As `AutogradStep.backward`."""
        for whole, view, part in self.views:
            if whole.grad is None:
                whole.grad = torch.zeros_like(whole)
            view.grad = whole.grad[part]  # autograd adds to it in place
        noised = sample.noised
        draws, of_blocks = noised.draws, noised.block_weight
        objective = self.scale.new_zeros(())
        blocks = []
        for model, part, constants in zip(self.models, self.parts, self.constants, strict=True):
            levels = None if draws.levels is None else draws.levels[part]
            own = Draws(draws.eps[part], draws.uniform[part], draws.last, levels)
            weights = None if of_blocks is None else of_blocks[part]
            losses = model.losses(
                sample.inputs, noised.y, own, noised.sample_weight, constants, weights
            )
            share = (losses.blocks / self.scale[part]).sum()
            if part.start == 0:  # the read-out is no block's: it counts once
                share = share + losses.readout
            share.backward()
            objective += share.detach()
            blocks.append(losses.blocks.detach())
        return objective, torch.cat(blocks)
