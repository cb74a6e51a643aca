"""What "auto" stands for where it depends on the number of rows.

Few rows want one layer, held by weight decay and dropout. Many want a second one, which pays only
with batch normalisation, and more steps; decay fades out, as it blurs what enough rows make clear.
The numbers were chosen on thirty-two tables of the KEEL repository that are no part of the
benchmarks.
"""

from __future__ import annotations

import math
from typing import Any

from sknoprop._parameters import layer_sizes

__all__ = ["fill_in"]

#: Rows above which a second layer pays.
MANY_ROWS = 1_000

#: Rows that a stream counts as: how many will come is not known, but that they are many.
STREAM = 50_000


def fill_in(params: dict[str, Any], n_samples: int, streaming: bool = False) -> dict[str, Any]:
    """Parameters with what "auto" leaves to the number of rows filled in.

    Parameters
    ----------
    params : dict
        Parameters of `NoPropClassifier`, checked.
    n_samples : int
        Training rows.
    streaming : bool, default=False
        Whether these rows are a first part of more.

    Returns
    -------
    dict
        A copy, with `hidden_layer_sizes` as a tuple.
    """
    n_rows, n_samples = n_samples, max(n_samples, STREAM) if streaming else n_samples
    many = n_samples > MANY_ROWS
    sizes = params["hidden_layer_sizes"]
    if isinstance(sizes, str):
        sizes = (128, 128) if many else (128,)
    sizes = layer_sizes(sizes)
    # Decay coupled to the gradient, as other optimisers have it, is another thing.
    decoupled = params["optimizer"] == "adamw"
    automatic = {
        "batch_norm": len(sizes) > 1,
        "dropout": 0.2 if many else 0.35,
        "weight_decay": min(1.0, 100 / n_samples) if decoupled else 1e-3,
        "batch_size": min(256, max(64, n_rows // 32)),
    }
    filled = params | {k: v for k, v in automatic.items() if params[k] == "auto"}
    n_epochs = 50 * min(1.0, max(math.sqrt(5_000 / n_samples), 1 / 3)) if many else 30
    if params["learning_rate"] == "constant":
        n_epochs = 200  # an upper bound: it ends where losses do not fall any more
    if params["max_iter"] == "auto":
        steps = math.ceil(n_samples / filled["batch_size"])
        filled["max_iter"] = max(round(n_epochs), math.ceil(150 / steps))
    return filled | {"hidden_layer_sizes": sizes}
