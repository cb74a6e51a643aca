"""The estimator: parameters, checks, fit and predict; no mathematics."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from skorch.callbacks import PrintLog
from torch import Tensor

from sknoprop._parameters import (
    CONSTRAINTS,
    OPTIMIZERS,
    check_parameters,
    resolve,
    resolve_device,
)
from sknoprop.building import build_model
from sknoprop.inference import (
    block_kernels,
    kernel_probabilities,
    rows_at_once,
    sampling_times,
    trajectory_probabilities,
)
from sknoprop.kernels import shared_draws
from sknoprop.samplers import SAMPLERS
from sknoprop.training import Batches, NoiseSource, train
from sknoprop.training.seeds import Seeds

__all__ = ["NoPropClassifier"]


class NoPropClassifier(ClassifierMixin, BaseEstimator):
    """Classifier whose blocks learn, each on its own, to denoise the label.

    Nothing is propagated through the network, forward or back: every block is given the input
    and a noised embedding of the label and learns to recover the label from both. For
    prediction, each block alone gives a full estimate of the class probabilities, the
    stationary distribution of its *class kernel*; `predict_proba` is their mean. The paper's
    inference, denoising step by step from pure noise, is the other choice.

    Read more in the project's README and in [1]_.

    Parameters
    ----------
    variant : {"dt", "ct", "fm"}, default="dt"
        Formulation: discrete time, continuous time or flow matching.

    n_blocks : int, default=10
        Number of independent blocks, the depth. For "ct" and "fm" time is cut into as many
        intervals; the paper has one.

    schedule : {"auto", "cosine", "linear", "sigmoid", "straight", "learned"} or Schedule, \
default="auto"
        Signal and noise over time, see `sknoprop.schedules`. "auto" is "cosine" for "dt" and
        "ct" and "straight" for "fm". "learned" is for "ct" alone; blocks then share it.

    partition : {"auto", "uniform", "information"}, default="auto"
        How time is cut into blocks, see `sknoprop.partition`: evenly, or so that each block has
        the same amount of label information to recover. "auto" is "uniform" for "dt", whose
        schedule is its grid, and "information" for "ct" and "fm"; with a learned schedule it is
        "uniform", since the information is that of the schedule before training.

    embedding : {"one-hot", "learned", "prototype"} or array-like of shape \
(n_classes, embedding_dim), default="one-hot"
        Class embeddings that labels are denoised to. "one-hot" and an array stay fixed;
        "learned" starts with orthogonal rows and "prototype" with a typical example of each
        class, and both are trained. Blocks then share them, and are not independent any more.

    embedding_dim : int, default=20
        Dimension of a learned embedding.

    parameterization : {"label", "velocity"}, default="label"
        What a block's output stands for, see `sknoprop.parameterizations`: class probabilities
        and their mean embedding, or a velocity in the span of the embeddings (the paper's
        choice for "fm").

    readout : {"linear", "posterior"}, default="linear"
        How a trajectory's last latent is turned into class probabilities, see
        `sknoprop.readouts`. The class kernel does not need it.

    hidden_layer_sizes : int or array-like of int, default=(128,)
        Widths of the layers on the input. With the light head the last is the layer that the
        latent is added to.

    n_bins : int, default=8
        Largest number of quantile bins for the piecewise-linear encoding of each feature, see
        `sknoprop.networks.NumberEncoding`; 0 or 1 for none. Features are standardised in any
        case.

    head : {"light", "paper"}, default="light"
        How features, latent and time are joined, see `sknoprop.networks`.

    batch_norm : bool, default=False
        Batch normalisation between the layers and in the head; with the paper's head also its
        residual layers. With two layers, ``hidden_layer_sizes=(128, 128)``, and a learning rate of
        0.01 it does better on small images than the defaults, which are chosen for tables.

    dropout : float, default=0.2
        Probability of dropping a hidden feature in training.

    loss_weight : float, default=1.0
        The paper's eta, the factor of the denoising term. With nothing shared between blocks it
        changes no block's optimum.

    inference : {"kernel", "trajectory"}, default="kernel"
        How class probabilities are made: by the blocks' class kernels, or along the paper's
        trajectories from noise to label.

    sampler : {"auto", "ancestral", "euler", "heun", "probability-flow"} or Sampler, \
