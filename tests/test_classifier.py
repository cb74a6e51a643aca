"""The estimator: interface, reproducibility, bad input, life among scikit-learn's tools."""

import pickle
from datetime import date
from itertools import product
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EpochScoring, EpochTimer, InputShapeSetter, PassthroughScoring
from torch.utils._python_dispatch import TorchDispatchMode

from sknoprop import NoPropClassifier
from sknoprop.inference import _bounds, rows_at_once
from sknoprop.kernels import stationary_distribution
from sknoprop.persistence.files import read_file, write_file
from sknoprop.samplers import EulerSampler
from sknoprop.schedules import CosineSchedule, LearnedSchedule, VariancePreservingSchedule
from tests.models import toy_data

VARIANTS = ["dt", "ct", "fm"]
SMALL = {"n_blocks": 3, "hidden_layer_sizes": (16,), "max_iter": 5, "random_state": 0}


def small(variant="dt", **params):
    return NoPropClassifier(variant, **(SMALL | params))


@pytest.fixture(scope="module", params=product(VARIANTS, ["kernel", "trajectory"]), ids="-".join)
def fitted(request, iris):
    """A classifier on iris for each variant and way to predict; not to be changed."""
    variant, inference = request.param
    return small(variant, inference=inference).fit(*iris)


# Predictions


def test_predictions_fit_together(fitted, iris):
    (X, y), clf = iris, fitted
    proba = clf.predict_proba(X)
    assert proba.shape == (150, 3)
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(1), 1.0)
    np.testing.assert_array_equal(clf.predict(X), clf.classes_[proba.argmax(1)])
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(clf.predict_log_proba(X), np.log(proba))
    assert clf.score(X, y) == np.mean(clf.predict(X) == y)
    stages = list(clf.staged_predict_proba(X))
    assert len(stages) == 3
    np.testing.assert_array_equal(stages[-1], proba)
    labels = list(clf.staged_predict(X))
    np.testing.assert_array_equal(labels[-1], clf.predict(X))


def test_stages_are_the_running_mean_of_the_blocks(iris):
    X, y = iris
    clf = small().fit(X, y)
    blocks = clf.predict_block_proba(X)
    assert blocks.shape == (3, 150, 3)
    for i, stage in enumerate(clf.staged_predict_proba(X)):
        np.testing.assert_allclose(stage, blocks[: i + 1].mean(0))


def test_blocks_estimates_are_the_laws_of_their_kernels(iris):
    X, y = iris
    clf = small("ct", calibrate=False).fit(X, y)
    kernels = clf.predict_class_kernel(X[:20])
    assert kernels.shape == (3, 20, 3, 3)
    np.testing.assert_allclose(kernels.sum(-1), 1.0, rtol=1e-5)
    laws = stationary_distribution(torch.tensor(kernels)).numpy()
    np.testing.assert_allclose(clf.predict_block_proba(X[:20]), laws, rtol=1e-6)


def test_disagreement_is_a_jensen_shannon_divergence(iris):
    X, y = iris
    clf = small().fit(X, y)
    blocks = clf.predict_block_proba(X)
    mean = blocks.mean(0)
    # The mean Kullback-Leibler divergence of the blocks to their mean, another form of it.
    divergence = (blocks * np.log(blocks / mean)).sum(-1).mean(0)
    found = clf.predict_disagreement(X)
    np.testing.assert_allclose(found, divergence, atol=1e-10)
    assert found.max() <= np.log(3)


# Labels and inputs


@pytest.mark.parametrize(
    "names",
    [
        ["b", "a", "c"],
        [7, -3, 100],
        [2.0, 0.0, 1.0],
        np.array(["x", "y", "z"], dtype=object),
    ],
    ids=str,
)
def test_labels_of_any_kind(names):
    X, y = toy_data(n=150)
    labels = np.asarray(names)[y]
    clf = small(max_iter=40).fit(X, labels)
    np.testing.assert_array_equal(clf.classes_, np.unique(labels))
    assert set(clf.predict(X)) <= set(labels)
    plain = small(max_iter=40).fit(X, np.unique(labels, return_inverse=True)[1])
    np.testing.assert_array_equal(clf.predict_proba(X), plain.predict_proba(X))


def test_boolean_labels():
    X, y = toy_data(n_classes=2)
    clf = small().fit(X, y == 1)
    assert clf.classes_.dtype == bool
    assert clf.predict(X).dtype == bool


