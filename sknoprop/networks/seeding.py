"""Torch's global generators, for code of the user's that draws from them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["ONLY_ONE", "seeded"]

#: Held while something is used of which there is one in a process: these generators, and the
#: template that `sknoprop.networks.CustomPath` puts the values of a block into for a call.
ONLY_ONE = threading.RLock()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's global generators of CPU and device, started from `seed`, put back afterwards."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        number = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[number])
    with ONLY_ONE:
        states = [generator.get_state() for generator in generators]
        try:
            for generator in generators:
                generator.manual_seed(seed)
            yield
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)
