"""The progress bar."""

from __future__ import annotations

import sys
from typing import Any

from skorch.callbacks import Callback
from tqdm import tqdm

__all__ = ["EpochBar", "progress_bar"]


def progress_bar(**options: Any) -> tqdm:
    """A bar of tqdm's, or one that shows nothing where there is nowhere to: without a console.

    Parameters
    ----------
    **options
        tqdm's.

    Returns
    -------
    tqdm
    """
    # Python started without a console (pythonw) has no stderr, which tqdm does not ask about.
    return tqdm(**options | {"disable": options.get("disable") or sys.stderr is None})


class EpochBar(Callback):
    """One bar for a whole training: epochs done, losses, time left.

    skorch's own bar is one of batches, anew each epoch.

    Parameters
    ----------
    n_epochs : int
    """

    def __init__(self, n_epochs: int) -> None:
        self.n_epochs = n_epochs

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Show the bar."""
        n_blocks = net.module_.n_blocks
        blocks = f"{n_blocks} block{'s' if n_blocks > 1 else ''}"
        done = net.state_.n_done  # a callback may have gone on from a file
        self.bar_ = progress_bar(
            total=self.n_epochs, initial=done, desc=f"NoProp, {blocks}", unit="epoch"
        )

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Move it on."""
        epoch = net.history[-1]
        shown = {"loss": f"{epoch['train_loss'] / net.module_.n_blocks:.4f}"}
        if "valid_loss" in epoch:
            shown["validation"] = f"{epoch['valid_loss']:.4f}"
        self.bar_.set_postfix(shown, refresh=False)
        self.bar_.update()

    def close(self) -> None:
        """Leave it as it is; training has ended, well or not."""
        if hasattr(self, "bar_"):
            self.bar_.close()
