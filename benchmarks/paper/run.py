"""Run the paper's table 1, one cell or all of it; what has been run is not run again.

    python -m benchmarks.paper.run --root DATA mnist-dt-prototype           # one cell
    python -m benchmarks.paper.run --root DATA all                          # all of them
    python -m benchmarks.paper.run --root DATA --size reduced mnist-fm-one-hot
    python -m benchmarks.paper.run --report                                 # the table

From the root of a clone, with ``pip install -e '.[vision]' torchdiffeq``. DATA is a folder in
torchvision's layout. Each cell and seed leaves one file in ``benchmarks/paper/results/``:
accuracy and log loss on training and test images over five inference draws along the paper's
trajectories, and by the class kernel; time an epoch; peak memory. "reduced" has 5,000 training and
1,000 test images, few epochs and two draws: it shows that a cell runs, not what it reaches. Blocks
of "dt" are trained together and not one after the other within an epoch, as the paper has it: with
a fixed embedding that makes no difference to a block.
"""

import argparse
import json
import platform
import resource
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import log_loss

from benchmarks.paper.baselines import Baseline
from benchmarks.paper.cells import DATA, EMBEDDINGS, FIGURES, SIZES, cell_name, cells, parameters
from sknoprop import NoPropClassifier, __version__
from sknoprop._parameters import resolve_device
from sknoprop.datasets import load_torchvision

RESULTS = Path(__file__).parent / "results"


def scores(y, proba):
    return {
        "accuracy": float(100 * (proba.argmax(1) == y).mean()),
        "log_loss": float(log_loss(y, proba, labels=np.arange(proba.shape[1]))),
    }


def readings(model, X, y, n_draws):
    """Scores of each inference draw, and by the class kernel."""
    if isinstance(model, Baseline):
        return {"trajectory": [scores(y, model.predict_proba(X, d)) for d in range(n_draws)]}
    found = {"trajectory": []}
    seed = model._seed
    for draw in range(n_draws):
        model._seed = seed + draw  # what the noise of inference is drawn from
        found["trajectory"].append(scores(y, model.predict_proba(X)))
    model._seed = seed
    kernel = model.set_params(inference="kernel", n_draws=4).predict_proba(X)
    model.set_params(inference="trajectory", n_draws=1)
    return found | {"kernel": scores(y, kernel)}


def measure(root, data, method, embedding, size, seed):
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
    model = NoPropClassifier(**params, random_state=seed)
    if method in ("backprop", "adjoint"):
        model = Baseline(method, model, device, params.get("n_steps"))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start, cpu = time.perf_counter(), time.process_time()
    model.fit(X, y)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = (
        torch.cuda.max_memory_allocated()
        if device.type == "cuda"
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    some = slice(None, len(X_test))  # as many training images as test images are read
    return {
        "cell": cell_name(data, method, embedding),
        "size": size.name,
        "seed": seed,
        "n_train": len(X),
        "epochs": params["max_iter"],
        "n_steps": params.get("n_steps"),
        "epoch_s": wall / params["max_iter"],
        "epoch_cpu_s": cpu / params["max_iter"],
        "peak_bytes": peak,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {"sknoprop": __version__, "torch": torch.__version__},
        "train": readings(model, X[some], y[some], size.n_draws),
        "test": readings(model, X_test, y_test, size.n_draws),
    }


def run(root, names, size):
    for data, method, embedding in cells():
        name = cell_name(data, method, embedding)
        if names != ["all"] and name not in names:
            continue
        for seed in range(size.n_seeds):
            path = RESULTS / f"{size.name}-{name}-{seed}.json"
            if path.exists():
                continue
            record = measure(root, data, method, embedding, size, seed)
            path.write_text(json.dumps(record, indent=1) + "\n")
            mean = np.mean([draw["accuracy"] for draw in record["test"]["trajectory"]])
            print(f"{name}, seed {seed}: {mean:.2f} % on test images", flush=True)


def report():
    """Print the table of all that has been run, beside the paper's figures."""
    records = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    print("| size | cell | test accuracy, trajectories | log loss | by kernel | log loss | paper |")
    print("|---|---|---|---|---|---|---|")
    for size in SIZES:
        for data, method, embedding in cells():
            name = cell_name(data, method, embedding)
            mine = [r for r in records if (r["size"], r["cell"]) == (size, name)]
            if not mine:
                continue
            draws = [draw for r in mine for draw in r["test"]["trajectory"]]
            accuracy = [draw["accuracy"] for draw in draws]
            error = np.std(accuracy, ddof=1) / len(accuracy) ** 0.5
            loss = np.mean([draw["log_loss"] for draw in draws])
            kernel = [r["test"]["kernel"] for r in mine if "kernel" in r["test"]]
            by_kernel = (
                f"{np.mean([k['accuracy'] for k in kernel]):.2f} | "
                f"{np.mean([k['log_loss'] for k in kernel]):.3f}"
                if kernel
                else " | "
            )
            paper = FIGURES[method, data][EMBEDDINGS.index(embedding)]
            print(
                f"| {size} | {name} | {np.mean(accuracy):.2f} ± {error:.2f} | {loss:.3f} | "
                f"{by_kernel} | {paper} |"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", nargs="*", help="names of cells, or all")
    parser.add_argument("--root", help="folder of the data sets, in torchvision's layout")
    parser.add_argument("--size", choices=SIZES, default="paper")
    parser.add_argument("--report", action="store_true", help="print the table")
    options = parser.parse_args()
    known = {cell_name(*cell) for cell in cells()} | {"all"}
    strange = sorted(set(options.cells) - known)
    if strange:
        parser.error(f"no such cells: {strange}; there are {sorted(known)}")
    if options.cells:
        if options.root is None:
            parser.error("--root is needed to read the data sets")
        RESULTS.mkdir(exist_ok=True)
        run(options.root, options.cells, SIZES[options.size])
    if options.report:
        report()


if __name__ == "__main__":
    main()
