"""The engine: a skorch net whose step trains all blocks.

skorch brings the loop, the history and the callbacks. What is replaced is what costs time:
batches come from tensors on the device, no loss is read back within an epoch, and the history
keeps epochs only, with one loss a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EpochTimer, LRScheduler
from torch import nn

from sknoprop.model import NoPropModel
from sknoprop.networks.stacked import StackedDropout
from sknoprop.training.batches import Batch, Batches
from sknoprop.training.seeds import Seeds

__all__ = ["BlockNet", "TrainingError", "train"]


#: Optimisers with a fused step on every device.
FUSED = (torch.optim.Adam, torch.optim.AdamW)


class TrainingError(RuntimeError):
    """Training could not go on; the message says where and why."""


class BlockNet(NeuralNet):
    """A skorch net over a `NoPropModel`.

    Callbacks see what they see in any skorch net, with one difference: a batch's losses are not
    in the history. At the end of an epoch it has ``train_loss`` (the objective, the sum over
    blocks) and ``block_losses`` (a list, one mean squared error a block, weighted as in the
    paper).
    """

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        return [("epoch_timer", EpochTimer())]

    def get_split_datasets(self, X: Batches, y: None = None, **fit_params: Any) -> tuple:
        return X, None

    def get_iterator(self, dataset: Batches, training: bool = False) -> Batches:
        return dataset

    def on_train_begin(self, net, X=None, y=None, **kwargs):  # type: ignore[no-untyped-def]
        with torch.no_grad():
            self.scale_ = self.module_.scale()

    def train_step_single(self, batch: Batch, **fit_params: Any) -> dict[str, torch.Tensor]:
        losses = self.module_.losses(batch.inputs, batch.y, batch.draws)
        objective = self.module_.objective(losses, self.scale_)
        objective.backward()
        return {"loss": objective.detach(), "y_pred": losses.blocks.detach()}

    def run_single_epoch(  # type: ignore[no-untyped-def]
        self, iterator, training, prefix, step_fn, **fit_params
    ):
        if iterator is None:
            return
        self._set_training(training)
        # Totals stay on the device; reading them each step would make the host wait.
        total = torch.zeros((), device=self.scale_.device, dtype=self.scale_.dtype)
        blocks = torch.zeros_like(self.scale_)
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            total += step["loss"] * len(batch)
            blocks += step["y_pred"] * len(batch)
            self.notify("on_batch_end", batch=batch, training=training, **step)
        n_rows = len(iterator.y)
        self.history.record(f"{prefix}_loss", total.item() / n_rows)
        self.history.record("block_losses", (blocks / self.scale_ / n_rows).tolist())
        self._check_finite()

    def _check_finite(self) -> None:
        losses = torch.tensor(self.history[-1, "block_losses"])
        if not torch.isfinite(losses).all():
            bad = (~torch.isfinite(losses)).nonzero().flatten().tolist()
            raise TrainingError(
                f"The loss of block(s) {bad} is not finite in epoch {len(self.history)}: training "
                "has diverged. Lower learning_rate_init, or check the scale of X."
            )


def train(
    model: NoPropModel,
    batches: Batches,
    *,
    optimizer: type[torch.optim.Optimizer],
    learning_rate: float,
    weight_decay: float,
    one_cycle: bool,
    n_epochs: int,
    callbacks: Sequence[Any],
    seeds: Seeds,
) -> BlockNet:
    """Train all blocks of a model in place.

    Parameters
    ----------
    model : NoPropModel
        On its device.
    batches : Batches
    optimizer : type
    learning_rate, weight_decay : float
        With `one_cycle` the former is the largest learning rate.
    one_cycle : bool
        Whether the learning rate rises to its largest value in the first 30 % of all steps and
        falls to near zero in the rest (Smith & Topin 2018, arXiv:1708.07120); else constant.
    n_epochs : int
    callbacks : sequence
        As skorch takes them.
    seeds : Seeds

    Returns
    -------
    BlockNet
        With its history.
    """
    device = model.embedding.weight.device
    generators = seeds.block_generators("dropout", model.n_blocks, device)
    dropouts = [m for m in model.modules() if isinstance(m, StackedDropout) and m.p > 0]
    own: list[Any] = []
    if one_cycle:
        own.append(
            (
                "learning_rate",
                LRScheduler(
                    torch.optim.lr_scheduler.OneCycleLR,
                    max_lr=learning_rate,
                    total_steps=n_epochs * len(batches),
                    step_every="batch",
                    event_name=None,
                ),
            )
        )
    net = BlockNet(
        model,
        criterion=nn.Identity,
        optimizer=optimizer,
        max_epochs=n_epochs,
        callbacks=[*own, *callbacks],
        device=None,
        lr=learning_rate,
        optimizer__weight_decay=weight_decay,
        # One pass over each parameter instead of one for each term of its update.
        **({"optimizer__fused": True} if optimizer in FUSED else {}),
    )
    try:
        for dropout in dropouts:
            dropout.generators = generators
        net.fit(batches, None)
    finally:
        for dropout in dropouts:
            dropout.generators = None
        model.eval()
    return net
