"""Fuzzing: combinations of parameters, kinds of data and orders of calls that nobody thought of.

By default there are few examples, so that the file takes well under a minute. Many more:

    SKNOPROP_FUZZ=20 python -m pytest tests/test_fuzzing.py

multiplies their number by 20; they are other ones at each run then.
"""

import copy
import os
import pickle
import tempfile
import warnings
from contextlib import contextmanager
from unittest import mock

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from skorch.callbacks import LRScheduler

import sknoprop.fitting as fitting
from sknoprop import NoPropClassifier
from sknoprop._parameters import CONSTRAINTS, MODEL_PARAMETERS
from sknoprop.samplers import SAMPLERS
from sknoprop.schedules import SCHEDULES
from sknoprop.training import TrainingError
from tests.models import toy_data

FACTOR = int(os.environ.get("SKNOPROP_FUZZ", "1"))


def examples(n):
    return settings(
        max_examples=n * FACTOR,
        deadline=None,
        # The same few each time, so that a failure is no accident of the run it comes in.
        derandomize=FACTOR == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


# A few epochs are not meant to be enough.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL = {"n_blocks": 2, "hidden_layer_sizes": (8,), "max_iter": 2, "n_draws": 2}


@contextmanager
def watched():
    """Whether training has begun, as a list that is not empty."""
    begun = []

    def spy(function):
        def call(*args, **kwargs):
            begun.append(function.__name__)
            return function(*args, **kwargs)

        return call

    with (
        mock.patch.object(fitting, "train", spy(fitting.train)),
        mock.patch.object(fitting, "train_groups", spy(fitting.train_groups)),
    ):
        yield begun


def check_probabilities(clf, X):
    """On the simplex, one column a class, by every method."""
    n_classes = len(clf.classes_)
    assert (np.sort(clf.classes_) == clf.classes_).all()
    for p in (clf.predict_proba(X), *clf.staged_predict_proba(X), *clf.predict_block_proba(X)):
        assert p.shape == (len(X), n_classes)
        assert np.isfinite(p).all()
        assert (p >= 0).all()
        np.testing.assert_allclose(p.sum(1), 1.0, rtol=0, atol=1e-9)
    labels = clf.predict(X)
    assert (labels == clf.classes_[clf.predict_proba(X).argmax(1)]).all()


# Parameters


def of_kinds(number):
    """A number in the kinds that users may have it in: Python's, numpy's of any size."""
    if isinstance(number, int):
        kinds = [int, np.int64, np.int8, np.uint8, *([bool] if number in (0, 1) else [])]
        return [kind(number) for kind in kinds if kind is not np.uint8 or number >= 0]
    kinds = [float, np.float64]
    return [kind(number) for kind in (*kinds, *([np.float32] if 0 < number < 1e38 else []))]


REALS = [0.0, 1e-300, 1e-30, 1e-6, 0.01, 0.1, 0.5, 0.99, 1.0, 3.0, 1e3, 1e30, 1e300]


def values(constraint):
    """Strategy of what satisfies a constraint of scikit-learn's, small where it is a size."""
    if constraint is None:
        return st.none()
    if constraint == "boolean":
        return st.sampled_from([True, False, np.True_, np.False_])
    if hasattr(constraint, "options"):
        return st.sampled_from(sorted(constraint.options))
    if hasattr(constraint, "closed"):
        whole = constraint.type.__name__ == "Integral"
        least = constraint.right - 3 if constraint.left is None else constraint.left
        numbers = range(least, least + 4) if whole else REALS
        kinds = [kind for number in numbers for kind in of_kinds(number)]
        return st.sampled_from([kind for kind in kinds if constraint.is_satisfied_by(kind)])
    return st.nothing()


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.LazyLinear(4)
        self.drop = torch.nn.Dropout(0.3)

    def forward(self, x):
        return self.drop(self.layer(x.flatten(1)).relu())


def frozen():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Identity())


