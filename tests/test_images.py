"""Images through the estimator."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sknoprop import NoPropClassifier, paper_parameters
from sknoprop.networks import CustomPath, PaperHead
from tests.models import toy_draws

#: Training that moves nothing.
STILL = {"max_iter": 1, "learning_rate_init": 1e-12}

SMALL = {"n_blocks": 2, "hidden_layer_sizes": (8,), "max_iter": 2, "random_state": 0}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (16 * X[:90].reshape(-1, 1, 8, 8)).clip(0, 255).astype(np.uint8), y[:90]


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
@pytest.mark.parametrize("encoder", ["cnn", "resnet", "mlp"])
def test_images_are_fitted_and_predicted(variant, encoder, digits):
    X, y = digits
    clf = NoPropClassifier(variant, encoder=encoder, **SMALL).fit(X, y)
    assert clf.image_shape_ == (1, 8, 8)
    assert clf.n_features_in_ == 64
    p = clf.predict_proba(X)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(clf.predict_proba(X[::-1][:7]), p[::-1][:7])
    flat = NoPropClassifier(variant, encoder=encoder, image_shape=(1, 8, 8), **SMALL)
    np.testing.assert_array_equal(flat.fit(X.reshape(90, 64), y).predict_proba(X), p)
    floats = NoPropClassifier(variant, encoder=encoder, **SMALL).fit(X.astype(float), y)
    np.testing.assert_allclose(floats.predict_proba(X.astype(float)), p, atol=1e-4)
    np.testing.assert_allclose(clf.predict_proba(X.astype(float)), p, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["cnn", "resnet"])
def test_digits_are_learnt_as_images(encoder):
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 1, 8, 8)
    # After five epochs it depends on the seed, and on how a processor rounds.
    clf = NoPropClassifier("fm", n_blocks=2, encoder=encoder, max_iter=8, random_state=0)
    assert clf.fit(X[:1200], y[:1200]).score(X[1200:], y[1200:]) > 0.93


def test_transformers_may_come_before_flat_images(digits):
    X, y = digits
    clf = NoPropClassifier(image_shape=(1, 8, 8), **SMALL)
    pipeline = make_pipeline(StandardScaler(), clf).fit(X.reshape(90, 64).astype(float), y)
    assert pipeline[-1].image_shape_ == (1, 8, 8)
    assert pipeline.predict(X.reshape(90, 64).astype(float)).shape == (90,)


@pytest.mark.parametrize(
    ("X", "params", "message"),
    [
        (np.zeros((4, 8, 8)), {}, r"Got \(4, 8, 8\).*X\[:, None\]"),
        (np.zeros((4, 10)), {"encoder": "cnn"}, "encoder='cnn' .* needs images"),
        (np.zeros((4, 10)), {"image_shape": (1, 3, 3)}, r"'image_shape' .* 10 pixels"),
        (np.zeros((4, 1, 3, 3)), {"image_shape": (1, 3, 4)}, r"= \(1, 3, 4\). Got \(1, 3, 3\)"),
        (np.zeros((4, 1, 3, 3)), {}, "at least 4 x 4"),
        (np.zeros((4, 10)), {"image_shape": (10,)}, "'image_shape' .* three positive ints"),
        (np.zeros((4, 10)), {"image_shape": (1, 2, 5.0)}, "'image_shape' .* three positive ints"),
        (
            np.zeros((4, 10)),
            {"encoder": "vgg"},
            "'encoder' parameter .* 'cnn', 'mlp', 'resnet', 'resnet-wide'",
        ),
        (np.zeros((4, 10)), {"augmentation": abs}, "'augmentation' .* Got rows of numbers"),
        (np.full((4, 1, 4, 4), np.nan), {}, "contains NaN"),
        (np.zeros((0, 1, 4, 4)), {}, "0 sample"),
    ],
)
def test_what_is_wrong_with_images_is_named(X, params, message):
    with pytest.raises(ValueError, match=message):
        NoPropClassifier(**(SMALL | params)).fit(X, np.arange(len(X)) % 2)


def test_images_of_another_shape_are_refused_in_prediction(digits):
    X, y = digits
    clf = NoPropClassifier(**SMALL).fit(X, y)
    with pytest.raises(ValueError, match=r"= \(1, 8, 8\). Got \(1, 4, 16\)"):
        clf.predict(X.reshape(-1, 1, 4, 16))
    rows = NoPropClassifier(**SMALL).fit(X.reshape(90, 64), y)
    with pytest.raises(ValueError, match=r"fitted on rows of numbers\. Got X with images"):
        rows.predict(X)


@pytest.mark.parametrize("encoder", ["cnn", "resnet"])
def test_image_models_are_kept(encoder, digits, tmp_path):
    X, y = digits
    clf = NoPropClassifier(encoder=encoder, **SMALL).fit(X, y)
    clf.save(tmp_path / "model")
    for again in (NoPropClassifier.load(tmp_path / "model"), pickle.loads(pickle.dumps(clf))):
        assert again.image_shape_ == (1, 8, 8)
        np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    assert isinstance(clf.__getstate__()["blocks_"], dict), "no object of torch's in a pickle"


@pytest.mark.slow
def test_images_train_in_workers_alike(digits):
    X, y = digits
    options = SMALL | {"encoder": "cnn", "early_stopping": True}
    together = NoPropClassifier(**options).fit(X, y)
    apart = NoPropClassifier(**options, n_jobs=2).fit(X, y)
    np.testing.assert_allclose(apart.predict_proba(X), together.predict_proba(X), atol=1e-4)


def test_more_blocks_and_parts_of_images(digits):
    X, y = digits
    clf = NoPropClassifier("fm", **SMALL, warm_start=True).fit(X, y)
    before = clf.blocks_.encoder.path.layers[0].weight.clone()
    clf.set_params(n_blocks=4, learning_rate_init=1e-12).fit(X, y)
    grown = clf.blocks_.encoder.path.layers[0].weight
    torch.testing.assert_close(grown, before.repeat_interleave(2, 0), rtol=0, atol=1e-9)
    assert clf.predict_proba(X).shape == (90, 10)
    stream = NoPropClassifier(**SMALL)
    for part in (slice(0, 45), slice(45, 90)):
        stream.partial_fit(X[part], y[part], classes=np.unique(y))
    assert stream.image_shape_ == (1, 8, 8)


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
def test_prototypes_are_images_and_take_a_path_of_their_own(variant, digits):
    X, y = digits
    options = paper_parameters(variant) | SMALL | {"n_steps": None}
    clf = NoPropClassifier(**(options | {"embedding": "prototype", "encoder": "cnn"})).fit(X, y)
    assert clf.embedding_.shape == (10, 64)
    head = clf.blocks_.head
    assert isinstance(head, PaperHead)
    assert head.latent_path.image_shape == (1, 8, 8)
    assert clf.predict_proba(X).shape == (90, 10)
    # What the path computes for a latent does not depend on what it is computed with.
    z = torch.randn(clf.n_blocks, 1, 5, 64, generator=torch.Generator().manual_seed(0))
    features = clf.blocks_.encoder(clf.blocks_.encoder.prepare(torch.as_tensor(X.reshape(90, 64))))
    position = None if variant == "dt" else torch.full((clf.n_blocks, 1, 1), 0.5)
    all_five = head(features, z, position)
    torch.testing.assert_close(head(features, z[:, :, 2:3], position), all_five[:, :, 2:3])


def test_prototypes_of_images_are_training_images(digits):
    X, y = digits
    clf = NoPropClassifier(**(SMALL | {"learning_rate_init": 1e-12}), embedding="prototype")
    clf.fit(X, y)
    rows = X.reshape(90, 64).astype(float)
    standard = (rows - rows.mean()) / rows.std()
    for label in range(10):
        distances = np.abs(standard[y == label] - clf.embedding_[label]).max(axis=1)
        assert distances.min() < 1e-5


class Tiny(nn.Module):
    """A network with all that can go wrong: dropout, running moments, lazy sizes, a frozen part."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, bias=False)  # what comes next would centre it away
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.out = nn.LazyLinear(6)
        self.gain = nn.Parameter(torch.full((6,), 2.0), requires_grad=False)

    def forward(self, x):
        return self.gain * self.out(self.drop(self.norm(self.conv(x)).relu().flatten(1)))


