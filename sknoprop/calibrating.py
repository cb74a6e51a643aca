"""Rows that a model's temperature is found by: validation rows, or what its blocks left out."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sknoprop.calibration import (
    fit_temperature,
    gain_of_mean,
    temperature_ratio,
    tempered,
    tempered_losses,
)
from sknoprop.inference import kernel_probabilities, rows_at_once
from sknoprop.model import NoPropModel
from sknoprop.probes import Probes, has_centre
from sknoprop.training import LazyInputs, LeftOut, Rows, Trained, Validation, leave_out
from sknoprop.training.left_out import MOST_ROWS
from sknoprop.training.seeds import Seeds

__all__ = ["Judged", "calibrate", "calibrate_mean", "rows_left_out"]

#: Rows by which the mean is seen to be less sure than blocks alone: without labels few are enough.
ENOUGH_ROWS = 500


class Judged(NamedTuple):
    """Log losses of rows that were not trained on, times weights in units of the mean weight.

    Of rows that blocks left out `alone` are those of the block that left the row out, and `of_mean`
    estimates of what the blocks' mean has: as much, less what averaging is expected to gain. Blocks
    that learn rows by heart differ more, so their mean suffers less from it than each alone. With
    validation rows both are the mean's.
    """

    alone: Tensor
    of_mean: Tensor


def rows_left_out(
    model: NoPropModel, rows: Rows, seeds: Seeds, before: Trained | None
) -> LeftOut | None:
    """Rows that each block is to leave out, if blocks can be judged by them.

    Where training goes on only what was left out before has not been learnt yet: if that were
    other rows, or none, nothing is left out.
    """
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
    compared: bool,
) -> Judged | None:
    """Find the temperature by rows that were not trained on; `otherwise` if there are none.

    By rows that blocks left out it is that of blocks alone, see `calibrate_mean`.

    Returns
    -------
    Judged or None
        None if there are none, or if nothing is to be `compared` by them.
    """
    if judge is not None:
        order = torch.randperm(len(judge.y), generator=seeds.generator("left out"))
        index = order[:MOST_ROWS].to(judge.y.device)
        p, y = _estimates(model, judge.inputs, index, eps), judge.y[index]
        weight = _effective(judge.sample_weight, index)
    elif rows.left_out is not None:
        p, index = _of_left_out(model, rows, eps)
        y, weight = rows.y[index], _effective(rows.sample_weight, index)
    else:
        model.temperature.fill_(otherwise)
        return None
    temperature = fit_temperature(p, y, weight)
    alone = of_mean = tempered_losses(p, y, temperature)
    if compared and judge is None:
        of_all = _estimates(model, rows.inputs, index, eps)
        mean = temperature * temperature_ratio(of_all, temperature, weight)
        of_mean = tempered_losses(p, y, mean) - gain_of_mean(tempered(of_all, mean))
    model.temperature.fill_(temperature)
    factor = 1.0 if weight is None else weight / weight.mean()
    return Judged(alone * factor, of_mean * factor) if compared else None


@torch.no_grad()
def calibrate_mean(model: NoPropModel, rows: Rows, eps: Tensor) -> None:
    """Go on from the temperature of blocks alone to that of their mean, which is less sure.

    Each of the rows was left out by one block, so what their labels say is how sure a block alone
    may be. How much less sure the mean is can be seen without labels. (All but one block know
    these rows, and differ less from each other than on fresh ones, but more from that one. For five
    blocks both came out even on development tables; for two the ratio is somewhat too low.)
    """
    assert rows.left_out is not None
    alone = float(model.temperature)
    model.temperature.fill_(1.0)
    p, index = _of_left_out(model, rows, eps)
    some = index[:: math.ceil(len(index) / ENOUGH_ROWS)]  # of all blocks: they come block by block
    of_all = _estimates(model, rows.inputs, some, eps)
    ratio = temperature_ratio(of_all, alone, _effective(rows.sample_weight, some))
    # Few rows say little: before any the mean's temperature is expected to be one.
    weight = _effective(rows.sample_weight, index)
    alone = fit_temperature(p, rows.y[index], weight, expected=1.0 / ratio)
    model.temperature.fill_(ratio * alone)


def _estimates(
    model: NoPropModel,
    inputs: Tensor | LazyInputs,
    index: Tensor,
    eps: Tensor,
    centred: bool | None = None,
) -> Tensor:
    """Estimates of all blocks for some rows."""
    size = rows_at_once(model, len(eps), centred=centred)
    parts = [inputs[some] for some in index.split(size)]
    probes = Probes(model, eps, centred)
    return torch.cat([kernel_probabilities(model, model.encoder(x), probes) for x in parts], 1)


def _of_left_out(model: NoPropModel, rows: Rows, eps: Tensor) -> tuple[Tensor, Tensor]:
    """One estimate for each row that was left out, by the block that did, and the rows."""
    assert rows.left_out is not None
    own = [(rows.left_out.block == i).nonzero()[:, 0] for i in range(model.n_blocks)]
    centred = has_centre(model)  # of a single block that may be said where it is not of all
    parts = [
        _estimates(model.take(slice(i, i + 1)), rows.inputs, some, eps, centred)
        for i, some in enumerate(own)
        if len(some)
    ]
    return torch.cat(parts, 1), torch.cat(own)


def _effective(weights: Tensor | None, index: Tensor) -> Tensor | None:
    """Weights of some rows, as many as would say as much if all weighed alike (Kish 1965)."""
    if weights is None:
        return None
    weight = weights[index].double()
    return weight * weight.sum() / weight.square().sum()
