"""Ways of making one prediction of all blocks, from the same fits on fifteen tables.

    python benchmarks/combining.py --data FOLDER    # measure (15 minutes) and print
    python benchmarks/combining.py --report         # print what was measured

* "mean of laws": the mean of the blocks' own estimates, which `predict_proba` gives;
* "mean kernel": the law of the mean of the blocks' kernels;
* "trajectories": the default read-out along the paper's trajectories;

each with two draws, as by default, and with 32. Also each block's own estimate. Tables, folds and
preprocessing are those of ``benchmarks/tables.py``, one repeat, all defaults but for
``calibrate=False``, as temperatures belong to the first way alone. Writes
``benchmarks/results/combining.json``.
"""

import argparse
import json
import platform
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from tables import OURS, TABLES, load, make, preprocessing
from threadpoolctl import threadpool_limits

from sknoprop import __version__
from sknoprop.kernels import stationary_distribution

RESULTS = Path(__file__).parent / "results" / "combining.json"
DRAWS = (2, 32)


def predictions(model, X):
    """Class probabilities by name."""
    for n in DRAWS:
        model.set_params(n_draws=n, inference="kernel")
        blocks = model.predict_block_proba(X)
        if n == DRAWS[0]:
            yield from ((f"block {i}", p) for i, p in enumerate(blocks, 1))
        yield f"mean of laws, {n} draws", model.predict_proba(X)
        yield f"mean kernel, {n} draws", law_of_mean_kernel(model, X)
        model.set_params(inference="trajectory")
        yield f"trajectories, {n} draws", model.predict_proba(X)


def law_of_mean_kernel(model, X, at_once=2_000):
    parts = [X[start : start + at_once] for start in range(0, len(X), at_once)]
    kernels = [torch.as_tensor(model.predict_class_kernel(part).mean(0)) for part in parts]
    return stationary_distribution(torch.cat(kernels)).numpy()


def measure(table, folder):
    X, y = load(table, folder)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    for fold, (train, test) in enumerate(folds.split(X, y)):
        scale = preprocessing(X).fit(X.iloc[train])
        for variant in OURS:
            model = make(variant, fold).set_params(calibrate=False)
            model.fit(scale.transform(X.iloc[train]), y[train])
            for way, p in predictions(model, scale.transform(X.iloc[test])):
                yield {
                    "table": table,
                    "fold": fold,
                    "variant": variant,
                    "way": way,
                    "accuracy": float(np.mean(model.classes_[p.argmax(1)] == y[test])),
                    "log_loss": float(log_loss(y[test], p, labels=model.classes_)),
                }


def report(records):
    """Print the table of the docs, in Markdown."""
    ways = list(dict.fromkeys(r["way"] for r in records))
    tables = list(dict.fromkeys(r["table"] for r in records))

    def means(variant, way, key):
        return np.array(
            [
                np.mean([r[key] for r in records if (r["table"], r["variant"], r["way"]) == cell])
                for cell in ((table, variant, way) for table in tables)
            ]
        )

    print(f"\nMeans over {len(tables)} tables; ratios: geometric means, with their errors\n")
    print("| way | " + " | ".join(f"{v}: log loss | ratio | accuracy, %" for v in OURS) + " |")
    print("|---" * (3 * len(OURS) + 1) + "|")
    for way in ways:
        cells = []
        for variant in OURS:
            ours = means(variant, ways[ways.index("mean of laws, 2 draws")], "log_loss")
            found = means(variant, way, "log_loss")
            ratio = np.log(found / ours)
            error = ratio.std(ddof=1) / len(ratio) ** 0.5 if len(ratio) > 1 else np.nan
            cells += [
                f"{found.mean():.4f}",
                f"{np.exp(ratio.mean()):.3f} ± {error:.3f}",
                f"{100 * means(variant, way, 'accuracy').mean():.2f}",
            ]
        print(f"| {way} | {' | '.join(cells)} |")


def main(folder):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    records = []
    with threadpool_limits(1):
        for table in TABLES:
            if folder or TABLES[table] is None:
                records += measure(table, folder)
                print(table, flush=True)
    document = {
        "command": "python benchmarks/combining.py --data FOLDER",
        "machine": f"{platform.machine()}, one thread",
        "versions": {"sknoprop": __version__, "torch": torch.__version__},
        "records": records,
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of tables, see benchmarks/tables.py --help")
    parser.add_argument("--report", action="store_true", help="print what was measured")
    arguments = parser.parse_args()
    if not arguments.report:
        main(arguments.data)
    report(json.loads(RESULTS.read_text())["records"])
