"""Training that goes on: warm starts, more blocks, data in parts."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import SGDClassifier
from sklearn.multioutput import MultiOutputClassifier
from skorch.callbacks import Callback

from sknoprop import NoPropClassifier
from sknoprop.growing import split_blocks
from sknoprop.training import Trained, TrainingError
from tests.models import toy_data, toy_model

SMALL = {"n_blocks": 2, "hidden_layer_sizes": (8,), "max_iter": 4, "random_state": 0}
PLAIN = {"learning_rate": "constant", "n_iter_no_change": None}


def steps_taken(clf):
    return {int(state["step"]) for state in clf._trained.optimizer.values() if "step" in state}


def test_warm_start_goes_on_where_the_last_fit_ended():
    X, y = toy_data(60)
    clf = NoPropClassifier(**SMALL, **PLAIN, warm_start=True).fit(X, y)
    first, moments = clf.loss_curve_, clf._trained.optimizer[0]["exp_avg"].clone()
    assert steps_taken(clf) == {4}
    clf.fit(X, y)
    assert clf.n_iter_ == 8
    np.testing.assert_array_equal(clf.loss_curve_[:4], first)
    assert steps_taken(clf) == {8}
    assert not torch.equal(clf._trained.optimizer[0]["exp_avg"], moments)
    assert len(np.unique(clf.loss_curve_, axis=0)) == 8, "noise of its own"


def test_a_warm_start_of_no_size_changes_nothing():
    """With steps of size zero the second fit must end where it began: nothing is initialised."""
    X, y = toy_data(60)
    clf = NoPropClassifier(**SMALL, **PLAIN, warm_start=True).fit(X, y)
    before = clf.predict_proba(X)
    clf.set_params(learning_rate_init=1e-30, weight_decay=0.0).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    cold = clf.set_params(warm_start=False, learning_rate_init=0.01).fit(X, y)
    assert cold.n_iter_ == 4


def test_a_cycle_is_run_anew_in_a_warm_start():
    X, y = toy_data(200)
    rates = []

    class Rates(Callback):
        def on_batch_begin(self, net, **kwargs):
            rates.append(net.optimizer_.param_groups[0]["lr"])

    clf = NoPropClassifier(**SMALL, warm_start=True, batch_size=50, callbacks=[Rates()])
    clf.fit(X, y).fit(X, y)
    assert rates[:16] == rates[16:]
    assert max(rates) == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize("variant", ["ct", "fm"])
@pytest.mark.parametrize("options", [{}, {"batch_norm": True, "head": "paper"}])
def test_split_blocks_compute_what_they_did(variant, options):
    model, inputs, _ = toy_model(variant=variant, n_blocks=3, **options)
    model.eval()
    split, trained = split_blocks(model, Trained(), 2)
    assert split.n_blocks == 6
    torch.testing.assert_close(split.partition.edges[::2], model.partition.edges)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1, 1, 5, 3, generator=generator, dtype=torch.float64)
    for share in (0.1, 0.6, 0.9):
        span = split.partition.span
        t = (span.start + share * span.length)[:, None, None]
        ours = split.class_probabilities(split.encoder(inputs), z.expand(6, 1, 5, 3), t)
        for half in (0, 1):
            theirs = model.class_probabilities(
                model.encoder(inputs), z.expand(3, 1, 5, 3), t[half::2]
            )
            torch.testing.assert_close(ours[half::2], theirs)
    again, _ = split_blocks(split, trained, 2)
    first = again.partition.frame
    torch.testing.assert_close(first.start[::4], model.partition.edges[:-1])
    torch.testing.assert_close(first.end[3::4], model.partition.edges[1:])


@pytest.mark.parametrize("variant", ["ct", "fm"])
def test_a_warm_start_may_add_blocks(variant):
    X, y = toy_data(60)
    clf = NoPropClassifier(variant, **SMALL, **PLAIN, warm_start=True).fit(X, y)
    before = clf.loss_curve_
    clf.set_params(n_blocks=6).fit(X, y)
    assert clf.blocks_.n_blocks == 6
    assert clf.loss_curve_.shape == (8, 6)
    np.testing.assert_array_equal(clf.loss_curve_[:4], np.repeat(before, 3, axis=1))
    assert steps_taken(clf) == {8}
    assert len(list(clf.staged_predict(X))) == 6
    weights = clf.blocks_.block_tensors()["head.out.weight"]
    assert len(weights.unique(dim=0)) == 6, "each went its own way"


@pytest.mark.parametrize(
    ("variant", "change", "message"),
    [
        ("dt", {"n_blocks": 4}, "'n_blocks' cannot change for variant='dt'"),
        ("fm", {"n_blocks": 3}, "multiple .* 2, .* Got 3"),
        ("fm", {"n_blocks": 1}, "multiple .* 2, .* Got 1"),
        ("fm", {"hidden_layer_sizes": (9,)}, r"'hidden_layer_sizes' .*\(8,\). Got \(9,\)"),
        ("fm", {"variant": "ct"}, "'variant' .* 'fm'. Got 'ct'"),
        ("fm", {"embedding": np.eye(3)}, "'embedding'"),
        ("fm", {"optimizer": "sgd"}, "'optimizer'"),
    ],
)
def test_what_cannot_change_is_named(variant, change, message):
    X, y = toy_data(60)
    clf = NoPropClassifier(variant, **SMALL, warm_start=True).fit(X, y)
    before = clf.predict_proba(X)
    clf.set_params(**change)
    with pytest.raises(ValueError, match=message):
        clf.fit(X, y)
    with pytest.raises(ValueError, match=message):
        clf.partial_fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)


def test_a_warm_start_knows_its_classes_and_features():
    X, y = toy_data(60)
    clf = NoPropClassifier(**SMALL, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match=r"classes it knows: \[0 1 2\]. Got y with \[0 1\]"):
        clf.fit(X[y < 2], y[y < 2])
    with pytest.raises(ValueError, match=r"4 features.*expecting 5"):
        clf.fit(X[:, :4], y)


def test_parts_of_the_data_are_enough():
    """As good as scikit-learn's linear learner after the same parts, on a problem of its kind."""
    X, y = toy_data(3000, n_classes=3)
    X[:, 0] *= 2
    ours = NoPropClassifier(random_state=0, hidden_layer_sizes=(32,))
    theirs = SGDClassifier(loss="log_loss", random_state=0)
    for _ in range(3):
        for rows in np.array_split(np.arange(2000), 10):
            ours.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
            theirs.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
    assert ours.score(X[2000:], y[2000:]) > theirs.score(X[2000:], y[2000:]) - 0.02
    assert ours.n_iter_ == 30
    assert steps_taken(ours) == {30 * 4}  # batches of at most 64 rows


