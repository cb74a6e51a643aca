"""How many rows a prediction of few of them computes together.

A row's prediction must not depend on how many are asked about with it, so what is computed has one
shape, whatever is asked: a single row costs as much as 256. Of fewer rows most processors' products
round each one as they do of many, but no library promises that. So it is tried, once a model and
number of rows: where all numbers come out the same to the last bit, few rows are computed as few.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from sknoprop._memory import is_out_of_memory
from sknoprop.inference import (
    features_of,
    kernel_probabilities,
    rows_encoded_at_once,
    rows_rounded_alike,
)
from sknoprop.model import NoPropModel
from sknoprop.probes import Probes

__all__ = ["FEW_ROWS", "rows_for_few", "rows_round_alike"]

#: Rows that are computed together where so few are asked about; in double precision three quarters.
#: (Products of a single one are computed otherwise than those of several, everywhere.)
FEW_ROWS = (4, 16, 64)

#: Parts of many rows that are compared with as few.
TRIALS = 16

#: What was found of a model that is still there, by what its products' shapes depend on.
_found: WeakKeyDictionary[NoPropModel, dict[tuple[Any, ...], bool]] = WeakKeyDictionary()


def rows_for_few(
    model: NoPropModel,
    n_samples: int,
    at_once: int,
    eps: Tensor,
    first_rows: Callable[[int], Tensor],
) -> int:
    """Rows whose kernels are computed together, where predictions of `n_samples` are asked for.

    Parameters
    ----------
    model : NoPropModel
    n_samples : int
    at_once : int
        Rows that are, of many.
    eps : Tensor of shape (n_draws, embedding_dim)
        As for `Probes`.
    first_rows : callable
        To that many rows of those asked about, at most.

    Returns
    -------
    int
        The smallest of `FEW_ROWS` that are enough, if each row's prediction is the same bit for bit
        as among `at_once`; else `at_once`, as always on a GPU.
    """
    if model.embedding.weight.device.type != "cpu":  # products are chosen by their shape there
        return at_once
    found = _found.setdefault(model, {})
    double = model.embedding.weight.dtype == torch.float64
    for power in FEW_ROWS:
        size = rows_rounded_alike(model, power * 3 // 4 if double else power)
        if not n_samples <= size < at_once or size == 1:
            continue
        # Few numbers are computed by one thread, many by all there are.
        key = size, at_once, len(eps), model.n_blocks, torch.get_num_threads()
        if key not in found:
            try:
                probes = Probes(model, eps)
                found[key] = rows_round_alike(model, first_rows(size), probes, size, at_once)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                return at_once  # of which fewer are tried where that is too many
        if found[key]:
            return size
    return at_once


@torch.no_grad()
def rows_round_alike(model: NoPropModel, rows: Tensor, probes: Probes, few: int, many: int) -> bool:
    """Whether predictions are the same, bit for bit, of `few` rows at a time and of `many`.

    Parameters
    ----------
    model : NoPropModel
    rows : Tensor of shape (n_samples, n_features)
        Any that features can be computed of, `few` of them at most.
    probes : Probes
        Of the model.
    few, many : int
    """
    # The rows given, at all places but the last, which is left to be filled up: the networks of
    # some users look at the other rows.
    order = torch.arange(many - 1) % min(len(rows), few - 1)
    encoded = rows_encoded_at_once(model)
    features = features_of(model, rows[order], many, min(encoded, many))
    of_few = features_of(model, rows[order[: few - 1]], few, min(encoded, few))
    if not (
        _same(features[:, :-1], of_few[:, order])
        and _same(of_few[:, :-1], of_few[:, order[: few - 1]])
    ):
        return False
    # Features like theirs, and all different: of a row that is sure of its class all roundings
    # would make the same.
    generator = torch.Generator().manual_seed(0)
    scale = 1.0 + 0.5 * torch.randn(features.shape, generator=generator, dtype=torch.float32)
    features = features * scale.to(features)
    found = kernel_probabilities(model, features, probes)
    pairs = zip(features.split(few, 1), found.split(few, 1), strict=True)
    return all(
        _same(kernel_probabilities(model, part.contiguous(), probes), same)
        for part, same in islice(pairs, TRIALS)
    )


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.nan_to_num(), b.nan_to_num())
