"""What a GPU makes of it: steps, memory, precision, predictions, accuracy.

    python -m benchmarks.gpu --root DATA              # a few minutes, all sections
    python -m benchmarks.gpu --root DATA steps        # one section
    python -m benchmarks.gpu --report

DATA has MNIST, in torchvision's layout. Sections: "steps" compares all blocks in one step, block
after block, and the paper's back-propagation through the same blocks, each as CUDA graphs and
without; "memory" the peak of the GPU's memory by number of blocks; "engine" the engine and a bare
loop over the same steps; "profile" what a step consists of; "precision" float32 and bfloat16;
"compile" `torch.compile`; "prediction" class kernels and trajectories; "accuracy" time until 97 %
of MNIST's test images are right. Writes ``benchmarks/results/gpu.json``.
"""

import argparse
import gc
import json
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import make_classification
from sklearn.metrics import log_loss

from benchmarks.paper.baselines import Baseline
from benchmarks.time_to_accuracy import MODELS, mnist
from benchmarks.training_cost import Loops
from sknoprop import NoPropClassifier
from sknoprop.datasets import load_torchvision
from sknoprop.training import recorded
from sknoprop.training.autograd import AutogradStep
from sknoprop.training.recorded import RecordedStep

RESULTS = Path(__file__).parent / "results" / "gpu.json"
EPOCHS = 5

DENSE = {"encoder": "mlp", "hidden_layer_sizes": (128, 128)}
IMAGES = {"encoder": "cnn"}


@contextmanager
def recording(wanted):
    """With CUDA graphs, of however few steps, or without."""
    takes, fewest = RecordedStep.takes, recorded.FEWEST_STEPS
    recorded.FEWEST_STEPS = 1
    if not wanted:
        RecordedStep.takes = staticmethod(lambda *_: False)
    try:
        yield
    finally:
        RecordedStep.takes, recorded.FEWEST_STEPS = staticmethod(takes), fewest


def epoch_seconds(clf, X, y):
    """Wall-clock seconds of a few epochs; the first one sets up, or records, what others use."""
    clf.set_params(max_iter=EPOCHS).fit(X, y)
    return [epoch["dur"] for epoch in clf.history_]


def backprop_epoch(params, X, y):
    times = []
    for n in (1, 1, 3):
        twin = Baseline(
            "backprop", NoPropClassifier(**params, max_iter=n), torch.device("cuda"), None
        )
        torch.cuda.synchronize()
        start = time.perf_counter()
        twin.fit(X, y)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return [(times[2] - times[1]) / 2]


def steps(data):
    X, y = data["MNIST"]
    X, y = X[:6_400], y[:6_400]
    found = []
    for name, layers in (("dense", DENSE), ("convolutions", IMAGES)):
        for n_blocks in (5, 10, 20):
            params = {"variant": "dt", "n_blocks": n_blocks, "batch_size": 128, "random_state": 0}
            params |= layers
            for way, at_once in (("all at once", None), ("block after block", 1)):
                for graphs in (True, False) if n_blocks == 10 else (True,):
                    with recording(graphs):
                        clf = NoPropClassifier(**params, blocks_at_once=at_once)
                        seconds = epoch_seconds(clf, X, y)
                    case = {"layers": name, "blocks": n_blocks, "way": way, "graphs": graphs}
                    found.append(case | {"epoch_s": seconds})
                    print(found[-1], flush=True)
            if n_blocks == 10:
                case = {"layers": name, "blocks": 10, "way": "back-propagation", "graphs": False}
                found.append(case | {"epoch_s": backprop_epoch(params, X, y)})
                print(found[-1], flush=True)
    return found


def memory(data):
    X, y = data["MNIST"]
    X, y = X[:5_120], y[:5_120]
    found = []
    for name, layers in (("convolutions", IMAGES), ("dense", DENSE)):
        for n_blocks in (5, 10, 20):
            params = {"variant": "dt", "n_blocks": n_blocks, "batch_size": 512, "random_state": 0}
            params |= layers | {"max_iter": 3, "calibrate": False}
            for way, graphs in (
                ("all at once", False),
                ("all at once", True),
                ("block after block", False),
                ("block after block", True),
                ("back-propagation", False),
            ):
                at_once = 1 if way == "block after block" else None
                clf = NoPropClassifier(**params, blocks_at_once=at_once)
                if way == "back-propagation":
                    clf = Baseline("backprop", clf, torch.device("cuda"), None)
                gc.collect()
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
                with recording(graphs):
                    clf.fit(X, y)
                model = clf.net.model if way == "back-propagation" else clf.blocks_
                sizes = {
                    "peak_mb": torch.cuda.max_memory_allocated() - before,
                    "reserved_mb": torch.cuda.max_memory_reserved(),
                    "parameters_mb": 4 * sum(p.numel() for p in model.parameters()),
                }
                case = {"layers": name, "blocks": n_blocks, "way": way, "graphs": graphs}
                found.append(case | {key: size / 2**20 for key, size in sizes.items()})
                print(found[-1], flush=True)
                model = clf = None
    return found


