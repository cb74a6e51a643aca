"""
What if the blocks disagree?
============================

Every block gives its own estimate of the class probabilities. Where they contradict each other the
model has not learnt what to think of a row, which is another doubt than that between two classes
that really look alike. `predict_disagreement` measures the first, the entropy of the prediction
both together.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import entropy
from sklearn.datasets import load_digits, load_sample_image
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from sknoprop import NoPropClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=600, stratify=y, random_state=0
)
clf = NoPropClassifier("fm", hidden_layer_sizes=(64, 64), random_state=0).fit(X_train, y_train)

# %%
# Rows that are no digits
# -----------------------
#
# Two kinds of strangers: the test digits with their 64 pixels shuffled (one shuffle for all), which
# have the right grey values in the wrong places; and pieces of 8 by 8 pixels from a photograph of a
# flower, stretched to the digits' range of grey.

rng = np.random.default_rng(0)
shuffled = X_test[:, rng.permutation(64)]

photo = load_sample_image("flower.jpg").mean(axis=2)[::4, ::4]
corners = rng.integers(0, np.array(photo.shape) - 8, size=(len(X_test), 2))
pieces = np.stack([photo[i : i + 8, j : j + 8].ravel() for i, j in corners])
low, high = pieces.min(axis=1, keepdims=True), pieces.max(axis=1, keepdims=True)
pieces = 16 * (pieces - low) / np.maximum(high - low, 1)

kinds = {"test digits": X_test, "shuffled pixels": shuffled, "pieces of a photograph": pieces}
fig, axes = plt.subplots(3, 8, figsize=(6.4, 2.2), layout="constrained")
for axes_of_kind, (name, rows) in zip(axes, kinds.items(), strict=True):
    for ax, row in zip(axes_of_kind, rows, strict=False):
        ax.imshow(row.reshape(8, 8), cmap="gray_r")
        ax.set(xticks=[], yticks=[])
    axes_of_kind[0].set_ylabel(name, rotation=0, ha="right", va="center")
plt.show()

# %%
# Do the blocks notice?
# ---------------------
#
# A classifier has no class for a stranger and must say something. The question is whether it says
# it with doubt. The area under the ROC curve is the chance that a stranger has the larger value
# than a digit: 0.5 is no better than chance, 1 is never wrong.

proba = {name: clf.predict_proba(rows) for name, rows in kinds.items()}
disagreement = {name: clf.predict_disagreement(rows) for name, rows in kinds.items()}
doubt = {name: entropy(p, axis=1) for name, p in proba.items()}

print(f"{'':24}{'disagreement':>14}{'entropy':>10}{'AUC, dis.':>11}{'AUC, ent.':>11}")
for name in kinds:
    line = f"{name:24}{disagreement[name].mean():14.3f}{doubt[name].mean():10.3f}"
    if name != "test digits":
        stranger = np.repeat([0, 1], [len(X_test), len(kinds[name])])
        for measure in (disagreement, doubt):
            values = np.concatenate([measure["test digits"], measure[name]])
            line += f"{roc_auc_score(stranger, values):11.3f}"
    print(line)

fig, axes = plt.subplots(2, 1, figsize=(6.4, 7), layout="constrained")
for ax, measure, title in (
    (axes[0], disagreement, "disagreement of the blocks (nats)"),
    (axes[1], doubt, "entropy of the prediction (nats)"),
):
    top = max(values.max() for values in measure.values())
    bins = np.linspace(0, top, 40)
    for k, (name, values) in enumerate(measure.items()):
        color = ("#0072B2", "#D55E00", "#009E73")[k]
        line = ("-", "--", ":")[k]
        ax.hist(values, bins, histtype="step", color=color, linestyle=line, linewidth=2, label=name)
    ax.set(xlabel=title, ylabel="rows", yscale="log")
fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
plt.show()

# %%
# For strangers the disagreement is the better alarm here: it leaves out the doubts that digits
# raise as well, which the entropy counts.
#
# And among the digits?
# ---------------------
#
# Setting rows aside, the most doubtful first, should leave fewer errors among the rest. Of the two
# measures the entropy is the one made for that: it counts both doubts. Where the curves are flat
# there is nothing left to set aside.

wrong = clf.classes_[proba["test digits"].argmax(axis=1)] != y_test
print(f"\nwrong on {wrong.sum()} of {len(wrong)} test digits")
share = np.linspace(0, 0.3, 61)
fig, ax = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
for k, (title, measure) in enumerate({"disagreement": disagreement, "entropy": doubt}.items()):
    order = measure["test digits"].argsort()
    kept = [order[: round((1 - s) * len(order))] for s in share]
    ax.plot(
        100 * share,
        [100 * wrong[rows].mean() for rows in kept],
        color=("#0072B2", "#D55E00")[k],
        linestyle=("-", "--")[k],
        label=f"by {title}",
    )
ax.set(xlabel="rows set aside, %", ylabel="wrong among the rest, %", ylim=(0, None))
ax.legend()
plt.show()

# %%
# A caution: doubt is no alarm for every stranger. A row far from all that was seen may lie where
# all blocks happen to agree, and the overlap of the histograms is what would slip through. Rows
# of a class that was kept from training are harder to tell, and there disagreement and entropy are
# level: see the :doc:`measurements </measurements>`.
