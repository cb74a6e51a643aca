"""Data sets of images: arrays of them, and images loaded when they are needed."""

import struct

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score

from sknoprop import NoPropClassifier
from sknoprop.datasets import LazyImages, load_torchvision

SMALL = {"n_blocks": 2, "hidden_layer_sizes": (8,), "max_iter": 2, "random_state": 0}


class Digits(torch.utils.data.Dataset):
    """Digits as arrays ``(height, width)``, with a count of what was looked at."""

    def __init__(self, n=60, transform=None):
        X, y = load_digits(return_X_y=True)
        self.images = (15 * X[:n].reshape(-1, 8, 8)).astype(np.uint8)
        self.labels = y[:n]
        self.transform = transform
        self.seen = []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        self.seen.append(i)
        image = self.images[i]
        return (image if self.transform is None else self.transform(image)), int(self.labels[i])


@pytest.fixture
def arrays():
    dataset = Digits()
    return dataset.images[:, None], dataset.labels


@pytest.mark.parametrize("load", [lambda d: LazyImages(d).targets, load_torchvision])
def test_images_without_labels_are_named(load):
    """And no row of the image is taken for one."""
    with pytest.raises(ValueError, match=r"an image and its label.*image alone"):
        load([np.zeros((8, 8), np.uint8)] * 2)


class ManyTargets(torch.utils.data.Dataset):
    """As QMNIST: what it stores has more in a row than the label that an item has."""

    targets = torch.arange(24).reshape(3, 8)

    def __init__(self):
        self.reads = []

    def __len__(self):
        return 3

    def __getitem__(self, i):
        self.reads.append(i)
        return np.full((8, 8), i, np.uint8), 5 + i


def test_labels_are_those_of_the_items():
    np.testing.assert_array_equal(LazyImages(ManyTargets()).targets, [5, 6, 7])
    dataset = ManyTargets()
    X, y = load_torchvision(dataset, return_X_y=True)
    np.testing.assert_array_equal(y, [5, 6, 7])
    np.testing.assert_array_equal(X[:, 0, 0, 0], [0, 1, 2])
    assert sorted(dataset.reads) == [0, 0, 1, 2], "once each, and a look at the first"
    assert load_torchvision(dataset)["DESCR"] == "ManyTargets of images"


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (ManyTargets, "a length, and an item at least. Got <class"),
        (3, "a length.*Got int"),
        ([], "an item at least. Got list"),
        ([({"a": 1}, 0)], "An image must be .*Got dict of shape"),
        ([(None, 0)], "An image must be .*Got NoneType"),
        ([(torch.zeros(1, 8, 8, dtype=torch.bfloat16), 0)], "dtype torch.bfloat16"),
        ([(np.zeros((2, 2, 2, 2), np.uint8), 0)], r"of shape \(2, 2, 2, 2\)"),
    ],
)
def test_what_is_no_data_set_of_images_is_named(dataset, message):
    with pytest.raises(ValueError, match=message):
        load_torchvision(dataset)


def test_a_data_set_is_no_array():
    with pytest.raises(TypeError, match=r"ManyTargets: wrap it in sknoprop\.datasets\.LazyImages"):
        NoPropClassifier().fit(ManyTargets(), [0, 1, 2])


def test_channels_that_come_last_are_guessed():
    with pytest.raises(ValueError, match="channels first if they are last"):
        NoPropClassifier(encoder="cnn").fit(np.zeros((4, 32, 32, 3), np.uint8), [0, 1, 0, 1])


def test_a_data_set_becomes_arrays(arrays):
    X, y = load_torchvision(Digits(), return_X_y=True)
    np.testing.assert_array_equal(X, arrays[0])
    np.testing.assert_array_equal(y, arrays[1])
    assert (X.dtype, y.dtype) == (np.uint8, np.int64)
    bunch = load_torchvision(Digits(transform=lambda image: torch.ones(3, 4, 5)))
    assert bunch.data.shape == (60, 3, 4, 5)
    assert bunch.data.dtype == np.float32
    assert bunch.target_names is None


def test_lazy_images_are_fitted_as_arrays_are(arrays):
    X, y = LazyImages(Digits()), arrays[1]
    np.testing.assert_array_equal(X.targets, y)
    for options in ({}, {"early_stopping": True}, {"embedding": "prototype"}):
        options = SMALL | options
        expected = NoPropClassifier(**options).fit(*arrays).predict_proba(arrays[0])
        clf = NoPropClassifier(**options).fit(X, y)
        np.testing.assert_array_equal(clf.predict_proba(X), expected)
        np.testing.assert_array_equal(clf.predict_proba(arrays[0]), expected)
    weights = np.arange(60) % 3
    expected = NoPropClassifier(**SMALL).fit(*arrays, sample_weight=weights)
    clf = NoPropClassifier(**SMALL).fit(X, y, sample_weight=weights)
    np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(X))


def test_lazy_images_are_indexed_without_loading():
    dataset = Digits()
    X = LazyImages(dataset)
    dataset.seen.clear()
    some = X[np.array([5, 3, 9])][1:]
    assert some.shape == (2, 1, 8, 8)
    assert dataset.seen == []
    np.testing.assert_array_equal(np.asarray(some), dataset.images[[3, 9], None])
    assert some.targets.tolist() == dataset.labels[[3, 9]].tolist()
    assert len(X[np.arange(60) < 10]) == 10
    assert len(X[:0]) == 0


def test_lazy_images_go_through_scikit_learns_tools():
    X = LazyImages(Digits())
    clf = NoPropClassifier(**(SMALL | {"max_iter": 1}))
    assert cross_val_score(clf, X, X.targets, cv=2, error_score="raise").shape == (2,)
    search = GridSearchCV(clf, {"encoder": ["mlp", "cnn"]}, cv=2, error_score="raise")
    assert search.fit(X, X.targets).predict(X[:5]).shape == (5,)


