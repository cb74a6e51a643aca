"""From parameters and data to an untrained model."""

from __future__ import annotations

import copy
import warnings
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from sknoprop._images import LazyRows
from sknoprop._parameters import DTYPES, check_embedding_array, resolve
from sknoprop._schedules import check_schedule
from sknoprop.embeddings import (
    ClassEmbedding,
    fixed_embedding,
    learned_embedding,
    one_hot_embedding,
    prototype_embedding,
)
from sknoprop.model import NoPropModel
from sknoprop.networks import (
    HEADS,
    PATHS,
    CustomPath,
    Encoder,
    FrozenEncoding,
    ImageEncoding,
    NumberEncoding,
    is_frozen,
)
from sknoprop.networks.convolutions import MIN_SIDE
from sknoprop.networks.resolution import suited_encoding
from sknoprop.networks.stacked import Generators
from sknoprop.parameterizations import PARAMETERIZATIONS
from sknoprop.partition import Partition
from sknoprop.readouts import READOUTS
from sknoprop.schedules import SCHEDULES, Schedule
from sknoprop.training.seeds import Seeds
from sknoprop.variants import VARIANTS, Variant

__all__ = ["Encoding", "assemble_model", "build_model"]

#: What inputs are turned into once for all blocks.
Encoding = NumberEncoding | ImageEncoding | FrozenEncoding

#: Rows that prototypes are looked for among, at most; fewer of large images, for their numbers.
MAX_PROTOTYPES, MAX_NUMBERS = 2**16, 2**28

#: By how much the mean of embeddings may be longer than they are apart.
FAR = 5.0


def build_model(
    params: dict[str, Any],
    X: np.ndarray | LazyRows,
    y: np.ndarray,
    seeds: Seeds,
    n_classes: int,
    sample_weight: np.ndarray | None = None,
) -> NoPropModel:
    """Make a model for training data: measure what it takes from them, then assemble.

    Parameters
    ----------
    params : dict
        Parameters of `NoPropClassifier`, checked and filled in, see `sknoprop.defaults`.
    X : ndarray or LazyRows of shape (n_samples, n_features)
        Images too have a row each, of the shape ``params["image_shape"]``.
    y : ndarray of shape (n_samples,)
        Labels 0 to ``n_classes - 1``.
    seeds : Seeds
    n_classes : int
    sample_weight : ndarray of shape (n_samples,), optional
        Positive, of mean one; they count for the classes' frequencies. The encoding of inputs is a
        system of coordinates and takes each row and label once.

    Returns
    -------
    NoPropModel
        On the CPU, in the dtype asked for.
    """
    counts = np.bincount(y, sample_weight, n_classes)
    # A class yet to be seen is not impossible: it counts as half a row.
    counts = np.where(counts > 0, counts, 0.5)
    prior = torch.tensor(counts / counts.sum(), dtype=torch.float64)
    variant = VARIANTS[params["variant"]]()
    schedule = params["schedule"] if params["schedule"] != "auto" else variant.schedule
    # An instance of the user's is copied: training may move it, and fit leaves parameters alone.
    schedule = copy.deepcopy(resolve(schedule, SCHEDULES)).cpu()
    check_schedule(schedule, DTYPES[params["dtype"]])
    encoding = _encoding(params, X, y)
    embedding = _embedding(params, encoding, X, y, n_classes, seeds)
    n_blocks, horizon = params["n_blocks"], variant.horizon(schedule)
    if _cut(params, variant, schedule) == "uniform":
        partition = Partition.uniform(n_blocks, horizon)
    else:
        weight = embedding.weight.detach()
        partition = Partition.by_information(n_blocks, schedule, weight, prior, horizon)
    generators = seeds.block_generators("init", params["n_blocks"])
    example = torch.as_tensor(np.array(X[np.arange(2) % len(X)]))
    return assemble_model(
        params, schedule, encoding, embedding, prior, partition, generators, example=example
    )


def _cut(params: dict[str, Any], variant: Variant, schedule: Schedule) -> str:
    """How time is cut into blocks: the variant's way, where it fits embedding and schedule."""
    if params["partition"] != "auto":
        return str(params["partition"])
    if schedule.trainable:  # information would be that before training
        return "uniform"
    unit_rows = isinstance(params["embedding"], str) and params["embedding"] != "prototype"
    return variant.partition if unit_rows else "information"


