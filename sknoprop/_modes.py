"""What a program may have set in torch for itself, and the package does without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["own_default_device", "own_modes"]


@contextmanager
def own_default_device() -> Iterator[None]:
    """Tensors are made on the CPU unless another device is named, whatever torch's default is."""
    if torch.get_default_device().type == "cpu":
        yield
        return
    with torch.device("cpu"):
        yield


@contextmanager
def own_modes(device: torch.device) -> Iterator[None]:
    """Training as its parameters say, whatever modes of torch it is called in.

    Within one autocast torch keeps the weights that it rounded once, and steps would go on from
    what they were at the first. In inference mode there are no gradients.

    Parameters
    ----------
    device : torch.device
        That of training.
    """
    with own_default_device(), torch.inference_mode(False):
        if not torch.is_autocast_enabled(device.type):
            yield
            return
        with torch.autocast(device.type, enabled=False, cache_enabled=False):
            yield
