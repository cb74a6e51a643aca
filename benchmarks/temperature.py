"""Temperatures that fits find, beside those that rows never seen ask for.

    python benchmarks/temperature.py                    # made data and scikit-learn's
    python benchmarks/temperature.py --data FOLDER      # and the tables of tables.py, ten minutes
    python benchmarks/temperature.py --data FOLDER --shared     # what blocks share, twenty minutes
    python benchmarks/temperature.py --report           # print what was measured

Blocks leave rows out, which show the temperature of a block *alone*; that of their mean is carried
on from it without labels (`sknoprop.calibration.temperature_ratio`). Here both are set beside the
likeliest ones by labels of three test folds, and log losses at each: without a temperature, at that
of blocks alone, at that of the mean, and at the best one, which only test labels know. "fm" with
its defaults. With ``--shared`` those of models whose blocks share an embedding or a schedule, which
has seen all rows, whichever block leaves them out; on the smaller tables. Writes
``benchmarks/results/temperature.json``.
"""

import argparse
import json
import math
import platform
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from sklearn.datasets import make_classification
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from tables import TABLES, load, preprocessing
from threadpoolctl import threadpool_limits

import sknoprop.fitting
from sknoprop import NoPropClassifier, __version__

RESULTS = Path(__file__).parent / "results" / "temperature.json"

#: Rows, informative features of twenty, classes, share of wrong labels, blocks.
MADE = {
    "made, 2 classes": (15_000, 15, 2, 0.01, 5),
    "made, 10 classes": (15_000, 15, 10, 0.01, 5),
    "made, 10 classes, 10 blocks": (15_000, 15, 10, 0.01, 10),
    "made, 4 classes, a fifth of labels wrong": (4_500, 10, 4, 0.2, 5),
    "made, 3 classes, few rows": (300, 5, 3, 0.1, 5),
}

#: Models whose blocks share something that is trained.
SHARED = {
    "dt, learned embedding": {"variant": "dt", "embedding": "learned"},
    "dt, prototypes": {"variant": "dt", "embedding": "prototype"},
    "fm, learned embedding": {"variant": "fm", "embedding": "learned"},
    "ct, learned schedule": {"variant": "ct", "schedule": "learned"},
}

#: The smaller tables: of those with at most so many rows.
FEW_ROWS = 2_000


def data(name, folder):
    """Features, labels and number of blocks."""
    if name in MADE:
        n_rows, informative, n_classes, wrong, n_blocks = MADE[name]
        X, y = make_classification(
            n_rows, 20, n_informative=informative, n_classes=n_classes, flip_y=wrong, random_state=0
        )
        return X, y, n_blocks
    X, y = load(name, folder)
    return X, y, 5


def tempered(p, temperature):
    """The mean of estimates, each to a power; apart from the package's own."""
    power = np.exp(np.log(np.maximum(p, 1e-300)) / temperature)
    return (power / power.sum(-1, keepdims=True)).mean(0)


def likeliest(losses):
    """The temperature at which a loss is least."""
    found = minimize_scalar(lambda log_t: losses(math.exp(log_t)), bounds=(-2.5, 2.5))
    return math.exp(found.x)


def fold(X, y, params, train, test, seed):
    if hasattr(X, "iloc"):
        scale = preprocessing(X).fit(X.iloc[train])
        X_train, X_test = scale.transform(X.iloc[train]), scale.transform(X.iloc[test])
    else:
        X_train, X_test = X[train], X[test]
    alone = []

    def spy(model, *arguments):
        alone.append(float(model.temperature))
        calibrate_mean(model, *arguments)

    calibrate_mean = sknoprop.fitting.calibrate_mean
    with mock.patch("sknoprop.fitting.calibrate_mean", spy):
        clf = NoPropClassifier(**params, random_state=seed).fit(X_train, y[train])
    clf.blocks_.temperature.fill_(1.0)
    p = clf.predict_block_proba(X_test)

    def loss(temperature, estimates=p):
        return log_loss(y[test], tempered(estimates, temperature), labels=clf.classes_)

    best_alone = likeliest(lambda t: np.mean([loss(t, own[None]) for own in p]))
    best = likeliest(loss)
    return {
        "alone": alone[0],
        "alone_by_labels": best_alone,
        "mean": clf.temperature_,
        "mean_by_labels": best,
        "loss_without": loss(1.0),
        "loss_alone": loss(alone[0]),
        "loss_mean": loss(clf.temperature_),
        "loss_best": loss(best),
    }


