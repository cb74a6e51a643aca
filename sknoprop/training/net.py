"""The engine: a skorch net whose step trains all blocks.

skorch brings the loop, the history and the callbacks. What is replaced is what costs time:
batches come from tensors on the device, no loss is read back within an epoch, and the history
keeps epochs only, with one loss a block.
"""

from __future__ import annotations

import dis
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EpochTimer, PrintLog
from skorch.history import History
from skorch.utils import TeeGenerator

from sknoprop.training.autograd import AutogradStep, is_plain
from sknoprop.training.batches import Batch, Batches
from sknoprop.training.dense import DenseStep
from sknoprop.training.divergence import TrainingError, likely_cause
from sknoprop.training.progress import EpochBar
from sknoprop.training.recorded import RecordedStep, Step
from sknoprop.training.seeds import Seeds
from sknoprop.training.slices import BlockSlices
from sknoprop.training.states import TrainingState
from sknoprop.training.stopping import Stopping, Validation

__all__ = ["BlockNet", "Course"]

#: What callbacks are told in each step.
STEP_EVENTS = ("on_batch_begin", "on_batch_end", "on_grad_computed")

#: Callbacks that do not look at modules.
BLIND = (EpochTimer, PrintLog, EpochBar)

#: Steps after which losses are looked at on a device that the host would have to wait for.
LOOK_EVERY = 64


class _Stop(Exception):
    """A callback, or the rule of stopping, ends training: all is well."""


class _Interrupt(BaseException):
    """The user ended training; unlike KeyboardInterrupt, skorch lets it through."""


