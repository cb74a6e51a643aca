"""What benchmarks that measure all at once share: two commands, and a file with how it was made."""

import argparse
import json
import platform
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits

from sknoprop import __version__

RESULTS = Path(__file__).parent / "results"


def run(name, description, measure, report, root=None, **more):
    """Measure with one thread, keep and print what was found; with ``--report`` print it only.

    Parameters
    ----------
    name : str
        Of the benchmark's script and of its file in ``results``.
    description : str
        Docstring of the script.
    measure : callable
        Gives the records, a list; with `root` it is given the folder, or None.
    report : callable
        Prints them.
    root : str, optional
        What ``--root`` is the folder of, if there is one.
    **more : dict
        What else the file is to say.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--report", action="store_true", help="print what was measured")
    if root is not None:
        parser.add_argument("--root", help=root)
    options = parser.parse_args()
    path = RESULTS / f"{name}.json"
    if options.report:
        report(json.loads(path.read_text())["records"])
        return
    torch.set_num_threads(1)
    with threadpool_limits(1):
        records = measure() if root is None else measure(options.root)
    made_with = {
        "command": f"python benchmarks/{name}.py" + (" --root DATA" if root else ""),
        "machine": f"{platform.machine()}, one thread",
        "versions": {
            "sknoprop": __version__,
            "scikit-learn": sklearn.__version__,
            "torch": torch.__version__,
        },
    }
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(made_with | more | {"records": records}, indent=1))
    report(records)


def judged(clf, X, y):
    """Accuracy and log loss of a fitted classifier on rows to test."""
    p = clf.predict_proba(X)
    return {
        "accuracy": float((clf.classes_[p.argmax(1)] == y).mean()),
        "log_loss": float(log_loss(y, p, labels=clf.classes_)),
    }


def by_table(records):
    """Records of each model, by its name, of each table, by its."""
    found = {}
    for r in records:
        found.setdefault(r["table"], {}).setdefault(r["model"], []).append(r)
    return found


def mean(records, what):
    """Of a reading, over the folds of a model on a table."""
    return np.mean([r[what] for r in records])


def scores(records):
    """Mean log loss and accuracy of a model on a table."""
    return f"{mean(records, 'log_loss'):.3f} · {100 * mean(records, 'accuracy'):.1f}"


def compared(tables, ours, other):
    """One model beside another over tables: cells of a row, and how many times the CPU time is.

    Parameters
    ----------
    tables : list of dict
        The records of each model, by its name, a dict a table.
    ours, other : str
        Names of models.

    Returns
    -------
    cells : str
        Log loss, by its logarithm, how often it is lower, and accuracy; with standard errors.
    costs : ndarray of shape (n_tables,)
    """
    ratios, gains, costs = (
        np.array([f(mean(t[ours], what), mean(t[other], what)) for t in tables])
        for what, f in (
            ("log_loss", lambda a, b: np.log(a / b)),
            ("accuracy", lambda a, b: 100 * (a - b)),
            ("fit_cpu_s", lambda a, b: a / b),
        )
    )
    errors = [values.std(ddof=1) / len(tables) ** 0.5 for values in (ratios, gains)]
    cells = (
        f"{np.exp(ratios.mean()):.3f} ± {errors[0]:.3f} | {(ratios < 0).sum()} of {len(tables)} | "
        f"{gains.mean():+.2f} ± {errors[1]:.2f}"
    )
    return cells, costs