def engine(data):
    loops = Loops(*data["digits"], device="cuda")
    found = []
    for _ in range(5):
        for name, make in (("engine", loops.engine), ("bare loop", loops.bare)):
            seconds, _ = timed(make(), 1)
            found.append({"loop": name, "s": seconds})
        with recording(False):
            seconds, _ = timed(loops.engine(), 1)
            found.append({"loop": "engine without graphs", "s": seconds})
    print(found, flush=True)
    return found


def profile(data):
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    X, y = data["MNIST"]
    n_steps = 50
    X, y = X[: 128 * n_steps], y[: 128 * n_steps]
    found = []
    for name, layers in (("dense", DENSE), ("convolutions", IMAGES)):
        for graphs in (True, False):
            params = {"n_blocks": 10, "batch_size": 128, "calibrate": False, "random_state": 0}
            clf = NoPropClassifier("dt", **params, **layers)
            with recording(graphs):
                seconds = epoch_seconds(clf, X, y)
                with profiler(activities=[ProfilerActivity.CUDA]) as seen:
                    clf.set_params(max_iter=1).fit(X, y)
            kernels = [e for e in seen.key_averages() if str(e.device_type).endswith("CUDA")]
            # All but ranges that a host has given a name to.
            kernels = [e for e in kernels if not e.key.startswith("Optimizer.")]
            largest = sorted(kernels, key=lambda e: -e.self_device_time_total)[:15]
            found.append(
                {
                    "layers": name,
                    "graphs": graphs,
                    "step_ms": [1e3 * s / n_steps for s in seconds],
                    "device_us_a_step": sum(e.self_device_time_total for e in kernels) / n_steps,
                    "kernels_a_step": sum(e.count for e in kernels) / n_steps,
                    "largest_count_and_us_a_step": {
                        e.key[:120]: [e.count / n_steps, e.self_device_time_total / n_steps]
                        for e in largest
                    },
                }
            )
            print(json.dumps(found[-1], indent=1), flush=True)
    return found


def precision(data):
    random = np.random.default_rng(0)
    X = random.integers(256, size=(6400, 3, 32, 32), dtype=np.uint8)
    y = np.arange(len(X)) % 10
    found = []
    cases = (("cnn", 10), ("resnet", 5), ("resnet-wide", 5))
    for encoder, n_blocks in cases:
        for dtype in ("float32", "bfloat16"):
            clf = NoPropClassifier(
                "dt", encoder=encoder, n_blocks=n_blocks, batch_size=128, dtype=dtype
            )
            torch.cuda.reset_peak_memory_stats()
            case = {"encoder": encoder, "blocks": n_blocks, "dtype": dtype}
            found.append(case | {"epoch_s": epoch_seconds(clf, X, y), "steps": 50})
            found[-1]["peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
            print(found[-1], flush=True)
    return found


def compiled(data):
    """A step by autograd as it is, and with its losses compiled; seconds to compile."""
    loops = Loops(*data["digits"], device="cuda")  # without dropout: masks are not to be compiled
    found = []
    for way in ("eager", "compiled"):
        seeds, model, rows = loops.prepare()
        batches = loops.batches(seeds, model, rows)
        step = AutogradStep(model.train(), model.scale())
        if way == "compiled":
            model.losses = torch.compile(model.losses)

        def epoch(batches=batches, model=model, step=step):
            for batch in batches:
                model.zero_grad()
                step.backward(step.take(batch))

        first, _ = timed(epoch, 1)
        seconds, _ = timed(epoch, 5)
        case = {"way": way, "step_ms": 1e3 * seconds / len(batches)}
        found.append(case | {"first_epoch_s": first})
        print(found[-1], flush=True)
    return found


def timed(function, repeats=2):
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        result = function()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times), result


def prediction(data):
    found = []
    for n_classes in (2, 10, 100):
        X, y = make_classification(
            110_000, 20, n_informative=15, n_classes=n_classes, random_state=0
        )
        clf = NoPropClassifier(n_blocks=10, hidden_layer_sizes=(256,), random_state=0)
        clf.fit(X[:10_000], y[:10_000])
        seconds, p = timed(lambda clf=clf, X=X: clf.predict_proba(X[10_000:]))
        case = {"classes": n_classes, "rows": 100_000, "kernel_s": seconds}
        found.append(case | {"log_loss": log_loss(y[10_000:], p)})
        print(found[-1], flush=True)
    X, y = data["MNIST"]
    clf = NoPropClassifier("fm", **IMAGES, max_iter=1, inference="trajectory", random_state=0)
    clf.fit(X[:5000], y[:5000])
    for n_steps in (1, 100):
        clf.set_params(n_steps=n_steps)
        seconds, _ = timed(lambda clf=clf: clf.predict_proba(data["test"][0]))
        found.append({"sampler_steps": n_steps, "rows": 10_000, "s": seconds})
        print(found[-1], flush=True)
    return found


