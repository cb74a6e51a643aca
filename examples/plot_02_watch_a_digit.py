"""
What does it look like when a digit is denoised?
================================================

NoProp diffuses the *label*, not the data. Usually that is hard to see, since a label's embedding is
a row of the identity matrix. Here each class is embedded as a picture, the mean image of its
digits: a noisy label is then a noisy picture, and one can watch it become a digit.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sknoprop import NoPropClassifier
from sknoprop.inspection import DenoisingDisplay, EmbeddingDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, test_size=450, stratify=y, random_state=0
)

# %%
# Labels that are pictures
# ------------------------
#
# Any matrix with one row a class can be the embedding; it stays fixed, so the blocks share nothing
# and are trained independently. Rows are mean images, less the mean over all digits, and scaled so
# that signal and noise are of a size where both can be seen. Time is cut into even intervals, so
# that steps go on to where the last noise vanishes; the default cut would stop where a *network*
# has nothing left to guess, which is long before the eye sees anything.

means = np.stack([X_train[y_train == label].mean(axis=0) for label in range(10)])
embedding = means - means.mean(axis=0)
embedding *= 2.0 / np.linalg.norm(embedding, axis=1).mean()

clf = NoPropClassifier("fm", embedding=embedding, partition="uniform", n_draws=16, random_state=0)
clf.fit(X_train, y_train)
print(f"accuracy of the class kernels: {clf.score(X_test, y_test):.1%}")

display = EmbeddingDisplay.from_estimator(clf, image_shape=(8, 8)).plot(cmap="PuOr")
display.ax_.set_title("The ten labels, as the network sees them", fontsize="medium")
plt.show()

# %%
# From noise to label
# -------------------
#
# With flow matching a latent moves along a straight line: ``z = t * label + (1 - t) * noise``. A
# trajectory starts at ``t = 0`` from noise that has nothing to do with the input, and each block
# moves it through its own interval of time. Here are the digit of the test set that the network is
# surest of, and the two that it doubts most.

proba = clf.predict_proba(X_test)
by_confidence = proba.max(axis=1).argsort()
rows = np.array([by_confidence[-1], by_confidence[0], by_confidence[1]])
steps = clf.predict_trajectory(X_test[rows])

shown = np.searchsorted(steps.times, [0.0, 0.5, 0.8, 0.9, 1.0])
fig, axes = plt.subplots(len(rows), 1 + len(shown), figsize=(6.4, 4.3), layout="constrained")
for row, axes_of_row in zip(range(len(rows)), axes, strict=True):
    axes_of_row[0].imshow(X_test[rows[row]].reshape(8, 8), cmap="gray_r")
    axes_of_row[0].set_ylabel(f"true: {y_test[rows[row]]}")
    for step, ax in zip(shown, axes_of_row[1:], strict=True):
        # The first of the 16 trajectories.
        latent = steps.latents[step, row, 0].reshape(8, 8)
        # Each picture has its own scale: noise is far larger than the label at first.
        ax.imshow(latent, cmap="PuOr", vmin=-np.abs(latent).max(), vmax=np.abs(latent).max())
        if row == 0:
            ax.set_title(f"t = {steps.times[step]:.2f}", fontsize="medium")
        label = steps.probabilities[step, row, 0].argmax()
        ax.set_xlabel(f"says {label}" if step < len(steps.times) - 1 else f"read as {label}")
axes[0, 0].set_title("input", fontsize="medium")
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
fig.suptitle("One trajectory for each of three digits, and what blocks say")
plt.show()

# %%
# The first thing to notice is how early the blocks know: at ``t = 0`` the latent is pure noise, and
# all there is to go by is the input. That is no accident of this run. Each block sees the input, so
# the noisiest one already is a whole classifier.
#
# The second is that a single trajectory commits itself to one class, however doubtful the digit.
# The mean over sixteen of them keeps some of the doubt.

fig, axes = plt.subplots(len(rows), 1, sharex=True, figsize=(6.4, 7.6), layout="constrained")
DenoisingDisplay.from_estimator(clf, X_test[rows], y_test[rows]).plot(axes)
for ax in axes:
    ax.label_outer()
    ax.set_ylabel("class probability")
fig.suptitle("Mean class probabilities of sixteen trajectories")
plt.show()

# %%
# Jumps at 0.2, 0.4, 0.6 and 0.8 are changes of block: each has learnt alone, and a doubtful digit
# is where they differ. The last point, at ``t = 1``, is no block's: no block owns that time, and
# what is drawn is a read-out of the last latent alone, which does not see the digit.
#
# Trajectories are the paper's inference and good to look at. What class probabilities they give, by
# the paper's way to read them and by the default's, stands beside the class kernels in
# :ref:`sphx_glr_auto_examples_plot_14_sampler_steps.py`.
