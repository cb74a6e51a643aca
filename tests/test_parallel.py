"""Blocks trained by several workers: the same blocks."""

import functools
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import psutil
import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback, PrintLog

import sknoprop.fitting as fitting
import sknoprop.parallel as parallel
from sknoprop import NoPropClassifier
from sknoprop.networks.stacked import STACKED
from sknoprop.parallel import block_groups, take_model
from sknoprop.training import EpochBar, TrainingError
from tests.models import Counting, toy_draws, toy_model

SMALL = {"n_blocks": 5, "hidden_layer_sizes": (8, 6), "max_iter": 4, "random_state": 0}


def rows():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 150)
    return rng.standard_normal((3, 4))[y] + 0.5 * rng.standard_normal((150, 4)), y


@pytest.fixture(scope="module")
def data():
    return rows()


@pytest.fixture(autouse=True, scope="module")
def no_workers_left():
    yield
    get_reusable_executor().shutdown(wait=True)


def state(clf):
    return clf.blocks_.state_dict()


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_groups_of_blocks():
    assert block_groups(5, 2) == [slice(0, 2), slice(2, 5)]
    assert block_groups(2, 9) == [slice(0, 1), slice(1, 2)]
    assert block_groups(4, 1) == [slice(0, 4)]


def test_groups_take_the_gpus_in_turn(data, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    cuda, second = torch.device("cuda"), torch.device("cuda:1")
    found = [parallel.device_of_group(cuda, number) for number in range(4)]
    assert found == [torch.device("cuda", i) for i in (0, 1, 2, 0)]
    assert parallel.device_of_group(second, 2) == second  # who names one means one
    assert parallel.device_of_group(torch.device("cpu"), 2) == torch.device("cpu")
    asked = []
    monkeypatch.setattr(parallel, "device_of_group", lambda *place: asked.append(place) or place[0])
    with joblib.parallel_config("threading"):
        NoPropClassifier(n_jobs=3, device="cpu", **SMALL).fit(*data)
    assert sorted(asked, key=str) == [(torch.device("cpu"), number) for number in range(3)]


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
@pytest.mark.parametrize("partition", ["uniform", "information"])
def test_some_blocks_are_what_they_are_among_all(variant, partition):
    """Losses and gradients of a part of the model, in float64, are those of the whole."""
    model, inputs, y = toy_model(variant=variant, partition=partition, n_blocks=4)
    draws = toy_draws(model, len(y))
    whole = model.losses(inputs, y, draws)
    whole.total().backward()
    part = slice(1, 3)
    taken = take_model(model, part)
    assert taken.n_blocks == 2
    own = taken.losses(inputs, y, type(draws)(draws.eps[part], draws.uniform[part], draws.last))
    torch.testing.assert_close(own.blocks, whole.blocks[part])
    torch.testing.assert_close(taken.scale(), model.scale()[part])
    own.blocks.sum().backward()
    for ours, theirs in zip(taken.modules(), model.modules(), strict=True):
        if isinstance(ours, STACKED):
            torch.testing.assert_close(ours.weight.grad, theirs.weight.grad[part])


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
def test_workers_change_nothing_but_rounding(variant, data):
    together = NoPropClassifier(variant, dtype="float64", **SMALL).fit(*data)
    apart = NoPropClassifier(variant, dtype="float64", n_jobs=2, **SMALL)
    with joblib.parallel_config("threading"):
        apart.fit(*data)
    for name, tensor in state(together).items():
        torch.testing.assert_close(state(apart)[name], tensor, rtol=1e-7, atol=1e-9, msg=name)
    np.testing.assert_allclose(apart.loss_curve_, together.loss_curve_, rtol=1e-7)
    np.testing.assert_allclose(
        apart.predict_proba(data[0]), together.predict_proba(data[0]), atol=1e-8
    )


@pytest.mark.slow
def test_back_ends_agree_bit_for_bit(data):
    found = []
    for backend in ("threading", "loky", "multiprocessing"):
        with joblib.parallel_config(backend, n_jobs=2):
            found.append(NoPropClassifier("fm", **SMALL).fit(*data))
    assert same(state(found[0]), state(found[1]))
    assert same(state(found[0]), state(found[2]))
    # Two at a time or one after the other: that is the surroundings' affair.
    clf = NoPropClassifier("fm", n_jobs=2, **SMALL)
    with joblib.parallel_config("loky"):
        assert same(state(clf.fit(*data)), state(found[0]))


def test_groups_go_on_where_they_were(data):
    """A warm start in groups: as in one step."""
    X, y = data
    options = SMALL | {"dtype": "float64", "warm_start": True}
    one = NoPropClassifier("ct", **options).fit(X, y).fit(X, y)
    two = NoPropClassifier("ct", n_jobs=2, **options)
    with joblib.parallel_config("threading"):
        two.fit(X, y).fit(X, y)
    assert two.n_iter_ == 8
    for name, tensor in state(one).items():
        torch.testing.assert_close(state(two)[name], tensor, rtol=1e-6, atol=1e-8, msg=name)
    two.partial_fit(X, y)  # in one step, from moments put together
    torch.testing.assert_close(
        state(two)["head.out.weight"],
        state(one.partial_fit(X, y))["head.out.weight"],
        rtol=1e-6,
        atol=1e-8,
    )
    assert two.n_iter_ == 9


@pytest.mark.parametrize("variant", ["dt", "fm"])
def test_early_stopping_block_by_block(variant, data, tmp_path):
    X, y = data
    options = SMALL | {
        "dtype": "float64",
        "readout": "linear",
        "early_stopping": True,
        "learning_rate": "constant",
        "learning_rate_init": 0.05,
        "max_iter": 60,
        "n_iter_no_change": 2,
    }
    one = NoPropClassifier(variant, **options).fit(X, y)
    with joblib.parallel_config("threading", n_jobs=5):
        two = NoPropClassifier(variant, **options).fit(X, y)
    # All of it: the read-out trains as long as any block does.
    for name, tensor in state(one).items():
        torch.testing.assert_close(state(two)[name], tensor, rtol=1e-6, atol=1e-8, msg=name)
    known = np.isfinite(two.validation_scores_)
    assert known[-1].any()
    assert not known[-1].all()
    np.testing.assert_allclose(
        two.validation_scores_[known], one.validation_scores_[: len(known)][known], rtol=1e-6
    )
    two.save(tmp_path / "blocks.safetensors")
    loaded = NoPropClassifier.load(tmp_path / "blocks.safetensors")
    np.testing.assert_array_equal(loaded.loss_curve_, two.loss_curve_)


def test_warnings_count_the_blocks_of_all_workers(data):
    options = SMALL | {"learning_rate": "constant", "max_iter": 2}
    for backend in ("loky", "threading"):
        with (
            joblib.parallel_config(backend),
            pytest.warns(ConvergenceWarning, match="of 5 of 5 blocks still falls"),
        ):
            NoPropClassifier(n_jobs=2, **options).fit(*data)


def test_threads_are_as_many_as_before(data):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with joblib.parallel_config("threading"):
            NoPropClassifier(n_jobs=2, **SMALL).fit(*data)
        # A thread that knows nothing of it yet: to this one nothing has happened in any case.
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)


