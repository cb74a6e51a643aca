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
fig, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
for row, (name, model) in zip(axes, models.items(), strict=True):
    display = ScheduleDisplay.from_estimator(model.fit(X, y), name=name)
    display.plot(row[0])
    display.plot(row[1], quantity="log_snr", color="#D55E00")
fig.suptitle("Two schedules, and the times that each of five blocks owns")
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
