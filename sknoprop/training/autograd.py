"""The step of any model: its losses, and the gradients that autograd finds."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sknoprop.model import NoPropModel
from sknoprop.training.batches import Batch, Sample

__all__ = ["AutogradStep", "is_plain"]


class AutogradStep:
    """Losses of all blocks together, and their gradients.

    Parameters
    ----------
    model : NoPropModel
        In training.
    scale : Tensor of shape (n_blocks,)
        As for `NoPropModel.objective`.
    """

    def __init__(self, model: NoPropModel, scale: Tensor) -> None:
        self.model = model
        self.scale = scale
        self.constants = model.constants()

    def take(self, batch: Batch) -> Sample:
        """What a step takes of a batch."""
        return batch.sample()

    def backward(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """Add the gradient of the objective to that of the model's parameters.

        Parameters
        ----------
        sample : Sample
            As `take` gave it.

        Returns
        -------
        objective : Tensor of shape ()
        losses : Tensor of shape (n_blocks,)
            Each block's.
        """
        noised = sample.noised
        losses = self.model.losses(
            sample.inputs,
            noised.y,
            noised.draws,
            noised.sample_weight,
            self.constants,
            noised.block_weight,
        )
        objective = self.model.objective(losses, self.scale)
        objective.backward()
        return objective.detach(), losses.blocks.detach()


def is_plain(modules: Iterable[nn.Module], device: torch.device) -> bool:
    """Whether modules are as training finds them: nothing that callbacks did is passed over.

    Hooks, single modules in evaluation mode, parametrizations and autocast are autograd's.
    """
    own = list(modules)
    return (
        all(
            module.training
            and not (module._forward_hooks or module._forward_pre_hooks)
            and not (module._backward_hooks or module._backward_pre_hooks)
            and "parametrizations" not in module._modules
            for module in own
        )
        and not any(
            parameter._backward_hooks or parameter._post_accumulate_grad_hooks
            for module in own
            for parameter in module._parameters.values()
            if parameter is not None
        )
        and not torch.is_autocast_enabled(device.type)
    )
