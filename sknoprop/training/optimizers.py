"""Torch's optimisers without what they load torch's compiler for.

Methods of torch's optimisers import it when they are first called, to tell it that it should not
look into them: two seconds of each process that trains, and nothing is compiled here.
"""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["FUSED", "starting_at_once"]

#: Optimisers with a fused step on every device.
FUSED = (torch.optim.Adam, torch.optim.AdamW)

#: What training calls of an optimiser, beside its step, that torch has wrapped so.
WRAPPED = ("add_param_group", "state_dict", "load_state_dict")


def _made(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    base: Any = torch.optim.Optimizer
    own = {
        name: method.__wrapped__
        for name in WRAPPED
        if hasattr(method := getattr(base, name), "__wrapped__")
    }
    step: Any = kind.step
    while hasattr(step, "__wrapped__"):  # hooks, of an earlier use, among them; they come again
        step = step.__wrapped__
    return type(kind.__name__, (kind,), own | {"step": torch.no_grad()(step)})


# By names of this module, as pickle looks for them.
Adam, AdamW, SGD = (_made(kind) for kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD))

OURS = {torch.optim.Adam: Adam, torch.optim.AdamW: AdamW, torch.optim.SGD: SGD}


def starting_at_once(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """A class of optimisers that compute as `kind` does; `kind` itself if it is none of `OURS`."""
    return OURS.get(kind, kind)
