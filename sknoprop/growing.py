"""More blocks for a trained model: each is split in two, three, ... along its times."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from sknoprop.model import NoPropModel
from sknoprop.networks.stacked import STACKED
from sknoprop.training import Trained
from sknoprop.variants import Path

__all__ = ["grown", "split_blocks"]


def grown(model: NoPropModel, trained: Trained, n_blocks: int) -> tuple[NoPropModel, Trained]:
    """A copy of the model with `n_blocks` blocks, and what its training goes on from.

    Raises
    ------
    ValueError
        If the model cannot have as many.
    """
    if n_blocks == model.n_blocks:
        return copy.deepcopy(model), trained
    if model.variant.single_level:
        raise ValueError(
            "With warm_start=True, 'n_blocks' cannot change for variant='dt': each block's noise "
            f"level belongs to a grid of {model.n_blocks}. Got n_blocks={n_blocks}."
        )
    if n_blocks % model.n_blocks:
        raise ValueError(
            "With warm_start=True, 'n_blocks' must be a multiple of the number of blocks there "
            f"are, {model.n_blocks}, each of which is split. Got {n_blocks}."
        )
    return split_blocks(model, trained, n_blocks // model.n_blocks)


@torch.no_grad()
def split_blocks(model: NoPropModel, trained: Trained, factor: int) -> tuple[NoPropModel, Trained]:
    """Divide each block's interval into `factor` parts with a copy of the block for each.

    The copies go on seeing times relative to the interval that was divided, so at every time the
    new model computes what the old one did; from there on each learns for its own part.

    Parameters
    ----------
    model : NoPropModel
        With blocks that own intervals of time.
    trained : Trained
        The optimiser's moments are copied with the blocks, and so are their past losses.
    factor : int
        At least 1.

    Returns
    -------
    model : NoPropModel
    trained : Trained
    """
    model = copy.deepcopy(model)
    moments = copy.deepcopy(trained.optimizer)
    own = model.block_tensors()
    for number, (name, parameter) in enumerate(model.named_parameters()):
        for key, value in moments.get(number, {}).items():
            if name in own and isinstance(value, Tensor) and value.shape == parameter.shape:
                moments[number][key] = value.repeat_interleave(factor, 0)
    for module in model.modules():
        if isinstance(module, STACKED):
            _repeat(module, factor)
    model.partition = model.partition.split(factor)
    path = model.path
    model.path = Path(path.schedule, model.partition, path.parameterization, path.horizon)
    history = copy.deepcopy(trained.history)
    for epoch in history:
        for key in ("block_losses", "block_valid_losses"):
            if key in epoch:
                epoch[key] = [loss for loss in epoch[key] for _ in range(factor)]
    return model, Trained(history, moments)


def _repeat(module: nn.Module, factor: int) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.data = parameter.data.repeat_interleave(factor, 0)
    for name, buffer in module.named_buffers(recurse=False):
        setattr(module, name, buffer.repeat_interleave(factor, 0))
