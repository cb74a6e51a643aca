"""How long to train, where the data decide: longer or for less long than suits most tables.

A first cycle has the number of epochs that suits most tables. Rows that were not trained on show
what it did. Where they ask for a temperature below one (see `sknoprop.calibration`), blocks are
less sure than they are right and could have learnt more: they train as long again, and if the rows
got likelier by it, twice as long again. Where they ask for one above, blocks are surer than they
are right. Either they have begun to learn rows by heart, or what they still learn is worth more.
So they train anew for a quarter as long. If the rows are clearly likelier by that it is kept; if
they are clearly less likely by it more may help, and further cycles follow as long as they clearly
pay. What does not pay is forgotten.

Dropout keeps blocks from learning rows by heart. Where rows that were not trained on ask for more
training that is no danger yet, and dropout blurs what there is to learn: each further cycle has
half of it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping

from torch import Tensor

from sknoprop.calibrating import Judged
from sknoprop.model import NoPropModel
from sknoprop.training import Trained, TrainingError

__all__ = ["CLEARLY", "FADING", "LENGTHS", "SHORTER", "adapt_length"]

#: Of further cycles, in lengths of the first: each doubles what has been trained.
LENGTHS = (1, 2)

#: Share of dropout that each further cycle keeps of the one before.
FADING = 0.5

#: The first cycle has so many times the epochs of the one that is trained anew.
SHORTER = 4

#: Standard errors, row by row, by which rows are clearly likelier or less likely. A few hundred
#: rows are often likelier by chance alone.
CLEARLY = 1.0


def adapt_length(
    model: NoPropModel,
    trained: Trained,
    judged: Judged | None,
    train: Callable[[Trained | None, int, float], Trained],
    judge: Callable[[], Judged | None],
    n_epochs: int,
    fresh: Mapping[str, Tensor] | None = None,
    n_before: int = 0,
) -> Trained:
    """Train a model for longer or for less long, in place, if its first cycle asks for it.

    Parameters
    ----------
    model : NoPropModel
        After its first cycle, with its temperature.
    trained : Trained
        What that left.
    judged : Judged or None
        By `judge`, after it; None where there are no rows to judge by.
    train : callable
        Trains the model, given what it goes on from (None if anew), for a number of epochs, with a
        share of its dropout.
    judge : callable
        Finds the temperature, and judges by rows that were not trained on, the same each time. Both
        may raise a TrainingError, which ends it as a cycle that does not pay.
    n_epochs : int
        Of the first cycle. One that has fewer was ended by a callback, and is the last.
    fresh : mapping of str to Tensor, optional
        The model's state before any training. None if it cannot be trained anew.
    n_before : int, default=0
        Epochs of earlier trainings that the first cycle went on from.

    Returns
    -------
    Trained
        Of the last cycle that paid, which the model is left with. If the user interrupts a cycle,
        those before it are all that is kept.
    """
    ended = trained.interrupted is not None or len(trained.history) - n_before < n_epochs
    temperature = float(model.temperature)
    if ended or judged is None or temperature == 1.0:
        return trained
    too_sure = temperature > 1.0

    def attempt(before: Trained | None, length: int, dropout: float = 1.0) -> int:
        """Train, and keep it if rows are likelier by it: 1. If they are less likely: -1."""
        nonlocal trained, judged
        kept = copy.deepcopy(model.state_dict())
        verdict, interrupted = 0, False
        try:
            if before is None and fresh is not None:
                model.load_state_dict(fresh)
            tried = train(before, length, dropout)
            interrupted = tried.interrupted is not None
            # What a callback ended anywhere says nothing of how long to train from the start.
            cut = before is None and len(tried.history) < length
            if not (interrupted or cut):
                new = judge()
                verdict = _verdict(judged, new, too_sure)
        except TrainingError:
            pass
        except KeyboardInterrupt:
            interrupted = True
        if verdict > 0:
            trained, judged = tried, new
        else:
            model.load_state_dict(kept)
            model.eval().requires_grad_(False)
        if interrupted:
            trained.interrupted = len(trained.history) - n_before
        return verdict

    if too_sure:
        # A callback may have given the model parameters of other names.
        if fresh is None or fresh.keys() != model.state_dict().keys():
            return trained
        if attempt(None, max(n_epochs // SHORTER, 1)) >= 0:
            return trained
    for number, length in enumerate(LENGTHS, 1):
        n_whole = len(trained.history)
        pays = attempt(trained, length * n_epochs, FADING**number) > 0
        if not pays or len(trained.history) - n_whole < length * n_epochs:
            break
    return trained


def _verdict(old: Judged | None, new: Judged | None, too_sure: bool) -> int:
    """1 if rows are likelier than they were, -1 if less likely, 0 if that is not clear."""
    if old is None or new is None:
        return 0
    if not too_sure:
        # By blocks alone. What their mean gains is expected by its own probabilities, which are
        # far off where it is not as sure as it is right.
        gain = float((old.alone - new.alone).mean())
        return int(gain > 0.0) - int(gain < 0.0)
    gains = old.of_mean - new.of_mean
    rows, gain = len(gains), float(gains.mean())
    margin = CLEARLY * float(gains.std()) / math.sqrt(rows) if rows > 1 else math.inf
    return int(gain > margin) - int(gain < -margin)
