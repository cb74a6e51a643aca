"""CPU time of an epoch beside MLPClassifier's, at the same width and batch size.

    python benchmarks/training_cost.py

On the digits' 1,347 training rows, one thread. All cases are measured in turn, over and over, as a
machine's speed drifts; what counts is the least reading of each, which nothing else on the machine
has a part in. An epoch of either model is the difference of two fits of different length, so that
what is done once a fit does not count. Also the engine beside a bare loop over the same steps.
Writes all readings to ``benchmarks/results/training_cost.json``.
"""

import argparse
import json
import platform
import time
import warnings
from functools import partial
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from sknoprop import NoPropClassifier
from sknoprop.building import build_model
from sknoprop.defaults import fill_in
from sknoprop.training import Batches, NoiseSource, Rows, Settings, train
from sknoprop.training.dense import DenseStep
from sknoprop.training.seeds import Seeds

RESULTS = Path(__file__).parent / "results"
REPEATS = 24
EPOCHS = (5, 25)
BATCH_SIZES = (64, 128, 200)
WIDTH = 128


def cpu(function):
    start = time.process_time()
    function()
    return time.process_time() - start


def mlp(batch_size, n_epochs):
    return MLPClassifier(
        (WIDTH,), batch_size=batch_size, max_iter=n_epochs, tol=0.0, n_iter_no_change=n_epochs
    )


def noprop(batch_size, n_epochs, **params):
    return NoPropClassifier(
        "fm",
        hidden_layer_sizes=(WIDTH,),
        batch_size=batch_size,
        max_iter=n_epochs,
        **params,
    )


class Loops:
    """The skorch engine and a plain loop, each over the same batches and steps."""

    def __init__(self, X, y, batch_size=128, n_epochs=20, device="cpu"):
        self.data = X, y
        estimator = NoPropClassifier("fm", hidden_layer_sizes=(WIDTH,), dropout=0.0)
        self.params = fill_in(estimator.get_params(), len(X), 10)
        self.device = torch.device(device)
        self.settings = Settings(
            optimizer=torch.optim.AdamW,
            learning_rate=0.01,
            weight_decay=self.params["weight_decay"],
            one_cycle=True,
            n_epochs=n_epochs,
            batch_size=batch_size,
            n_draws=self.params["n_train_draws"],
        )

    def prepare(self):
        (X, y), seeds = self.data, Seeds(0)
        model = build_model(self.params, X, y, seeds, 10).to(self.device)
        inputs = model.encoder.prepare(torch.as_tensor(X, device=self.device))
        return seeds, model, Rows(inputs, torch.as_tensor(y, device=self.device))

    def engine(self):
        """A function that trains a model by the engine."""
        seeds, model, rows = self.prepare()
        return lambda: train(model, rows, None, self.settings, seeds)

    def batches(self, seeds, model, rows):
        noise = NoiseSource(
            seeds.block_generators("noise", model.n_blocks, self.device),
            seeds.generator("shared", 1, self.device),
            n_draws=self.settings.n_draws,
            dim=model.embedding.dim,
            timed=True,
            levels=model.levels,
        )
        order = seeds.generator("order")
        return Batches(rows.inputs, rows.y, self.settings.batch_size, order, noise)

    def bare(self):
        """A function that trains the same by a loop."""
        (seeds, model, rows), settings = self.prepare(), self.settings
        batches = self.batches(seeds, model, rows)

        def loop():
            trained = [p for p in model.parameters() if p.requires_grad]
            optimizer = torch.optim.AdamW(
                trained, lr=0.01, weight_decay=settings.weight_decay, fused=True
            )
            steps = settings.n_epochs * len(batches)
            cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
            step = DenseStep(model, model.scale())
            for _ in range(settings.n_epochs):
                for batch in batches:
                    optimizer.zero_grad()
                    step.backward(step.take(batch))
                    optimizer.step()
                    cycle.step()

        return loop


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    X, y = load_digits(return_X_y=True)
    X, _, y, _ = train_test_split(X / 16, y, test_size=450, stratify=y, random_state=0)
    ours = {
        "fm, 1 block (the paper's), no dropout": {"n_blocks": 1, "dropout": 0.0},
        "fm, 1 block": {"n_blocks": 1},
        "fm, 5 blocks (default)": {},
    }
    cases = {
        (label, size): partial(noprop, size, **params)
        for size in BATCH_SIZES
        for label, params in ours.items()
    }
    cases |= {("MLPClassifier", size): partial(mlp, size) for size in BATCH_SIZES}
    readings = {case: {n: [] for n in EPOCHS} for case in cases}
    engine, loops = [], Loops(X, y)
    for _ in range(REPEATS):
        for case, make in cases.items():
            for n in EPOCHS:
                model = make(n)
                readings[case][n].append(cpu(lambda model=model: model.fit(X, y)))
        engine.append((cpu(loops.engine()), cpu(loops.bare())))
    few, many = EPOCHS
    epoch = {c: (min(r[many]) - min(r[few])) / (many - few) for c, r in readings.items()}
    records = []
    for (label, size), seconds in epoch.items():
        peer = epoch["MLPClassifier", size]
        of_case = readings[label, size]
        records.append({"case": label, "batch_size": size, "cpu_s_by_epochs": of_case})
        print(
            f"{label:37} batch {size:3}: {1e3 * seconds:5.1f} CPU ms an epoch, "
            f"{seconds / peer:.2f} x MLPClassifier"
        )
    least = [min(readings) for readings in zip(*engine, strict=True)]
    print(f"engine: {least[0] / least[1]:.3f} x a bare loop")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "training_cost.json").write_text(
        json.dumps(
            {
                "command": "python benchmarks/training_cost.py",
                "machine": f"{platform.machine()}, one thread",
                "width": WIDTH,
                "records": records,
                "engine_and_bare_loop": engine,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore", ConvergenceWarning)
    torch.set_num_threads(1)
    with threadpool_limits(1):
        main()
