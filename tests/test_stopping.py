"""Early stopping, validation and convergence, block by block."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from skorch.callbacks import EarlyStopping

from sknoprop import NoPropClassifier
from sknoprop._data import hold_out, weighted_data
from sknoprop.training.seeds import Seeds
from sknoprop.training.stopping import Stopping
from tests.models import toy_data, toy_model

SMALL = {"n_blocks": 3, "hidden_layer_sizes": (16,), "random_state": 0}


def noisy_data(n=120, seed=0):
    """Half of the labels mean nothing: blocks over-fit."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 5))
    y = np.where(rng.random(n) < 0.5, X[:, 0] > 0, rng.random(n) < 0.5).astype(int)
    return X, y


def weights_of(model, block):
    return {name: tensor[block].clone() for name, tensor in model.block_tensors().items()}


def set_weights(model, value):
    for tensor in model.block_tensors().values():
        tensor.fill_(value)


def test_each_block_keeps_its_own_best_weights():
    model, _, _ = toy_model(n_blocks=3)
    stopping = Stopping(model, tol=0.0, patience=None, keep_best=True)
    losses = [[3.0, 1.0, 2.0], [2.0, 2.0, 1.0], [1.0, 3.0, 1.5]]
    for epoch, loss in enumerate(losses):
        set_weights(model, float(epoch))
        assert not stopping.update(torch.tensor(loss))
    stopping.restore()
    for block, epoch in enumerate([2, 0, 1]):
        assert all((w == epoch).all() for w in weights_of(model, block).values())


@pytest.mark.parametrize("keep_best", [True, False])
def test_a_block_that_is_done_stays_as_it_is_whatever_the_others_do(keep_best):
    """By hand: patience 1 and tol 0.1; block 0 stalls after epoch 1, block 1 never."""
    model, _, _ = toy_model(n_blocks=2)
    stopping = Stopping(model, tol=0.1, patience=1, keep_best=keep_best)
    losses = [[1.0, 9.0], [0.5, 8.0], [0.45, 7.0], [0.46, 6.0], [0.0, 5.0]]
    for epoch, loss in enumerate(losses):
        set_weights(model, float(epoch))
        assert not stopping.update(torch.tensor(loss))
    assert stopping.done.tolist() == [True, False]
    stopping.restore()
    # done after two epochs without a fall by tol: the third; the lowest until then was .45
    expected = [2, 4] if keep_best else [3, 4]
    for block, epoch in enumerate(expected):
        assert all((w == epoch).all() for w in weights_of(model, block).values())


def test_blocks_that_share_an_embedding_are_judged_together():
    model, _, _ = toy_model(n_blocks=2, embedding="learned", embedding_dim=4)
    stopping = Stopping(model, tol=0.0, patience=None, keep_best=True)
    embedding = dict(model.named_parameters())["embedding.weight"].data
    for epoch, loss in enumerate([[3.0, 1.0], [1.0, 2.0], [0.0, 4.0]]):
        set_weights(model, float(epoch))
        embedding.fill_(float(epoch))
        stopping.update(torch.tensor(loss))
    stopping.restore()
    assert all((w == 1).all() for block in (0, 1) for w in weights_of(model, block).values())
    assert (embedding == 1).all()


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
def test_the_weights_kept_have_the_lowest_validation_loss(variant):
    X, y = noisy_data()
    X_val, y_val = noisy_data(60, seed=1)
    options = SMALL | {"max_iter": 80, "learning_rate_init": 0.02, "dropout": 0.0}
    options |= {"calibrate": False}
    clf = NoPropClassifier(variant, **options, early_stopping=True)
    clf.fit(X, y, X_val=X_val, y_val=y_val)
    assert clf.validation_scores_.shape == (80, 3)
    assert clf.validation_scores_.argmax(0).max() < 79, "no block over-fits: a useless test"
    own = [-log_loss(y_val, p) for p in clf.predict_block_proba(X_val)]
    np.testing.assert_allclose(own, clf.validation_scores_.max(0), rtol=1e-5)
    last = NoPropClassifier(variant, **options).fit(X, y, X_val=X_val, y_val=y_val)
    np.testing.assert_array_equal(last.validation_scores_, clf.validation_scores_)
    np.testing.assert_array_equal(last.loss_curve_, clf.loss_curve_)
    end = [-log_loss(y_val, p) for p in last.predict_block_proba(X_val)]
    np.testing.assert_allclose(end, clf.validation_scores_[-1], rtol=1e-5)


def test_validation_rows_do_not_change_training():
    X, y = noisy_data()
    options = SMALL | {"max_iter": 5, "calibrate": False}
    plain = NoPropClassifier(**options).fit(X, y)
    watched = NoPropClassifier(**options).fit(X, y, X_val=X[:20], y_val=y[:20])
    np.testing.assert_array_equal(plain.predict_proba(X), watched.predict_proba(X))
    assert plain.validation_scores_ is None
    valid = watched.history_[:, "valid_loss"]
    assert watched.history_[:, "valid_loss_best"][0]
    assert valid[-1] == pytest.approx(log_loss(y[:20], watched.predict_proba(X[:20])), rel=1e-5)


