"""Rows of a class that was never seen, and which doubt tells them from the others.

    python benchmarks/strangers.py --data FOLDER    # measure what is not in the results yet
    python benchmarks/strangers.py --report         # print the table of the docs

One class of a table is kept from training, for each class in turn, and models are asked about
rows of all. For each measure of doubt the chance that a row of the unknown class has more of it
than one of the others (area under the ROC curve; 0.5 is no better than chance):

* *entropy* of the class probabilities;
* *disagreement* of the blocks, or of a twin's networks: by how much that entropy exceeds the mean
  entropy of each one's own probabilities;
* *asymmetry* of the blocks' class kernels, mean over blocks: kernels of the exact posterior have
  none, so it shows where blocks contradict themselves. No plain network has a kernel.

Tables, folds and models are those of ``benchmarks/tables.py``: up to 800 rows to learn from, up
to 2,000 to test. Records are added to ``benchmarks/results/strangers.jsonl``.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import tables
import torch
from hard_data import N_ROWS, run, split
from scipy.stats import entropy
from sklearn.metrics import roc_auc_score

from sknoprop.kernels import asymmetry, stationary_distribution

RESULTS = Path(__file__).parent / "results" / "strangers.jsonl"
TABLES = ("digits", "vowel", "satimage", "vehicle", "glass", "wine", "iris")
OURS = ("dt", "ct", "fm")
MODELS = (*OURS, "twin-t", "MLPClassifier")
N_SEEDS = 3


def doubts(model, name, X):
    """Measures of doubt by their names, a value a row."""
    p = model.predict_proba(X)
    found = {"entropy": entropy(p, axis=1)}
    if name != "MLPClassifier":
        found["disagreement"] = model.predict_disagreement(X)
    if name in OURS:
        kernel = torch.as_tensor(model.predict_class_kernel(X))
        found["asymmetry"] = asymmetry(kernel, stationary_distribution(kernel)).mean(0).numpy()
    return found


def measure(X, y, name, seed):
    """Records of one model on one table: one for each class that is kept from it."""
    rows, others, labels, of_others = split(X, y, N_ROWS, seed)
    for stranger in np.unique(labels):
        known = labels != stranger
        if len(np.unique(labels[known])) < 2 or not (of_others == stranger).any():
            continue
        model = tables.make(name, seed).fit(rows[known], labels[known])
        is_stranger = of_others == stranger
        for what, values in doubts(model, name, others).items():
            auc = round(float(roc_auc_score(is_stranger, values)), 6)
            yield {"class": str(stranger), "doubt": what, "auc": auc}


def report(records):
    """Print the table of the docs, in Markdown."""
    values = defaultdict(list)
    for record in records:
        for r in record["found"]:
            values[record["table"], record["model"], r["doubt"]].append(r["auc"])
    kinds = [
        (model, doubt)
        for model in MODELS
        for doubt in ("entropy", "disagreement", "asymmetry")
        if any(key[1:] == (model, doubt) for key in values)
    ]
    heads = [f"{model}, {doubt}" for model, doubt in kinds]
    print(f"| | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    names = [table for table in TABLES if any(key[0] == table for key in values)]
    means = np.array([[np.mean(values[(table, *kind)]) for kind in kinds] for table in names])
    for table, line in zip(
        [*names, f"**mean of {len(names)}**"], [*means, means.mean(0)], strict=True
    ):
        print(f"| {table} | {' | '.join(f'{value:.3f}' for value in line)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of tables, see benchmarks/tables.py --help")
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    if not arguments.report:
        run(RESULTS, TABLES, MODELS, N_SEEDS, measure, arguments.data)
    report(tables.read(RESULTS))
