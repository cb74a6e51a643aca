"""The figures of the user guide, drawn by the package's own functions when the pages are built.

    python docs/figures.py FOLDER

draws them on their own. Each function below draws one file; pages include it by its name.
"""

import sys
from pathlib import Path

import matplotlib as mpl
import measured_figures
import numpy as np
import torch
from figure_style import BLUE, GREEN, GREY, ORANGE, PINK, STYLE, new_figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

from sknoprop import NoPropClassifier
from sknoprop.kernels import (
    kernel_from_flow,
    kernel_latents,
    latent_shares,
    shared_draws,
    stationary_distribution,
)
from sknoprop.partition import Partition, label_information
from sknoprop.samplers import AncestralSampler, EulerSampler, ProbabilityFlowSampler, integrate
from sknoprop.schedules import (
    CosineSchedule,
    LinearSchedule,
    SigmoidSchedule,
    StraightLineSchedule,
)

CLASSES = (BLUE, ORANGE, GREEN)


def blocks():
    """Back-propagation through a chain, and blocks on their own."""
    figure = new_figure(6.4, 5.4)
    ax = figure.subplots()
    ax.set(xlim=(-0.9, 9.3), ylim=(-1.9, 6.9))
    ax.axis("off")

    def box(x, y, text, color):
        ax.add_patch(
            FancyBboxPatch(
                (x - 0.75, y - 0.42),
                1.5,
                0.84,
                boxstyle="round,pad=0.05",
                facecolor=color + "22",
                edgecolor=color,
            )
        )
        ax.text(x, y, text, ha="center", va="center")

    def arrow(start, end, color, **kwargs):
        ax.add_patch(
            FancyArrowPatch(
                start, end, arrowstyle="-|>", mutation_scale=13, color=color, lw=1.6, **kwargs
            )
        )

    ax.text(-0.8, 6.55, "Back-propagation: one chain, one loss", weight="bold")
    xs = (1.2, 3.4, 5.6)
    for k, x in enumerate(xs):
        box(x, 5.4, f"layer {k + 1}", GREY)
    ax.text(-0.6, 5.4, "$x$", ha="center", va="center")
    ax.text(8.3, 5.4, "loss($y$)", ha="center", va="center")
    ends = [(-0.3, 0.35), (2.05, 2.55), (4.25, 4.75), (6.45, 7.3)]
    for a, b in ends:
        arrow((a, 5.55), (b, 5.55), GREY)
        if a > 0:
            arrow((b, 5.2), (a, 5.2), ORANGE)
    ax.text(4.5, 4.5, "layers wait for each other", ha="center", color=ORANGE)

    ax.text(-0.8, 3.55, "NoProp: blocks on their own, a loss each", weight="bold")
    for k, x in enumerate(xs):
        box(x, 1.0, f"block {k + 1}", BLUE)
        arrow((x, 2.35), (x, 1.5), GREY)
        ax.text(x, 2.65, f"$z_{k}$", ha="center", va="center")
        arrow((x, -0.55), (x, 0.5), GREY)
        ax.text(x + 0.95, 1.65, f"loss$_{k + 1}(y)$", ha="left", va="center", color=ORANGE)
        arrow((x + 0.95, 1.5), (x + 0.45, 1.48), ORANGE, connectionstyle="arc3,rad=0.3")
    ax.text(-0.6, -0.85, "$x$", ha="center", va="center")
    ax.plot([-0.3, 5.6], [-0.85, -0.85], color=GREY, lw=1.6)
    for x in xs:
        ax.plot([x, x], [-0.85, -0.5], color=GREY, lw=1.6)
    ax.text(
        4.2,
        -1.6,
        "$z_t$: the embedded label under noise, less of it in each block",
        ha="center",
        color=GREY,
    )
    return figure


def noise():
    """What the default's five blocks see of three labels."""
    corners = torch.tensor([[0.0, 1.0], [-0.866, -0.5], [0.866, -0.5]])
    schedule = CosineSchedule()
    figure = new_figure(6.4, 1.75)
    axes = figure.subplots(1, 5, sharex=True, sharey=True)
    eps = torch.randn(3, 150, 2, generator=torch.Generator().manual_seed(0))
    for k, ax in enumerate(axes):
        t = torch.tensor(k / 5)
        z = schedule.signal(t) * corners[:, None] + schedule.noise(t) * eps
        for points, color in zip(z, CLASSES, strict=True):
            ax.scatter(*points.T, s=3, color=color, linewidths=0, alpha=0.7)
        for corner, color in zip(corners, CLASSES, strict=True):
            ax.plot(*corner, marker="*", ms=11, color=color, mec="white", mew=0.7)
        ax.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), xticks=[], yticks=[], aspect="equal")
        ax.set_title(f"block {k + 1}\n$t = {k / 5:.1f}$")
        for spine in ax.spines.values():
            spine.set_visible(True)
    return figure


