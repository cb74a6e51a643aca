"""
How do the three variants of NoProp do on handwritten digits?
=============================================================

Discrete time, continuous time and flow matching, with their defaults, beside scikit-learn's
``MLPClassifier``. Each of NoProp's blocks is trained on its own: nothing is propagated from one to
another. Their class probabilities are averaged.
"""

import time

from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from sknoprop import NoPropClassifier
from sknoprop.inspection import LossCurveDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, test_size=450, stratify=y, random_state=0
)

models = {
    "NoProp, discrete time (dt)": NoPropClassifier("dt", random_state=0),
    "NoProp, continuous time (ct)": NoPropClassifier("ct", random_state=0),
    "NoProp, flow matching (fm)": NoPropClassifier("fm", random_state=0),
    "MLPClassifier": MLPClassifier(max_iter=1000, random_state=0),
}

print(f"{'':30}{'accuracy':>10}{'log loss':>10}{'seconds':>10}")
for name, model in models.items():
    start = time.perf_counter()
    proba = model.fit(X_train, y_train).predict_proba(X_test)
    seconds = time.perf_counter() - start
    accuracy = (model.classes_[proba.argmax(axis=1)] == y_test).mean()
    print(f"{name:30}{accuracy:10.1%}{log_loss(y_test, proba):10.4f}{seconds:10.1f}")

# %%
# The probabilities can be had after each block, and any number of blocks is an answer. Nearly all
# that further blocks give comes with the second; after that the log loss moves up and down by a few
# thousandths.

print("flow matching, log loss after each block:")
for n_blocks, proba in enumerate(
    models["NoProp, flow matching (fm)"].staged_predict_proba(X_test), start=1
):
    print(f"{n_blocks:4}{log_loss(y_test, proba):10.4f}")

# %%
# How each block learnt
# ---------------------
#
# Each block has a loss of its own, and so a curve: a squared error, divided by a constant of the
# block. In most epochs block 5 is ahead, since it sees the label under the least noise. At the end,
# where the learning rate falls to zero, the curves are close and cross. (Without matplotlib the
# script ends before them.)

try:
    import matplotlib.pyplot as plt
except ImportError:
    raise SystemExit from None

fig, axes = plt.subplots(3, 1, sharex=True, figsize=(6.4, 8), layout="constrained")
for ax, (name, model) in zip(axes, models.items(), strict=False):  # not the last one
    LossCurveDisplay.from_estimator(model).plot(ax)
    ax.set(title=name, yscale="log")
    ax.label_outer()
plt.show()
