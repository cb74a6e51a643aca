"""
Which schedule, and how many blocks?
====================================

Schedule and number of blocks are parameters like any other: `GridSearchCV` tries them. This also
shows how little the answer matters where data are few and clean, and how to see why.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split

from sknoprop import NoPropClassifier
from sknoprop.inspection import BlockScoreDisplay, ScheduleDisplay

X, y = load_wine(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

# %%
# What there is to choose from
# ----------------------------
#
# A schedule says how much label and how much noise a latent holds at each time. All rise from noise
# to label; they differ in how long they stay where.

fig, axes = plt.subplots(2, 1, sharex=True, figsize=(6.4, 6.6), layout="constrained")
for name in ("cosine", "linear", "sigmoid"):
    display = ScheduleDisplay.from_schedule(name)
    display.plot(axes[0])
    display.plot(axes[1], quantity="log_snr")
axes[0].get_legend().remove()  # the other one's colours hold here too
axes[0].set_title("signal (solid) and noise (dashed)", fontsize="medium")
axes[0].label_outer()
plt.show()

# %%
# The search
# ----------
#
# The scores are log losses, which tell good probabilities from lucky labels. In discrete time a
# block owns one noise level, so more blocks cut the same schedule more finely.

search = GridSearchCV(
    NoPropClassifier("dt", hidden_layer_sizes=64, random_state=0),
    {"schedule": ["cosine", "linear", "sigmoid"], "n_blocks": [1, 3, 9]},
    scoring="neg_log_loss",
    cv=StratifiedKFold(3, shuffle=True, random_state=0),
)
search.fit(X_train, y_train)
print("chosen:", search.best_params_)
print(f"log loss in cross-validation: {-search.best_score_:.3f}")

numbers = search.param_grid["n_blocks"]
losses = -search.cv_results_["mean_test_score"].reshape(len(numbers), -1)
# Folds differ more than settings do; how much a setting differs from another *within* a fold is
# what counts.
folds = -np.stack([search.cv_results_[f"split{k}_test_score"] for k in range(3)])
spread = (folds - folds.mean(axis=1, keepdims=True)).std(axis=0, ddof=1).reshape(losses.shape)

fig, ax = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
for k, name in enumerate(search.param_grid["schedule"]):
    ax.errorbar(
        np.arange(len(numbers)) + 0.06 * (k - 1),
        losses[:, k],
        spread[:, k] / np.sqrt(3),
        color=("#0072B2", "#D55E00", "#009E73")[k],
        marker="oDs"[k],
        capsize=3,
        label=name,
    )
ax.set_xticks(range(len(numbers)), numbers)
ax.set(xlabel="blocks", ylabel="log loss in cross-validation")
ax.set_title("Wine (bars: standard error over folds)", fontsize="medium")
ax.legend(title="schedule")
plt.show()

# %%
# Where bars overlap, the choice is within the noise of three folds. A single block is the model to
# beat: in discrete time its only level is pure noise, so it is a plain network that sees the input
# and nothing else. It differs in two more ways, so this does not compare numbers of blocks alone. A
# single block leaves out no rows, so it has no temperature and a single cycle of training. Three
# and nine blocks have a temperature, and train for longer or for less long where that pays.
#
# Why do more blocks do what they do here?
# ----------------------------------------
#
# The model of nine blocks on the test rows: the blue line is the prediction after each block, the
# other one each block on its own. If one block did all the work, the other diamonds would be at the
# log loss of guessing. All blocks see the input, and on clean data such as these each of them finds
# the classes by itself; more of them have little to add but their cost. Where labels are noisy,
# averaging over blocks is worth more.

nine = NoPropClassifier("dt", n_blocks=9, hidden_layer_sizes=64, random_state=0)
display = BlockScoreDisplay.from_estimator(nine.fit(X_train, y_train), X_test, y_test).plot()
guessing = log_loss(y_test, np.tile(np.bincount(y_train) / len(y_train), (len(y_test), 1)))
display.ax_.set_title(f"{len(y_test)} test rows (guessing: {guessing:.2f})", fontsize="medium")
print(display.frame().round(3).to_string(index=False))
plt.show()

# %%
# The search keeps its best model, fitted anew on all training rows.

proba = search.predict_proba(X_test)
print(f"log loss of the chosen model on the test rows: {log_loss(y_test, proba):.3f}")
