"""Blocks trained by several workers at once.

Blocks never wait for each other, so they may be trained anywhere: each group of them goes to a
joblib worker as a model of its own, together with the rows, and comes back trained. A block's
numbers come from generators of its own (see `sknoprop.training.seeds`), the order of rows from one
that all groups have alike. For the same groups a block learns the same, to the last bit, whatever
back end it is trained on; other groups, or all blocks in one step, differ by rounding.
"""

from __future__ import annotations

import copy
import os
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from joblib import Parallel, delayed, effective_n_jobs
from joblib.externals.loky.process_executor import TerminatedWorkerError
from skorch.history import History
from torch import Tensor

from sknoprop.model import NoPropModel
from sknoprop.networks.seeding import ONLY_ONE
from sknoprop.training import (
    LeftOut,
    Rows,
    Settings,
    Trained,
    Validation,
    progress_bar,
    train,
)
from sknoprop.training.seeds import Seeds
from sknoprop.training.states import on_cpu

__all__ = ["THREADS", "block_groups", "device_of_group", "take_model", "train_groups"]

#: Times that groups are started again whose worker was killed.
N_RESTARTS = 2


class _Threads:
    """Number of torch's threads, of which there is one for the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_fits = 0
        self._before = 0
        self._forked = False

    def note_fork(self) -> None:
        """Take note, in a process that was forked, that it was."""
        self._forked = True
        self._lock = threading.Lock()  # who held the other one may not be there to release it

    def ensure_usable(self) -> None:
        """Keep to one thread in a process that was forked; to be called before torch computes.

        The threads that GNU's OpenMP had in the parent are not there, and it would wait for them
        for ever. Workers of torch's own data loaders keep to one thread too.
        """
        if self._forked:
            self._forked = False
            torch.set_num_threads(1)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Remember the number, and put it back when the last of several fits has ended.

        Workers that are threads of this process set it for all of it, and fits may overlap.
        """
        with self._lock:
            if self._n_fits == 0:
                self._before = torch.get_num_threads()
            self._n_fits += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_fits -= 1
                if self._n_fits == 0:
                    torch.set_num_threads(self._before)


THREADS = _Threads()

if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=THREADS.note_fork)
    # A fork waits for who holds it: nobody would release it in the child, nor put generators back.
    os.register_at_fork(
        before=ONLY_ONE.acquire,
        after_in_parent=ONLY_ONE.release,
        after_in_child=ONLY_ONE.release,
    )


@dataclass(frozen=True)
class _Group:
    """What a worker brings back of its blocks."""

    tensors: dict[str, Tensor]
    trained: Trained


