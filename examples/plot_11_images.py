"""
How do images come in?
======================

Images are an array ``(n_samples, channels, height, width)``, of bytes as they lie in a file. They
stay bytes until a batch of them is needed; each channel is standardised, as learnt in ``fit``.
scikit-learn's digits serve here, as they come with it. With torchvision,
``load_torchvision("MNIST", root=...)`` gives `X` and `y` of its data sets in the same form.
"""

# %%
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from sknoprop import NoPropClassifier

digits = load_digits()
X = digits.images[:, None].astype(np.uint8)  # grey values 0 to 16; one channel
y = digits.target
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
print("images:", X.shape, X.dtype)

# %%
# Three encoders of the same images
# ---------------------------------
# ``encoder="mlp"`` sees 64 numbers and does not know that they lie side by side; ``"cnn"`` is the
# convolutional path of the NoProp paper, ``"resnet"`` a small residual network and the default for
# images. Each block has a network of its own, trained by itself.
models = {}
for encoder in ("mlp", "cnn", "resnet"):
    clf = NoPropClassifier("fm", encoder=encoder, n_blocks=2, max_iter=10, random_state=0)
    clf.fit(X_train, y_train)
    p = clf.predict_proba(X_test)
    accuracy = np.mean(clf.classes_[p.argmax(1)] == y_test)
    print(f"{encoder:>6}: accuracy {accuracy:.3f}, log loss {log_loss(y_test, p):.3f}")
    models[encoder] = clf

# %%
# What is hard to read?
# ---------------------
# The test images whose own label got the least probability.
import matplotlib.pyplot as plt

clf = models["resnet"]
p = clf.predict_proba(X_test)
hardest = p[np.arange(len(y_test)), y_test].argsort()[:8]
figure, axes = plt.subplots(2, 4, figsize=(7, 4.2), layout="constrained")
for ax, i in zip(axes.flat, hardest, strict=True):
    guess = p[i].argmax()
    ax.imshow(X_test[i, 0], cmap="gray_r")
    ax.set_title(f"a {y_test[i]}, read as {guess}\n{p[i, guess]:.0%} sure", fontsize=10)
    ax.set_axis_off()

# %%
# Images in rows
# --------------
# Where a transformer of scikit-learn's comes first, images are rows of numbers;
# ``image_shape`` then says how they lie.
flat = NoPropClassifier("fm", image_shape=(1, 8, 8), n_blocks=2, max_iter=10, random_state=0)
flat.fit(X_train.reshape(len(X_train), -1), y_train)
print("same predictions:", bool((flat.predict(X_test) == clf.predict(X_test)).all()))

# %%
# Changing images at random
# -------------------------
# ``augmentation`` is given each training batch, eight images at a time. Transforms of
# ``torchvision.transforms.v2`` fit as they are; so does a function. Digits that are moved by a
# pixel are the same digits.
import torch


def move(images):
    """Move images by up to one pixel in each direction."""
    down, right = torch.randint(-1, 2, (2,)).tolist()
    return images.roll((down, right), dims=(-2, -1))


moved = NoPropClassifier("fm", n_blocks=2, max_iter=10, augmentation=move, random_state=0)
moved.fit(X_train, y_train)
print(f"with moved digits: accuracy {moved.score(X_test, y_test):.3f}")