def main(folder, shared):
    torch.set_num_threads(1)
    records = []
    names = [t for t in TABLES if folder or TABLES[t] is None]
    with threadpool_limits(1):
        for name in names if shared else [*MADE, *names]:
            X, y, n_blocks = data(name, folder)
            cases = SHARED if shared else {None: {"variant": "fm", "n_blocks": n_blocks}}
            if shared and len(y) > FEW_ROWS:
                continue
            for case, params in cases.items():
                folds = StratifiedKFold(3, shuffle=True, random_state=0).split(X, y)
                found = [fold(X, y, params, *rows, seed) for seed, rows in enumerate(folds)]
                records.append({"data": name, "folds": found} | ({"case": case} if case else {}))
                print(line(records[-1]), flush=True)
    where = {
        "machine": platform.machine(),
        "torch": torch.__version__,
        "sknoprop": __version__,
    }
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found = (
        {"where_shared": where, "shared": records}
        if shared
        else {"where": where, "records": records}
    )
    RESULTS.write_text(json.dumps(known | found, indent=1) + "\n")


def line(record):
    mean = {k: np.mean([f[k] for f in record["folds"]]) for k in record["folds"][0]}
    temperatures = " | ".join(
        f"{mean[k]:.2f}" for k in ("alone", "alone_by_labels", "mean", "mean_by_labels")
    )
    losses = " | ".join(f"{mean[f'loss_{k}']:.4f}" for k in ("without", "alone", "mean", "best"))
    data = ", ".join([record["data"], *([record["case"]] if "case" in record else [])])
    return f"| {data} | {temperatures} | {losses} |"


def report():
    found = json.loads(RESULTS.read_text())
    print_table(found["records"])
    if "shared" not in found:
        return
    for case in SHARED:
        print(f"\n{case}:\n")
        print_table([record for record in found["shared"] if record["case"] == case])
    print("\nLog loss at the mean's T, and times that of one-hot embeddings (geometric means):\n")
    losses = {(r.get("case"), r["data"]): mean_of(r, "loss_mean") for r in records_of(found)}
    names = list(dict.fromkeys(r["data"] for r in found["shared"]))
    print(f"| | fm, one-hot | {' | '.join(SHARED)} |\n{'|---' * (len(SHARED) + 2)}|")
    for name in names:
        print(f"| {name} | {' | '.join(f'{losses[case, name]:.4f}' for case in [None, *SHARED])} |")
    ratios = [[losses[case, n] / losses[None, n] for n in names] for case in [None, *SHARED]]
    print(f"| times one-hot | {' | '.join(f'{np.exp(np.log(r).mean()):.2f}' for r in ratios)} |")


def records_of(found):
    return [*found["records"], *found["shared"]]


def mean_of(record, name):
    return np.mean([fold[name] for fold in record["folds"]])


def print_table(records):
    print("| | a block's T | by test labels | the mean's T | by test labels |", end="")
    print(" log loss, T = 1 | a block's T | the mean's T | the best T |")
    print("|---" * 9 + "|")
    for record in records:
        print(line(record))
    ratios = [
        {k: np.mean([f[f"loss_{k}"] for f in r["folds"]]) for k in ("without", "alone", "mean")}
        for r in records
    ]
    for other in ("without", "alone"):
        logs = np.log([r["mean"] / r[other] for r in ratios])
        print(
            f"\nAt the mean's T log losses are {math.exp(logs.mean()):.3f} times those "
            f"{'without one' if other == 'without' else 'at the T of a block'} "
            f"(standard error {logs.std(ddof=1) / math.sqrt(len(logs)):.3f}), "
            f"lower on {(logs < 0).sum()} of {len(logs)}."
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of tables, see benchmarks/tables.py --help")
    parser.add_argument(
        "--shared", action="store_true", help="embeddings and schedules that are learned"
    )
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    if not arguments.report:
        main(arguments.data, arguments.shared)
    report()
