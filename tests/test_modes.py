"""What a program has set in torch for itself changes nothing of what the package computes."""

import copy
import pickle

import numpy as np
import pytest
import torch

from sknoprop import NoPropClassifier
from sknoprop.inspection import ScheduleDisplay
from tests.models import toy_data

SMALL = {
    "n_blocks": 2,
    "hidden_layer_sizes": (8,),
    "batch_size": 20,
    "max_iter": 2,
    "random_state": 0,
}


class Network(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Linear(5, 6), torch.nn.ReLU())


CASES = [
    {"variant": "dt"},
    {"variant": "ct", "embedding": "learned", "schedule": "learned"},
    {"variant": "fm", "batch_norm": True, "dtype": "float64"},
    {"variant": "fm", "embedding": "prototype", "inference": "trajectory", "readout": "linear"},
    {"variant": "ct", "encoder": "cnn", "image_shape": (1, 4, 4), "head": "paper"},
    {"variant": "fm", "encoder": Network, "n_bins": 0},
]


@pytest.fixture
def defaults():
    """Let a test change torch's defaults."""
    dtype = torch.get_default_dtype()
    yield
    torch.set_default_dtype(dtype)
    torch.set_default_device(None)


def images_or_rows(options):
    X, y = toy_data(60)
    return (np.tile(X, (1, 16))[:, :16] if "image_shape" in options else X), y


def everything(clf, X):
    steps = clf.predict_trajectory(X)
    return [
        clf.predict_proba(X),
        clf.predict_class_kernel(X),
        clf.predict_disagreement(X),
        steps.times,
        steps.latents,
        clf.loss_curve_,
    ]


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("options", CASES, ids=str)
def test_the_default_dtype_makes_no_difference(options, defaults):
    X, y = images_or_rows(options)
    clf = NoPropClassifier(**SMALL | options).fit(X, y)
    expected = everything(clf, X)
    torch.set_default_dtype(torch.float64)
    assert_same(everything(clf, X), expected)
    again = NoPropClassifier(**SMALL | options).fit(X, y)
    assert_same(everything(again, X), expected)
    dtypes = {name: tensor.dtype for name, tensor in clf.blocks_.state_dict().items()}
    assert {name: tensor.dtype for name, tensor in again.blocks_.state_dict().items()} == dtypes


@pytest.mark.parametrize("options", CASES, ids=str)
def test_the_default_device_makes_no_difference(options, defaults, tmp_path):
    """A tensor on "meta" has no numbers: none that counts may be made there."""
    X, y = images_or_rows(options)
    file = tmp_path / "clf.safetensors"
    expected = everything(NoPropClassifier(**SMALL | options).fit(X, y), X)
    torch.set_default_device("meta")
    clf = NoPropClassifier(**SMALL | options).fit(X, y)
    assert_same(everything(clf, X), expected)
    others = [pickle.loads(pickle.dumps(clf)), copy.deepcopy(clf)]
    if "encoder" not in options or isinstance(options["encoder"], str):
        clf.save(file)
        others.append(NoPropClassifier.load(file))
    for again in others:
        assert_same(everything(again, X), expected)
    clf.partial_fit(X, y)
    ScheduleDisplay.from_estimator(clf)
    ScheduleDisplay.from_schedule("cosine")


@pytest.mark.parametrize(
    "options", [{}, {"dtype": "bfloat16"}, {"head": "paper"}, {"embedding": "learned"}], ids=str
)
def test_autocast_makes_no_difference(options):
    """Within one, torch would keep weights as they were rounded in the first step."""
    X, y = toy_data()
    expected = NoPropClassifier(**SMALL | options).fit(X, y)
    with torch.autocast("cpu", torch.bfloat16):
        clf = NoPropClassifier(**SMALL | options).fit(X, y)
        found = everything(clf, X)
    assert_same(found, everything(expected, X))


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_models_are_trained_where_no_gradients_are_wanted(mode):
    X, y = toy_data()
    settings = SMALL | {"variant": "fm", "embedding": "learned"}
    expected = NoPropClassifier(**settings).fit(X, y)
    with mode():
        clf = NoPropClassifier(**settings).fit(X, y)
        np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(X))
    np.testing.assert_array_equal(clf.fit(X, y).predict_proba(X), expected.predict_proba(X))
