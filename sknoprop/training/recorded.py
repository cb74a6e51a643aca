"""A step on a GPU, recorded once and replayed: a CUDA graph.

A step of small blocks is some hundred kernels of a few microseconds each, which a GPU waits for:
the host takes longer to name them than they take. Recorded, they are named in one call. What they
compute, and what they draw, is the same to the last bit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from sknoprop.model import NoPropModel
from sknoprop.networks.custom import CustomPath
from sknoprop.training.batches import Batch

__all__ = ["RecordedStep", "Step"]

T = TypeVar("T")

#: With fewer steps than this recording them, some tenths of a second, does not pay.
FEWEST_STEPS = 200

#: Packages whose modules are recorded. Others' code may read numbers back, which no recording can.
OURS = ("sknoprop", "torch")


class Step(Protocol):
    """What gives the parameters of a model their gradients."""

    def take(self, batch: Batch) -> Any:
        """What a step takes of a batch: a dataclass of tensors, as long as the batch."""

    def backward(self, taken: Any) -> tuple[Tensor, Tensor]:
        """As `AutogradStep.backward`."""


def _tensors(record: Any) -> Iterator[Tensor]:
    """All tensors of nested dataclasses and tuples, in order."""
    if isinstance(record, Tensor):
        yield record
    elif isinstance(record, tuple):
        for value in record:
            yield from _tensors(value)
    elif is_dataclass(record):
        for field in fields(record):
            yield from _tensors(getattr(record, field.name))


def _changed(record: T, change: Callable[[Tensor], Tensor]) -> T:
    """Nested dataclasses and tuples with every tensor changed."""
    new: Any = record
    if isinstance(record, Tensor):
        new = change(record)
    elif isinstance(record, tuple):
        new = tuple(_changed(value, change) for value in record)
    elif is_dataclass(record) and not isinstance(record, type):
        values = {field.name: getattr(record, field.name) for field in fields(record)}
        new = replace(record, **{name: _changed(v, change) for name, v in values.items()})
    return new


@dataclass(frozen=True)
class _Recording:
    """One step on batches of one size."""

    graph: torch.cuda.CUDAGraph
    places: tuple[Tensor, ...]
    """Where it has what it takes of a batch."""
    result: tuple[Tensor, Tensor]
    grads: tuple[tuple[Tensor, Tensor], ...]
    """Parameters with the gradients that it writes."""

    def replay(self, taken: Any) -> tuple[Tensor, Tensor]:
        for place, value in zip(self.places, _tensors(taken), strict=True):
            place.copy_(value)
        self.graph.replay()
        for parameter, grad in self.grads:
            parameter.grad = grad if parameter.grad is None else parameter.grad + grad
        objective, losses = self.result  # which the next replay writes over
        return objective.clone(), losses.clone()


#: Held while something is recorded, of which there is one in a process.
ONE_AT_A_TIME = threading.Lock()


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """The stream of all recordings: products keep work space for each, as long as a process is."""
    return torch.cuda.Stream(device)


@dataclass(frozen=True)
class _Place:
    """Where recordings of one step are made: a device's stream and memory of their own."""

    stream: torch.cuda.Stream
    pool: Any

    @classmethod
    def on(cls, device: torch.device) -> _Place:
        return cls(_stream(device), torch.cuda.graph_pool_handle())

    def capture(
        self, run: Callable[[], T], generators: Sequence[torch.Generator]
    ) -> tuple[torch.cuda.CUDAGraph, T]:
        """What a function does, without doing it, and where its results will be."""
        graph = torch.cuda.CUDAGraph()
        if torch.torch_version.TorchVersion(torch.__version__) < "2.14":  # later ones see to it
            for generator in generators:  # each replay goes on from where the last one left it
                graph.register_generator_state(generator)
        options = {"pool": self.pool, "stream": self.stream, "capture_error_mode": "thread_local"}
        with ONE_AT_A_TIME, torch.cuda.graph(graph, **options):
            result = run()
        return graph, result


class RecordedStep:
    """Another step, recorded for each size of batches at its second of that size.

    Parameters
    ----------
    step : Step
    model : NoPropModel
        Whose step it is, on a GPU.
    generators : sequence of torch.Generator
        What the step draws from.
    """

    def __init__(
        self, step: Step, model: NoPropModel, generators: Sequence[torch.Generator]
    ) -> None:
        self.step = step
        self.model = model
        self.generators = generators
        self._seen: list[Any] = []
        self._forget()

    def _forget(self) -> None:
        self._recordings: dict[int, _Recording | None] = {}
        self._place: _Place | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A callback may pickle the net: no recording goes with it, and another is made.
        return vars(self) | {"_recordings": {}, "_place": None}

    @staticmethod
    def takes(model: NoPropModel, n_steps: int) -> bool:
        """Whether a training of so many steps of a model is to be recorded."""
        ours = all(
            type(module).__module__.partition(".")[0] in OURS and not isinstance(module, CustomPath)
            for module in model.modules()
        )
        on_gpu = model.partition.edges.device.type == "cuda"
        return on_gpu and n_steps >= FEWEST_STEPS and ours

    def look(self) -> None:
        """Forget what was recorded of a model that has been changed since; before each epoch."""
        now: list[Any] = [
            (name, value if isinstance(value, int | float) else id(value))
            for module in self.model.modules()
            for values in (vars(module), module._parameters, module._buffers)
            for name, value in values.items()
        ]
        now += [(p.data_ptr(), p.requires_grad) for p in self.model.parameters()]
        now += [b.data_ptr() for b in self.model.buffers()]
        if now != self._seen:
            self._seen = now
            self._forget()

    def take(self, batch: Batch) -> Any:
        """As the step's own."""
        return self.step.take(batch)

    def backward(self, taken: Any) -> tuple[Tensor, Tensor]:
        """As `AutogradStep.backward`."""
        size = len(taken)
        if size not in self._recordings:  # a first step sets up what a recording must find set up
            self._recordings[size] = None
            return self.step.backward(taken)
        recording = self._recordings[size]
        if recording is None:
            recording = self._recordings[size] = self._record(taken)
        return recording.replay(taken)

    def _record(self, taken: Any) -> _Recording:
        taken = _changed(taken, lambda t: t.clone(memory_format=torch.contiguous_format))
        parameters = list(self.model.parameters())
        grads = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        device = self.model.partition.edges.device
        with torch.cuda.device(device):
            self._place = self._place or _Place.on(device)
            graph, result = self._place.capture(lambda: self.step.backward(taken), self.generators)
        written = tuple((p, p.grad) for p in parameters if p.grad is not None)
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad
        return _Recording(graph, tuple(_tensors(taken)), result, written)