def test_a_factory_gives_each_block_values_of_its_own_and_the_seed_decides(digits):
    X, y = digits
    before = torch.get_rng_state()
    clf = NoPropClassifier(encoder=Tiny, **SMALL).fit(X, y)
    assert torch.equal(before, torch.get_rng_state())
    path = clf.blocks_.encoder.path
    assert isinstance(path, CustomPath)
    weight = dict(path.named_parameters())["net/conv/weight"]
    assert weight.shape == (2, 4, 1, 3, 3)
    assert not torch.equal(weight[0], weight[1])
    # A block's generator gives each layer numbers of its own.
    frozen = NoPropClassifier(encoder=Tiny, **(SMALL | STILL)).fit(X, y).blocks_.encoder
    theirs = dict(frozen.path.named_parameters())["net/out/weight"][0].flatten()[:48]
    ours = frozen.layers[0].weight[0].flatten()
    assert len(ours) == len(theirs)
    assert abs(np.corrcoef(theirs, ours)[0, 1]) < 0.5
    buffers = dict(path.named_buffers())
    assert buffers["net/norm/num_batches_tracked"].tolist() == [4, 4]
    assert (buffers["net/gain"] == 2.0).all(), "what the user froze stays"
    again = NoPropClassifier(encoder=Tiny, **SMALL).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    np.testing.assert_array_equal(clf.predict_proba(X[5:8]), clf.predict_proba(X)[5:8])
    apart = NoPropClassifier(encoder=Tiny, n_jobs=2, **SMALL)
    np.testing.assert_allclose(apart.fit(X, y).predict_proba(X), clf.predict_proba(X), atol=1e-4)


