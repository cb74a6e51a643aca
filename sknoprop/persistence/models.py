"""A model as a design and tensors, and back without data."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor

from sknoprop._parameters import check_constraints
from sknoprop.building import assemble_model
from sknoprop.embeddings import ClassEmbedding
from sknoprop.model import NoPropModel
from sknoprop.networks import HEADS, PATHS, ConvPath, Encoder, ImageEncoding, NumberEncoding
from sknoprop.networks.stacked import Generators, StackedBatchNorm
from sknoprop.parameterizations import PARAMETERIZATIONS
from sknoprop.partition import Partition
from sknoprop.persistence.files import ModelFileError
from sknoprop.persistence.values import decode_schedule, encode_schedule, name_of
from sknoprop.readouts import READOUTS
from sknoprop.schedules import Schedule
from sknoprop.variants import VARIANTS

__all__ = ["check_values", "describe_model", "pickled_model", "rebuild_model", "unpickled_model"]

#: What a design says in the words of the constructor's parameters.
DESIGN = (
    *("variant", "parameterization", "readout", "head", "encoder", "image_shape"),
    *("dropout", "batch_norm", "loss_weight", "dtype"),
)

#: Channels, height or width of an image, at most: a bound on what a file may ask for.
MAX_SIDE = 2**14


def describe_model(model: NoPropModel) -> dict[str, Any] | None:
    """What a model was assembled from, in JSON types; sizes are those of its state.

    Returns
    -------
    dict or None
        The `DESIGN` parameters, "schedule", "trains_embedding" and "n_split"; None if a part is
        not one of the package's own.
    """
    schedule = encode_schedule(model.schedule)
    encoding, path = model.encoder.encoding, model.encoder.path
    encoder = "mlp" if path is None else path.name if type(path) is ConvPath else None
    design = {
        "variant": name_of(VARIANTS, type(model.variant)),
        "parameterization": name_of(PARAMETERIZATIONS, type(model.parameterization)),
        "readout": name_of(READOUTS, type(model.readout)),
        "head": name_of(HEADS, type(model.head)),
        "encoder": encoder,
        "image_shape": list(encoding.shape) if isinstance(encoding, ImageEncoding) else None,
        "dropout": model.encoder.dropout.p,
        "batch_norm": isinstance(model.encoder.norms[0], StackedBatchNorm),
        "loss_weight": model.loss_weight,
        "dtype": str(model.embedding.weight.dtype).removeprefix("torch."),
        "schedule": schedule,
        "trains_embedding": model.embedding.trainable,
        "n_split": model.partition.n_split,
    }
    own = type(model.encoder) is Encoder and type(encoding) in (NumberEncoding, ImageEncoding)
    known = all(value is not None for name, value in design.items() if name != "image_shape")
    return design if own and known else None


def rebuild_model(design: Any, tensors: dict[str, Tensor]) -> NoPropModel:
    """The model of a design and a state, ready for prediction.

    Sizes are read off the tensors and everything else is made in their measure, so that it
    takes no more memory than they do.

    Parameters
    ----------
    design : dict
        Of `describe_model`; anything else is refused.
    tensors : dict of Tensor
        The model's state, on the CPU; the model takes hold of them.

    Returns
    -------
    NoPropModel

    Raises
    ------
    ModelFileError
        Saying what does not fit.
    """
    params, schedule = _read_design(design, tensors)
    state = _Sizes(tensors)
    weight = state.take("embedding.weight", 2)
    # Files and pickles were without it once.
    tensors.setdefault("temperature", torch.ones((), dtype=weight.dtype))
    tensors.setdefault("encoder.input_scale", torch.ones((), dtype=weight.dtype))
    edges = state.take("partition.edges", 1, at_least=2)
    n_split = design["n_split"]
    if type(n_split) is not int or n_split < 1 or (len(edges) - 1) % n_split:
        raise ModelFileError(
            f"'n_split' in its design must divide the {len(edges) - 1} blocks. Got {n_split!r}."
        )
    times = state.take("partition.times", 1, at_least=2)
    shape = params["image_shape"]
    encoding = (
        NumberEncoding.from_statistics(state.statistics())
        if shape is None
        else ImageEncoding(shape, *state.moments(shape[0]))
    )
    by_path = any(name.startswith("head.latent_path.") for name in tensors)
    params["embedding"] = "prototype" if by_path else "one-hot"
    params["hidden_layer_sizes"] = state.widths()
    try:
        model = assemble_model(
            params,
            schedule,
            encoding,
            ClassEmbedding(weight, design["trains_embedding"]),
            torch.ones(len(weight), dtype=torch.float64) / len(weight),
            Partition(len(edges) - 1, times, n_split),
            # On "meta" nothing is drawn: of the generators only the number counts.
            cast(Generators, range(len(edges) - 1)),
            device="meta",
        )
    except (ArithmeticError, LookupError, RuntimeError, ValueError) as error:
        raise ModelFileError(f"no model can be made of its design: {error}") from error
    expected = model.state_dict()
    for what, names in (
        ("lacks", expected.keys() - tensors.keys()),
        ("has no place for", tensors.keys() - expected.keys()),
    ):
        if names:
            raise ModelFileError(f"the model of its design {what} the tensors {sorted(names)}.")
    for name, tensor in tensors.items():
        place = expected[name]
        if (tensor.shape, tensor.dtype) != (place.shape, place.dtype):
            raise ModelFileError(
                f"tensor {name!r} must be of shape {tuple(place.shape)} and {place.dtype}. Got "
                f"{tuple(tensor.shape)} and {tensor.dtype}."
            )
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(False)


def pickled_model(model: NoPropModel) -> NoPropModel | dict[str, Any]:
    """What pickles hold of a model: nothing of torch's where it can be, else nothing of a GPU.

    Parameters
    ----------
    model : NoPropModel
        The `blocks_` of a classifier, on any device.

    Returns
    -------
    dict or NoPropModel
        "design" and "tensors", a dict of ndarrays; or the model itself if a part of it is not
        one of the package's own.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknoprop import NoPropClassifier
    >>> from sknoprop.persistence import pickled_model
    >>> clf = NoPropClassifier(n_blocks=2, max_iter=2).fit(*load_iris(return_X_y=True))
    >>> pickled = pickled_model(clf.blocks_)
    >>> pickled["design"]["variant"], pickled["tensors"]["embedding.weight"].shape
    ('dt', (3, 3))
    """
    design = describe_model(model)
    if design is None:
        on_cpu = model.embedding.weight.device.type == "cpu"
        return model if on_cpu else copy.deepcopy(model).cpu()
    tensors = {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}
    return {"design": design, "tensors": tensors}


def unpickled_model(pickled: NoPropModel | dict[str, Any]) -> NoPropModel:
    """The model that a pickle held, on the CPU.

    Parameters
    ----------
    pickled : dict or NoPropModel
        From `pickled_model`.

    Returns
    -------
    NoPropModel

    Raises
    ------
    ModelFileError
        If the tensors do not fit the design.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknoprop import NoPropClassifier
    >>> from sknoprop.persistence import pickled_model, unpickled_model
    >>> clf = NoPropClassifier(n_blocks=2, max_iter=2).fit(*load_iris(return_X_y=True))
    >>> unpickled_model(pickled_model(clf.blocks_)).n_blocks
    2
    """
    if isinstance(pickled, NoPropModel):
        return pickled
    # Copies: joblib may have mapped the arrays from a file, read-only.
    tensors = {name: torch.tensor(array) for name, array in pickled["tensors"].items()}
    return rebuild_model(pickled["design"], tensors)


def check_values(tensors: dict[str, Tensor]) -> None:
    """Refuse a model's state whose numbers cannot be those of a trained model.

    Raises
    ------
    ModelFileError
    """
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ModelFileError(f"tensor {name!r} holds NaN or infinity.")
        positive = (".scale", ".width", ".sigma", ".input_scale", "temperature")
        if name.endswith(positive) and not (tensor > 0).all():
            raise ModelFileError(f"tensor {name!r} holds a number that is not positive.")
        if name.endswith(".running_var") and not (tensor >= 0).all():
            raise ModelFileError(f"tensor {name!r} holds a negative variance.")
        if name.startswith("partition."):
            rises = tensor.diff() > 0 if name.endswith("edges") else tensor.diff() >= 0
            if not (rises.all() and tensor[0] == 0 and tensor[-1] <= 1 + 1e-6):
                raise ModelFileError(f"tensor {name!r} holds no ascending times from 0 to 1.")


def _read_design(design: Any, tensors: dict[str, Tensor]) -> tuple[dict[str, Any], Schedule]:
    if isinstance(design, dict):  # as files were before there were images
        design = {"encoder": "mlp", "image_shape": None} | design
    names = {*DESIGN, "schedule", "trains_embedding", "n_split"}
    if not isinstance(design, dict) or set(design) != names:
        raise ModelFileError(f"its design must be an object of {sorted(names)}.")
    params = {name: design[name] for name in DESIGN}
    check_constraints(params)
    shape = params["image_shape"]
    if shape is not None and not (
        isinstance(shape, list)
        and len(shape) == 3
        and all(type(size) is int and 0 < size <= MAX_SIDE for size in shape)
    ):
        raise ModelFileError(
            f"'image_shape' in its design must be three ints up to {MAX_SIDE}. Got {shape!r}."
        )
    if params["encoder"] not in (["mlp"] if shape is None else ["mlp", *PATHS]):
        raise ModelFileError(
            f"'encoder' in its design must be 'mlp', or one of {sorted(PATHS)} with an "
            f"'image_shape'. Got {params['encoder']!r}."
        )
    if not isinstance(design["trains_embedding"], bool):
        raise ModelFileError("'trains_embedding' in its design must be true or false.")
    hidden = tensors.get("schedule.in_")
    arguments = {} if hidden is None else {"n_hidden": hidden.numel()}
    return params, decode_schedule(design["schedule"], **arguments)


class _Sizes:
    """Tensors by name, with the number of axes that sizes are read off."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    def take(self, name: str, n_axes: int, at_least: int = 1) -> Tensor:
        tensor = self.tensors.get(name)
        if tensor is None:
            raise ModelFileError(f"there is no tensor {name!r}.")
        if tensor.dim() != n_axes or min(tensor.shape) < at_least:
            raise ModelFileError(
                f"tensor {name!r} must have {n_axes} axes, each of length {at_least} or more. Got "
                f"shape {tuple(tensor.shape)}."
            )
        return tensor

    def statistics(self) -> dict[str, Tensor]:
        """Buffers of the encoding of numbers."""
        prefix = "encoder.encoding."
        mean = self.take(f"{prefix}mean", 1)
        column = self.take(f"{prefix}column", 1, at_least=0)
        sizes = dict.fromkeys(("mean", "scale"), len(mean))
        sizes |= dict.fromkeys(("left", "width", "low", "high", "column"), len(column))
        statistics = {name: self.take(prefix + name, 1, at_least=0) for name in sizes}
        for name, tensor in statistics.items():
            dtype = torch.int64 if name == "column" else torch.float64
            if (len(tensor), tensor.dtype) != (sizes[name], dtype):
                raise ModelFileError(
                    f"tensor {prefix + name!r} must be of length {sizes[name]} and {dtype}. Got "
                    f"{len(tensor)} and {tensor.dtype}."
                )
        if len(column) and not 0 <= column.min() <= column.max() < len(mean):
            raise ModelFileError(f"tensor '{prefix}column' points to features that are not there.")
        return statistics

    def moments(self, n_channels: int) -> tuple[Tensor, Tensor]:
        """Buffers of the encoding of images."""
        names = ("encoder.encoding.mean", "encoder.encoding.scale")
        mean, scale = (self.take(name, 1) for name in names)
        for name, tensor in zip(names, (mean, scale), strict=True):
            if (len(tensor), tensor.dtype) != (n_channels, torch.float64):
                raise ModelFileError(
                    f"tensor {name!r} must be of length {n_channels} and torch.float64. Got "
                    f"{len(tensor)} and {tensor.dtype}."
                )
        return mean, scale

    def widths(self) -> tuple[int, ...]:
        """Widths of the encoder's layers."""
        names = [f"encoder.layers.{i}.weight" for i in range(len(self.tensors))]
        layers = [name for name in names if name in self.tensors] or names[:1]
        return tuple(self.take(name, 3).shape[2] for name in layers)