def _encoding(params: dict[str, Any], X: np.ndarray | LazyRows, y: np.ndarray) -> Encoding:
    shape = params["image_shape"]
    if is_frozen(params["encoder"]):
        return FrozenEncoding(params["encoder"], shape, X)
    if shape is not None:
        return ImageEncoding.measured(shape, X)
    n_bins = params["n_bins"]
    return suited_encoding(np.asarray(X), y, None if n_bins == "auto" else n_bins)


def assemble_model(
    params: dict[str, Any],
    schedule: Schedule,
    encoding: Encoding,
    embedding: ClassEmbedding,
    prior: Tensor,
    partition: Partition,
    generators: Generators,
    device: str = "cpu",
    example: Tensor | None = None,
) -> NoPropModel:
    """Assemble an untrained model from its parts; needs no data.

    Parameters
    ----------
    params : dict
        Of the parameters of `NoPropClassifier`, "variant", "parameterization", "readout", "head",
        "embedding", "encoder", "hidden_layer_sizes", "dropout", "batch_norm", "loss_weight" and
        "dtype".
    schedule : Schedule
    encoding : NumberEncoding, ImageEncoding or FrozenEncoding
    embedding : ClassEmbedding
    prior : Tensor of shape (n_classes,)
        Class frequencies.
    partition : Partition
    generators : sequence of torch.Generator
        One a block, for the initial values.
    device : {"cpu", "meta"}, default="cpu"
        Where the encoder's layers and the head are made. On "meta" they have shapes and no
        memory: for values that are loaded.
    example : Tensor of shape (2, n_features), optional
        Rows that an encoder of the user's is tried on.

    Returns
    -------
    NoPropModel
        In the dtype asked for.
    """
    variant = VARIANTS[params["variant"]]()
    schedule.requires_grad_(schedule.trainable)
    signal, noise = variant.readout_level(schedule, embedding.trainable)
    readout = READOUTS[params["readout"]](embedding.weight.detach(), prior, signal, noise)
    dropout = float(params["dropout"])
    normalize = bool(params["batch_norm"])
    with torch.device(device):
        path = _path(params["encoder"], encoding, generators, example)
        sizes = params["hidden_layer_sizes"]
        head_type = HEADS[params["head"]]
        encoder = Encoder(
            *(encoding, sizes, generators, dropout, normalize, path),
            gain=head_type.gain,
            many_inputs=None if _plain_steps(params) else head_type.many_inputs,
        )
        latent_path = {}
        # The paper's way with noised images, where they are large enough for a path.
        if (
            params["head"] == "paper"
            and isinstance(params["embedding"], str)
            and params["embedding"] == "prototype"
            and isinstance(encoding, ImageEncoding)
            and min(encoding.shape[1:]) >= MIN_SIDE
        ):
            latent_path["latent_path"] = PATHS["cnn"](encoding.shape, generators)
        head = head_type(
            encoder.n_out,
            embedding.dim,
            embedding.n_classes,
            generators,
            dropout=dropout,
            timed=not variant.single_level,
            normalize=normalize,
            **latent_path,
        )
    model = NoPropModel(
        encoder=encoder,
        head=head,
        embedding=embedding,
        readout=readout,
        schedule=schedule,
        partition=partition,
        variant=variant,
        parameterization=PARAMETERIZATIONS[params["parameterization"]](),
        loss_weight=float(params["loss_weight"]),
    )
    _cast(model, DTYPES[params["dtype"]])
    return model


def _plain_steps(params: dict[str, Any]) -> bool:
    """Whether steps are as large as gradients are: smaller inputs then have far smaller ones."""
    optimizer = params.get("optimizer", "adamw")
    return optimizer == "sgd" or (
        isinstance(optimizer, type) and issubclass(optimizer, torch.optim.SGD)
    )


