"""Where a training stands: all that its next epochs depend on."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from skorch import NeuralNet
from torch import Tensor

from sknoprop.training.optimizers import OURS, SGD
from sknoprop.training.stopping import Stopping

__all__ = ["TrainingState", "moments_of", "on_cpu", "resume"]


class TrainingState:
    """What a training changes from epoch to epoch, to be gathered and put back between epochs.

    In memory it keeps what was learnt by the end of the last epoch, for a user who interrupts the
    next one. As a dictionary it is all of it, random generators included, so that a training which
    is begun alike and given it goes on to the same end, to the last bit.

    Parameters
    ----------
    net : NeuralNet
        Initialised; `cycle_` is its schedule of step sizes, or None.
    stopping : Stopping or None
    generators : mapping of str to sequence of torch.Generator
        All that training draws from, by purpose.
    """

    def __init__(
        self,
        net: NeuralNet,
        stopping: Stopping | None,
        generators: Mapping[str, Sequence[torch.Generator]],
    ) -> None:
        self.net = net
        self.stopping = stopping
        self.generators = generators
        self._first = len(net.history)
        self._tensors = net.module_.state_dict()
        self._parameters = list(net.module_.parameters())
        self._kept: dict[str, Any] = {}
        self._copies: tuple[list[Any], list[Any]] = [], []
        self._n_kept: int | None = self._first

    @property
    def n_done(self) -> int:
        """Epochs of this training in the history."""
        return len(self.net.history) - self._first

    def keep(self) -> None:
        """Remember what has been learnt; at the end of an epoch."""
        # An interrupt while copies are half made finds training itself at the end of an epoch.
        self._n_kept = None
        tensors, (known, copies) = self._only_tensors(), self._copies
        if tensors and list(map(id, tensors)) == list(map(id, known)):
            # To gather all of it takes several times as long as to copy small blocks.
            torch._foreach_copy_(copies, tensors)
        else:
            self._kept = _copied(self._learnt(), self._kept)
            kept = _values(self._kept["model"], self._kept["optimizer"]) if tensors else []
            self._copies = tensors, kept
        self._n_kept = len(self.net.history)

    def put_back(self) -> bool:
        """Go back to the end of the last epoch that was kept; False if there is none."""
        if self._n_kept == self._first:
            return False
        if self._n_kept is not None:
            self._load_learnt(self._kept)
            del self.net.history_[self._n_kept :]
        return True

    def state_dict(self) -> dict[str, Any]:
        """All of it, as tensors (which training goes on to change), numbers and strings."""
        cycle = self.net.cycle_
        return self._learnt() | {
            "groups": self.net.optimizer_.state_dict()["param_groups"],
            "cycle": None if cycle is None else cycle.state_dict(),
            "generators": {
                purpose: [generator.get_state() for generator in own]
                for purpose, own in self.generators.items()
            },
            "history": self.net.history.to_list(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken, in a training that was begun alike."""
        self._load_learnt(state)
        optimizer = self.net.optimizer_
        optimizer.load_state_dict(optimizer.state_dict() | {"param_groups": state["groups"]})
        if state["cycle"] is not None:
            self.net.cycle_.load_state_dict(state["cycle"])
        for purpose, own in self.generators.items():
            for generator, numbers in zip(own, state["generators"][purpose], strict=True):
                generator.set_state(numbers)
        self.net.history_[:] = state["history"]
        if self.net.keep_interrupted_:  # who interrupts the next epoch gets what was gone on from
            self.keep()

    def _learnt(self) -> dict[str, Any]:
        return {
            "model": self._tensors,
            "optimizer": moments_of(self.net.optimizer_, self._parameters),
            "stopping": None if self.stopping is None else self.stopping.state_dict(),
        }

    def _only_tensors(self) -> list[Any]:
        """What `_learnt` consists of, if it is no more than tensors; else nothing."""
        optimizer = self.net.optimizer_
        if self.stopping is not None or type(optimizer) not in OURS.values():
            return []
        if not all(isinstance(own, dict) for own in optimizer.state.values()):
            return []
        values = _values(self._tensors, moments_of(optimizer, self._parameters))
        return values if all(isinstance(value, Tensor) for value in values) else []

    def _load_learnt(self, learnt: dict[str, Any]) -> None:
        for name, tensor in self._tensors.items():
            kept = learnt["model"][name]
            if kept.shape != tensor.shape:  # a smaller one would be repeated
                raise ValueError(f"{name} must be of shape {tensor.shape}. Got {kept.shape}.")
            tensor.copy_(kept)
        resume(self.net.optimizer_, learnt["optimizer"], self._parameters)
        if self.stopping is not None:
            self.stopping.load_state_dict(learnt["stopping"])


