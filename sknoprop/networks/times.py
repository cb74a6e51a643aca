"""How a block that owns an interval is told the time."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

__all__ = ["time_features"]


def time_features(position: Tensor, dim: int) -> Tensor:
    """Positional embedding of a time: ``sin`` and ``cos`` of its multiples by pi / 2.

    Parameters
    ----------
    position : Tensor of shape (...)
        Where in its block's interval a time lies, from 0 to 1.
    dim : int
        Even.

    Returns
    -------
    Tensor of shape (..., dim)
    """
    rate, phase = _frequencies(dim, position.dtype, position.device)
    return torch.addcmul(phase, position.unsqueeze(-1), rate).sin()


@cache
def _frequencies(dim: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    # All are sines: a cosine is one of an angle larger by pi / 2.
    multiples = torch.arange(1, dim // 2 + 1, dtype=torch.float64).repeat(2)
    phase = (torch.arange(dim) >= dim // 2).double()
    rate, phase = 0.5 * math.pi * multiples, 0.5 * math.pi * phase
    return rate.to(device, dtype), phase.to(device, dtype)