def test_data_frames(iris):
    X, y = iris
    frame = pd.DataFrame(X, columns=list("abcd"))
    clf = small().fit(frame, pd.Series(y))
    np.testing.assert_array_equal(clf.feature_names_in_, list("abcd"))
    np.testing.assert_array_equal(clf.predict_proba(frame), small().fit(X, y).predict_proba(X))
    with pytest.raises(ValueError, match="feature names"):
        clf.predict(frame.rename(columns={"a": "z"}))


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.uint8])
def test_numbers_of_any_kind(kind):
    X, y = toy_data(n=90)
    X = (20 * X - 20 * X.min()).astype(kind)
    assert small().fit(X, y).predict_proba(X).shape == (90, 3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layouts_and_read_only_arrays(dtype):
    """To the last bit, also where moments in double precision are not rounded to single."""
    X, y = toy_data(n=90)
    expected = small(dtype=dtype).fit(X, y).predict_proba(X)
    fortran = np.asfortranarray(X)
    fortran.flags.writeable = False
    clf = small(dtype=dtype).fit(fortran, y)
    np.testing.assert_array_equal(clf.predict_proba(X[::-1])[::-1], expected)
    np.testing.assert_array_equal(clf.predict_proba(X.tolist()), expected)
    np.testing.assert_array_equal(clf.predict_proba(pd.DataFrame(X).to_numpy()), expected)
    np.testing.assert_array_equal(clf.predict_proba(fortran), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_sample_a_class(variant):
    X = np.eye(4)
    clf = small(variant).fit(X, [3, 1, 2, 0])
    assert np.isfinite(clf.predict_proba(X)).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    # A thousand classes in 20 dimensions are learnt slowly; all bounds are far above chance.
    # The cut by information takes most of the time where classes are many; not all need it.
    ("embedding", "partition", "rate", "accuracy"),
    [
        ("one-hot", "information", 0.02, 0.5),
        ("prototype", "uniform", 0.01, 0.3),
        ("learned", "information", 0.02, 0.03),
    ],
)
def test_a_thousand_classes(embedding, partition, rate, accuracy):
    """More classes than candidates: every class keeps a probability, and training rows win."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(1000), 2)
    X = rng.standard_normal((1000, 30))[y] + 0.01 * rng.standard_normal((2000, 30))
    few = {"n_blocks": 2, "hidden_layer_sizes": (64,), "n_bins": 0, "n_train_draws": 1}
    quick = {"max_iter": 6, "batch_size": 100, "learning_rate_init": rate, "dropout": 0.0}
    clf = small("fm", embedding=embedding, partition=partition, **few, **quick).fit(X, y)
    proba = clf.predict_proba(X[::20])
    assert proba.shape == (100, 1000)
    assert (proba > 0).all()
    np.testing.assert_allclose(proba.sum(1), 1.0)
    assert np.mean(proba.argmax(1) == y[::20]) > accuracy


@pytest.mark.parametrize(
    "params",
    [
        {"n_draws": 1},
        {"n_blocks": 1},
        {"n_blocks": 40, "n_steps": 7},
        {"n_blocks": 7, "n_steps": 50},
        {"embedding": [[0.0], [1.0]]},
        {"embedding": [[1e6, 0.0], [0.0, 1e6]]},
        {"embedding": [[1e-6, 0.0], [0.0, 1e-6]]},
        {"embedding": "learned", "embedding_dim": 1},
        {"batch_size": 1, "batch_norm": True},
        {"hidden_layer_sizes": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_extreme_choices_still_give_probabilities(variant, params):
    X, y = toy_data(n_classes=2)
    clf = small(variant, **{"max_iter": 2} | params).fit(X, y)
    for inference in ("kernel", "trajectory"):
        proba = clf.set_params(inference=inference).predict_proba(X)
        assert (proba >= 0).all()
        np.testing.assert_allclose(proba.sum(1), 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_candidates_are_as_good_as_the_full_kernel(variant, monkeypatch):
    """Forty classes over twenty candidates: three tenths of a point of accuracy at most are lost.

    And no log loss. (Of embeddings that have no centre.) The estimates are not the same, as the
    draws are not: only an exact posterior has one law whatever the draws.

    The first block of "dt" misses one of these classes altogether: candidates must not be its
    likeliest classes alone.
    """
    rng = np.random.default_rng(0)
    y = rng.integers(0, 40, 4000)
    X = rng.standard_normal((40, 6))[y] + 0.4 * rng.standard_normal((4000, 6))
    few = {"n_blocks": 4, "hidden_layer_sizes": (64,), "max_iter": 10, "n_draws": 2}
    clf = small(variant, embedding=rng.standard_normal((40, 40)) / 4.0, **few).fit(
        X[:2000], y[:2000]
    )
    X, y = X[2000:], y[2000:]
    # Row by row the laws of the kernels over all classes, some rows at a time for their size.
    full = np.concatenate(
        [
            stationary_distribution(torch.tensor(clf.predict_class_kernel(rows))).numpy()
            for rows in np.split(X, 4)
        ],
        axis=1,
    )
    monkeypatch.setattr("sknoprop.inference.MAX_CANDIDATES", 20)
    found = clf.predict_block_proba(X)
    np.testing.assert_allclose(found.sum(-1), 1.0)
    before, after = (laws.mean(0) for laws in (full, found))
    assert np.sum(before.argmax(1) == y) - np.sum(after.argmax(1) == y) <= 6  # of 2,000
    assert log_loss(y, after) < log_loss(y, before) + 0.001


class LargestArray(TorchDispatchMode):
    """Most numbers that an operation stored in single precision; results are in double."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dtype == torch.float32:
            stored = out.untyped_storage().nbytes() // out.element_size()
            self.numbers = max(self.numbers, stored)
        return out


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_memory_of_predictions_is_bounded(variant, monkeypatch):
    """However many rows and classes: with more candidates than one go holds, too."""
    X, y = toy_data(n=200, n_classes=40)
    clf, X = small(variant, max_iter=1).fit(X, y), X[:40]
    methods = (clf.predict_block_proba, clf.predict_class_kernel)
    expected = [method(X) for method in methods]
    bound = 2**14
    monkeypatch.setattr("sknoprop.inference.LARGEST_ARRAY", bound)
    for method, wanted in zip(methods, expected, strict=True):
        with LargestArray() as largest:
            found = method(X)
        # Not less either: a bound that wastes memory costs time.
        assert bound / 4 < largest.numbers <= bound, method.__name__
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(method(X[:3]), found[:, :3])


def test_a_gpu_is_given_more_to_do_at_once(monkeypatch):
    """And at most a 64th of its memory in one array."""
    properties = SimpleNamespace(total_memory=8 * 2**30)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: properties)
    numbers, rows = _bounds(torch.device("cuda", 0))
    assert 4 * numbers == 2**27
    assert _bounds(torch.device("cuda", 0), 2**13)[1] == 2**13
    cpu_numbers, cpu_rows = _bounds(torch.device("cpu"), 2**13)
    assert numbers > cpu_numbers
    assert rows > cpu_rows


