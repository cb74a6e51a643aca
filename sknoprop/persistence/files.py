"""The container: one safetensors file with a JSON document in its header."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
import stat
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

__all__ = ["FORMAT", "ModelFileError", "read_file", "replace_file", "write_file"]

#: Version of the format. It rises when an older sknoprop could not read a file rightly.
FORMAT = 2

#: Key of the document in the file's metadata.
KEY = "sknoprop"

#: What tensors may hold: float32, float64 and int64, by safetensors' names.
DTYPES = ("F32", "F64", "I64")


class ModelFileError(ValueError):
    """A classifier cannot be saved in the safe format, or a file is not one that can be loaded.

    Examples
    --------
    >>> import os, tempfile
    >>> from sknoprop import NoPropClassifier
    >>> from sknoprop.persistence import ModelFileError
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "empty.safetensors")
    ...     open(path, "w").close()
    ...     try:
    ...         NoPropClassifier.load(path)
    ...     except ModelFileError:
    ...         print("that is no classifier")
    that is no classifier
    """


def write_file(
    path: str | os.PathLike[str], document: dict[str, Any], tensors: dict[str, Tensor]
) -> None:
    """Write a file in one piece: it is whole, or what was there before is as it was.

    Parameters
    ----------
    path : path-like
    document : dict
        Of JSON types.
    tensors : dict of Tensor
        On any device.
    """
    # ASCII, and no NaN, which is not JSON.
    text = json.dumps(document, allow_nan=False)
    content = save({k: v.cpu().contiguous() for k, v in tensors.items()}, {KEY: text})
    replace_file(path, content)


def replace_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file in one step: it is whole, or what was there before is as it was."""
    # What a link points to, not the link, is replaced.
    target = Path(os.path.realpath(os.fsdecode(path)))
    if not os.fspath(path) or (target.exists() and not target.is_file()):
        raise OSError(f"{os.fspath(path)!r} is no file that could be written or replaced.")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, "There is no such folder to write a file in", os.fspath(path)
        )
    temporary = target.with_name(f".sknoprop-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def read_file(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a file of `write_file`; memory grows with the file's size alone.

    Returns
    -------
    document : dict
        A JSON object of this `FORMAT`; nothing else about it is checked.
    tensors : dict of Tensor
        On the CPU. None with two axes or more is empty.

    Raises
    ------
    ModelFileError
        If it is damaged, is no such file, or is of a newer format.
    OSError
        If it cannot be read.
    """
    if os.path.isdir(path):  # which safetensors has another word for
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    try:
        with safe_open(os.fsdecode(path), framework="pt", device="cpu") as file:
            document = _parse(file.metadata())
            tensors = {}
            for name in file.keys():  # noqa: SIM118  (the file is no mapping)
                dtype, shape = file.get_slice(name).get_dtype(), file.get_slice(name).get_shape()
                if dtype not in DTYPES:
                    raise ModelFileError(
                        f"tensor {name!r} is of type {dtype}; allowed are {', '.join(DTYPES)}."
                    )
                if len(shape) > 1 and 0 in shape:
                    # It takes no bytes of the file, whatever its other sizes pretend.
                    raise ModelFileError(f"tensor {name!r} of shape {tuple(shape)} is empty.")
                # A copy: what is read is a map of the file, which may be changed or cut.
                tensors[name] = file.get_tensor(name).clone()
    except SafetensorError as error:
        raise ModelFileError(f"it is damaged or no safetensors file ({error}).") from error
    return document, tensors


def _parse(metadata: dict[str, str] | None) -> dict[str, Any]:
    text = (metadata or {}).get(KEY)
    if text is None:
        raise ModelFileError(f"its metadata have no {KEY!r}: it is no file of sknoprop's.")
    try:
        document = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"its document is no proper JSON ({error}).") from error
    if not isinstance(document, dict):
        raise ModelFileError("its document is no JSON object.")
    version = document.get("format")
    if type(version) is not int or version < 1:
        raise ModelFileError(f"its format must be an int from 1 to {FORMAT}. Got {version!r}.")
    if version > FORMAT:
        versions = document.get("versions")
        writer = versions.get("sknoprop") if isinstance(versions, dict) else None
        raise ModelFileError(
            f"it is of format {version}, written by sknoprop {writer}; this sknoprop reads "
            f"formats up to {FORMAT}. Update sknoprop to load it."
        )
    return document


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value
