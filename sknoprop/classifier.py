"""The estimator: parameters, checks, fit and predict; no mathematics."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from skorch.history import History
from torch import Tensor

from sknoprop._data import Data, hold_out, weighted_data
from sknoprop._images import LazyRows
from sknoprop._inputs import check_data
from sknoprop._labels import label_keys, label_numbers, refuse_missing
from sknoprop._memory import halved_until_it_fits
from sknoprop._modes import own_default_device, own_modes, own_precision
from sknoprop._parameters import (
    CONSTRAINTS,
    built_with,
    check_constraints,
    check_encoder,
    check_first_call,
    check_parameters,
    check_unchanged,
    parameters_of,
    plain,
    resolve,
    resolve_device,
)
from sknoprop._version import __version__
from sknoprop._weights import check_weights
from sknoprop.building import build_model
from sknoprop.defaults import fill_in, trains_on_images
from sknoprop.few_rows import rows_for_few
from sknoprop.fitting import (
    check_precision,
    fit_model,
    memory_errors,
    prediction_draws,
    tensors,
    training_settings,
)
from sknoprop.growing import grown
from sknoprop.inference import (
    block_kernels,
    features_of,
    kernel_probabilities,
    rows_at_once,
    rows_encoded_at_once,
    rows_rounded_alike,
)
from sknoprop.kernels import shared_draws
from sknoprop.model import NoPropModel
from sknoprop.parallel import THREADS
from sknoprop.persistence import (
    load_classifier,
    pickled_model,
    pickled_optimizer,
    save_classifier,
    unpickled_model,
    unpickled_optimizer,
    warn_of_version,
)
from sknoprop.probes import Probes
from sknoprop.samplers import SAMPLERS
from sknoprop.training import Trained
from sknoprop.training.seeds import Seeds
from sknoprop.trajectories import (
    rows_of_trajectories,
    sampling_times,
    trajectory_probabilities,
    trajectory_steps,
)

__all__ = ["NoPropClassifier", "Trajectories"]

E = TypeVar("E", bound=BaseEstimator)

#: What predictions ask for, and may be set after training.
OF_PREDICTIONS = ("inference", "sampler", "n_steps", "n_draws")


class Trajectories(NamedTuple):
    """What `NoPropClassifier.predict_trajectory` returns."""

    times: np.ndarray
    """From 0 (pure noise) to the last one, shape (n_steps + 1,)."""
    latents: np.ndarray
    """Shape (n_steps + 1, n_samples, n_draws, embedding_dim)."""
    probabilities: np.ndarray
    """Class probabilities given each latent, shape (n_steps + 1, n_samples, n_draws, n_classes)."""


class NoPropClassifier(ClassifierMixin, BaseEstimator):
    """Classifier whose blocks learn, each on its own, to denoise the label.

    Nothing is propagated through the network, forward or back: every block is given the input
    and a noised embedding of the label and learns to recover the label from both. For
    prediction, each block alone gives a full estimate of the class probabilities, the
    stationary distribution of its *class kernel*; `predict_proba` is their mean. The paper's
    inference, denoising step by step from pure noise, is the other choice.

    Read more in the user guide and in [1]_.

    Parameters
    ----------
    variant : {"dt", "ct", "fm"}, default="dt"
        Formulation: discrete time, continuous time or flow matching.

    n_blocks : int, default=5
        Number of independent blocks (what the paper calls depth); they work side by side, each on
        the input itself. For "ct" and "fm" time is cut into as many intervals; the paper has one.

    schedule : {"auto", "cosine", "linear", "sigmoid", "straight", "learned"} or Schedule, \
default="auto"
        Signal and noise over time, see `sknoprop.schedules`. "auto" is "cosine" for "dt" and
        "ct" and "straight" for "fm". "learned" is for "ct" alone; blocks then share it.

    partition : {"auto", "uniform", "information"}, default="auto"
        How time is cut into blocks, see `sknoprop.partition`: evenly, or so that each block has
        the same amount of label information to recover (with a learned schedule as it is before
        training). "auto" is "information" for "ct" and "fm" and where embeddings may have any
        length (prototypes, an array), and "uniform" for "dt" with others, whose schedule is its
        grid, and with a learned schedule, which training moves away from any such cut.

    embedding : {"one-hot", "learned", "prototype"} or array-like of shape \
(n_classes, embedding_dim), default="one-hot"
        Class embeddings that labels are denoised to. "one-hot" and an array stay fixed;
        "learned" starts with orthogonal rows and "prototype" with a typical example of each
        class, and both are trained. Blocks then share them, and are not independent any more.

    embedding_dim : int, default=20
        Dimension of a learned embedding.

    encoder : {"auto", "mlp", "cnn", "resnet", "resnet-wide"}, torch.nn.Module or callable, \