def test_a_first_part_need_not_have_all_classes():
    X, y = toy_data(600)
    y = np.array(["a", "b", "c"])[y]
    clf = NoPropClassifier(**SMALL | {"hidden_layer_sizes": (32,)})
    other = clone(clf)
    clf.partial_fit(X[y == "a"], y[y == "a"], classes=["a", "b", "c"])
    for _ in range(20):
        clf.partial_fit(X, y)
        other.partial_fit(X, y, classes=["a", "b", "c"])
    # It ends where a stream does that has them all from the start (between .59 and .63 by seed).
    assert clf.score(X, y) > max(other.score(X, y) - 0.03, 0.5)
    with pytest.raises(ValueError, match=r"among \['a' 'b' 'c'\]. Got also \['d'\]"):
        clf.partial_fit(X[:2], ["a", "d"])


def test_a_fit_can_be_continued_in_parts_and_the_other_way_round():
    X, y = toy_data(60)
    clf = NoPropClassifier(**SMALL).fit(X, y)
    before = clf.blocks_
    clf.partial_fit(X, y)
    assert clf.n_iter_ == 5
    assert clf.blocks_ is not before
    assert clf.fit(X, y).n_iter_ == 4, "fit starts anew"


def test_a_failing_part_leaves_everything_as_it_was():
    X, y = toy_data(60)
    # The sharp read-out has large weights: with a decay times 1e38 they overflow at once.
    options = SMALL | {"batch_size": 20, "readout": "linear"}
    clf = NoPropClassifier(**options).partial_fit(X, y, classes=[0, 1, 2])
    twin = NoPropClassifier(**options).partial_fit(X, y, classes=[0, 1, 2])
    clf.set_params(learning_rate_init=1e38)
    for batch_size in (20, 60):  # it shows at the second step, or only after the last
        with pytest.raises(TrainingError, match="not finite"):
            clf.set_params(batch_size=batch_size).partial_fit(X, y)
    clf.set_params(batch_size=20)
    clf.set_params(learning_rate_init=0.01)
    for message, bad in (
        ("2 features", (X[:, :2], y)),
        (r"Got also \[3\]", (X, y + 1)),
        ("NaN", (X * np.nan, y)),
    ):
        with pytest.raises(ValueError, match=message):
            clf.partial_fit(*bad)
    np.testing.assert_array_equal(
        clf.partial_fit(X, y).predict_proba(X), twin.partial_fit(X, y).predict_proba(X)
    )


