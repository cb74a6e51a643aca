"""
When does it pay to train blocks in parallel?
=============================================

Blocks exchange nothing while they train, so ``n_jobs=2`` gives half of them to each of two worker
processes. What they learn is the same up to rounding. What it costs is that processes must start,
import torch and be sent the data, and that two halves are less efficient than one stacked whole.
"""

import os
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sknoprop import NoPropClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=450, stratify=y, random_state=0)

# %%
# A small model and one of several times the work, four blocks each. The first parallel fit is not
# counted: it starts the workers, which joblib then keeps.


def fit(width, n_jobs):
    clf = NoPropClassifier(
        n_blocks=4, hidden_layer_sizes=(width, width), max_iter=10, n_jobs=n_jobs, random_state=0
    )
    start = time.perf_counter()
    clf.fit(X_train, y_train)
    return clf, time.perf_counter() - start


_, first = fit(64, n_jobs=2)
widths = (64, 256)
seconds = np.empty((len(widths), 2))
for i, width in enumerate(widths):
    for j, n_jobs in enumerate((1, 2)):
        clf, seconds[i, j] = fit(width, n_jobs)
        if n_jobs == 1:
            one = clf.predict_proba(X_test)
    apart = np.abs(clf.predict_proba(X_test) - one).max()
    print(f"width {width}: largest difference in a probability {apart:.1e}")

print(f"\ncores here: {os.cpu_count()}")
print(f"first fit with workers, their start included: {first:.1f} s")
print(f"{'width':>6}{'one process':>14}{'two workers':>14}{'speed-up':>10}")
for width, (alone, together) in zip(widths, seconds, strict=True):
    print(f"{width:6}{alone:13.1f}s{together:13.1f}s{alone / together:10.2f}")

# %%
# Rounding starts in the seventh digit and grows with every step of training, as it does between two
# kinds of processor; for the same ``n_jobs`` results are the same bit for bit.
#
# A speed-up below 1 is a loss, and a busy machine can turn any gain into one. Rules of thumb:
#
# - A fit of a few seconds is not worth the workers' start. Nor are workers where there is only one
#   core, or where another loop (a grid search, cross-validation) already fills them: give
#   ``n_jobs`` to that loop instead.
# - From some ten seconds on, with as many free cores as workers, the gain nears the number of
#   workers. Cores that torch's own threads use in one process are not free.
# - Through `joblib.parallel_config` workers may be on other machines; then also memory is shared
#   out.
#
# What this machine says stands in the picture; yours may differ.

fig, ax = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
for k, label in enumerate(("one process", "two workers")):
    bars = ax.bar(
        np.arange(len(widths)) + 0.38 * (k - 0.5),
        seconds[:, k],
        0.36,
        color=("#0072B2", "#E69F00")[k],
        label=label,
    )
    ax.bar_label(bars, fmt="%.1f s", fontsize="small", padding=2)
ax.set_xticks(range(len(widths)), [f"width {width}" for width in widths])
ax.set(ylabel="seconds of a fit", ylim=(0, 1.15 * seconds.max()))
ax.legend(loc="upper left")
ax.set_title(f"Four blocks, {os.cpu_count()} cores, workers already running", fontsize="medium")
plt.show()