def test_errors_of_workers_name_the_block(data):
    options = SMALL | {"learning_rate_init": 1e30, "optimizer": "sgd", "batch_norm": False}
    clf = NoPropClassifier(n_jobs=2, **SMALL)
    with joblib.parallel_config("threading"):
        before = state(clf.fit(*data))
        clf.set_params(**options)
        with pytest.raises(TrainingError, match=r"block\(s\) \[(0|2)"):
            clf.fit(*data)
    assert same(state(clf), before)


@pytest.mark.slow
def test_ctrl_c_leaves_an_earlier_fit_and_workers_that_work_again(data):
    """Of groups that are cut off some would have trained longer than others: none is kept."""
    clf = NoPropClassifier("fm", n_jobs=2, **SMALL).fit(*data)
    before = state(clf)
    processes = [psutil.Process(), *psutil.Process().children()]

    def interrupt():  # as a terminal does it: all of them
        for process in processes:
            process.send_signal(signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Timer(0.5, interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            clf.set_params(max_iter=10**6).fit(data[0][:, :3], data[1])
    finally:
        signal.signal(signal.SIGINT, handler)
    assert same(state(clf), before)
    assert clf.n_features_in_ == 4
    assert same(state(clf.set_params(max_iter=4).fit(*data)), before)


def _killed_once(flag, number, *arguments):
    """Stands for `_train_group`: the first time, the second group's worker dies."""
    if number == 1 and not os.path.exists(flag):
        with open(flag, "w"):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    return _TRAIN_GROUP(number, *arguments)


def _killed(number, *arguments):
    raise TerminatedWorkerError("A worker was terminated.")


_TRAIN_GROUP = parallel._train_group


def _fails(number, *arguments):
    raise MemoryError("not in this worker")


def _starved(number, *arguments):
    """Real want of memory: the process may have hardly more than it has."""
    import resource

    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + 2**25, before[1]))
    try:
        return _TRAIN_GROUP(number, *arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "backend", "n_train_draws", "message"),
    [
        (_fails, "threading", 1, r"more memory than there is.*batch_size.*not in this worker"),
        (_starved, "loky", 20_000, r"n_train_draws \(now 20000\).*DefaultCPUAllocator"),
    ],
)
def test_a_worker_without_memory_leaves_an_earlier_fit(
    fault, backend, n_train_draws, message, data, monkeypatch
):
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("reads its memory from /proc")
    with joblib.parallel_config(backend):
        clf = NoPropClassifier("fm", n_jobs=2, **SMALL).fit(*data)
    before = state(clf)
    monkeypatch.setattr(parallel, "_train_group", fault)
    with joblib.parallel_config(backend), pytest.raises(MemoryError, match=message):
        clf.set_params(n_train_draws=n_train_draws).fit(data[0][:, :3], data[1])
    assert same(state(clf), before)
    assert clf.n_features_in_ == 4