def test_parts_agree_bit_for_bit():
    X, y = toy_data(100)
    fits = [NoPropClassifier(**SMALL) for _ in range(2)]
    for clf in fits:
        for rows in np.array_split(np.arange(100), 4):
            clf.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
    np.testing.assert_array_equal(fits[0].predict_proba(X), fits[1].predict_proba(X))


@pytest.mark.parametrize(
    ("params", "classes", "message"),
    [
        ({}, None, "classes must be passed on the first call"),
        ({}, [0], "at least two classes.*only one class: .*0"),
        ({}, [], "at least two classes. Got none"),
        ({"early_stopping": True}, [0, 1, 2], "early_stopping=True"),
        ({"class_weight": "balanced"}, [0, 1, 2], "class_weight='balanced'"),
        ({"embedding": "prototype"}, [0, 1, 2, 3], "prototype.* 3 of 4 classes"),
    ],
)
def test_what_parts_cannot_do_is_named(params, classes, message):
    clf = NoPropClassifier(**SMALL, **params)
    with pytest.raises(ValueError, match=message):
        clf.partial_fit(*toy_data(60), classes=classes)
    assert not hasattr(clf, "classes_")


class Unusual(torch.optim.SGD):
    """Keeps more than tensors of floats, and steps by it."""

    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                own = self.state[parameter]
                own["n"] = own.get("n", 0) + 1
                own["past"] = [*own.get("past", []), (parameter.detach().clone(), {"n": own["n"]})]
                parameter.data.lerp_(own["past"][0][0], 0.1)
        return loss


def again(clf):
    return pickle.loads(pickle.dumps(clf))


SOME = ["adamw", "sgd", Unusual]
if hasattr(torch.optim, "Adafactor"):  # from torch 2.5 on
    SOME.append(torch.optim.Adafactor)


@pytest.mark.parametrize("optimizer", SOME, ids=str)
def test_a_stream_goes_on_after_a_pickle_as_if_there_were_none(optimizer):
    """A part may be learnt by another process, as `MultiOutputClassifier.partial_fit` has it."""
    X, y = toy_data(60)
    clf = NoPropClassifier(**SMALL, optimizer=optimizer).partial_fit(X, y, classes=[0, 1, 2])
    found = clf
    for _ in range(3):
        found = again(found).partial_fit(X, y)
        clf.partial_fit(X, y)
    assert found.n_iter_ == 4
    np.testing.assert_array_equal(found.predict_proba(X), clf.predict_proba(X))


def test_a_warm_start_goes_on_after_a_pickle_as_if_there_were_none():
    X, y = toy_data(60)
    clf = NoPropClassifier(**SMALL, **PLAIN, warm_start=True).fit(X, y)
    found = again(again(clf)).fit(X, y)
    assert steps_taken(found) == {8}
    np.testing.assert_array_equal(found.predict_proba(X), clf.fit(X, y).predict_proba(X))


