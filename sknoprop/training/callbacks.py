"""Which callbacks can follow a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skorch.callbacks import BatchScoring, EpochScoring, InputShapeSetter, PassthroughScoring

__all__ = ["check_callbacks"]

#: Those of skorch's that score what a network says of a batch, or look at its rows.
UNSUITABLE = (BatchScoring, EpochScoring, InputShapeSetter, PassthroughScoring)


def check_callbacks(callbacks: Sequence[Any]) -> None:
    """Raise an error that names the first that is none, or that would find nothing to work with.

    Parameters
    ----------
    callbacks : sequence
        Callbacks, or pairs of name and callback.

    Raises
    ------
    TypeError, ValueError
    """
    for callback in callbacks:
        name, inner = "", callback
        if isinstance(callback, tuple) and len(callback) == 2:
            name, inner = callback
        if not (isinstance(name, str) and hasattr(inner, "on_epoch_end")):
            raise TypeError(
                "The 'callbacks' parameter of NoPropClassifier must hold skorch callbacks or "
                f"(name, callback) pairs. Got {callback!r} instead."
            )
        kind = inner if isinstance(inner, type) else type(inner)
        if issubclass(kind, UNSUITABLE):
            raise ValueError(
                f"The 'callbacks' parameter of NoPropClassifier cannot hold {kind.__name__}: "
                "blocks are trained on noised labels, and give nothing that it could score or take "
                "a shape of. With early_stopping=True or X_val each epoch has a 'valid_loss' to "
                "monitor, the log loss of held-out rows."
            )
