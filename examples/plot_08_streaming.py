"""
Can it learn from a stream?
===========================

`partial_fit` trains all blocks for one pass over a part of the data and keeps the optimiser's
state. Here digits come in parts of a hundred and are never seen again.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from sknoprop import NoPropClassifier

X, y = load_digits(return_X_y=True)
X_stream, X_test, y_stream, y_test = train_test_split(
    X / 16, y, test_size=450, stratify=y, random_state=0
)
parts = np.array_split(np.arange(len(y_stream)), 13)

# %%
# All classes must be named in the first call, since a part may lack some. `n_train_draws` is worth
# raising in a stream: a row passes once, but the noise on its label can be drawn more often. Both
# models take steps of 32 rows.

models = {
    "NoProp, one draw of noise": NoPropClassifier("fm", batch_size=32, random_state=0),
    "NoProp, eight draws": NoPropClassifier("fm", batch_size=32, n_train_draws=8, random_state=0),
    "MLPClassifier": MLPClassifier(
        (128, 128), batch_size=32, learning_rate_init=0.01, random_state=0
    ),
}
accuracy = {name: [] for name in models}
loss = {name: [] for name in models}
for rows in parts:
    for name, model in models.items():
        model.partial_fit(X_stream[rows], y_stream[rows], classes=np.arange(10))
        proba = model.predict_proba(X_test)
        accuracy[name].append((proba.argmax(axis=1) == y_test).mean())
        loss[name].append(log_loss(y_test, proba))

for name in models:
    print(f"{name:28} accuracy {accuracy[name][-1]:.1%}, log loss {loss[name][-1]:.3f}")

# %%
# Each point is the score on the same 450 test rows after one more part.

seen = np.cumsum([len(rows) for rows in parts])
fig, axes = plt.subplots(2, 1, sharex=True, figsize=(6.4, 6.6), layout="constrained")
for k, name in enumerate(models):
    style = {
        "color": ("#0072B2", "#009E73", "#D55E00")[k],
        "marker": "osD"[k],
        "markersize": 4,
        "label": name,
    }
    axes[0].plot(seen, accuracy[name], **style)
    axes[1].plot(seen, loss[name], **style)
axes[0].set(ylabel="accuracy on test rows")
axes[1].set(xlabel="rows seen, each once", ylabel="log loss on test rows")
axes[0].legend()
for ax in axes:
    ax.grid(axis="y", color="0.9")
plt.show()

# %%
# Two things to know. The encoding of the inputs (means, spreads, bins, and which features get bins
# for their levels) is learnt from the first part and then kept, so that should be typical. And a
# stream has no end, so the learning rate is constant: a `fit` on all rows at once, with its falling
# rate and many passes, is better where it can be had.

full = NoPropClassifier("fm", random_state=0).fit(X_stream, y_stream)
proba = full.predict_proba(X_test)
print(
    f"fit on all rows at once: accuracy {(proba.argmax(axis=1) == y_test).mean():.1%}, "
    f"log loss {log_loss(y_test, proba):.3f}"
)
