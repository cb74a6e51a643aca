"""CPU time of an epoch beside MLPClassifier's, at the same width and batch size.

    python benchmarks/training_cost.py

On the digits' 1,347 training rows, one thread. Each figure is the median over repeats of the
ratio of NoProp's CPU time an epoch to MLPClassifier's, the two measured in turn; NoProp's is the
difference of two fits of different length, so that what is done once a fit does not count.
Also the engine beside a bare loop over the same steps. Writes
``benchmarks/results/training_cost.json``.
"""

import argparse
import json
import platform
import time
import warnings
from pathlib import Path

import numpy as np
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
from sknoprop.training.seeds import Seeds

RESULTS = Path(__file__).parent / "results"
REPEATS = 5
WIDTH = 128


def cpu(function):
    start = time.process_time()
    function()
    return time.process_time() - start


def mlp_epoch(X, y, batch_size, n_epochs=40):
    model = MLPClassifier(
        (WIDTH,), batch_size=batch_size, max_iter=n_epochs, tol=0.0, n_iter_no_change=n_epochs
    )
    return cpu(lambda: model.fit(X, y)) / n_epochs


def noprop_epoch(X, y, batch_size, **params):
    def fit(n_epochs):
        model = NoPropClassifier(
            hidden_layer_sizes=(WIDTH,),
            batch_size=batch_size,
            max_iter=n_epochs,
            variant="fm",
            **params,
        )
        return cpu(lambda: model.fit(X, y))

    return (fit(25) - fit(5)) / 20


def engine_against_bare_loop(X, y, batch_size=128, n_epochs=20):
    """CPU time of the skorch engine and of a plain loop over the same batches and step."""
    estimator = NoPropClassifier("fm", hidden_layer_sizes=(WIDTH,), dropout=0.0)
    params = fill_in(estimator.get_params(), len(X), 10)
    settings = Settings(
        optimizer=torch.optim.AdamW,
        learning_rate=0.01,
        weight_decay=params["weight_decay"],
        one_cycle=True,
        n_epochs=n_epochs,
        batch_size=batch_size,
        n_draws=params["n_train_draws"],
    )

    def prepare():
        seeds = Seeds(0)
        model = build_model(params, X, y, seeds, 10)
        return seeds, model, Rows(model.encoder.prepare(torch.as_tensor(X)), torch.as_tensor(y))

    def engine():
        seeds, model, rows = prepare()
        return cpu(lambda: train(model, rows, None, settings, seeds))

    def bare():
        seeds, model, rows = prepare()
        noise = NoiseSource(
            seeds.block_generators("noise", model.n_blocks),
            seeds.generator("shared", 1),
            n_draws=settings.n_draws,
            dim=model.embedding.dim,
            timed=True,
            levels=model.levels,
        )
        batches = Batches(rows.inputs, rows.y, batch_size, seeds.generator("order"), noise)

        def loop():
            trained = [p for p in model.parameters() if p.requires_grad]
            optimizer = torch.optim.AdamW(
                trained, lr=0.01, weight_decay=settings.weight_decay, fused=True
            )
            steps = n_epochs * len(batches)
            cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
            scale, constants = model.scale(), model.constants()
            for _ in range(n_epochs):
                for batch in batches:
                    optimizer.zero_grad()
                    losses = model.losses(batch.inputs, batch.y, batch.draws, None, constants)
                    model.objective(losses, scale).backward()
                    optimizer.step()
                    cycle.step()

        return cpu(loop)

    return engine() / bare()


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    X, y = load_digits(return_X_y=True)
    X, _, y, _ = train_test_split(X / 16, y, test_size=450, stratify=y, random_state=0)
    cases = {
        "fm, 1 block (the paper's), no dropout": {"n_blocks": 1, "dropout": 0.0},
        "fm, 1 block": {"n_blocks": 1},
        "fm, 5 blocks (default)": {},
    }
    records = []
    for batch_size in (64, 128, 200):
        for label, params in cases.items():
            pairs = [
                (noprop_epoch(X, y, batch_size, **params), mlp_epoch(X, y, batch_size))
                for _ in range(REPEATS)
            ]
            ratios = [ours / theirs for ours, theirs in pairs]
            records.append({"case": label, "batch_size": batch_size, "ratios": ratios})
            print(
                f"{label:36} batch {batch_size:4}: {np.median(ratios):5.2f} x MLPClassifier "
                f"({min(ratios):.2f} to {max(ratios):.2f}); "
                f"{1e3 * np.median([a for a, _ in pairs]):.1f} against "
                f"{1e3 * np.median([b for _, b in pairs]):.1f} CPU ms an epoch",
                flush=True,
            )
    engine = [engine_against_bare_loop(X, y) for _ in range(REPEATS)]
    print(f"engine: {np.median(engine):.3f} x a bare loop ({min(engine):.3f} to {max(engine):.3f})")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "training_cost.json").write_text(
        json.dumps(
            {
                "command": "python benchmarks/training_cost.py",
                "machine": f"{platform.machine()}, one thread",
                "width": WIDTH,
                "records": records,
                "engine_over_bare_loop": engine,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore", ConvergenceWarning)
    torch.set_num_threads(1)
    with threadpool_limits(1):
        main()
