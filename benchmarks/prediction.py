"""Time and log loss of predictions beside MLPClassifier's, and what reuse of features saves.

    python benchmarks/prediction.py                     # tables, twenty minutes
    python benchmarks/prediction.py --root DATA         # images: steps of a sampler on a CNN
    python benchmarks/prediction.py --few               # a few rows at a time
    python benchmarks/prediction.py --classes 100       # of the tables these alone, anew
    python benchmarks/prediction.py --report

One thread. Tables: class kernels of all blocks for 100,000 rows of 20 features, 2, 10 and 100
classes, by number of blocks, draws and shape of the head, against one hidden layer of MLPClassifier
of the same width, and against the products of matrices alone that such a prediction consists of,
written in the fastest way there is here.
Images: 10,000 of MNIST by a trajectory of 1 and of 100 steps, and the paper's convolutional path
alone. Least CPU seconds of `REPEATS` runs in turn. A few rows: milliseconds of a call, median of
`CALLS` in turn, by `sknoprop.few_rows` and with as many rows as ever. Writes
``benchmarks/results/prediction.json``.
"""

import argparse
import json
import platform
import time
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from sknoprop import NoPropClassifier
from sknoprop.few_rows import FEW_ROWS
from sknoprop.inference import rows_at_once
from sknoprop.networks.heads import PIECE
from sknoprop.networks.products import stacked_product
from sknoprop.probes import kernel_levels

RESULTS = Path(__file__).parent / "results" / "prediction.json"
REPEATS = 2
CALLS = 50
WIDTH = 256
N_TRAIN, N_TEST = 10_000, 100_000

#: What differs from ten blocks, two draws, the default head and one hidden layer.
CASES = {
    "10 blocks": {},
    "1 block": {"n_blocks": 1},
    "5 blocks": {"n_blocks": 5},
    "20 blocks": {"n_blocks": 20},
    "10 blocks, 1 draw": {"n_draws": 1},
    "10 blocks, 4 draws": {"n_draws": 4},
    "10 blocks, 16 draws": {"n_draws": 16},
    "10 blocks, two layers": {"hidden_layer_sizes": (WIDTH, WIDTH)},
    "10 blocks, no bins": {"n_bins": 0},
    "10 blocks, the paper's head": {"head": "paper"},
}


def cpu(*functions):
    """Least CPU seconds of each, run in turn."""
    times = []
    for _ in range(REPEATS):
        times.append([])
        for function in functions:
            start = time.process_time()
            function()
            times[-1].append(time.process_time() - start)
    return [float(t) for t in np.min(times, 0)]


