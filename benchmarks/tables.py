"""Fifteen real tables: all defaults, beside the peers, in one standard pipeline.

    python benchmarks/tables.py --data FOLDER           # measure what is not in the results yet
    python benchmarks/tables.py --data FOLDER --tables wine,glass --models dt,MLPClassifier
    python benchmarks/tables.py --report                # print the tables of the docs

Four tables come with scikit-learn; FOLDER has the eleven others as comma-separated files, label
last (see TABLES; from the UCI repository, CC BY 4.0). Without --data the four are measured.

Three times three stratified folds, the same for all models; each model behind the same
preprocessing (standardised numbers; for "adult" a ColumnTransformer that encodes text one-hot),
with its own defaults and one thread, a table in a process of its own. Records are added to
``benchmarks/results/tables.jsonl`` as they are made. The peers CatBoost, RealMLP and TabM
(``pip install catboost pytabkit``) are left out where they are not installed.

No default was chosen on these tables; they were chosen on other ones.
"""

import argparse
import json
import platform
import resource
import time
import warnings
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "tables.jsonl"

#: File and whether it has a header; None for what scikit-learn ships.
TABLES = {
    "iris": None,
    "wine": None,
    "sonar": ("sonar.csv", False),
    "glass": ("glass.csv", False),
    "ionosphere": ("ionosphere.csv", False),
    "breast_cancer": None,
    "pima": ("pima-indians-diabetes.csv", False),
    "vehicle": ("vehicle.csv.gz", False),
    "vowel": ("vowel.csv.gz", False),
    "banknote": ("banknote_authentication.csv", False),
    "digits": None,
    "spambase": ("spambase.csv.gz", False),
    "satimage": ("satimage.csv.gz", False),
    "magic": ("magic.csv.gz", False),
    "adult": ("adult.csv.gz", True),
}

OURS = ("dt", "ct", "fm")
#: Without a temperature and in a single cycle; and with both as NoProp has them.
TWINS = ("twin", "twin-l2", "twin-t", "twin-l2-t")
PEERS = (
    "MLPClassifier",
    "LogisticRegression",
    "HistGradientBoosting",
    "CatBoost",
    "RealMLP",
    "TabM",
)
MODELS = (*OURS, *TWINS, *PEERS)


def make(name, seed):
    if name in OURS:
        from sknoprop import NoPropClassifier

        return NoPropClassifier(name, random_state=seed)
    if name in TWINS:
        import twin

        cls = twin.SquaredErrorEnsemble if "l2" in name else twin.PlainEnsemble
        return cls(calibrate=name.endswith("-t"), random_state=seed)
    if name == "CatBoost":
        from catboost import CatBoostClassifier

        return CatBoostClassifier(
            random_seed=seed, thread_count=1, verbose=0, allow_writing_files=False
        )
    if name == "RealMLP":
        from pytabkit import RealMLP_TD_Classifier

        return RealMLP_TD_Classifier(random_state=seed, device="cpu", n_threads=1, verbosity=0)
    if name == "TabM":
        from pytabkit import TabM_D_Classifier

        return TabM_D_Classifier(random_state=seed, device="cpu", n_threads=1, verbosity=0)
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    return {
        "MLPClassifier": MLPClassifier(random_state=seed),
        "LogisticRegression": LogisticRegression(max_iter=1000),
        "HistGradientBoosting": HistGradientBoostingClassifier(random_state=seed),
    }[name]


def load(name, folder):
    """Features as a data frame and labels as strings."""
    import pandas as pd
    from sklearn import datasets

    if TABLES[name] is None:
        X, y = getattr(datasets, f"load_{name}")(return_X_y=True, as_frame=True)
        return X, y.astype(str).to_numpy()
    file, header = TABLES[name]
    table = pd.read_csv(Path(folder) / file, header="infer" if header else None)
    table.columns = [str(column) for column in table.columns]
    return table.iloc[:, :-1], table.iloc[:, -1].astype(str).to_numpy()