default="auto"
        How trajectories are run, see `sknoprop.samplers`. "auto" is "ancestral" for "dt",
        "probability-flow" for "ct" and "euler" for "fm".

    n_steps : int or None, default=None
        Number of steps of a trajectory. None is one step a block for "dt", which cannot take
        more, and 40 for the others.

    n_draws : int, default=4
        Noise draws for a class kernel (in antithetic pairs), or number of trajectories. They
        are shared by all rows, so that a prediction depends on its row alone.

    n_train_draws : int, default=2
        Noise draws for each row in a training step; they share the row's features.

    optimizer : {"adamw", "adam", "sgd"} or subclass of torch.optim.Optimizer, default="adamw"
        Element-wise optimisers treat blocks as if each had its own.

    learning_rate : {"one-cycle", "constant"}, default="one-cycle"
        Schedule of the learning rate over the steps.

    learning_rate_init : float, default=0.006
        The learning rate; the largest of the cycle.

    weight_decay : float, default=0.001
        Passed to the optimizer.

    batch_size : int or "auto", default="auto"
        Rows a step, at most. "auto" is ``n_samples // 32``, but between 64 and 256 rows.

    max_iter : int or "auto", default="auto"
        Number of epochs. "auto" is 60 up to 5,000 rows, falls with the root of the number of rows
        to 20 from 45,000 on, and is more where fewer than 150 steps would come of it.

    callbacks : list of skorch callbacks, default=None
        Callbacks, or pairs of name and callback, for the training loop.

    device : str or torch.device, default="auto"
        Where to train. "auto" takes a CUDA device if there is one, else the CPU.

    dtype : {"float32", "float64"}, default="float32"
        Precision of training and prediction.

    random_state : int, RandomState instance or None, default=None
        Decides initial values, order of rows, noise in training and draws in prediction. With
        None each fit differs; the global generators are not used and not moved.

    verbose : int, default=0
        With 1 or more, print the loss after each epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.

    n_features_in_ : int
        Number of features seen in `fit`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen in `fit`, if all are strings.

    blocks_ : NoPropModel
        The trained blocks, a `torch.nn.Module`.

    embedding_ : ndarray of shape (n_classes, embedding_dim)
        Class embeddings after training.

    n_iter_ : int
        Number of epochs run.

    loss_curve_ : ndarray of shape (n_iter_, n_blocks)
        Denoising loss of each block over the epochs, divided by the block's scale before
        training: a weighted mean squared error, comparable between blocks. With a learned
        schedule the scale does not follow the schedule; for "fm" with a trained embedding the
        blocks' share of the extrapolation term is part of it. What is minimised with a trained
        embedding or schedule, terms for read-out and prior included, is "train_loss" in
        `history_`.

    history_ : skorch.history.History
        Record of training.

    See Also
    --------
    paper_parameters : The paper's settings.

    References
    ----------
    .. [1] Li, Teh & Pascanu (2025). "NoProp: Training Neural Networks without Back-propagation
           or Forward-propagation". arXiv:2503.24322.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import train_test_split
    >>> from sknoprop import NoPropClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    >>> clf = NoPropClassifier(random_state=0).fit(X_train, y_train)
    >>> clf.predict(X_test[:3]).shape
    (3,)
    >>> bool(clf.score(X_test, y_test) > 0.9)
    True
    """

    _parameter_constraints = CONSTRAINTS

    def __init__(
        self,
        variant="dt",
        *,
        n_blocks=10,
        schedule="auto",
        partition="auto",
        embedding="one-hot",
        embedding_dim=20,
        parameterization="label",
        readout="linear",
        hidden_layer_sizes=(128,),
        n_bins=8,
        head="light",
        batch_norm=False,
        dropout=0.2,
        loss_weight=1.0,
        inference="kernel",
        sampler="auto",
        n_steps=None,
        n_draws=4,
        n_train_draws=2,
        optimizer="adamw",
        learning_rate="one-cycle",
        learning_rate_init=0.006,
        weight_decay=0.001,
        batch_size="auto",
        max_iter="auto",
        callbacks=None,
        device="auto",
        dtype="float32",
        random_state=None,
        verbose=0,
    ):
        self.variant = variant
        self.n_blocks = n_blocks
        self.schedule = schedule
        self.partition = partition
        self.embedding = embedding
        self.embedding_dim = embedding_dim
        self.parameterization = parameterization
        self.readout = readout
        self.hidden_layer_sizes = hidden_layer_sizes
        self.n_bins = n_bins
        self.head = head
        self.batch_norm = batch_norm
        self.dropout = dropout
        self.loss_weight = loss_weight
        self.inference = inference
        self.sampler = sampler
        self.n_steps = n_steps
        self.n_draws = n_draws
        self.n_train_draws = n_train_draws
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.callbacks = callbacks
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y):
        """Train all blocks.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data, finite numbers.
        y : array-like of shape (n_samples,)
            Class labels, at least two different ones.

        Returns
        -------
        self : NoPropClassifier
            The fitted classifier.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data are not as described; before any training, and with an
            earlier fit left as it was.
        """
        self._validate_params()
        check_parameters(self.get_params(deep=False))
        device = resolve_device(self.device)
        with _restored_on_error(self):
            X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
            check_classification_targets(y)
            classes, labels = np.unique(y, return_inverse=True)
            if len(classes) < 2:
                raise ValueError(
                    "NoPropClassifier needs at least two classes in y. Got only one class: "
                    f"{classes[0]!r}."
                )
            self._fit(X, labels.astype(np.int64), device)
            self.classes_ = classes
        return self

    def _fit(self, X: np.ndarray, labels: np.ndarray, device: torch.device) -> None:
        seeds = Seeds(_entropy(self.random_state))
        params = self.get_params(deep=False)
        model = build_model(params, X, labels, seeds).to(device)
        batch_size, n_epochs = _budget(len(X), self.batch_size, self.max_iter)
        y = torch.as_tensor(labels, device=device)
        with torch.no_grad():
            inputs = torch.cat([model.encoder.prepare(rows) for rows in _tensors(X, 2**14, device)])
        noise = NoiseSource(
            seeds.block_generators("noise", model.n_blocks, device),
            seeds.generator("shared", 1, device),
            n_draws=self.n_train_draws,
            dim=model.embedding.dim,
            timed=not model.variant.single_level,
        )
        callbacks = list(self.callbacks or [])
        if self.verbose:
            callbacks.append(PrintLog(keys_ignored=["block_losses"]))
        net = train(
            model,
            Batches(inputs, y, batch_size, seeds.generator("order"), noise),
            optimizer=_optimizer_class(self.optimizer),
            learning_rate=self.learning_rate_init,
            weight_decay=self.weight_decay,
            one_cycle=self.learning_rate == "one-cycle",
            n_epochs=n_epochs,
            callbacks=callbacks,
            seeds=seeds,
        )
        self.blocks_ = model.requires_grad_(False)
        self.embedding_ = model.embedding.weight.cpu().numpy().copy()
        self.history_ = net.history
        self.n_iter_ = len(net.history)
        self.loss_curve_ = np.array(net.history[:, "block_losses"])
        self._seed = seeds.entropy

    def predict(self, X):
        """Likeliest class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self._labels(self.predict_proba(X))

    def predict_proba(self, X):
        """Class probabilities of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            In the order of `classes_`.
        """
        *_, last = self.staged_predict_proba(X)
        return last

    def predict_log_proba(self, X):
        """Logarithm of the class probabilities of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            Minus infinity where a probability is zero.
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def staged_predict(self, X):
        """Likeliest classes after each block.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Yields
        ------
        ndarray of shape (n_samples,)
        """
        for probabilities in self.staged_predict_proba(X):
            yield self._labels(probabilities)

    def staged_predict_proba(self, X):
        """Class probabilities after each block.

        By class kernels: the mean of the estimates of the blocks so far. Along trajectories:
        what each block that takes a step made of the latents of its last one, and for the last
        of them the read-out instead. With fewer steps than blocks (`n_steps`) some blocks take
        none, and there are fewer stages than blocks.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Yields
        ------
        ndarray of shape (n_samples, n_classes), float64
        """
        if self.inference == "kernel":
            estimates = self.predict_block_proba(X)
            counts = np.arange(1, len(estimates) + 1)[:, None, None]
            stages = np.cumsum(estimates, axis=0) / counts
        else:
            stages = self._trajectories(self._check(X))
        # All stages are computed together, when the first is asked for; not before that are data
        # and parameters checked.
        yield from stages

    def predict_block_proba(self, X):
        """Each block's own estimate of the class probabilities.

        The stationary distributions of the blocks' class kernels, whatever `inference` is. With
        more than 32 classes, kernels are over each row's 32 likeliest ones by a first pass of
        all blocks: a block divides the probability of these anew, and the other classes keep
        the probability that the first block gives them at its noisiest level.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_blocks, n_samples, n_classes), float64
        """
        return self._by_rows(self._check(X), kernel_probabilities)

    def predict_class_kernel(self, X):
        """Class kernel of each block for each row.

        Entry ``[b, i, c, y]`` is the probability with which block b turns "row i is of class c"
        into "row i is of class y". See `sknoprop.kernels` for what can be read off it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_blocks, n_samples, n_classes, n_classes)
        """
        return self._by_rows(self._check(X), block_kernels, n_candidates=len(self.classes_))

    def predict_disagreement(self, X):
        """How much the blocks' estimates differ for each row.

        The Jensen-Shannon divergence of the blocks' own estimates: the entropy of their mean
        less the mean of their entropies. Large where blocks contradict each other, small where
        they agree, be it on a class or on a doubt between classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,), float64
            In nats, from 0 to ``log(min(n_blocks, n_classes))``.
        """
        estimates = torch.as_tensor(self.predict_block_proba(X))
        of_mean = torch.special.entr(estimates.mean(0)).sum(-1)
        mean_of = torch.special.entr(estimates).sum(-1).mean(0)
        return (of_mean - mean_of).clamp_min(0.0).numpy()

    def _trajectories(self, X: np.ndarray) -> np.ndarray:
        model = self.blocks_
        choice = self.sampler if self.sampler != "auto" else model.variant.sampler
        sampler = resolve(choice, SAMPLERS)
        times = sampling_times(model, self.n_steps)
        generator = Seeds(self._seed).generator("predict")
        steps = len(times) if sampler.stochastic else 1
        noise = torch.stack(
            [shared_draws(self.n_draws, model.embedding.dim, generator) for _ in range(steps)]
        ).to(model.embedding.weight)

        def stages(model: Any, features: Tensor, _: Tensor) -> Tensor:
            return torch.stack(
                list(trajectory_probabilities(model, features, sampler, times, noise))
            )

        return self._by_rows(X, stages)

    def _by_rows(
        self,
        X: np.ndarray,
        function: Callable[[Any, Tensor, Tensor], Tensor],
        n_candidates: int | None = None,
    ) -> np.ndarray:
        """Apply a function of model, features and draws to all rows, a bounded number at a time.

        Its result has rows on the second axis. `X` has been checked.
        """
        model = self.blocks_
        weight = model.embedding.weight
        generator = Seeds(self._seed).generator("predict")
        eps = shared_draws(self.n_draws, model.embedding.dim, generator).to(weight)
        size = rows_at_once(model, self.n_draws, n_candidates)
        parts = []
        with torch.no_grad():
            for rows in _tensors(X, size, weight.device):
                # The last rows are filled up, so that all products are of one shape and a row's
                # result does not depend on how many rows are predicted with it.
                padding = (0, 0, 0, size - len(rows))
                inputs = model.encoder.prepare(torch.nn.functional.pad(rows, padding))
                result = function(model, model.encoder(inputs), eps)
                parts.append(result[:, : len(rows)].double().cpu())
        return torch.cat(parts, dim=1).numpy()

    def _check(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        self._validate_params()
        return validate_data(self, X, dtype=[np.float64, np.float32], reset=False)

    def _labels(self, probabilities: np.ndarray) -> np.ndarray:
        return self.classes_[probabilities.argmax(axis=1)]

    def __getstate__(self):
        state = super().__getstate__()
        blocks = state.get("blocks_")
        if blocks is not None and blocks.embedding.weight.device.type != "cpu":
            # A file made on a machine with a GPU must load on one without.
            state = state | {"blocks_": copy.deepcopy(blocks).cpu()}
        return state


def _entropy(random_state: Any) -> int:
    """Seed of a fit."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(np.iinfo(np.int32).max))
    return int(random_state)


def _optimizer_class(optimizer: Any) -> type[torch.optim.Optimizer]:
    return OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer


def _budget(n_samples: int, batch_size: Any, max_iter: Any) -> tuple[int, int]:
    """Rows a step and number of epochs, from the number of rows where left open."""
    if batch_size == "auto":
        batch_size = min(256, max(64, n_samples // 32))
    if max_iter == "auto":
        max_iter = round(60 * min(1.0, max(math.sqrt(5_000 / n_samples), 1 / 3)))
        max_iter = max(max_iter, math.ceil(150 / math.ceil(n_samples / batch_size)))
    return batch_size, max_iter


def _tensors(X: np.ndarray, size: int, device: torch.device) -> Iterator[Tensor]:
    """Rows of `X` on the device, at most `size` at a time."""
    for start in range(0, len(X), size):
        # A copy: torch takes neither read-only arrays nor negative strides.
        yield torch.as_tensor(np.array(X[start : start + size]), device=device)


@contextmanager
def _restored_on_error(estimator: BaseEstimator) -> Iterator[None]:
    """Undo changes to an estimator's attributes if the block raises."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
