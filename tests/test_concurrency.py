"""Threads and processes: the same answers as one after another, and nobody waits for ever."""

import faulthandler
import multiprocessing
import threading

import joblib
import numpy as np
import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from sklearn.model_selection import GridSearchCV
from torch import nn

from sknoprop import NoPropClassifier
from sknoprop.networks.seeding import ONLY_ONE, seeded
from sknoprop.parallel import THREADS
from tests.models import toy_data
from tests.processes import run_alone

SMALL = {"n_blocks": 2, "hidden_layer_sizes": (8, 8), "max_iter": 2, "random_state": 0}

N_THREADS = 6

#: Seconds after which a child is taken to wait for ever; on a busy machine a mere start takes long.
PATIENCE = 300


class Net(nn.Module):
    """Draws its values and its dropout from torch's global generator."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, x):
        return self.layers(x.flatten(1))


def jitter(images):
    return images + 0.1 * torch.randn(images.shape, dtype=images.dtype)


FLAT = {"image_shape": (1, 2, 3), "encoder": "mlp"}

CASES = {
    "dropout": {"dropout": 0.4},
    "ct": {"variant": "ct", "embedding": "learned", "head": "paper", "dropout": 0.2},
    "trajectory": {"variant": "fm", "inference": "trajectory", "sampler": "heun"},
    "network": {"encoder": Net},
    "one network": {"encoder": Net(), "variant": "fm"},
    "frozen": {"encoder": nn.Sequential(nn.Flatten(), nn.Tanh())},
    "augmentation": {**FLAT, "augmentation": jitter},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.3},
}

X, Y = toy_data(n=45, n_features=6)


def classifier(case):
    return NoPropClassifier(**(SMALL | CASES[case]))


def same(one, two):
    ours, theirs = one.blocks_.state_dict(), two.blocks_.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def in_threads(functions):
    """Results of functions that all start at once, each in a thread of its own."""
    ready = threading.Barrier(len(functions))

    def run(function):
        ready.wait()
        return function()

    with joblib.parallel_config("threading"):
        return joblib.Parallel(len(functions))(joblib.delayed(run)(f) for f in functions)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["dropout", "trajectory", "network", "frozen"])
def test_predictions_of_one_classifier_in_threads(case, untouched_generators):
    clf = classifier(case).fit(X, Y)
    parts = [X[i:] for i in range(N_THREADS)]
    expected = [clf.predict_proba(part) for part in parts]
    for _ in range(3):
        found = in_threads([lambda part=part: clf.predict_proba(part) for part in parts])
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_fits_in_threads_are_those_one_after_another(untouched_generators):
    expected = {case: classifier(case).fit(X, Y) for case in CASES}
    # Twice each, so that there are always others that use the same networks.
    cases = [*CASES, *CASES]
    found = in_threads([lambda case=case: classifier(case).fit(X, Y) for case in cases])
    for case, clf in zip(cases, found, strict=True):
        assert same(clf, expected[case]), case


def test_predictions_while_others_are_fitted(untouched_generators):
    clf = classifier("network").fit(X, Y)
    expected = clf.predict_proba(X)
    fits = [lambda: classifier("network").fit(X, Y).predict_proba(X)] * 2
    for found in in_threads([*fits, *[lambda: clf.predict_proba(X)] * 4]):
        np.testing.assert_array_equal(found, expected)


def test_groups_of_blocks_in_threads_of_threads():
    """Fits that set the number of torch's threads overlap: the same blocks, the number as was."""
    options = SMALL | {"n_blocks": 4, "n_jobs": 2}
    before = torch.get_num_threads()
    with joblib.parallel_config("threading"):
        expected = NoPropClassifier(**options).fit(X, Y)
    found = in_threads([lambda: NoPropClassifier(**options).fit(X, Y)] * 3)
    assert all(same(clf, expected) for clf in found)
    assert torch.get_num_threads() == before


# Forks


