"""
How does a network of one's own come in?
========================================

The encoder is the only part that knows what `X` is. It may be any ``torch.nn.Module``: what turns
a batch into one row of features each. Denoising, noise levels and probabilities stay as they are.
"""

# %%
import copy

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from torch import nn

from sknoprop import NoPropClassifier

digits = load_digits()
X, y = digits.images[:, None].astype(np.uint8), digits.target
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
settings = {"variant": "fm", "n_blocks": 3, "max_iter": 10, "random_state": 0}

# %%
# A class: a network a block
# --------------------------
# What makes a network when it is called is called once a block, so blocks start from values of
# their own and are trained apart. Lazy layers find their sizes by themselves.


class Strips(nn.Module):
    """Looks at an image row by row."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Conv2d(1, 24, (1, 8))
        self.out = nn.LazyLinear(64)

    def forward(self, images):
        """Turn images (n, 1, 8, 8) into features (n, 64)."""
        return self.out(self.rows(images).relu().flatten(1))


clf = NoPropClassifier(encoder=Strips, **settings).fit(X_train, y_train)
print(f"a network a block: {clf.score(X_test, y_test):.3f}")

# %%
# A frozen network: shared, and computed once
# -------------------------------------------
# A network none of whose parameters requires a gradient is taken as pre-trained. All blocks share
# its features, and they are computed once for each image, not in each epoch. It is given bytes
# divided by 255 (images of grey values up to 16 are dark, here). A backbone of torchvision's with
# its last layer taken off comes in like this; the first principal components do as an example.
pca = PCA(30).fit(X_train.reshape(len(X_train), -1) / 255)
backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 30))
with torch.no_grad():
    backbone[1].weight.copy_(torch.tensor(pca.components_))
    backbone[1].bias.copy_(torch.tensor(-pca.components_ @ pca.mean_))
backbone.requires_grad_(False)

frozen = NoPropClassifier(encoder=backbone, **settings).fit(X_train, y_train)
print(f"frozen components: {frozen.score(X_test, y_test):.3f}")

# %%
# A network to go on from
# -----------------------
# A network that does require gradients is copied for each block: each trains its copy further.
# Here it is another object than ``backbone``, which is a parameter of the classifier above and
# stays frozen.
trainable = copy.deepcopy(backbone).requires_grad_(True)
tuned = NoPropClassifier(encoder=trainable, **settings).fit(X_train, y_train)
print(f"trained further:   {tuned.score(X_test, y_test):.3f}")

# %%
# ``blocks_`` is a torch module, and its state has the copies of all blocks one upon another. Drawn
# are the weights of the six first components: as they were given, and what each block made of them.
(copies,) = (
    value
    for name, value in tuned.blocks_.state_dict().items()
    if value.shape == (3, 30, 64)  # blocks, outputs and inputs of the layer
)
rows = {"given": torch.tensor(pca.components_)}
rows |= {f"block {block}": weights for block, weights in enumerate(copies, start=1)}

fig, axes = plt.subplots(4, 6, figsize=(6.4, 4.6), layout="constrained")
for axes_of_row, (name, weights) in zip(axes, rows.items(), strict=True):
    for ax, weight in zip(axes_of_row, weights.numpy(), strict=False):
        top = abs(weight).max()
        ax.imshow(weight.reshape(8, 8), cmap="PuOr", vmin=-top, vmax=top)
        ax.set(xticks=[], yticks=[])
    axes_of_row[0].set_ylabel(name)
plt.show()

# %%
# The components can still be made out, and no two blocks changed them alike: the copies exchange
# nothing.
