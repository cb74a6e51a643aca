"""Rows that a model's temperature is found by: validation rows, or what its blocks left out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sknoprop.calibration import fit_temperature, tempered_losses
from sknoprop.inference import kernel_probabilities, rows_at_once
from sknoprop.model import NoPropModel
from sknoprop.training import LazyInputs, LeftOut, Rows, Trained, Validation, leave_out
from sknoprop.training.left_out import MOST_ROWS
from sknoprop.training.seeds import Seeds

__all__ = ["calibrate", "rows_left_out"]


def rows_left_out(
    model: NoPropModel, rows: Rows, seeds: Seeds, before: Trained | None
) -> LeftOut | None:
    """Rows that each block is to leave out, if blocks can be judged by them.

    Where training goes on only what was left out before has not been learnt yet: if that were
    other rows, or none, nothing is left out.
    """
    if model.shares_parameters:  # what blocks share has seen all rows
        return None
    random = Seeds(seeds.entropy).numpy("left out")
    weight = None if rows.sample_weight is None else rows.sample_weight.double().cpu().numpy()
    left_out = leave_out(rows.y.cpu().numpy(), weight, model.n_blocks, random)
    if left_out is None or (before is not None and before.left_out != left_out.digest):
        return None
    return left_out.to(rows.y.device, model.embedding.weight.dtype)


@torch.no_grad()
def calibrate(
    model: NoPropModel,
    rows: Rows,
    judge: Validation | None,
    eps: Tensor,
    seeds: Seeds,
    otherwise: float,
) -> float:
    """Find the temperature by rows that were not trained on; `otherwise` if there are none.

    Returns
    -------
    float
        Log loss of these rows at that temperature; infinite if there are none.
    """
    size = rows_at_once(model, len(eps))

    def estimates(own: NoPropModel, inputs: Tensor | LazyInputs, index: Tensor) -> Tensor:
        parts = [inputs[some] for some in index.split(size)]
        return torch.cat([kernel_probabilities(own, own.encoder(x), eps) for x in parts], 1)

    if judge is not None:
        order = torch.randperm(len(judge.y), generator=seeds.generator("left out"))
        index = order[:MOST_ROWS].to(judge.y.device)
        p, labels, weights = estimates(model, judge.inputs, index), judge.y, judge.sample_weight
    elif rows.left_out is not None:
        own = [(rows.left_out.block == i).nonzero()[:, 0] for i in range(model.n_blocks)]
        parts = [
            estimates(model.take(slice(i, i + 1)), rows.inputs, some)
            for i, some in enumerate(own)
            if len(some)
        ]
        p, index, labels, weights = torch.cat(parts, 1), torch.cat(own), rows.y, rows.sample_weight
    else:
        model.temperature.fill_(otherwise)
        return math.inf
    y, weight = labels[index], None
    if weights is not None:
        # As many rows as would say as much if all weighed alike (Kish 1965).
        weight = weights[index].double()
        weight = weight * weight.sum() / weight.square().sum()
    model.temperature.fill_(fit_temperature(p, y, weight))
    losses = tempered_losses(p, y, model.temperature)
    return float(losses.mean() if weight is None else (weight * losses).sum() / weight.sum())
