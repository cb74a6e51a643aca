"""Accuracy and log loss on scikit-learn's own data sets, beside MLPClassifier.

    python benchmarks/small_data.py             # measure (10 minutes) and print
    python benchmarks/small_data.py --report    # print what was measured

All defaults; every model behind the same StandardScaler (digits: pixels divided by 16). Prints a
table and writes ``benchmarks/results/small_data.json``. Nothing was tuned on these test rows: the
defaults were chosen on other tables.
"""

import time

import numpy as np
from records import run
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sknoprop import NoPropClassifier

HELD_OUT = "450 held out"
N_SEEDS = 20  # of which the first few are also reported on their own
FEW_SEEDS = 5
VARIANTS = ("dt", "ct", "fm")


def models(seed):
    yield "MLPClassifier", MLPClassifier(max_iter=1000, random_state=seed)
    for variant in VARIANTS:
        yield variant, NoPropClassifier(variant, random_state=seed)


def scaler(name):
    return FunctionTransformer(lambda X: X / 16) if name == "digits" else StandardScaler()


def evaluate(name, model, X_train, X_test, y_train, y_test):
    """Accuracy, log loss and CPU seconds of fit and predict; those of a first block alone."""
    pipeline = make_pipeline(scaler(name), model)
    start = time.process_time()
    pipeline.fit(X_train, y_train)
    fitted = time.process_time()
    proba = pipeline.predict_proba(X_test)
    predicted = time.process_time()
    record = {
        "accuracy": float(np.mean(model.classes_[proba.argmax(1)] == y_test)),
        "log_loss": float(log_loss(y_test, proba)),
        "fit_cpu_s": fitted - start,
        "predict_cpu_s": predicted - fitted,
    }
    if isinstance(model, NoPropClassifier):
        rows = pipeline[:-1].transform(X_test)
        p = next(model.staged_predict_proba(rows))
        record["first block"] = {
            "accuracy": float(np.mean(model.classes_[p.argmax(1)] == y_test)),
            "log_loss": float(log_loss(y_test, p)),
        }
    return record


def splits():
    X, y = load_digits(return_X_y=True)
    parts = train_test_split(X, y, test_size=450, stratify=y, random_state=0)
    for seed in range(N_SEEDS):
        yield "digits", HELD_OUT, seed, parts
    for name, load in (
        ("digits", load_digits),
        ("breast cancer", load_breast_cancer),
        ("wine", load_wine),
    ):
        X, y = load(return_X_y=True)
        folds = StratifiedKFold(3, shuffle=True, random_state=0)
        for fold, (train, test) in enumerate(folds.split(X, y)):
            yield name, "3-fold", fold, (X[train], X[test], y[train], y[test])


def measure():
    records = []
    for name, protocol, seed, parts in splits():
        for label, model in models(seed):
            record = {"data": name, "protocol": protocol, "seed": seed, "model": label}
            records.append(record | evaluate(name, model, *parts))
    return records


def report(records):
    """Print one row for each model on each data set: mean and deviation over seeds or folds."""
    readings = ("first block",)
    print("| data | model | accuracy % | log loss | first block | CPU s |")
    print("|---|---|---|---|---|---|")
    groups: dict[tuple, list] = {}
    for r in records:
        names = [f"{r['data']}, {r['protocol']}"]
        if r["protocol"] == HELD_OUT:
            few = [f"{names[0]}, {FEW_SEEDS} seeds"] if r["seed"] < FEW_SEEDS else []
            names = [*few, f"{names[0]}, {N_SEEDS} seeds"]
        for name in names:
            groups.setdefault((name, r["model"]), []).append(r)
    for (data, model), group in groups.items():
        accuracy = np.array([100 * r["accuracy"] for r in group])
        loss = np.array([r["log_loss"] for r in group])
        cells = [
            data,
            model,
            f"{accuracy.mean():.2f} ± {accuracy.std():.2f}",
            f"{loss.mean():.4f} ± {loss.std():.4f}",
        ]
        cells += [
            f"{np.mean([r[key]['log_loss'] for r in group]):.4f}" if key in group[0] else ""
            for key in readings
        ]
        cells.append(f"{np.mean([r['fit_cpu_s'] + r['predict_cpu_s'] for r in group]):.1f}")
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    run("small_data", __doc__, measure, report)
