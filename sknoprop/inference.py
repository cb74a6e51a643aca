"""Prediction by the class kernels of all blocks.

Features of the input are computed once a row and reused for every level, class and draw.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sknoprop.calibration import tempered
from sknoprop.central import central_probabilities
from sknoprop.kernels import kernel_from_flow, kernel_latents, stationary_distribution
from sknoprop.model import NoPropModel
from sknoprop.networks.latents import CandidateLatents
from sknoprop.probes import Probes, has_centre

__all__ = [
    "MAX_CANDIDATES",
    "asked_at_centre",
    "block_kernels",
    "candidate_classes",
    "class_flows",
    "features_of",
    "kernel_probabilities",
    "rows_at_once",
    "rows_encoded_at_once",
    "rows_rounded_alike",
    "rows_within_bounds",
]

#: With more classes than this, blocks are asked at the centre of the classes. Where there is none,
#: kernels are built over each row's likeliest classes, so many.
MAX_CANDIDATES = 32

#: Numbers in the largest array of a prediction, beside its result: 16 MB in float32.
LARGEST_ARRAY = 2**22

#: Numbers in double precision that a core's own cache has room for, about: half a MB.
CACHED = 2**16

#: Rows of a prediction that are computed together, at most. (Where fewer are asked about so many
#: are, too, unless it makes no difference: `sknoprop.few_rows`.)
MOST_ROWS = 256

#: The same on a GPU, which small arrays leave idle: a 64th of its memory, where numbers have four
#: bytes.
BYTES_OF_GPU_A_NUMBER = 4 * 64
MOST_ROWS_ON_GPU = 2**11


def _bounds(device: torch.device, most_on_gpu: int = MOST_ROWS_ON_GPU) -> tuple[int, int]:
    """Numbers of the largest array, and rows that are computed together, at most."""
    if device.type != "cuda":
        return LARGEST_ARRAY, MOST_ROWS
    memory = torch.cuda.get_device_properties(device).total_memory
    return memory // BYTES_OF_GPU_A_NUMBER, most_on_gpu


def rows_within_bounds(
    model: NoPropModel, numbers: int, most_on_gpu: int = MOST_ROWS_ON_GPU
) -> int:
    """Rows that are worked on together, if an array has so many numbers for each.

    A power of two, or three quarters of one in double precision, that depends on the model, its
    device and the method and never on the data: products of matrices of one shape round alike, so a
    row's prediction does not change with the rows around it.

    Parameters
    ----------
    model : NoPropModel
    numbers : int
        Of the largest array, for each row.
    most_on_gpu : int
        Rows at most, on a GPU.
    """
    largest, most_rows = _bounds(model.embedding.weight.device, most_on_gpu)
    size = int(2 ** math.floor(math.log2(min(max(largest // numbers, 1), most_rows))))
    double = model.embedding.weight.dtype == torch.float64
    return rows_rounded_alike(model, max(size * 3 // 4, 1) if double else size)


def rows_rounded_alike(model: NoPropModel, n_rows: int) -> int:
    """As many rows, or one where so many may be rounded otherwise, depending on where they stand.

    Of two rows the second may be, and in double precision the last ones, unless their number is a
    multiple of twelve.
    """
    if model.embedding.weight.dtype == torch.float64:
        return n_rows if n_rows % 12 == 0 else 1
    return 1 if n_rows == 2 else n_rows


def rows_encoded_at_once(model: NoPropModel) -> int:
    """Rows whose features are computed together, of `rows_within_bounds`."""
    return rows_within_bounds(model, model.n_blocks * model.encoder.largest)


def rows_at_once(
    model: NoPropModel,
    n_draws: int,
    n_candidates: int | None = None,
    centred: bool | None = None,
) -> int:
    """Rows whose kernels are computed together, of `rows_within_bounds`.

    Parameters
    ----------
    model : NoPropModel
    n_draws : int
    n_candidates : int, optional
        Classes in a row's kernel, with latents of the row's own; by default as many as
        `kernel_probabilities` takes, with latents that rows share if it can be.
    centred : bool, optional
        As for `Probes`.
    """
    if n_candidates is None and asked_at_centre(model, centred):
        of_block = model.latent_size(False) + model.head.largest
        # Probabilities take eight bytes each.
        of_block = max(of_block, model.encoder.largest, 2 * model.embedding.n_classes)
        return rows_within_bounds(model, model.n_blocks * of_block)
    n_classes, dim = model.embedding.weight.shape
    own, many = n_candidates is not None, n_classes > MAX_CANDIDATES
    n_latents = n_draws * (n_candidates or min(n_classes, MAX_CANDIDATES))
    size = model.latent_size(own, MAX_CANDIDATES if many and not own else None)
    # What a path of latents makes of them; a kernel's may be the same for all rows.
    n_paths = n_latents if own or many else n_draws
    # With few classes and draws the encoder's own layers may be the largest arrays.
    of_block = max(n_latents * size + n_paths * model.head.largest, model.encoder.largest)
    numbers = model.n_blocks * of_block
    if many and not own:  # the first pass looks at all classes, and each row has embeddings
        numbers = max(numbers, model.n_blocks * n_draws * n_classes, MAX_CANDIDATES * dim)
    return rows_within_bounds(model, numbers)


def asked_at_centre(model: NoPropModel, centred: bool | None = None) -> bool:
    """Whether blocks are asked at one latent, and not for their kernels: see `sknoprop.central`."""
    many = model.embedding.n_classes > MAX_CANDIDATES
    return many and (has_centre(model) if centred is None else centred)


def features_of(model: NoPropModel, rows: Tensor, size: int, at_once: int) -> Tensor:
    """Features of some rows, filled up with zeros.

    All products are then of one shape, and a row's result does not depend on how many rows are
    predicted with it.

    Parameters
    ----------
    model : NoPropModel
    rows : Tensor of shape (n_samples, n_features)
    size : int
        Rows of the result, `n_samples` or more.
    at_once : int
        Rows that are encoded together; `size` is a multiple of it.

    Returns
    -------
    Tensor of shape (n_blocks, size, width)
    """
    parts = []
    for part in rows.split(at_once):
        inputs = model.encoder.prepare(_filled_up(part, at_once))
        parts.append(model.encoder(inputs))
    features = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
    return _filled_up(features, size)


def _filled_up(x: Tensor, n_rows: int) -> Tensor:
    """As many rows, the last but one axis, those that are lacking nought."""
    lacking = n_rows - x.shape[-2]
    return torch.nn.functional.pad(x, (0, 0, 0, lacking)) if lacking else x  # else a copy


def block_kernels(model: NoPropModel, features: Tensor, probes: Probes) -> Tensor:
    """Class kernel of each block, averaged over the levels it owns.

    A mean of reversible kernels with one stationary law is again one. Off-diagonal entries are
    estimates by multiple importance sampling, see `sknoprop.kernels`; rows sum to one.

    Parameters
    ----------
    model : NoPropModel
    features : Tensor of shape (n_blocks, n_samples, width)
    probes : Probes
        Of the model.

    Returns
    -------
    Tensor of shape (n_blocks, n_samples, n_classes, n_classes)
    """
    n_latents = len(probes) * len(probes.eps)
    return kernel_from_flow(class_flows(model, features, probes) / n_latents)


def class_flows(
    model: NoPropModel, features: Tensor, probes: Probes, candidates: Tensor | None = None
) -> Tensor:
    """What leaves each class for each other one, summed over levels and draws.

    Divided by their number, the same for all blocks, these are the kernels' off-diagonal entries.

    Parameters
    ----------
    model : NoPropModel
    features : Tensor of shape (n_blocks, n_samples, width)
    probes : Probes
        Of the model.
    candidates : Tensor of shape (n_samples, n_candidates), optional
        Classes that the kernel of each row is restricted to; all of them by default.

    Returns
    -------
    Tensor of shape (n_blocks, n_samples, n_candidates, n_candidates), float64
        Diagonal entries mean nothing.
    """
    n_blocks, n_samples, _ = features.shape
    n_candidates = model.embedding.n_classes if candidates is None else candidates.shape[1]
    # Many classes may be too many for one go even with a single row. (The number of rows is
    # that of `rows_at_once`, so this too depends on the model and the method alone; or it is less,
    # where that was found to make no difference.)
    size = model.latent_size(False, None if candidates is None else n_candidates)
    largest, _ = _bounds(features.device)
    at_once = max(largest // (n_blocks * n_samples * len(probes.eps) * size), 1)
    # Close to the label both factors of what leaves a class are tiny: products in double. Samples
    # come last in memory: all that is done to a kernel is then done to many next to each other.
    shape = n_blocks, n_candidates, n_candidates, n_samples
    flow = torch.empty(shape, dtype=torch.float64, device=features.device).transpose(1, -1)
    for number, probe in enumerate(probes):
        for start in range(0, n_candidates, at_once):
            part, is_first = slice(start, start + at_once), number == start == 0
            z: Tensor | CandidateLatents
            if candidates is None:
                z, shares = probe.of_classes(part)
            else:
                z, shares = probe.of_candidates(candidates, part)
            p = model.class_probabilities(features, z, probe.t[:, None, None])
            if candidates is None:
                # Samples last, as most heads leave them. (Where both factors are float32 widened,
                # products are exact, and no row's sums depend on where it stands.)
                p = p.transpose(1, -1).contiguous()
            n_cached = max(CACHED // p[0].numel(), 1)
            for own, share, answer in zip(
                *(array.split(n_cached) for array in (flow, shares, p)), strict=True
            ):
                share, answer = share.double().mT, answer.double()
                if candidates is not None:
                    total, factors = own, (share, answer)
                else:
                    by_class = share.expand(-1, answer.shape[1], -1, -1)
                    total = own.transpose(1, -1).flatten(0, 1)
                    factors = by_class.flatten(0, 1), answer.flatten(0, 1)
                # Products of few rows may begin with what they are added to, and round otherwise.
                if is_first:
                    torch.matmul(*factors, out=total)
                else:
                    total += torch.matmul(*factors)
    # With candidates, probabilities at a latent are given that the class is one of them, or are
    # left as they are, the chain staying where it is instead of going to a class that is none.
    # Either way balance holds between candidates, as each latent has but a factor of its own, and
    # so their stationary law is right up to a factor. Rescaled *rows* would not have it.
    return flow


def candidate_classes(
    model: NoPropModel, features: Tensor, probes: Probes
) -> tuple[Tensor, Tensor]:
    """Probabilities by the first block at its noisiest, and each row's likeliest classes.

    Each block is asked at the noisiest level it was trained on, at latents made of the mean
    embedding, which favours no class. The first block's answer is its estimate where nothing
    but noise is seen. The likeliest classes are those of the blocks' mean: a block that never
    learnt to tell two classes apart without the latent's help may miss one of them altogether.

    Returns
    -------
    probabilities : Tensor of shape (n_samples, n_classes)
    candidates : Tensor of shape (n_samples, MAX_CANDIDATES)
    """
    t = model.partition.span.start
    mean = model.embedding.weight.mean(0).view(1, 1, -1)
    z = kernel_latents(mean, model.schedule.signal(t), model.schedule.noise(t), probes.eps)
    p = model.class_probabilities(features, z.flatten(2, 3), t[:, None, None]).mean(2)
    return p[0], p.mean(0).topk(MAX_CANDIDATES, dim=-1).indices


def kernel_probabilities(model: NoPropModel, features: Tensor, probes: Probes) -> Tensor:
    """Each block's own estimate of the class probabilities.

    Returns
    -------
    Tensor of shape (n_blocks, n_samples, n_classes)
        The stationary distributions of the blocks' kernels, in float64. With more than
        `MAX_CANDIDATES` classes these have one latent, the centre, see `sknoprop.central`. Where
        classes have no centre a block divides the mass of a row's likeliest ones anew; the other
        classes keep what the first block gave them, see `candidate_classes`.
    """
    if model.embedding.n_classes <= MAX_CANDIDATES:
        law = stationary_distribution(class_flows(model, features, probes), overwrite_kernel=True)
        return tempered(law, model.temperature)
    p = (
        central_probabilities(model, features, probes)
        if probes.centred
        else _by_candidates(model, features, probes)
    )
    # Rows last in memory: a power may be computed otherwise at the end of an array, and that would
    # be the end of some rows.
    by_class = p.transpose(1, -1).contiguous().transpose(1, -1)
    return tempered(by_class, model.temperature)


def _by_candidates(model: NoPropModel, features: Tensor, probes: Probes) -> Tensor:
    first, candidates = candidate_classes(model, features, probes)
    flows = class_flows(model, features, probes, candidates)
    law = stationary_distribution(flows, overwrite_kernel=True)
    first = first.double()
    first = first / first.sum(-1, keepdim=True)
    mass = first.gather(-1, candidates).sum(-1, keepdim=True)
    index = candidates.expand(*law.shape)
    return first.expand(len(law), -1, -1).scatter(-1, index, law * mass)
