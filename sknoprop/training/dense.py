"""The step of blocks of dense layers, with its gradients written out.

Such networks are small, and autograd takes longer to keep its books than the products of matrices
take. What is computed is what `NoPropModel.losses` and autograd compute, up to rounding; embeddings
and schedules that are trained, other heads and other parameterizations are left to those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from sknoprop.model import NoPropModel
from sknoprop.networks import Encoder, LightHead
from sknoprop.networks.products import affine, weight_gradient
from sknoprop.networks.stacked import (
    StackedBatchNorm,
    StackedDropout,
    StackedLinear,
    normalize,
    normalize_gradients,
)
from sknoprop.parameterizations import LabelParameterization
from sknoprop.training.autograd import is_plain
from sknoprop.training.batches import Batch, Batches, Noised

__all__ = ["DenseRows", "DenseStep"]

#: Numbers that a block takes of the rows of several steps at once, about.
STRETCH_NUMBERS = 2**16

#: The same on a GPU, which waits for each call longer than for what it does.
STRETCH_NUMBERS_ON_GPU = 2**20

_relu_gradient = torch.ops.aten.threshold_backward.grad_input

#: What gradients need of what was computed, the last on top: none of it outlives the step.
Tape = list[tuple[Any, ...]]


def _give(parameter: Tensor, grad: Tensor) -> None:
    if not parameter.requires_grad:  # a callback may have frozen it
        return
    # Fused optimisers take gradients to lie in memory as parameters do, and do not look.
    grad = grad.contiguous()
    before = parameter.grad
    parameter.grad = grad if before is None else before + grad


def _scaled_product(x: Tensor, weight: Tensor, factor: float) -> Tensor:
    return torch.baddbmm(x.new_empty(1, 1, 1), x, weight, beta=0.0, alpha=factor)


def _is_identity(matrix: Tensor) -> bool:
    n = len(matrix)  # and there is no room for another, if it is large
    ones = matrix.shape[1] == n and bool((matrix.diagonal() == 1.0).all())
    return ones and int(matrix.count_nonzero()) == n


class _Thinning:
    """ReLU and dropout, in place."""

    def __init__(self, dropout: StackedDropout) -> None:
        self.dropout = dropout

    def forward(self, x: Tensor, mask: Tensor | None, tape: Tape) -> Tensor:
        x.relu_()
        if mask is not None:
            # Rows that share a mask are looked at as an axis, and it is not written out for each.
            (n_blocks, n_rows, width), size = x.shape, self.dropout.rows_per_mask
            n_whole, n_others = divmod(n_rows, size)
            whole = x
            if n_others:
                whole, others = x[:, : n_whole * size], x[:, n_whole * size :]
                mask, of_others = mask[:, :n_whole], mask[:, n_whole:]
                others.mul_(of_others)
            whole.view(n_blocks, n_whole, size, width).mul_(mask.unsqueeze(2))
        tape.append((x,))
        return x

    @property
    def factor(self) -> float:
        """What of the mask is not nought."""
        return self.dropout.factor

    def gradient(self, grad: Tensor, tape: Tape) -> Tensor:
        """Gradient with respect to what was thinned, of `factor` times that of what was left.

        It takes its place in memory.
        """
        (x,) = tape.pop()
        # What ReLU or the mask took is nought.
        return _relu_gradient(grad, x, 0, grad_input=grad)


class _Map:
    """One affine map a block."""

    def __init__(self, linear: StackedLinear) -> None:
        self.linear = linear
        self.look()

    def look(self) -> None:
        """Find the parameters, which takes a module as long as a small product."""
        self.weight, bias = self.linear.weight, self.linear.bias
        assert bias is not None
        self.bias = bias


class _Affine(_Map):
    """One affine map a block, and batch normalisation if there is any."""

    def __init__(self, linear: StackedLinear, norm: nn.Module) -> None:
        super().__init__(linear)
        self.norm = norm if isinstance(norm, StackedBatchNorm) else None

    def forward(self, x: Tensor, tape: Tape) -> Tensor:
        norm = self.norm
        out = affine(self.bias.unsqueeze(1), x, self.weight)
        saved: Sequence[Tensor] = ()
        if norm is not None:
            out, mean, var, *saved = normalize(out, norm.weight, norm.bias, norm.eps)
            norm.note(mean, var, x.shape[1])
        tape.append((x, *saved))
        return out

    def backward(self, grad: Tensor, tape: Tape) -> Tensor:
        """Give the parameters their gradients; the one with respect to the affine map."""
        x, *saved = tape.pop()
        if self.norm is not None:
            grad, of_gain, of_bias = normalize_gradients(grad, *saved)
            _give(self.norm.weight, of_gain)
            _give(self.norm.bias, of_bias)
        _give(self.bias, grad.sum(1))
        _give(self.weight, weight_gradient(x, grad))
        return grad

    def of_input(self, grad: Tensor, factor: float) -> Tensor:
        """Gradient with respect to the map's input, of what `backward` gave, times a factor."""
        return _scaled_product(grad, self.weight.mT, factor)


