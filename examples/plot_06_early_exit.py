"""
Can prediction stop early?
==========================

Each block gives a full estimate of the class probabilities, and the prediction is their running
mean. So there is an answer after any number of blocks, and easy rows need not wait for the last.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from sknoprop import NoPropClassifier
from sknoprop.inspection import BlockScoreDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=600, stratify=y, random_state=0
)
clf = NoPropClassifier("fm", n_blocks=10, hidden_layer_sizes=(64, 64), random_state=0)
clf.fit(X_train, y_train)

# %%
# Anytime prediction
# ------------------
#
# If one block did all the work, the others would be no better than chance on their own. They are
# not: every block alone is a good classifier. That is why the first answer is nearly as good as the
# last one; mind the small range of the axes. The mean is better than the blocks are, and gains
# most from the first few. Probabilities are as sure as suits the mean of all ten, which differ: one
# block alone, and the first answers, are a little too sure, and part of the gain in log loss is
# that.

display = BlockScoreDisplay.from_estimator(clf, X_test, y_test)
fig, axes = plt.subplots(2, 1, sharex=True, figsize=(6.4, 6.6), layout="constrained")
display.plot(axes[0], metric="accuracy")
display.plot(axes[1], metric="log_loss")
axes[0].label_outer()
fig.suptitle("Digits, 600 training rows: what each of ten blocks adds")
plt.show()

# %%
# Early exit
# ----------
#
# A row leaves after the first block (the second at the earliest, lest one block alone decides)
# whose running mean is surer than a threshold. The lower the threshold, the fewer blocks are
# asked. All thresholds are tried on one pass, since `staged_predict_proba` gives all stages.

stages = np.stack(list(clf.staged_predict_proba(X_test)))
n_blocks, n_rows, _ = stages.shape
sure = stages.max(axis=2)

print(f"{'threshold':>10}{'blocks asked':>14}{'accuracy':>10}{'log loss':>10}")
asked, losses = [], []
for threshold in (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 1.1):
    leaves = sure >= threshold
    leaves[0], leaves[-1] = False, True
    last = leaves.argmax(axis=0)
    proba = stages[last, np.arange(n_rows)]
    accuracy = (clf.classes_[proba.argmax(axis=1)] == y_test).mean()
    asked.append(1 + last.mean())
    losses.append(log_loss(y_test, proba))
    shown = f"{threshold:.2f}" if threshold <= 1 else "never"
    print(f"{shown:>10}{asked[-1]:14.2f}{accuracy:10.1%}{losses[-1]:10.4f}")

fig, ax = plt.subplots(figsize=(5.4, 3.8), layout="constrained")
blocks = np.arange(2, n_blocks + 1)
ax.plot(
    blocks,
    display.staged_log_loss[1:],
    color="#0072B2",
    marker="o",
    label="as many blocks for all rows",
)
ax.plot(asked, losses, color="#D55E00", marker="D", linestyle="--", label="more for rows in doubt")
ax.set(xlabel="blocks asked, mean over rows", ylabel="log loss on test rows")
ax.legend()
ax.set_title("Easy rows need few blocks", fontsize="medium")
plt.show()

# %%
# Some three blocks a row do what all ten do; differences between the points there are too small to
# choose a threshold by.
#
# The saving is counted in blocks. Today's `staged_predict_proba` computes all stages together when
# the first is asked for, which on a CPU is the fastest way to have them all; a service that wants
# to *save* the time of later blocks has to run them itself. On a model this small there is little
# to save: the numbers are what a larger one would be judged by.