def block_groups(n_blocks: int, n_groups: int) -> list[slice]:
    """Neighbouring blocks in groups whose sizes differ by one at most, none of them empty."""
    n_groups = min(n_groups, n_blocks)
    edges = [n_blocks * i // n_groups for i in range(n_groups + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def train_groups(
    model: NoPropModel,
    rows: Rows,
    validation: Validation | None,
    settings: Settings,
    seeds: Seeds,
    before: Trained | None,
    groups: Sequence[slice],
    n_jobs: int | None,
    device: torch.device,
) -> Trained:
    """Train groups of blocks in joblib workers; the model is trained in place.

    Where a worker process is killed, groups that have come back are kept and the others are trained
    again, also those whose own worker was well: loky ends all of them. On a Dask cluster the
    scheduler has the group trained by another worker. The result is the same.

    Parameters
    ----------
    model, rows, validation, settings, seeds, before
        As for `sknoprop.training.train`. Blocks of the model share no trained parameters, and
        there are no callbacks.
    groups : sequence of slice
        The blocks of each.
    n_jobs : int or None
        joblib's.
    device : torch.device
        Where workers train, see `device_of_group`.

    Returns
    -------
    Trained
        Of a block whose group was done before others the last losses are NaN. Losses of all
        blocks together, ``valid_loss``, are not known to any worker.
    """
    verbose = settings.progress_bar or settings.verbose
    # Of groups that are interrupted some would have trained longer than others. And no worker
    # needs the user's parameters, which need not be fit for sending.
    settings = replace(
        settings, progress_bar=False, verbose=0, keep_interrupted=False, parameters={}
    )
    arrays = _arrays((cast(Tensor, rows.inputs), rows.y, rows.sample_weight))
    held = None
    if validation is not None:
        inputs = cast(Tensor, validation.inputs)
        held = _arrays((inputs, validation.y, validation.sample_weight, validation.eps))
    done: dict[int, _Group] = {}
    with (
        THREADS.kept(),
        progress_bar(total=model.n_blocks, desc="NoProp", unit="block", disable=not verbose) as bar,
    ):
        n_workers = min(effective_n_jobs(n_jobs), len(groups))
        for attempt in range(N_RESTARTS + 1):
            jobs = (
                delayed(_train_group)(
                    k,
                    take_model(model, part).cpu(),
                    arrays,
                    held,
                    settings,
                    Seeds(seeds.entropy, seeds.epoch, part.start),
                    before and _part_of(before, model, part),
                    device,
                    rows.left_out and rows.left_out.take(part),
                )
                for k, part in enumerate(groups)
                if k not in done
            )
            try:
                for k, group in _as_they_come(n_workers, jobs):
                    done[k] = group
                    bar.update(groups[k].stop - groups[k].start)
                break
            # Dask's back end raises nothing: its scheduler asks another worker.
            except (TerminatedWorkerError, *_ray_error("RayActorError")):
                if attempt == N_RESTARTS:
                    raise
                warnings.warn(
                    f"A worker was killed; {len(groups) - len(done)} of {len(groups)} groups "
                    "of blocks are trained again.",
                    RuntimeWarning,
                    stacklevel=2,
                )
            except _ray_error("OutOfMemoryError") as error:  # Ray itself kills who takes too much
                raise MemoryError(str(error)) from error
    return _merge(model, [done[k] for k in range(len(groups))], before)


def _ray_error(name: str) -> tuple[type[Exception], ...]:
    """An error of Ray's by its name, if Ray is in use: who runs it has imported it."""
    ray = sys.modules.get("ray.exceptions")
    return () if ray is None else (getattr(ray, name),)


def _as_they_come(n_jobs: int, jobs: Iterable[Any]) -> Iterable[tuple[int, _Group]]:
    try:
        run = Parallel(n_jobs, return_as="generator_unordered")
    except ValueError:  # Ray's back end and "multiprocessing" give all results at the end
        run = Parallel(n_jobs)
    results: Iterable[tuple[int, _Group]] = run(jobs)
    return results


def device_of_group(device: torch.device, number: int) -> torch.device:
    """Where a worker trains a group of blocks.

    Parameters
    ----------
    device : torch.device
        "cuda" without a number stands for all GPUs that the worker sees, in turn.
    number : int
        Of the group.

    Returns
    -------
    torch.device
    """
    if device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", number % max(torch.cuda.device_count(), 1))


def take_model(model: NoPropModel, part: slice) -> NoPropModel:
    """A copy of the model with some of its blocks, which keep their levels and their times."""
    taken = model.take(part)
    # Clones first: a deep copy of a part of a buffer would have the whole of it behind it.
    return copy.deepcopy(taken, {id(buffer): buffer.clone() for buffer in taken.buffers()})


def _train_group(
    number: int,
    model: NoPropModel,
    arrays: tuple[np.ndarray | None, ...],
    held: tuple[np.ndarray | None, ...] | None,
    settings: Settings,
    seeds: Seeds,
    before: Trained | None,
    device: torch.device,
    left_out: LeftOut | None,
) -> tuple[int, _Group]:
    # Workers share the cores: one thread each, which also makes sums round alike anywhere.
    torch.set_num_threads(1)
    device = device_of_group(device, number)
    rows = replace(Rows(*_tensors(arrays, device)), left_out=left_out and left_out.to(device))
    validation = Validation(*_tensors(held, device)) if held is not None else None
    trained = train(model.to(device), rows, validation, settings, seeds, before)
    tensors = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return number, _Group(tensors, _on_cpu(trained))


