"""Long runs: memory over a thousand fits, time over thousands of epochs and of parts of a stream.

    python benchmarks/long_run.py             # measure (some ten minutes) and print
    python benchmarks/long_run.py parts       # some of the cases only
    python benchmarks/long_run.py --report    # print what was measured

Each case runs in a process of its own, on one thread, beside `MLPClassifier` of the same width and
number of epochs.

* fits: 1,000 in one process, memory (resident set) read after every 100. Growth is the slope of a
  line through the readings after the first, the warm-up.
* epochs: one fit of 20,000 epochs of one step each. CPU time of an epoch, median over the first and
  over the last tenth of them; size of the history as a pickle.
* parts: 5,000 calls of `partial_fit`. CPU time of a call, likewise.

Appends what it measures to ``benchmarks/results/long_run.json``.
"""

import argparse
import gc
import json
import multiprocessing
import pickle
import platform
import time
import warnings
from pathlib import Path

import numpy as np
import psutil
import sklearn
import torch
from sklearn.neural_network import MLPClassifier
from skorch.callbacks import Callback

from sknoprop import NoPropClassifier, __version__

RESULTS = Path(__file__).parent / "results" / "long_run.json"
N_FITS, N_EPOCHS, N_PARTS = 1000, 20_000, 5000
WIDTH = 16
ROWS = 60


def data():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((ROWS, 5)), np.arange(ROWS) % 3
    X[:, 0] += y
    return X, y


def ours(max_iter, **params):
    return NoPropClassifier(
        n_blocks=3, hidden_layer_sizes=(WIDTH,), max_iter=max_iter, random_state=0, **params
    )


def theirs(max_iter):
    return MLPClassifier(
        (WIDTH,), max_iter=max_iter, tol=0.0, n_iter_no_change=max_iter, random_state=0
    )


MODELS = {"NoPropClassifier": ours, "MLPClassifier": theirs}


def fits(name):
    """Megabytes in use after every hundred fits."""
    X, y = data()
    process = psutil.Process()
    readings = []
    for i in range(1, N_FITS + 1):
        MODELS[name](5).fit(X, y).predict_proba(X)
        if i % 100 == 0:
            gc.collect()
            readings.append(process.memory_info().rss / 2**20)
    slope = np.polyfit(np.arange(1, len(readings)), readings[1:], 1)[0]
    return {"megabytes": readings, "kilobytes_a_fit": float(slope) * 1024 / 100}


class Clock(Callback):
    """CPU time at the end of each epoch."""

    def __init__(self):
        self.times = []

    def on_epoch_end(self, net, **kwargs):
        self.times.append(time.process_time())


def epochs(name):
    """Milliseconds an epoch in the first and the last tenth of a fit."""
    X, y = data()
    if name == "MLPClassifier":  # it has no callbacks: two fits tell as much
        spent = []
        theirs(5).fit(X, y)
        for n in (N_EPOCHS // 10, N_EPOCHS):
            start = time.process_time()
            model = theirs(n).fit(X, y)
            spent.append((time.process_time() - start) / n * 1000)
        return {"a_tenth_alone": spent[0], "all": spent[1], "bytes": _size(model.loss_curve_)}
    clock = Clock()
    model = ours(N_EPOCHS, callbacks=[clock]).fit(X, y)
    return _tenths(np.diff(clock.times)) | {"bytes": _size(model.history_)}


def parts(name):
    """Milliseconds a part in the first and the last tenth of a stream."""
    X, y = data()
    model = MODELS[name](1)
    times = [time.process_time()]
    for _ in range(N_PARTS):
        model.partial_fit(X, y, classes=[0, 1, 2])
        times.append(time.process_time())
    return _tenths(np.diff(times))


def _tenths(times):
    first, *_, last = np.array_split(np.asarray(times) * 1000, 10)
    return {"first": float(np.median(first)), "last": float(np.median(last))}


def _size(history):
    return len(pickle.dumps(history))


CASES = {"fits": fits, "epochs": epochs, "parts": parts}


def measure(case, name):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    return CASES[case](name)


def report(runs):
    latest = {(r["case"], r["name"]): r for run in runs for r in run["records"]}
    records = list(latest.values())
    for case in CASES:
        print(
            f"\n| {case} | {' | '.join(next(r for r in records if r['case'] == case)['found'])} |"
        )
        print("|---|" + "---|" * len(next(r for r in records if r["case"] == case)["found"]))
        for record in records:
            if record["case"] == case:
                cells = [
                    f"{value[0]:.0f} ... {value[-1]:.0f}"
                    if isinstance(value, list)
                    else f"{value:.3g}"
                    if isinstance(value, float)
                    else f"{value:,}"
                    for value in record["found"].values()
                ]
                print(f"| {record['name']} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="case", help=", ".join(CASES))
    parser.add_argument("--report", action="store_true", help="print what was measured")
    options = parser.parse_args()
    if unknown := [case for case in options.cases if case not in CASES]:
        parser.error(f"unknown: {unknown}; there are {', '.join(CASES)}")
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    if not options.report:
        run = {
            "command": "python benchmarks/long_run.py",
            "machine": f"{platform.machine()}, one thread",
            "versions": {
                "sknoprop": __version__,
                "scikit-learn": sklearn.__version__,
                "torch": torch.__version__,
            },
            "records": [],
        }
        context = multiprocessing.get_context("spawn")
        for case in options.cases or CASES:
            for name in MODELS:
                with context.Pool(1) as pool:
                    found = pool.apply(measure, (case, name))
                print(case, name, found, flush=True)
                run["records"].append({"case": case, "name": name, "found": found})
        known.append(run)
        RESULTS.write_text(json.dumps(known, indent=1) + "\n")
    report(known)


if __name__ == "__main__":
    main()