def _is_raised(interrupt: KeyboardInterrupt) -> bool:
    """Whether a statement raised it, as callbacks do, and not a signal that came in between."""
    traceback = interrupt.__traceback__
    assert traceback is not None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code.co_code
    return code[traceback.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _is_inherited(callback: Callback, event: str) -> bool:
    """Whether a callback does with an event what skorch's base class does: nothing."""
    return getattr(getattr(callback, event), "__func__", None) is getattr(Callback, event)


class Epochs(History):
    """A history that gives one epoch without a copy of them all, which long trainings are for."""

    def __getitem__(self, i: Any) -> Any:
        return list.__getitem__(self, i) if isinstance(i, int) else super().__getitem__(i)


@dataclass(frozen=True)
class Course:
    """What a training goes through: the data, the rule of stopping, the cycle of step sizes."""

    batches: Batches
    validation: Validation | None
    stopping: Stopping | None
    one_cycle: bool
    blocks_at_once: int | None
    generators: Mapping[str, Sequence[torch.Generator]]
    """All that is drawn from, by purpose."""
    keep_interrupted: bool
    """Whether a user who interrupts gets the model of the last whole epoch."""
    seeds: Seeds
    parameters: Mapping[str, Any]
    """The user's, for callbacks that ask which training this is."""


class BlockNet(NeuralNet):
    """A skorch net over a `NoPropModel`; it is trained on a `Course`.

    Callbacks see what they see in any skorch net, with one difference: single batches are in the
    history only if one of them listens to batches. At the end of an epoch it has

    * ``train_loss``, the objective: the sum over blocks, each divided by its scale;
    * ``block_losses``, a list of one weighted mean squared error a block;
    * with held-out rows ``valid_loss``, the log loss of the class probabilities, and
      ``block_valid_losses``, those of each block's own;
    * ``train_loss_best`` and ``valid_loss_best``: whether they are the lowest so far.
    """

    #: Of `STEP_EVENTS` those that no callback does anything with, in this epoch.
    unheard_: Collection[str] = ()

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        return [("epoch_timer", EpochTimer())]

    def initialize_history(self) -> BlockNet:
        self.history_ = Epochs()
        return self

    def get_split_datasets(self, X: Course, y: None = None, **fit_params: Any) -> tuple:
        return X.batches, X.validation

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        return dataset

    def on_train_begin(self, net, X=None, y=None, **kwargs):  # type: ignore[no-untyped-def]
        """Choose how steps are taken, and set up the cycle and what an interrupt gives back."""
        with torch.no_grad():
            self.scale_ = self.module_.scale()
        self.autograd_ = AutogradStep(self.module_, self.scale_)
        self.step_: Step = self.autograd_
        if X.blocks_at_once is not None and X.blocks_at_once < self.module_.n_blocks:
            self.step_ = BlockSlices(self.module_, X.blocks_at_once, self.scale_)
        elif DenseStep.takes(self.module_, X.batches):
            self.step_ = DenseStep(self.module_, self.scale_)
        n_steps = self.max_epochs * len(X.batches)
        self.seen_ = False
        self.recorded_: RecordedStep | None = None
        if RecordedStep.takes(self.module_, n_steps):
            masks = [] if isinstance(self.step_, DenseStep) else X.generators["dropout"]
            self.recorded_ = RecordedStep(self.step_, self.module_, masks)
        self.stopping_ = X.stopping
        self.done_ = False
        self.cycle_ = None
        # A cycle of one step would be its end, where steps are next to nothing.
        if X.one_cycle and n_steps > 1:
            defaults = self.optimizer_.defaults
            self.cycle_ = torch.optim.lr_scheduler.OneCycleLR(
                self.optimizer_,
                max_lr=self.lr,
                total_steps=n_steps,
                cycle_momentum="momentum" in defaults or "betas" in defaults,
            )
        self.keep_interrupted_ = X.keep_interrupted
        self.interrupted_ = False
        self.state_ = TrainingState(self, X.stopping, X.generators)

    def forget_steps(self) -> TrainingState | None:
        """Let go of what training alone needs: on a GPU, recordings have all that steps took.

        Returns
        -------
        TrainingState or None
            Where training stands, if it began. It has this net: would the net have it, too, both
            would stay until garbage is collected.
        """
        for name in ("autograd_", "step_", "recorded_", "way_"):
            self.__dict__.pop(name, None)
        self.module_.zero_grad()
        return self.__dict__.pop("state_", None)

    def on_batch_begin(self, net, **kwargs):  # type: ignore[no-untyped-def]
        """Do nothing: the batch is in the history already, as not all listen to this."""

    def on_epoch_end(self, net, **kwargs):  # type: ignore[no-untyped-def]
        """Keep the model of this epoch for a user who interrupts the next one."""
        if self.keep_interrupted_:
            self.state_.keep()

    def fit_loop(self, *args: Any, **kwargs: Any) -> BlockNet:
        # skorch takes any KeyboardInterrupt for the end of training. Its callbacks end it so
        # (see `notify`); a user who interrupts must not get a half-trained model instead, but
        # that of the last whole epoch, or none.
        kwargs["epochs"] = self.max_epochs - self.state_.n_done
        self.lowest_: dict[str, float] = {}
        try:
            try:
                super().fit_loop(*args, **kwargs)
            except (KeyboardInterrupt, _Interrupt):
                if not (self.keep_interrupted_ and self.state_.put_back()):
                    raise
                self.interrupted_ = True
        except _Stop:
            pass
        except KeyboardInterrupt as interrupt:
            raise _Interrupt from interrupt
        return self

    def partial_fit(self, *args: Any, **kwargs: Any) -> BlockNet:
        try:
            super().partial_fit(*args, **kwargs)
        except _Stop:  # before the first epoch, or after the last
            pass
        except _Interrupt as interrupt:
            raise KeyboardInterrupt from interrupt
        return self

    def notify(self, method_name: str, **kwargs: Any) -> None:
        if method_name in self.unheard_:
            return
        try:
            super().notify(method_name, **kwargs)
        except KeyboardInterrupt as interrupt:
            raise (_Stop if _is_raised(interrupt) else _Interrupt) from interrupt
        if method_name == "on_epoch_end" and self.done_:
            raise _Stop

    def train_step(self, batch: Batch, **fit_params: Any) -> dict[str, torch.Tensor]:
        # As skorch's, without what a small step feels: nobody is told who does not listen.
        looks: list[dict[str, torch.Tensor]] = []

        def look() -> torch.Tensor:  # some optimisers do so several times in a step
            self._zero_grad_optimizer()
            looks.append(self.train_step_single(batch, **fit_params))
            if "on_grad_computed" not in self.unheard_:
                parameters = TeeGenerator(self.get_all_learnable_params())
                self.notify(
                    "on_grad_computed", named_parameters=parameters, batch=batch, training=True
                )
            return looks[-1]["loss"]

        self._step_optimizer(look)
        return looks[0]

    def _zero_grad_optimizer(self, set_to_none: bool | None = None) -> None:
        if type(self.optimizer_).zero_grad is not torch.optim.Optimizer.zero_grad:
            super()._zero_grad_optimizer(set_to_none)
            return
        # Torch's notes it for profilers, which takes longer.
        for group in self.optimizer_.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def train_step_single(self, batch: Batch, **fit_params: Any) -> dict[str, torch.Tensor]:
        total, blocks = self.way_.backward(self.way_.take(batch))
        return {"loss": total, "y_pred": blocks}

    def run_single_epoch(  # type: ignore[no-untyped-def]
        self, iterator, training, prefix, step_fn, **fit_params
    ):
        # In most trainings nobody would see the networks between two epochs, and to change their
        # mode, or to look for what may have been changed, takes as long as a small step.
        watched = any(type(callback) not in BLIND for _, callback in self.callbacks_)
        self.seen_ = self.seen_ and not watched
        other_mode = self.module_.training != training and (training or iterator is not None)
        if watched or not self.seen_ or other_mode:
            self._set_training(training)
        if training:
            self._train_epoch(iterator, step_fn, **fit_params)
        else:
            self._judge_epoch(iterator)

    def _train_epoch(self, batches: Batches, step_fn: Any, **fit_params: Any) -> None:
        # Totals stay on the device; reading them each step would make the host wait.
        total = torch.zeros((), device=self.scale_.device, dtype=self.scale_.dtype)
        blocks = torch.zeros_like(self.scale_)
        # Few callbacks look at single steps, and telling the others takes longer than it seems.
        self.unheard_ = [
            event
            for event in STEP_EVENTS
            if all(_is_inherited(callback, event) for _, callback in self.callbacks_)
        ]
        heard = len(self.unheard_) < len(STEP_EVENTS)
        if not self.seen_:
            self.way_ = self._way(heard)
            self.seen_ = not heard
        look_every = 1 if total.device.type == "cpu" else LOOK_EVERY
        in_history = not {"on_batch_begin", "on_batch_end"} <= set(self.unheard_)
        if not in_history:
            self.history.new_batch()  # one for all: skorch's checkpoints name files by the last
        for number, batch in enumerate(batches, 1):
            if in_history:
                self.history.new_batch()
            if heard:
                self.notify("on_batch_begin", batch=batch, training=True)
                self.way_ = self._way(heard)  # something may have been changed
            step = step_fn(batch, **fit_params)
            if self.cycle_ is not None:
                self.cycle_.step()
            total.add_(step["loss"], alpha=len(batch))
            blocks.add_(step["y_pred"], alpha=len(batch))
            is_first = number == 1 and len(self.history) == 1  # and its loss no step's doing
            if is_first or number % look_every == 0 or number == len(batches):
                self._check_finite(total, blocks, batches, number)
            if in_history:
                self.history.record_batch("train_loss", step["loss"].item())
                self.history.record_batch("train_batch_size", len(batch))
            if heard:
                self.notify("on_batch_end", batch=batch, training=True, **step)
        if isinstance(self.step_, DenseStep):
            self.step_.forget()
        n_rows = len(batches.y)
        self._record("train_loss", total.item() / n_rows)
        self.history.record("block_losses", (blocks / self.scale_ / n_rows).tolist())

    def _way(self, heard: bool) -> Step:
        """The step of a model as callbacks left it, which may change it again if they are heard."""
        if isinstance(self.step_, DenseStep):
            self.step_.look()
            if not self.step_.is_plain():
                return self.autograd_
        if self.recorded_ is None or heard:
            return self.step_
        if torch.is_anomaly_enabled() or not is_plain(self.module_.modules(), self.scale_.device):
            return self.step_
        self.recorded_.look()
        return self.recorded_

    def _check_finite(
        self, total: torch.Tensor, blocks: torch.Tensor, batches: Batches, n_steps: int
    ) -> None:
        if math.isfinite(total):
            return
        first = self.module_.partition.part.start or 0
        any_step = len(self.history) > 1 or n_steps > 1
        when = f"after {n_steps} of {len(batches)} steps: training has diverged."
        if not any_step:
            when = "before any step was taken."
        bad = [first + i for i in (~torch.isfinite(blocks)).nonzero().flatten().tolist()]
        raise TrainingError(
            f"The loss of {f'block(s) {bad}' if bad else 'what blocks share'} is not finite in "
            f"epoch {len(self.history)}, {when} "
            + likely_cause(batches.inputs, batches.sample_weight, self.lr, any_step=any_step)
        )

    def _judge_epoch(self, validation: Validation | None) -> None:
        losses = torch.tensor(self.history[-1]["block_losses"], dtype=torch.float32)
        if validation is not None:
            losses, together = validation.log_loss(self.module_)
            if not torch.isfinite(losses).all():
                raise TrainingError(
                    f"The validation loss is not finite in epoch {len(self.history)}: training has "
                    f"diverged. {likely_cause(validation.inputs, None, self.lr)}"
                )
            self._record("valid_loss", together)
            self.history.record("block_valid_losses", losses.tolist())
        if self.stopping_ is not None:
            self.done_ = self.stopping_.update(losses)

    def _record(self, name: str, value: float) -> None:
        if name not in self.lowest_:  # by what the last best epoch says, if one was before
            before = (epoch[name] for epoch in reversed(self.history) if epoch.get(f"{name}_best"))
            self.lowest_[name] = next(before, math.inf)
        best = value < self.lowest_[name]
        if best:
            self.lowest_[name] = value
        self.history.record(name, value)
        self.history.record(f"{name}_best", best)
