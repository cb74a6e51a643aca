"""All blocks in one step, block after block, and the same network trained by back-propagation.

    python -m benchmarks.steps --root DATA
    python -m benchmarks.steps --report

From the root of a clone. Dense layers of 128 units, with one-hot labels in discrete time, on the
first 10,000 of MNIST; 2 to 32 blocks, batches of 128, one thread. Least CPU time of an epoch of
`REPEATS` runs in turn: with all blocks in one step, with ``blocks_at_once=1``, and of the paper's
back-propagation through the same blocks, each the difference of two fits of different length.
On a GPU also the peak of its memory. Writes ``benchmarks/results/steps.json``.
"""

import argparse
import json
import platform
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.paper.baselines import Baseline
from sknoprop import NoPropClassifier
from sknoprop._parameters import resolve_device
from sknoprop.datasets import load_torchvision

RESULTS = Path(__file__).parent / "results" / "steps.json"
REPEATS = 3
WAYS = ("all at once", "block after block", "back-propagation")


def make(way, n_blocks, n_epochs, device):
    clf = NoPropClassifier(
        "dt",
        encoder="mlp",
        hidden_layer_sizes=(128, 128),
        n_blocks=n_blocks,
        batch_size=128,
        max_iter=n_epochs,
        blocks_at_once=1 if way == "block after block" else None,
        random_state=0,
    )
    return Baseline("backprop", clf, device, n_blocks) if way == "back-propagation" else clf


def seconds(model, X, y, device):
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    start = clock()
    model.fit(X, y)
    return clock() - start


def measure(X, y):
    device = resolve_device("auto")
    on_gpu = device.type == "cuda"
    records = []
    for n_blocks in (2, 5, 10, 32):
        epochs = {way: [] for way in WAYS}
        peaks = {}
        for _ in range(REPEATS):
            for way in WAYS:
                if on_gpu:
                    torch.cuda.reset_peak_memory_stats()
                short, long = (
                    seconds(make(way, n_blocks, n, device), X, y, device) for n in (1, 3)
                )
                epochs[way].append((long - short) / 2)
                peaks[way] = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else None
        for way in WAYS:
            records.append(
                {
                    "blocks": n_blocks,
                    "way": way,
                    "epoch_s": float(np.min(epochs[way])),
                    "peak_mb": peaks[way],
                    "device": str(device),
                }
            )
            print(records[-1], flush=True)
    return records


def report():
    records = json.loads(RESULTS.read_text())["records"]
    print(
        "| blocks |" + "".join(f" {way}, s |" for way in WAYS) + " all at once / block by block |"
    )
    print("|---" * (len(WAYS) + 2) + "|")
    for n_blocks in dict.fromkeys(r["blocks"] for r in records):
        own = {r["way"]: r["epoch_s"] for r in records if r["blocks"] == n_blocks}
        ratio = own["all at once"] / own["block after block"]
        print(f"| {n_blocks} |" + "".join(f" {own[w]:.2f} |" for w in WAYS) + f" {ratio:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="folder of MNIST, in torchvision's layout")
    parser.add_argument("--report", action="store_true", help="print what was measured")
    options = parser.parse_args()
    if options.root:
        X, y = load_torchvision("MNIST", root=options.root, return_X_y=True)
        found = {
            "command": "python -m benchmarks.steps --root DATA",
            "machine": f"{platform.machine()}, one thread",
            "records": measure(X[:10_000], y[:10_000]),
        }
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    if options.report or options.root:
        report()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with threadpool_limits(1):
        main()
