"""Time and memory of a fit as rows, features, blocks and classes grow, with the fitted exponent.

    python benchmarks/scaling.py              # ten minutes on one core
    python benchmarks/scaling.py --report

One of the four doubles while the others stay: one epoch in batches of 256 on made data, flow
matching with two layers, in a process of its own with one thread. The exponent is the slope of
log CPU seconds over the upper half of the range, where what a fit costs at least no longer counts;
1 is linear. Writes ``benchmarks/results/scaling.json``.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "scaling.json"
BASE = {"rows": 2**14, "features": 32, "blocks": 4, "classes": 4}
RANGES = {
    "rows": [2**k for k in range(11, 21)],
    "features": [2**k for k in range(3, 11)],
    "blocks": [2**k for k in range(7)],
    "classes": [2**k for k in range(1, 7)],
}
#: What the largest number of rows is measured with.
FEATURES_OF_ROWS = 64


def settings(name, size):
    found = BASE | {name: size}
    if name == "rows":
        found["features"] = FEATURES_OF_ROWS
    return found


def one(rows, features, blocks, classes):
    """Fit and predict once; to be run in a process of its own."""
    import torch

    from sknoprop import NoPropClassifier

    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    X = random.standard_normal((rows, features), dtype=np.float32)
    y = random.integers(classes, size=rows)
    y[:classes] = np.arange(classes)
    params = {"hidden_layer_sizes": (128, 128), "n_bins": 8, "batch_size": 256, "random_state": 0}
    NoPropClassifier("fm", n_blocks=1, max_iter=1, **params).fit(X[:2000], y[:2000] % 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clf = NoPropClassifier("fm", n_blocks=blocks, max_iter=1, **params)
    start = time.process_time()
    clf.fit(X, y)
    fit = time.process_time() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    clf.predict_proba(X[:10_000])
    return {
        "fit_cpu_s": fit,
        "fit_mb": (after - before) / 1024,
        "predict_us_a_row": 1e6 * (time.process_time() - start) / min(rows, 10_000),
    }


def measure():
    records = []
    for name, sizes in RANGES.items():
        for size in sizes:
            call = [sys.executable, __file__, "--one", json.dumps(settings(name, size))]
            output = subprocess.run(call, check=True, capture_output=True, text=True).stdout
            records.append({"grows": name, "size": size} | json.loads(output))
            print(records[-1], flush=True)
    found = {
        "command": "python benchmarks/scaling.py",
        "machine": f"{platform.machine()}, one thread",
        "base": BASE,
        "records": records,
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def column(records, name, key):
    return np.array([r[key] for r in records if r["grows"] == name], dtype=float)


def exponent(sizes, times):
    half = len(sizes) // 2
    return np.polyfit(np.log(sizes[half:]), np.log(times[half:]), 1)[0]


def report():
    records = json.loads(RESULTS.read_text())["records"]
    print(
        "| grows | from | to | CPU s of an epoch | exponent | memory, MB | prediction, µs a row |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in RANGES:
        sizes, times = column(records, name, "size"), column(records, name, "fit_cpu_s")
        memory, rows = column(records, name, "fit_mb"), column(records, name, "predict_us_a_row")
        print(
            f"| {name} | {sizes[0]:.0f} | {sizes[-1]:.0f} | {times[0]:.2f} to {times[-1]:.1f} | "
            f"{exponent(sizes, times):.2f} | {memory[0]:.0f} to {memory[-1]:.0f} | "
            f"{rows[0]:.0f} to {rows[-1]:.0f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--report", action="store_true", help="print what was measured")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(**json.loads(options.one))))
    elif options.report:
        report()
    else:
        measure()


if __name__ == "__main__":
    main()
