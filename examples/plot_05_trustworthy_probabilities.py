"""
Can the probabilities be trusted?
=================================

Of the rows that a classifier is 80 % sure of, four in five should be right. A reliability diagram
shows whether they are. The answer depends on the data, so here are two kinds: labels that the
inputs all but decide, and labels that they do not.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes, load_digits
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknoprop import NoPropClassifier
from sknoprop.inspection import ReliabilityDisplay

# %%
# The models
# ----------
#
# NoProp in its three variants averages the estimates of five blocks. To be fair to plain networks,
# five of them are averaged too.


def plain(seed):
    return make_pipeline(
        StandardScaler(), MLPClassifier((128, 128), max_iter=300, random_state=seed)
    )


models = {
    "NoProp, dt": NoPropClassifier("dt", random_state=0),
    "NoProp, ct": NoPropClassifier("ct", random_state=0),
    "NoProp, fm": NoPropClassifier("fm", random_state=0),
    "MLPClassifier": plain(0),
    "five MLPClassifiers": VotingClassifier(
        [(str(seed), plain(seed)) for seed in range(5)], voting="soft"
    ),
}


def report(display, y_true, probabilities):
    print(f"{'':22}{'accuracy':>10}{'log loss':>10}{'ECE':>8}")
    for curve in display.curves:
        proba = probabilities[curve.name]
        print(
            f"{curve.name:22}{accuracy_score(y_true, proba.argmax(axis=1)):10.1%}"
            f"{log_loss(y_true, proba):10.3f}{curve.expected_calibration_error:8.1%}"
        )


# %%
# Labels that inputs decide
# -------------------------
#
# Digits, of which 300 are trained on and the other 1,497 judged.

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=300, stratify=y, random_state=0
)
for model in models.values():
    model.fit(X_train, y_train)
digits = ReliabilityDisplay.from_estimators(models, X_test, y_test, n_bins=8)
report(digits, y_test, {name: model.predict_proba(X_test) for name, model in models.items()})

# %%
# Labels that they do not
# -----------------------
#
# Diabetes: is a patient's disease further on after a year than the median patient's? Ten
# measurements are not enough to know. Each of 442 rows is predicted by a model that has not seen
# it, in three folds.

X, progression = load_diabetes(return_X_y=True)
y = (progression > sorted(progression)[len(progression) // 2]).astype(int)
held = {name: [] for name in models}
truth = []
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)
    for train, test in StratifiedKFold(3, shuffle=True, random_state=0).split(X, y):
        truth.extend(y[test])
        for name, model in models.items():
            held[name].extend(model.fit(X[train], y[train]).predict_proba(X[test]))

held = {name: np.array(proba) for name, proba in held.items()}
curves = [
    ReliabilityDisplay.from_predictions(truth, proba, n_bins=8, name=name).curves[0]
    for name, proba in held.items()
]
diabetes = ReliabilityDisplay(curves)
report(diabetes, truth, held)

# %%
# Against plain networks
# ----------------------
#
# Below the diagonal a model is too sure, above it not sure enough. The larger a point, the more
# rows its bin has; bins with fewer than five rows are left out. The *expected calibration error*
# (ECE) is the distance to the diagonal averaged over rows.


def draw(names):
    _, axes = plt.subplots(2, 1, figsize=(5.4, 11), layout="constrained")
    for ax, display in zip(axes, (digits, diabetes), strict=True):
        ReliabilityDisplay([c for c in display.curves if c.name in names]).plot(ax, min_count=5)
    axes[0].set(title="digits, 300 training rows", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes[1].set(title="diabetes, above the median or not", xlim=(0.28, 1.02), ylim=(0.28, 1.02))
    plt.show()


draw(["NoProp, dt", "MLPClassifier", "five MLPClassifiers"])

# %%
# Where inputs decide, all are close to the diagonal, and averaged plain networks may well have the
# smaller calibration error. NoProp has a temperature for what is left: each block leaves out rows
# of its own, which show how sure to be (``calibrate``). Where inputs do not decide, plain networks
# that are trained until they fit their training rows are far too sure, and averaging them hardly
# mends it. (All models have their defaults; early stopping or a larger ``alpha`` would help plain
# ones.) Log loss, which punishes both being wrong and being wrongly sure, is the number to compare.
#
# Variant against variant
# -----------------------

draw(["NoProp, dt", "NoProp, ct", "NoProp, fm"])

# %%
# The three are alike: where one of them is too sure, or not sure enough, so are the others.