def said_by_child(method, target, *arguments):
    """What a process says that was started by a method; an error as soon as it can say nothing."""
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_speak, args=(theirs, target, arguments), daemon=True)
    child.start()
    theirs.close()
    try:
        if not ours.poll(PATIENCE):
            raise AssertionError(f"the child ({child.exitcode=}) waits for ever")
        return ours.recv()
    except EOFError:
        child.join()
        raise AssertionError(f"the child ended without a word ({child.exitcode=})") from None
    finally:
        child.kill()
        child.join()


def _speak(connection, target, arguments):
    # Where it waits, should it wait for ever.
    faulthandler.dump_traceback_later(PATIENCE - 30)
    connection.send(target(*arguments))


def _answers(clf, n_threads):
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    return clf.predict_proba(X), classifier("network").fit(X, Y).predict_proba(X)


def children_predict_and_fit(method):
    torch.set_num_threads(1)
    clf = classifier("dropout").fit(X, Y)
    expected = _answers(clf, None)
    torch.set_num_threads(2)
    torch.ones(300, 300) @ torch.ones(300, 300)  # now the second one is there
    # A spawned child would have as many threads as there are cores, and other numbers of them
    # round otherwise; a forked one is to find out by itself.
    found = said_by_child(method, _answers, clf, 1 if method == "spawn" else None)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_predict_and_fit(method):
    """While the parent has two threads."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("not on this system")
    run_alone(children_predict_and_fit, method, patience=2 * PATIENCE)


can_fork = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="not on this system"
)


def _free_and_state():
    free = []
    other = threading.Thread(target=lambda: free.append(ONLY_ONE.acquire(timeout=20)))
    other.start()
    other.join()
    return free, torch.get_rng_state().tolist()


def a_fork_waits():
    state = torch.get_rng_state().tolist()
    inside, leave = threading.Event(), threading.Event()

    def draw():
        with seeded(1, torch.device("cpu")):
            inside.set()
            leave.wait(1)

    other = threading.Thread(target=draw)
    other.start()
    inside.wait()
    free, found = said_by_child("fork", _free_and_state)
    other.join()
    assert free == [True], "the lock is held by a thread that is not there"
    assert found == state


@can_fork
def test_a_fork_waits_for_what_there_is_one_of():
    """A child is not left with a lock that nobody holds, nor with generators half put back."""
    run_alone(a_fork_waits, patience=2 * PATIENCE)


def _fits_in_groups():
    with joblib.parallel_config("threading"):
        return NoPropClassifier(**SMALL, n_jobs=2).fit(X, Y).predict_proba(X)


def a_fork_within_a_lock():
    torch.set_num_threads(1)
    expected = _fits_in_groups()
    with THREADS._lock:  # as another thread may hold it that begins or ends a fit
        found = said_by_child("fork", _fits_in_groups)
    np.testing.assert_array_equal(found, expected)


@can_fork
def test_a_fork_does_not_keep_a_lock_that_nobody_holds():
    run_alone(a_fork_within_a_lock, patience=2 * PATIENCE)


# Workers within workers


class Counting(NoPropClassifier):
    """Tells how many threads torch had where it was fitted."""

    def fit(self, X, y):
        super().fit(X, y)
        self.n_threads_ = torch.get_num_threads()
        return self


def threads_of(clf, X, y):
    return clf.n_threads_


@pytest.fixture
def fresh_workers():
    get_reusable_executor().shutdown(wait=True)
    yield
    get_reusable_executor().shutdown(wait=True)


@pytest.mark.slow
def test_a_search_in_workers_shares_the_cores(fresh_workers):
    """Threads times workers are no more than cores; what is found is what one process finds."""
    grid = {"n_jobs": [None, 2], "n_blocks": [2, 3]}
    scoring = {"threads": threads_of, "likelihood": "neg_log_loss"}
    search = GridSearchCV(Counting(**SMALL), grid, scoring=scoring, refit=False, cv=2)
    alone = search.fit(X, Y).cv_results_
    apart = search.set_params(n_jobs=2).fit(X, Y).cv_results_
    assert apart["mean_test_threads"].max() <= max(joblib.cpu_count() // 2, 1)
    np.testing.assert_array_equal(apart["mean_test_likelihood"], alone["mean_test_likelihood"])
