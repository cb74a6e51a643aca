"""What too little memory looks like."""

from __future__ import annotations

import torch

__all__ = ["is_out_of_memory"]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was too little memory, of this machine or of a GPU."""
    # torch has an error of its own for a GPU's memory, and none for the CPU's.
    kinds = (MemoryError, torch.cuda.OutOfMemoryError)
    return isinstance(error, kinds) or "DefaultCPUAllocator" in str(error)
