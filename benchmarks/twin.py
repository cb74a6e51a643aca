"""The honest twin: as many plain networks as NoProp has blocks, averaged, on the same budget.

The same encoder, head, initial values, batches, optimiser and number of epochs as a
`NoPropClassifier` with the same parameters, but no latent: each network learns the label from
the input alone, by cross-entropy or by the squared error of its probabilities (NoProp's own loss).
What NoProp gains over the twin is gained by diffusing the label.
"""

import numpy as np
import torch
from sklearn.utils.validation import validate_data

from sknoprop import NoPropClassifier
from sknoprop._data import weighted_data
from sknoprop.building import build_model
from sknoprop.defaults import fill_in
from sknoprop.fitting import fit_model, training_settings
from sknoprop.model import Losses, NoPropModel
from sknoprop.training.seeds import Seeds


class PlainModel(NoPropModel):
    """The blocks of a model with the latent left out."""

    squared_error = False

    def logits(self, inputs):
        features = self.encoder(inputs)
        z = features.new_zeros(len(features), 1, 1, self.embedding.dim)
        return self.head(features, z, None)[:, :, 0]

    def losses(self, inputs, y, draws, sample_weight=None, constants=None, block_weight=None):
        logits = self.logits(inputs)
        if self.squared_error:
            target = torch.nn.functional.one_hot(y, logits.shape[-1])
            loss = (torch.softmax(logits, -1) - target).square().sum(-1)
        else:
            index = y.expand(len(logits), -1)[..., None]
            loss = -torch.log_softmax(logits, -1).gather(-1, index)[..., 0]
        zero = loss.new_zeros(())
        return Losses(loss.mean(1), zero, zero)

    def scale(self):
        return torch.ones(self.n_blocks)


class PlainEnsemble(NoPropClassifier):
    """Plain networks with the parameters of a "dt" `NoPropClassifier`, averaged."""

    squared_error = False

    def fit(self, X, y):
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        self.classes_, labels = np.unique(y, return_inverse=True)
        params = fill_in(self.get_params(deep=False), len(X), len(self.classes_)) | {
            "n_train_draws": 1
        }
        seeds = Seeds(self.random_state)
        model = build_model(params, X, labels, seeds, len(self.classes_))
        model.__class__ = PlainModel
        model.squared_error = self.squared_error
        data = weighted_data(X, labels, None)
        fit_model(model, data, None, 1, training_settings(params), seeds)
        self.blocks_ = model
        return self

    def predict_proba(self, X):
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        with torch.no_grad():
            logits = self.blocks_.logits(self.blocks_.encoder.prepare(torch.as_tensor(X)))
            p = torch.softmax(logits.double(), -1).mean(0)
        return p.numpy()


class SquaredErrorEnsemble(PlainEnsemble):
    """The same, by squared error."""

    squared_error = True
