"""How long to train, where the data decide: in cycles, as long as another one pays.

A cycle has the number of epochs that suits most tables. Blocks that it left less sure than they
are right (a temperature below one: see `sknoprop.calibration`) could have learnt more from their
rows, and train as long again. If rows that were not trained on got likelier by it, twice as long
again; else it is forgotten. Blocks that are too sure already would but become surer.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

from sknoprop.model import NoPropModel
from sknoprop.training import Trained, TrainingError

__all__ = ["LENGTHS", "train_further"]

#: Of further cycles, in lengths of the first: each doubles what has been trained.
LENGTHS = (1, 2)


def train_further(
    model: NoPropModel,
    trained: Trained,
    loss: float,
    train: Callable[[Trained, int], Trained],
    judge: Callable[[], float],
    n_epochs: int,
    n_before: int = 0,
) -> Trained:
    """Train a model for more cycles, in place, if it is less sure than it is right.

    Parameters
    ----------
    model : NoPropModel
        After its first cycle, with its temperature.
    trained : Trained
        What that left.
    loss : float
        By `judge`, after it; infinite where there are no rows to judge by.
    train : callable
        Trains the model for a number of epochs, given what it goes on from.
    judge : callable
        Finds the temperature; the log loss of rows that were not trained on. Both may raise a
        TrainingError, which ends it as a cycle that does not pay.
    n_epochs : int
        Of the first cycle. One that has fewer was ended by a callback, and is the last.
    n_before : int, default=0
        Epochs of earlier trainings that the first cycle went on from.

    Returns
    -------
    Trained
        Of the last cycle that paid, which the model is left with. If the user interrupts a cycle,
        those before it are all that is kept.
    """
    unsure = float(model.temperature) < 1.0 and math.isfinite(loss)
    ended = trained.interrupted is not None or len(trained.history) - n_before < n_epochs
    if ended or not unsure:
        return trained
    for length in LENGTHS:
        kept = copy.deepcopy(model.state_dict())
        n_whole = len(trained.history)
        try:
            longer = train(trained, length * n_epochs)
            interrupted = longer.interrupted is not None
            pays = not interrupted and (new := judge()) < loss
        except TrainingError:
            interrupted = pays = False
        except KeyboardInterrupt:
            interrupted, pays = True, False
        if not pays:
            model.load_state_dict(kept)
            model.eval().requires_grad_(False)
            if interrupted:
                trained.interrupted = n_whole - n_before
            break
        trained, loss = longer, new
        if len(trained.history) - n_whole < length * n_epochs:
            break
    return trained
