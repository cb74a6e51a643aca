"""
What if labels are wrong?
=========================

Labels are given by people, and some are wrong. A network that is trained for long enough learns
these by heart as well. NoProp's blocks are slower to: they see a noised label beside the row, and
what it gives away they need not learn from the row. And each leaves out rows that can show when
it has begun to. So wrong labels do less harm, and can be found.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from sknoprop import NoPropClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, train_size=600, stratify=y, random_state=0
)

# %%
# Every row has a chance to get the label of another row, drawn at random (which is the right one
# for one in ten). The test labels stay as they are.

rng = np.random.default_rng(0)
drawn, of_another = rng.random(len(y_train)), rng.permutation(y_train)


def with_wrong(share):
    """Training labels of which a share is drawn anew."""
    return np.where(drawn < share, of_another, y_train)


# %%
# NoProp is trained with its defaults, by which the data decide how long, and with 12 epochs, a
# quarter of the first cycle of these. Beside it stand five `MLPClassifier` of its blocks' size,
# averaged: trained to the end and, with ``early_stopping=True``, as long as they get better on a
# tenth of the rows that is held out, which keeps a network from learning much by heart.


def plain(seed, **params):
    return MLPClassifier((128, 128), random_state=seed, **params)


shares = (0.0, 0.15, 0.3, 0.45)
names = ("NoProp", "NoProp, max_iter=12", "five MLPClassifiers", "five, early_stopping=True")
accuracy = {name: [] for name in names}
blocks, lengths, models = [], [], {}
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)
    for share in shares:
        given = with_wrong(share)
        noprop = NoPropClassifier("fm", random_state=0).fit(X_train, given)
        short = NoPropClassifier("fm", max_iter=12, random_state=0).fit(X_train, given)
        networks = [plain(seed).fit(X_train, given) for seed in range(5)]
        early = [plain(seed, early_stopping=True).fit(X_train, given) for seed in range(5)]
        for name, parts in zip(names, ([noprop], [short], networks, early), strict=True):
            p = np.mean([part.predict_proba(X_test) for part in parts], axis=0)
            accuracy[name].append((p.argmax(axis=1) == y_test).mean())
        blocks.append((noprop.predict_block_proba(X_test).argmax(axis=2) == y_test).mean(axis=1))
        models[share] = noprop, networks
        lengths.append(noprop.n_iter_)

print(f"{'labels drawn anew':28}" + "".join(f"{share:8.0%}" for share in shares))
for name, values in accuracy.items():
    print(f"{name:28}" + "".join(f"{value:8.1%}" for value in values))
print(f"{'epochs of NoProp':28}" + "".join(f"{length:8}" for length in lengths))

fig, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
percent = 100 * np.array(shares)
ax.plot(percent, 100 * np.array(blocks), color="#0072B2", lw=1, alpha=0.4)
ax.plot([], [], color="#0072B2", lw=1, alpha=0.4, label="its blocks, each alone")
for (name, values), color, marker in zip(
    accuracy.items(), ("#0072B2", "#009E73", "#D55E00", "#E69F00"), "ovsD", strict=True
):
    ax.plot(percent, 100 * np.array(values), color=color, marker=marker, lw=2, label=name)
ax.set(xlabel="training labels drawn anew, %", ylabel="accuracy on right labels, %")
ax.legend()
plt.show()

# %%
# Which labels are wrong?
# -----------------------
#
# Those that the model finds least likely, given their rows. The chance that a wrong label gets a
# lower probability than a right one is the area under the ROC curve: 1 if all that are wrong come
# first. Networks that have learnt the wrong labels by heart cannot tell.

share = 0.3
given = with_wrong(share)
wrong = given != y_train
noprop, networks = models[share]
of_given = noprop.predict_proba(X_train)[np.arange(len(given)), given]
of_networks = np.mean([network.predict_proba(X_train) for network in networks], axis=0)
of_networks = of_networks[np.arange(len(given)), given]
print(f"{wrong.sum()} of {len(given)} training labels are wrong")
print(f"area under the ROC curve: NoProp {roc_auc_score(wrong, -of_given):.3f}")
print(f"             five MLPClassifiers {roc_auc_score(wrong, -of_networks):.3f}")

fig, axes = plt.subplots(2, 8, figsize=(6.4, 2.4), layout="constrained")
for ax, row in zip(axes.flat, of_given.argsort(), strict=False):
    ax.imshow(X_train[row].reshape(8, 8), cmap="gray_r")
    ax.set(xticks=[], yticks=[])
    color = "#D55E00" if wrong[row] else "black"
    ax.set_title(f"“{given[row]}”", color=color, fontsize="medium")
fig.suptitle("The least likely labels; wrong ones in orange")
plt.show()

# %%
# Without the least likely labels, as many as one thinks are wrong, the next fit is better. (How
# many are is known here. Where it is not, look at the rows from the least likely on until most
# labels are right.)

kept = of_given > np.quantile(of_given, wrong.mean())
again = NoPropClassifier("fm", random_state=0).fit(X_train[kept], given[kept])
print(f"all labels           {noprop.score(X_test, y_test):.1%}")
print(f"without the doubtful {again.score(X_test, y_test):.1%}")

# %%
# What this is and is not
# -----------------------
#
# It is a matter of how long to train. Where all labels are right further cycles follow the first
# one of 50 epochs, and where many are wrong a quarter of it is better. By the rows that blocks left
# out, whose labels are as wrong as others', a fit may find that out. Six hundred rows do not always
# say so clearly: with the most wrong labels the shorter training was tried, and given up. Who
# knows that many are wrong sets ``max_iter=12``. Networks that are NoProp's in everything but the
# noised label, and find the length of their training in the same way, are in the
# :doc:`measurements </measurements>`. And probabilities are of labels as they are given: where many
# are wrong, NoProp is rightly less sure of any.
