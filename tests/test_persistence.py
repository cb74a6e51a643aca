"""Saving and loading: the safe format, pickles, and files that lie."""

import copy
import json
import os
import pickle
import pickletools
import re
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save
from sklearn.base import clone
from sklearn.exceptions import InconsistentVersionWarning, NotFittedError
from skorch.callbacks import EpochTimer

from sknoprop import NoPropClassifier, __version__
from sknoprop.persistence import FORMAT, ModelFileError
from sknoprop.persistence.values import (
    decode_classes,
    decode_parameter,
    encode_classes,
    encode_parameter,
)
from sknoprop.samplers import EulerSampler
from sknoprop.schedules import CosineSchedule, LearnedSchedule, StraightLineSchedule
from tests.models import toy_data

VARIANTS = ["dt", "ct", "fm"]
ARRAY = [[0.5, 0.0], [0.0, 0.3], [1.0, 1.0]]


def small(variant="dt", **params):
    options = {"n_blocks": 3, "hidden_layer_sizes": (6,), "max_iter": 1, "random_state": 0}
    return NoPropClassifier(variant, **(options | params))


def assert_same_predictions(loaded, clf, X):
    for inference in ("kernel", "trajectory"):
        found = copy.copy(loaded).set_params(inference=inference).predict_proba(X)
        np.testing.assert_array_equal(
            found, copy.copy(clf).set_params(inference=inference).predict_proba(X)
        )
    found, expected = loaded.predict(X), clf.predict(X)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