def _arrays(tensors: Iterable[Tensor | None]) -> tuple[np.ndarray | None, ...]:
    # As arrays: joblib maps large ones into the memory of all workers and copies none. In a tuple:
    # of an array by itself Dask would keep one copy, in the memory of a worker that may be killed.
    return tuple(None if t is None else t.cpu().numpy() for t in tensors)


def _tensors(arrays: Iterable[np.ndarray | None], device: torch.device) -> list[Any]:
    # A mapped array is read-only, and torch takes none: then a worker has a copy of its own.
    return [
        None if a is None else torch.from_numpy(a if a.flags.writeable else a.copy()).to(device)
        for a in arrays
    ]


def _on_cpu(trained: Trained) -> Trained:
    moments = {
        number: {key: on_cpu(value) for key, value in state.items()}
        for number, state in trained.optimizer.items()
        if isinstance(state, dict)  # what is kept once belongs to no group of blocks
    }
    return Trained(trained.history, moments, trained.unfinished)


def _has_blocks(value: Any, parameter: Tensor) -> bool:
    # Also where an optimiser keeps less than a number for each weight, as Adafactor does.
    return isinstance(value, Tensor) and value.dim() > 0 and len(value) == len(parameter)


def _part_of(trained: Trained, model: NoPropModel, part: slice) -> Trained:
    own = model.block_tensors()
    moments = copy.deepcopy(trained.optimizer)
    for number, (name, parameter) in enumerate(model.named_parameters()):
        for key, value in moments.get(number, {}).items():
            if name in own and _has_blocks(value, parameter):
                moments[number][key] = value[part].clone()
    history = copy.deepcopy(trained.history)
    for epoch in history:
        for key in ("block_losses", "block_valid_losses"):
            if key in epoch:
                epoch[key] = epoch[key][part]
    return Trained(history, moments)


@torch.no_grad()
def _merge(model: NoPropModel, groups: Sequence[_Group], before: Trained | None) -> Trained:
    """Bring what groups learnt together, in the model and in one record of the training."""
    own = model.block_tensors()
    # What is no block's (the read-out) each group learns alike as long as it trains: the group that
    # trained longest has it as it is when all blocks are trained in one step.
    last = max(groups, key=lambda group: len(group.trained.history))
    for name, tensor in model.state_dict().items():
        parts = [group.tensors[name] for group in groups]
        tensor.copy_(torch.cat(parts) if name in own else last.tensors[name])
    model.eval().requires_grad_(False)
    moments: dict[int, dict[str, Any]] = {}
    for number, (name, parameter) in enumerate(model.named_parameters()):
        for key, value in last.trained.optimizer.get(number, {}).items():
            states = [group.trained.optimizer[number][key] for group in groups]
            if name in own and all(
                _has_blocks(state, group.tensors[name])
                for state, group in zip(states, groups, strict=True)
            ):
                value = torch.cat(states)
            if isinstance(value, Tensor) and value.dim():
                value = value.to(parameter.device)
            moments.setdefault(number, {})[key] = value
    histories = [group.trained.history for group in groups]
    longest = max(histories, key=len)
    history = History()
    for i, epoch in enumerate(longest):
        history.append({k: v for k, v in epoch.items() if not k.startswith(("valid", "train"))})
        for key in ("block_losses", "block_valid_losses"):
            if key not in epoch:
                continue
            losses: list[float] = []
            for own_history in histories:
                n_blocks = len(own_history[0]["block_losses"])
                known = i < len(own_history)
                losses += own_history[i][key] if known else [float("nan")] * n_blocks
            history[-1][key] = losses
    if before is not None:
        for i, epoch in enumerate(before.history):
            history[i] = copy.deepcopy(epoch)
    return Trained(history, moments, sum(group.trained.unfinished for group in groups))
