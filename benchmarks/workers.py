"""Wall time of one fit with one worker and with two, a core each, and whether blocks are the same.

    python benchmarks/workers.py              # a quarter of an hour, nothing else on the machine
    python benchmarks/workers.py --report

Six blocks on 60,000 rows of made data (40 features, 8 classes), with hidden layers of 128, as by
default, and of 512 units; each worker has one thread, and so has the fit in one process. One fit of
each in turn, `REPEATS` times; the workers are started before. And what two cores give at best: the
same fit in two processes at once that know nothing of each other, in time for one of it. Writes
``benchmarks/results/workers.json``.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.datasets import make_classification

from sknoprop import NoPropClassifier

RESULTS = Path(__file__).parent / "results"
REPEATS = 3
CASES = {
    "128 units": {"max_iter": 18},
    "512 units": {"max_iter": 3, "hidden_layer_sizes": (512, 512)},
}


def fit(n_jobs, X, y, params):
    clf = NoPropClassifier("fm", n_blocks=6, n_jobs=n_jobs, random_state=0, **params)
    start = time.perf_counter()
    clf.fit(X, y)
    return clf, time.perf_counter() - start


def seconds(X, y, params):
    torch.set_num_threads(1)
    return fit(None, X, y, params)[1]


def measure(case, params, X, y):
    pairs, apart = [], []
    NoPropClassifier(max_iter=1, n_jobs=2).fit(X[:500], y[:500])  # imports, in each worker
    for _ in range(REPEATS):
        one, alone = fit(None, X, y, params)
        two, together = fit(2, X, y, params)
        pairs.append((alone, together))
        print(f"{case}: {alone:.1f} s, {together:.1f} s with two", flush=True)
    # Last, as other options of joblib's have it start other workers.
    Parallel(2)(delayed(seconds)(X[:500], y[:500], {"max_iter": 1}) for _ in range(2))
    for _ in range(REPEATS):
        apart.append(max(Parallel(2)(delayed(seconds)(X, y, params) for _ in range(2))))
    print(f"{case}: two apart {apart}", flush=True)
    tensors, others = one.blocks_.state_dict(), two.blocks_.state_dict()
    p, q = one.predict_proba(X[:5000]), two.predict_proba(X[:5000])
    return {
        "case": case,
        "seconds_with_one_and_two": pairs,
        "seconds_of_two_apart": apart,
        "largest_difference_of_parameters": max(
            float((others[k] - v).abs().max()) for k, v in tensors.items()
        ),
        "largest_difference_of_probabilities": float(abs(p - q).max()),
    }


def report():
    print("| hidden layers | one, s | two workers, s | times as fast | two cores at best |")
    print("|---|---|---|---|---|")
    for r in json.loads((RESULTS / "workers.json").read_text())["cases"]:
        alone, together = np.transpose(r["seconds_with_one_and_two"])
        ratio, best = alone / together, 2 * alone / np.array(r["seconds_of_two_apart"])
        print(
            f"| {r['case']} | {np.median(alone):.0f} | {np.median(together):.0f} | "
            f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f}) | "
            f"{np.median(best):.2f} ({best.min():.2f} to {best.max():.2f}) |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", action="store_true", help="print what was measured")
    if parser.parse_args().report:
        report()
        return
    X, y = make_classification(
        60_000, 40, n_informative=20, n_classes=8, n_clusters_per_class=2, random_state=0
    )
    found = {
        "command": "python benchmarks/workers.py",
        "machine": f"{platform.machine()}, 2 cores",
        "cases": [measure(case, params, X, y) for case, params in CASES.items()],
    }
    (RESULTS / "workers.json").write_text(json.dumps(found, indent=1) + "\n")
    report()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