# Round trips


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("head", ["light", "paper"])
@pytest.mark.parametrize("embedding", ["one-hot", "learned", "prototype", ARRAY], ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_predictions_are_the_same_to_the_last_bit(variant, embedding, head, dtype, tmp_path):
    X, y = toy_data(n=90)
    clf = small(variant, embedding=embedding, embedding_dim=4, head=head, dtype=dtype).fit(X, y)
    clf.save(tmp_path / "model")
    loaded = NoPropClassifier.load(tmp_path / "model")
    assert_same_predictions(loaded, clf, X)
    assert_same_predictions(pickle.loads(pickle.dumps(clf)), clf, X)


@pytest.mark.parametrize(
    "params",
    [
        {"readout": "linear"},
        {"readout": "posterior"},
        {"variant": "ct", "schedule": "learned", "readout": "posterior"},
        {"variant": "ct", "schedule": "learned", "parameterization": "velocity"},
        {"variant": "fm", "schedule": "sigmoid", "parameterization": "velocity"},
        {"variant": "ct", "schedule": "linear", "partition": "uniform", "sampler": "heun"},
        {"variant": "fm", "schedule": CosineSchedule(-9.0, 5.0), "sampler": EulerSampler()},
        {"variant": "fm", "schedule": StraightLineSchedule(), "n_steps": np.int64(7)},
        {"hidden_layer_sizes": [6, 5, 4], "batch_norm": True, "head": "paper"},
        {"hidden_layer_sizes": np.array([6, 5]), "batch_norm": np.True_, "dropout": 0},
        {"n_bins": 0, "optimizer": torch.optim.SGD, "loss_weight": np.float32(0.5)},
        {"blocks_at_once": 2, "max_iter": 2},
        {"n_blocks": 1, "device": torch.device("cpu"), "verbose": True},
    ],
    ids=lambda params: "-".join(params),
)
def test_choices_are_kept(params, tmp_path, capsys):
    X, y = toy_data(n=90)
    clf = small(**params).fit(X, y)
    clf.save(tmp_path / "model")
    loaded = NoPropClassifier.load(tmp_path / "model")
    assert_same_predictions(loaded, clf, X)
    found, given = loaded.get_params(), clf.get_params()
    for name in params:
        if name == "hidden_layer_sizes":
            assert found[name] == tuple(given[name])
        elif name in ("schedule", "sampler"):
            assert type(found[name]) is type(given[name])
            assert repr(found[name]).split(" at ")[0] == repr(given[name]).split(" at ")[0]
        elif name == "device":
            assert found[name] == str(given[name])
        else:
            assert found[name] == given[name]
    refitted = clone(loaded).fit(X, y)
    assert_same_predictions(refitted, clf, X)


def test_a_loaded_classifier_is_as_a_fitted_one(tmp_path):
    X, y = toy_data(n=90)
    clf = small("ct", embedding="learned").fit(X, y)
    clf.save(tmp_path / "model")
    loaded = NoPropClassifier.load(tmp_path / "model")
    assert loaded.get_params() == clf.get_params()
    assert loaded.n_features_in_ == 5
    assert loaded.n_iter_ == clf.n_iter_
    np.testing.assert_array_equal(loaded.loss_curve_, clf.loss_curve_)
    np.testing.assert_array_equal(loaded.embedding_, clf.embedding_)
    np.testing.assert_array_equal(loaded.predict_disagreement(X), clf.predict_disagreement(X))
    assert not loaded.blocks_.training
    assert not any(p.requires_grad for p in loaded.blocks_.parameters())
    assert repr(loaded.blocks_) == repr(clf.blocks_)
    with pytest.raises(ValueError, match="features"):
        loaded.predict(X[:, :4])
    loaded.fit(X, y)
    assert_same_predictions(loaded, clf, X)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_training_goes_on_from_a_file(optimizer, tmp_path):
    X, y = toy_data(n=90)
    clf = small("fm", n_blocks=2, n_bins=8, optimizer=optimizer, warm_start=True)
    clf.fit(X, y, X_val=X, y_val=y).set_params(n_blocks=4).fit(X, y)
    clf.save(tmp_path / "with", optimizer=True)
    clf.save(tmp_path / "without")
    kept = NoPropClassifier.load(tmp_path / "with")
    np.testing.assert_array_equal(kept.loss_curve_, clf.loss_curve_)
    np.testing.assert_array_equal(kept.validation_scores_, clf.validation_scores_)
    assert kept.blocks_.partition.n_split == 2
    assert_same_predictions(kept.partial_fit(X, y), clf.partial_fit(X, y), X)
    fresh = NoPropClassifier.load(tmp_path / "without").partial_fit(X, y)
    assert fresh.n_iter_ == clf.n_iter_
    if optimizer == "adamw":
        assert not np.array_equal(fresh.predict_proba(X), clf.predict_proba(X))
        sizes = [(tmp_path / name).stat().st_size for name in ("without", "with")]
        assert sizes[1] > 2 * sizes[0]


def test_folders_are_named_as_they_were_given(tmp_path):
    clf = small("dt").fit(*toy_data())
    with pytest.raises(FileNotFoundError, match=r"no such folder.*missing.model"):
        clf.save(tmp_path / "missing" / "model")
    with pytest.raises(IsADirectoryError, match=re.escape(repr(os.fspath(tmp_path)))):
        NoPropClassifier.load(tmp_path)


def test_rows_that_blocks_left_out_are_left_out_again(tmp_path):
    """Else the temperature would be that of an earlier fit, or by rows that blocks have seen."""
    X, y = toy_data(n=90)
    clf = small("fm", n_blocks=2, warm_start=True).fit(X, y)
    clf.save(tmp_path / "file", optimizer=True)
    kept = NoPropClassifier.load(tmp_path / "file")
    pickled = pickle.loads(pickle.dumps(clf))
    before = clf.temperature_
    assert_same_predictions(kept.fit(X, y), clf.fit(X, y), X)
    assert kept.temperature_ == clf.temperature_ != before
    assert_same_predictions(pickled.fit(X, y), clf, X)
    assert pickled.temperature_ == clf.temperature_
    # A pickle without an optimiser knows this, too.
    clf.set_params(warm_start=False)
    pickled, before = pickle.loads(pickle.dumps(clf)).set_params(warm_start=True), clf.temperature_
    assert pickled._trained.optimizer == {}
    assert pickled.fit(X, y).temperature_ != before
    clf.set_params(warm_start=True).fit(X, y)
    # Of other rows others would be left out, and so none are.
    kept.fit(X, y)
    assert_same_predictions(kept.fit(X, y[::-1]), clf.fit(X, y[::-1]), X)


def test_parameters_set_after_fit_change_nothing_of_the_model(tmp_path):
    X, y = toy_data(n=90)
    clf = small("ct", readout="posterior").fit(X, y)
    clf.set_params(n_blocks=7, variant="fm", dtype="float64", head="paper", readout="linear")
    clf.save(tmp_path / "model")
    loaded = NoPropClassifier.load(tmp_path / "model")
    assert loaded.get_params() == clf.get_params()
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    with pytest.raises(ValueError, match="cannot change while training goes on"):
        loaded.partial_fit(X, y)


@pytest.mark.parametrize(
    "names",
    [
        np.array(["b", "a", "ä\ud800"]),
        np.array(["b", "a", ""], dtype=object),
        np.array([7, -3, 100]),
        np.array([1, 2, 2**64 - 1], dtype=np.uint64),
        np.array([1, 2, 3], dtype=">i4"),
        np.array([2.0, -1.0, 0.0], dtype=np.float32),
        pd.Series(["x", "y", "z"]),
    ],
    ids=lambda names: str(names.dtype),
)
def test_classes_and_feature_names(names, tmp_path):
    X, y = toy_data(n=60)
    frame = pd.DataFrame(X, columns=["a", "ß", "", "a b", "\ud800"])
    clf = small().fit(frame, np.asarray(names)[y])
    clf.save(tmp_path / "model")
    loaded = NoPropClassifier.load(tmp_path / "model")
    assert loaded.classes_.dtype == clf.classes_.dtype.newbyteorder("=")
    np.testing.assert_array_equal(loaded.classes_, clf.classes_)
    np.testing.assert_array_equal(loaded.feature_names_in_, clf.feature_names_in_)
    assert loaded.feature_names_in_.dtype == object
    np.testing.assert_array_equal(loaded.predict_proba(frame), clf.predict_proba(frame))
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(frame.rename(columns={"a": "z"}))


def test_boolean_classes(tmp_path):
    X, y = toy_data(n_classes=2)
    clf = small().fit(X, y == 1)
    clf.save(tmp_path / "model")
    loaded = NoPropClassifier.load(tmp_path / "model")
    assert loaded.classes_.dtype == bool
    assert_same_predictions(loaded, clf, X)


def test_many_classes(tmp_path):
    X, y = toy_data(n=200, n_classes=50)
    clf = small("fm").fit(X, y)
    clf.save(tmp_path / "model")
    assert_same_predictions(NoPropClassifier.load(tmp_path / "model"), clf, X)


def test_derived_classifiers(tmp_path):
    class Derived(NoPropClassifier):
        pass

    X, y = toy_data()
    clf = Derived(n_blocks=2, max_iter=1, random_state=0).fit(X, y)
    clf.save(tmp_path / "model")
    loaded = Derived.load(tmp_path / "model")
    assert type(loaded) is Derived
    assert_same_predictions(loaded, clf, X)


def test_one_model_makes_one_file(tmp_path):
    X, y = toy_data()
    for name in ("a", "b"):
        small().fit(X, y).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_holds_no_training_data(tmp_path):
    sizes = []
    for n in (200, 20_000):
        X, y = toy_data(n=n)
        clf = small(batch_size=1000, callbacks=[EpochTimer()]).fit(X, y)
        clf.save(tmp_path / "model")
        sizes.append([os.path.getsize(tmp_path / "model"), len(pickle.dumps(clf))])
    np.testing.assert_allclose(sizes[1], sizes[0], atol=50)
    assert sizes[0][0] < 16_000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_from_a_gpu_to_a_cpu_and_back(tmp_path):
    X, y = toy_data(n=90)
    clf = small("ct", device="cuda").fit(X, y)
    expected = clf.predict_proba(X)
    clf.save(tmp_path / "model")
    for loaded in (NoPropClassifier.load(tmp_path / "model"), pickle.loads(pickle.dumps(clf))):
        assert loaded.blocks_.embedding.weight.device.type == "cpu"
        np.testing.assert_allclose(loaded.predict_proba(X), expected, atol=1e-4)
    loaded = NoPropClassifier.load(tmp_path / "model", device="cuda")
    assert loaded.blocks_.embedding.weight.device.type == "cuda"
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)


