"""Rows that a model's temperature is found by: validation rows, or what its blocks left out."""

from __future__ import annotations

import torch
from torch import Tensor

from sknoprop.calibration import fit_temperature
from sknoprop.inference import kernel_probabilities, rows_at_once
from sknoprop.model import NoPropModel
from sknoprop.training import LeftOut, Rows, Validation, leave_out
from sknoprop.training.seeds import Seeds

__all__ = ["calibrate", "rows_left_out"]


def rows_left_out(model: NoPropModel, rows: Rows, seeds: Seeds) -> LeftOut | None:
    """Rows that each block is to leave out, if blocks can be judged by them."""
    if model.shares_parameters:  # what blocks share has seen all rows
        return None
    # The same rows where training goes on: others have been trained on.
    random = Seeds(seeds.entropy).numpy("left out")
    weight = None if rows.sample_weight is None else rows.sample_weight.double().cpu().numpy()
    left_out = leave_out(rows.y.cpu().numpy(), weight, model.n_blocks, random)
    if left_out is None:
        return None
    factor = left_out.factor.to(model.embedding.weight.dtype)
    return LeftOut(left_out.block, factor).to(rows.y.device)


@torch.no_grad()
def calibrate(model: NoPropModel, rows: Rows, judge: Validation | None, eps: Tensor) -> None:
    """Find the temperature by rows that were not trained on, if there are any."""
    size = rows_at_once(model, len(eps))
    if judge is not None:
        inputs = judge.inputs.split(size)
        p = torch.cat([kernel_probabilities(model, model.encoder(x), eps) for x in inputs], 1)
        y, weight = judge.y, judge.sample_weight
    elif rows.left_out is not None:
        estimates, order = [], []
        for block in range(model.n_blocks):
            alone = model.take(slice(block, block + 1))
            own = (rows.left_out.block == block).nonzero()[:, 0]
            for some in own.split(size):
                features = alone.encoder(rows.inputs[some])
                estimates.append(kernel_probabilities(alone, features, eps))
            order.append(own)
        p, index = torch.cat(estimates, 1), torch.cat(order)
        weight = None if rows.sample_weight is None else rows.sample_weight[index]
        y = rows.y[index]
    else:
        return
    model.temperature.fill_(fit_temperature(p, y, weight))