def noted(image, draws):
    draws.append(float(torch.rand(())))
    return torch.as_tensor(image)[None].float()


def test_data_sets_of_ones_own_are_taken_item_by_item():
    class Own(Digits):
        """Channels first, and changed on the way: what lies in `data` is not what is given."""

        def __init__(self):
            super().__init__()
            self.data = np.zeros((60, 3, 8, 8), np.uint8)
            self.targets = [0] * 60
            self.target_transform = None

        def __getitem__(self, i):
            return torch.full((3, 4, 5), i, dtype=torch.uint8), i

    dataset = Own()
    X, y = load_torchvision(dataset, return_X_y=True)
    assert X.shape == (60, 3, 4, 5)
    assert (X[7] == 7).all()
    assert (y == 0).all()
    dataset.target_transform = int
    assert load_torchvision(dataset).target.tolist() == list(range(60))
    assert LazyImages(dataset)[[3, 5]].targets.tolist() == [3, 5]


def test_transforms_that_draw_are_decided_by_the_seed():
    def noisy(image):
        return torch.as_tensor(image)[None].float() + torch.randn(1, 8, 8)

    X = LazyImages(Digits(transform=noisy))
    before = torch.get_rng_state()
    fits = [NoPropClassifier(**SMALL).fit(X, X.targets) for _ in range(2)]
    for a, b in zip(fits[0].blocks_.parameters(), fits[1].blocks_.parameters(), strict=True):
        assert torch.equal(a, b)
    drawn = {}
    for seed in (0, 0, 1):
        draws = []
        again = LazyImages(Digits(transform=lambda image, d=draws: noted(image, d)))
        NoPropClassifier(**(SMALL | {"random_state": seed})).fit(again, again.targets)
        assert drawn.setdefault(seed, draws) == draws
        # Of the 2 epochs; before come looks that tell shape, labels and moments.
        assert len(set(draws[-120:])) == 120
    assert drawn[0][-120:] != drawn[1][-120:]
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(fits[0].predict_proba(X), fits[0].predict_proba(X))


def test_what_is_wrong_with_lazy_images_is_named():
    X = LazyImages(Digits())
    with pytest.raises(ValueError, match="without any"):
        NoPropClassifier(**SMALL).fit(X[:0], [])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        NoPropClassifier(**SMALL).fit(X, X.targets[1:])
    with pytest.raises(ValueError, match=r"n_jobs=2 .* LazyImages .* as an array"):
        NoPropClassifier(n_jobs=2, **SMALL).fit(X, X.targets)
    uneven = [np.zeros((8, 8), np.uint8), np.zeros((8, 9), np.uint8)]
    with pytest.raises(ValueError, match=r"one shape and dtype.* Got \(1, 8, 9\).* item 1"):
        np.asarray(LazyImages(uneven))
    with pytest.raises(ValueError, match="An image must be"):
        LazyImages([np.zeros(4)])
    infinite = [np.full((8, 8), np.inf), np.zeros((8, 8))]
    with pytest.raises(ValueError, match="must be finite"):
        NoPropClassifier(**SMALL).fit(LazyImages(infinite), [0, 1])


def write_mnist(root, n=12):
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.arange(n * 28 * 28).reshape(n, 28, 28).astype(np.uint8)
    for part in ("train", "t10k"):
        header = struct.pack(">4i", 2051, n, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        labels = (np.arange(n) % 10).astype(np.uint8)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2i", 2049, n) + labels.tobytes()
        )
    return images


@pytest.mark.parametrize("train", [True, False])
def test_mnist_is_read_by_name_where_it_lies(tmp_path, train):
    pytest.importorskip("torchvision")
    images = write_mnist(tmp_path)
    bunch = load_torchvision("MNIST", root=tmp_path, train=train)
    np.testing.assert_array_equal(bunch.data, images[:, None])
    assert bunch.data.dtype == np.uint8
    assert bunch.target.tolist() == (np.arange(12) % 10).tolist()
    assert bunch.target_names[3] == "3 - three"
    assert "MNIST" in bunch.DESCR


def test_colour_images_of_torchvisions_have_channels_first():
    datasets = pytest.importorskip("torchvision.datasets")
    colour = datasets.FakeData(size=3, image_size=(3, 6, 5), num_classes=2)
    X, y = load_torchvision(colour, return_X_y=True)
    assert X.shape == (3, 3, 6, 5)
    np.testing.assert_array_equal(X[1], np.moveaxis(np.asarray(colour[1][0]), -1, 0))
    assert set(y) <= {0, 1}


def test_augmentations_of_torchvision_fit():
    v2 = pytest.importorskip("torchvision.transforms.v2")
    X, y = load_torchvision(Digits(), return_X_y=True)
    crop = v2.Compose([v2.RandomCrop(8, padding=1), v2.RandomErasing(0.5)])
    first, second = (
        NoPropClassifier(augmentation=crop, **SMALL).fit(X, y).predict_proba(X) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_data_sets_that_are_not_there_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"one of .*'MNIST'.* Got 'mnist'"):
        load_torchvision("mnist", root=tmp_path)
    with pytest.raises(ValueError, match="needs root"):
        load_torchvision("MNIST")
    pytest.importorskip("torchvision")
    with pytest.raises(FileNotFoundError, match="download=True"):
        load_torchvision("CIFAR10", root=tmp_path)


def test_labels_that_are_arrays_of_one_are_labels():
    items = [(np.zeros((8, 8), np.uint8), np.array([i % 2])) for i in range(4)]
    assert load_torchvision(items, return_X_y=True)[1].tolist() == [0, 1, 0, 1]