def test_device_that_is_not_there(saved):
    with pytest.raises(ValueError, match="device that torch can use here"):
        NoPropClassifier.load(saved, device="cuda:99")


# What cannot be saved


class OwnSchedule(CosineSchedule):
    pass


class OwnSampler(EulerSampler):
    pass


class OwnOptimizer(torch.optim.Adam):
    pass


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("schedule", OwnSchedule()),
        ("schedule", LearnedSchedule(8)),
        ("sampler", OwnSampler()),
        ("optimizer", OwnOptimizer),
        ("loss_weight", float("inf")),
    ],
    ids=["schedule", "learned schedule", "sampler", "optimizer", "infinity"],
)
def test_objects_of_the_users_own_are_named(name, value, saved, tmp_path):
    X, y = toy_data()
    clf = small("ct").fit(X, y).set_params(**{name: value})
    before = saved.read_bytes()
    with pytest.raises(ModelFileError, match=rf"'{name}' holds .* use pickle"):
        clf.save(saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_model_with_a_schedule_of_the_users_own(saved):
    X, y = toy_data()
    clf = small("ct", schedule=OwnSchedule()).fit(X, y).set_params(schedule="cosine")
    with pytest.raises(ModelFileError, match=r"not the package's own.* use pickle"):
        clf.save(saved)
    assert_same_predictions(pickle.loads(pickle.dumps(clf)), clf, X)


def test_a_learned_schedule_of_another_size_is_pickled():
    X, y = toy_data()
    clf = small("ct", schedule=LearnedSchedule(8, log_snr_max=4.0), readout="posterior").fit(X, y)
    assert_same_predictions(pickle.loads(pickle.dumps(clf)), clf, X)


def test_what_prediction_does_not_need_is_dropped(tmp_path):
    X, y = toy_data()
    clf = small(callbacks=[EpochTimer()], random_state=np.random.RandomState(0)).fit(X, y)
    clf.save(tmp_path / "model")
    loaded = NoPropClassifier.load(tmp_path / "model")
    assert loaded.callbacks is None
    assert loaded.random_state is None
    assert_same_predictions(loaded, clf, X)


@pytest.mark.parametrize(
    "classes",
    [
        np.array([b"a", b"b", b"c"]),
        np.array(["2020-01-01", "2020-01-02", "2020-01-03"], dtype="datetime64[D]"),
        np.array(["a", 1, None], dtype=object),
        np.array([1, 2, 3], dtype=np.longdouble),
        np.array([0.0, 1.0, np.nan]),
    ],
    ids=lambda classes: str(classes.dtype),
)
def test_classes_of_unusual_kinds(classes, tmp_path):
    X, y = toy_data()
    clf = small().fit(X, y)
    clf.classes_ = classes
    with pytest.raises(ModelFileError, match=r"classes|class labels"):
        clf.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_models_that_are_not_finite(tmp_path):
    X, y = toy_data()
    clf = small().fit(X, y)
    clf.blocks_.head.out.bias[0, 0] = np.nan
    with pytest.raises(ModelFileError, match=r"head\.out\.bias' holds NaN"):
        clf.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_before_fit(tmp_path):
    with pytest.raises(NotFittedError):
        small().save(tmp_path / "model")


def test_other_parameters_than_todays():
    """Values that no parameter holds yet, as class weights."""
    weights = {"a": 1.0, 2: np.float64(3.5)}
    encoded = json.loads(json.dumps(encode_parameter("class_weight", weights)))
    assert decode_parameter(encoded) == weights
    with pytest.raises(ModelFileError, match="cannot be"):
        decode_parameter({"pairs": [["a", 1.0, 2.0]]})
    with pytest.raises(ModelFileError, match="'x' holds <object"):
        encode_parameter("x", [object()])


# Files


@pytest.fixture
def saved(tmp_path):
    X, y = toy_data()
    path = tmp_path / "model.safetensors"
    small().fit(X, y).save(path)
    return path


def test_an_older_file_stays_if_saving_fails(saved, monkeypatch):
    before = saved.read_bytes()
    clf = NoPropClassifier.load(saved).set_params(n_draws=2)

    def fail(*args):
        raise OSError("no space left")

    for name in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match="no space left"):
                clf.save(saved)
        assert saved.read_bytes() == before
        assert os.listdir(saved.parent) == [saved.name]
    clf.save(saved)
    assert NoPropClassifier.load(saved).n_draws == 2