class _Output(_Map):
    """The last affine map of each block. Rows come last in what it gives.

    What is done to few numbers of many rows is then done to many next to each other, and products
    with their long side last come faster.
    """

    def forward(self, x: Tensor, tape: Tape) -> Tensor:
        """Of `x` of shape (n_blocks, n, width): shape (n_blocks, n_out, n)."""
        tape.append((x,))
        return torch.baddbmm(self.bias.unsqueeze(2), self.weight.mT, x.mT)

    def backward(self, grad: Tensor, tape: Tape, factor: float) -> Tensor:
        """Give the parameters their gradients; the one with respect to `x`, times a factor."""
        (x,) = tape.pop()
        _give(self.bias, grad.sum(2))
        _give(self.weight, torch.bmm(grad, x).mT)
        return _scaled_product(grad.mT, self.weight.mT, factor)


@dataclass(frozen=True)
class DenseRows:
    """What a step takes of a batch of `n` rows."""

    inputs: Tensor
    u: Tensor
    """Embeddings of the labels, shape (embedding_dim, n)."""
    latents: Tensor
    """What the head's first product is of, shape (n_blocks, n, n_in)."""
    weight: Tensor
    """Twice what a squared error counts in the objective, shape (n_blocks, 1, n)."""
    masks: tuple[Tensor, ...]
    """Of each layer, a row for some rows of it; none without dropout."""
    noised: Noised | None
    """Where the read-out is trained."""

    def __len__(self) -> int:
        return self.latents.shape[1]


@dataclass(frozen=True)
class _Stretch:
    """Rows of a few steps in turn, less their inputs."""

    chunk: Noised | None = None
    first: int = 0
    steps: Sequence[tuple[Any, ...]] = ()
    p: float = 0.0

    def has(self, batch: Batch) -> bool:
        return self.chunk is batch.chunk and 0 <= batch.number - self.first < len(self.steps)