def moments_of(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> dict[Any, Any]:
    """What an optimiser knows of parameters, by their number, and what else it keeps.

    Not by their number in its groups, as its own `state_dict` has it: callbacks may regroup them.
    """
    known = optimizer.state
    moments: dict[Any, Any] = {n: known[p] for n, p in enumerate(parameters) if p in known}
    return moments | {key: own for key, own in known.items() if not isinstance(key, Tensor)}


def resume(
    optimizer: torch.optim.Optimizer, moments: Mapping[Any, Any], parameters: Sequence[Tensor]
) -> None:
    """Give an optimiser a copy of what `moments_of` an earlier one gave; step sizes stay its own.

    Raises
    ------
    ValueError
        If one of torch's own would be given moments of another shape.
    """
    own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    place = {id(parameter): number for number, parameter in enumerate(own)}
    if type(optimizer) in OURS.values():
        _check_moments(optimizer, moments, parameters)
    numbers = {n: place[id(parameters[n])] for n in moments if isinstance(n, int)}
    state = {numbers.get(key, key): value for key, value in moments.items()}
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": copy.deepcopy(state), "param_groups": groups})


def _check_moments(
    optimizer: torch.optim.Optimizer, moments: Mapping[Any, Any], parameters: Sequence[Tensor]
) -> None:
    # Torch does not look, and would write beyond their ends.
    needed = {"step", "exp_avg", "exp_avg_sq"} if type(optimizer) is not SGD else set()
    for number, known in moments.items():
        shape = parameters[number].shape
        found = {key: value.shape for key, value in known.items() if isinstance(value, Tensor)}
        wanted = {key: shape if key != "step" else torch.Size() for key in found}
        if found != wanted or not needed <= set(found):
            keys = ", ".join(f"{key} of shape {tuple(size)}" for key, size in found.items())
            raise ValueError(
                f"The optimizer's state of a parameter of shape {tuple(shape)} must be moments of "
                f"that shape and a number of steps. Got {keys or 'nothing'}."
            )


def on_cpu(moments: Any) -> Any:
    """What an optimiser keeps, nested as it may be, with its tensors on the CPU."""
    if isinstance(moments, Tensor):
        return moments.detach().cpu()
    if type(moments) is dict:
        return {key: on_cpu(own) for key, own in moments.items()}
    if type(moments) in (list, tuple):
        return type(moments)(map(on_cpu, moments))
    return moments


def _values(model: Mapping[str, Any], optimizer: Mapping[Any, dict[str, Any]]) -> list[Any]:
    return [*model.values(), *(value for own in optimizer.values() for value in own.values())]


def _copied(value: Any, room: Any = None) -> Any:
    """A copy of nested dictionaries, in the tensors of an earlier copy where they fit."""
    pairs: list[tuple[Tensor, Tensor]] = []
    result = _in_room(value, room, pairs)
    if pairs:  # in one call, which takes two thirds of the time of one for each tensor
        rooms, values = zip(*pairs, strict=True)
        torch._foreach_copy_(list(rooms), list(values))
    return result


def _in_room(value: Any, room: Any, pairs: list[tuple[Tensor, Tensor]]) -> Any:
    """A copy, but for tensors that are yet to be copied to others: these pairs."""
    if isinstance(value, Tensor):
        if not isinstance(room, Tensor) or room.shape != value.shape:
            return value.clone()
        pairs.append((room, value))
        return room
    if isinstance(value, dict):
        rooms = room if isinstance(room, dict) else {}
        return {key: _in_room(own, rooms.get(key), pairs) for key, own in value.items()}
    return copy.deepcopy(value)
