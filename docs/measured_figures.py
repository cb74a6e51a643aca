"""The figures of the benchmarks, drawn from their records in ``benchmarks/results``."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from figure_style import BLUE, GREEN, GREY, ORANGE, PINK, new_figure

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"


def records(name):
    """What a benchmark has recorded."""
    return json.loads((RESULTS / f"{name}.json").read_text())["records"]


def lines_of(name):
    """Records of a benchmark that has a line for each."""
    return map(json.loads, (RESULTS / f"{name}.jsonl").read_text().splitlines())


def tables():
    """Log loss of the peers on fifteen tables, relative to that of the defaults."""
    folds = defaultdict(list)
    for record in lines_of("tables"):
        folds[record["table"], record["model"]].append(record["log_loss"])
    means = {key: float(np.mean(values)) for key, values in folds.items()}
    names = sorted({table for table, _ in means}, key=lambda t: means[t, "dt"])
    peers = {"MLPClassifier": GREY, "CatBoost": ORANGE, "RealMLP": GREEN, "twin-t": PINK}
    markers = dict(zip(peers, "os^D", strict=True))
    figure = new_figure(6.4, 5.6)
    ax = figure.subplots()
    for k, table in enumerate(names):
        ax.axhline(k, color="#e5e7eb", lw=0.8, zorder=0)
        for peer, color in peers.items():
            ratio = means[table, peer] / means[table, "dt"]
            ax.plot(ratio, k, marker=markers[peer], ms=7, color=color, alpha=0.85, ls="")
    for peer, color in peers.items():
        ax.plot([], [], marker=markers[peer], color=color, ls="", label=peer)
    ax.axvline(1.0, color=BLUE, lw=2)
    ax.set_xscale("log")
    ax.set_xticks([0.25, 0.5, 1, 2, 4], ["¼", "½", "1", "2", "4"])
    ax.minorticks_off()
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel('log loss relative to "dt"; right of the line "dt" is better')
    figure.legend(loc="outside upper center", ncols=4, columnspacing=0.8, handletextpad=0.1)
    return figure


def hard_data():
    """What is better than the honest twin on eight tables that are few, wrong or disturbed."""
    values = defaultdict(list)
    for record in lines_of("hard_data"):
        for found in record["found"]:
            cases = [(found["what"], found["how much"])]
            if found["what"] == "as they are":
                cases = [(what, 0.0) for what in ("wrong labels", "noise", "missing")]
            for case in cases:
                values[(*case, record["model"], record["table"])].append(
                    (100 * found["accuracy"], found["log_loss"])
                )
    tables = {table for *_, table in values}

    def mean(*case):
        return np.mean([np.mean(values[(*case, table)], axis=0) for table in tables], axis=0)

    lines = {
        "fm": (BLUE, "o", "-"),
        "fm short": (BLUE, "o", ":"),
        "twin-t short": (PINK, "D", ":"),
        "MLPClassifier": (GREY, "s", "-"),
    }
    names = {
        "few rows": "training rows",
        "wrong labels": "labels drawn anew",
        "noise": "noise (deviations)",
        "missing": "inputs missing",
    }
    figure = new_figure(8.4, 5.2)
    axes = figure.subplots(2, len(names), sharex="col", sharey="row")
    for column, what in zip(axes.T, names, strict=True):
        sizes = sorted({size for own, size, *_ in values if own == what})
        twin = np.array([mean(what, size, "twin-t") for size in sizes])
        for model, (color, marker, style) in lines.items():
            own = np.array([mean(what, size, model) for size in sizes])
            gains = own[:, 0] - twin[:, 0], own[:, 1] / twin[:, 1]
            for ax, gain in zip(column, gains, strict=True):
                ax.plot(sizes, gain, color=color, marker=marker, ls=style, ms=5, label=model)
        for ax, level in zip(column, (0.0, 1.0), strict=True):
            ax.axhline(level, color=PINK, lw=2, zorder=0)
        if what == "few rows":
            column[0].set_xscale("log")
            column[1].set_xticks(sizes, [f"{size:g}" for size in sizes])
        column[1].minorticks_off()
        column[1].set_xlabel(names[what])
    axes[0, 0].set_ylabel("accuracy less twin-t's, %")
    axes[1, 0].set_ylabel("log loss over twin-t's")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def time_to_accuracy():
    """Accuracy of fits of growing length against their CPU time, on digits and MNIST."""
    lines = {
        "MLPClassifier": (GREY, "o"),
        "skorch": (ORANGE, "s"),
        "fm, defaults": (BLUE, "^"),
        "fm, one layer": (GREEN, "D"),
        "fm, one layer, 1 block": (PINK, "v"),
    }
    found = records("time_to_accuracy")
    figure = new_figure(7.6, 3.9)
    data = list(dict.fromkeys(r["data"] for r in found))
    axes = figure.subplots(1, len(data), sharey=True, squeeze=False)[0]
    for ax, name in zip(axes, data, strict=True):
        for model, (color, marker) in lines.items():
            own = [r for r in found if (r["data"], r["model"]) == (name, model)]
            times = [np.mean(r["cpu_s"]) for r in own]
            errors = [100 - np.mean(r["acc"]) for r in own]
            ax.loglog(times, errors, marker=marker, ms=5, color=color, label=model)
        ax.axhline(3, color=GREY, lw=1, ls=":")
        ax.set_yticks([2, 3, 5, 10, 20, 50], ["2", "3", "5", "10", "20", "50"])
        ax.set_ylim(2, 75)
        ax.minorticks_off()
        ax.set_title({"digits": "digits", "mnist": "MNIST"}[name])
        ax.set_xlabel("CPU seconds of a fit")
    axes[0].set_ylabel("errors on held-out rows, %")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, columnspacing=1.0)
    return figure


def steps():
    """Time of an epoch by the number of blocks: in one step, block by block, back-propagated."""
    lines = {
        "all at once": (BLUE, "o"),
        "block after block": (ORANGE, "s"),
        "back-propagation": (GREY, "^"),
    }
    found = records("steps")
    figure = new_figure(6.4, 3.6)
    ax = figure.subplots()
    for way, (color, marker) in lines.items():
        own = [r for r in found if r["way"] == way]
        blocks, times = [r["blocks"] for r in own], [r["epoch_s"] for r in own]
        ax.loglog(blocks, times, marker=marker, color=color, label=way)
    blocks = sorted({r["blocks"] for r in found})
    ax.set_xticks(blocks, [str(n) for n in blocks])
    ax.minorticks_off()
    ax.set_xlabel("blocks")
    ax.set_ylabel("CPU seconds of an epoch")
    ax.legend()
    return figure


def scaling():
    """Time of an epoch as rows, features, blocks and classes grow, with the fitted exponent."""
    found = records("scaling")
    names = list(dict.fromkeys(r["grows"] for r in found))
    figure = new_figure(7.6, 6.2)
    figure.get_layout_engine().set(hspace=0.09, wspace=0.06)
    axes = figure.subplots(2, 2, sharey=True)
    for ax, name in zip(axes.flat, names, strict=True):
        own = [r for r in found if r["grows"] == name]
        sizes, times = (np.array([r[key] for r in own]) for key in ("size", "fit_cpu_s"))
        half = len(sizes) // 2
        exponent = np.polyfit(np.log(sizes[half:]), np.log(times[half:]), 1)[0]
        ax.loglog(sizes, times, "o-", ms=4, color=BLUE)
        ax.loglog(sizes, times[-1] * sizes / sizes[-1], ls=":", color=GREY)
        some = sizes[[0, len(sizes) // 2, -1]]
        ax.set_xticks(some, [f"{size:,}" for size in some])
        ax.xaxis.minorticks_off()
        ax.set_xlabel(name)
        ax.set_title(f"exponent {exponent:.2f}")
    for ax in axes[:, 0]:
        ax.set_ylabel("CPU s of an epoch")
    return figure


def predictions():
    """CPU time of predictions and their log loss, MLPClassifier's and ours by what is chosen."""
    found = json.loads((RESULTS / "prediction.json").read_text())["tables"]
    # More draws lie on top of two, but for the time.
    more = ("10 blocks, 4 draws", "10 blocks, 16 draws")
    own = [r for r in found if r["classes"] == 2 and r["case"] not in more]
    figure = new_figure(7.0, 4.2)
    ax = figure.subplots()
    times = [float(np.mean([r["mlp_cpu_s"] for r in found if r["classes"] == 2]))]
    times += [r["cpu_s"] for r in own]
    losses = [own[0]["mlp_log_loss"], *(r["log_loss"] for r in own)]
    names = ["MLPClassifier", *(r["case"] for r in own)]
    ax.scatter(times, losses, c=[GREY, *[BLUE] * len(own)])
    # To the left of the slower ones, so that no name runs into another mark or out of the axes.
    for time, loss, name in zip(times, losses, names, strict=True):
        left = time > 1.2
        ax.annotate(
            name,
            (time, loss),
            xytext=(-6 if left else 6, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=10,
        )
    ax.set_xscale("log")
    ax.set_xlim(0.25, 10)
    ax.set_xticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
    ax.minorticks_off()
    ax.set_xlabel("CPU seconds for 100,000 rows")
    ax.set_ylabel("log loss")
    return figure


FIGURES = (tables, hard_data, time_to_accuracy, steps, scaling, predictions)
