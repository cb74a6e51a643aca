"""How many rows a prediction of few of them computes together.

A row's prediction must not depend on how many are asked about with it, so what is computed has one
shape, whatever is asked: a single row costs as much as 256. Of fewer rows most processors' products
round each one as they do of many, but no library promises that. So it is tried, with rows made up
for it, once a model and number of rows: where all numbers come out the same to the last bit, few
rows are computed as few.
"""

from __future__ import annotations

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
from sknoprop.networks import Encoder, ImageEncoding, NumberEncoding
from sknoprop.probes import Probes

__all__ = ["FEW_ROWS", "Trial", "rows_for_few"]

#: Rows that are computed together where so few are asked about; in double precision three quarters.
#: (Products of a single one are computed otherwise than those of several, everywhere.)
FEW_ROWS = (4, 16, 64)

#: Parts of many rows that are compared with as few.
PARTS = 16

#: What was found of a model that is still there, by what its products' shapes depend on.
_found: WeakKeyDictionary[NoPropModel, dict[tuple[Any, ...], bool]] = WeakKeyDictionary()


def rows_for_few(model: NoPropModel, n_samples: int, at_once: int, eps: Tensor) -> int:
    """Rows whose kernels are computed together, where predictions of `n_samples` are asked for.

    Parameters
    ----------
    model : NoPropModel
    n_samples : int
    at_once : int
        Rows that are, of many.
    eps : Tensor of shape (n_draws, embedding_dim)
        As for `Probes`.

    Returns
    -------
    int
        The smallest of `FEW_ROWS` that are enough, if each row's prediction is the same bit for bit
        as among `at_once`; else `at_once`, as always on a GPU and where there are convolutions or
        networks of the user's.
    """
    if not _is_dense(model):
        return at_once
    found = _found.setdefault(model, {})
    double = model.embedding.weight.dtype == torch.float64
    trial = None
    for power in FEW_ROWS:
        size = rows_rounded_alike(model, power * 3 // 4 if double else power)
        if not n_samples <= size < at_once or size == 1:
            continue
        # Few numbers are computed by one thread, many by all there are.
        key = size, at_once, len(eps), model.n_blocks, torch.get_num_threads()
        if key not in found:
            try:
                trial = trial or Trial(model, Probes(model, eps), at_once)
                found[key] = trial.rounds_alike(size)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                return at_once  # of which fewer are tried where that is too many
        if found[key]:
            return size
    return at_once


def _is_dense(model: NoPropModel) -> bool:
    """Whether all that depends on shapes is products of the package's own, on a CPU."""
    encoder = model.encoder
    return (
        # On a GPU products are chosen by their shape.
        model.embedding.weight.device.type == "cpu"
        and type(encoder) is Encoder
        and encoder.path is None
        and type(encoder.encoding) in (NumberEncoding, ImageEncoding)
    )


class Trial:
    """Predictions of many rows, to compare with those of few.

    Parameters
    ----------
    model : NoPropModel
        Of dense layers.
    probes : Probes
        Of the model.
    n_rows : int
        Many.
    """

    @torch.no_grad()
    def __init__(self, model: NoPropModel, probes: Probes, n_rows: int) -> None:
        self.model, self.probes, self.n_rows = model, probes, n_rows
        generator = torch.Generator().manual_seed(0)
        self.rows = _rows_like(model.encoder.encoding, n_rows, generator)
        self.features = self._features(self.rows, n_rows)
        # Blocks are asked about features that are more unlike each other than these: a row that is
        # sure of its class would have the same law however it was rounded.
        noise = torch.randn(self.features.shape, generator=generator, dtype=torch.float32)
        self.asked = self.features + noise.to(self.features)
        self.laws = kernel_probabilities(model, self.asked, probes)

    def _features(self, rows: Tensor, size: int) -> Tensor:
        return features_of(self.model, rows, size, min(rows_encoded_at_once(self.model), size))

    @torch.no_grad()
    def rounds_alike(self, size: int) -> bool:
        """Whether predictions are the same, bit for bit, of `size` rows at a time."""
        parts = zip(
            self.rows.split(size),
            *(array.split(size, 1) for array in (self.features, self.asked, self.laws)),
            strict=True,
        )
        return all(
            torch.equal(self._features(rows, size), features)
            and torch.equal(kernel_probabilities(self.model, asked.contiguous(), self.probes), laws)
            for rows, features, asked, laws in islice(parts, PARTS)
        )


def _rows_like(encoding: Any, n_rows: int, generator: torch.Generator) -> Tensor:
    """Rows with the training data's means and spreads, all different."""
    noise = torch.randn(n_rows, encoding.n_in, generator=generator, dtype=torch.float64)
    mean, scale = encoding.mean, encoding.scale
    if isinstance(encoding, ImageEncoding):  # of each channel
        n_pixels = encoding.n_in // len(mean)
        mean, scale = mean.repeat_interleave(n_pixels), scale.repeat_interleave(n_pixels)
    return mean + scale * noise
