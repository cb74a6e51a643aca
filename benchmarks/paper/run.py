"""Run the paper's table 1, one cell or all of it; what has been run is not run again.

    python -m benchmarks.paper.run --root DATA mnist-dt-prototype           # one cell
    python -m benchmarks.paper.run --root DATA all                          # all of them
    python -m benchmarks.paper.run --root DATA --size reduced mnist-fm-one-hot
    python -m benchmarks.paper.run --report                                 # the table

From the root of a clone, with ``pip install -e '.[vision]' torchdiffeq``. DATA is a folder in
torchvision's layout. Each cell and seed leaves one file in ``benchmarks/paper/results/`` (or
``--results FOLDER``): accuracy and log loss on training and test images over five inference draws
along the paper's trajectories, and by the class kernel; time an epoch; peak memory. The table of
all of them goes to ``table.md`` beside them. A run that is cut off goes on if it is run again:
cells that are done are not begun anew, the one in hand goes on from its last checkpoint.

"single" trains as the paper does, with one seed, and has one draw on test images and on the first
10,000 training images. "reduced" has 5,000 training and 1,000 test images, few epochs and two
draws, and scores as many training images: it shows that a cell runs, not what it reaches.

Blocks of "dt" are trained together and not one after the other within an epoch, as the paper has
it: with a fixed embedding that makes no difference to a block. Each row's trajectory shares its
noise with up to 249 others, in the paper with none.
"""

import argparse
import json
import platform
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import log_loss

from benchmarks.paper.baselines import Baseline
from benchmarks.paper.cells import DATA, SIZES, cell_name, cells, figures, parameters
from sknoprop import NoPropClassifier, __version__
from sknoprop._parameters import resolve_device
from sknoprop.callbacks import FitCheckpoint
from sknoprop.datasets import load_torchvision
from sknoprop.persistence.files import replace_file

RESULTS = Path(__file__).parent / "results"
PARTS = ("train", "test")

#: Rows whose trajectories have the same noise.
N_ALIKE = 250


def scores(y, proba):
    return {
        "accuracy": float(100 * (proba.argmax(1) == y).mean()),
        "log_loss": float(log_loss(y, proba, labels=np.arange(proba.shape[1]))),
    }


def by_trajectories(model, X, seed):
    """Probabilities along trajectories; other noise for every `N_ALIKE` rows, and for each seed."""
    own = model._seed
    try:
        parts = []
        for number, start in enumerate(range(0, len(X), N_ALIKE)):
            model._seed = np.random.SeedSequence([own, seed, number]).generate_state(1)[0].item()
            parts.append(model.predict_proba(X[start : start + N_ALIKE]))
        return np.concatenate(parts)
    finally:
        model._seed = own


def readings(model, X, y, n_draws):
    """Scores of each inference draw, and by the class kernel."""
    if isinstance(model, Baseline):
        return {"trajectory": [scores(y, model.predict_proba(X, d)) for d in range(n_draws)]}
    inference, n_own = model.inference, model.n_draws
    model.set_params(inference="trajectory", n_draws=1)
    found = {"trajectory": [scores(y, by_trajectories(model, X, d)) for d in range(n_draws)]}
    kernel = model.set_params(inference="kernel", n_draws=4).predict_proba(X)
    model.set_params(inference=inference, n_draws=n_own)
    return found | {"kernel": scores(y, kernel)}


