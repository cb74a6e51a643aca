"""Callbacks for `NoPropClassifier` that skorch does not have.

They go into its parameter `callbacks`, beside any of `skorch.callbacks`.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import Tensor

from sknoprop._version import __version__
from sknoprop.persistence.files import replace_file

__all__ = ["FitCheckpoint"]

#: Version of what a file holds.
FORMAT = 2

#: Parameters that do not change what is learnt, or that are compared by what comes of them.
NOT_COMPARED = {
    *("callbacks", "device", "n_jobs", "random_state", "verbose", "warm_start"),
    *("n_steps", "sampler"),
}


class FitCheckpoint(Callback):
    """Writes a file from which a `fit` that was cut off goes on, to the last bit.

    The file holds all that the next epochs depend on: weights, the optimiser's state, the schedule
    of the learning rate, random generators, what stopping has seen, the history. If the file is
    there when a fit begins, and is of the same fit, training goes on from it; what comes out is
    what would have come out without the break. So a script whose process was killed is simply run
    again. When the fit has come to its end the file is removed. After Ctrl-C or an error it stays.

    Two fits are the same if data, weights, parameters, random state, blocks to begin with (in a
    warm start), device and the versions of sknoprop and torch are. Objects of your own among the
    parameters are compared by their `repr`, and of `sknoprop.datasets.LazyImages` only number and
    labels.

    Parameters
    ----------
    path : str or path-like
        The file, in a folder that is there. It belongs to one fit at a time: fits beside each
        other, as in a search, need a path each.
    every : int, default=1
        Epochs from one writing to the next. Each takes a file of three times the size of the
        model, or four with early stopping, and as much for each cycle that is over, where the
        data decide how many there are (``max_iter="auto"``).

    Notes
    -----
    A file is replaced in one step, so that it is whole whenever the process or the machine dies.
    Reading it runs no code. It needs a `random_state` other than None. `partial_fit`, whose one
    epoch has no middle to go on from, leaves the file alone. Other callbacks begin anew: those
    that steer training by what they remember (skorch's `EarlyStopping` and `LRScheduler`) see only
    what comes after the break, and may not hear of cycles that are over. One checkpoint a fit is
    enough: a second one cannot go on from a later cycle.

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn.datasets import load_iris
    >>> from sknoprop import NoPropClassifier
    >>> from sknoprop.callbacks import FitCheckpoint
    >>> X, y = load_iris(return_X_y=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = FitCheckpoint(os.path.join(folder, "fit.ckpt"), every=2)
    ...     clf = NoPropClassifier(callbacks=[checkpoint], max_iter=5, random_state=0).fit(X, y)
    ...     os.listdir(folder)
    []
    """

    identity_: dict[str, dict[str, str]]
    checked_: bool
    #: Whether the file is this fit's.
    is_ours_: bool
    #: States at the ends of the cycles of this fit that are over.
    over_: list[dict[str, Any]]
    #: What the file has of this fit, while training has not caught up with it.
    found_: dict[str, Any] | None

    def __init__(self, path: str | os.PathLike[str], every: int = 1) -> None:
        self.path = path
        self.every = every

    def on_whole_fit_begin(self) -> None:
        """Forget other fits: called by a fit before its first cycle of training."""
        self.over_, self.found_ = [], None
        self.checked_ = self.is_ours_ = False

    def on_whole_fit_end(self, finished: bool) -> None:
        """Remove the file of a fit that has come to its end.

        Parameters
        ----------
        finished : bool
            Whether it has: it may have been interrupted, or failed.
        """
        self.over_, self.found_ = [], None
        if finished and self.is_ours_:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)

    def on_train_begin(self, net: Any, X: Any = None, **kwargs: Any) -> None:
        """Go on from the file if there is one.

        Parameters
        ----------
        net : BlockNet
            Its state is that of the file afterwards.
        X : object
            What the training goes through: data, random generators, parameters.
        **kwargs : dict
            Others of skorch's, not used.

        Raises
        ------
        ValueError
            If the file is damaged or of another fit, `random_state` is None, or `every` is no
            positive integer.
        FileNotFoundError
            If the folder is not there.
        """
        if _has_no_middle(net):
            return
        if not isinstance(self.every, Integral) or self.every < 1:
            raise ValueError(
                "The 'every' parameter of FitCheckpoint must be a positive int. "
                f"Got {self.every!r} instead."
            )
        if X.parameters["random_state"] is None:
            raise ValueError(
                "FitCheckpoint needs a fit that can be begun again alike. Set the 'random_state' "
                "parameter of NoPropClassifier to an int. Got None."
            )
        folder = os.path.dirname(os.path.realpath(self.path))
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"FitCheckpoint needs a folder that is there. Got {folder!r}.")
        if not self.over_:
            self.identity_ = _identity(net, X)
            self.found_ = self._read() if os.path.exists(self.path) else None
        if self.found_ is None:
            return
        n_over, over = len(self.over_), self.found_["over"]
        state = over[n_over] if n_over < len(over) else self.found_["now"]
        try:
            if state is not None:
                net.state_.load_state_dict(state)
        except Exception as error:  # whatever a file may hold
            raise ValueError(f"{self._anew('holds no state of this fit')} ({error!r})") from error
        if n_over >= len(over):
            self.found_ = None
            return
        self.over_.append(state)
        raise KeyboardInterrupt  # which is how callbacks end a training: this one is over

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Write the file, unless this epoch was the last: see `on_train_end`.

        Parameters
        ----------
        net : BlockNet
        **kwargs : dict
            Others of skorch's, not used.

        Raises
        ------
        TypeError
            If the optimiser's state or the history holds what the file cannot.
        OSError
            If the file cannot be written.
        """
        n_done = net.state_.n_done
        if n_done < net.max_epochs and not net.done_ and n_done % self.every == 0:
            self._write(net.state_.state_dict())

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Write the file, unless the user interrupted training: the fit is not over yet.

        Parameters
        ----------
        net : BlockNet
        **kwargs : dict
            Others of skorch's, not used.
        """
        if not (_has_no_middle(net) or net.interrupted_):
            self.over_.append(copy.deepcopy(net.state_.state_dict()))  # tensors change in the next
            self._write(None)

    def _write(self, now: dict[str, Any] | None) -> None:
        buffer = io.BytesIO()
        try:
            state = {"over": [_plain(own) for own in self.over_], "now": now and _plain(now)}
            torch.save({"format": FORMAT, "identity": self.identity_, "state": state}, buffer)
            if not self.checked_:
                buffer.seek(0)
                torch.load(buffer, weights_only=True)
                self.checked_ = True
        except Exception as error:
            raise TypeError(
                "FitCheckpoint can write tensors, numbers and strings. The optimiser's state or "
                f"the history holds something else: {error}"
            ) from error
        content = buffer.getvalue()
        replace_file(self.path, _digest(content) + content)
        self.is_ours_ = True

    def _read(self) -> dict[str, Any]:
        with open(self.path, "rb") as file:
            content = file.read()
        size = len(_digest(b""))
        digest, content = content[:size], content[size:]
        if digest != _digest(content):
            raise ValueError(self._anew("is damaged, or none of FitCheckpoint's"))
        try:
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            version, identity, state = found["format"], found["identity"], found["state"]
            differences = _differences(identity, self.identity_) if version == FORMAT else ""
            if version == FORMAT:
                for own in (*state["over"], *filter(None, [state["now"]])):
                    own["history"] = json.loads(own["history"])
        except Exception as error:  # the digest is no secret: whatever a file may hold
            raise ValueError(f"{self._anew('is none of FitCheckpoint')} ({error!r})") from error
        if version != FORMAT:
            raise ValueError(self._anew(f"is of format {version}, this sknoprop reads {FORMAT}"))
        if differences:
            raise ValueError(
                self._anew(
                    f"is of another fit, which differs in {differences}. Set that back to go on "
                    "with it, or give this fit a path of its own"
                )
            )
        self.is_ours_ = True
        return dict(state)

    def _anew(self, what: str) -> str:
        return f"The checkpoint {what}. Delete the file to start anew: {os.fspath(self.path)!r}."


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    # Callbacks record numbers of NumPy's, too.
    return state | {"history": json.dumps(state["history"], default=float)}


def _has_no_middle(net: Any) -> bool:
    return bool(net.max_epochs == 1)


def _identity(net: Any, course: Any) -> dict[str, dict[str, str]]:
    """What makes a fit this one: in parts, the first of which explain differences in the rest."""
    batches, validation, seeds = course.batches, course.validation, course.seeds
    moments = net.optimizer_.state_dict()["state"]
    held: list[Any] = []
    if validation is not None:
        held = [_rows(validation.inputs), validation.y, validation.sample_weight]
    return {
        "parameters": {
            # Where an object lies in memory is no part of what it is.
            name: re.sub(r" at 0x[0-9a-fA-F]+", "", _described(value))
            for name, value in sorted(course.parameters.items())
            if name not in NOT_COMPARED
        },
        "origin": {
            "random_state": str(seeds.entropy),
            "n_iter_ before": str(seeds.epoch),
            "device": str(batches.y.device),
            "version of sknoprop": __version__,
            "version of torch": str(torch.__version__),
        },
        "data": {
            "X": _hash(_rows(batches.inputs)),
            "y": _hash(batches.y),
            "sample_weight or class_weight": _hash(batches.sample_weight),
            "X_val, y_val": _hash(held),
        },
        "blocks": {"the blocks to begin with": _hash([net.module_.state_dict(), moments])},
    }


def _described(value: Any) -> str:
    # An array's `repr` depends on how numpy is set to print.
    if hasattr(value, "__array_interface__"):
        value = np.asarray(value)
        return _hash([str(value.dtype), str(value.tolist())])
    return repr(value)


def _rows(inputs: Any) -> Any:
    """What is compared of prepared inputs: of those that are yet to be loaded, their number."""
    return inputs if isinstance(inputs, Tensor) else len(inputs)


def _differences(theirs: dict[str, dict[str, str]], ours: dict[str, dict[str, str]]) -> str:
    for part, own in ours.items():
        other = theirs[part]
        names = sorted(k for k in own.keys() | other.keys() if own.get(k) != other.get(k))
        if names and part in ("data", "blocks"):
            return ", ".join(names)
        if names:
            return ", ".join(f"{k} ({other.get(k)} there, {own.get(k)} here)" for k in names)
    return ""


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=32).digest()


def _hash(value: Any) -> str:
    whole = hashlib.blake2b(digest_size=16)
    for part in _parts(value):
        whole.update(part)
    return whole.hexdigest()


def _parts(value: Any) -> Iterator[Any]:
    """Bytes of nested dictionaries and lists of tensors, numbers and strings."""
    if isinstance(value, Tensor):
        yield f"{value.dtype} {tuple(value.shape)}".encode()
        if value.numel():  # one that is empty has no bytes to look at
            yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    elif isinstance(value, dict):
        for key, own in value.items():
            yield repr(key).encode()
            yield from _parts(own)
    elif isinstance(value, list):
        for own in value:
            yield from _parts(own)
    else:
        yield f"{type(value).__name__} {value}".encode()