@pytest.mark.parametrize("head", ["light", "paper"])
def test_memory_of_candidates_is_bounded(head, monkeypatch):
    """The first pass looks at all classes, and embeddings of candidates have as many numbers."""
    X, y = toy_data(n=400, n_classes=200)
    # Embeddings as many as one-hot ones, and as long, which have no centre.
    embedding = np.diag(np.linspace(0.5, 3.0, 200))
    small_net = {"head": head, "max_iter": 1, "n_blocks": 2, "embedding": embedding}
    clf, X = small("dt", **small_net).fit(X, y), X[:40]
    expected = clf.predict_proba(X)
    bound = 2**17
    monkeypatch.setattr("sknoprop.inference.LARGEST_ARRAY", bound)
    with LargestArray() as largest:
        found = clf.predict_proba(X)
    assert bound / 4 < largest.numbers <= bound
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("width", [8, 64])
def test_memory_of_trajectories_is_bounded(width, monkeypatch):
    """Latents are a row's own there, and so is what a head makes of them."""
    X, y = toy_data()
    clf = small("fm", hidden_layer_sizes=(width,), n_draws=100).fit(X, y)
    clf.set_params(inference="trajectory", n_steps=2)
    expected = clf.predict_proba(X)
    bound = 2**15
    monkeypatch.setattr("sknoprop.inference.LARGEST_ARRAY", bound)
    with LargestArray() as largest:
        np.testing.assert_allclose(clf.predict_proba(X), expected, rtol=1e-4, atol=1e-6)
    assert largest.numbers <= bound


# Reproducibility


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "n_classes", "n_rows"),
    [*(("float32", 3, n) for n in (1, 2, 4, 8)), *(("float64", 11, n) for n in (8, 16))],
)
def test_a_rows_place_makes_no_difference_where_few_are_predicted_at_a_time(
    dtype, n_classes, n_rows, monkeypatch
):
    """With this width and number of features it does where products have two rows."""
    X = np.random.default_rng(0).standard_normal((60, 19))
    clf = small("fm", n_blocks=1, hidden_layer_sizes=(17,), n_bins=1, dtype=dtype, n_draws=1)
    clf.fit(X, np.arange(60) % n_classes)
    monkeypatch.setattr("sknoprop.inference.LARGEST_ARRAY", n_rows * clf.blocks_.encoder.largest)
    assert rows_at_once(clf.blocks_, clf.n_draws) <= n_rows
    forward, backward = clf.predict_proba(X), clf.predict_proba(X[::-1])
    np.testing.assert_array_equal(backward[::-1], forward)


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_seed_decides_everything(variant, iris, untouched_generators):
    X, y = iris
    first, second = small(variant).fit(X, y), small(variant).fit(X, y)
    for a, b in zip(first.blocks_.parameters(), second.blocks_.parameters(), strict=True):
        assert torch.equal(a, b)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    other = small(variant, random_state=1).fit(X, y)
    assert not np.array_equal(first.predict_proba(X), other.predict_proba(X))
    assert small(variant, random_state=None).fit(X, y).n_iter_ == 5


def test_random_state_instances(iris):
    X, y = iris
    first = small(random_state=np.random.RandomState(3)).fit(X, y)
    second = small(random_state=np.random.RandomState(3)).fit(X, y)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