def preprocessing(X):
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = X.select_dtypes("number").columns
    texts = X.columns.difference(numbers)
    if not len(texts):
        return StandardScaler()
    return make_column_transformer(
        (StandardScaler(), numbers),
        (
            make_pipeline(
                SimpleImputer(strategy="constant", fill_value="missing"),
                OneHotEncoder(handle_unknown="ignore", sparse_output=False),
            ),
            texts,
        ),
    )


def calibration_error(p, correct, n_bins=15):
    """Expected calibration error of the top label (Guo et al. 2017), equal-width bins."""
    confidence = p.max(1)
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    return sum(
        (bins == b).mean() * abs(confidence[bins == b].mean() - correct[bins == b].mean())
        for b in np.unique(bins)
    )


def measure(table, name, folder, n_repeats):
    """Records of one model on one table; run in a process of its own for the memory."""
    import torch
    from sklearn.metrics import log_loss
    from sklearn.model_selection import RepeatedStratifiedKFold
    from threadpoolctl import threadpool_limits

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    X, y = load(table, folder)
    folds = RepeatedStratifiedKFold(n_splits=3, n_repeats=n_repeats, random_state=0)
    records = []
    with threadpool_limits(1):
        for number, (train, test) in enumerate(folds.split(X, y)):
            scale = preprocessing(X).fit(X.iloc[train])
            X_train, X_test = scale.transform(X.iloc[train]), scale.transform(X.iloc[test])
            model = make(name, number)
            start = time.process_time()
            model.fit(X_train, y[train])
            fitted = time.process_time()
            p = np.asarray(model.predict_proba(X_test), dtype=float)
            predicted = time.process_time()
            # CatBoost sorts "10" behind "9"; log_loss wants columns in the order of strings.
            order = np.argsort(model.classes_)
            p, classes = p[:, order], np.asarray(model.classes_)[order]
            correct = classes[p.argmax(1)] == y[test]
            hot = y[test][:, None] == classes
            records.append(
                {
                    "table": table,
                    "model": name,
                    "repeat": number // 3,
                    "fold": number % 3,
                    "accuracy": float(correct.mean()),
                    "log_loss": float(log_loss(y[test], p, labels=classes)),
                    "brier": float(((p - hot) ** 2).sum(1).mean()),
                    "ece": float(calibration_error(p, correct)),
                    "fit_cpu_s": fitted - start,
                    "predict_cpu_s": predicted - fitted,
                    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                }
            )
    return records


def read(results=RESULTS):
    if not results.exists():
        return []
    return [json.loads(line) for line in results.read_text().splitlines()]


def where():
    """What a record was made with."""
    from sknoprop import __version__

    return {
        "machine": f"{platform.machine()}, one thread",
        "sknoprop": __version__,
        **{p: version(p) for p in ("numpy", "scikit-learn", "torch")},
    }


def main(arguments):
    packages = {"CatBoost": "catboost", "RealMLP": "pytabkit", "TabM": "pytabkit"}
    tables = [t for t in arguments.tables if arguments.data or TABLES[t] is None]
    models = [m for m in arguments.models if m not in packages or find_spec(packages[m])]
    done = {(r["table"], r["model"]) for r in read()}
    wanted = [(t, m) for t in tables for m in models if (t, m) not in done]
    made_with = where()
    pool = ProcessPoolExecutor(
        arguments.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1
    )
    with pool, RESULTS.open("a") as file:
        futures = {
            pool.submit(measure, t, m, arguments.data, arguments.repeats): (t, m) for t, m in wanted
        }
        for future in as_completed(futures):
            table, model = futures[future]
            try:
                records = future.result()
            except Exception as error:  # one model that fails must not cost the others
                print(f"{table}, {model}: {error!r}", flush=True)
                continue
            for record in records:
                file.write(json.dumps(record | made_with) + "\n")
            file.flush()
            mean = {k: np.mean([r[k] for r in records]) for k in ("accuracy", "log_loss")}
            cpu = sum(r["fit_cpu_s"] + r["predict_cpu_s"] for r in records)
            print(
                f"{table}, {model}: {100 * mean['accuracy']:.2f} % {mean['log_loss']:.4f} "
                f"{cpu:.1f} CPU s",
                flush=True,
            )


