"""
How do I bring a schedule of my own?
====================================

A schedule is an object with one method that matters: the logarithm of the signal-to-noise ratio as
a function of time. Derive from `VariancePreservingSchedule`, give that, and pass an instance.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score

from sknoprop import NoPropClassifier
from sknoprop.inspection import ScheduleDisplay
from sknoprop.schedules import VariancePreservingSchedule

# %%
# A straight line in the log SNR
# ------------------------------
#
# Times are tensors of any shape. Signal and noise, the velocity, and the slope that weights the
# loss all follow from this method, the slope by automatic differentiation.


class LogLinearSchedule(VariancePreservingSchedule):
    """The log SNR rises evenly from noise to label."""

    def __init__(self, low=-6.0, high=6.0):
        super().__init__()
        self.low, self.high = low, high

    def log_snr(self, t):
        return self.low + (self.high - self.low) * t


schedule = LogLinearSchedule()
t = torch.linspace(0, 1, 5)
print("signal:", schedule.signal(t).numpy().round(3))
print("noise: ", schedule.noise(t).numpy().round(3))

# %%
# Where its blocks lie
# --------------------
#
# For "ct" and "fm" time is cut so that each block has the same amount of label information to
# recover (here for one-hot embeddings of three classes, as many rows each). The cut follows from
# the schedule, so a schedule of one's own needs no tuning of it.

X, y = load_wine(return_X_y=True)
models = {
    "cosine": NoPropClassifier("ct", schedule="cosine", hidden_layer_sizes=64, random_state=0),
    "log-linear": NoPropClassifier("ct", schedule=schedule, hidden_layer_sizes=64, random_state=0),
}
displays = [
    ScheduleDisplay.from_estimator(model.fit(X, y), name=name) for name, model in models.items()
]
fig, axes = plt.subplots(2, 2, sharex=True, sharey="row", figsize=(6.4, 6.4), layout="constrained")
for column, display in zip(axes.T, displays, strict=True):
    lines = display.plot(column[0]).lines_
    display.plot(column[1], quantity="log_snr", color="#D55E00")
    column[0].set_title(display.name, pad=18)
    column[0].get_legend().remove()
    column[1].get_legend().remove()
    column[1].set_xticks([0, 0.5, 1])
for ax in axes.flat:
    ax.label_outer()
fig.legend(lines, ["signal", "noise"], loc="outside upper center", ncols=2)
plt.show()

# %%
# What weight the loss gives to each time
# ---------------------------------------
#
# In continuous time the weight is half the slope of the signal-to-noise ratio, so this too follows
# from the schedule. It grows by orders of magnitude towards the label. As these blocks share
# nothing, each one's loss is divided by a constant of its own: the weight matters within a block,
# not between blocks. The last block ends where the label is as good as known; nothing is trained
# beyond.

fig, axes = plt.subplots(2, 1, sharex=True, figsize=(6.4, 6.4), layout="constrained")
for ax, display in zip(axes, displays, strict=True):
    display.plot(ax, quantity="loss_weight", color="#009E73")
    ax.set_title(display.name, pad=18)
    ax.get_legend().remove()
    ax.label_outer()
plt.show()

# %%
# Does it matter?
# ---------------
#
# For these data: hardly. With the information cut each block gets the same share of the work
# whatever the schedule, which is its point. Log losses over the same folds, three times three:

cv = RepeatedStratifiedKFold(n_splits=3, n_repeats=3, random_state=0)
losses = {
    name: -cross_val_score(model, X, y, cv=cv, scoring="neg_log_loss")
    for name, model in models.items()
}
for name, values in losses.items():
    print(f"{name:12}{values.mean():.4f}")
difference = losses["log-linear"] - losses["cosine"]
print(
    f"difference  {difference.mean():+.4f}, "
    f"of standard deviation {difference.std(ddof=1):.4f} over {len(difference)} folds"
)
print("folds on which the log-linear schedule is ahead:", np.sum(difference < 0))