scales = st.sampled_from([1e-38, 1e-30, 1e-10, 1.0, 1e5, 1e10, 1e30, 1e38, 1e200])

#: What scikit-learn's constraints do not say.
OBJECTS = {
    "schedule": st.sampled_from(sorted(SCHEDULES)).map(lambda name: SCHEDULES[name]()),
    "sampler": st.sampled_from(sorted(SAMPLERS)).map(lambda name: SAMPLERS[name]()),
    "embedding": st.builds(
        lambda dim, scale, kind: (scale * np.random.default_rng(dim).normal(size=(3, dim))).astype(
            kind
        ),
        st.integers(1, 4),
        scales,
        st.sampled_from([float, object]),
    )
    | st.sampled_from(
        [np.eye(3, dtype=bool), np.eye(3, dtype=np.int8), np.eye(2), [[1], [2], [3]]]
    ),
    "encoder": st.sampled_from([Net, Net(), frozen(), lambda: torch.nn.Linear(3, 2), dict, len]),
    "image_shape": st.sampled_from(
        [(1, 1, 3), (3, 1, 1), [1, 3, 1], (1, 2, 2), np.array([1, 1, 3])]
    ),
    "hidden_layer_sizes": st.lists(
        st.sampled_from([k for n in (-1, 0, 1, 5, 9) for k in of_kinds(n)]), max_size=3
    )
    | st.sampled_from([(4.0,), np.array([4, 4]), np.array(4), [[4]], {4}]),
    "optimizer": st.sampled_from(
        [
            torch.optim.RMSprop,
            torch.optim.Adagrad,
            torch.optim.NAdam,
            torch.optim.LBFGS,
            torch.optim.SparseAdam,
            torch.optim.Rprop,
            torch.optim.ASGD,
            torch.optim.Adafactor,
            torch.optim.Optimizer,
        ]
    ),
    "augmentation": st.sampled_from([torch.neg, torch.nn.Identity()]),
    "callbacks": st.sampled_from([[], (), [("a", LRScheduler("StepLR", step_size=1))], [3]]),
    "class_weight": st.dictionaries(
        st.sampled_from([0, 1, 2, np.int8(2), True, 3, "a"]),
        st.sampled_from([0, 1, 1e-300, 1e300, 0.5, np.float32(2), -1, np.nan, "b"]),
        max_size=3,
    ),
    "device": st.sampled_from(["cpu", "auto", "cpu:0", torch.device("cpu"), "meta", "cuda:9", ""]),
    "n_jobs": st.sampled_from([None, 1, 2, -1, 3, 0, -99, np.int8(2), True]),
    "random_state": st.sampled_from([None, 0, np.int8(3), 2**32 - 1, np.random.RandomState(0)]),
    "verbose": st.sampled_from([0, False, np.False_]),
}

PARAMETERS = {
    name: st.one_of(
        OBJECTS.get(name, st.nothing()), *(values(constraint) for constraint in constraints)
    )
    for name, constraints in CONSTRAINTS.items()
}


def test_every_parameter_is_fuzzed():
    assert PARAMETERS.keys() == NoPropClassifier().get_params().keys()
    assert not any(strategy.is_empty for strategy in PARAMETERS.values())


@st.composite
def parameters(draw):
    names = draw(st.lists(st.sampled_from(sorted(PARAMETERS)), unique=True, max_size=8))
    chosen = {"variant": draw(PARAMETERS["variant"])} | {n: draw(PARAMETERS[n]) for n in names}
    return SMALL | chosen