def test_a_prediction_depends_on_its_row_alone(fitted, iris):
    (X, _), clf = iris, fitted
    whole = clf.predict_proba(X)
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_array_equal(clf.predict_proba(X[order]), whole[order])
    single = np.concatenate([clf.predict_proba(X[i : i + 1]) for i in range(0, 150, 10)])
    np.testing.assert_array_equal(single, whole[::10])
    repeated = clf.predict_proba(np.repeat(X[:2], 500, axis=0))
    np.testing.assert_array_equal(repeated, np.repeat(whole[:2], 500, axis=0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "axis", "n_classes", "n_blocks"),
    [
        ("predict_block_proba", 1, 40, 1),
        ("predict_class_kernel", 1, 10, 2),
        ("predict_disagreement", 0, 10, 10),
        ("predict_proba", 0, 10, 2),  # by trajectories
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nor_does_anything_else_depend_on_other_rows(method, axis, n_classes, n_blocks, dtype):
    X = np.random.default_rng(0).standard_normal((301, 19))
    inference = "trajectory" if method == "predict_proba" else "kernel"
    clf = small(n_blocks=n_blocks, dtype=dtype, max_iter=1, inference=inference)
    predict = getattr(clf.fit(X, np.arange(301) % n_classes), method)
    whole, order = predict(X), np.random.default_rng(1).permutation(301)
    np.testing.assert_array_equal(predict(X[order]), whole.take(order, axis))
    for n in (1, 7):
        few = np.concatenate([predict(X[i : i + n]) for i in range(0, 4 * n, n)], axis)
        np.testing.assert_array_equal(few, whole.take(range(4 * n), axis))


def test_dtype_decides_the_precision(iris):
    X, y = iris
    double = small(dtype="float64").fit(X, y)
    single = small(dtype="float32").fit(X, y)
    assert next(double.blocks_.parameters()).dtype == torch.float64
    assert next(single.blocks_.parameters()).dtype == torch.float32


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("partition", ["uniform", "information"])
def test_every_block_takes_its_steps(dtype, partition, iris):
    """As many steps as blocks: one each, in either precision."""
    X, y = iris
    options = {"n_blocks": 10, "n_steps": 10, "max_iter": 1, "inference": "trajectory"}
    clf = small("ct", dtype=dtype, partition=partition, **options).fit(X, y)
    assert len(list(clf.staged_predict_proba(X[:2]))) == 10


def test_a_fixed_schedule_of_ones_own_is_not_trained(iris):
    class Own(VariancePreservingSchedule):
        def __init__(self):
            super().__init__()
            self.rate = torch.nn.Parameter(torch.tensor(14.0))

        def log_snr(self, t):
            return -8.0 + self.rate * t

    clf = small("ct", schedule=Own()).fit(*iris)
    assert float(clf.blocks_.schedule.rate) == 14.0


# Life among scikit-learn's tools


def test_grid_search_in_a_pipeline(iris):
    X, y = iris
    pipeline = make_pipeline(StandardScaler(), small())
    grid = {
        "nopropclassifier__variant": VARIANTS,
        "nopropclassifier__schedule": ["cosine", "sigmoid"],
        "nopropclassifier__n_blocks": [1, 3],
    }
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
    assert len(search.cv_results_["params"]) == 12
    assert search.predict(X).shape == (150,)


def test_cross_validation_and_meta_estimators(iris):
    X, y = iris
    clf = small(max_iter=40)
    assert cross_val_score(clf, X, y, cv=3).mean() > 0.85
    calibrated = CalibratedClassifierCV(clf, cv=2).fit(X, y)
    assert calibrated.predict_proba(X).shape == (150, 3)
    members = [("noprop", clf), ("logistic", LogisticRegression(max_iter=1000))]
    voting = VotingClassifier(members, voting="soft").fit(X, y)
    assert voting.score(X, y) > 0.85


def test_clone_copies_parameters_alone(iris):
    X, y = iris
    schedule, sampler = CosineSchedule(-10.0, 5.0), EulerSampler()
    clf = small("fm", schedule=schedule, sampler=sampler, inference="trajectory").fit(X, y)
    copied = clone(clf)
    assert not hasattr(copied, "blocks_")
    assert repr(copied.schedule) == repr(schedule)
    np.testing.assert_array_equal(copied.fit(X, y).predict_proba(X), clf.predict_proba(X))


def test_fit_leaves_parameters_alone(iris):
    X, y = iris
    schedule = LearnedSchedule()
    before = {name: value.clone() for name, value in schedule.state_dict().items()}
    clf = small("ct", schedule=schedule)
    params = clf.get_params()
    clf.fit(X, y)
    assert clf.get_params() == params
    for name, value in schedule.state_dict().items():
        assert torch.equal(value, before[name])
    moved = clf.blocks_.schedule.state_dict()
    assert any(not torch.equal(moved[name], before[name]) for name in before)


@pytest.mark.parametrize("embedding", ["one-hot", "learned"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_pickle_and_joblib(variant, embedding, iris, tmp_path):
    X, y = iris
    clf = small(variant, embedding=embedding, embedding_dim=3).fit(X, y)
    expected = clf.predict_proba(X)
    restored = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(restored.predict_proba(X), expected)
    joblib.dump(clf, tmp_path / "model.joblib")
    restored = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(restored.predict_proba(X), expected)


def test_files_hold_no_training_data():
    X, y = toy_data(n=20_000)
    size = len(pickle.dumps(small(max_iter=1).fit(X, y)))
    assert size < X.nbytes / 4


def test_embedding_is_reported(iris):
    X, y = iris
    given = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(small(embedding=given).fit(X, y).embedding_, given)
    close = [[0.1, 0.0], [0.1 + 1e-12, 0.0], [1.0, 1.0]]
    double = small(embedding=close, dtype="float64", max_iter=1).fit(X, y)
    np.testing.assert_array_equal(double.embedding_, close)
    learned = small(embedding="learned", embedding_dim=5).fit(X, y).embedding_
    assert learned.shape == (3, 5)
    assert not np.allclose(learned @ learned.T, np.eye(3), atol=1e-4), "it has moved"
    assert small(embedding="prototype").fit(X, y).embedding_.shape == (3, 4)


# Bad input: a clear error, before training, and nothing lost


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"variant": "xx"}, r"'variant' parameter.*'ct', 'dt', 'fm'.*Got 'xx'"),
        ({"n_blocks": 0}, r"'n_blocks'.*\[1, 10000\].*Got 0"),
        ({"n_blocks": 2**70}, r"'n_blocks'.*Got 1180591620717411303424"),
        ({"n_blocks": -3}, r"'n_blocks'.*Got -3"),
        ({"n_blocks": 2.5}, r"'n_blocks'.*int.*Got 2.5"),
        ({"schedule": "cosin"}, r"'schedule'.*'cosine'.*Got 'cosin'"),
        ({"partition": "even"}, r"'partition'.*'uniform'.*Got 'even'"),
        ({"embedding": "onehot"}, r"'embedding'.*'one-hot'.*Got 'onehot'"),
        ({"embedding_dim": 0}, r"'embedding_dim'.*Got 0"),
        ({"embedding_dim": 2**40}, r"'embedding_dim'.*\[1, 2147483647\]"),
        ({"hidden_layer_sizes": (16, 2**40)}, r"'hidden_layer_sizes'.*up to 2147483647"),
        ({"hidden_layer_sizes": 2**31 - 1}, r"needs more memory.*hidden_layer_sizes \(now"),
        ({"embedding": "learned", "embedding_dim": 2**31 - 1}, r"embedding_dim \(now 2147483647\)"),
        ({"parameterization": "noise"}, r"'parameterization'.*'label'.*'velocity'"),
        ({"readout": "none"}, r"'readout'.*'denoiser'.*'linear'.*'posterior'"),
        ({"hidden_layer_sizes": ()}, r"'hidden_layer_sizes'.*non-empty"),
        ({"hidden_layer_sizes": (16, 0)}, r"'hidden_layer_sizes'.*positive.*\(16, 0\)"),
        ({"hidden_layer_sizes": -1}, r"'hidden_layer_sizes'.*Got -1"),
        ({"n_bins": -1}, r"'n_bins'.*Got -1"),
        ({"head": "heavy"}, r"'head'.*'light'.*'paper'"),
        ({"dropout": 1.0}, r"'dropout'.*\[0.0, 1.0\).*Got 1.0"),
        ({"loss_weight": 0.0}, r"'loss_weight'.*Got 0.0"),
        ({"loss_weight": 10**400}, r"'loss_weight'.*\(0.0, inf\)"),
        ({"tol": 10**400}, r"'tol'.*\[0.0, inf\)"),
        ({"class_weight": {"setosa": 10**400}}, r"'class_weight'.*finite"),
        ({"inference": "ode"}, r"'inference'.*'kernel'.*'trajectory'"),
        ({"sampler": "rk4"}, r"'sampler'.*'heun'.*Got 'rk4'"),
        ({"n_steps": 0}, r"'n_steps'.*Got 0"),
        ({"n_draws": 0}, r"'n_draws'.*Got 0"),
        ({"n_draws": 10_001}, r"'n_draws'.*\[1, 10000\].*Got 10001"),
        ({"n_steps": 10**13}, r"'n_steps'.*\[1, 100000\]"),
        ({"n_train_draws": 0}, r"'n_train_draws'.*Got 0"),
        ({"blocks_at_once": 0}, r"'blocks_at_once'.*None.*Got 0"),
        ({"optimizer": "adamax"}, r"'optimizer'.*'adamw'.*Got 'adamax'"),
        (
            {"optimizer": torch.optim.SGD([torch.zeros(1)], lr=0.1)},
            r"'optimizer'.*'sgd'.*or a subclass of torch.optim.Optimizer. Got SGD",
        ),
        ({"optimizer": LogisticRegression}, r"'optimizer'.*a subclass of torch.optim.Optimizer"),
        ({"learning_rate": "fast"}, r"'learning_rate'.*'one-cycle'"),
        ({"learning_rate_init": 0.0}, r"'learning_rate_init'.*Got 0.0"),
        ({"weight_decay": -1.0}, r"'weight_decay'.*Got -1.0"),
        ({"batch_size": 0}, r"'batch_size'.*Got 0"),
        ({"max_iter": 0}, r"'max_iter'.*Got 0"),
        ({"callbacks": "all"}, r"'callbacks'.*list.*Got 'all'"),
        ({"callbacks": [3]}, r"'callbacks'.*skorch callbacks.*Got 3"),
        ({"callbacks": [EpochScoring]}, r"'callbacks'.*EpochScoring.*'valid_loss'"),
        ({"callbacks": [("shape", InputShapeSetter)]}, r"'callbacks'.*InputShapeSetter"),
        ({"callbacks": [PassthroughScoring]}, r"'callbacks'.*PassthroughScoring"),
        ({"callbacks": [(3, EpochTimer)]}, r"'callbacks'.*\(name, callback\) pairs. Got \(3"),
        ({"device": "tpu9"}, r"'device'.*'auto'.*Got 'tpu9'"),
        ({"dtype": "float16"}, r"'dtype'.*'float32'.*Got 'float16'"),
        ({"random_state": "seven"}, r"'random_state'.*Got 'seven'"),
        ({"random_state": -1}, r"'random_state'.*Got -1"),
        ({"schedule": "learned"}, r"learned 'schedule'.*variant='dt'"),
        ({"schedule": LearnedSchedule(), "variant": "fm"}, r"learned 'schedule'.*variant='fm'"),
        ({"embedding": np.eye(4)}, r"'embedding'.*each of the 3 classes.*shape \(4, 4\)"),
        ({"embedding": np.ones((3, 2))}, r"'embedding'.*distinct rows"),
        ({"embedding": [[1.0], [1.0 + 1e-9], [2.0]]}, r"'embedding'.*distinct rows in float32"),
        ({"embedding": [[1.0], [np.nan], [2.0]]}, r"'embedding'.*finite"),
        ({"embedding": [[1.0], [1e39], [2.0]]}, r"'embedding'.*finite in float32.*too large"),
        ({"embedding": [["a"], ["b"], ["c"]]}, r"'embedding'.*numeric"),
        ({"embedding": np.zeros(3)}, r"'embedding'.*shape \(3,\)"),
        ({"embedding": np.eye(3) * 1j}, r"'embedding'.*numeric.*complex"),
        ({"embedding": np.ma.masked_less(np.eye(3), 0.5)}, r"'embedding'.*must not have masked"),
    ],
    ids=str,
)
def test_bad_parameters(params, message, iris):
    X, y = iris
    clf = small().fit(X, y)
    expected = clf.predict_proba(X)
    good = {name: getattr(clf, name) for name in params}
    clf.set_params(**params)
    with pytest.raises((ValueError, TypeError, MemoryError), match=f"(?s){message}"):
        clf.fit(X, y)
    np.testing.assert_array_equal(clf.set_params(**good).predict_proba(X), expected)


