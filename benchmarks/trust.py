"""What happens in cases that are out of the ordinary, here and with scikit-learn's MLPClassifier.

    python benchmarks/trust.py             # three minutes at most
    python benchmarks/trust.py --report    # print what was measured

Small seeded cases in groups; each is fitted and predicts. *fitted*: it did, and the probabilities
are finite, at least zero and sum to one. *refused*: a ValueError or TypeError before training.
*stopped*: an error that says that training diverged. *wrong*: anything else, as another error, one
from within training, or probabilities that are none. *lost*: of cases that failed, those where an
earlier fit does not predict any more as it did. Prints a table in Markdown and writes
``benchmarks/results/trust.json``.
"""

import argparse
import copy
import itertools
import json
import platform
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from unittest import mock

import numpy as np
import sklearn
import torch
from joblib import Parallel, delayed, parallel_config
from scipy import sparse
from sklearn.datasets import make_blobs
from sklearn.neural_network import MLPClassifier
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron

import sknoprop.fitting as fitting
from sknoprop import NoPropClassifier, __version__
from sknoprop.training import TrainingError

RESULTS = Path(__file__).parent / "results" / "trust.json"
NAMES = ("fitted", "refused", "stopped", "wrong", "lost")

X, Y = make_blobs(60, 4, centers=3, random_state=0)


def noprop(**params):
    small = {"n_blocks": 2, "hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0}
    return NoPropClassifier(**(small | params))


def mlp(**params):
    small = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0}
    return MLPClassifier(**(small | params))


#: Parameters that both have.
SHARED = {
    "hidden_layer_sizes": [(), (8, 8), 0, np.array([4]), np.array(4), (4.5,), "wide", [[4]], 2**40],
    "batch_size": [1, 1000, 0, np.int8(7), 2.5, True, 2**70],
    "learning_rate_init": [1e-300, 1e-3, 10.0, 1e30, 1e300, 0, -1, np.nan, np.float32(0.01)],
    "max_iter": [1, np.int8(100), 0, 2.5, "many"],
    "early_stopping": [True, np.True_, 1, None],
    "validation_fraction": [0.5, 0.0, 1.0, 1e-9, 0.999, np.nan],
    "n_iter_no_change": [1, 0, np.uint8(3), -1, 2**70],
    "tol": [0, 1e300, np.inf, -1, 10**400],
    "random_state": [None, -1, 2**32 - 1, 2**32, "seven", np.random.RandomState(0)],
    "warm_start": [True, 0, "yes"],
}
#: One name for each of what they call differently.
DECAY = [0.0, 1.0, 1e30, 1e300, -1, np.inf]


def parameters():
    early = {"early_stopping": True}
    for name, values in SHARED.items():
        for value in values:
            for other in ({}, early):
                params = other | {name: value}
                yield params, params, X, Y
    for value in DECAY:
        yield {"weight_decay": value}, {"alpha": value}, X, Y
        yield {"weight_decay": value, "optimizer": "sgd"}, {"alpha": value, "solver": "sgd"}, X, Y


def scales():
    for scale, part in itertools.product(
        [1e-308, 1e-300, 1e-150, 1e-30, 1e-5, 1e5, 1e30, 1e150, 1e200, 1e300, 1e306], ["all", "one"]
    ):
        Z = X / np.abs(X).max()
        Z[:, slice(None) if part == "all" else 0] *= scale
        yield {}, {}, Z, Y
        yield {}, {}, Z.astype(np.float64) + scale, Y
    outlier = X.copy()
    outlier[0, 0] = 1e308
    yield {}, {}, outlier, Y


def memory_map(Z):
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, Z.dtype, "w+", shape=Z.shape)
    mapped[...] = Z
    return mapped


def layouts():
    frozen = X.copy()
    frozen.flags.writeable = False
    kinds = ["f2", "f4", "i1", "i8", "u1", "?", "O", ">f8"]
    tables = [np.clip(10 * X, 0, 100).astype(kind) for kind in kinds]
    tables += [np.asfortranarray(X), X[::-1, ::-1], np.repeat(X, 2, 1)[:, ::2], frozen]
    tables += [memory_map(X), X.tolist(), np.ma.masked_array(X)]
    tables += [X[:, :1], np.tile(X, 40), np.ones_like(X), np.tile(X[:2], (30, 1))]
    for Z in tables:
        yield {}, {}, Z, Y


def bad_data():
    hole, endless = X.copy(), X.copy()
    hole[3, 2], endless[3, 2] = np.nan, np.inf
    text = X.astype(object)
    text[3, 2] = "three"
    tables = [hole, endless, text, X[0], X[None], X[:0], X[:, :0], X[:59], X + 1j]
    tables += [np.ma.masked_less(X, 0), sparse.csr_array(X) * np.nan]
    dates = np.array([["2020", "NaT"]] * 60, "M8[D]")
    tables += [dates, dates[:, :1]]
    for Z in tables:
        yield {}, {}, Z, Y
    for labels in (
        np.array(["2020", "NaT", "2021"] * 20, "M8[D]"),
        Y + 0.5,
        np.where(Y == 0, np.nan, Y),
        Y[:, None] == [0, 1],
        [None] * 60,
        [{}] * 60,
    ):
        yield {}, {}, X, labels
    masked = np.ma.masked_equal(Y, 1)
    yield {}, {}, X, masked
    yield {}, {}, X, np.zeros(60, int)


