"""
What do sampler steps cost, and what do they give?
==================================================

The paper predicts by running a trajectory from noise to label, step by step. sknoprop's default are
the blocks' class kernels. This compares the two on one trained model: prediction is chosen after
the fit.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from sknoprop import NoPropClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=600, stratify=y, random_state=0
)
clf = NoPropClassifier("fm", random_state=0).fit(X_train, y_train)


def judged(**params):
    """Accuracy, log loss and CPU seconds of a way to predict."""
    clf.set_params(**params)
    start = time.process_time()
    proba = clf.predict_proba(X_test)
    seconds = time.process_time() - start
    return (proba.argmax(axis=1) == y_test).mean(), log_loss(y_test, proba), seconds


# %%
# Steps, samplers, draws
# ----------------------
#
# Euler's method takes one evaluation a step, Heun's two. A prediction is the mean over several
# trajectories, ``n_draws`` of them: with four, a class that none of them ends in gets a
# probability near zero, which log loss does not forgive. The class kernels ask for each class, at
# two levels of each of five blocks, with four draws: 400 evaluations of the small head a row, as
# many as four trajectories of 100 Euler steps, but all at once instead of one after another.

judged()  # once for warming up
kernel = judged(inference="kernel", n_draws=4)
n_steps = np.array([1, 2, 5, 10, 20, 40])
ways = {
    "Euler, 4 trajectories": {"sampler": "euler", "n_draws": 4},
    "Heun, 4 trajectories": {"sampler": "heun", "n_draws": 4},
    "Euler, 32 trajectories": {"sampler": "euler", "n_draws": 32},
}
results = {
    name: np.array([judged(inference="trajectory", n_steps=int(n), **way) for n in n_steps])
    for name, way in ways.items()
}

print(f"{'':26}{'steps':>6}{'accuracy':>10}{'log loss':>10}{'seconds':>9}")
print(f"{'class kernels, 4 draws':26}{'':6}{kernel[0]:10.1%}{kernel[1]:10.3f}{kernel[2]:9.2f}")
for name, result in results.items():
    for n, (accuracy, loss, seconds) in zip(n_steps, result, strict=True):
        print(f"{name:26}{n:6}{accuracy:10.1%}{loss:10.3f}{seconds:9.2f}")

# %%
# What comes of it
# ----------------

fig, axes = plt.subplots(1, 3, figsize=(11, 3.9), layout="constrained")
for k, title in enumerate(("accuracy", "log loss", "CPU seconds for 1,197 rows")):
    ax = axes[k]
    for j, (name, result) in enumerate(results.items()):
        color = ("#0072B2", "#D55E00", "#009E73")[j]
        line = ("-", "--", "-.")[j]
        ax.plot(n_steps, result[:, k], color=color, linestyle=line, marker="oDs"[j], label=name)
    ax.axhline(kernel[k], color="black", linestyle=":", label="class kernels, 4 draws")
    ax.set(xlabel="steps of a trajectory", ylabel=title, xscale="log")
    ax.set_xticks(n_steps, n_steps)
    ax.minorticks_off()
axes[2].set_yscale("log")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
plt.show()

# %%
# Accuracy hardly depends on the way. Log loss does: a trajectory ends next to one class, however
# doubtful the row, and says so with certainty. (With one step, too: it goes to the first block's
# mean embedding, and the read-out of flow matching, which is not trained, takes that for a label
# with no noise left.) A handful of such ends is a coarse estimate of a probability; more
# trajectories refine it, and cost in proportion, but all of them inherit what errors the blocks
# make on the way. More than some ten steps give nothing here. Class kernels ask every block where
# it was trained, at labels of all classes, and let none of them decide alone.
