"""The cells of the paper's table 1: their settings (its table 3) and its figures.

And cells of ours beside them: "blocks" has the paper's path of images and its epochs for "dt", and
this package's defaults else, five blocks among them; "modern" has the wide residual encoder, too,
and images that are shifted and mirrored.
"""

from dataclasses import dataclass

import torch

from sknoprop import paper_parameters

DATA = {"mnist": "MNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
EMBEDDINGS = ("one-hot", "dim=20", "prototype")
OURS = ("blocks", "modern")
METHODS = ("dt", "ct", "fm", "backprop", "adjoint")

#: Epochs of the paper by method and data set.
EPOCHS = {
    "dt": {"mnist": 100, "cifar10": 150, "cifar100": 150},
    "backprop": {"mnist": 100, "cifar10": 150, "cifar100": 150},
    "ct": {"mnist": 100, "cifar10": 500, "cifar100": 1000},
    "fm": {"mnist": 100, "cifar10": 500, "cifar100": 1000},
    "adjoint": {"mnist": 2, "cifar10": 4, "cifar100": 4},
}

#: Accuracy on test images in %, mean and standard error, by method, data and embedding.
FIGURES = {
    ("backprop", "mnist"): ("99.46 ± .06", "99.43 ± .03", "99.44 ± .05"),
    ("dt", "mnist"): ("99.47 ± .05", "99.49 ± .04", "99.54 ± .04"),
    ("adjoint", "mnist"): ("98.62 ± .14", None, None),
    ("ct", "mnist"): ("97.84 ± .71", "97.70 ± .51", "97.17 ± .94"),
    ("fm", "mnist"): ("99.21 ± .09", "99.29 ± .05", "98.52 ± .16"),
    ("backprop", "cifar10"): ("79.92 ± .14", "79.30 ± .52", "79.58 ± .44"),
    ("dt", "cifar10"): ("79.25 ± .28", "79.12 ± .37", "80.54 ± .20"),
    ("adjoint", "cifar10"): ("66.78 ± .76", None, None),
    ("ct", "cifar10"): ("73.35 ± .55", "71.77 ± 2.47", "66.54 ± 3.63"),
    ("fm", "cifar10"): ("73.14 ± .90", "73.50 ± .28", "75.18 ± .57"),
    ("backprop", "cifar100"): ("45.85 ± 2.07", "46.57 ± .87", "47.80 ± .19"),
    ("dt", "cifar100"): ("45.93 ± .46", "45.19 ± .22", "46.06 ± .25"),
    ("adjoint", "cifar100"): ("25.03 ± .70", None, None),
    ("ct", "cifar100"): ("33.66 ± .50", "33.99 ± 1.08", "21.31 ± 4.17"),
    ("fm", "cifar100"): ("6.38 ± 4.90", "31.14 ± .52", "37.57 ± .32"),
}

#: The same on training images.
TRAIN_FIGURES = {
    ("backprop", "mnist"): ("100.0 ± .0", "99.99 ± .0", "99.99 ± .01"),
    ("dt", "mnist"): ("99.92 ± .01", "99.93 ± .01", "99.97 ± .0"),
    ("adjoint", "mnist"): ("98.7 ± .13", None, None),
    ("ct", "mnist"): ("97.88 ± .61", "97.7 ± .42", "97.18 ± 1.02"),
    ("fm", "mnist"): ("99.97 ± .0", "99.99 ± .0", "99.27 ± .09"),
    ("backprop", "cifar10"): ("99.98 ± .01", "99.96 ± .02", "99.97 ± .01"),
    ("dt", "cifar10"): ("95.02 ± .19", "94.95 ± .09", "97.23 ± .11"),
    ("adjoint", "cifar10"): ("70.64 ± .49", None, None),
    ("ct", "cifar10"): ("97.31 ± .84", "94.88 ± 3.08", "86.2 ± 7.34"),
    ("fm", "cifar10"): ("98.46 ± .4", "99.49 ± .15", "99.8 ± .03"),
    ("backprop", "cifar100"): ("98.63 ± 1.34", "94.28 ± 7.43", "99.19 ± .71"),
    ("dt", "cifar100"): ("84.97 ± .67", "83.25 ± .39", "90.7 ± .14"),
    ("adjoint", "cifar100"): ("26.72 ± .81", None, None),
    ("ct", "cifar100"): ("75.1 ± 3.43", "74.22 ± 2.33", "40.88 ± 10.72"),
    ("fm", "cifar100"): ("12.69 ± 10.4", "83.49 ± 4.62", "96.37 ± 1.09"),
}

#: GB of GPU memory in training with one-hot embeddings (its table 2).
MEMORY = {
    "backprop": {"mnist": 0.87, "cifar10": 1.17, "cifar100": 1.73},
    "dt": {"mnist": 0.49, "cifar10": 0.64, "cifar100": 1.23},
    "adjoint": {"mnist": 2.32, "cifar10": 6.23, "cifar100": 6.45},
    "ct": {"mnist": 1.05, "cifar10": 0.45, "cifar100": 0.50},
    "fm": {"mnist": 1.06, "cifar10": 0.44, "cifar100": 0.49},
}


@dataclass(frozen=True)
class Size:
    """How much of a cell is run."""

    name: str
    n_train: int | None
    """First training images, or all."""
    n_test: int | None
    n_seeds: int
    n_draws: int
    """Inference draws."""
    n_steps: int | None
    """Steps of the continuous samplers; the paper's if None."""
    epochs: dict[str, int] | None
    """Epochs by method; the paper's if None."""


FULL = Size("paper", None, None, 3, 5, None, None)
#: Ends in minutes on two cores. It shows that a cell runs, and no more.
REDUCED = Size(
    "reduced", 5000, 1000, 1, 2, 20, {"dt": 2, "backprop": 2, "ct": 6, "fm": 6, "adjoint": 1}
)
#: The whole training, once, and one inference draw on test and on 10,000 training images.
SINGLE = Size("single", None, 10_000, 1, 1, None, None)
SIZES = {size.name: size for size in (FULL, SINGLE, REDUCED)}


def cell_name(data, method, embedding):
    return f"{data}-{method}-{embedding.replace('=', '')}"


def cells():
    """All cells, the most telling first."""
    order = [("mnist", "dt"), ("cifar10", "dt"), ("mnist", "fm"), ("mnist", "ct")]
    order += [("cifar10", "fm"), ("cifar10", "ct")]
    order += [("cifar100", method) for method in ("dt", "fm", "ct")]
    order += [(data, method) for method in ("backprop", "adjoint") for data in DATA]
    for data, method in order:
        for embedding, figure in zip(EMBEDDINGS, FIGURES[method, data], strict=True):
            if figure is not None:
                yield data, method, embedding
    for ours in OURS:
        for data in ("cifar10", "mnist", "cifar100"):
            for method in ("dt", "fm", "ct"):
                yield data, method, ours


def figures(data, method, embedding):
    """The paper's accuracy on training and test images, and its memory; empty where it has none."""
    if embedding in OURS:
        return "", "", ""
    number = EMBEDDINGS.index(embedding)
    memory = MEMORY[method][data] if embedding == "one-hot" else ""
    return TRAIN_FIGURES[method, data][number], FIGURES[method, data][number], memory


def shifted(images, most=4):
    """Each image by up to four pixels in each direction; what comes in is black."""
    n, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (most,) * 4)
    down, right = torch.randint(0, 2 * most + 1, (2, n), device=images.device)
    rows = (down[:, None] + torch.arange(height, device=images.device))[:, None, :, None]
    columns = (right[:, None] + torch.arange(width, device=images.device))[:, None, None, :]
    row = torch.arange(n, device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return padded[row, channel, rows, columns]


def shifted_and_mirrored(images):
    mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return shifted(torch.where(mirrored, images.flip(-1), images))


def parameters(data, method, embedding, size):
    """Arguments of `NoPropClassifier` for a cell; a baseline has those of its blocks."""
    if embedding in OURS:
        return _parameters_of_ours(data, method, embedding, size)
    params = paper_parameters({"backprop": "dt", "adjoint": "ct"}.get(method, method))
    params["embedding"] = {"dim=20": "learned"}.get(embedding, embedding)
    params["max_iter"] = (size.epochs or {m: EPOCHS[m][data] for m in EPOCHS})[method]
    if size.n_steps and params.get("n_steps"):
        params["n_steps"] = size.n_steps
    if method == "adjoint":
        params |= {"optimizer": "adamw", "schedule": "cosine"}
    return params


def _parameters_of_ours(data, method, cell, size):
    n_epochs = (size.epochs or {method: EPOCHS["dt"][data]})[method]
    params = {"variant": method, "max_iter": n_epochs, "encoder": "cnn"}
    if cell == "modern":
        params["encoder"] = "resnet" if size.epochs else "resnet-wide"
        params["augmentation"] = shifted if data == "mnist" else shifted_and_mirrored
    return params
