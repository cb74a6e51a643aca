"""Few rows, wrong labels, disturbed inputs: NoProp beside its honest twin.

    python benchmarks/hard_data.py --data FOLDER    # measure what is not in the results yet
    python benchmarks/hard_data.py --report         # print the tables of the docs

On tables that are as their users would wish, plain networks that are trained as NoProp's blocks
are and find their temperature in the same way are as good (``benchmarks/tables.py``). Here data are
worse:

* *few rows*: 50 to 400 to learn from;
* *wrong labels*: of up to 800 training rows a share has a label of another row, drawn at random;
* *noise*: what was learnt from up to 800 rows is asked about inputs with normal noise added;
* *missing*: the same with a share of the inputs replaced by their mean.

Eight of the tables of ``benchmarks/tables.py``, which has the models, too, with all defaults; up to
2,000 other rows to test. A table, a seed and a condition have the same rows for all models. *short*
is the same with a quarter of the epochs of the first cycle, and no other: what is learnt by heart
is learnt late.
Records are added to ``benchmarks/results/hard_data.jsonl`` as they are made.
"""

import argparse
import json
import math
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import tables
import torch
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from sknoprop.defaults import fill_in

RESULTS = Path(__file__).parent / "results" / "hard_data.jsonl"
TABLES = ("digits", "vowel", "vehicle", "satimage", "spambase", "magic", "banknote", "pima")
OURS = ("dt", "ct", "fm")
TWINS = ("twin-t", "twin-l2-t")
SHORT = ("fm short", "twin-t short", "twin-l2-t short")
MODELS = (*OURS, *TWINS, *SHORT, "MLPClassifier", "HistGradientBoosting")
N_SEEDS = 5
N_ROWS, N_TEST = 800, 2_000

FEW = (50, 100, 200, 400)
WRONG = (0.1, 0.2, 0.4)
NOISE = (0.5, 1.0, 2.0)
MISSING = (0.2, 0.4, 0.6)


def split(X, y, n_rows, seed):
    """Standardised rows to learn from and to test, and their labels; each class twice or more."""
    n_rows = min(n_rows, 2 * len(X) // 3)
    X, X_test, y, y_test = train_test_split(
        X,
        y,
        train_size=n_rows,
        test_size=min(N_TEST, len(X) - n_rows),
        stratify=y,
        random_state=seed,
    )
    scale = StandardScaler().fit(X)
    return scale.transform(X), scale.transform(X_test), y, y_test


def scores(what, size, model, X, y):
    """What was found in one case, and in which."""
    p = np.asarray(model.predict_proba(X), dtype=float)
    correct = model.classes_[p.argmax(1)] == y
    return {
        "what": what,
        "how much": size,
        "accuracy": round(float(correct.mean()), 6),
        "log_loss": round(float(log_loss(y, p, labels=model.classes_)), 6),
        "ece": round(float(tables.calibration_error(p, correct)), 6),
    }


def trained(name, seed, X, y):
    model = tables.make(name.removesuffix(" short"), seed)
    if name in SHORT:
        filled = fill_in(model.get_params(), len(X), len(np.unique(y)))
        model.set_params(max_iter=math.ceil(filled["max_iter"] / 4))
    return model.fit(X, y)


def measure(X, y, name, seed):
    """What was found of one model on one table's rows, case by case."""
    for n_rows in FEW:
        rows, others, labels, of_others = split(X, y, n_rows, seed)
        yield scores("few rows", n_rows, trained(name, seed, rows, labels), others, of_others)
    rows, others, labels, of_others = split(X, y, N_ROWS, seed)
    model, random = trained(name, seed, rows, labels), np.random.default_rng(seed)
    yield scores("as they are", len(rows), model, others, of_others)
    noise, draw = random.standard_normal(others.shape), random.random(others.shape)
    for size in NOISE:
        yield scores("noise", size, model, others + size * noise, of_others)
    for share in MISSING:
        # Standardised numbers have a mean of nought.
        yield scores("missing", share, model, np.where(draw < share, 0.0, others), of_others)
    other, draw = random.permutation(labels), random.random(len(labels))
    for share in WRONG:
        wrong = np.where(draw < share, other, labels)
        yield scores("wrong labels", share, trained(name, seed, rows, wrong), others, of_others)


def run(results, names, models, n_seeds, measure, folder):
    """Add records to a file: of each seed, table and model one that is not there, as it is made.

    Parameters
    ----------
    results : Path
    names, models : sequence of str
        Of tables and models.
    n_seeds : int
    measure : callable
        From a table's inputs and labels, a model's name and a seed to what was found.
    folder : str or None
        Of the tables that scikit-learn does not ship.
    """
    made_with = tables.where()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    done = {(r["table"], r["model"], r["seed"]) for r in tables.read(results)}
    with threadpool_limits(1), results.open("a") as file:
        for seed in range(n_seeds):
            for table in names:
                X, y = tables.load(table, folder)
                for name in models:
                    if (table, name, seed) in done:
                        continue
                    at = {"table": table, "model": name, "seed": seed}
                    found = list(measure(X.to_numpy(dtype=float), y, name, seed))
                    file.write(json.dumps(at | made_with | {"found": found}) + "\n")
                    file.flush()
                    print(*at.values(), flush=True)


def report(records):
    """Print the tables of the docs, in Markdown."""
    values = defaultdict(list)
    for record in records:
        for r in record["found"]:
            size = None if r["what"] == "as they are" else r["how much"]
            for key in ("accuracy", "log_loss", "ece"):
                case = key, r["what"], size, record["model"], record["table"]
                values[case].append(r[key])
    conditions = dict.fromkeys(key[1:3] for key in values)
    models = [m for m in MODELS if any(key[3] == m for key in values)]
    names = [t for t in TABLES if any(key[4] == t for key in values)]

    def of_tables(key, condition, model):
        return np.array([np.mean(values[(key, *condition, model, t)]) for t in names])

    for title, key, factor, digits in (
        ("Accuracy, %", "accuracy", 100, 1),
        ("Log loss", "log_loss", 1, 3),
        ("Expected calibration error, %", "ece", 100, 1),
    ):
        print(f"\n### {title}\n\n| | | {' | '.join(models)} |\n|---|---|{'---|' * len(models)}")
        for condition in conditions:
            cells = [
                f"{factor * of_tables(key, condition, model).mean():.{digits}f}" for model in models
            ]
            print(f"| {condition[0]} | {condition[1] or ''} | {' | '.join(cells)} |")
    twins = (*TWINS, *SHORT[1:])
    print(
        '\n### "dt" less its twins: accuracy, %, and log loss, means over tables (standard error)\n'
    )
    heads = [f"{twin}, {what}" for twin in twins for what in ("accuracy", "log loss")]
    print(f"| | | {' | '.join(heads)} |\n|{'---|' * 10}")
    for condition in conditions:
        cells = []
        for twin in twins:
            for key, factor, digits in (("accuracy", 100, 1), ("log_loss", 1, 3)):
                own = of_tables(key, condition, "dt")
                gain = factor * (own - of_tables(key, condition, twin))
                error = gain.std(ddof=1) / len(gain) ** 0.5
                cells.append(f"{gain.mean():+.{digits}f} ({error:.{digits}f})")
        print(f"| {condition[0]} | {condition[1] or ''} | {' | '.join(cells)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of tables, see benchmarks/tables.py --help")
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    if not arguments.report:
        run(RESULTS, TABLES, MODELS, N_SEEDS, measure, arguments.data)
    report(tables.read(RESULTS))