def test_held_out_rows_are_not_trained_on():
    """The fit is that on the other rows; a warm start holds out the same ones again."""
    X, y = noisy_data(200)
    data = weighted_data(X, y, None)
    rest, held = hold_out(data, 0.2, Seeds(0))
    assert len(held.y) == 40
    assert len(rest.y) == 160
    pairs = {tuple(row) for row in rest.X} | {tuple(row) for row in held.X}
    assert len(pairs) == 200
    assert abs(held.y.mean() - rest.y.mean()) < 0.03, "stratified"
    by_hand = NoPropClassifier(**SMALL, max_iter=3, calibrate=False).fit(rest.X, rest.y)
    stopped = NoPropClassifier(**SMALL, max_iter=3, early_stopping=True, validation_fraction=0.2)
    stopped.fit(X, y)
    np.testing.assert_array_equal(by_hand.loss_curve_, stopped.loss_curve_)


def test_a_warm_start_holds_out_the_same_rows(monkeypatch):
    X, y = noisy_data(90)
    held = []

    def spy(*args):
        parts = hold_out(*args)
        held.append(parts[1].X)
        return parts

    monkeypatch.setattr("sknoprop.classifier.hold_out", spy)
    clf = NoPropClassifier(**SMALL, max_iter=2, early_stopping=True, warm_start=True)
    clf.fit(X, y).fit(X, y)
    np.testing.assert_array_equal(held[0], held[1])


def test_a_warm_start_never_ends_worse_than_it_began():
    X, y = noisy_data()
    options = SMALL | {"early_stopping": True, "warm_start": True, "n_iter_no_change": None}
    clf = NoPropClassifier(**options, max_iter=20).fit(X, y, X_val=X[:30], y_val=1 - y[:30])
    best = clf.validation_scores_.max(0)
    clf.set_params(learning_rate="constant", learning_rate_init=0.5, max_iter=1)
    clf.fit(X, y, X_val=X[:30], y_val=1 - y[:30])
    assert (clf.validation_scores_[-1] < best).any(), "no block got worse: a useless test"
    end = [-log_loss(1 - y[:30], p) for p in clf.predict_block_proba(X[:30])]
    assert (np.array(end) >= best - 1e-5).all()


@pytest.mark.parametrize(
    ("sizes", "fraction"), [([38, 1, 1], 0.5), ([60, 60, 2], 0.8), ([2] * 60, 0.1)]
)
def test_each_class_keeps_a_row_to_train_on(sizes, fraction):
    y = np.repeat(np.arange(len(sizes)), sizes)
    X = np.arange(len(y), dtype=float)[:, None]
    for seed in range(5):
        rest, held = hold_out(weighted_data(X, y, None), fraction, Seeds(seed))
        assert set(rest.y) == set(range(len(sizes)))
        assert sorted(np.concatenate([rest.X, held.X])[:, 0]) == X[:, 0].tolist()
        assert len(held.y) == round(fraction * len(y))


def test_a_constant_rate_ends_when_all_blocks_are_done():
    X, y = noisy_data()
    clf = NoPropClassifier(**SMALL, learning_rate="constant", tol=0.05, n_iter_no_change=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf.fit(X, y)
    assert 5 <= clf.n_iter_ < 100
    # the rule of MLPClassifier, followed by hand for each block
    ends = []
    for curve in clf.loss_curve_.T:
        best, stalled = np.inf, 0
        for epoch, loss in enumerate(curve, 1):
            stalled = stalled + 1 if loss > best - 0.05 else 0
            best = min(best, loss)
            if stalled > 3:
                ends.append(epoch)
                break
    assert len(ends) == 3
    assert max(ends) == clf.n_iter_


def test_not_converged_is_said_only_where_the_rate_is_constant():
    X, y = noisy_data()
    options = SMALL | {"max_iter": 3}
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(3\) reached"):
        NoPropClassifier(**options, learning_rate="constant").fit(X, y)
    NoPropClassifier(**options, learning_rate="constant", n_iter_no_change=None).fit(X, y)
    NoPropClassifier(**options).fit(X, y)
    NoPropClassifier(**options, early_stopping=True).fit(X, y)


def test_skorchs_own_early_stopping_works():
    X, y = noisy_data()
    stop = EarlyStopping(monitor="valid_loss", patience=2, load_best=False, sink=lambda _: None)
    clf = NoPropClassifier(**SMALL, learning_rate="constant", callbacks=[stop])
    clf.fit(X, y, X_val=X[::3], y_val=1 - y[::3])
    assert clf.n_iter_ == 3


@pytest.mark.parametrize(
    ("params", "more", "message"),
    [
        ({}, {"X_val": np.zeros((3, 5))}, "Got only X_val"),
        ({}, {"y_val": [0, 1]}, "Got only y_val"),
        ({}, {"X_val": np.zeros((2, 4)), "y_val": [0, 1]}, r"4 features.*expecting 5"),
        ({}, {"X_val": np.zeros((2, 5)), "y_val": [0, 7]}, r"y_val must have .* also \[7\]"),
        ({}, {"X_val": np.full((2, 5), np.nan), "y_val": [0, 1]}, "NaN"),
        ({"early_stopping": True, "validation_fraction": 0.001}, {}, "validation_fraction=0.001"),
        ({"early_stopping": True, "validation_fraction": 0.999}, {}, "validation_fraction=0.999"),
        ({"validation_fraction": 1.0}, {}, "validation_fraction"),
        ({"n_iter_no_change": 0}, {}, "n_iter_no_change"),
        ({"tol": -1.0}, {}, "tol"),
    ],
)
def test_bad_input_is_named(params, more, message):
    X, y = toy_data(60, n_classes=2)
    clf = NoPropClassifier(**SMALL, max_iter=1).fit(X, y)
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match=message):
        clf.set_params(**params).fit(X, y, **more)
    fresh = NoPropClassifier(**SMALL, max_iter=1)
    np.testing.assert_array_equal(clf.set_params(**fresh.get_params()).predict_proba(X), before)
