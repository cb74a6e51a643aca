"""What a GPU computes, against the CPU and against itself."""

import gc
import warnings

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from sklearn.datasets import load_digits
from skorch.callbacks import Callback

from sknoprop import NoPropClassifier
from sknoprop.inference import rows_at_once
from sknoprop.samplers import SAMPLERS
from sknoprop.training import net, recorded
from sknoprop.trajectories import sampling_times, trajectory_probabilities
from tests.models import toy_data

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SMALL = {
    "n_blocks": 3,
    "hidden_layer_sizes": (8, 8),
    "max_iter": 3,
    "batch_size": 7,  # 40 rows: two sizes of batches
    "random_state": 0,
    "device": "cuda",
}
CASES = {
    "dt": {"variant": "dt"},
    "ct": {"variant": "ct"},
    "fm": {"variant": "fm"},
    "velocity": {"parameterization": "velocity"},
    "learned embedding": {"embedding": "learned", "embedding_dim": 2},
    "learned embedding, dt": {"variant": "dt", "embedding": "learned", "embedding_dim": 2},
    "learned schedule": {"variant": "ct", "schedule": "learned"},
    "linear read-out": {"readout": "linear", "variant": "dt"},
    "the paper's head": {"head": "paper"},
    "two draws": {"n_train_draws": 2},
    "block by block": {"blocks_at_once": 1},
    "two blocks at once": {"blocks_at_once": 2},
    "bfloat16": {"dtype": "bfloat16"},
    "float64": {"dtype": "float64"},
    "sgd": {"optimizer": "sgd"},
    "constant": {"learning_rate": "constant", "n_iter_no_change": None},
    "one block": {"n_blocks": 1},
    # In double precision: which way a convolution is computed, and rounds, may change between runs.
    "images": {"image_shape": (1, 8, 8), "encoder": "cnn", "dtype": "float64"},
    "residual": {"image_shape": (1, 8, 8), "encoder": "resnet", "dtype": "float64"},
    "images, block by block": {
        "image_shape": (1, 8, 8),
        "encoder": "cnn",
        "dtype": "float64",
        "blocks_at_once": 1,
    },
}


def rows(case):
    if "image_shape" in case:
        X, y = load_digits(return_X_y=True)
        return X[:40], y[:40]
    return toy_data(40)


def learnt(clf):
    return {name: value.cpu() for name, value in clf.blocks_.state_dict().items()}


@pytest.fixture
def counted(monkeypatch):
    """Recordings made, of however few steps."""
    made = []  # numbers, lest graphs be kept that nobody else keeps
    capture = recorded._Place.capture

    def count(*args):
        made.append(len(made))
        return capture(*args)

    monkeypatch.setattr(recorded, "FEWEST_STEPS", 1)
    monkeypatch.setattr(recorded._Place, "capture", count)
    return made