class Columns:
    """As pyarrow's tables and columns: it can become an array, and says nothing else."""

    def __init__(self, values, dtype):
        self.array = np.array(values, dtype)

    def __array__(self, dtype=None, copy=None):
        return self.array if dtype is None else self.array.astype(dtype)

    def __len__(self):
        return len(self.array)

    def __repr__(self):
        return f"{type(self).__name__}({self.array})"


class SaysWhatIsTime(Columns):
    """As polars' data frames: dtypes of its own, which say whether they are times."""

    class Dtype:
        def is_temporal(self):
            return True

    @property
    def dtypes(self):
        return [self.Dtype()]

    @property
    def shape(self):
        return self.array.shape

    def __array__(self, dtype=None, copy=None):
        return super().__array__(np.float64)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ([[1.0, np.nan], [0.0, 1.0]], [0, 1], "NaN"),
        ([[1.0, np.inf], [0.0, 1.0]], [0, 1], "infinity"),
        (np.empty((0, 2)), [], "0 sample"),
        (np.empty((2, 0)), [0, 1], "0 feature"),
        ([[1.0], [2.0]], [1, 1], "at least two classes.*only one class: .*1"),
        ([1.0, 2.0], [0, 1], "Expected 2D array"),
        (np.zeros((2, 3, 3)), [0, 1], "dim 3"),
        ([[1.0], [2.0], [3.0]], [0, 1], "inconsistent numbers of samples"),
        ([[1.0], [2.0]], [0.5, 1.7], "Unknown label type"),
        ([[1.0], [2.0]], [0, np.nan], "NaN"),
        ([["a"], ["b"]], [0, 1], "could not convert"),
        (np.array([[1.0 + 1j], [2.0]]), [0, 1], "Complex"),
        (np.array([["2020-01-01"], ["NaT"]], "M8[s]"), [0, 1], "X must be numbers. Got dates"),
        (pd.DataFrame({"a": pd.to_datetime(["2020", None])}), [0, 1], "X must be numbers"),
        ([[np.datetime64("2020")], [np.datetime64("2021")]], [0, 1], "X must be numbers"),
        ([[np.datetime64("2020"), 1.0], [2.0, 3.0]], [0, 1], "X must be numbers. Got dates"),
        (np.array([[1.0], [date(2020, 1, 1)]], object), [0, 1], "X must be numbers. Got dates"),
        (np.array([[1.0], [np.timedelta64(1)]], object), [0, 1], "X must be numbers. Got dates"),
        (pd.DataFrame({"a": [1.0, date(2020, 1, 1)]}), [0, 1], "X must be numbers. Got dates"),
        (Columns([[1], [2]], "M8[s]"), [0, 1], "X must be numbers. Got dates"),
        (SaysWhatIsTime([[1], [2]], "M8[s]"), [0, 1], "X must be numbers. Got dates"),
        ([[1.0], [2.0], [3.0]], np.array(["2020", "2021", "NaT"], "M8[D]"), "no missing labels"),
        (
            *([[1.0], [2.0], [3.0]], [np.datetime64(year) for year in ("2020", "2021", "NaT")]),
            "y must have no missing labels. Got NaT in row 2",
        ),
        (
            *([[1.0], [2.0], [3.0]], Columns(["2020", "2021", "NaT"], "M8[D]")),
            "y must have no missing labels. Got NaT in row 2",
        ),
        ([[1.0], [2.0], [3.0]], ["a", "b", None], "no missing labels. Got None in row 2"),
        ([[1.0], [2.0], [3.0]], np.array(["a", np.nan, "b"], object), "labels. Got nan in row 1"),
        ([[1.0], [2.0]], pd.array([None, "b"], "string"), "labels. Got <NA> in row 0"),
        ([[1.0], [2.0], [3.0]], ["a", np.nan, "b"], "labels. Got nan in row 1"),
        ([[1.0], [2.0], [3.0]], [["a", "b"], ["a", None], ["b", "b"]], "1d array"),
    ],
    ids=str,
)
def test_bad_data(X, y, message, iris):
    good_X, good_y = iris
    clf = small().fit(good_X, good_y)
    expected = clf.predict_proba(good_X)
    with pytest.raises((ValueError, TypeError), match=f"(?s){message}"):
        clf.fit(X, y)
    assert clf.n_features_in_ == 4
    np.testing.assert_array_equal(clf.predict_proba(good_X), expected)