@pytest.mark.slow
def test_a_killed_worker_costs_time_only(data, monkeypatch, tmp_path):
    with joblib.parallel_config("threading"):
        expected = NoPropClassifier("fm", n_jobs=2, **SMALL).fit(*data)
    killed_once = functools.partial(_killed_once, str(tmp_path / "killed"))
    monkeypatch.setattr(parallel, "_train_group", killed_once)
    with pytest.warns(RuntimeWarning, match="A worker was killed"):
        found = NoPropClassifier("fm", n_jobs=2, **SMALL).fit(*data)
    assert (tmp_path / "killed").exists()
    assert same(state(found), state(expected))
    # One that is killed each time is given up.
    monkeypatch.setattr(parallel, "_train_group", _killed)
    with (
        joblib.parallel_config("threading"),
        pytest.warns(RuntimeWarning, match="2 of 2 groups") as warned,
        pytest.raises(TerminatedWorkerError, match="terminated"),
    ):
        found.fit(data[0][:, :3], data[1])
    assert len(warned) == parallel.N_RESTARTS
    assert same(state(found), state(expected))
    assert found.n_features_in_ == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding": "learned"}, "shared by all blocks"),
        ({"variant": "ct", "schedule": "learned"}, "shared by all blocks"),
        ({"callbacks": [Callback()]}, "callbacks follow"),
        ({"callbacks": [PrintLog()]}, "callbacks follow"),
        ({"callbacks": (("bar", EpochBar(4)),)}, "callbacks follow"),
        ({"n_jobs": 0}, r"'n_jobs'.*an int in the range \(-inf, -1\].*\[1, .*None. Got 0"),
    ],
)
def test_what_cannot_be_trained_apart(options, message, data, monkeypatch):
    clf = NoPropClassifier(**(SMALL | {"n_jobs": 2} | options))
    with pytest.raises(ValueError, match=message):
        clf.fit(*data)
    if options.get("n_jobs") != 0:  # where nobody asked for workers it is trained in one step
        with joblib.parallel_config("threading", n_jobs=2):
            clf.set_params(n_jobs=None).fit(*data)
        # Of all processors there may be but one: what is refused does not hang on that.
        monkeypatch.setattr(fitting, "effective_n_jobs", lambda n_jobs: 1)
        with pytest.raises(ValueError, match=message):
            clf.set_params(n_jobs=-1).fit(*data)
        clf.set_params(n_jobs=1).fit(*data)
        clf.set_params(n_jobs=-1, n_blocks=1).fit(*data)  # there is nothing to part


def test_many_classes_without_a_centre_are_judged_together():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((160, 3)), np.arange(160) % 40
    embedding = np.diag(np.linspace(0.5, 3.0, 40))
    with joblib.parallel_config("threading"):
        clf = NoPropClassifier(n_jobs=2, embedding=embedding, **SMALL).fit(X, y)
        with pytest.raises(ValueError, match="more than 32 classes"):
            clf.fit(X, y, X_val=X, y_val=y)


