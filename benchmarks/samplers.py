"""Trajectories by every sampler at 1 to 40 steps: accuracy and log loss.

    python benchmarks/samplers.py             # measure (10 minutes) and print
    python benchmarks/samplers.py --report    # print what was measured

All defaults but for `inference`, `sampler`, `n_steps` and `readout`; three folds, each with a seed
of its own, of the first 1347 rows of the digits (the other 450 are kept for tests), of breast
cancer and wine. Prints tables and writes ``benchmarks/results/samplers.json``. Blocks for "dt" know
one noise level each: more steps than the five blocks are five.
"""

import numpy as np
from records import run
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, train_test_split

from sknoprop import NoPropClassifier
from sknoprop.samplers import SAMPLERS

VARIANTS = ("dt", "ct", "fm")
READOUTS = ("denoiser", "linear", "posterior")
N_STEPS = (1, 2, 5, 10, 40)
SEEDS = (0, 1, 2)


def splits():
    X, y = load_digits(return_X_y=True)
    X_train, _, y_train, _ = train_test_split(X, y, test_size=450, stratify=y, random_state=0)
    tables = {
        "digits": (X_train, y_train),
        "breast cancer": load_breast_cancer(return_X_y=True),
        "wine": load_wine(return_X_y=True),
    }
    for name, (X, y) in tables.items():
        folds = StratifiedKFold(len(SEEDS), shuffle=True, random_state=0)
        for seed, (train, test) in zip(SEEDS, folds.split(X, y), strict=True):
            yield name, seed, X[train], X[test], y[train], y[test]


def measured(y, proba):
    return {
        "accuracy": float(np.mean(proba.argmax(1) == y)),
        "log_loss": float(log_loss(y, proba)),
    }


def readings(X_train, X_test, y_train, y_test, seed):
    """Every variant, read-out, sampler and number of steps on one split."""
    for variant in VARIANTS:
        for readout in READOUTS:
            model = NoPropClassifier(variant, readout=readout, random_state=seed)
            model.fit(X_train, y_train)
            own = {"variant": variant, "readout": readout}
            if readout == READOUTS[0]:  # blocks are the same whatever the read-out
                kernel = measured(y_test, model.predict_proba(X_test))
                yield {"variant": variant, "readout": "class kernel"} | kernel
            model.set_params(inference="trajectory")
            for sampler in SAMPLERS:
                for n_steps in N_STEPS:
                    model.set_params(sampler=sampler, n_steps=n_steps)
                    at = {"sampler": sampler, "n_steps": n_steps}
                    yield own | at | measured(y_test, model.predict_proba(X_test))


def measure():
    return [
        {"data": name, "seed": seed} | reading
        for name, seed, *parts in splits()
        for reading in readings(*parts, seed)
    ]


def report(records):
    """Print accuracy and log loss by sampler and steps, means over seeds, a table a data set."""
    groups: dict[tuple, dict[tuple, list]] = {}
    for r in records:
        at = r["readout"], r["variant"], r.get("sampler", "")
        by_steps = groups.setdefault((r["data"], *at), {})
        by_steps.setdefault(r.get("n_steps"), []).append((100 * r["accuracy"], r["log_loss"]))
    for data in dict.fromkeys(r["data"] for r in records):
        print(f"\n{data}: accuracy % / log loss\n")
        print(f"| read-out | variant | sampler | {' | '.join(map(str, N_STEPS))} |")
        print(f"|---|---|---|{'---|' * len(N_STEPS)}")
        for (name, *key), by_steps in groups.items():
            if name == data:
                means = [np.mean(pairs, axis=0) for pairs in by_steps.values()]
                cells = [f"{accuracy:.1f} / {loss:.3f}" for accuracy, loss in means]
                cells += [""] * (len(N_STEPS) - len(cells))
                print(f"| {' | '.join([*key, *cells])} |")


if __name__ == "__main__":
    run("samplers", __doc__, measure, report, seeds=SEEDS)
