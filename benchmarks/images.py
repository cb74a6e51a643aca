"""Images on a CPU: 5,000 of MNIST beside MLPClassifier, and Fashion-MNIST whole.

    python benchmarks/images.py --root DATA mnist       # half an hour
    python benchmarks/images.py --root DATA fashion     # 90 minutes of CPU time
    python benchmarks/images.py --report

DATA is a folder in torchvision's layout; needs ``pip install 'sknoprop[vision]'``. MNIST: the first
5,000 training and 2,000 test images, three seeds: defaults, and dense and convolutional layers on
images that are shifted. Fashion-MNIST: all images, one seed, ten and sixteen epochs with images
mirrored at random. What is not a default was chosen on training images that were held out, but for
the sixteen epochs of Fashion-MNIST, which nothing was tried beside. Appends to
``benchmarks/results/images.json``.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sknoprop import NoPropClassifier, __version__
from sknoprop.datasets import load_torchvision

RESULTS = Path(__file__).parent / "results" / "images.json"


def flat(X):
    return X.reshape(len(X), -1) / 255


def mirror(images):
    """Half of the time mirrored; a draw for eight images."""
    return images.flip(-1) if torch.rand(()) < 0.5 else images


def shift(images):
    """By up to a pixel, in each direction."""
    return images.roll(tuple(torch.randint(-1, 2, (2,)).tolist()), (-2, -1))


def models(data):
    if data == "fashion":
        for n_epochs in (10, 16):
            settings = {"max_iter": n_epochs, "augmentation": mirror}
            clf = NoPropClassifier("fm", **settings, random_state=0)
            yield f"fm, resnet, mirrored, {n_epochs} epochs", 0, clf
        return
    for seed in range(3):
        mlp = MLPClassifier((256,), random_state=seed)
        yield "MLPClassifier, 256", seed, make_pipeline(FunctionTransformer(flat), mlp)
        for variant in ("dt", "fm"):
            dense = NoPropClassifier(variant, encoder="mlp", random_state=seed)
            yield f"{variant}, mlp", seed, dense
        settings = {"hidden_layer_sizes": (256, 256), "max_iter": 100, "augmentation": shift}
        dense = NoPropClassifier("fm", encoder="mlp", **settings, random_state=seed)
        yield "fm, mlp of 256 and 256, shifted, 100 epochs", seed, dense
    for seed in range(3):
        yield "fm, resnet", seed, NoPropClassifier("fm", random_state=seed)
        settings = {"max_iter": 16, "augmentation": shift}
        clf = NoPropClassifier("fm", **settings, random_state=seed)
        yield "fm, resnet, shifted, 16 epochs", seed, clf


def measure(root, data):
    name, n_train, n_test = {
        "mnist": ("MNIST", 5000, 2000),
        "fashion": ("FashionMNIST", None, None),
    }[data]
    X, y = (part[:n_train] for part in load_torchvision(name, root=root, return_X_y=True))
    test = load_torchvision(name, root=root, train=False, return_X_y=True)
    X_test, y_test = (part[:n_test] for part in test)
    records = json.loads(RESULTS.read_text())["records"] if RESULTS.exists() else []
    for model, seed, estimator in models(data):
        if any((r["data"], r["model"], r["seed"]) == (data, model, seed) for r in records):
            continue
        wall, cpu = time.perf_counter(), time.process_time()
        estimator.fit(X, y)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        start = time.perf_counter()
        proba = estimator.predict_proba(X_test)
        records.append(
            {
                "data": data,
                "model": model,
                "seed": seed,
                "accuracy": float(100 * np.mean(proba.argmax(1) == y_test)),
                "log_loss": float(log_loss(y_test, proba)),
                "fit_s": wall,
                "fit_cpu_s": cpu,
                "predict_s": time.perf_counter() - start,
                "threads": torch.get_num_threads(),
            }
        )
        print(records[-1], flush=True)
        RESULTS.write_text(
            json.dumps(
                {
                    "command": "python benchmarks/images.py --root DATA mnist fashion",
                    "machine": {"processor": platform.machine()},
                    "versions": {"sknoprop": __version__, "torch": torch.__version__},
                    "records": records,
                },
                indent=1,
            )
            + "\n"
        )


def report():
    records = json.loads(RESULTS.read_text())["records"]
    print("| images | model | seeds | accuracy % | log loss | fit, s | CPU s |")
    print("|---|---|---|---|---|---|---|")
    for data, model in dict.fromkeys((r["data"], r["model"]) for r in records):
        own = [r for r in records if (r["data"], r["model"]) == (data, model)]
        column = {key: [r[key] for r in own] for key in own[0]}
        spread = f" ± {np.std(column['accuracy'], ddof=1):.2f}" if len(own) > 1 else ""
        print(
            f"| {data} | {model} | {len(own)} | {np.mean(column['accuracy']):.2f}{spread} | "
            f"{np.mean(column['log_loss']):.4f} | {np.mean(column['fit_s']):.0f} | "
            f"{np.mean(column['fit_cpu_s']):.0f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="*", help="mnist, fashion")
    parser.add_argument("--root", help="folder of the data sets, in torchvision's layout")
    parser.add_argument("--report", action="store_true", help="print what was measured")
    options = parser.parse_args()
    for data in options.data:
        measure(options.root, data)
    if options.report:
        report()


if __name__ == "__main__":
    main()
