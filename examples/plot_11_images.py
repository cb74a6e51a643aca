"""
How do images come in?
======================

Images are an array ``(n_samples, channels, height, width)``, of bytes as they lie in a file. They
stay bytes until a batch of them is needed; each channel is standardised, as learnt in ``fit``.
scikit-learn's digits serve here, as they come with it; 200 of them are trained on.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from sknoprop import NoPropClassifier
from sknoprop.datasets import load_torchvision

digits = load_digits()
X = digits.images[:, None].astype(np.uint8)  # grey values 0 to 16; one channel
y = digits.target
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=200, stratify=y, random_state=0
)
print("images:", X.shape, X.dtype)

# %%
# From a data set of torchvision's kind
# -------------------------------------
# `load_torchvision` makes such an array, and the labels, of anything that gives pairs of image and
# label. So do the data sets of torchvision, four of which it knows by name:
# ``load_torchvision("MNIST", root=...)``. Here a list of pairs is one.
pairs = list(zip(digits.images.astype(np.uint8), digits.target, strict=True))
X_read, y_read = load_torchvision(pairs, return_X_y=True)
print("read:", X_read.shape, X_read.dtype)
print("the same:", np.array_equal(X_read, X), np.array_equal(y_read, y))

# %%
# Three encoders of the same images
# ---------------------------------
# ``encoder="mlp"`` sees 64 numbers and does not know that they lie side by side; ``"cnn"`` is the
# convolutional path of the NoProp paper, ``"resnet"`` a small residual network and the default for
# images. Each block has a network of its own, trained by itself.
models = {}
for encoder in ("mlp", "cnn", "resnet"):
    clf = NoPropClassifier("fm", encoder=encoder, n_blocks=2, random_state=0)
    clf.fit(X_train, y_train)
    p = clf.predict_proba(X_test)
    accuracy = np.mean(clf.classes_[p.argmax(1)] == y_test)
    print(f"{encoder:>6}: accuracy {accuracy:.3f}, log loss {log_loss(y_test, p):.3f}")
    models[encoder] = clf

# %%
# What is hard to read?
# ---------------------
# The test images whose own label got the least probability.
clf = models["resnet"]
p = clf.predict_proba(X_test)
hardest = p[np.arange(len(y_test)), y_test].argsort()[:8]
figure, axes = plt.subplots(2, 4, figsize=(6.4, 4.4), layout="constrained")
for ax, i in zip(axes.flat, hardest, strict=True):
    guess = p[i].argmax()
    ax.imshow(X_test[i, 0], cmap="gray_r")
    ax.set_title(f"a {y_test[i]}, says {guess}\n{p[i, guess]:.0%} sure", fontsize="medium")
    ax.set_axis_off()
plt.show()

# %%
# Images in rows
# --------------
# Where a transformer of scikit-learn's comes first, images are rows of numbers;
# ``image_shape`` then says how they lie.
flat = NoPropClassifier("fm", image_shape=(1, 8, 8), n_blocks=2, random_state=0)
flat.fit(X_train.reshape(len(X_train), -1), y_train)
print("same predictions:", bool((flat.predict(X_test) == clf.predict(X_test)).all()))

# %%
# Changing images at random
# -------------------------
# ``augmentation`` is given each training batch, eight images at a time. Transforms of
# ``torchvision.transforms.v2`` fit as they are; so does a function. Digits that are moved sideways
# by a pixel are the same digits.


def move(images):
    """Move images by a pixel to the left, to the right or not at all."""
    return images.roll(int(torch.randint(-1, 2, ())), dims=-1)


moved = NoPropClassifier("fm", n_blocks=2, augmentation=move, random_state=0)
moved.fit(X_train, y_train)
for name, clf in {"as they are": models["resnet"], "moved": moved}.items():
    p = clf.predict_proba(X_test)
    accuracy = np.mean(clf.classes_[p.argmax(1)] == y_test)
    print(f"{name:>11}: accuracy {accuracy:.3f}, log loss {log_loss(y_test, p):.3f}")

# %%
# With 200 training images that helps. It need not: changed images are harder to learn, and where
# there are many training images or few epochs that may cost more than it gives.