def test_a_network_is_copied_for_each_block_and_left_alone(digits):
    X, y = digits
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh())
    kept = network[1].weight.detach().clone()
    clf = NoPropClassifier(encoder=network, **SMALL).fit(X, y)
    assert torch.equal(network[1].weight, kept)
    weight = dict(clf.blocks_.encoder.path.named_parameters())["net/1/weight"]
    assert not torch.equal(weight[0], weight[1]), "trained apart"
    still = NoPropClassifier(encoder=network, **(SMALL | STILL)).fit(X, y).blocks_.encoder.path
    for own in dict(still.named_parameters())["net/1/weight"]:
        torch.testing.assert_close(own, kept, rtol=0, atol=1e-9)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    with pytest.raises(ValueError, match="cannot be saved in the safe format"):
        clf.save("nowhere")


def test_a_path_of_copies_is_the_networks_one_by_one(digits):
    X, y = digits
    clf = NoPropClassifier("fm", encoder=Tiny, **(SMALL | {"dtype": "float64"})).fit(X, y)
    model = clf.blocks_
    images = model.encoder.encoding(torch.as_tensor(X.reshape(90, 64)).double())
    features = model.encoder.path(images)
    for block in range(2):
        plain = Tiny().double().eval()
        plain(images)  # sizes
        values = {
            **dict(model.encoder.path.named_parameters()),
            **dict(model.encoder.path.named_buffers()),
        }
        plain.load_state_dict(
            {k.removeprefix("net/").replace("/", "."): v[block] for k, v in values.items()}
        )
        torch.testing.assert_close(features[block], plain(images))


@pytest.mark.parametrize("encoder", ["cnn", "resnet", Tiny])
def test_gradients_stay_in_their_block_whatever_the_encoder(encoder, digits):
    X, y = digits
    options = SMALL | {"dtype": "float64", "max_iter": 1, "learning_rate_init": 1e-12}
    model = NoPropClassifier("fm", encoder=encoder, **options).fit(X, y).blocks_
    model.unfreeze()
    inputs = model.encoder.prepare(torch.as_tensor(X.reshape(90, 64)))
    losses = model.losses(inputs, torch.as_tensor(y), toy_draws(model, 90, n_draws=1))
    parameters = list(model.encoder.parameters())
    for block in range(2):
        for grad in torch.autograd.grad(losses.blocks[block], parameters, retain_graph=True):
            assert (grad[1 - block] == 0).all()
            assert (grad[block] != 0).any()


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(64, 5)
        self.rows = 0

    def forward(self, x):
        assert not self.training
        assert x.dtype == torch.float32
        assert x.max() <= 1
        self.rows += len(x)
        return self.out(x.flatten(1))


def test_a_frozen_network_is_shared_and_computed_once(digits):
    X, y = digits
    torch.manual_seed(0)
    network = Counting().requires_grad_(False)
    clf = NoPropClassifier(encoder=network, **(SMALL | {"max_iter": 7})).fit(X, y)
    assert network.rows == 0, "the user's own is left alone"
    copied = clf.blocks_.encoder.encoding._network[0]
    assert copied.rows == 2 * 90, "measured, then prepared, however many epochs"
    assert torch.equal(copied.out.weight, network.out.weight)
    assert not any("out" in name for name in clf.blocks_.state_dict() if "encoding" in name)
    prepared = clf.blocks_.encoder.prepare(torch.as_tensor(X.reshape(90, 64)))
    assert prepared.shape == (90, 5)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    with pytest.raises(ValueError, match=r"'augmentation' .* not trained"):
        NoPropClassifier(encoder=network, augmentation=abs, **SMALL).fit(X, y)


