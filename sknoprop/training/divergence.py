"""What is said of a training that has diverged."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sknoprop.training.batches import LazyInputs

__all__ = ["TrainingError", "likely_cause"]

#: Prepared inputs are of size one or so, and weights of mean one: what is beyond is worth a word.
LARGE = 100.0


class TrainingError(RuntimeError):
    """Training could not go on; the message says where and why."""


@torch.no_grad()
def likely_cause(
    inputs: Tensor | LazyInputs,
    sample_weight: Tensor | None,
    learning_rate: float,
    *,
    any_step: bool = True,
) -> str:
    """A sentence on what is out of the ordinary in what was trained on, or with.

    Rows that are loaded when they are indexed are not looked at. Before any step was taken, its
    size is not to blame.
    """
    if isinstance(inputs, Tensor) and inputs.is_floating_point():
        largest = float(inputs.abs().max())
        if math.isnan(largest):  # scikit-learn may have been told not to look
            return "Likely cause: X has NaN or an infinity."
        if largest > LARGE:
            return (
                f"Likely cause: X has standardised values as large as {largest:.3g}. Check its "
                "scale and its outliers."
            )
    if sample_weight is not None:
        largest = float(sample_weight.max())
        if largest > LARGE:
            return (
                f"Likely cause: a row's sample_weight (times class_weight) is {largest:.3g} times "
                "their mean. Lower it, or learning_rate_init."
            )
    if not any_step:
        return (
            "Likely cause: loss_weight, the embedding or what an augmentation or an encoder of "
            "your own makes of X is too large, or too small, to compute with."
        )
    return (
        f"Likely cause: steps too large, with learning_rate_init={learning_rate:g}. Lower it, or "
        "weight_decay."
    )
