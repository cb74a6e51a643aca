"""Latents of kernels over each row's likeliest classes: what they have in common is kept apart."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sknoprop.networks.products import stacked_product

__all__ = ["CandidateLatents", "NoisedClasses", "outputs_of_classes", "rows_of"]


class NoisedClasses(NamedTuple):
    """Noised embeddings ``signal * W[c] + noise * eps`` of all classes, at one level of each block.

    Parameters
    ----------
    weight : Tensor of shape (n_classes, embedding_dim)
        Class embeddings.
    signal, noise : Tensor of shape (n_blocks,)
    eps : Tensor of shape (n_draws, embedding_dim)
        Standard normal draws.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.networks.latents import NoisedClasses
    >>> level, eps = torch.tensor([0.5]), torch.zeros(4, 3)
    >>> noised = NoisedClasses(torch.eye(3), level, level, eps)
    >>> of_classes, of_draws = noised.products(torch.ones(1, 3, 8))
    >>> of_classes.shape, of_draws.shape
    (torch.Size([1, 3, 8]), torch.Size([1, 4, 8]))
    """

    weight: Tensor
    signal: Tensor
    noise: Tensor
    eps: Tensor

    def products(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Of latents and a matrix of each block: what each class and each draw adds to them.

        Parameters
        ----------
        matrix : Tensor of shape (n_blocks, embedding_dim, n_out)

        Returns
        -------
        of_classes : Tensor of shape (n_blocks, n_classes, n_out)
        of_draws : Tensor of shape (n_blocks, n_draws, n_out)
        """
        of_classes = self.signal.view(-1, 1, 1) * stacked_product(self.weight, matrix)
        return of_classes, self.noise.view(-1, 1, 1) * stacked_product(self.eps, matrix)


class CandidateLatents(NamedTuple):
    """Of the noised embeddings those of each row's own classes.

    Rows have latents of their own, but what a head makes of one first is linear: a product for
    each class and one for each draw, which rows add up. Nor does a row want logits of all classes.

    Parameters
    ----------
    noised : NoisedClasses
    origins : Tensor of shape (n_samples, n_origins), int64
        Classes whose embeddings are noised.
    classes : Tensor of shape (n_samples, n_candidates), int64
        Classes whose logits are wanted.
    first : tuple of Tensor, or None
        What `Head.first_of_classes` gave; None where latents have to be written out.
    """

    noised: NoisedClasses
    origins: Tensor
    classes: Tensor
    first: tuple[Tensor, Tensor] | None


def rows_of(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a table, ``table[index]``, in a fraction of the time.

    Parameters
    ----------
    table : Tensor of shape (n_rows, width)
    index : Tensor of shape (...), int64

    Returns
    -------
    Tensor of shape (..., width)
    """
    return table.index_select(0, index.flatten()).view(*index.shape, -1)


def outputs_of_classes(
    table: Tensor, bias: Tensor, x: Tensor, classes: Tensor, out: Tensor
) -> None:
    """Outputs of one block's layer for classes of each row's own.

    Parameters
    ----------
    table : Tensor of shape (n_classes, n_in)
        The layer's weights, a row a class.
    bias : Tensor of shape (n_classes,)
    x : Tensor of shape (n_samples, n_latents, n_in)
    classes : Tensor of shape (n_samples, n_candidates), int64
    out : Tensor of shape (n_samples, n_latents, n_candidates)
        Where they are put.
    """
    torch.baddbmm(bias[classes][:, None], x, rows_of(table, classes).mT, out=out)