def products(clf, n_rows):
    """The products of matrices of a prediction by class kernels, on numbers already there."""
    model = clf.blocks_
    n_blocks, n_latents = model.n_blocks, model.embedding.n_classes * clf.n_draws
    rows = rows_at_once(model, clf.n_draws)
    layers = [layer.weight for layer in model.encoder.layers]
    inputs = [torch.randn(n_blocks, rows, weight.shape[1]) for weight in layers]
    outputs = model.head.out.weight.mT.contiguous()
    width = outputs.shape[2]
    # As the head has it: so many latents of one block that they stay in cache.
    n_pieces = max(rows * n_latents * width // PIECE, 1)
    hidden = torch.randn(rows * n_latents // n_pieces, width).T
    n_levels = kernel_levels(model).shape[1]

    def run():
        with torch.no_grad():
            for _ in range(-(-n_rows // rows)):
                for x, weight in zip(inputs, layers, strict=True):
                    stacked_product(x, weight)
                for weight in outputs:
                    for _ in range(n_levels * n_pieces):
                        weight @ hidden

    return run


def table(n_classes, case, params):
    X, y = make_classification(
        N_TRAIN + N_TEST, 20, n_informative=15, n_classes=n_classes, random_state=0
    )
    train, test = (X[:N_TRAIN], y[:N_TRAIN]), (X[N_TRAIN:], y[N_TRAIN:])
    params = {"n_blocks": 10, "hidden_layer_sizes": (WIDTH,)} | params
    clf = NoPropClassifier(**params, random_state=0).fit(*train)
    mlp = MLPClassifier((WIDTH,), random_state=0).fit(*train)
    predictions = [lambda: clf.predict_proba(test[0]), lambda: mlp.predict_proba(test[0])]
    light = params.get("head") != "paper"
    alone = [products(clf, N_TEST)] if light and n_classes <= 32 else []
    ours, theirs, *rest = cpu(*predictions, *alone)
    return {
        "classes": n_classes,
        "case": case,
        "cpu_s": ours,
        "mlp_cpu_s": theirs,
        "products_cpu_s": rest[0] if rest else None,
        "log_loss": log_loss(test[1], clf.predict_proba(test[0])),
        "mlp_log_loss": log_loss(test[1], mlp.predict_proba(test[0])),
    }


def images(root):
    from sknoprop.datasets import load_torchvision

    X, y = load_torchvision("MNIST", root=root, return_X_y=True)
    X_test, _ = load_torchvision("MNIST", root=root, train=False, return_X_y=True)
    clf = NoPropClassifier(
        "fm", encoder="cnn", max_iter=1, inference="trajectory", random_state=0
    ).fit(X[:1000], y[:1000])
    model = clf.blocks_

    def encode():
        with torch.no_grad():
            for rows in torch.as_tensor(X_test).split(100):
                model.encoder(model.encoder.prepare(rows.flatten(1)))

    def steps(n):
        return lambda: clf.set_params(n_steps=n).predict_proba(X_test)

    one, hundred, encoding = cpu(steps(1), steps(100), encode)
    return {
        "blocks": model.n_blocks,
        "one_step_cpu_s": one,
        "hundred_steps_cpu_s": hundred,
        "encoding_of_all_blocks_cpu_s": encoding,
    }


def few_rows():
    """Milliseconds of a call with a few rows, of models with their defaults."""
    for n_features, n_classes in ((20, 2), (20, 10), (784, 10)):
        X, y = make_classification(
            2_000, n_features, n_informative=15, n_classes=n_classes, random_state=0
        )
        clf = NoPropClassifier(max_iter=2, random_state=0).fit(X, y)
        mlp = MLPClassifier(max_iter=2, random_state=0).fit(X, y)
        trees = HistGradientBoostingClassifier(random_state=0).fit(X, y)
        for n_rows in (1, 10, 100):
            times = []
            for _ in range(CALLS):
                times.append([])
                for model, sizes in ((clf, FEW_ROWS), (clf, ()), (mlp, ()), (trees, ())):
                    with mock.patch("sknoprop.few_rows.FEW_ROWS", sizes):
                        start = time.perf_counter()
                        model.predict_proba(X[:n_rows])
                        times[-1].append(1e3 * (time.perf_counter() - start))
            names = "few_ms", "as_many_ms", "mlp_ms", "trees_ms"
            found = dict(zip(names, np.median(times, 0).round(3).tolist(), strict=True))
            yield {"features": n_features, "classes": n_classes, "rows": n_rows} | found


def report():
    found = json.loads(RESULTS.read_text())
    found.setdefault("tables", [])
    print("| classes | model | CPU s | times MLPClassifier | times its products | log loss |")
    print("|---|---|---|---|---|---|")
    for n_classes in dict.fromkeys(r["classes"] for r in found["tables"]):
        own = [r for r in found["tables"] if r["classes"] == n_classes]
        # One number to compare with: its readings, one beside each case, differ by far more than
        # what is compared.
        mlp = float(np.mean([r["mlp_cpu_s"] for r in own]))
        print(f"| {n_classes} | MLPClassifier | {mlp:.2f} | 1 | | {own[0]['mlp_log_loss']:.3f} |")
        for r in own:
            alone = r["products_cpu_s"]
            ratio = f"{r['cpu_s'] / alone:.2f}" if alone else ""
            print(
                f"| {n_classes} | {r['case']} | {r['cpu_s']:.2f} | "
                f"{r['cpu_s'] / mlp:.1f} | {ratio} | {r['log_loss']:.3f} |"
            )
    if "images" in found:
        r = found["images"]
        one, encoding = r["one_step_cpu_s"], r["encoding_of_all_blocks_cpu_s"]
        step = (r["hundred_steps_cpu_s"] - one) / 99
        print(
            f"\n100 steps take {r['hundred_steps_cpu_s'] / one:.2f} times one step; a further step "
            f"{100 * step * r['blocks'] / encoding:.2f} % of one block's encoding."
        )
    if "few_rows" in found:
        print(
            "\n| features | classes | rows | NoProp, ms | as many rows as ever, ms | "
            "MLPClassifier, ms | HistGradientBoosting, ms |\n|---|---|---|---|---|---|---|"
        )
        for r in found["few_rows"]:
            print("|", " | ".join(f"{r[k]:g}" for k in ("features", "classes", "rows")), end=" | ")
            names = "few_ms", "as_many_ms", "mlp_ms", "trees_ms"
            print(" | ".join(f"{r[name]:.2f}" for name in names), "|")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="folder of MNIST, in torchvision's layout")
    parser.add_argument("--few", action="store_true", help="a few rows alone")
    parser.add_argument("--classes", type=int, nargs="*", default=(2, 10, 100))
    parser.add_argument("--report", action="store_true", help="print what was measured")
    options = parser.parse_args()
    if options.report:
        report()
        return
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if options.root:
        found["images"] = images(options.root)
    elif options.few:
        found["few_rows"] = list(few_rows())
    else:
        found |= {
            "command": "python benchmarks/prediction.py",
            "machine": f"{platform.machine()}, one thread",
            "tables": [r for r in found.get("tables", []) if r["classes"] not in options.classes],
        }
        for n_classes in options.classes:
            for case, params in CASES.items() if n_classes == 2 else [("10 blocks", {})]:
                found["tables"].append(table(n_classes, case, params))
                print(found["tables"][-1], flush=True)
        found["tables"].sort(key=lambda r: r["classes"])
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with threadpool_limits(1):
        main()