def test_a_link_stays_a_link(saved):
    link = saved.parent / "link"
    try:
        link.symlink_to(saved)
    except OSError:
        pytest.skip("no links here")
    NoPropClassifier.load(link).set_params(n_draws=2).save(link)
    assert link.is_symlink()
    assert NoPropClassifier.load(saved).n_draws == 2


def test_a_file_keeps_who_may_read_it_and_what_is_no_file_stays(saved, tmp_path):
    clf = NoPropClassifier.load(os.fsencode(saved))
    saved.chmod(0o600)
    clf.save(os.fsencode(saved))
    assert saved.stat().st_mode & 0o777 == 0o600
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, ""):
        with pytest.raises(OSError, match="no file that could be written"):
            clf.save(path)
    assert pipe.is_fifo()


def test_a_loaded_model_is_free_of_its_file(saved):
    X, _ = toy_data()
    loaded = NoPropClassifier.load(str(saved))
    expected = loaded.predict_proba(X)
    with open(saved, "r+b") as file:
        file.truncate(10)
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        NoPropClassifier.load(tmp_path / "missing")
    clf = small().fit(*toy_data())
    with pytest.raises(FileNotFoundError):
        clf.save(tmp_path / "missing" / "model")
    with pytest.raises(OSError):  # noqa: PT011  (each system says it in its own words)
        NoPropClassifier.load(tmp_path)


def contents(path):
    with safe_open(path, framework="pt") as file:
        document = json.loads(file.metadata()["sknoprop"])
        return document, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118


def rewrite(path, document, tensors):
    text = document if isinstance(document, str) else json.dumps(document)
    path.write_bytes(save(tensors, {"sknoprop": text}))


def at(document, *keys):
    for key in keys:
        document = document[key]
    return document


def test_a_newer_format_names_both(saved):
    document, tensors = contents(saved)
    assert document["format"] == FORMAT
    document |= {"format": FORMAT + 1, "new": []}
    document["versions"]["sknoprop"] = "99.0"
    rewrite(saved, document, tensors | {"new": torch.zeros(2, dtype=torch.bfloat16)})
    message = rf"format {FORMAT + 1}, written by sknoprop 99\.0.* formats up to {FORMAT}\."
    with pytest.raises(ModelFileError, match=message):
        NoPropClassifier.load(saved)


def test_files_of_the_first_format_have_inputs_as_they_are(tmp_path):
    """They did not say how wide first layers' inputs are scaled, as none were."""
    X = np.random.default_rng(0).standard_normal((40, 100))
    clf = NoPropClassifier(n_blocks=2, hidden_layer_sizes=8, n_bins=0, max_iter=1, random_state=0)
    with torch.no_grad():
        encoder = clf.fit(X, np.arange(40) % 2).blocks_.encoder
        assert encoder.input_scale < 1.0
        encoder.layers[0].weight.mul_(encoder.input_scale)
        encoder.input_scale.fill_(1.0)  # the same network, as it was then
    clf.save(tmp_path / "file")
    document, tensors = contents(tmp_path / "file")
    del tensors["model.encoder.input_scale"]
    rewrite(tmp_path / "file", document | {"format": 1}, tensors)
    loaded = NoPropClassifier.load(tmp_path / "file")
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))