HABITS = [Counting]
if hasattr(torch.optim, "Adafactor"):  # from torch 2.5 on
    HABITS.append(torch.optim.Adafactor)


@pytest.mark.parametrize("optimizer", HABITS)
def test_optimisers_of_other_habits_go_on(optimizer, data):
    """State that is no tensor, or not of its parameter's shape."""
    options = SMALL | {"optimizer": optimizer, "dtype": "float64", "warm_start": True}
    one = NoPropClassifier("fm", batch_norm=False, **options).fit(*data).fit(*data)
    two = NoPropClassifier("fm", batch_norm=False, n_jobs=2, **options)
    with joblib.parallel_config("threading"):
        two.fit(*data).fit(*data).partial_fit(*data)
    assert two.n_iter_ == 9
    assert np.isfinite(two.loss_curve_).all()
    if optimizer is Counting:  # Adafactor scales steps by all weights of a tensor together
        np.testing.assert_allclose(two.loss_curve_[:8], one.loss_curve_, rtol=1e-7)


def test_progress_counts_blocks(data, capsys):
    with joblib.parallel_config("threading"):
        NoPropClassifier(n_jobs=2, verbose=1, **SMALL).fit(*data)
    assert "5/5" in capsys.readouterr().err


@pytest.mark.slow
def test_a_dask_cluster(data, monkeypatch, tmp_path):
    """The same blocks, also where a worker is killed: the scheduler asks another one."""
    distributed = pytest.importorskip("distributed")
    flag = tmp_path / "killed"
    with joblib.parallel_config("threading"):
        expected = NoPropClassifier("fm", n_jobs=2, **SMALL).fit(*data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of dask's own start
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster),
            joblib.parallel_config("dask"),
        ):
            clf = NoPropClassifier("fm", n_jobs=2, **SMALL).fit(*data)
            assert same(state(clf), state(expected))
            killed_once = functools.partial(_killed_once, str(flag))
            monkeypatch.setattr(parallel, "_train_group", killed_once)
            clf.fit(*data)
    assert flag.exists()
    assert same(state(clf), state(expected))


def test_a_worker_that_ray_kills_for_its_memory_is_told_as_such(data, monkeypatch):
    """By an error of Ray's own, here in the place of Ray."""

    class OutOfMemoryError(Exception):
        pass

    class RayActorError(Exception):
        pass

    def too_much(*arguments):
        raise OutOfMemoryError("the node was low on memory")

    names = {"OutOfMemoryError": OutOfMemoryError, "RayActorError": RayActorError}
    monkeypatch.setitem(sys.modules, "ray.exceptions", types.SimpleNamespace(**names))
    monkeypatch.setattr(parallel, "_train_group", too_much)
    with (
        joblib.parallel_config("threading"),
        pytest.raises(MemoryError, match=r"lower values of batch_size .* low on memory"),
    ):
        NoPropClassifier("fm", n_jobs=2, **SMALL).fit(*data)


@pytest.mark.slow
def test_a_ray_cluster(data, tmp_path):
    """The same blocks, though a worker is killed: all groups are trained again."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    with joblib.parallel_config("threading"):
        expected = NoPropClassifier("fm", n_jobs=2, **SMALL).fit(*data)
    command = [sys.executable, "-m", "tests.ray_cluster", str(tmp_path)]
    try:
        subprocess.run(command, check=True, timeout=300, cwd=Path(__file__).parents[1])
    except subprocess.SubprocessError:
        if (tmp_path / "started").exists():
            raise
        pytest.skip("Ray does not start on this machine")
    assert (tmp_path / "killed").exists()
    assert "2 of 2 groups of blocks are trained again" in (tmp_path / "warnings").read_text()
    assert same(torch.load(tmp_path / "state.pt", weights_only=True), state(expected))


def test_there_are_no_more_workers_than_blocks(data, monkeypatch):
    asked = []

    class Counted(joblib.Parallel):
        def __init__(self, n_jobs, **options):
            asked.append(n_jobs)
            super().__init__(n_jobs, **options)

    monkeypatch.setattr("sknoprop.parallel.Parallel", Counted)
    with joblib.parallel_config("threading"):
        NoPropClassifier(n_jobs=50, **SMALL).fit(*data)
    assert asked == [SMALL["n_blocks"]]
