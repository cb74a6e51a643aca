"""What too little memory looks like, and what to do about it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

__all__ = ["halved_until_it_fits", "is_out_of_memory"]

T = TypeVar("T")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was too little memory, of this machine or of a GPU."""
    # torch has an error of its own for a GPU's memory, and none for the CPU's.
    kinds = (MemoryError, torch.cuda.OutOfMemoryError)
    return isinstance(error, kinds) or "DefaultCPUAllocator" in str(error)


def halved_until_it_fits(
    run: Callable[[int], T], size: int, less: str, suits: Callable[[int], int] = int
) -> T:
    """Call `run` with `size`; where memory runs out, with half of it, down to one.

    Parameters
    ----------
    run : callable
        From a number of rows that are worked on together to a result.
    size : int
        Rows to begin with.
    less : str
        What takes less memory, for the message of the error.
    suits : callable, optional
        From half a size to the one that is tried, which may be lower.

    Raises
    ------
    MemoryError
        If there is too little even for one row.
    """
    while True:
        try:
            return run(size)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise MemoryError(
                    "Predictions need more memory than there is, even for one row at a time. Less "
                    f"is taken by {less}. {error}"
                ) from error
        fewer = suits(size // 2)
        warnings.warn(
            f"Too little memory to predict {size} rows at a time; {fewer} are tried.",
            RuntimeWarning,
            stacklevel=2,
        )
        size = fewer