def report(records):
    """Print the tables of the docs, in Markdown."""
    values = defaultdict(dict)
    for r in records:
        values[r["table"], r["model"]][r["repeat"], r["fold"]] = r
    tables = [t for t in TABLES if any((t, m) in values for m in MODELS)]
    models = [m for m in MODELS if any((t, m) in values for t in tables)]

    # Means are over all tables, of those models that have been measured on all of them.
    complete = [m for m in models if all((t, m) in values for t in tables)]

    def cell(table, model, key, factor, digits):
        if (table, model) not in values:
            return ""
        found = factor * np.array([r[key] for r in values[table, model].values()])
        return f"{found.mean():.{digits}f} ± {found.std():.{digits}f}"

    def mean_of(table, model, key):
        return np.mean([r[key] for r in values[table, model].values()])

    def print_table(title, rows):
        print(f"\n### {title}\n\n| | {' | '.join(models)} |\n|---|{'---|' * len(models)}")
        for head, cells in rows:
            print(f"| {head} | {' | '.join(cells)} |")

    for title, key, factor, digits in (
        ("Accuracy, %", "accuracy", 100, 1),
        ("Log loss", "log_loss", 1, 3),
        ("Brier score", "brier", 1, 3),
        ("Expected calibration error, %", "ece", 100, 1),
    ):
        rows = [(t, [cell(t, m, key, factor, digits) for m in models]) for t in tables]
        mean = [
            f"{factor * np.mean([mean_of(t, m, key) for t in tables]):.{digits + 1}f}"
            if m in complete
            else ""
            for m in models
        ]
        print_table(title, [*rows, (f"**mean of {len(tables)}**", mean)])

    def cost(table, model):
        found = values[table, model].values()
        return np.mean([r["fit_cpu_s"] + r["predict_cpu_s"] for r in found])

    def cost_cell(table, model):
        if (table, model) not in values:
            return ""
        peak = max(r["peak_mb"] for r in values[table, model].values())
        return f"{cost(table, model):.1f} · {peak:.0f}"

    rows = [(t, [cost_cell(t, m) for m in models]) for t in tables]
    total = [f"{sum(cost(t, m) for t in tables):.1f}" if m in complete else "" for m in models]
    print_table(
        "CPU seconds of a fit and its predictions · peak memory, MB",
        [*rows, (f"**total of {len(tables)}**", total)],
    )
    print("\n### Tables on which a variant is ahead (mean over folds), paired differences\n")
    print("| | accuracy at least | log loss lower | mean difference of log loss (standard error) |")
    print("|---|---|---|---|")
    for ours in OURS:
        for peer in [m for m in models if m not in OURS]:
            both = [t for t in tables if (t, ours) in values and (t, peer) in values]
            if not both:
                continue
            # Over the folds that both were measured on.
            gain = {
                key: np.array(
                    [
                        np.mean(
                            [
                                r[key] - values[t, peer][fold][key]
                                for fold, r in values[t, ours].items()
                                if fold in values[t, peer]
                            ]
                        )
                        for t in both
                    ]
                )
                for key in ("accuracy", "log_loss")
            }
            error = gain["log_loss"].std(ddof=1) / len(both) ** 0.5 if len(both) > 1 else np.nan
            print(
                f"| {ours} against {peer} | {(gain['accuracy'] >= 0).sum()} of {len(both)} | "
                f"{(gain['log_loss'] < 0).sum()} of {len(both)} | "
                f"{gain['log_loss'].mean():+.4f} ({error:.4f}) |"
            )


def names(allowed):
    def parse(text):
        found = text.split(",")
        if unknown := set(found) - set(allowed):
            raise argparse.ArgumentTypeError(f"unknown: {unknown}; there are {', '.join(allowed)}")
        return found

    return parse


if __name__ == "__main__":
    files = ", ".join(entry[0] for entry in TABLES.values() if entry is not None)
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog=f"The folder has comma-separated files with the label last: {files}.",
    )
    parser.add_argument("--data", help="folder of the eleven tables scikit-learn does not ship")
    parser.add_argument("--tables", type=names(TABLES), default=list(TABLES))
    parser.add_argument("--models", type=names(MODELS), default=list(MODELS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    if not arguments.report:
        main(arguments)
    report(read())