def test_versions_are_recorded_and_sknoprops_matters(saved):
    document, tensors = contents(saved)
    assert document["versions"] == {
        "sknoprop": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }
    document["versions"] |= {"torch": "1.0", "numpy": "1.0"}
    rewrite(saved, document, tensors)
    NoPropClassifier.load(saved)
    document["versions"]["sknoprop"] = "0.0.1"
    rewrite(saved, document, tensors)
    with pytest.warns(InconsistentVersionWarning, match=r"0\.0\.1 when using version") as caught:
        NoPropClassifier.load(saved)
    assert caught[0].filename == __file__


def test_a_parameter_that_came_later_has_its_default(saved):
    document, tensors = contents(saved)
    del document["parameters"]["n_train_draws"]
    rewrite(saved, document, tensors)
    assert NoPropClassifier.load(saved).n_train_draws == NoPropClassifier().n_train_draws


#: Where in the document, what stands there, and what the error says.
LIES = [
    ((), "{", "no proper JSON"),
    ((), "[" * 100_000, "no proper JSON"),
    ((), "[]", "no JSON object"),
    ((), "{}", "format must be an int"),
    (("format",), True, "format must be an int"),
    (("format",), 0, "format must be an int"),
    (("format",), "1", "format must be an int"),
    (("versions",), [], "version of sknoprop"),
    (("extra",), 1, "must be an object of"),
    (("parameters",), [], "parameters must be an object"),
    (("parameters", "magic"), 1, r"no parameters \['magic'\]"),
    (("parameters", "variant"), "xx", "'variant' parameter"),
    (("parameters", "variant"), ["dt"], "'variant' parameter"),
    (("parameters", "n_draws"), -1, "'n_draws' parameter"),
    (("parameters", "dropout"), "0.5", "'dropout' parameter"),
    (("parameters", "dropout"), float("nan"), "no proper JSON"),
    (("parameters", "callbacks"), ["print"], "'callbacks' parameter"),
    (("parameters", "hidden_layer_sizes"), [[1]], "cannot be a list"),
    (("parameters", "hidden_layer_sizes"), [-1], "'hidden_layer_sizes' parameter"),
    (("parameters", "schedule"), {"schedule": "cosine"}, "a schedule must be an object"),
    (("parameters", "schedule"), {"schedule": {"name": "os.system"}}, "a schedule must be among"),
    (("parameters", "schedule"), {"schedule": {"name": "learned"}}, "a schedule must be among"),
    (
        ("parameters", "schedule"),
        {"schedule": {"name": "cosine", "log_snr_min": 1.0, "log_snr_max": 1e9}},
        "no schedule can be made",
    ),
    (("parameters", "schedule"), {"schedule": {"name": "cosine", "x": 1.0}}, "has floats"),
    (("parameters", "sampler"), {"sampler": "__import__"}, "a sampler must be among"),
    (("parameters", "optimizer"), {"optimizer": ["adam"]}, "a optimizer must be among"),
    (("parameters", "optimizer"), {"eval": "1"}, "cannot be"),
    (("parameters", "embedding"), [1.0], "must be a name here"),
    (("design",), None, "design must be an object"),
    (("design", "extra"), None, "design must be an object"),
    (("design", "head"), "heavy", "'head' parameter"),
    (("design", "dtype"), "float16", "'dtype' parameter"),
    (("design", "dtype"), "float64", "must be of shape"),
    (("design", "dropout"), 1.5, "'dropout' parameter"),
    (("design", "loss_weight"), 10**400, "'loss_weight' parameter"),
    (("design", "trains_embedding"), 1, "must be true or false"),
    (("design", "variant"), "fm", "must be of shape"),
    (("design", "batch_norm"), True, "lacks the tensors"),
    (("design", "schedule"), "cosine", "a schedule must be an object"),
    (("design", "schedule", "name"), "learned", "lacks the tensors"),
    (("design", "schedule", "log_snr_max"), 1e300, "no schedule can be made"),
    (("classes",), [0, 1, 2], "classes must be an object"),
    (("classes", "values"), [0, 1], "2 classes and 3 class embeddings"),
    (("classes", "values"), [0, 1, 1], "ascending and different"),
    (("classes", "values"), [2, 1, 0], "ascending and different"),
    (("classes", "values"), [0, 1, "2"], "must be a list of int"),
    (("classes", "values"), [0, 1, 2**80], "do not fit"),
    (("classes", "values"), None, "must be a list of int"),
    (("classes", "dtype"), "O8,O8", "dtype among"),
    (("classes", "dtype"), [], "dtype among"),
    (("classes", "dtype"), "bool", "must be a list of bool"),
    (("feature_names",), ["a"], "1 names for 5 features"),
    (("feature_names",), list(range(5)), "list of strings"),
    (("changed",), ["magic"], "'changed' must list"),
    (("changed",), None, "'changed' must list"),
    (("left_out",), "x", "'left_out' must be a digest"),
    (("left_out",), 1, "'left_out' must be a digest"),
    (("fixed",), [], "'fixed' must be an object"),
    (("fixed",), {"magic": 1}, "its class has magic=1"),
    (("design", "n_split"), 2, "n_split"),
    (("design", "n_split"), 0, "n_split"),
    (("design", "n_split"), True, "n_split"),
    (("seed",), -1, "seed must be an int"),
    (("seed",), 2**200, "seed must be an int"),
]