def _path(
    encoder: Any, encoding: Encoding, generators: Generators, example: Tensor | None
) -> torch.nn.Module | None:
    if isinstance(encoding, FrozenEncoding) or encoder == "mlp":
        return None
    if isinstance(encoder, str):
        return PATHS[encoder](cast(ImageEncoding, encoding).shape, generators)
    inputs = encoding(cast(Tensor, example))
    if isinstance(encoding, ImageEncoding):
        inputs = encoding.normalize(inputs, torch.float32)
    return CustomPath(encoder, generators, inputs)


def _embedding(
    params: dict[str, Any],
    encoding: Encoding,
    X: np.ndarray | LazyRows,
    y: np.ndarray,
    n_classes: int,
    seeds: Seeds,
) -> ClassEmbedding:
    choice = params["embedding"]
    if not isinstance(choice, str):
        array = check_embedding_array(choice, n_classes, DTYPES[params["dtype"]])
        _warn_of_rows(np.asarray(choice, dtype=np.float64))
        return fixed_embedding(torch.tensor(array))
    if choice == "one-hot":
        return one_hot_embedding(n_classes)
    if choice == "learned":
        return learned_embedding(n_classes, params["embedding_dim"], seeds.generator("shared"))
    if len(np.unique(y)) < n_classes:
        raise ValueError(
            "embedding='prototype' takes an example of each class from the first training data. "
            f"Got rows of {len(np.unique(y))} of {n_classes} classes."
        )
    some = np.arange(len(X))
    most = min(MAX_PROTOTYPES, max(MAX_NUMBERS // encoding.n_out, 1))
    if len(X) > most:  # evenly spaced ones, and one of each class
        some = np.linspace(0, len(X) - 1, most).astype(int)
        some = np.union1d(some, np.unique(y, return_index=True)[1])
    standard: Tensor | None = None
    size = max(2**22 // X.shape[1], 1)
    for start in range(0, len(some), size):
        part = encoding.standardize(torch.as_tensor(np.array(X[some[start : start + size]])))
        if standard is None:
            standard = torch.empty(len(some), part.shape[1], dtype=torch.float32)
        standard[start : start + size] = part
    embedding = prototype_embedding(cast(Tensor, standard), torch.as_tensor(y[some]), n_classes)
    if len(embedding.weight.detach().unique(dim=0)) < n_classes:
        raise ValueError(
            "embedding='prototype' starts with an example of each class, and nothing tells classes "
            "with equal ones apart. Got equal examples of some classes; use embedding='learned'."
        )
    return embedding


def _warn_of_rows(rows: np.ndarray) -> None:
    """Of an embedding that blocks can learn, but class probabilities not be read off."""
    name = "The 'embedding' parameter of NoPropClassifier"
    rows = rows / max(np.abs(rows).max(), np.finfo(rows.dtype).tiny)  # of any size, squares fit
    least, centre = len(rows) - 1, rows.mean(0)
    rank = np.linalg.matrix_rank(rows - centre)
    if rank < least:  # the mean of the rows, which blocks learn, may be that of several mixtures
        warnings.warn(
            f"{name} has {len(rows)} rows that span {rank} dimension(s) about their mean. Class "
            f"probabilities are determined by {least} only: with fewer, doubt between some classes "
            "looks like another class.",
            UserWarning,
            stacklevel=2,
        )
    spread, size = np.linalg.norm(rows - centre, axis=1).max(), np.linalg.norm(centre)
    if size > FAR * spread:
        warnings.warn(
            f"{name} has rows that are {size / spread:.3g} times as far from zero as from their "
            "mean, which tells no class from another and disturbs blocks. Subtract it.",
            UserWarning,
            stacklevel=2,
        )


def _cast(model: NoPropModel, dtype: torch.dtype) -> None:
    """Cast everything but the statistics of the input, which stay in float64."""

    def cast(tensor: Tensor) -> Tensor:
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    for module in model.modules():
        if isinstance(module, NumberEncoding | ImageEncoding):
            continue
        for parameter in module.parameters(recurse=False):
            parameter.data = cast(parameter.data)
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, cast(buffer))
    # Rounded anew, so that the times of a trajectory meet the edges to the last digit.
    partition = model.partition
    numbers = torch.arange(model.n_blocks + 1, dtype=torch.float32)
    partition.edges = partition.time_at(numbers / model.n_blocks)