def unrecorded(clf, X, y, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(net.RecordedStep, "takes", staticmethod(lambda *_: False))
        return clf.fit(X, y)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_recorded_training_is_the_training_to_the_last_bit(case, counted, monkeypatch):
    X, y = rows(case)
    clf = NoPropClassifier(**(SMALL | case)).fit(X, y)
    assert len(counted) == 2
    other = unrecorded(NoPropClassifier(**(SMALL | case)), X, y, monkeypatch)
    assert len(counted) == 2
    tolerance = {"rtol": 1e-6, "atol": 1e-8} if "image_shape" in case else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(learnt(clf), learnt(other), **tolerance)


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
def test_two_fits_agree_to_the_last_bit(variant, counted):
    X, y = toy_data(40)
    first, second = (NoPropClassifier(**SMALL | {"variant": variant}).fit(X, y) for _ in range(2))
    torch.testing.assert_close(learnt(first), learnt(second), rtol=0, atol=0)
    assert len(counted) == 4


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_predictions_are_those_of_the_cpu(case):
    X, y = rows(case)
    for inference in ("kernel", "trajectory"):
        clf = NoPropClassifier(**(SMALL | case), inference=inference).fit(X, y)
        here = clf.predict_proba(X)
        clf.blocks_.to("cpu")
        atol = 1e-2 if case.get("dtype") == "bfloat16" else 1e-4
        np.testing.assert_allclose(here, clf.predict_proba(X), atol=atol)


def test_a_step_is_the_cpus_in_double_precision():
    """Only noise differs between devices: without it and with one batch, so does nothing else."""
    from tests.test_dense import setting

    model, batches = setting("fm", 80, hidden_layer_sizes=(6, 5), dropout=0.0)
    batch = next(iter(batches))
    from sknoprop.training.autograd import AutogradStep
    from sknoprop.training.dense import DenseStep

    steps = [kind(model, model.scale()) for kind in (AutogradStep, DenseStep)]
    taken = [recorded._changed(step.take(batch), lambda t: t.cuda()) for step in steps]
    steps[0].backward(steps[0].take(batch))
    expected = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    model.cuda()
    for kind, there in zip((AutogradStep, DenseStep), taken, strict=True):
        model.zero_grad()
        kind(model, model.scale()).backward(there)
        grads = [p.grad.cpu() for p in model.parameters() if p.grad is not None]
        torch.testing.assert_close(grads, expected, rtol=1e-9, atol=1e-12)


def test_callbacks_that_look_at_steps_see_each(counted):
    class Norms(Callback):
        seen = 0

        def on_grad_computed(self, net, named_parameters, **kwargs):
            Norms.seen += sum(p.grad is not None for _, p in named_parameters) > 0

    X, y = toy_data(40)
    NoPropClassifier(**SMALL, callbacks=[Norms()]).fit(X, y)
    assert Norms.seen == 18
    assert not counted


def test_a_model_that_is_changed_between_epochs_is_recorded_anew(counted, monkeypatch):
    class Half(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.module_.encoder.dropout.p = net.module_.head.dropout.p = 0.5

    X, y = toy_data(40)
    clf = NoPropClassifier(**SMALL, callbacks=[Half()]).fit(X, y)
    assert len(counted) == 4
    other = unrecorded(NoPropClassifier(**SMALL, callbacks=[Half()]), X, y, monkeypatch)
    torch.testing.assert_close(learnt(clf), learnt(other), rtol=0, atol=0)


def test_training_goes_on_where_it_was(counted):
    X, y = toy_data(40)
    params = SMALL | {"learning_rate": "constant", "n_iter_no_change": None, "dropout": 0.0}
    own = [
        NoPropClassifier(**params, warm_start=True).set_params(max_iter=n).fit(X, y) for n in (2, 2)
    ]
    first = learnt(own[0])
    again = learnt(own[0].fit(X, y))
    torch.testing.assert_close(first, learnt(own[1]), rtol=0, atol=0)
    assert not all(torch.equal(first[name], again[name]) for name in first)
    assert own[0].score(X, y) >= own[1].score(X, y) - 0.1


def test_workers_agree_with_one_process():
    X, y = toy_data(40)
    one = NoPropClassifier(**SMALL | {"dtype": "float64"}).fit(X, y)
    two = NoPropClassifier(**SMALL | {"dtype": "float64"}, n_jobs=2).fit(X, y)
    np.testing.assert_allclose(one.predict_proba(X), two.predict_proba(X), atol=1e-6)


def test_global_generators_are_left_alone(counted):
    X, y = toy_data(40)
    before = torch.cuda.get_rng_state(), torch.get_rng_state()
    NoPropClassifier(**SMALL).fit(X, y).predict_proba(X)
    assert torch.equal(torch.cuda.get_rng_state(), before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


def test_validation_stopping_and_weights(counted, monkeypatch):
    X, y = toy_data(80)
    weight = np.linspace(0.5, 2.0, 80)
    params = SMALL | {"early_stopping": True, "max_iter": 8}
    clf = NoPropClassifier(**params).fit(X, y, sample_weight=weight)
    with monkeypatch.context() as patch:
        patch.setattr(net.RecordedStep, "takes", staticmethod(lambda *_: False))
        other = NoPropClassifier(**params).fit(X, y, sample_weight=weight)
    assert counted
    torch.testing.assert_close(learnt(clf), learnt(other), rtol=0, atol=0)


def test_too_much_memory_is_said_or_halved():
    X, y = toy_data(40)
    clf = NoPropClassifier(**SMALL).fit(X, y)
    expected = clf.predict_proba(np.repeat(X, 1000, 0))
    _, total = torch.cuda.mem_get_info()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2**26 / total)
    try:
        with pytest.raises(MemoryError, match="batch_size"):
            NoPropClassifier(**SMALL | {"hidden_layer_sizes": (2048, 2048)}).fit(X, y)
        with warnings.catch_warnings():  # that half as many rows are tried
            warnings.simplefilter("ignore", RuntimeWarning)
            found = clf.predict_proba(np.repeat(X, 1000, 0))
        np.testing.assert_allclose(found, expected, atol=1e-6)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_rows_prediction_depends_on_no_other():
    X, y = toy_data(40)
    clf = NoPropClassifier(**SMALL).fit(X, y)
    many = np.repeat(X, 1000, 0)
    p = clf.predict_proba(many)
    np.testing.assert_array_equal(clf.predict_proba(many[::-1])[::-1], p)
    np.testing.assert_array_equal(clf.predict_proba(X[:1]), p[:1])


def test_more_rows_are_predicted_at_once_than_on_a_cpu():
    X, y = toy_data(40)
    model = NoPropClassifier(**SMALL).fit(X, y).blocks_
    here = rows_at_once(model, 2)
    assert here > 4 * rows_at_once(model.cpu(), 2)


@pytest.mark.parametrize("sampler", [*SAMPLERS])
@pytest.mark.parametrize("variant", ["ct", "fm"])
def test_no_step_of_a_trajectory_is_waited_for(variant, sampler):
    X, y = toy_data(40)
    clf = NoPropClassifier(**SMALL | {"variant": variant}).fit(X, y)
    model = clf.blocks_
    times = sampling_times(model, 6)
    noise = torch.randn(7, 2, model.embedding.dim, device="cuda")
    with torch.no_grad():
        rows = model.encoder.prepare(torch.tensor(X, dtype=torch.float32, device="cuda"))
        features = model.encoder(rows)
        along = features, SAMPLERS[sampler](), times, noise
        expected = list(trajectory_probabilities(model, *along))
        stages = trajectory_probabilities(model, *along)
        found = [next(stages)]  # what is prepared for all steps may be waited for
        with warnings.catch_warnings():  # that it is a prototype
            warnings.simplefilter("ignore", UserWarning)
            torch.cuda.set_sync_debug_mode("error")
        try:
            found += stages
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_nothing_of_the_steps_is_kept(counted):
    X, y = toy_data(40)
    params = SMALL | {"hidden_layer_sizes": (256, 256)}
    NoPropClassifier(**params).fit(X, y)
    gc.disable()
    try:
        before = torch.cuda.memory_reserved()
        for _ in range(3):
            NoPropClassifier(**params).fit(X, y)
            torch.cuda.empty_cache()
        assert torch.cuda.memory_reserved() <= before
    finally:
        gc.enable()


def test_fits_in_threads_record_one_at_a_time(counted):
    X, y = toy_data(40)
    alone = learnt(NoPropClassifier(**SMALL).fit(X, y))
    fits = Parallel(4, backend="threading")(
        delayed(NoPropClassifier(**SMALL).fit)(X, y) for _ in range(8)
    )
    for clf in fits:
        torch.testing.assert_close(learnt(clf), alone, rtol=0, atol=0)