@pytest.mark.parametrize(
    ("encoder", "error", "message"),
    [
        (nn.Identity, ValueError, "has nothing to train"),
        (lambda: 3, TypeError, "torch.nn.Module, or make one"),
        (lambda: nn.Flatten(0), ValueError, "one row of features"),
    ],
)
def test_encoders_that_do_not_fit_are_named(encoder, error, message, digits):
    X, y = digits
    with pytest.raises(error, match=message):
        NoPropClassifier(encoder=encoder, **SMALL).fit(X, y)


def test_rows_of_numbers_may_have_an_encoder_of_the_users(digits):
    X, y = digits

    def make():
        return nn.Sequential(nn.LazyLinear(6), nn.ReLU())

    clf = NoPropClassifier(encoder=make, **SMALL).fit(X.reshape(90, 64), y)
    assert clf.image_shape_ is None
    assert clf.predict(X.reshape(90, 64)).shape == (90,)


def flip(images):
    return images.flip(-1) if torch.rand(()) < 0.5 else images


def test_augmentation_is_drawn_from_the_seed(digits):
    X, y = digits
    draws = []

    def draw(images):
        draws.append(float(torch.rand(())))
        return flip(images)

    before = torch.get_rng_state()
    first, second, plain = (
        NoPropClassifier(encoder="mlp", augmentation=how, **SMALL).fit(X, y).predict_proba(X)
        for how in (draw, draw, None)
    )
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - plain).max() > 1e-3
    half = len(draws) // 2
    assert draws[:half] == draws[half:]
    assert len(set(draws[:half])) == half, "anew in each call, batch and epoch"
    NoPropClassifier(encoder="mlp", augmentation=draw, **(SMALL | {"random_state": 1})).fit(X, y)
    assert not set(draws[:half]) & set(draws[2 * half :])


def test_fits_in_threads_draw_as_they_do_alone(digits):
    X, y = digits
    options = SMALL | {"encoder": "mlp", "augmentation": flip, "max_iter": 10}
    alone = NoPropClassifier(**options).fit(X, y).predict_proba(X)
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        fits = list(pool.map(lambda _: NoPropClassifier(**options).fit(X, y), range(4)))
    assert torch.equal(before, torch.get_rng_state())
    for clf in fits:
        np.testing.assert_array_equal(clf.predict_proba(X), alone)


def test_seeding_leaves_other_devices_alone(monkeypatch, digits):
    def fail(seed):
        raise AssertionError("the generators of all CUDA devices were seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", fail)
    NoPropClassifier(encoder=Tiny, augmentation=flip, **SMALL).fit(*digits)


def test_a_partial_makes_networks_and_training_goes_on(digits):
    X, y = digits
    make = partial(nn.Sequential, nn.Flatten(), nn.LazyLinear(6), nn.ReLU())
    clf = NoPropClassifier(encoder=make, **SMALL)
    for _ in range(2):
        clf.partial_fit(X, y, classes=np.unique(y))
    assert clf.n_iter_ == 2


def test_augmentation_sees_bytes_of_eight_images_at_a_time(digits):
    X, y = digits
    seen = []

    def look(images):
        seen.append((images.dtype, len(images)))
        return images

    NoPropClassifier(augmentation=look, **(SMALL | {"batch_size": 90, "max_iter": 1})).fit(X, y)
    assert {dtype for dtype, _ in seen} == {torch.uint8}
    assert [n for _, n in seen] == [8] * 11 + [2]


@pytest.mark.parametrize("change", [lambda x: x.float(), lambda x: x[..., 1:]])
def test_augmentation_keeps_shape_and_dtype(change, digits):
    with pytest.raises(ValueError, match=r"'augmentation' .* keep the shape and dtype"):
        NoPropClassifier(augmentation=change, **SMALL).fit(*digits)


@pytest.mark.slow
def test_images_go_through_scikit_learns_tools(digits):
    X, y = digits
    clf = NoPropClassifier(**(SMALL | {"max_iter": 1}))
    assert cross_val_score(clf, X, y, cv=2, error_score="raise").shape == (2,)
    search = GridSearchCV(clf, {"encoder": ["cnn", "mlp"]}, cv=2, error_score="raise")
    assert search.fit(X, y).predict(X[:3]).shape == (3,)
