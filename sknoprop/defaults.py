"""What "auto" stands for where it depends on the numbers of rows and classes.

Few rows of two classes want one layer, held by weight decay and dropout. Many rows, or classes,
want a second one, which pays only with batch normalisation, and more steps; decay and dropout fade
out with rows, as they blur what enough rows make clear.
The numbers were chosen on thirty-two tables of the KEEL repository that are no part of the
benchmarks.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from sknoprop._parameters import layer_sizes
from sknoprop.networks import is_frozen
from sknoprop.networks.bins import USUAL

__all__ = ["fill_in", "trains_on_images"]

#: Rows above which less dropout is enough, and two classes want a second layer.
MANY_ROWS = 1_000

#: Rows that a stream counts as: how many will come is not known, but that they are many.
STREAM = 50_000


def fill_in(
    params: dict[str, Any], n_samples: int, n_classes: int, streaming: bool = False
) -> dict[str, Any]:
    """Parameters with what "auto" leaves to the data filled in.

    Parameters
    ----------
    params : dict
        Parameters of `NoPropClassifier`, checked.
    n_samples : int
        Training rows.
    n_classes : int
    streaming : bool, default=False
        Whether these rows are a first part of more.

    Returns
    -------
    dict
        A copy, with `hidden_layer_sizes` as a tuple.
    """
    n_rows, n_samples = n_samples, max(n_samples, STREAM) if streaming else n_samples
    deep = n_samples > MANY_ROWS or n_classes > 2
    encoder = params["encoder"]
    if isinstance(encoder, str) and encoder == "auto":
        of_images = "cnn" if params["head"] == "paper" else "resnet"
        encoder = "mlp" if params["image_shape"] is None else of_images
    sizes = params["hidden_layer_sizes"]
    if isinstance(sizes, str):
        sizes = (128, 128) if deep else (128,)
    sizes = layer_sizes(sizes)
    # Decay coupled to the gradient, as other optimisers have it, is another thing.
    decoupled = params["optimizer"] in ("adamw", torch.optim.AdamW)
    automatic = {
        "batch_norm": len(sizes) > 1,
        "dropout": 0.2 if n_samples > MANY_ROWS else 0.35,
        "weight_decay": min(1.0, 100 / n_samples) if decoupled else 1e-3,
        "batch_size": min(256, max(64, n_rows // 32)),
    }
    if streaming:  # a first part may be too small to tell
        automatic["n_bins"] = USUAL
    filled = params | {k: v for k, v in automatic.items() if params[k] == "auto"}
    most = 20 if trains_on_images(params | {"encoder": encoder}) else 50
    n_epochs = most * min(1.0, max(math.sqrt(5_000 / n_samples), 1 / 3)) if deep else 30
    if params["learning_rate"] == "constant":
        n_epochs = 200  # an upper bound: it ends where losses do not fall any more
    if params["max_iter"] == "auto":
        steps = math.ceil(n_samples / filled["batch_size"])
        filled["max_iter"] = max(round(n_epochs), math.ceil(150 / steps))
    return filled | {"hidden_layer_sizes": sizes, "encoder": encoder}


def trains_on_images(params: dict[str, Any]) -> bool:
    """Whether blocks have a path of images to train, by parameters that are filled in.

    It costs fifteen times what dense layers do and more, and learns more an epoch.
    """
    encoder = params["encoder"]
    return params["image_shape"] is not None and encoder != "mlp" and not is_frozen(encoder)