@pytest.mark.filterwarnings("ignore:The 'embedding' parameter:UserWarning")
@examples(20)
@given(params=parameters())
# What was found so; numbers of numpy's overflowed, torch's own errors came from within training.
@example(params=SMALL | {"n_draws": np.int8(1)})
@example(params=SMALL | {"max_iter": np.int8(100), "batch_size": np.int8(3)})
@example(params=SMALL | {"n_train_draws": np.uint8(3)})
@example(params=SMALL | {"n_blocks": True, "variant": "fm"})
@example(params=SMALL | {"hidden_layer_sizes": np.array(4)})
@example(params=SMALL | {"image_shape": np.array(3)})
@example(params=SMALL | {"encoder": lambda: torch.nn.Linear(2, 2)})
@example(params=SMALL | {"encoder": torch.nn.Linear(2, 2).requires_grad_(False)})
@example(params=SMALL | {"encoder": torch.nn.Linear})
@example(params=SMALL | {"device": "meta"})
@example(params=SMALL | {"optimizer": torch.optim.SparseAdam})
@example(params=SMALL | {"optimizer": "sgd", "weight_decay": 1e300})
def test_parameters_fit_or_are_refused_before_training(params):
    X, y = toy_data(n=30, n_features=3)
    clf = NoPropClassifier(**params)
    with watched() as begun, joblib.parallel_config("threading"), torch.random.fork_rng():
        before = torch.get_rng_state()
        try:
            clf.fit(X, y)
        except (ValueError, TypeError) as error:
            assert not begun, "refused in the middle of training"
            assert any(name in str(error) for name in PARAMETERS), error  # noqa: PT017
            assert not hasattr(clf, "classes_")
            event("refused")
            return
        except TrainingError:
            assert not hasattr(clf, "classes_")
            event("diverged")
            return
        assert torch.equal(before, torch.get_rng_state())
    event("fitted")
    check_probabilities(clf, X)
    for name, value in params.items():
        assert getattr(clf, name) is value


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(),
    st.sampled_from(["", "auto", "none", b"x", object(), int, {}, (), [], [[]], {1}, 1j, np.nan]),
    st.sampled_from([2**31, 2**63, 2**70, -(2**70), 10**400, 1e308, np.float32(1e38)]),
    st.sampled_from([np.array(2), np.array([]), np.datetime64("2020-01-01"), torch.zeros(2)]),
)


@examples(20)
@given(name=st.sampled_from(sorted(PARAMETERS)), value=JUNK)
def test_anything_may_be_passed_for_a_parameter(name, value):
    test_parameters_fit_or_are_refused_before_training.hypothesis.inner_test(
        params=SMALL | {name: value}
    )


# Data

KINDS = ["float64", "float32", "float16", "int64", "int8", "uint8", "bool", "object"]
SCALES = [1.0, 1e-300, 1e-30, 1e5, 1e30, 1e300]

LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "reversed": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "strided": lambda X: np.repeat(np.repeat(X, 2, 0), 3, 1)[::2, ::3],
    "read-only": lambda X: np.frombuffer(X.tobytes(), X.dtype).reshape(X.shape),
    "big-endian": lambda X: X.astype(X.dtype.newbyteorder(">")),
    "list": lambda X: X.tolist(),
    "masked": lambda X: np.ma.masked_array(X),
    "frame": pd.DataFrame,
    "mapped": lambda X: mapped(X),
}

LABELS = {
    "int": lambda y: y,
    "negative": lambda y: -7 * y,
    "bool": lambda y: y > 0,
    "float": lambda y: y.astype(float),
    "str": lambda y: np.array([f"class {k}" for k in y]),
    "object": lambda y: np.array([f"class {k}" for k in y], dtype=object),
    "list": lambda y: [str(k) for k in y],
    "series": lambda y: pd.Series(y).map("class {}".format),
    "column": lambda y: y[:, None],
}


def mapped(X):
    with tempfile.TemporaryFile() as file:
        array = np.memmap(file, X.dtype, "w+", shape=X.shape)
    array[...] = X
    return array


