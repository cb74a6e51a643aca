"""The honest twin: as many plain networks as NoProp has blocks, averaged, on the same budget.

The same encoder, head, initial values, batches, optimiser, number of epochs, and the same use of
rows that are left out (for the temperature, and to see how long to train), as a "dt"
`NoPropClassifier` with the same parameters, but no latent: each network learns the label from the
input alone, by cross-entropy or by the squared error of its probabilities (NoProp's own loss). What
NoProp gains over the twin is gained by diffusing the label.
"""

from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch

from sknoprop import NoPropClassifier, calibrating, classifier, fitting
from sknoprop.building import build_model
from sknoprop.calibration import tempered
from sknoprop.model import Losses, NoPropModel, mean_over_rows


class PlainModel(NoPropModel):
    """The blocks of a model with the latent left out."""

    squared_error = False

    def logits(self, features):
        z = features.new_zeros(len(features), 1, 1, self.embedding.dim)
        return self.head(features, z, None)[:, :, 0]

    def losses(self, inputs, y, draws, sample_weight=None, constants=None, block_weight=None):
        logits = self.logits(self.encoder(inputs))
        if self.squared_error:
            target = torch.nn.functional.one_hot(y, logits.shape[-1])
            loss = (torch.softmax(logits, -1) - target).square().sum(-1)
        else:
            index = y.expand(len(logits), -1)[..., None]
            loss = -torch.log_softmax(logits, -1).gather(-1, index)[..., 0]
        weight = sample_weight if block_weight is None else block_weight
        zero = loss.new_zeros(())
        return Losses(mean_over_rows(loss[..., None], weight), zero, zero)

    def scale(self):
        return torch.ones(self.n_blocks)


def plain_probabilities(model, features, probes):
    """Each network's class probabilities, in the place of `kernel_probabilities`."""
    return tempered(torch.softmax(model.logits(features).double(), -1), model.temperature)


class PlainEnsemble(NoPropClassifier):
    """Plain networks with the parameters of a `NoPropClassifier`, averaged."""

    squared_error = False

    def _build(self, *args):
        model = build_model(*args)
        model.__class__ = PlainModel
        model.squared_error = self.squared_error
        return model

    @contextmanager
    def _plain(self):
        with ExitStack() as stack:
            stack.enter_context(patch.object(classifier, "build_model", self._build))
            for module in (classifier, calibrating, fitting):
                stack.enter_context(
                    patch.object(module, "kernel_probabilities", plain_probabilities)
                )
            yield

    def fit(self, X, y):
        with self._plain():
            return super().fit(X, y)

    def predict_proba(self, X):
        with self._plain():
            return super().predict_proba(X)

    def predict_disagreement(self, X):
        with self._plain():
            return super().predict_disagreement(X)


class SquaredErrorEnsemble(PlainEnsemble):
    """The same, by squared error."""

    squared_error = True