def labels():
    names = np.array(["a", "b", "c"])
    for y in (names[Y], names[Y].astype(object), -Y, Y == 1, Y.astype(float), list(names[Y])):
        yield {}, {}, X, y
    for n_classes in (2, 30, 1000):
        rows = np.random.default_rng(0).standard_normal((2 * n_classes, 4))
        yield {}, {}, rows, np.arange(2 * n_classes) % n_classes
    for early_stopping in (False, True):
        rare = np.zeros(10_001, int)
        rare[17] = 1
        rows = np.random.default_rng(0).standard_normal((10_001, 4))
        params = {"early_stopping": early_stopping, "batch_size": 1000}
        yield params, params, rows, rare


GROUPS = {
    "parameters": parameters,
    "scales and outliers": scales,
    "dtypes, layouts, shapes": layouts,
    "labels, 2 to 1,000 classes, 1 in 10,000": labels,
    "data that are none": bad_data,
}


def outcome(fitted, params, Z, y):
    """What comes of a case, and whether an earlier fit is lost by it."""
    clf = copy.deepcopy(fitted)
    before = clf.predict_proba(X)
    started = []

    def spy(function):
        def call(*args, **kwargs):
            started.append(1)
            return function(*args, **kwargs)

        return call

    targets = [
        (fitting, "train"),
        *((BaseMultilayerPerceptron, f"_fit_{k}") for k in ("stochastic", "lbfgs")),
    ]
    good = {name: clf.get_params()[name] for name in params}
    patches = [mock.patch.object(home, name, spy(getattr(home, name))) for home, name in targets]
    for patch in patches:
        patch.start()
    try:
        clf.set_params(**params).fit(Z, y)
        p = clf.predict_proba(Z)
        fine = np.isfinite(p).all() and (p >= 0).all() and np.allclose(p.sum(1), 1, atol=1e-6)
        return ("fitted" if fine and p.shape == (len(p), len(clf.classes_)) else "wrong"), False
    except TrainingError:
        found = "stopped"
    except (ValueError, TypeError) as error:
        diverged = "non-finite" in str(error)  # MLPClassifier's words
        found = "stopped" if started and diverged else "wrong" if started else "refused"
    except Exception:
        found = "wrong"
    finally:
        for patch in patches:
            patch.stop()
    try:
        clf.set_params(**good)
        return found, not np.array_equal(clf.predict_proba(X), before)
    except Exception:
        return found, True


def in_threads(make):
    """Of fits and predictions in six threads at once: how many are as one after another."""
    kinds = {"early_stopping": [False, True], "batch_size": [7, 60]}
    cases = [dict(zip(kinds, values, strict=True)) for values in itertools.product(*kinds.values())]

    def answer(params):
        return make(**params).fit(X, Y).predict_proba(X)

    expected = [answer(params) for params in cases]
    state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    with parallel_config("threading"):
        found = Parallel(6)(delayed(answer)(params) for params in cases * 3)
    same = [np.array_equal(ours, theirs) for ours, theirs in zip(found, expected * 3, strict=True)]
    untouched = torch.equal(state[0], torch.get_rng_state())
    untouched = untouched and np.array_equal(state[1], np.random.get_state()[1])  # noqa: NPY002
    return Counter(fitted=sum(same), wrong=len(same) - sum(same) + (not untouched))


def main():
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    records = []

    def row(title, counts):
        ours, theirs = ({name: count[name] for name in NAMES} for count in counts)
        records.append({"cases": title, "sknoprop": ours, "MLPClassifier": theirs})
        print(records[-1], flush=True)

    fitted = noprop().fit(X, Y), mlp().fit(X, Y)
    for title, cases in GROUPS.items():
        counts = Counter(), Counter()
        for ours, theirs, Z, y in cases():
            for count, clf, params in zip(counts, fitted, (ours, theirs), strict=True):
                found, lost = outcome(clf, params, Z, y)
                count.update({found: 1, "lost": int(lost)})
        row(title, counts)
    row("fits in six threads at once", (in_threads(noprop), in_threads(mlp)))
    record = {
        "command": "python benchmarks/trust.py",
        "machine": f"{platform.machine()}, one thread",
        "versions": {"sknoprop": __version__, "scikit-learn": sklearn.__version__},
        "records": records,
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


def report():
    print("| cases | tried | sknoprop: " + ", ".join(NAMES) + " | MLPClassifier: the same |")
    print("|---|---|---|---|")
    for record in json.loads(RESULTS.read_text())["records"]:
        ours, theirs = record["sknoprop"], record["MLPClassifier"]
        cells = [", ".join(str(count[name]) for name in NAMES) for count in (ours, theirs)]
        tried = sum(ours[name] for name in NAMES[:-1])
        print(f"| {record['cases']} | {tried} | {cells[0]} | {cells[1]} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", action="store_true", help="print what was measured")
    if not parser.parse_args().report:
        main()
    report()