def accuracy(data):
    X, X_test, y, y_test = data["flat"]
    found = []
    for name in ("fm, defaults", "fm, one layer"):
        for n_epochs in (1, 2, 3, 4, 6, 8):
            for seed in range(3):
                clf = MODELS[name](n_epochs, seed, X, 10).set_params(device="cuda")
                seconds, _ = timed(lambda clf=clf: clf.fit(X, y), 1)
                score = 100 * float(clf.score(X_test, y_test))
                found.append(
                    {"model": name, "epochs": n_epochs, "seed": seed, "s": seconds, "acc": score}
                )
            print(found[-1], flush=True)
            if np.mean([r["acc"] for r in found[-3:]]) >= 97.0:
                break
    return found


SECTIONS = {
    "steps": steps,
    "memory": memory,
    "engine": engine,
    "profile": profile,
    "precision": precision,
    "compile": compiled,
    "prediction": prediction,
    "accuracy": accuracy,
}


def load(root, names):
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    data = {"digits": (X[:1347] / 16, y[:1347])}
    data["MNIST"] = load_torchvision("MNIST", root=root, return_X_y=True)
    data["test"] = load_torchvision("MNIST", root=root, train=False, return_X_y=True)
    if "accuracy" in names:
        data["flat"] = mnist(root)
    return data


def report():
    found = json.loads(RESULTS.read_text())
    print(f"{found['device']}, torch {found['torch']}\n")
    for name, records in found["sections"].items():
        REPORTS.get(name, report_plainly)(records)
        print()


def report_steps(records):
    print("| layers | blocks | way | CUDA graphs | ms a step |")
    print("|---|---|---|---|---|")
    for r in records:
        step = 1e3 * min(r["epoch_s"]) / 50
        print(
            f"| {r['layers']} | {r['blocks']} | {r['way']} | {'yes' if r['graphs'] else 'no'} | "
            f"{step:.2f} |"
        )


def report_profile(records):
    print("| layers | CUDA graphs | ms a step | of it the GPU is busy | kernels |")
    print("|---|---|---|---|---|")
    for r in records:
        print(
            f"| {r['layers']} | {'yes' if r['graphs'] else 'no'} | {min(r['step_ms']):.2f} | "
            f"{r['device_us_a_step'] / 1e3:.2f} | {r['kernels_a_step']:.0f} |"
        )


def report_memory(records):
    ways = list(dict.fromkeys((r["way"], r["graphs"]) for r in records))
    names = [f"{way}{', graphs' if graphs else ''}" for way, graphs in ways]
    print(f"| layers | blocks | parameters, MB |{''.join(f' {name} |' for name in names)}")
    print("|---" * (len(ways) + 3) + "|")
    for layers, blocks in dict.fromkeys((r["layers"], r["blocks"]) for r in records):
        own = {
            (r["way"], r["graphs"]): r
            for r in records
            if (r["layers"], r["blocks"]) == (layers, blocks)
        }
        peaks = "".join(f" {own[way]['peak_mb']:.0f} |" for way in ways)
        print(f"| {layers} | {blocks} | {own[ways[0]]['parameters_mb']:.1f} |{peaks}")


def report_engine(records):
    least = {
        name: min(r["s"] for r in records if r["loop"] == name)
        for name in dict.fromkeys(r["loop"] for r in records)
    }
    for name, seconds in least.items():
        print(f"{name}: {seconds:.3f} s, {seconds / least['bare loop']:.2f} x the bare loop")


def report_accuracy(records):
    print("| model | epochs | accuracy % | s of a fit |")
    print("|---|---|---|---|")
    for model, epochs in dict.fromkeys((r["model"], r["epochs"]) for r in records):
        own = [r for r in records if (r["model"], r["epochs"]) == (model, epochs)]
        acc, seconds = ([r[key] for r in own] for key in ("acc", "s"))
        print(
            f"| {model} | {epochs} | {np.mean(acc):.2f} ± {np.std(acc, ddof=1):.2f} | "
            f"{np.mean(seconds):.2f} ± {np.std(seconds, ddof=1):.2f} |"
        )


def report_prediction(records):
    for r in records:
        if "classes" in r:
            print(
                f"{r['classes']} classes, class kernels of {r['rows']:,} rows: "
                f"{r['kernel_s']:.2f} s, log loss {r['log_loss']:.3f}"
            )
        else:
            print(f"{r['rows']:,} images, {r['sampler_steps']} steps: {r['s']:.2f} s")


def report_plainly(records):
    for record in records:
        print(json.dumps(record))


REPORTS = {
    "steps": report_steps,
    "profile": report_profile,
    "memory": report_memory,
    "engine": report_engine,
    "accuracy": report_accuracy,
    "prediction": report_prediction,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="folder of MNIST, in torchvision's layout")
    parser.add_argument("--report", action="store_true", help="print what was measured")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    options = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"sections": {}}
    if options.root:
        names = options.sections or list(SECTIONS)
        data = load(options.root, names)
        found |= {
            "command": "python -m benchmarks.gpu --root DATA",
            "device": torch.cuda.get_device_name(),
            "torch": torch.__version__,
        }
        for name in names:
            try:
                found["sections"][name] = SECTIONS[name](data)
            except Exception as error:  # what was measured before it counts
                print(f"{name} failed: {type(error).__name__}: {error}", flush=True)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    if options.report or options.root:
        report()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