@st.composite
def tables(draw):
    """Numbers of a dtype, in which some are odd, and as many labels."""
    n_classes = draw(st.sampled_from([2, 3, 10, *([40, 1000] if FACTOR > 1 else [])]))
    n, d = draw(st.integers(n_classes, n_classes + 30)), draw(st.sampled_from([1, 2, 7, 60]))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    X = draw(st.sampled_from([1.0, 100.0])) * rng.standard_normal((n, d))
    kind = draw(st.sampled_from(KINDS))
    if kind in ("float64", "float32", "object"):
        with np.errstate(over="ignore"):
            X *= draw(st.sampled_from(SCALES))
            X[:, draw(st.integers(0, d - 1))] *= draw(st.sampled_from(SCALES))
            X += draw(st.sampled_from([0.0, 1e15, 1e300]))
    odd = draw(st.sampled_from(["", "constant", "twins", "outlier", "ulp"]))
    if odd == "constant":
        X[:, : draw(st.integers(1, d))] = X[0, 0]
    elif odd == "twins":  # rows that are the same, with all labels
        X[:] = X[rng.integers(0, 2, n)]
    elif odd == "outlier":
        X[0, 0] = 1e308
    elif odd == "ulp":
        X[:, 0] = np.nextafter(X[0, 0], rng.choice([-np.inf, np.inf], n))
    y = rng.permutation(np.arange(n) % n_classes)
    with np.errstate(all="ignore"):
        return X.astype(kind), y


@examples(20)
@given(
    table=tables(),
    layout=st.sampled_from(sorted(LAYOUTS)),
    labels=st.sampled_from(sorted(LABELS)),
    params=st.fixed_dictionaries(
        {
            "variant": PARAMETERS["variant"],
            "embedding": st.sampled_from(["one-hot", "learned", "prototype"]),
            "dtype": PARAMETERS["dtype"],
            "inference": PARAMETERS["inference"],
            "early_stopping": st.booleans(),
            "class_weight": st.sampled_from([None, "balanced"]),
        }
    ),
)
def test_data_fit_or_are_refused_before_training(table, layout, labels, params):
    X, y = table
    # A cut by information is slow for many classes, and is no affair of the data.
    options = SMALL | {"random_state": 0, "partition": "uniform"} | params
    clf = NoPropClassifier(**options)
    with watched() as begun, warnings.catch_warnings():
        # scikit-learn's: of a column of labels, of many classes, of objects that are infinite.
        warnings.simplefilter("ignore", DataConversionWarning)
        warnings.filterwarnings("ignore", "The number of unique classes|invalid value enc")
        try:
            clf.fit(LAYOUTS[layout](X), LABELS[labels](y))
        except (ValueError, TypeError) as error:
            assert not begun, "refused in the middle of training"
            event(f"refused: {str(error)[:20]}")
            return
    event("fitted")
    check_probabilities(clf, LAYOUTS[layout](X))
    # Layout and labels change nothing.
    plain = np.array(X, dtype=X.dtype if X.dtype != object else float)
    if labels not in ("negative", "bool", "str", "object", "list", "series"):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The number of unique classes")
            again = NoPropClassifier(**options).fit(plain, y)
        np.testing.assert_array_equal(again.predict_proba(plain), clf.predict_proba(X))


@pytest.mark.parametrize("early_stopping", [False, True])
def test_one_row_in_ten_thousand(early_stopping):
    X = np.random.default_rng(0).standard_normal((10_001, 3))
    y = np.zeros(10_001, dtype=int)
    y[17] = 1
    X[17] += 9
    clf = NoPropClassifier(early_stopping=early_stopping, batch_size=1000, random_state=0, **SMALL)
    check_probabilities(clf.set_params(class_weight="balanced").fit(X, y), X[:40])
    assert (clf.classes_ == [0, 1]).all()


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (sparse.csr_array(np.eye(4)), "[Ss]parse"),
        (np.ma.masked_equal(np.eye(4), 1.0), "X must not have masked values.*Got 4"),
        (list(np.ma.masked_equal(np.eye(4), 1.0)), "X must not have masked values.*Got 4"),
        (np.array([[{}], [1], [2], [3]], dtype=object), "float|number"),
    ],
)
def test_what_holds_no_plain_numbers_is_refused(X, message):
    with watched() as begun, pytest.raises((ValueError, TypeError), match=message):
        NoPropClassifier(**SMALL).fit(X, [0, 1, 0, 1])
    assert not begun