default="auto"
        What turns the input into features; after it come the layers of `hidden_layer_sizes`.
        "mlp" is nothing before them, "cnn" the paper's convolutional path, "resnet" a residual
        network small enough for a CPU, "resnet-wide" one for a GPU; they need images. "auto" is
        "mlp" for rows of numbers, "resnet" for images, and "cnn" with the paper's head. A network
        of your own is copied for each block and trained; what makes one when called without
        arguments, as a class does, gives each block initial values of its own. It gets a batch of
        standardised images (or encoded numbers) and returns a row of features for each. If none of
        its parameters requires a gradient it is taken as pre-trained: it is not trained, is shared
        by all blocks, and its features are computed once; it then gets images of bytes divided by
        255, and other inputs as they are.

    image_shape : tuple of int or None, default=None
        Channels, height and width of images, if `X` has a flat row for each. None if `X` has
        images as they are, or none.

    parameterization : {"label", "velocity"}, default="label"
        What a block's output stands for, see `sknoprop.parameterizations`: class probabilities
        and their mean embedding, or a velocity in the span of the embeddings (the paper's
        choice for "fm").

    readout : {"denoiser", "linear", "nearest", "posterior"}, default="denoiser"
        How a trajectory gives class probabilities, see `sknoprop.readouts`: "denoiser" is the
        mean over its steps of those that blocks denoise by; the paper's "linear" and "posterior"
        are trained to read the last latent, and "nearest", its rule for "fm", looks for the
        nearest embedding. The class kernel does not need it.

    hidden_layer_sizes : int, array-like of int or "auto", default="auto"
        Widths of the layers on the input. With the light head the last is the layer that the
        latent is added to. "auto" is ``(128,)`` for up to 1,000 rows of two classes, else
        ``(128, 128)``.

    n_bins : int or "auto", default="auto"
        Largest number of quantile bins for the piecewise-linear encoding of each feature; 0 or 1
        for none. "auto" is from 3 to 128, the fewest with which kernel ridge regression is as good
        on rows left out one at a time as with any other number (but 8 at least with up to ten
        features to cut, and 8 in `partial_fit`); a feature by which that leaves much unsaid, as
        1,600 rows and more show, has up to 256. Values that many rows share, and levels of codes
        and counts, have bins of their own besides, if the labels depend on them by leaps, which of
        many rows may be small, see `sknoprop.networks.NumberEncoding`. (In `partial_fit` the first
        part decides.) Features are standardised in any case.

    head : {"light", "paper"}, default="light"
        How features, latent and time are joined, see `sknoprop.networks`.

    batch_norm : bool or "auto", default="auto"
        Batch normalisation after each layer on the input; with the paper's head also in it, with
        its residual layers. "auto" is whether there is more than one layer.

    dropout : float or "auto", default="auto"
        Probability of dropping a hidden feature in training. "auto" is 0.35 up to 1,000 rows and
        0.2 above, and half as much in each further cycle, where there are any (`max_iter`).

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
        Number of steps of a trajectory. None is one step a block for "dt", whose blocks know one
        noise level each, so that more steps change nothing, and 40 for the others.

    n_draws : int, default=2
        Noise draws for a class kernel (in antithetic pairs; of an odd number one is zero), or
        number of trajectories, which vary more, so that more of them are better. They are
        shared by all rows, so that a prediction depends on its row alone. Kernels of more than
        32 classes do without.

    n_train_draws : int, default=1
        Noise draws for each row in a training step; they share the row's features.

    optimizer : {"adamw", "adam", "sgd"} or subclass of torch.optim.Optimizer, default="adamw"
        Element-wise optimisers treat blocks as if each had its own.

    learning_rate : {"one-cycle", "constant"}, default="one-cycle"
        Schedule of the learning rate over the steps.

    learning_rate_init : float, default=0.01
        The learning rate; the largest of the cycle.

    weight_decay : float or "auto", default="auto"
        Passed to the optimizer, if it has one. "auto" is ``min(1, 100 / n_samples)`` for AdamW,
        whose decay is decoupled from the gradient and takes the learning rate as a factor, and
        0.001 for others. A learned embedding or schedule does not decay.

    batch_size : int or "auto", default="auto"
        Rows a step, at most. "auto" is ``n_samples // 32``, but between 64 and 256 rows.

    blocks_at_once : int or None, default=None
        Blocks whose losses and gradients a training step computes together, a few after another.
        None is all of them, which is fastest. With fewer, memory does not grow with the number of
        blocks but for their parameters; what is learnt is the same up to rounding. Not for blocks
        that share a learned embedding or schedule.

    max_iter : int or "auto", default="auto"
        Number of epochs, with a constant learning rate at most. "auto" is 30 for up to 1,000 rows
        of two classes, else 50, or 20 for networks of images; falls with the root of the number of
        rows from 5,000 on to a third, and is more where fewer than 150 steps would come of it; with
        a constant learning rate it is 200. With `calibrate` "auto" has the data decide whether this
        first cycle was too short or too long, by rows that were not trained on. Where blocks are
        less sure than they are right they train as long again, and if the rows got likelier twice
        as long again. Where they are surer they train anew for a quarter as long, which is kept
        if the rows are clearly likelier; if they are clearly less likely, further cycles follow
        the first as long as they clearly pay. What does not pay is forgotten. Not for networks of
        images; and a warm start is not begun anew.

    augmentation : callable or None, default=None
        Changes the images of each training batch at random, on the device:
        `torchvision.transforms.v2` has many. It gets images of bytes as they are, others
        standardised, and keeps their shape and dtype. Eight images at a time share a draw.

    callbacks : list of skorch callbacks, default=None
        Callbacks, or pairs of name and callback, for the training loop: checkpoints, schedules of
        the learning rate (with ``learning_rate="constant"``), loggers; none that scores.
        `history_` has what they can monitor: "train_loss" and "valid_loss". Each cycle of
        ``max_iter="auto"`` is a training to them, which may be forgotten: with callbacks that
        write files, give a number. With
        `sknoprop.callbacks.FitCheckpoint` a fit whose process was killed goes on to the last bit.

    device : str or torch.device, default="auto"
        Where to train. "auto" takes a CUDA device if there is one, else the CPU. With `n_jobs`
        "auto" and "cuda" spread blocks over all GPUs, "cuda:1" does not.

    dtype : {"float32", "float64", "bfloat16"}, default="float32"
        Precision of training and prediction. With "bfloat16" the networks' products are rounded
        to it in training (automatic mixed precision), which GPUs and some CPUs do faster and
        others slower; parameters, losses and predictions are float32.

    calibrate : bool, default=True
        Whether probabilities of class kernels are made as sure as they are right, by one number,
        `temperature_`. It is found by rows that were not trained on: those of validation where
        there are any, else each block leaves out some of its own (at most one row in ten, and
        2,000 by all of them; classes with fewer than five rows and heavy rows are spared), which
        costs hardly any time or accuracy, as every row is learnt by the other blocks. Not
        done for one block, under 50 rows and for trajectories. Training that goes on
        (`warm_start`, `partial_fit`) keeps the temperature unless the same rows are left out, or
        given for validation, as before.

    early_stopping : bool, default=False
        Whether to hold out some rows (or take `X_val`) and keep of each block the weights with
        which its own class probabilities had the lowest log loss there. Blocks that share an
        embedding or schedule are judged together.

    validation_fraction : float, default=0.1
        Share of the rows that `early_stopping` holds out, by classes where possible.

    n_iter_no_change : int or None, default=10
        With a constant learning rate, a block is done when its loss (with `early_stopping` the
        validation log loss) has not fallen by `tol` for more epochs than these; training ends
        when all blocks are done. None for no such end. The cycle of "one-cycle" is always run to
        its end, where most of its gain is.

    tol : float, default=1e-4
        What counts as a fall of the loss.

    class_weight : dict, "balanced" or None, default=None
        Factors of the classes' losses; "balanced" is inverse to their numbers of rows. Of dates
        keys may be `numpy.datetime64` in any unit, or `datetime.date`.

    warm_start : bool, default=False
        Whether `fit` goes on from the last one, for `max_iter` more epochs with the optimiser's
        state kept, instead of starting anew. For "ct" and "fm" `n_blocks` may then be a multiple
        of what it was: each block is split along its times.

    n_jobs : int or None, default=None
        joblib workers that train blocks in `fit`, a group of blocks each. None means 1 unless in a
        `joblib.parallel_config` context, which also chooses where they run (processes, threads, a
        Dask or Ray cluster); -1 means all processors. With one worker, all blocks are trained in
        one step. With more, a block learns what it learns in one step, up to rounding, which long
        training amplifies, and for the same `n_jobs` bit for bit the same on any back end. It pays
        where a fit takes many seconds. Blocks that share a learned embedding or schedule, or that
        `callbacks` follow, cannot be trained apart: an error for any `n_jobs` but None and 1. In
        groups `history_` lacks "train_loss" and "valid_loss", which no worker knows, and a block's
        losses are NaN after its worker was done. `verbose` then shows blocks that are done, not
        epochs. Workers that are threads go on for a while after Ctrl-C or an error of another one:
        prefer processes, joblib's default.

    random_state : int, RandomState instance or None, default=None
        Decides initial values, order of rows, noise in training and draws in prediction. With
        None each fit differs; the global generators are not used and not moved.

    verbose : int, default=0
        With 1 show a progress bar, with 2 also a line for each epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.

    n_features_in_ : int
        Number of features seen in `fit`.

    image_shape_ : tuple or None
        Channels, height and width of images; None for rows of numbers.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen in `fit`, if all are strings.

    blocks_ : NoPropModel
        The trained blocks, a `torch.nn.Module`.

    embedding_ : ndarray of shape (n_classes, embedding_dim)
        Class embeddings after training.

    n_iter_ : int
        Number of epochs that the blocks have been trained for. Those of a cycle that did not pay
        (see `max_iter`) are forgotten and not counted, here as in the curves and `history_`.

    temperature_ : float
        Temperature of the blocks' class probabilities, chosen to calibrate their mean: below 1
        they were made surer, above 1 less sure; 1 where there was nothing to find it by.
        `predict_class_kernel` and trajectories are without it.

    loss_curve_ : ndarray of shape (`n_iter_`, n_blocks)
        Denoising loss of each block over the epochs, divided by the block's scale before
        training: a weighted mean squared error, comparable between blocks. With a learned
        schedule the scale does not follow the schedule; for "fm" with a trained embedding the
        blocks' share of the extrapolation term is part of it. What is minimised with a trained
        embedding or schedule, terms for read-out and prior included, is "train_loss" in
        `history_`.

    validation_scores_ : ndarray of shape (`n_iter_`, n_blocks) or None
        Negative log loss of each block's own class probabilities on the validation rows, over
        those epochs that had any.

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

    # scikit-learn's HTML picture of the estimator links to its page where this module's pages are.
    _doc_link_module = "sknoprop"

    @property
    def _doc_link_template(self):
        # They have no address of their own yet: without one that is given there is no link.
        base = os.environ.get("SKNOPROP_DOCS", "").rstrip("/")
        return f"{base}/generated/sknoprop.{{estimator_name}}.html" if base else ""

    blocks_: NoPropModel
    history_: History
    _seed: int
    _trained: Trained
    _built_with: dict[str, Any]

    def __init__(
        self,
        variant="dt",
        *,
        n_blocks=5,
        schedule="auto",
        partition="auto",
        embedding="one-hot",
        embedding_dim=20,
        encoder="auto",
        image_shape=None,
        parameterization="label",
        readout="denoiser",
        hidden_layer_sizes="auto",
        n_bins="auto",
        head="light",
        batch_norm="auto",
        dropout="auto",
        loss_weight=1.0,
        inference="kernel",
        sampler="auto",
        n_steps=None,
        n_draws=2,
        n_train_draws=1,
        optimizer="adamw",
        learning_rate="one-cycle",
        learning_rate_init=0.01,
        weight_decay="auto",
        batch_size="auto",
        blocks_at_once=None,
        max_iter="auto",
        augmentation=None,
        callbacks=None,
        device="auto",
        dtype="float32",
        calibrate=True,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        class_weight=None,
        warm_start=False,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.variant = variant
        self.n_blocks = n_blocks
        self.schedule = schedule
        self.partition = partition
        self.embedding = embedding
        self.embedding_dim = embedding_dim
        self.encoder = encoder
        self.image_shape = image_shape
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
        self.blocks_at_once = blocks_at_once
        self.max_iter = max_iter
        self.augmentation = augmentation
        self.callbacks = callbacks
        self.device = device
        self.dtype = dtype
        self.calibrate = calibrate
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None):
        """Train all blocks.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Training data, finite numbers; images of bytes stay bytes. Also
            `sknoprop.datasets.LazyImages`.
        y : array-like of shape (n_samples,)
            Class labels, at least two different ones.
        sample_weight : array-like of shape (n_samples,), default=None
            Factors of the rows' losses, not negative; a row of weight zero is left out. Their sum
            does not matter.
        X_val : array-like of shape (n_val, n_features), default=None
            Rows to validate with; none are held out of `X` then. Each epoch is judged by them,
            see `validation_scores_`, and with `early_stopping` weights are chosen by them.
        y_val : array-like of shape (n_val,), default=None
            Their labels, each among those of `y`.

        Returns
        -------
        self : NoPropClassifier
            The fitted classifier.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data are not as described; before any training, and with an
            earlier fit left as it was.
        TrainingError
            If a loss is not finite. It names block, epoch and likely cause; an earlier fit, which
            has the last good weights, is left as it was.
        KeyboardInterrupt
            After Ctrl-C, with an earlier fit left as it was, while no epoch has been completed, or
            no cycle where blocks are trained in groups (`n_jobs`), some being ahead of others.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            With a constant learning rate, if losses still fell when epochs ran out. And after
            Ctrl-C in a later epoch: training ends, and the model is what it was at the end of the
            last one that was completed (with `early_stopping`, the best of each block until
            then), or of the last cycle that paid where there are several. As with
            `MLPClassifier`, a search or cross-validation goes on to its next fit.
        """
        device = self._check_parameters()
        again = self.warm_start and hasattr(self, "blocks_")
        with _changed_at_once(self) as new:
            X, y = check_data(new, X, y, reset=not again)
            check_classification_targets(y)
            classes, labels = np.unique(y, return_inverse=True)
            if again:
                if label_keys(classes) != label_keys(self.classes_):
                    raise ValueError(
                        "With warm_start=True, fit goes on with the classes it knows: "
                        f"{self.classes_}. Got y with {classes}."
                    )
                classes = self.classes_
            weight, factors = check_weights(sample_weight, self.class_weight, X, labels, classes)
            data = weighted_data(X, labels.astype(np.int64), weight)
            if len(np.unique(data.y)) < 2:
                raise ValueError(
                    "NoPropClassifier needs at least two classes in y (of positive weight). Got "
                    f"only one class: {classes[data.y[0]]!r}."
                )
            validation = new._validation_data(X_val, y_val, classes, factors)
            new._train(data, validation, classes, device, again=again)
        return self

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train all blocks for one epoch on some of the data.

        For data that come, or fit into memory, in parts only. The optimiser's state is kept
        between calls, also by pickles in between; the learning rate is constant, and what "auto"
        leaves to the number of rows is as for many. The encoding of inputs is learnt from the
        first part, which should be typical. After `fit` training goes on from there.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            A part of the training data.
        y : array-like of shape (n_samples,)
            Class labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever be in `y`. Needed in the first call only.
        sample_weight : array-like of shape (n_samples,), default=None
            As in `fit`, relative to the other rows of this part.

        Returns
        -------
        self : NoPropClassifier

        Raises
        ------
        ValueError, TypeError, TrainingError, KeyboardInterrupt
            As `fit`; the state before the call is left as it was, by Ctrl-C too: a part is learnt
            as a whole or not at all.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sknoprop import NoPropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = NoPropClassifier(n_blocks=3, random_state=0)
        >>> for part in range(3):
        ...     clf = clf.partial_fit(X[part::3], y[part::3], classes=[0, 1, 2])
        >>> clf.n_iter_
        3
        """
        device = self._check_parameters()
        if self.early_stopping:
            raise ValueError(
                "partial_fit does not support early_stopping=True, which needs all data at once. "
                "Set early_stopping=False."
            )
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"partial_fit does not support class_weight={self.class_weight!r}, which needs all "
                "data at once. Pass a dict of weights, as from compute_class_weight."
            )
        again = hasattr(self, "blocks_")
        with _changed_at_once(self) as new:
            refuse_missing("classes", classes)
            check_first_call(new, classes)
            known = new.classes_
            X, y = check_data(new, X, y, reset=not again)
            check_classification_targets(y)
            if len(known) < 2:
                got = f"only one class: {known}" if len(known) else "none"
                raise ValueError(f"NoPropClassifier needs at least two classes. Got {got}.")
            labels = label_numbers(y, known, "y")
            weight, _ = check_weights(sample_weight, self.class_weight, X, labels, known)
            data = weighted_data(X, labels, weight)
            new._train(data, None, known, device, again=again, streaming=True)
        return self

    def _check_parameters(self) -> torch.device:
        THREADS.ensure_usable()
        self._validate_params()
        check_constraints(parameters_of(self))  # a class derived may set some itself
        check_parameters(parameters_of(self))
        device = resolve_device(self.device)
        check_precision(self.dtype, device)
        return device

    def _validation_data(
        self, X_val: Any, y_val: Any, classes: np.ndarray, factors: np.ndarray | None
    ) -> Data | None:
        if X_val is None and y_val is None:
            return None
        if X_val is None or y_val is None:
            raise ValueError(
                f"X_val and y_val go together. Got only {'y_val' if X_val is None else 'X_val'}."
            )
        try:
            X_val, y_val = check_data(self, X_val, y_val, reset=False)
        except (TypeError, ValueError) as error:  # which speaks of X and y
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"Of X_val and y_val: {error}") from error
        labels = label_numbers(y_val, classes, "y_val")
        weight = None if factors is None else factors[labels]
        if weight is not None and not weight.any():
            raise ValueError("X_val needs a row of a class with positive class_weight.")
        return weighted_data(X_val, labels, weight)

    def _train(
        self,
        data: Data,
        validation: Data | None,
        classes: np.ndarray,
        device: torch.device,
        *,
        again: bool,
        streaming: bool = False,
    ) -> None:
        params = parameters_of(self)
        before: Trained | None = None
        if again:
            check_unchanged(self._built_with, params)
            seeds = Seeds(self._seed, epoch=len(self.history_))
        else:
            seeds = Seeds(_entropy(self.random_state))
        if isinstance(data.X, LazyRows):
            data.X.seed(seeds.generator("load").initial_seed())
        if params["early_stopping"] and validation is None:
            # The same rows as before where training goes on: others have been trained on.
            split = Seeds(seeds.entropy)
            data, validation = hold_out(data, self.validation_fraction, split)
        numbers = {name: plain(value) for name, value in params.items()}
        params_here = numbers | {"image_shape": self.image_shape_}
        check_encoder(params_here)
        filled = fill_in(params_here, len(data.y), len(classes), streaming)
        adapt = params["max_iter"] == "auto" and not trains_on_images(filled)
        fades = params["dropout"] == "auto"
        settings = training_settings(filled, streaming, adapt, fades)
        n_jobs = 1 if streaming else filled["n_jobs"]
        with memory_errors(filled), own_modes(device):
            if again:
                # A copy is trained: should it go wrong, the model is what it was.
                model, before = grown(self.blocks_, self._trained, filled["n_blocks"])
            else:
                model = build_model(filled, data.X, data.y, seeds, len(classes), data.sample_weight)
            model = model.to(device)
            n_draws = filled["n_draws"]
            trained = fit_model(
                model, data, validation, n_draws, settings, seeds, before, n_jobs, device
            )
        trained.goes_on = streaming
        self.blocks_ = model
        self.classes_ = classes
        self.embedding_ = model.embedding.weight.cpu().numpy().copy()
        self.temperature_ = float(model.temperature)
        # Blocks that were split have other curves.
        known = again and self.loss_curve_.shape[1] == model.n_blocks
        self._keep_training(trained, self.n_iter_ if known else 0)
        self._seed = seeds.entropy
        self._built_with = built_with(params)

    def _keep_training(self, trained: Trained, n_known: int = 0) -> None:
        # Of a stream, whose history is long, each part adds to curves that are there (`n_known`).
        self._trained = trained
        self.history_ = history = trained.history
        self.n_iter_ = len(history)
        n_blocks = self.blocks_.n_blocks

        def curve(name: str, known: np.ndarray | None) -> np.ndarray:
            losses = [epoch[name] for epoch in history[n_known:] if name in epoch]
            new = np.array(losses, dtype=float).reshape(-1, n_blocks)
            return new if n_known == 0 or known is None else np.concatenate([known, new])

        self.loss_curve_ = curve("block_losses", getattr(self, "loss_curve_", None))
        scores = getattr(self, "validation_scores_", None)
        judged = curve("block_valid_losses", None if scores is None else -scores)
        self.validation_scores_ = -judged if len(judged) else None

    def predict(self, X):
        """Likeliest class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, or images, as in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)

        Raises
        ------
        sklearn.exceptions.NotFittedError, ValueError, TypeError
            As `predict_proba`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sknoprop import NoPropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = NoPropClassifier(n_blocks=3, max_iter=3, random_state=0).fit(X, y)
        >>> clf.predict(X[:3]).shape
        (3,)
        """
        return self._labels(self.predict_proba(X))

    def predict_proba(self, X):
        """Class probabilities of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, or images, as in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            In the order of `classes_`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError, TypeError
            If `X` is not as described, has another number of features than in `fit`, or has rows
            whose class probabilities are not finite.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sknoprop import NoPropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = NoPropClassifier(n_blocks=3, max_iter=3, random_state=0).fit(X, y)
        >>> proba = clf.predict_proba(X)
        >>> proba.shape, bool((abs(proba.sum(axis=1) - 1) < 1e-6).all())
        ((150, 3), True)
        """
        if self.inference == "kernel":
            estimates = self.predict_block_proba(X)
            return _sum_of(estimates) / len(estimates)
        *_, last = self.staged_predict_proba(X)
        return last

    def predict_log_proba(self, X):
        """Logarithm of the class probabilities of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, or images, as in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            Minus infinity where a probability is zero.

        Raises
        ------
        sklearn.exceptions.NotFittedError, ValueError, TypeError
            As `predict_proba`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sknoprop import NoPropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = NoPropClassifier(n_blocks=3, max_iter=3, random_state=0).fit(X, y)
        >>> bool((clf.predict_log_proba(X) <= 0).all())
        True
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def staged_predict(self, X):
        """Likeliest classes after each block.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, or images, as in `fit`.

        Yields
        ------
        ndarray of shape (n_samples,)

        Raises
        ------
        sklearn.exceptions.NotFittedError, ValueError, TypeError
            As `predict_proba`, when the first stage is asked for.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sknoprop import NoPropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = NoPropClassifier(n_blocks=3, max_iter=3, random_state=0).fit(X, y)
        >>> [labels.shape for labels in clf.staged_predict(X)]
        [(150,), (150,), (150,)]
        """
        for probabilities in self.staged_predict_proba(X):
            yield self._labels(probabilities)

    def staged_predict_proba(self, X):
        """Class probabilities after each block.

        By class kernels: the mean of the estimates of the blocks so far. Along trajectories:
        the mean of what blocks made of the latents so far, and for the last of them the read-out
        instead, if `readout` is not "denoiser". With fewer steps than blocks (`n_steps`) some
        blocks take none, and there are fewer stages than blocks. `temperature_` is that of the
        last stage: as a rule the first ones are somewhat too sure.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, or images, as in `fit`.

        Yields
        ------
        ndarray of shape (n_samples, n_classes), float64

        Raises
        ------
        sklearn.exceptions.NotFittedError, ValueError, TypeError
            As `predict_proba`, when the first stage is asked for.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sknoprop import NoPropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = NoPropClassifier(n_blocks=3, max_iter=3, random_state=0).fit(X, y)
        >>> [proba.shape for proba in clf.staged_predict_proba(X)]
        [(150, 3), (150, 3), (150, 3)]
        """
        # All stages are computed together, when the first is asked for; not before that are data
        # and parameters checked.
        if self.inference == "kernel":
            sums = accumulate(self.predict_block_proba(X))
            yield from (total / number for number, total in enumerate(sums, 1))
        else:
            yield from self._trajectories(self._check(X))

    def predict_block_proba(self, X):
        """Each block's own estimate of the class probabilities.

        The stationary distributions of the blocks' class kernels, whatever `inference` is. With
        more than 32 classes these have one latent, the centre of the classes, and no draws (see
        `sknoprop.central`). Where classes are not about equally far from their mean, kernels are
        over each row's 32 likeliest ones by a first pass of all blocks: a block divides the
        probability of these anew, and the other classes keep the probability that the first
        block gives them at its noisiest level.

        They have the temperature of the mean of all of them (`temperature_`): as a rule they are
        surer than would be best for a block alone.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, or images, as in `fit`.

        Returns
        -------
        ndarray of shape (n_blocks, n_samples, n_classes), float64

        Raises
        ------
        sklearn.exceptions.NotFittedError, ValueError, TypeError
            As `predict_proba`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sknoprop import NoPropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = NoPropClassifier(n_blocks=3, max_iter=3, random_state=0).fit(X, y)
        >>> estimates = clf.predict_block_proba(X)
        >>> estimates.shape, bool((abs(estimates.mean(axis=0) - clf.predict_proba(X)) < 1e-6).all())
        ((3, 150, 3), True)
        """
        return self._by_rows(self._check(X), kernel_probabilities)

    def predict_class_kernel(self, X):
        """Class kernel of each block for each row.

        Entry ``[b, i, c, y]`` is the probability with which block b turns "row i is of class c"
        into "row i is of class y". See `sknoprop.kernels` for what can be read off it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, or images, as in `fit`.

        Returns
        -------
        ndarray of shape (n_blocks, n_samples, n_classes, n_classes)

        Raises
        ------
        sklearn.exceptions.NotFittedError, ValueError, TypeError
            As `predict_proba`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sknoprop import NoPropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = NoPropClassifier(n_blocks=3, max_iter=3, random_state=0).fit(X, y)
        >>> kernel = clf.predict_class_kernel(X)
        >>> kernel.shape, bool((abs(kernel.sum(axis=-1) - 1) < 1e-4).all())
        ((3, 150, 3, 3), True)
        """
        X = self._check(X)
        size = rows_at_once(self.blocks_, plain(self.n_draws), len(self.classes_))
        return self._by_rows(X, block_kernels, size)

    def predict_disagreement(self, X):
        """How much the blocks' estimates differ for each row.

        The Jensen-Shannon divergence of the blocks' own estimates: the entropy of their mean
        less the mean of their entropies. Large where blocks contradict each other, small where
        they agree, be it on a class or on a doubt between classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, or images, as in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            In nats, from 0 to ``log(min(n_blocks, n_classes))``.

        Raises
        ------
        sklearn.exceptions.NotFittedError, ValueError, TypeError
            As `predict_proba`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sknoprop import NoPropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = NoPropClassifier(n_blocks=3, max_iter=3, random_state=0).fit(X, y)
        >>> doubt = clf.predict_disagreement(X)
        >>> doubt.shape, bool((doubt >= 0).all())
        ((150,), True)
        """
        # Block after block: how a mean of them all is taken depends on where a row stands (torch),
        # or on whether there is but one (numpy).
        estimates = self.predict_block_proba(X)
        n = len(estimates)
        of_mean = _shannon_entropies(_sum_of(estimates) / n)
        return np.maximum(of_mean - sum(map(_shannon_entropies, estimates)) / n, 0.0)

    def predict_trajectory(self, X):
        """Every step of the paper's trajectories from noise to label.

        They are run with `sampler`, `n_steps` and `n_draws`, whatever `inference` is. For looking
        at a few rows: all latents are kept.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, or images, as in `fit`.

        Returns
        -------
        Trajectories
            Times, latents and class probabilities, see `sknoprop.classifier.Trajectories`. The
            probabilities at a time are those that the block owning it reads off row and latent;
            at the last time, which no block owns, they are those of a read-out of the latent
            alone.

        Raises
        ------
        sklearn.exceptions.NotFittedError, ValueError, TypeError
            As `predict_proba`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sknoprop import NoPropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = NoPropClassifier(n_blocks=3, max_iter=3, random_state=0).fit(X, y)
        >>> steps = clf.predict_trajectory(X[:2])
        >>> steps.times.shape, steps.latents.shape, steps.probabilities.shape
        ((4,), (4, 2, 2, 3), (4, 2, 2, 3))
        """
        X = self._check(X)
        times, run = self._sampling()
        model, n_draws = self.blocks_, plain(self.n_draws)
        kept = len(times) * n_draws * sum(model.embedding.weight.shape)
        size = rows_of_trajectories(model, n_draws, max(kept, X.shape[1]))
        steps = self._by_rows(X, partial(run, trajectory_steps), size)
        latents, probabilities = np.split(steps, [self.embedding_.shape[1]], axis=-1)
        return Trajectories(times.numpy(), latents, probabilities)

    def _trajectories(self, X: np.ndarray) -> np.ndarray:
        _, run = self._sampling()
        size = rows_of_trajectories(self.blocks_, plain(self.n_draws), X.shape[1])
        return self._by_rows(X, partial(run, trajectory_probabilities), size)

    @own_default_device()
    def _sampling(self) -> tuple[Tensor, Callable[..., Tensor]]:
        """Times of a trajectory, and how to run one of the functions along it."""
        model = self.blocks_
        choice = self.sampler if self.sampler != "auto" else model.variant.sampler
        sampler = resolve(choice, SAMPLERS)
        times = sampling_times(model, plain(self.n_steps))
        generator = Seeds(self._seed).generator("predict")
        steps = len(times) if sampler.stochastic else 1
        noise = torch.stack(
            [
                shared_draws(plain(self.n_draws), model.embedding.dim, generator)
                for _ in range(steps)
            ]
        ).to(model.embedding.weight)

        def run(function: Callable[..., Any], model: Any, features: Tensor, _: Probes) -> Tensor:
            return torch.stack(list(function(model, features, sampler, times, noise)))

        return times, run

    @own_default_device()
    def _by_rows(
        self,
        X: np.ndarray,
        function: Callable[[Any, Tensor, Probes], Tensor],
        at_once: int | None = None,
    ) -> np.ndarray:
        """Apply a function of model, features and probes to all rows, a bounded number at a time.

        That for class probabilities by kernels by default. The result has rows on the second axis.
        `X` has been checked.
        """
        model = self.blocks_
        weight = model.embedding.weight
        n_draws = plain(self.n_draws)
        eps = prediction_draws(model, n_draws, self._seed)
        alike = partial(rows_rounded_alike, model)

        @torch.no_grad()
        def run(size: int) -> np.ndarray:
            parts, probes = [], Probes(model, eps)
            n_encoded = min(rows_encoded_at_once(model), whole) * size // whole
            for rows in tensors(X, size, weight.device):
                features = features_of(model, rows, size, alike(max(n_encoded, 1)))
                result = function(model, features, probes)
                parts.append(result[:, : len(rows)].double().cpu())
            return torch.cat(parts, dim=1).numpy()

        with own_precision(weight.device):
            whole = at_once or rows_for_few(model, len(X), rows_at_once(model, n_draws), eps)
            result = halved_until_it_fits(run, whole, f"a lower n_draws (now {n_draws})", alike)
        finite = np.isfinite(result).all(axis=(0, *range(2, result.ndim)))
        if not finite.all():
            row = np.argmin(finite)
            known = isinstance(X, np.ndarray) and not np.isfinite(X[row]).all()
            cause = (
                "it has NaN or an infinity"
                if known
                else f"what blocks make of them is too large for {weight.dtype}"
            )
            raise ValueError(
                "NoPropClassifier has no finite probabilities for "
                f"{np.count_nonzero(~finite)} of {len(finite)} rows, the first of them row {row}: "
                f"{cause}."
            )
        return result

    def _check(self, X: Any) -> np.ndarray:
        THREADS.ensure_usable()
        check_is_fitted(self)
        # Not all parameters: to look at them takes as long as to predict a few rows.
        check_constraints({name: getattr(self, name) for name in OF_PREDICTIONS})
        return check_data(self, X, reset=False)

    def _labels(self, probabilities: np.ndarray) -> np.ndarray:
        return self.classes_[probabilities.argmax(axis=1)]

    def save(self, path, *, optimizer=False):
        """Write the fitted classifier to a file in a safe format.

        The file holds what prediction and a later `fit` need and no more: no training data and,
        unless asked for, no optimiser; of `history_` the blocks' losses only. Loading it runs no
        code, so a file from a stranger can do no worse than predict badly; see
        `sknoprop.persistence` for the format. Pickle and joblib keep more, the optimiser only
        after `partial_fit` and with `warm_start`, and run what they are given.

        Parameters
        ----------
        path : str or path-like
            The file, usually with the ending ".safetensors". An older one is replaced in one
            step, and stays as it was if saving fails.
        optimizer : bool, default=False
            Whether to keep the optimiser's state, about twice the size of the model, for
            `partial_fit` or a warm start to go on from.

        Raises
        ------
        sknoprop.persistence.ModelFileError
            If a parameter is an object of the user's own that the format cannot hold (a schedule,
            a sampler, an optimizer class; also an instance of `LearnedSchedule`), if labels are
            neither booleans, numbers nor strings, or if the model holds NaN or infinity; a
            `ValueError`. Nothing is written then.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        OSError
            If the file cannot be written.

        Notes
        -----
        `callbacks` are not saved and a `random_state` that is a `RandomState` is saved as None:
        predictions need neither, a later `fit` is without the one and draws anew for the other.
        Sequences among the parameters come back as tuples, an `embedding` as an array of float64,
        a `device` as its name.

        Examples
        --------
        >>> import os, tempfile
        >>> from sklearn.datasets import load_iris
        >>> from sknoprop import NoPropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = NoPropClassifier(max_iter=5, random_state=0).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "iris.safetensors")
        ...     clf.save(path)
        ...     loaded = NoPropClassifier.load(path)
        >>> bool((loaded.predict_proba(X) == clf.predict_proba(X)).all())
        True
        """
        with own_default_device():
            save_classifier(self, path, optimizer)

    @classmethod
    def load(cls, path, device=None):
        """Read a classifier that `save` has written.

        Parameters
        ----------
        path : str or path-like
        device : str, torch.device or None, default=None
            Where it predicts, as "cuda" or "auto". None is the CPU, wherever it was trained. The
            parameter `device`, which decides where a later `fit` trains, is as it was saved.

        Returns
        -------
        NoPropClassifier
            Fitted; on the kind of device that it was saved from, its predictions are the same to
            the last bit.

        Raises
        ------
        sknoprop.persistence.ModelFileError
            If the file is damaged, is none of `save`, or is of a newer format; a `ValueError`
            that says what is wrong.
        ValueError
            If torch cannot use the device here.
        OSError
            If the file cannot be read.

        Warns
        -----
        sklearn.exceptions.InconsistentVersionWarning
            If another version of sknoprop wrote the file. Versions of other packages are recorded
            and make no difference.
        """
        THREADS.ensure_usable()
        with own_default_device():
            return load_classifier(cls, path, device)

    def __getstate__(self):
        state = super().__getstate__() | {"_sknoprop_version": __version__}
        if "blocks_" in state:
            with own_default_device():
                state["blocks_"] = pickled_model(state["blocks_"])
            trained = state.pop("_trained")
            state["_left_out"] = trained.left_out
            # Twice the size of the model, and wanted by none but those who go on.
            if trained.goes_on or self.warm_start:
                state["_optimizer"] = pickled_optimizer(trained)
        return state

    def __deepcopy__(self, memo):
        # Not by way of the state of a pickle: a copy goes on training where the original would.
        twin = memo[id(self)] = type(self).__new__(type(self))
        for name, value in vars(self).items():
            setattr(twin, name, copy.deepcopy(value, memo))
        return twin

    def __copy__(self):
        # Nor this one. What is shared is replaced by later training of either, and never changed.
        twin = type(self).__new__(type(self))
        twin.__dict__.update(vars(self))
        return twin

    def __setstate__(self, state):
        state = {"calibrate": False} | dict(state)  # what was done before there was a choice
        warn_of_version(type(self).__name__, state.pop("_sknoprop_version", "unknown"))
        if "blocks_" in state:
            THREADS.ensure_usable()
            state.setdefault("image_shape_", None)  # pickled before there were images
            state.setdefault("temperature_", 1.0)
            with own_default_device():
                state["blocks_"] = unpickled_model(state["blocks_"])
            left_out = state.pop("_left_out", None)  # pickled before it was kept
            pickled = state.pop("_optimizer", None)
            state["_trained"] = Trained(
                state["history_"],
                {} if pickled is None else unpickled_optimizer(pickled),
                left_out=left_out,
                goes_on=pickled is not None,
            )
        super().__setstate__(state)


def _entropy(random_state: Any) -> int:
    """Seed of a fit."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(np.iinfo(np.int32).max))
    return int(random_state)


def _sum_of(estimates: np.ndarray) -> np.ndarray:
    """One after another, which is one order for all rows and any number of them."""
    total = estimates[0].copy()
    for other in estimates[1:]:
        total += other
    return total


def _shannon_entropies(p: np.ndarray) -> np.ndarray:
    return -np.sum(p * np.log(np.where(p > 0.0, p, 1.0)), axis=-1)


@contextmanager
def _changed_at_once(estimator: E) -> Iterator[E]:
    """A stand-in that may be changed; the estimator becomes it if the block does not raise.

    Until then the estimator is what it was, for other threads, and after Ctrl-C at any moment.
    """
    new = object.__new__(type(estimator))
    new.__dict__.update(vars(estimator))
    yield new
    estimator.__dict__ = new.__dict__