def test_pickles_that_nobody_goes_on_from_leave_the_optimiser_behind():
    X, y = toy_data(60)
    clf = NoPropClassifier(**SMALL).partial_fit(X, y, classes=[0, 1, 2])
    kept = len(pickle.dumps(clf))
    assert len(pickle.dumps(clf.fit(X, y))) < 0.6 * kept
    found = again(clf)
    assert found._trained.optimizer == {}
    assert clf._trained.optimizer, "the original keeps it"
    assert steps_taken(found.partial_fit(X, y)) == {1}
    assert found.n_iter_ == 5
    assert steps_taken(again(found).partial_fit(X, y)) == {2}


def test_pickles_made_before_they_held_the_optimiser_still_go_on():
    X, y = toy_data(60)
    clf = NoPropClassifier(**SMALL).partial_fit(X, y, classes=[0, 1, 2])
    state = clf.__getstate__()
    assert state.pop("_optimizer")
    old = NoPropClassifier.__new__(NoPropClassifier)
    old.__setstate__(state)
    np.testing.assert_array_equal(old.predict_proba(X), clf.predict_proba(X))
    assert steps_taken(old.partial_fit(X, y)) == {1}


def test_what_was_saved_with_its_optimiser_keeps_it_in_pickles(tmp_path):
    X, y = toy_data(60)
    clf = NoPropClassifier(**SMALL).fit(X, y)
    clf.save(tmp_path / "with", optimizer=True)
    clf.save(tmp_path / "without")
    assert again(NoPropClassifier.load(tmp_path / "without"))._trained.optimizer == {}
    found = again(NoPropClassifier.load(tmp_path / "with")).partial_fit(X, y)
    np.testing.assert_array_equal(found.predict_proba(X), clf.partial_fit(X, y).predict_proba(X))


@pytest.mark.slow
def test_several_outputs_are_learnt_alike_by_one_process_and_by_many():
    X, y = toy_data(60)
    Y, classes = np.column_stack([y, y[::-1]]), [np.arange(3)] * 2
    alone, apart = (MultiOutputClassifier(NoPropClassifier(**SMALL), n_jobs=n) for n in (None, 2))
    for clf in (alone, apart):
        for _ in range(3):
            clf.partial_fit(X, Y, classes=classes)
    for one, other in zip(alone.predict_proba(X), apart.predict_proba(X), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy])
def test_a_copy_goes_on_as_the_original_does(copied):
    X, y = toy_data(60)
    clf = NoPropClassifier(**SMALL).partial_fit(X, y, classes=[0, 1, 2])
    twin = copied(clf)
    np.testing.assert_array_equal(
        twin.partial_fit(X, y).predict_proba(X), clf.partial_fit(X, y).predict_proba(X)
    )


@pytest.mark.parametrize("warm_start", [False, True])
def test_training_a_copy_changes_nothing_of_the_original(warm_start):
    """Though a shallow one shares all that it has: model, history, moments, digest, classes."""
    X, y = toy_data(60)
    clf = NoPropClassifier(**SMALL, warm_start=True).fit(pd.DataFrame(X).add_prefix("x"), y)
    before = pickle.dumps(clf)
    twin = copy.copy(clf)
    assert twin.blocks_ is clf.blocks_
    assert twin._trained is clf._trained
    X = pd.DataFrame(X).add_prefix("x") if warm_start else np.hstack([X, X])
    twin.set_params(warm_start=warm_start).fit(X, y)
    twin.partial_fit(X, y)
    assert twin.n_iter_ == (9 if warm_start else 5)
    assert pickle.dumps(clf) == before


def test_changes_in_place_are_seen():
    X, y = toy_data(60)
    embedding = np.eye(3)
    clf = NoPropClassifier("fm", **SMALL, warm_start=True, embedding=embedding).fit(X, y)
    embedding[0] *= 2
    with pytest.raises(ValueError, match="'embedding'"):
        clf.fit(X, y)
