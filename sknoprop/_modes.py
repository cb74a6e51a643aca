"""What a program may have set in torch for itself, and the package does without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["own_default_device", "own_default_dtype", "own_modes", "own_precision"]


@contextmanager
def own_default_device() -> Iterator[None]:
    """Tensors are made on the CPU unless another device is named, whatever torch's default is."""
    # (To ask for the default itself fails in torch 2.4 where it was set and taken back.)
    if torch.empty(()).device.type == "cpu":
        yield
        return
    with torch.device("cpu"):
        yield


@contextmanager
def own_default_dtype() -> Iterator[None]:
    """Numbers that code of the user's makes are float32 where it says nothing.

    There is one such setting in a process, so this wants a lock as `seeded` has. The package's own
    code names dtypes instead.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def own_precision(device: torch.device) -> Iterator[None]:
    """Numbers on a device are of the precision that they have, whatever autocast says.

    Within one autocast torch keeps the weights that it rounded once: training would go on from what
    they were in its first step.
    """
    if not torch.is_autocast_enabled(device.type):
        yield
        return
    with torch.autocast(device.type, enabled=False, cache_enabled=False):
        yield


@contextmanager
def own_modes(device: torch.device) -> Iterator[None]:
    """Training on a device as its parameters say, whatever modes of torch it is called in.

    In inference mode there are no gradients.
    """
    with own_default_device(), own_precision(device), torch.inference_mode(False):
        yield
