"""The cells of the paper's table 1: their settings (its table 3) and its figures."""

from dataclasses import dataclass

from sknoprop import paper_parameters

DATA = {"mnist": "MNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
EMBEDDINGS = ("one-hot", "dim=20", "prototype")
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
SIZES = {size.name: size for size in (FULL, REDUCED)}


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


def parameters(data, method, embedding, size):
    """Arguments of `NoPropClassifier` for a cell; a baseline has those of its blocks."""
    params = paper_parameters({"backprop": "dt", "adjoint": "ct"}.get(method, method))
    params["embedding"] = {"dim=20": "learned"}.get(embedding, embedding)
    params["max_iter"] = (size.epochs or {m: EPOCHS[m][data] for m in EPOCHS})[method]
    # The paper's dropout lies in the path of images, which has it whatever this says.
    params["dropout"] = 0.0
    if size.n_steps and params.get("n_steps"):
        params["n_steps"] = size.n_steps
    if method == "adjoint":
        params |= {"optimizer": "adamw", "schedule": "cosine"}
    return params
