"""When training ends, and which weights it leaves: decided block by block.

Blocks that share nothing are judged one by one: what is kept of a block depends on its own
losses alone, as if it had been trained by itself. Blocks that share an embedding or a schedule
are judged together, by the mean of their losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sknoprop.inference import kernel_probabilities, rows_at_once
from sknoprop.model import NoPropModel
from sknoprop.probes import Probes
from sknoprop.training.batches import LazyInputs

__all__ = ["Stopping", "Validation"]


@dataclass(frozen=True)
class Validation:
    """Held-out rows, and how well blocks predict them.

    Parameters
    ----------
    inputs : Tensor
        Prepared by the encoder; rows first.
    y : Tensor of shape (n_samples,)
    sample_weight : Tensor of shape (n_samples,) or None
    eps : Tensor of shape (n_draws, embedding_dim)
        The draws of all kernels.
    """

    inputs: Tensor | LazyInputs
    y: Tensor
    sample_weight: Tensor | None
    eps: Tensor

    def __len__(self) -> int:
        """Batches that callbacks are told of: none, for skorch's progress bar."""
        return 0

    @torch.no_grad()
    def log_loss(self, model: NoPropModel) -> tuple[Tensor, float]:
        """Log loss of each block's own class probabilities, and that of their mean.

        Parameters
        ----------
        model : NoPropModel
            In evaluation mode.

        Returns
        -------
        blocks : Tensor of shape (n_blocks,), float64
        mean : float
        """
        size = rows_at_once(model, len(self.eps))
        probes = Probes(model, self.eps)
        own = []
        for x, y in zip(self.inputs.split(size), self.y.split(size), strict=True):
            p = kernel_probabilities(model, model.encoder(x), probes)
            own.append(p.gather(-1, y.expand(len(p), -1)[..., None])[..., 0])
        likelihood = torch.cat(own, dim=1)
        both = torch.cat([likelihood, likelihood.mean(0, keepdim=True)])
        # No row costs more than a rounding error of certainty, as in scikit-learn's log_loss.
        loss = -both.clamp_min(torch.finfo(both.dtype).eps).log()
        if self.sample_weight is None:
            loss = loss.mean(1)
        else:
            loss = (loss * self.sample_weight).sum(1) / self.sample_weight.sum()
        return loss[:-1], float(loss[-1])


class Stopping:
    """Follows one loss a block over the epochs.

    A block is done when its loss has not fallen by `tol` below the lowest seen for more than
    `patience` epochs in a row (the rule of `MLPClassifier`). Its weights are then kept as they
    are or, with `keep_best`, as they were at the lowest loss.

    Parameters
    ----------
    model : NoPropModel
    tol : float
    patience : int or None
        With None no block is ever done.
    keep_best : bool
    """

    def __init__(
        self, model: NoPropModel, tol: float, patience: int | None, keep_best: bool
    ) -> None:
        self.tol = tol
        self.patience = patience
        self.keep_best = keep_best
        self.together = model.shares_parameters
        self.blocks = model.block_tensors()
        # What blocks share moves on with them and is kept only where they are judged together.
        self.shared = dict(model.named_parameters()) if self.together else {}
        self.kept = {name: tensor.clone() for name, tensor in self._tensors().items()}
        self.best = torch.full((model.n_blocks,), torch.inf, dtype=torch.float64)
        self.stalled = torch.zeros(model.n_blocks, dtype=torch.int64)
        self.done = torch.zeros(model.n_blocks, dtype=torch.bool)

    def _tensors(self) -> dict[str, Tensor]:
        return self.blocks | {name: p.data for name, p in self.shared.items()}

    def update(self, loss: Tensor) -> bool:
        """Take in the losses of an epoch, of shape ``(n_blocks,)``; say whether all are done."""
        loss = loss.to(self.best)
        if self.together:
            loss = loss.mean().expand(len(loss))
        running = ~self.done
        self.stalled = torch.where(loss > self.best - self.tol, self.stalled + 1, 0)
        better = running & (loss < self.best)
        self.best = torch.where(better, loss, self.best)
        if self.patience is not None:
            self.done = self.done | (self.stalled > self.patience)
        self._keep(better if self.keep_best else running & self.done)
        return bool(self.done.all())

    def _keep(self, which: Tensor) -> None:
        if not which.any():
            return
        for name, tensor in self.blocks.items():
            index = which.nonzero().squeeze(1).to(tensor.device)
            self.kept[name][index] = tensor[index]
        for name, parameter in self.shared.items():
            if name not in self.blocks:
                self.kept[name].copy_(parameter.data)

    def state_dict(self) -> dict[str, Any]:
        """What it has seen, as tensors, which it goes on to change."""
        return {
            "best": self.best,
            "stalled": self.stalled,
            "done": self.done,
            "kept": self.kept,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken."""
        for name in ("best", "stalled", "done"):
            setattr(self, name, state[name].clone())
        for name, tensor in self.kept.items():
            tensor.copy_(state["kept"][name])

    def restore(self) -> None:
        """Give blocks the weights that were kept, if any were."""
        chosen = torch.isfinite(self.best) if self.keep_best else self.done
        for name, tensor in self._tensors().items():
            if name in self.blocks:
                index = chosen.nonzero().squeeze(1).to(tensor.device)
                tensor[index] = self.kept[name][index]
            elif chosen.all():
                tensor.copy_(self.kept[name])