def schedules():
    """Signal, noise and signal-to-noise ratio of the fixed schedules."""
    t = torch.linspace(0.0, 1.0, 400, dtype=torch.float64)[1:-1]
    figure = new_figure(6.4, 3.4)
    left, right = figure.subplots(1, 2)
    every = {
        "cosine": (CosineSchedule(), BLUE),
        "linear": (LinearSchedule(), ORANGE),
        "sigmoid": (SigmoidSchedule(), GREEN),
        "straight": (StraightLineSchedule(), PINK),
    }
    for name, (schedule, color) in every.items():
        left.plot(t, schedule.signal(t), color=color, label=name)
        left.plot(t, schedule.noise(t), color=color, ls=(0, (2, 2)))
        right.plot(t, schedule.log_snr(t), color=color)
    left.set(xlabel="time $t$", title="signal (solid), noise (dashed)")
    right.set(xlabel="time $t$", title="log SNR", ylim=(-17, 11))
    figure.legend(loc="outside lower center", ncols=4, columnspacing=1.2, handlelength=1.4)
    return figure


def cuts():
    """The information cut of two schedules for the ten digits."""
    weight, prior = torch.eye(10), torch.full((10,), 0.1)
    t = torch.linspace(0.0, 1.0, 301, dtype=torch.float64)[1:-1]
    figure = new_figure(6.4, 3.2)
    axes = figure.subplots(1, 2, sharey=True)
    titles = ("cosine", "straight")
    for ax, schedule, title in zip(
        axes, (CosineSchedule(), StraightLineSchedule()), titles, strict=True
    ):
        known = label_information(weight, prior, (0.5 * schedule.log_snr(t)).exp())
        ax.plot(t, known, color=BLUE)
        edges = Partition.by_information(5, schedule, weight, prior).edges
        for k in range(5):
            color = "#0072B2" if k % 2 == 0 else "#ffffff"
            ax.axvspan(float(edges[k]), float(edges[k + 1]), color=color, alpha=0.12, lw=0)
            ax.text(float(edges[k : k + 2].mean()), 1.04, str(k + 1), ha="center", color=GREY)
        ax.set(xlabel="time $t$", xlim=(0, 1), ylim=(0, 1.12), yticks=[0, 0.2, 0.4, 0.6, 0.8, 1])
        ax.set_title(f'schedule="{title}"')
    axes[0].set_ylabel("share of the label known")
    return figure


#: Two classes on a line, and how likely they are for the row that is drawn.
LINE = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
LAW = torch.tensor([0.7, 0.3], dtype=torch.float64)


def exact_posterior(schedule, z, t):
    """``P(y | x, z_t)`` on `LINE`: shape ``(..., 1)`` to ``(..., 2)``."""
    signal, spread = schedule.signal(t), schedule.noise(t)
    return torch.softmax(LAW.log() - 0.5 * ((z - signal * LINE.T) / spread) ** 2, -1)


def trajectories(schedule, sampler, times, seed=11, n=10):
    """Trajectories of the exact denoiser over the density of the latents.

    With this seed as many of ten end at either class as should on the average.
    """
    figure = new_figure(6.4, 3.3)
    ax = figure.subplots()
    grid_t = torch.linspace(0.0, 1.0, 240, dtype=torch.float64).clamp(1e-4, 0.999)
    grid_z = torch.linspace(-2.6, 2.6, 240, dtype=torch.float64)
    signal, spread = schedule.signal(grid_t), schedule.noise(grid_t).clamp_min(0.06)
    density = sum(
        p * torch.exp(-0.5 * ((grid_z[:, None] - signal * w) / spread) ** 2) / spread
        for p, w in zip(LAW, LINE, strict=True)
    )
    density = density / density.amax(0)
    ax.imshow(
        density,
        origin="lower",
        extent=(0, 1, -2.6, 2.6),
        aspect="auto",
        cmap=mpl.colors.LinearSegmentedColormap.from_list("", ["white", "#9fb8cc"]),
    )
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    steps = torch.randn(len(times) - 1, n, 1, generator=generator, dtype=torch.float64)

    def denoise(z, t):
        return exact_posterior(schedule, z, t) @ LINE

    path = torch.stack([start, *integrate(sampler, denoise, schedule, start, times, steps)], 1)[
        ..., 0
    ]
    for z in path:
        color = BLUE if z[-1] > 0 else ORANGE
        marker = "o" if len(times) < 20 else None
        ax.plot(times, z, color=color, lw=1.2, marker=marker, ms=3)
    ax.set(xlabel="time $t$", ylabel="latent $z$", xlim=(0, 1), ylim=(-2.6, 2.6), yticks=[-2, 0, 2])
    twin = ax.secondary_yaxis("right")
    twin.set_yticks([1.0, -1.0], ["class A\n70 %", "class B\n30 %"])
    twin.tick_params(length=0)
    return figure


