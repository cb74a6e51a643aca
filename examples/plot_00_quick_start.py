"""
How does one begin?
===================

As with any classifier of scikit-learn: `fit`, then `predict` or `predict_proba`. Features need no
scaling, and no parameter has to be set. Wines are told apart here by thirteen measurements of very
different units.
"""

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import cross_validate, train_test_split

from sknoprop import NoPropClassifier

X, y = load_wine(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

clf = NoPropClassifier(random_state=0).fit(X_train, y_train)
print(f"right on {clf.score(X_test, y_test):.1%} of {len(X_test)} wines")

# %%
# The probabilities are the mean over the blocks, each of which gives an estimate of its own. How
# far these are apart is a second opinion on each row, see
# :ref:`sphx_glr_auto_examples_plot_13_doubt.py`.

proba = clf.predict_proba(X_test)
apart = clf.predict_disagreement(X_test)
for p, nats in zip(proba[:5], apart[:5], strict=True):
    print("probabilities", p.round(3), f"  blocks apart by {nats:.4f} nats")

# %%
# All test wines, each a bar: those of a class stand together, the least sure on the right.

order = np.lexsort((-proba.max(axis=1), y_test))
fig, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
base = np.zeros(len(order))
for label, color in zip(clf.classes_, ("#0072B2", "#E69F00", "#009E73"), strict=True):
    heights = proba[order, label]
    ax.bar(range(len(order)), heights, 1.0, base, color=color, label=f"class {label}")
    base += heights
ends = np.flatnonzero(np.diff(y_test[order])) + 0.5
for end in ends:
    ax.axvline(end, color="black", linewidth=2)
edges = [-0.5, *ends, len(order) - 0.5]
ax.set_xticks([(a + b) / 2 for a, b in pairwise(edges)], clf.classes_)
ax.set(xlabel="true class of the test wines", ylabel="probability", xlim=(edges[0], edges[-1]))
ax.set_ylim(0, 1)
fig.legend(loc="outside upper center", ncols=3)
plt.show()

# %%
# Whatever takes a classifier takes this one: here cross-validation with two scores.

scores = cross_validate(
    NoPropClassifier("fm", random_state=0), X, y, cv=3, scoring=("accuracy", "neg_log_loss")
)
print(f"accuracy {scores['test_accuracy'].mean():.1%} over three folds")
print(f"log loss {-scores['test_neg_log_loss'].mean():.3f}")
