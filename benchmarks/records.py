"""What benchmarks that measure all at once share: two commands, and a file with how it was made."""

import argparse
import json
import platform
import warnings
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


def of_groups(groups, readings):
    """A function that measures all tables of all groups.

    Parameters
    ----------
    groups : dict of dict
        Tables, by their names, of each group.
    readings : callable
        From the names of a table and its group to records, which have these and their "model".
    """

    def measure():
        warnings.simplefilter("ignore")
        records = []
        for group, tables in groups.items():
            for name in tables:
                records += readings(name, group)
                print(name, flush=True)
        return records

    return measure


def report_of_groups(records, groups, models, ours):
    """Print means over a table's records, a row a table, and over the tables of each group.

    Parameters
    ----------
    records : list of dict
    groups : iterable of str
    models : sequence of str
    ours : str
        Of the models, the one that the others are compared with.
    """
    found = {group: by_table([r for r in records if r["group"] == group]) for group in groups}
    for group, tables in found.items():
        print(f"\n| log loss · accuracy, %: {group} | rows | inputs | {' | '.join(models)} |")
        print("|---" * (3 + len(models)) + "|")
        for table, by_model in tables.items():
            first = by_model[ours][0]
            cells = " | ".join(scores(by_model[model]) for model in models)
            print(f"| {table} | {first['rows']:,} | {first['columns']} | {cells} |")
    print(f"\n| {ours} against | | log loss times | lower on | accuracy more, % | CPU time times |")
    print("|---|---|---|---|---|---|")
    for group, tables in found.items():
        for other in (model for model in models if model != ours):
            cells, costs = compared(list(tables.values()), ours, other)
            print(f"| {other} | {group} | {cells} | {np.exp(np.log(costs).mean()):.1f} |")
