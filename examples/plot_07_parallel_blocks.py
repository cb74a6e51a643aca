"""
When does it pay to train blocks in parallel?
=============================================

Blocks exchange nothing while they train, so ``n_jobs=2`` gives half of them to each of two worker
processes. What they learn is the same up to rounding. What it costs is that processes must start,
import torch and be sent the data, and that two halves are less efficient than one stacked whole.
"""

import os
import time
from operator import itemgetter

import joblib
import matplotlib.pyplot as plt
import numpy as np
from joblib.externals.loky import get_reusable_executor
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sknoprop import NoPropClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=450, stratify=y, random_state=0)

# %%
# The same model, four blocks, in three ways: in one process, with two workers that are started for
# it, and with the same workers again, which joblib has kept. Of what can be repeated the least of
# three times counts. "loky" is joblib's default on one machine and starts processes; it is named
# here because inside of another parallel loop joblib would take threads.


def fit(n_jobs):
    clf = NoPropClassifier(n_blocks=4, max_iter=10, n_jobs=n_jobs, random_state=0)
    start = time.perf_counter()
    with joblib.parallel_config("loky"):
        clf.fit(X_train, y_train)
    return clf, time.perf_counter() - start


get_reusable_executor().shutdown()  # workers that an earlier program in this process has left
fit(n_jobs=None)  # not counted: the first fit of a process loads code
one, alone = min((fit(n_jobs=None) for _ in range(3)), key=itemgetter(1))
two, started = fit(n_jobs=2)
again, running = min((fit(n_jobs=2) for _ in range(3)), key=itemgetter(1))

apart = np.abs(two.predict_proba(X_test) - one.predict_proba(X_test)).max()
print(f"largest difference in a probability, one process or two workers: {apart:.1e}")
apart = np.abs(two.predict_proba(X_test) - again.predict_proba(X_test)).max()
print(f"two workers, and two workers again: {apart:.1e}")

with joblib.parallel_config("loky"):
    workers = set(joblib.Parallel(n_jobs=2)(joblib.delayed(os.getpid)() for _ in range(4)))
print("workers are processes of their own:", os.getpid() not in workers)

print(f"\ncores here: {os.cpu_count()}")
seconds = {
    "one process": alone,
    "two workers, to be started": started,
    "two workers, already running": running,
}
for name, value in seconds.items():
    print(f"{name:30}{value:6.1f} s, speed-up {alone / value:.2f}")

# %%
# Rounding starts in the seventh digit and grows with every step of training, as it does between two
# kinds of processor; for the same ``n_jobs`` results are the same bit for bit.

fig, ax = plt.subplots(figsize=(6.4, 2.6), layout="constrained")
colors = ("#0072B2", "#D55E00", "#E69F00")
bars = ax.barh(range(3), list(seconds.values()), 0.7, color=colors)
ax.bar_label(bars, fmt="%.1f s", padding=3)
ax.set_yticks(range(3), [name.replace(", ", ",\n") for name in seconds])
ax.set(xlabel="seconds of a fit", xlim=(0, 1.15 * max(seconds.values())), ylim=(2.5, -0.5))
plt.show()

# %%
# A speed-up below 1 is a loss. On data this small there is nothing to gain: the start of the
# workers takes several times as long as the fit in one process. Where workers already run, rows and
# blocks must still be sent to them and back, and the fit is too short for that to pay.
#
# When does it pay, then? Measured on two cores: six blocks on 60,000 rows, with hidden layers of
# 512 units, took 35 s in one process and 19 s with two workers, 1.82 times as fast (1.77 to 1.85
# in three trials); of 128 units 1.77 times (``python benchmarks/workers.py --report``, see
# :doc:`/measurements`). So:
#
# - A fit of a few seconds is not worth the workers' start. From some ten seconds on they may pay.
# - The gain stays below the number of workers: two halves cost more than one stacked whole, and
#   cores that torch's own threads use in one process are not free.
# - Workers are no use where there is only one core, or where another loop (a grid search,
#   cross-validation) already fills them: give ``n_jobs`` to that loop instead.
# - Through `joblib.parallel_config` workers may be on other machines; see :doc:`/guide/scaling`.