def measure(root, data, method, embedding, size, seed, checkpoint=None):
    """Fit a cell and score it; `checkpoint` is a file that a fit which is cut off goes on from."""
    device = resolve_device("auto")
    X, y = load_torchvision(DATA[data], root=root, return_X_y=True)
    X_test, y_test = load_torchvision(DATA[data], root=root, train=False, return_X_y=True)
    X, y, X_test, y_test = (
        X[: size.n_train],
        y[: size.n_train],
        X_test[: size.n_test],
        y_test[: size.n_test],
    )
    params = parameters(data, method, embedding, size)
    n_epochs = params["max_iter"]
    callbacks = [] if checkpoint is None else [FitCheckpoint(checkpoint, max(1, n_epochs // 20))]
    model = NoPropClassifier(**params, callbacks=callbacks, random_state=seed)
    if method in ("backprop", "adjoint"):
        model = Baseline(method, model, device, params.get("n_steps"))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    model.fit(X, y)
    seconds = (time.perf_counter() - start) / n_epochs
    if isinstance(model, NoPropClassifier):  # of epochs before a break, too
        seconds = float(np.mean([epoch["dur"] for epoch in model.history_]))
    peak = (
        torch.cuda.max_memory_allocated()
        if device.type == "cuda"
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    some = slice(None, size.n_test)  # of the training images; all of them in the whole cell
    return {
        "cell": cell_name(data, method, embedding),
        "size": size.name,
        "seed": seed,
        "n_train": len(X),
        "epochs": n_epochs,
        "n_steps": params.get("n_steps"),
        "epoch_s": seconds,
        "peak_bytes": peak,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {"sknoprop": __version__, "torch": torch.__version__},
        "train": readings(model, X[some], y[some], size.n_draws),
        "test": readings(model, X_test, y_test, size.n_draws),
    }


def file_of(results, size, name, seed):
    return Path(results) / f"{size.name}-{name}-{seed}.json"


def run(root, names, size, results):
    for data, method, embedding in cells():
        name = cell_name(data, method, embedding)
        if names != ["all"] and name not in names:
            continue
        for seed in range(size.n_seeds):
            path = file_of(results, size, name, seed)
            if path.exists():
                continue
            # A process of its own: the peak of a process's memory never falls.
            with ProcessPoolExecutor(1, get_context("spawn")) as apart:
                checkpoint = path.with_suffix(".checkpoint")
                arguments = (root, data, method, embedding, size, seed, checkpoint)
                record = apart.submit(measure, *arguments).result()
            replace_file(path, (json.dumps(record, indent=1) + "\n").encode())
            mean = np.mean([draw["accuracy"] for draw in record["test"]["trajectory"]])
            print(f"{name}, seed {seed}: {mean:.2f} % on test images", flush=True)


def table(results):
    """All that has been run, beside the paper's figures, in Markdown."""
    records = [json.loads(path.read_text()) for path in sorted(Path(results).glob("*.json"))]
    lines = [
        "| size | cell | seeds | train % | test % | log loss | by kernel, test % | log loss | "
        "s an epoch | peak GB | device | paper: train | test | GB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for size in SIZES:
        for data, method, embedding in cells():
            name = cell_name(data, method, embedding)
            mine = [r for r in records if (r["size"], r["cell"]) == (size, name)]
            if not mine:
                continue
            draws = {part: [d for r in mine for d in r[part]["trajectory"]] for part in PARTS}
            kernels = [r["test"]["kernel"] for r in mine if "kernel" in r["test"]]
            train, test, memory = figures(data, method, embedding)
            cells_of_row = [
                size,
                name,
                len(mine),
                *(mean_and_error([d["accuracy"] for d in draws[part]]) for part in PARTS),
                f"{np.mean([d['log_loss'] for d in draws['test']]):.3f}",
                f"{np.mean([k['accuracy'] for k in kernels]):.2f}" if kernels else "",
                f"{np.mean([k['log_loss'] for k in kernels]):.3f}" if kernels else "",
                f"{np.mean([r['epoch_s'] for r in mine]):.1f}",
                f"{max(r['peak_bytes'] for r in mine) / 1e9:.2f}",
                mine[0]["device"],
                *(train, test, memory),
            ]
            lines.append(f"| {' | '.join(map(str, cells_of_row))} |")
    return "\n".join(lines) + "\n"


def mean_and_error(values):
    """Mean and standard error; of a single value no error."""
    if len(values) < 2:
        return f"{values[0]:.2f}"
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1) / len(values) ** 0.5:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", nargs="*", help="names of cells, or all")
    parser.add_argument("--root", help="folder of the data sets, in torchvision's layout")
    parser.add_argument("--size", choices=SIZES, default="paper")
    parser.add_argument("--results", default=RESULTS, type=Path, help="where records are kept")
    parser.add_argument("--report", action="store_true", help="print the table")
    options = parser.parse_args()
    known = {cell_name(*cell) for cell in cells()} | {"all"}
    strange = sorted(set(options.cells) - known)
    if strange:
        parser.error(f"no such cells: {strange}; there are {sorted(known)}")
    if not (options.cells or options.report):
        parser.error(f"name cells to run, or --report; there are {sorted(known)}")
    options.results.mkdir(parents=True, exist_ok=True)
    if options.cells:
        if options.root is None:
            parser.error("--root is needed to read the data sets")
        run(options.root, options.cells, SIZES[options.size], options.results)
        replace_file(options.results / "table.md", table(options.results).encode())
    if options.report:
        print(table(options.results), end="")


if __name__ == "__main__":
    main()
