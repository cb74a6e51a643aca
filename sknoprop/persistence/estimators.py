"""The estimator in a file of the safe format, and back."""

from __future__ import annotations

import os
import warnings
from typing import Any, TypeVar, cast

import numpy as np
import sklearn
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sknoprop._parameters import (
    MODEL_PARAMETERS,
    built_with,
    changed_since,
    check_constraints,
    check_parameters,
    parameters_of,
    resolve_device,
)
from sknoprop._version import __version__
from sknoprop.networks import ImageEncoding, NumberEncoding
from sknoprop.persistence.files import FORMAT, ModelFileError, read_file, write_file
from sknoprop.persistence.models import check_values, describe_model, rebuild_model
from sknoprop.persistence.trainings import (
    CURVES,
    OPTIMIZER,
    decode_history,
    decode_optimizer,
    encode_history,
    encode_optimizer,
)
from sknoprop.persistence.values import (
    decode_classes,
    decode_parameter,
    encode_classes,
    encode_parameter,
)
from sknoprop.training import Trained

__all__ = ["load_classifier", "save_classifier", "warn_of_version"]

#: What a document holds, see `sknoprop.persistence`.
KEYS = {
    *("format", "versions", "parameters", "design"),
    *("classes", "feature_names", "seed", "changed", "left_out", "fixed"),
}

#: Prefix of the names of the model's tensors.
MODEL = "model."

Estimator = TypeVar("Estimator", bound=BaseEstimator)


def save_classifier(estimator: Any, path: str | os.PathLike[str], optimizer: bool) -> None:
    """Write a fitted classifier; see `NoPropClassifier.save`.

    Parameters
    ----------
    estimator : NoPropClassifier
        Fitted.
    path : str or path-like
        The file; an older one is replaced in one step.
    optimizer : bool
        Whether to keep the optimiser's state.

    Raises
    ------
    ModelFileError
        If the format cannot hold it. Nothing is written then.
    sklearn.exceptions.NotFittedError
        Before `fit`.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn.datasets import load_iris
    >>> from sknoprop import NoPropClassifier
    >>> from sknoprop.persistence import save_classifier
    >>> clf = NoPropClassifier(n_blocks=2, max_iter=2).fit(*load_iris(return_X_y=True))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_classifier(clf, os.path.join(folder, "iris.safetensors"), optimizer=True)
    ...     os.listdir(folder)
    ['iris.safetensors']
    """
    check_is_fitted(estimator)
    try:
        document, tensors = _encode(estimator)
        if optimizer:
            tensors |= encode_optimizer(estimator._trained)
        # Nothing is written that could not be loaded.
        _decode(type(estimator), document, dict(tensors))
    except (TypeError, ValueError) as error:
        raise ModelFileError(
            f"This {type(estimator).__name__} cannot be saved in the safe format: {error}"
        ) from error
    write_file(path, document, tensors)


def load_classifier(
    cls: type[Estimator], path: str | os.PathLike[str], device: str | torch.device | None
) -> Estimator:
    """Read a classifier; see `NoPropClassifier.load`.

    Parameters
    ----------
    cls : type
        `NoPropClassifier`, or a class derived from it.
    path : str or path-like
        The file.
    device : str, torch.device or None
        Where it predicts. None is the CPU.

    Returns
    -------
    NoPropClassifier
        An instance of `cls`.

    Raises
    ------
    ModelFileError
        If the file is damaged, is none of `save_classifier`, or is of a newer format.
    ValueError
        If torch cannot use the device here.
    OSError
        If the file cannot be read.

    Warns
    -----
    sklearn.exceptions.InconsistentVersionWarning
        If another version of sknoprop wrote the file.

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn.datasets import load_iris
    >>> from sknoprop import NoPropClassifier
    >>> from sknoprop.persistence import load_classifier, save_classifier
    >>> clf = NoPropClassifier(n_blocks=2, max_iter=2).fit(*load_iris(return_X_y=True))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "iris.safetensors")
    ...     save_classifier(clf, path, optimizer=False)
    ...     load_classifier(NoPropClassifier, path, device=None).blocks_.n_blocks
    2
    """
    place = resolve_device("cpu" if device is None else device)
    try:
        document, tensors = read_file(path)
        estimator = _decode(cls, document, tensors)
    except (RecursionError, TypeError, ValueError) as error:
        raise ModelFileError(f"{os.fspath(path)!r} cannot be loaded: {error}") from error
    estimator.blocks_.to(place)
    warn_of_version(cls.__name__, document["versions"]["sknoprop"], stacklevel=4)
    return estimator