def path_dt():
    """Ancestral sampling, ten blocks."""
    times = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)
    return trajectories(CosineSchedule(), AncestralSampler(), times)


def path_ct():
    """The probability-flow ODE on the cosine schedule."""
    times = torch.linspace(0.0, 1.0, 81, dtype=torch.float64)
    return trajectories(CosineSchedule(), ProbabilityFlowSampler(), times)


def path_fm():
    """The ODE of flow matching on the straight line."""
    times = torch.linspace(0.0, 1.0, 81, dtype=torch.float64)
    return trajectories(StraightLineSchedule(), EulerSampler(), times)


def kernel_estimates():
    """The law of an exact posterior's kernel by few draws: each class's own, or all weighted."""
    log_snr = torch.linspace(-7.0, 4.0, 45, dtype=torch.float64)
    signal, spread = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
    root = signal / spread
    figure = new_figure(6.4, 3.4)
    ax = figure.subplots()
    for seed in range(12):
        eps = shared_draws(4, 1, torch.Generator().manual_seed(seed)).double()
        z = kernel_latents(LINE, signal, spread, eps)
        logits = LAW.log() - 0.5 * ((z - signal.view(-1, 1, 1, 1) * LINE.T) ** 2) / (
            spread.view(-1, 1, 1, 1) ** 2
        )
        p = torch.softmax(logits, -1)
        own = stationary_distribution(kernel_from_flow(p.mean(-2)))
        shares = latent_shares(LINE, LINE, signal, spread, eps)
        flow = torch.einsum("lond,lony->ldy", shares, p) / len(eps)
        balanced = stationary_distribution(kernel_from_flow(flow))
        label = seed == 0
        ax.plot(2 * root.log(), own[:, 0], color=ORANGE, lw=0.9, alpha=0.8)
        ax.plot(2 * root.log(), balanced[:, 0], color=BLUE, lw=2.5)
        if label:
            ax.plot([], [], color=ORANGE, label="each class's own draws")
            ax.plot([], [], color=BLUE, lw=2.5, label="all draws, balance heuristic")
    ax.axhline(float(LAW[0]), color="black", ls=(0, (1, 2)), lw=1)
    ax.set(xlabel="log SNR of the block's level", ylabel="estimate of $P(A\\,|\\,x)$", ylim=(0, 1))
    ax.legend(loc="lower left")
    return figure


def kernel_blocks():
    """Class kernels of five blocks for a doubtful iris flower."""
    X, y = load_iris(return_X_y=True)
    X_train, X_test, y_train, _ = train_test_split(X, y, stratify=y, random_state=1)
    clf = NoPropClassifier(device="cpu", random_state=0).fit(X_train, y_train)
    proba = clf.predict_proba(X_test)
    row = int(np.argmin(proba.max(1)))
    kernels = clf.predict_class_kernel(X_test[[row]])[:, 0]
    laws = clf.predict_block_proba(X_test[[row]])[:, 0]
    names = ("setosa", "versicolor", "virginica")
    figure = new_figure(6.4, 2.35)
    axes = figure.subplots(2, 5, height_ratios=(3, 1))
    for k in range(5):
        for ax, values, top in ((axes[0, k], kernels[k], True), (axes[1, k], laws[k, None], False)):
            ax.imshow(values, cmap="Blues" if top else "Oranges", vmin=0, vmax=1)
            for (i, j), value in np.ndenumerate(values):
                shown = f"{value:.2f}"[1:] if value < 0.995 else "1"
                color = "white" if value > 0.6 else "black"
                ax.text(j, i, shown, ha="center", va="center", color=color, fontsize=10)
            ax.set(xticks=[], yticks=[])
            if top:
                ax.set_title(f"block {k + 1}")
        if k == 0:
            axes[0, 0].set_yticks(range(3), names)
            axes[1, 0].set_yticks([0], ["law"])
            for ax in axes[:, 0]:
                ax.tick_params(length=0)
    return figure


FIGURES = (
    blocks,
    noise,
    schedules,
    cuts,
    path_dt,
    path_ct,
    path_fm,
    kernel_estimates,
    kernel_blocks,
    *measured_figures.FIGURES,
)


def draw_all(folder):
    """Draw all figures into a folder, as SVG."""
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        for draw in FIGURES:
            draw().savefig(folder / f"{draw.__name__}.svg", metadata={"Date": None})


if __name__ == "__main__":
    draw_all(sys.argv[1])