@pytest.mark.parametrize("values", [np.ma.masked_equal([1, 1, 2], 2), [1, np.ma.masked, 1]])
def test_masked_weights_are_refused(values):
    with pytest.raises(ValueError, match=r"sample_weight must not have masked values.*Got 1"):
        NoPropClassifier(**SMALL).fit(np.eye(3), [0, 1, 0], sample_weight=values)


def test_a_column_may_have_the_name_of_a_mask():
    """NumPy takes any attribute `_mask` for that of a masked array."""
    X = pd.DataFrame(np.eye(4), columns=["_mask", "b", "c", "d"])
    check_probabilities(NoPropClassifier(**SMALL).fit(X, [0, 1, 0, 1]), X)


# Orders of calls

SETS = {
    "first": toy_data(n=24, n_features=3),
    "more": toy_data(n=30, n_features=3, seed=1),
    "wider": toy_data(n=24, n_features=4),
    "other classes": (toy_data(n=24, n_features=3)[0], np.arange(24) % 2),
}


class Calls(RuleBasedStateMachine):
    """A classifier beside what is known of it: whether it is fitted, on what, and what it says."""

    def __init__(self):
        super().__init__()
        self.clf = NoPropClassifier(random_state=0, **SMALL)
        self.expected = None

    @property
    def fitted(self):
        return self.expected is not None

    def learnt(self, name):
        """Take note of what a fit has made."""
        self.name = name if not self.fitted or name != "more" else self.name
        self.X = SETS[name][0]
        self.built = {n: getattr(self.clf, n) for n in (*MODEL_PARAMETERS, "n_blocks")}
        self.expected = self.clf.predict_proba(self.X)
        self.n_iter = self.clf.n_iter_

    def goes_on(self, name):
        """Whether training can go on from here with a set of data."""
        params = self.clf.get_params()
        if any(params[n] != self.built[n] for n in MODEL_PARAMETERS):
            return False
        before, after = self.built["n_blocks"], params["n_blocks"]
        grows = after == before or (params["variant"] != "dt" and after % before == 0)
        return grows and self.alike(name)

    def alike(self, name):
        return {name, self.name} <= {"first", "more"} or name == self.name

    def trained(self, name, train, n_epochs, *, again):
        if again and not self.goes_on(name):
            with pytest.raises(ValueError, match=r"warm_start|features|labels|while training"):
                train(*SETS[name])
            return
        if not again:
            self.expected = None
        before = self.n_iter if again else 0
        assert train(*SETS[name]) is self.clf
        assert self.clf.n_iter_ == before + n_epochs
        self.learnt(name)

    @rule(name=st.sampled_from(sorted(SETS)))
    def fit(self, name):
        again = self.clf.warm_start and self.fitted
        self.trained(name, self.clf.fit, self.clf.max_iter, again=again)

    @rule(name=st.sampled_from(sorted(SETS)))
    def partial_fit(self, name):
        if not self.fitted:
            with pytest.raises(ValueError, match="classes must be passed"):
                self.clf.partial_fit(*SETS[name])
        classes = np.unique(SETS[name][1])
        parts = self.clf.partial_fit
        if self.fitted and not np.array_equal(classes, self.clf.classes_):
            with pytest.raises(ValueError, match="classes"):
                parts(*SETS[name], classes=classes)
        # Fewer classes than are known are a part like any other.
        known = self.fitted and name == "other classes" and self.name in ("first", "more")
        if known and self.goes_on("first"):
            parts(*SETS[name])
            self.expected, self.n_iter = self.clf.predict_proba(self.X), self.clf.n_iter_
            self.built["n_blocks"] = self.clf.n_blocks
            return
        keywords = {} if self.fitted else {"classes": classes}
        self.trained(name, lambda X, y: parts(X, y, **keywords), 1, again=self.fitted)

    @rule(
        change=st.sampled_from(
            [
                {"learning_rate_init": 0.001},
                {"learning_rate": "constant"},
                {"max_iter": 1},
                {"max_iter": 3},
                {"n_blocks": 3},
                {"n_blocks": 4},
                {"n_blocks": 2},
                {"variant": "ct"},
                {"variant": "fm"},
                {"hidden_layer_sizes": (4, 4)},
                {"embedding": "learned"},
                {"embedding": "one-hot"},
                {"dtype": "float64"},
                {"dtype": "bfloat16"},
                {"class_weight": {0: 2.0}},
                {"batch_size": 7},
                {"random_state": 1},
                {"warm_start": True},
                {"warm_start": False},
            ]
        )
    )
    def set_what_training_reads(self, change):
        self.clf.set_params(**change)

    @precondition(lambda self: self.fitted)
    @rule(
        change=st.sampled_from(
            [{"inference": "trajectory"}, {"inference": "kernel"}, {"n_draws": 3}]
        )
    )
    def set_what_prediction_reads(self, change):
        self.clf.set_params(**change)
        self.expected = self.clf.predict_proba(self.X)

    @rule(
        bad=st.sampled_from(
            [{"n_blocks": 0}, {"variant": "xx"}, {"n_blocks": 2.5}, {"tol": -1}, {"device": "meta"}]
        )
    )
    def fit_with_a_bad_parameter(self, bad):
        good = {name: getattr(self.clf, name) for name in bad}
        self.clf.set_params(**bad)
        with pytest.raises(ValueError, match=f"'{next(iter(bad))}' parameter"):
            self.clf.fit(*SETS["first"])
        self.clf.set_params(**good)

    @rule(value=st.sampled_from([np.nan, np.inf]))
    def fit_on_bad_data(self, value):
        X, y = SETS["wider"]
        with pytest.raises(ValueError, match=r"NaN|infinity|features"):
            self.clf.fit(np.where(X > 1, value, X), y)

    @rule()
    def diverge(self):
        before = self.clf.get_params()
        self.clf.set_params(
            **{"warm_start": False, "learning_rate_init": 1e30, "optimizer": "sgd"},
            **{"batch_norm": False, "dtype": "float32"},  # in double there is room for it
        )
        with pytest.raises(TrainingError):
            self.clf.fit(*SETS["wider"])
        self.clf.set_params(**before)

    @rule()
    def clone(self):
        twin = clone(self.clf)
        assert twin.get_params() == self.clf.get_params()
        with pytest.raises(NotFittedError):
            twin.predict(SETS["first"][0])

    @rule(
        copied=st.sampled_from(
            [lambda clf: pickle.loads(pickle.dumps(clf)), copy.deepcopy, copy.copy]
        )
    )
    def copy(self, copied):
        self.clf = copied(self.clf)

    @rule(optimizer=st.booleans())
    def save_and_load(self, optimizer):
        with tempfile.TemporaryDirectory() as folder:
            if not self.fitted:
                with pytest.raises(NotFittedError):
                    self.clf.save(f"{folder}/file")
                return
            self.clf.save(f"{folder}/file", optimizer=optimizer)
            before = self.clf
            self.clf = NoPropClassifier.load(f"{folder}/file")
            assert self.clf.get_params() == before.get_params()

    @invariant()
    def says_what_it_said(self):
        if self.fitted:
            np.testing.assert_array_equal(self.clf.predict_proba(self.X), self.expected)
            assert self.clf.n_iter_ == self.n_iter == len(self.clf.loss_curve_)
            assert self.clf.n_features_in_ == self.X.shape[1]
        else:
            assert not [name for name in vars(self.clf) if name.endswith("_")]
            with pytest.raises(NotFittedError):
                self.clf.predict_proba(SETS["first"][0])


class TestCalls(Calls.TestCase):
    settings = settings(examples(8), stateful_step_count=15)