def test_prediction_before_fit_and_with_other_columns(iris):
    X, y = iris
    with pytest.raises(NotFittedError):
        small().predict(X)
    clf = small().fit(X, y)
    with pytest.raises(ValueError, match="expecting 4 features"):
        clf.predict_proba(X[:, :3])
    with pytest.raises(ValueError, match="'n_draws'"):
        clf.set_params(n_draws=0).predict(X)


@pytest.mark.parametrize("inference", ["kernel", "trajectory"])
def test_probabilities_that_are_none_are_an_error_and_not_a_class(inference, iris):
    X, y = iris
    clf = small(inference=inference, n_draws=4).fit(X, y)
    with torch.no_grad():  # as a file of a stranger's may have it
        clf.blocks_.head.out.weight.mul_(3e38)
    with pytest.raises(ValueError, match=r"no finite probabilities for \d+ of 150 rows.*row 0"):
        clf.predict(X)


def test_labels_are_compared_as_what_they_are(iris):
    """Of integers of two kinds NumPy would compare the floats next to them, which are equal."""
    X, y = iris
    labels = 2**62 + np.unique(y, return_inverse=True)[1]
    clf = small().partial_fit(X, labels, classes=np.unique(labels))
    of_another_kind = small().partial_fit(X, labels.astype(np.uint64), classes=np.unique(labels))
    np.testing.assert_array_equal(clf.predict_proba(X), of_another_kind.predict_proba(X))
    with pytest.raises(ValueError, match=r"among .* Got also"):
        clf.partial_fit(X, (labels + 1).astype(np.uint64))
    warm = small(warm_start=True).fit(X, labels)
    with pytest.raises(ValueError, match="classes it knows"):
        warm.fit(X, (labels + 1).astype(np.uint64))
    assert warm.fit(X, labels.astype(np.uint64)).classes_.dtype == np.int64


