"""Wall time of one fit with one worker and with two, a core each, and whether blocks are the same.

    python benchmarks/workers.py

Six blocks on 60,000 rows of made data (40 features, 8 classes); each worker has one thread, and so
has the fit in one process. One fit of each in turn, `REPEATS` times; the workers are started
before. Writes ``benchmarks/results/workers.json``.
"""

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


def fit(n_jobs, X, y):
    clf = NoPropClassifier("fm", n_blocks=6, max_iter=12, n_jobs=n_jobs, random_state=0)
    start = time.perf_counter()
    clf.fit(X, y)
    return clf, time.perf_counter() - start


def main():
    X, y = make_classification(
        60_000, 40, n_informative=20, n_classes=8, n_clusters_per_class=2, random_state=0
    )
    Parallel(2)(delayed(time.sleep)(1) for _ in range(2))
    NoPropClassifier(max_iter=1, n_jobs=2).fit(X[:500], y[:500])  # imports, in each worker
    times = []
    for _ in range(REPEATS):
        one, alone = fit(None, X, y)
        two, together = fit(2, X, y)
        times.append((alone, together))
        print(f"{alone:.1f} s, {together:.1f} s with two: {alone / together:.2f} x", flush=True)
    tensors, others = one.blocks_.state_dict(), two.blocks_.state_dict()
    apart = max(float((others[k] - v).abs().max()) for k, v in tensors.items())
    p, q = one.predict_proba(X[:5000]), two.predict_proba(X[:5000])
    print(f"largest difference of parameters {apart:.1e}, of probabilities {abs(p - q).max():.1e}")
    ratios = [a / b for a, b in times]
    print(f"two workers: {np.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})")
    (RESULTS / "workers.json").write_text(
        json.dumps(
            {
                "command": "python benchmarks/workers.py",
                "machine": f"{platform.machine()}, 2 cores",
                "seconds_with_one_and_two": times,
                "largest_difference_of_parameters": apart,
                "largest_difference_of_probabilities": float(abs(p - q).max()),
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