@pytest.mark.parametrize(("keys", "lie", "message"), LIES, ids=str)
def test_documents_that_lie(keys, lie, message, saved):
    document, tensors = contents(saved)
    if keys:
        at(document, *keys[:-1])[keys[-1]] = lie
    else:
        document = lie
    rewrite(saved, document, tensors)
    with pytest.raises(ModelFileError, match=message) as caught:
        NoPropClassifier.load(saved)
    assert str(caught.value).startswith(f"{str(saved)!r} cannot be loaded: ")


ENCODING = "model.encoder.encoding."

#: Tensor, what becomes of it (None: it goes), and what the error says.
FORGERIES = [
    ("loss_curve", lambda t: t[:, :2], "'loss_curve' must be"),
    ("loss_curve", lambda t: t.long(), "'loss_curve' must be"),
    ("validated_epochs", torch.tensor([0]), "'validated_epochs' must"),
    ("optimizer.0.exp_avg", torch.ones(2), "its parameter's shape"),
    ("optimizer.0.step", torch.tensor(torch.inf), "NaN or infinity"),
    ("optimizer.999.step", torch.tensor(1.0), "no parameter"),
    ("optimizer.-1.step", torch.tensor(1.0), "no parameter"),
    ("optimizer.0", torch.tensor(1.0), "no parameter"),
    ("model.head.out.bias", None, r"lacks the tensors \['head.out.bias'\]"),
    ("model.head.more", torch.zeros(1), r"has no place for the tensors \['head.more'\]"),
    ("something", torch.zeros(1), "nobody knows"),
    ("model.embedding.weight", None, "no tensor 'embedding.weight'"),
    ("model.embedding.weight", lambda t: t[0], "must have 2 axes"),
    ("model.embedding.weight", lambda t: t[:2], "must be of shape"),
    ("model.embedding.weight", lambda t: t.double(), "must be of shape"),
    ("model.embedding.weight", lambda t: torch.zeros(2**40, 0), "is empty"),
    ("model.head.out.weight", lambda t: t[:2], "must be of shape"),
    ("model.head.out.weight", lambda t: t.half(), "is of type F16"),
    ("model.head.out.weight", lambda t: t * np.inf, "NaN or infinity"),
    ("model.encoder.layers.0.weight", None, "no tensor"),
    ("model.encoder.layers.0.weight", lambda t: t[0], "must have 3 axes"),
    ("model.encoder.layers.0.weight", lambda t: torch.zeros(1, 2**20, 1), "must be of shape"),
    ("model.encoder.layers.1.weight", torch.zeros(1, 2**20, 1), "lacks the tensors"),
    ("model.partition.edges", lambda t: t[:1], "length 2 or more"),
    ("model.partition.edges", lambda t: t.flip(0), "no ascending times"),
    ("model.partition.edges", lambda t: 2 * t, "no ascending times"),
    ("model.partition.edges", lambda t: torch.zeros(2**20), "must be of shape"),
    ("model.partition.times", lambda t: -t, "no ascending times"),
    (ENCODING + "mean", lambda t: t[:2], "must be of length"),
    (ENCODING + "mean", lambda t: t.float(), "must be of length"),
    (ENCODING + "mean", lambda t: t * np.nan, "NaN or infinity"),
    (ENCODING + "scale", lambda t: 0 * t, "not positive"),
    (ENCODING + "width", lambda t: -t, "not positive"),
    (ENCODING + "width", lambda t: t * np.nan, "NaN"),
    (ENCODING + "low", None, "no tensor"),
    (ENCODING + "column", lambda t: t.double(), "must be of length"),
    (ENCODING + "column", lambda t: t + 5, "features that are not there"),
    (ENCODING + "column", lambda t: t - 5, "features that are not there"),
    ("model.temperature", lambda t: 0 * t, "not positive"),
    ("model.temperature", torch.ones(2, dtype=torch.float64), "must be of shape"),
    ("parameters.embedding", torch.tensor(1.0), "must be a matrix"),
    ("parameters.embedding", torch.full((3, 2), np.nan), "matrix of finite numbers"),
]


@pytest.mark.parametrize(
    ("name", "change", "message"), FORGERIES, ids=[f"{i}-{f[0]}" for i, f in enumerate(FORGERIES)]
)
def test_tensors_that_do_not_fit(name, change, message, saved):
    document, tensors = contents(saved)
    if change is None:
        del tensors[name]
    else:
        tensors[name] = change(tensors[name]) if callable(change) else change
    rewrite(saved, document, {k: v.contiguous() for k, v in tensors.items()})
    with pytest.raises(ModelFileError, match=message):
        NoPropClassifier.load(saved)


