"""The step of any model: its losses, and the gradients that autograd finds."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sknoprop.model import NoPropModel
from sknoprop.training.batches import Batch

__all__ = ["AutogradStep", "is_plain"]


class AutogradStep:
    """Losses of all blocks together, and their gradients.

    Parameters
    ----------
    model : NoPropModel
        In training.
    """

    def __init__(self, model: NoPropModel) -> None:
        self.model = model
        self.constants = model.constants()

    def backward(self, batch: Batch, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Add the gradient of the objective to that of the model's parameters.

        Parameters
        ----------
        batch : Batch
        scale : Tensor of shape (n_blocks,)
            As for `NoPropModel.objective`.

        Returns
        -------
        objective : Tensor of shape ()
        losses : Tensor of shape (n_blocks,)
            Each block's.
        """
        losses = self.model.losses(
            batch.inputs,
            batch.y,
            batch.draws,
            batch.sample_weight,
            self.constants,
            batch.block_weight,
        )
        objective = self.model.objective(losses, scale)
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
            and not hasattr(module, "parametrizations")
            for module in own
        )
        and not any(
            parameter._backward_hooks or parameter._post_accumulate_grad_hooks
            for module in own
            for parameter in module.parameters(recurse=False)
        )
        and not torch.is_autocast_enabled(device.type)
    )
