"""Networks of the user's own in front of the blocks: one copy a block, or a frozen one for all."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from sknoprop._memory import is_out_of_memory
from sknoprop._modes import own_default_dtype
from sknoprop.networks.numbers import NumberEncoding
from sknoprop.networks.seeding import ONLY_ONE, seeded
from sknoprop.networks.stacked import Generators, StackedModule

__all__ = ["CustomPath", "FrozenEncoding", "is_frozen"]

#: Numbers that a layer of an unknown network makes of one of its input, at most, is the guess.
GROWTH = 64

#: Rows that a frozen network is given at once.
CHUNK = 64

#: Rows that its features are measured on, at most.
MAX_ROWS = 4096


def is_frozen(encoder: Any) -> bool:
    """Whether an encoder of the user's is one network that is not trained.

    Parameters
    ----------
    encoder : object
        As the parameter `encoder` of `NoPropClassifier`: a name, a network or what makes one.

    Returns
    -------
    bool
        True for a `torch.nn.Module` none of whose parameters requires a gradient.

    Examples
    --------
    >>> from torch import nn
    >>> from sknoprop.networks import is_frozen
    >>> is_frozen(nn.Linear(4, 8).requires_grad_(False)), is_frozen(nn.Linear(4, 8))
    (True, False)
    """
    return isinstance(encoder, nn.Module) and not any(
        parameter.requires_grad for parameter in encoder.parameters()
    )


def _made(encoder: nn.Module | Callable[[], nn.Module]) -> nn.Module:
    """A network of one block, yet to be moulded."""
    if isinstance(encoder, nn.Module):
        return copy.deepcopy(encoder)
    try:
        network = encoder()
    except TypeError as error:
        raise TypeError(
            "The 'encoder' parameter of NoPropClassifier is called without arguments to make a "
            f"network for each block. Got {encoder!r}, which raised: {error}"
        ) from error
    if not isinstance(network, nn.Module):
        raise TypeError(
            "The 'encoder' parameter of NoPropClassifier must be a torch.nn.Module, or make one "
            f"when called. Got {type(network).__name__} back."
        )
    return network


def _tried(network: nn.Module, inputs: Tensor) -> Tensor:
    """Features of the first rows that a network is given; it may not suit them."""
    try:
        features = network(inputs)
    except Exception as error:
        if is_out_of_memory(error):  # no fault of the network's
            raise
        raise ValueError(
            "The 'encoder' parameter of NoPropClassifier must be a network that takes inputs of "
            f"shape (n_samples, {', '.join(map(str, inputs.shape[1:]))}). Got one that raised "
            f"{type(error).__name__}: {error}"
        ) from error
    return _flat(features, len(inputs))


def _flat(features: Any, n_rows: int) -> Tensor:
    """Features as rows of numbers, of as many inputs."""
    if not isinstance(features, Tensor):
        what = type(features).__name__
    elif (
        features.dim() < 2
        or len(features) != n_rows
        or features[0].numel() == 0
        or features.is_complex()
    ):
        what = f"{features.dtype} of shape {tuple(features.shape)}"
    else:
        return features.flatten(1)
    raise ValueError(
        "The 'encoder' parameter of NoPropClassifier must be a network that turns a batch of "
        "inputs into a tensor of real numbers with one row of features for each. Got "
        f"{what} back for {n_rows} of them."
    )


class CustomPath(StackedModule):
    """A network of the user's, once a block.

    A block's values are put into one template for each call, so activation checkpointing inside
    the network, which calls parts of it again later, is not supported.

    Parameters
    ----------
    encoder : nn.Module or callable
        A network, of which each block trains a copy, or what makes one when called without
        arguments, as a class does; it is called once a block, with torch's global generator
        seeded for that block.
    generators : sequence of torch.Generator
        One a block.
    example : Tensor of shape (n_samples, ...)
        Prepared inputs, two rows or more; lazy layers learn their sizes from them.

    Raises
    ------
    TypeError
        If what is called needs arguments, or makes no `torch.nn.Module`.
    ValueError
        If the network does not take the inputs, gives no row of features for each, or has nothing
        to train.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.networks import CustomPath
    >>> generators = [torch.Generator().manual_seed(block) for block in range(3)]
    >>> path = CustomPath(lambda: torch.nn.LazyLinear(8), generators, torch.zeros(2, 4))
    >>> path(torch.zeros(5, 4)).shape
    torch.Size([3, 5, 8])
    """

    #: Set while training, see `StackedDropout`: the network's own dropout draws from what these,
    #: on the CPU, give as a seed.
    generators: Generators | None = None

    def __init__(
        self,
        encoder: nn.Module | Callable[[], nn.Module],
        generators: Generators,
        example: Tensor,
    ) -> None:
        super().__init__()
        networks = []
        for generator in generators:
            seed = int(torch.randint(2**62, (), generator=generator))
            with seeded(seed, example.device), own_default_dtype():
                network = _made(encoder).to("cpu", torch.float32)
                with torch.no_grad():
                    features = _tried(network.eval(), example.float())
            networks.append(network)
        if not features.is_floating_point():
            raise ValueError(
                "The 'encoder' parameter of NoPropClassifier must be a network that makes features "
                f"of floating point, which it can be trained by. Got {features.dtype} back."
            )
        if not any(parameter.requires_grad for parameter in networks[0].parameters()):
            raise ValueError(
                "The 'encoder' parameter of NoPropClassifier makes a network that has nothing to "
                "train. Pass one such network itself: all blocks then share its features."
            )
        self.n_out = features.shape[1]
        self.largest = GROWTH * example[0].numel()
        # Not a submodule: its own values are not those of any block.
        self._template = [networks[0]]
        self._names: dict[str, str] = {}
        for kind in ("parameters", "buffers"):
            for name, first in getattr(networks[0], f"named_{kind}")():
                own = "net/" + name.replace(".", "/")  # none of a module's own attributes
                self._names[own] = name
                values = [dict(getattr(n, f"named_{kind}")())[name].detach() for n in networks]
                stacked = torch.stack(values)
                # What the user has frozen is kept where nothing is trained.
                if kind == "parameters" and first.requires_grad:
                    self.register_parameter(own, nn.Parameter(stacked))
                else:
                    self.register_buffer(own, stacked)

    def forward(self, inputs: Tensor) -> Tensor:
        """Features of prepared inputs.

        Parameters
        ----------
        inputs : Tensor of shape (n_samples, ...)
            Shared by all blocks.

        Returns
        -------
        Tensor of shape (n_blocks, n_samples, n_out)
        """
        values = {
            self._names[own]: tensor.unbind()
            for own, tensor in (*self.named_parameters(), *self.named_buffers())
        }
        n_blocks = len(next(iter(values.values())))
        template = self._template[0]
        features = []
        for block in range(n_blocks):
            own_values = {name: tensors[block] for name, tensors in values.items()}
            with ONLY_ONE:
                template.train(self.training)
                features.append(self._call(template, own_values, inputs, block))
        return torch.stack(features).to(inputs.dtype)

    def _call(
        self, template: nn.Module, values: dict[str, Tensor], inputs: Tensor, block: int
    ) -> Tensor:
        if not self.training or self.generators is None:
            return _flat(functional_call(template, values, inputs), len(inputs))
        seed = int(torch.randint(2**62, (), generator=self.generators[block]))
        with seeded(seed, inputs.device):
            return _flat(functional_call(template, values, inputs), len(inputs))


class FrozenEncoding(nn.Module):
    """Features of a network that is not trained, standardised: the same for all blocks.

    They are computed once for each row of the training data. Images of bytes are divided by 255
    before, as pre-trained networks have it; other numbers are given as they are.

    Parameters
    ----------
    network : nn.Module
        It is copied.
    shape : tuple of int or None
        Channels, height and width of images; None for rows of numbers.
    X : ndarray of shape (n_samples, n_features)
        Training data, or what is indexed like them, as rows that are loaded batch by batch.

    Raises
    ------
    ValueError
        If the network does not take the inputs, or gives no row of features for each that are
        finite.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sknoprop.networks import FrozenEncoding
    >>> X = np.arange(12.0).reshape(4, 3)
    >>> encoding = FrozenEncoding(torch.nn.Linear(3, 8), None, X)
    >>> encoding(torch.from_numpy(X)).shape
    torch.Size([4, 8])
    """

    def __init__(self, network: nn.Module, shape: Sequence[int] | None, X: Any) -> None:
        super().__init__()
        if any(isinstance(p, nn.UninitializedParameter) for p in network.parameters()):
            raise ValueError(
                "The 'encoder' parameter of NoPropClassifier is a network that is not trained, so "
                "its parameters must have values. Got one with lazy layers that never ran."
            )
        # Not a submodule: it is not trained, nor cast with the blocks.
        self._network = [copy.deepcopy(network).cpu().eval().requires_grad_(False)]
        self.shape = shape
        self.n_in = X.shape[1]
        index = np.linspace(0, len(X) - 1, min(len(X), MAX_ROWS)).astype(int)
        features = [
            self.features(torch.as_tensor(np.array(X[index[i : i + CHUNK]])))
            for i in range(0, len(index), CHUNK)
        ]
        known = torch.cat(features)
        if not torch.isfinite(known).all():
            raise ValueError(
                "The 'encoder' parameter of NoPropClassifier makes features that are not finite. "
                "Check the network, and the scale of X."
            )
        self.numbers = NumberEncoding(known.numpy(), n_bins=0)

    @property
    def n_out(self) -> int:
        """Number of features."""
        return self.numbers.n_out

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Features of rows, as the network makes them.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)

        Returns
        -------
        Tensor of shape (n_samples, n_out), float64
        """
        network = self._network[0]
        floats = (p.dtype for p in network.parameters() if p.is_floating_point())
        dtype = next(floats, torch.float32)
        parts = []
        for part in x.split(CHUNK):
            rows = part.to(dtype) / 255.0 if part.dtype == torch.uint8 else part.to(dtype)
            if self.shape is not None:
                rows = rows.view(-1, *self.shape)
            parts.append(_tried(network, rows).double())
        return torch.cat(parts)

    def forward(self, x: Tensor) -> Tensor:
        """Standardised features of rows.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)

        Returns
        -------
        Tensor of shape (n_samples, n_out), float64
        """
        return self.numbers(self.features(x))

    def standardize(self, x: Tensor) -> Tensor:
        """As `forward`: what prototypes are made of.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)

        Returns
        -------
        Tensor of shape (n_samples, n_out), float64
        """
        return self.forward(x)

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        # The network moves with the model; its dtype is its own.
        super()._apply(fn, recurse)
        self._network[0].to(self.numbers.mean.device)
        return self