@pytest.mark.parametrize(
    ("name", "factor", "message"),
    [
        ("model.encoder.norms.0.running_var", -1.0, "negative variance"),
        ("model.readout.sigma", 0.0, "not positive"),
    ],
)
def test_numbers_that_no_training_leaves(name, factor, message, tmp_path):
    """Their roots and ratios would be NaN in every prediction."""
    path = tmp_path / "model"
    small(batch_norm=True, readout="posterior").fit(*toy_data()).save(path)
    document, tensors = contents(path)
    tensors[name] = factor * tensors[name]
    rewrite(path, document, tensors)
    with pytest.raises(ModelFileError, match=message):
        NoPropClassifier.load(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x04K\x01.", bytes(100), b"\xff" * 100, save({"x": torch.zeros(2)})],
    ids=["empty", "pickle", "zeros", "ones", "foreign"],
)
def test_files_of_other_kinds(content, saved):
    saved.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"damaged or no safetensors file|no file of sknoprop"):
        NoPropClassifier.load(saved)


def test_a_small_file_does_not_make_a_large_model(saved):
    """A million blocks of one unit: 4 MB a tensor, and nothing is made per block."""
    document, tensors = contents(saved)
    n = 10**6
    tensors["model.partition.edges"] = torch.linspace(0.0, 1.0, n + 1)
    tensors["model.encoder.layers.0.weight"] = torch.zeros(1, 10**6, 1)
    rewrite(saved, document, tensors)
    with pytest.raises(ModelFileError, match="must be of shape"):
        NoPropClassifier.load(saved)


def test_long_names_of_classes():
    names = ["a" * 2**20] + [f"b{i:05}" for i in range(10_000)]
    with pytest.raises(ModelFileError, match="too great a length"):
        decode_classes({"dtype": "str", "values": names})
    np.testing.assert_array_equal(
        decode_classes(encode_classes(np.array(names[1:]))), np.array(names[1:])
    )


FUZZ = settings(
    max_examples=250 * int(os.environ.get("SKNOPROP_FUZZ", "1")),
    deadline=None,
    # That examples are slow to make says how busy the machine is.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def loads_or_refuses(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        try:
            loaded = NoPropClassifier.load(path)
        except ModelFileError as error:
            assert path.name in str(error)  # noqa: PT017
            return
    model = loaded.blocks_
    assert model.head.out.bias.shape == (model.n_blocks, len(loaded.classes_))
    assert loaded.embedding_.shape[0] == len(loaded.classes_)
    assert model.encoder.layers[0].weight.shape[1] == model.encoder.encoding.n_out
    # It has probabilities, or says that it has none.
    try:
        proba = loaded.predict_proba(np.zeros((1, loaded.n_features_in_)))
    except ValueError as error:
        assert "no finite probabilities" in str(error)  # noqa: PT017
    else:
        assert np.isfinite(proba).all()
    # And it saves, or says why not.
    loaded.save(path)


@pytest.mark.slow
@FUZZ
@given(data=st.data())
def test_damaged_bytes(data, saved):
    content = bytearray(saved.read_bytes())
    original = bytes(content)
    header = 8 + int.from_bytes(content[:8], "little")
    end = data.draw(st.sampled_from([8, header, len(content)]))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    try:
        saved.write_bytes(content)
        loads_or_refuses(saved)
    finally:
        saved.write_bytes(original)


def leaves(value, path=()):
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from leaves(value[key], (*path, key))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["cosine", "learned", "fm", "paper", "schedule", "auto", 2**64, 1e308]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["schedule", "sampler", "optimizer", "pairs", "name", "dtype", "values"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=5,
)


@pytest.mark.slow
@FUZZ
@given(data=st.data())
def test_damaged_documents(data, saved):
    original = saved.read_bytes()
    document, tensors = contents(saved)
    *keys, last = data.draw(st.sampled_from(list(leaves(document))[1:]))
    if data.draw(st.booleans()):
        at(document, *keys)[last] = data.draw(JSON)
    else:
        del at(document, *keys)[last]
    try:
        rewrite(saved, document, tensors)
        loads_or_refuses(saved)
    finally:
        saved.write_bytes(original)


@pytest.mark.slow
@FUZZ
@given(data=st.data())
def test_damaged_tensors(data, saved):
    original = saved.read_bytes()
    document, tensors = contents(saved)
    name = data.draw(st.sampled_from(sorted(tensors)))
    shape = data.draw(st.lists(st.integers(0, 7), max_size=4))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool]))
    tensors[name] = torch.full(shape, data.draw(st.integers(-3, 9)), dtype=dtype)
    try:
        rewrite(saved, document, tensors)
        loads_or_refuses(saved)
    finally:
        saved.write_bytes(original)


# Pickles


