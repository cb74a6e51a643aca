"""Small models and data for tests."""

from unittest.mock import patch

import numpy as np
import torch
from sklearn.metrics import log_loss

import sknoprop.fitting
from sknoprop import NoPropClassifier
from sknoprop.building import build_model
from sknoprop.defaults import fill_in
from sknoprop.model import Draws
from sknoprop.training.seeds import Seeds


def toy_data(n=40, n_features=5, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    X = rng.standard_normal((n, n_features))
    X[:, 0] += y
    return X, y


def toy_model(n_classes=3, seed=0, **params):
    """An untrained model in float64 on toy data; defaults small."""
    small = {
        "n_blocks": 4,
        "hidden_layer_sizes": (8,),
        "dropout": 0.0,
        "batch_norm": False,
        "dtype": "float64",
    }
    X, y = toy_data(n_classes=n_classes)
    estimator = NoPropClassifier(**(small | params))
    model = build_model(
        fill_in(estimator.get_params(deep=False), len(X), n_classes), X, y, Seeds(seed), n_classes
    )
    inputs = model.encoder.prepare(torch.tensor(X))
    return model, inputs, torch.tensor(y)


def toy_draws(model, n, n_draws=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (model.n_blocks, n, n_draws)
    dim = model.embedding.dim
    options = {"generator": generator, "dtype": torch.float64}
    return Draws(
        torch.randn(*shape, dim, **options),
        torch.rand(*shape, **options),
        torch.randn(n, dim, **options),
    )


class Counting(torch.optim.SGD):
    """Keeps a plain number with each parameter."""

    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["count"] = state.get("count", 0) + 1


def training_lengths(monkeypatch):
    """Epochs of each training that fits ask for from now on, a list that grows."""
    lengths, train = [], sknoprop.fitting.train

    def spy(model, rows, judge, settings, *others):
        lengths.append(settings.n_epochs)
        return train(model, rows, judge, settings, *others)

    monkeypatch.setattr(sknoprop.fitting, "train", spy)
    return lengths


def losses_cut_and_left_alone(train, unseen, max_iter):
    """Log loss where more is cut if it does little harm or pays, and where nothing does."""
    losses = []
    for harmless, clearly in ((0.05, 0.05), (-1.0, 1.0)):
        with patch.multiple("sknoprop.networks.resolution", HARMLESS=harmless, CLEARLY=clearly):
            clf = NoPropClassifier(n_blocks=2, max_iter=max_iter, random_state=0).fit(*train)
        losses.append(log_loss(unseen[1], clf.predict_proba(unseen[0])))
    return losses
