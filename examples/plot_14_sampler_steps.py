"""
What do sampler steps cost, and what do they give?
==================================================

The paper predicts by running a trajectory from noise to label, step by step, and reads a class off
its end. sknoprop's default are the blocks' class kernels; its trajectories are read on the way.
This compares the three on the same trained blocks.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from sknoprop import NoPropClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=600, stratify=y, random_state=0
)

# %%
# Two read-outs
# -------------
#
# ``"denoiser"``, the default, is the mean of the class probabilities that blocks give on the way.
# ``"nearest"``, the paper's for flow matching, looks at the last latent alone: which class
# embedding is nearest? A read-out is part of the model, so it is chosen before the fit. The blocks
# do not depend on it, and so the class kernels are the same.

denoiser = NoPropClassifier("fm", readout="denoiser", random_state=0).fit(X_train, y_train)
nearest = NoPropClassifier("fm", readout="nearest", random_state=0).fit(X_train, y_train)
same = (denoiser.predict_proba(X_test) == nearest.predict_proba(X_test)).all()
print("the same class kernels:", bool(same))

# %%
# Steps, samplers, draws
# ----------------------
#
# How to predict is chosen after the fit. Euler's method takes one evaluation a step, Heun's two. A
# prediction is the mean over ``n_draws`` trajectories. The class kernels ask for each class, at two
# levels of each of five blocks, with four draws: 400 evaluations of the small head a row, as many
# as four trajectories of 100 Euler steps, but all at once instead of one after another.
#
# Beside accuracy and log loss stands how sure a way is where it is wrong: the mean probability of
# the class it names, over the rows whose class is another one.


def judged(clf, **params):
    """Accuracy, log loss, how sure it is where it is wrong, and CPU seconds."""
    clf.set_params(**params)
    start = time.process_time()
    proba = clf.predict_proba(X_test)
    seconds = time.process_time() - start
    wrong = proba.argmax(axis=1) != y_test
    return 1 - wrong.mean(), log_loss(y_test, proba), proba[wrong].max(axis=1).mean(), seconds


kernel = judged(denoiser, inference="kernel", n_draws=4)
n_steps = np.array([1, 2, 5, 10, 20, 40])
ways = {
    "denoiser, Euler, 1 draw": (denoiser, "euler", 1),
    "denoiser, Euler, 4 draws": (denoiser, "euler", 4),
    "denoiser, Heun, 4 draws": (denoiser, "heun", 4),
    "nearest, Euler, 1 draw": (nearest, "euler", 1),
    "nearest, Euler, 4 draws": (nearest, "euler", 4),
    "nearest, Euler, 32 draws": (nearest, "euler", 32),
}
results = {}
for name, (clf, sampler, n_draws) in ways.items():
    clf.set_params(inference="trajectory", sampler=sampler, n_draws=n_draws)
    results[name] = np.array([judged(clf, n_steps=int(n)) for n in n_steps])

print(f"{'':25}{'steps':>6}{'accuracy':>10}{'log loss':>10}{'sure, wrong':>13}{'seconds':>9}")
for name, result in {"class kernels, 4 draws": np.array([kernel]), **results}.items():
    for n, (accuracy, loss, sure, seconds) in zip(n_steps, result, strict=False):
        steps = n if len(result) > 1 else ""
        print(f"{name:25}{steps:>6}{accuracy:10.1%}{loss:10.3f}{sure:13.2f}{seconds:9.2f}")

# %%
# What comes of it
# ----------------

fig, axes = plt.subplots(3, 1, sharex=True, figsize=(6.4, 8.4), layout="constrained")
labels = ("log loss, nats", "mean probability\nwhere wrong", "CPU seconds\nfor 1,197 rows")
for k, (ax, label) in enumerate(zip(axes, labels, strict=True), start=1):
    for j, (name, result) in enumerate(results.items()):
        color = "#0072B2" if name.startswith("denoiser") else "#D55E00"
        line, marker = ("-", "--", ":")[j % 3], "oDs^v<"[j]
        ax.plot(n_steps, result[:, k], color=color, linestyle=line, marker=marker, label=name)
    ax.axhline(kernel[k], color="black", linestyle="-.", label="class kernels, 4 draws")
    ax.set(ylabel=label, xscale="log")
    ax.set_xticks(n_steps, n_steps)
    ax.minorticks_off()
axes[0].set(yscale="log", yticks=[0.1, 0.2, 0.5, 1], yticklabels=["0.1", "0.2", "0.5", "1"])
axes[2].set(yscale="log", xlabel="steps of a trajectory")
axes[2].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
axes[2].yaxis.set_major_formatter("{x:g}")
axes[2].minorticks_off()
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
plt.show()

# %%
# Accuracy hardly depends on the way. Log loss depends on the read-out. Read at its end, a
# trajectory is next to one class, however doubtful the row, and says so with certainty: with one
# draw it is all but certain of the rows that it gets wrong, too. (With one step as well: that goes
# to the first block's mean embedding, and this read-out, which is not trained, takes it for a label
# with no noise left.) A handful of such ends is a coarse estimate of a probability, and 32 of them
# are still far behind.
#
# With the denoiser's read-out one trajectory does. A single step, which is the first block's answer
# alone, has a somewhat higher log loss. From two steps on it stays within about a hundredth of that
# of the class kernels: neither more trajectories, nor more steps, nor Heun's method make a
# difference that counts on these data. (On small tables it can be larger, see
# :doc:`/measurements`.) A few Euler steps cost less than the kernels do. What the kernels have for
# it: they need no steps to choose, and each block's estimate stands alone.