def test_training_can_use_a_gpu(iris):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    X, y = iris
    clf = small(device="cuda").fit(X, y)
    assert clf.blocks_.embedding.weight.is_cuda
    restored = pickle.loads(pickle.dumps(clf))
    assert not restored.blocks_.embedding.weight.is_cuda
    np.testing.assert_allclose(restored.predict_proba(X), clf.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
def test_a_trajectory_ends_in_what_is_predicted_along_it(variant):
    X, y = toy_data()
    options = {"n_blocks": 3, "inference": "trajectory", "n_draws": 3, "max_iter": 2}
    clf = NoPropClassifier(variant, readout="linear", **options, random_state=0).fit(X, y)
    stages = list(clf.staged_predict_proba(X))
    steps = clf.predict_trajectory(X)
    np.testing.assert_array_equal(steps.probabilities[-1].mean(1), stages[-1])
    default = NoPropClassifier(variant, **options, random_state=0).fit(X, y)
    on_the_way = default.predict_trajectory(X).probabilities[:-1].mean((0, 2))
    np.testing.assert_allclose(default.predict_proba(X), on_the_way, rtol=1e-5)
    assert steps.latents.shape == (len(steps.times), len(X), 3, 3)
    assert (np.diff(steps.times) > 0).all()
    np.testing.assert_allclose(steps.probabilities.sum(-1), 1.0, rtol=1e-5)
    if variant == "dt":  # one step a block: what blocks made of their latents so far
        means = steps.probabilities[:-1].mean(2).cumsum(0) / np.arange(1, 4)[:, None, None]
        np.testing.assert_allclose(means[:-1], stages[:-1], rtol=1e-5)


def test_latents_of_a_trajectory_follow_the_probability_flow():
    X, y = toy_data()
    clf = NoPropClassifier(
        "ct", sampler="probability-flow", n_steps=7, n_draws=2, max_iter=2, dtype="float64"
    ).fit(X, y)
    times, z, p = clf.predict_trajectory(X)
    t = torch.tensor(times, dtype=torch.float64)
    signal, noise = CosineSchedule().signal(t).numpy(), CosineSchedule().noise(t).numpy()
    label = p @ clf.embedding_
    for k in range(7):
        eps = (z[k] - signal[k] * label[k]) / noise[k]
        np.testing.assert_allclose(
            z[k + 1], signal[k + 1] * label[k] + noise[k + 1] * eps, rtol=1e-5, atol=1e-6
        )


class Flow(NoPropClassifier):
    """Takes fewer parameters than the class it derives from."""

    def __init__(self, n_blocks=3, random_state=None):
        super().__init__("fm", n_blocks=n_blocks, max_iter=2, random_state=random_state)


def test_a_class_derived_may_take_fewer_parameters(tmp_path):
    X, y = toy_data()
    flow = clone(Flow(n_blocks=2, random_state=0)).fit(X, y)
    expected = NoPropClassifier("fm", n_blocks=2, max_iter=2, random_state=0).fit(X, y)
    np.testing.assert_array_equal(flow.predict_proba(X), expected.predict_proba(X))
    assert flow.get_params() == {"n_blocks": 2, "random_state": 0}
    flow.save(tmp_path / "flow")
    loaded = Flow.load(tmp_path / "flow")
    np.testing.assert_array_equal(loaded.predict_proba(X), expected.predict_proba(X))
    # The class it derives from would go on as something else.
    with pytest.raises(ValueError, match=r"variant='fm'.*NoPropClassifier has 'dt'"):
        NoPropClassifier.load(tmp_path / "flow")
    # And what it sets as that class does by default is no difference.
    document, tensors = read_file(tmp_path / "flow")
    document["fixed"] = {"calibrate": document["fixed"]["calibrate"]}
    document["parameters"] |= {"variant": "fm", "max_iter": 2}
    write_file(tmp_path / "flow", document, tensors)
    assert NoPropClassifier.load(tmp_path / "flow").calibrate
    document["fixed"] = {"calibrate": False}
    write_file(tmp_path / "flow", document, tensors)
    with pytest.raises(ValueError, match=r"its class has calibrate=False, and .* has True"):
        NoPropClassifier.load(tmp_path / "flow")
    flow.partial_fit(X, y)
    # What it sets itself is checked as well.
    flow.max_iter = 0.5
    with pytest.raises(ValueError, match=r"'max_iter' parameter .* Got 0.5"):
        flow.fit(X, y)


def test_missing_numbers_are_named_where_scikit_learn_does_not_look():
    X, y = toy_data(n_classes=2)
    X_nan = X.copy()
    X_nan[3, 1] = np.nan
    clf = small("dt").fit(X, y)
    with sklearn.config_context(assume_finite=True):
        with pytest.raises(ValueError, match=r"1 of 40 rows.* row 3: it has NaN or an infinity"):
            clf.predict(X_nan)
        with pytest.raises(RuntimeError, match="X has NaN or an infinity"):
            small("dt").fit(X_nan, y)


def test_sparse_data_are_refused_with_what_to_do():
    X, y = toy_data(n_classes=2)
    with pytest.raises(TypeError, match=r"sparse.*X\.toarray\(\).*sparse_output=False"):
        small("dt").fit(scipy.sparse.csr_array(X), y)
    frame = pd.get_dummies(pd.Series(list("abca") * 10), sparse=True)
    with pytest.raises(TypeError, match=r"sparse.*X\.sparse\.to_dense\(\)"):
        small("dt").fit(frame, y)
    frame["dense"] = X[:, 0]  # among others scikit-learn takes them, and says so
    with pytest.warns(UserWarning, match="sparse columns"):
        small("dt").fit(frame, y)