@pytest.mark.parametrize(
    "trained",
    [
        lambda clf, X, y: clf.fit(X, y),
        lambda clf, X, y: clf.partial_fit(X, y, classes=[0, 1, 2]),
        lambda clf, X, y: clf.set_params(warm_start=True).fit(X, y),
        lambda clf, X, y: clf.set_params(warm_start=True, optimizer="sgd").fit(X, y),
    ],
    ids=["fit", "partial_fit", "warm start", "sgd"],
)
def test_pickles_hold_nothing_of_torch(trained):
    """So they do not depend on torch's version or on where the model was."""
    clf = trained(small("ct", embedding="learned"), *toy_data())
    names = [arg for _, arg, _ in pickletools.genops(pickle.dumps(clf)) if isinstance(arg, str)]
    assert not any(name.startswith(("torch", "sknoprop.model", "sknoprop.net")) for name in names)


def test_joblib_maps_files(tmp_path):
    X, y = toy_data()
    clf = small().fit(X, y)
    joblib.dump(clf, tmp_path / "model")
    assert_same_predictions(joblib.load(tmp_path / "model", mmap_mode="r"), clf, X)
    joblib.dump(clf.partial_fit(X, y), tmp_path / "stream")
    found = joblib.load(tmp_path / "stream", mmap_mode="r").partial_fit(X, y)
    assert_same_predictions(found, clf.partial_fit(X, y), X)


def test_pickles_of_another_version(monkeypatch):
    clf = small().fit(*toy_data())
    content = pickle.dumps(clf)
    assert not hasattr(pickle.loads(content), "_sknoprop_version")
    monkeypatch.setattr("sknoprop.persistence.estimators.__version__", "99.0")
    with pytest.warns(InconsistentVersionWarning, match=r"version 99\.0"):
        pickle.loads(content)


def test_copies_and_pickles_before_fit():
    clf = small(random_state=3)
    assert pickle.loads(pickle.dumps(clf)).get_params() == clf.get_params()
    fitted = small().fit(*toy_data())
    assert_same_predictions(copy.deepcopy(fitted), fitted, toy_data()[0])


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"variant": "ct", "schedule": "learned", "embedding": "learned", "readout": "posterior"},
        {"variant": "fm", "head": "paper", "batch_norm": True, "embedding": np.eye(3)},
    ],
    ids=str,
)
def test_skops(params):
    sio = pytest.importorskip("skops.io")
    X, y = toy_data()
    clf = small(**params).fit(X, np.array(["a", "b", "c"])[y])
    content = sio.dumps(clf)
    trusted = ["sknoprop.classifier.NoPropClassifier", "skorch.history.History"]
    assert set(sio.get_untrusted_types(data=content)) == set(trusted)
    assert_same_predictions(sio.loads(content, trusted=trusted), clf, X)
    content = sio.dumps(clf.partial_fit(X, clf.predict(X)))
    assert set(sio.get_untrusted_types(data=content)) == set(trusted)
    found = sio.loads(content, trusted=trusted)
    y = clf.predict(X)
    assert_same_predictions(found.partial_fit(X, y), clf.partial_fit(X, y), X)


@pytest.mark.parametrize(
    "change",
    [
        lambda own: own | {"exp_avg": torch.zeros(()), "exp_avg_sq": torch.zeros(())},
        lambda own: {k: v for k, v in own.items() if k != "exp_avg_sq"},
        lambda own: own | {"step": torch.zeros_like(own["exp_avg"])},
    ],
    ids=["numbers", "one is missing", "steps of each"],
)
def test_moments_of_a_file_that_do_not_fit_are_not_gone_on_with(change, tmp_path):
    """Torch would not look, and write beyond their ends."""
    X, y = toy_data(60)
    clf = small(hidden_layer_sizes=(64,), warm_start=True).fit(X, y)
    moments = clf._trained.optimizer
    clf._trained.optimizer = {number: change(own) for number, own in moments.items()}
    clf.save(tmp_path / "model", optimizer=True)
    loaded = NoPropClassifier.load(tmp_path / "model")
    before = loaded.predict_proba(X)
    with pytest.raises(ValueError, match=r"must be moments of that shape and a number of steps"):
        loaded.fit(X, y)
    np.testing.assert_array_equal(loaded.predict_proba(X), before)


class Global(torch.optim.SGD):
    """Keeps a number of its own beside what it keeps of parameters, as MADGRAD does."""

    def __init__(self, params, **options):
        super().__init__(params, **options)
        self.state["k"] = torch.tensor([0], dtype=torch.int64)

    def step(self, closure=None):
        self.state["k"] += 1
        return super().step(closure)


def test_what_an_optimizer_keeps_once_is_pickled_and_gone_on_from():
    X, y = toy_data(60)
    clf = small(optimizer=Global, warm_start=True, learning_rate_init=0.01).fit(X, y)
    twin = pickle.loads(pickle.dumps(clf))
    assert twin._trained.optimizer["k"] == clf._trained.optimizer["k"] > 0
    np.testing.assert_array_equal(clf.fit(X, y).predict_proba(X), twin.fit(X, y).predict_proba(X))