class DenseStep:
    """Losses and gradients of a model that `takes` says yes to.

    Parameters
    ----------
    model : NoPropModel
        In training.
    scale : Tensor of shape (n_blocks,)
        As for `AutogradStep`.
    """

    def __init__(self, model: NoPropModel, scale: Tensor) -> None:
        self.model = model
        self.scale = scale
        self.constants = model.constants()
        self.encoder, self.head = model.encoder, cast(LightHead, model.head)
        pairs = zip(self.encoder.layers, self.encoder.norms, strict=True)
        self.layers = [_Affine(cast(StackedLinear, layer), norm) for layer, norm in pairs]
        dropouts = [*[self.encoder.dropout] * (len(self.layers) - 1), self.head.dropout]
        self.thinnings = [_Thinning(dropout) for dropout in dropouts]
        self.out = _Output(self.head.out)
        self.half_scale = 0.5 * scale
        self.look()
        self.forget()

    def look(self) -> None:
        """See what a step takes for granted as it is now; before each epoch."""
        maps: list[_Map] = [*self.layers, self.out]
        for each in maps:
            each.look()
        self.of_latents = self.head.latent.weight
        #: Embeddings of the classes; None where a class is embedded as itself.
        self.table: Tensor | None = self.model.embedding.weight
        if _is_identity(self.table):
            self.table = None

    def forget(self) -> None:
        """Let go of rows that were prepared; after each epoch."""
        self._stretch = _Stretch()

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_stretch": _Stretch()}  # a callback may pickle the net

    @staticmethod
    def takes(model: NoPropModel, batches: Batches) -> bool:
        """Whether this is the step of such a model on such batches."""
        dense = type(model.encoder) is Encoder and model.encoder.path is None
        light = type(model.head) is LightHead
        by_label = type(model.parameterization) is LabelParameterization
        # Of a batch of one row batch normalisation is another thing.
        one_latent_a_row = batches.noise.n_draws == 1 and len(batches.y) >= 2 * len(batches)
        return (
            (dense and light and by_label and one_latent_a_row)
            and not model.shares_parameters
            and model.products is None
            and type(model).losses is NoPropModel.losses
        )

    def is_plain(self) -> bool:
        """Whether the networks are as training finds them; else the step is autograd's."""
        modules = [m for part in (self.encoder, self.head) for m in part.modules()]
        alike = self.encoder.dropout.p == self.head.dropout.p
        return alike and is_plain(modules, self.model.partition.edges.device)

    def take(self, batch: Batch) -> DenseRows:
        """As `AutogradStep.take`. What does not depend on parameters is made for many steps."""
        stretch = self._stretch
        changed = stretch.chunk is batch.chunk and stretch.p != self.head.dropout.p
        if changed or not stretch.has(batch):
            # Masks are of one dropout: where it changes from step to step, they are for one.
            stretch = self._stretch = self._prepared(batch, 1 if changed else None)
        return DenseRows(batch.inputs, *stretch.steps[batch.number - stretch.first])

    def _n_steps(self, batch: Batch) -> int:
        of_masks = sum(self._mask_sizes(len(batch))) if self.head.dropout.p > 0.0 else 0
        per_step = len(batch) * self.of_latents.shape[1] + of_masks
        most = STRETCH_NUMBERS if batch.chunk.y.device.type == "cpu" else STRETCH_NUMBERS_ON_GPU
        return max(min(most // per_step, len(batch.bounds) - 1 - batch.number), 1)

    @torch.no_grad()
    def _prepared(self, batch: Batch, n_steps: int | None = None) -> _Stretch:
        n_steps = n_steps or self._n_steps(batch)
        noised = batch.noised(n_steps)
        sizes = [b - a for a, b in pairwise(batch.bounds[batch.number :][: n_steps + 1])]
        u, levels, z, position = self.model.latents(noised.y, noised.draws, noised.weight)
        # Of the mean over rows of weight * |p W - u|**2. (A schedule of the user's may compute in
        # double precision.)
        n_rows = u.new_empty(len(u))
        for own, size in zip(n_rows.split(sizes), sizes, strict=True):
            own.fill_(size)  # and no number is sent to a GPU, which would have to be waited for
        weight = levels.weight.mT * (2.0 / (n_rows * self.scale[:, None]))[:, None]
        parts = zip(
            u.mT.contiguous().split(sizes, 1),
            self.head.rows(z, position).split(sizes, 1),
            weight.to(u.dtype).split(sizes, 2),
            self._masks(u, sizes),
            strict=True,
        )
        of_readout: list[Noised | None] = [None] * n_steps
        if self.model.trains_readout:
            numbers = range(batch.number, batch.number + n_steps)
            of_readout = [replace(batch, number=number).noised() for number in numbers]
        steps = [(*part, noise) for part, noise in zip(parts, of_readout, strict=True)]
        return _Stretch(batch.chunk, batch.number, steps, self.head.dropout.p)

    def _mask_sizes(self, n_rows: int) -> list[int]:
        n_masks = -(-n_rows // self.head.dropout.rows_per_mask)
        return [n_masks * width for width in self.encoder.widths[1:]]

    def _masks(self, like: Tensor, sizes: Sequence[int]) -> list[tuple[Tensor, ...]]:
        """Of each step, drawn for all of them at once in the order of one step after another."""
        if self.head.dropout.p == 0.0:
            return [()] * len(sizes)
        widths, dropout = self.encoder.widths[1:], self.head.dropout
        numbers = list(chain(*map(self._mask_sizes, sizes)))
        masks = iter(dropout.draw(dropout.own_generators(), numbers, like.dtype))
        return [tuple(next(masks).unflatten(1, (-1, width)) for width in widths) for _ in sizes]

    @torch.no_grad()
    def backward(self, rows: DenseRows) -> tuple[Tensor, Tensor]:
        """As `AutogradStep.backward`."""
        tape: Tape = []
        p = self._forward(rows, tape).softmax(1)
        error = (p if self.table is None else self.table.mT @ p) - rows.u
        of_error = of_p = rows.weight * error
        if self.table is not None:
            of_p = self.table @ of_error
        self._backward(torch._softmax_backward_data(of_p, p, 1, p.dtype), tape)
        twice = (of_error * error).sum((1, 2))
        objective = 0.5 * twice.sum()
        if rows.noised is not None:
            objective += self._train_readout(rows.u.mT, rows.noised)
        return objective, twice * self.half_scale

    @torch.enable_grad()
    def _train_readout(self, u: Tensor, noised: Noised) -> Tensor:
        loss = self.model.readout_loss(
            u, noised.y, noised.draws, noised.sample_weight, self.constants
        )
        if loss.requires_grad:
            loss.backward()
        return loss.detach()

    def _forward(self, rows: DenseRows, tape: Tape) -> Tensor:
        masks = rows.masks or (None,) * len(self.layers)
        dense = self.encoder.dense_inputs(rows.inputs)
        first, *others = self.layers
        hidden = first.forward(dense.expand(len(rows.latents), -1, -1), tape)
        for mask, thinning, layer in zip(masks, self.thinnings, others, strict=False):
            hidden = layer.forward(thinning.forward(hidden, mask, tape), tape)
        hidden.baddbmm_(rows.latents, self.of_latents)
        tape.append((rows.latents,))
        return self.out.forward(self.thinnings[-1].forward(hidden, masks[-1], tape), tape)

    def _backward(self, grad: Tensor, tape: Tape) -> None:
        *thinnings, last = self.thinnings
        grad = last.gradient(self.out.backward(grad, tape, last.factor), tape)
        _give(self.of_latents, weight_gradient(tape.pop()[0], grad))
        first, *others = self.layers
        for thinning, layer in zip(reversed(thinnings), reversed(others), strict=True):
            grad = layer.of_input(layer.backward(grad, tape), thinning.factor)
            grad = thinning.gradient(grad, tape)
        first.backward(grad, tape)