def warn_of_version(name: str, version: str, stacklevel: int = 3) -> None:
    """Warn of an estimator that another version of sknoprop wrote.

    Parameters
    ----------
    name : str
        The estimator's class.
    version : str
        What wrote it.
    stacklevel : int, default=3
        Whose line the warning shows; 3 is the caller of this function's caller.

    Warns
    -----
    sklearn.exceptions.InconsistentVersionWarning
        If the version is not this one.

    Examples
    --------
    >>> import warnings
    >>> from sknoprop.persistence import warn_of_version
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_of_version("NoPropClassifier", "0.0.0")
    >>> [warning.category.__name__ for warning in caught]
    ['InconsistentVersionWarning']
    """
    if version != __version__:
        warnings.warn(
            InconsistentVersionWarning(
                estimator_name=f"sknoprop.{name}",
                current_sklearn_version=__version__,
                original_sklearn_version=version,
            ),
            stacklevel=stacklevel,
        )


def _encode(estimator: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    model = estimator.blocks_
    tensors = {MODEL + name: tensor.cpu() for name, tensor in model.state_dict().items()}
    tensors |= encode_history(estimator.history_, model.n_blocks)
    parameters = {}
    for name, value in estimator.get_params(deep=False).items():
        if name == "embedding" and not isinstance(value, str):
            array = np.array(value, dtype=np.float64)
            tensors["parameters.embedding"] = torch.from_numpy(array)
        else:
            parameters[name] = encode_parameter(name, value)
    design = describe_model(model)
    if design is None:
        raise ModelFileError(
            "its model has a part that is not the package's own, as a schedule; use pickle or "
            "joblib to keep it."
        )
    names = getattr(estimator, "feature_names_in_", None)
    document = {
        "format": FORMAT,
        "versions": {
            "sknoprop": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "parameters": parameters,
        "design": design,
        "classes": encode_classes(estimator.classes_),
        "feature_names": None if names is None else [str(name) for name in names],
        "seed": int(estimator._seed),
        "changed": changed_since(estimator._built_with, parameters_of(estimator)),
        "left_out": estimator._trained.left_out,
        "fixed": _fixed(estimator),
    }
    return document, tensors


def _decode(
    cls: type[Estimator], document: dict[str, Any], tensors: dict[str, Tensor]
) -> Estimator:
    document |= {"left_out": None, "fixed": {}} | document  # which came later
    if set(document) != KEYS:
        raise ModelFileError(f"its document must be an object of {sorted(KEYS)}.")
    versions = document["versions"]
    if not isinstance(versions, dict) or not isinstance(versions.get("sknoprop"), str):
        raise ModelFileError("its document does not tell the version of sknoprop.")
    curves = {name: tensors.pop(name, None) for name in CURVES}
    moments = {name: tensors.pop(name) for name in list(tensors) if name.startswith(OPTIMIZER)}
    if not isinstance(document["fixed"], dict):
        raise ModelFileError("its 'fixed' must be an object.")
    estimator = cls(**_decode_parameters(cls, document, tensors))
    parameters = parameters_of(estimator)
    check_constraints(parameters)
    check_parameters(parameters)
    for name, value in document["fixed"].items():
        here: Any = parameters.get(name)
        if np.ndim(here) < 2 and encode_parameter(name, here) != value:
            raise ModelFileError(
                f"its class has {name}={value!r}, and {cls.__name__} has {here!r}. Load it by the "
                "class that it was saved by."
            )
    if not isinstance(parameters["encoder"], str) or parameters["augmentation"] is not None:
        raise ModelFileError("the parameters 'encoder' and 'augmentation' cannot be objects here.")
    strange = [name for name in tensors if not name.startswith(MODEL)]
    if strange:
        raise ModelFileError(f"nobody knows what the tensors {strange} are.")
    state = {name.removeprefix(MODEL): tensor for name, tensor in tensors.items()}
    model = rebuild_model(document["design"], state)
    check_values(state)
    classes = decode_classes(document["classes"])
    if len(classes) != model.embedding.n_classes or len(classes) < 2:
        raise ModelFileError(
            f"it has {len(classes)} classes and {model.embedding.n_classes} class embeddings; "
            "there must be as many of the one as of the other, and at least two."
        )
    encoding = cast(NumberEncoding | ImageEncoding, model.encoder.encoding)
    n_features = encoding.n_in
    names = document["feature_names"]
    if names is not None:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ModelFileError("its feature names must be a list of strings, or null.")
        if len(names) != n_features:
            raise ModelFileError(f"it has {len(names)} names for {n_features} features.")
        estimator.feature_names_in_ = np.array(names, dtype=object)
    estimator.classes_ = classes
    estimator.n_features_in_ = n_features
    estimator.image_shape_ = encoding.shape if isinstance(encoding, ImageEncoding) else None
    estimator.blocks_ = model
    estimator.embedding_ = model.embedding.weight.numpy().copy()
    estimator.temperature_ = float(model.temperature)
    history = decode_history(curves, model.n_blocks)
    left_out = document["left_out"]
    is_digest = isinstance(left_out, str) and len(left_out) == 64
    if left_out is not None and not (is_digest and set(left_out) <= set("0123456789abcdef")):
        raise ModelFileError("its 'left_out' must be a digest of 64 hexadecimal digits, or null.")
    optimizer = decode_optimizer(moments, model)
    # Who had the optimiser saved wants to go on, also by way of a pickle of what is loaded.
    trained = Trained(history, optimizer, left_out=left_out, goes_on=bool(optimizer))
    estimator._keep_training(trained)
    estimator._seed = _integer(document, "seed", 0)
    # Where a parameter was set to another value after fit, training cannot go on.
    changed = document["changed"]
    if not isinstance(changed, list) or not set(map(str, changed)) <= set(MODEL_PARAMETERS):
        raise ModelFileError("its 'changed' must list parameters that shape a model.")
    estimator._built_with = built_with(parameters) | dict.fromkeys(changed, "another value")
    return estimator


def _fixed(estimator: Any) -> dict[str, Any]:
    """What the constructor of a class derived does not take, but for a matrix."""
    own = estimator.get_params(deep=False)
    others = {k: v for k, v in parameters_of(estimator).items() if k not in own}
    return {k: encode_parameter(k, v) for k, v in others.items() if np.ndim(v) < 2}


def _decode_parameters(
    cls: type[BaseEstimator],
    document: dict[str, Any],
    tensors: dict[str, Tensor],
) -> dict[str, Any]:
    parameters = document["parameters"]
    if not isinstance(parameters, dict):
        raise ModelFileError("its parameters must be an object.")
    decoded = {name: decode_parameter(value) for name, value in parameters.items()}
    embedding = tensors.pop("parameters.embedding", None)
    if not isinstance(decoded.get("embedding", ""), str):
        raise ModelFileError("the parameter 'embedding' must be a name here; a matrix is a tensor.")
    if embedding is not None:
        if embedding.dim() != 2 or not embedding.isfinite().all():
            raise ModelFileError("the parameter 'embedding' must be a matrix of finite numbers.")
        decoded["embedding"] = embedding.numpy()
    # One that the file does not have came later; its default is what was done before, but for one.
    known = cls().get_params(deep=False).keys()
    if "calibrate" in known and "calibrate" not in document["fixed"]:
        decoded.setdefault("calibrate", False)
    unknown = decoded.keys() - known
    if unknown:
        raise ModelFileError(
            f"{cls.__name__} of sknoprop {__version__} has no parameters {sorted(unknown)}; the "
            f"file was written by sknoprop {document['versions']['sknoprop']}."
        )
    return decoded


def _integer(document: dict[str, Any], name: str, at_least: int) -> int:
    value = document[name]
    if type(value) is not int or not at_least <= value < 2**63:
        raise ModelFileError(f"its {name} must be an int from {at_least} on. Got {value!r}.")
    return value
