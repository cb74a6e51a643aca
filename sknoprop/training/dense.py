"""The step of blocks of dense layers, with its gradients written out.

Such networks are small, and autograd takes longer to keep its books than the products of matrices
take. What is computed is what `NoPropModel.losses` and autograd compute, up to rounding; embeddings
and schedules that are trained, other heads and other parameterizations are left to those.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from sknoprop.training.batches import Batch, Batches

__all__ = ["DenseStep"]

#: What gradients need of what was computed, the last on top: none of it outlives the step.
Tape = list[tuple[Any, ...]]


def _give(parameter: Tensor | None, grad: Tensor) -> None:
    assert parameter is not None
    if not parameter.requires_grad:  # a callback may have frozen it
        return
    # Fused optimisers take gradients to lie in memory as parameters do, and do not look.
    grad = grad.contiguous()
    parameter.grad = grad if parameter.grad is None else parameter.grad + grad


class _Thinning:
    """ReLU and dropout, in place."""

    def __init__(self, dropout: StackedDropout) -> None:
        self.dropout = dropout

    def forward(self, x: Tensor, tape: Tape) -> Tensor:
        x.relu_()
        mask = self.dropout.mask(x) if self.dropout.p > 0.0 else None
        tape.append((self._masked(x, mask), mask))
        return x

    def gradient(self, grad: Tensor, tape: Tape) -> Tensor:
        """Gradient with respect to what was thinned."""
        x, mask = tape.pop()
        passed: Tensor = torch.ops.aten.threshold_backward(self._masked(grad, mask), x, 0)
        return passed

    def _masked(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:
            # Rows that share a mask are looked at as an axis, and it is not written out for each.
            size = self.dropout.rows_per_mask
            n_whole = x.shape[1] // size
            x[:, : n_whole * size].unflatten(1, (n_whole, size)).mul_(mask[:, :n_whole, None])
            x[:, n_whole * size :].mul_(mask[:, n_whole:])
        return x


class _Affine:
    """One affine map a block, and batch normalisation if there is any."""

    def __init__(self, linear: StackedLinear, norm: nn.Module) -> None:
        self.linear = linear
        self.norm = norm if isinstance(norm, StackedBatchNorm) else None

    def forward(self, x: Tensor, tape: Tape) -> Tensor:
        linear, norm = self.linear, self.norm
        assert linear.bias is not None
        out = affine(linear.bias[:, None], x, linear.weight)
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
        _give(self.linear.bias, grad.sum(1))
        _give(self.linear.weight, weight_gradient(x, grad))
        return grad

    def of_input(self, grad: Tensor) -> Tensor:
        """Gradient with respect to the map's input, of what `backward` gave."""
        return torch.bmm(grad, self.linear.weight.mT)


class DenseStep:
    """Losses and gradients of a model that `takes` says yes to.

    Parameters
    ----------
    model : NoPropModel
        In training.
    """

    def __init__(self, model: NoPropModel) -> None:
        self.model = model
        self.constants = model.constants()
        self.encoder, self.head = model.encoder, cast(LightHead, model.head)
        pairs = zip(self.encoder.layers, self.encoder.norms, strict=True)
        self.layers = [_Affine(cast(StackedLinear, layer), norm) for layer, norm in pairs]
        self.thinnings = [_Thinning(self.encoder.dropout) for _ in self.layers[1:]]
        self.last = _Thinning(self.head.dropout)
        self.out = _Affine(self.head.out, nn.Identity())

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
        return is_plain(modules, self.model.partition.edges.device)

    @torch.no_grad()
    def backward(self, batch: Batch, scale: Tensor) -> tuple[Tensor, Tensor]:
        """As `AutogradStep.backward`."""
        of_rows = batch.sample_weight if batch.block_weight is None else batch.block_weight
        u, levels, z, position = self.model.latents(batch.y, batch.draws, of_rows)
        tape: Tape = []
        logits = self._forward(batch.inputs, self.head.rows(z, position), tape)
        p, embeddings = logits.softmax(-1), self.model.embedding.weight
        error = p @ embeddings - u
        # Of the mean over rows of weight * |p W - u|**2, and of the softmax. (A schedule of the
        # user's may compute in double precision.)
        factor = levels.weight * (2.0 / (len(u) * scale)).view(-1, 1, 1)
        of_error = factor.to(error.dtype) * error
        of_p = p * (of_error @ embeddings.mT)
        self._backward(torch.addcmul(of_p, p, of_p.sum(-1, keepdim=True), value=-1.0), tape)
        scaled = 0.5 * (of_error * error).sum((1, 2))
        objective = scaled.sum()
        if self.model.trains_readout:
            objective += self._train_readout(u, batch)
        return objective, scaled * scale

    @torch.enable_grad()
    def _train_readout(self, u: Tensor, batch: Batch) -> Tensor:
        loss = self.model.readout_loss(u, batch.y, batch.draws, batch.sample_weight, self.constants)
        if loss.requires_grad:
            loss.backward()
        return loss.detach()

    def _forward(self, inputs: Tensor, rows: Tensor, tape: Tape) -> Tensor:
        dense = self.encoder.dense_inputs(inputs)
        first, *others = self.layers
        hidden = first.forward(dense.expand(len(rows), *dense.shape), tape)
        for thinning, layer in zip(self.thinnings, others, strict=True):
            hidden = layer.forward(thinning.forward(hidden, tape), tape)
        hidden.baddbmm_(rows, self.head.latent.weight)
        tape.append((rows,))
        return self.out.forward(self.last.forward(hidden, tape), tape)

    def _backward(self, grad: Tensor, tape: Tape) -> None:
        grad = self.out.of_input(self.out.backward(grad, tape))
        grad = self.last.gradient(grad, tape)
        _give(self.head.latent.weight, weight_gradient(tape.pop()[0], grad))
        first, *others = self.layers
        for thinning, layer in zip(reversed(self.thinnings), reversed(others), strict=True):
            grad = thinning.gradient(layer.of_input(layer.backward(grad, tape)), tape)
        first.backward(grad, tape)
