"""What "auto" stands for."""

import pytest
import torch

from sknoprop import NoPropClassifier
from sknoprop.defaults import fill_in


def filled(n_samples, n_classes=2, **params):
    return fill_in(NoPropClassifier(**params).get_params(), n_samples, n_classes)


@pytest.mark.parametrize(
    ("n", "sizes", "batch_norm", "dropout", "decay", "batch_size", "max_iter"),
    [
        (40, (128,), False, 0.35, 1.0, 64, 150),
        (300, (128,), False, 0.35, 1 / 3, 64, 30),
        (1_000, (128,), False, 0.35, 0.1, 64, 30),
        (1_001, (128, 128), True, 0.2, 100 / 1_001, 64, 50),
        (6_400, (128, 128), True, 0.2, 100 / 6_400, 200, 44),
        (1_000_000, (128, 128), True, 0.2, 0.0001, 256, 17),
    ],
)
def test_by_the_number_of_rows(n, sizes, batch_norm, dropout, decay, batch_size, max_iter):
    found = filled(n)
    assert found["hidden_layer_sizes"] == sizes
    assert found["batch_norm"] is batch_norm
    assert found["dropout"] == dropout
    assert found["weight_decay"] == pytest.approx(decay)
    assert found["batch_size"] == batch_size
    assert found["max_iter"] == max_iter


def test_more_than_two_classes_want_a_second_layer():
    found = filled(300, n_classes=3)
    assert found["hidden_layer_sizes"] == (128, 128)
    assert found["batch_norm"] is True
    assert found["dropout"] == 0.35
    assert found["max_iter"] == 50


@pytest.mark.parametrize(
    ("shape", "head", "encoder", "max_iter"),
    [
        (None, "light", "mlp", 50),
        ((3, 8, 8), "light", "resnet", 20),
        ((3, 8, 8), "paper", "cnn", 20),
    ],
)
def test_images_have_an_encoder_of_their_own(shape, head, encoder, max_iter):
    found = filled(5_000, n_classes=10, image_shape=shape, head=head)
    assert found["encoder"] == encoder
    assert found["max_iter"] == max_iter
    assert filled(5_000, image_shape=shape, encoder=torch.nn.Flatten)["encoder"] is torch.nn.Flatten


def test_what_is_given_stays():
    given = {
        "hidden_layer_sizes": 7,
        "batch_norm": True,
        "dropout": 0.0,
        "weight_decay": 0.0,
        "batch_size": 3,
        "max_iter": 2,
    }
    found = filled(5_000, **given)
    assert found["hidden_layer_sizes"] == (7,)
    assert {k: found[k] for k in given if k != "hidden_layer_sizes"} == {
        k: v for k, v in given.items() if k != "hidden_layer_sizes"
    }
    assert filled(200, hidden_layer_sizes=[9, 9])["batch_norm"] is True
    assert filled(200, optimizer=torch.optim.AdamW)["weight_decay"] == 0.5
    assert filled(200, optimizer="sgd")["weight_decay"] == 1e-3
    assert filled(200, learning_rate="constant")["max_iter"] == 200
    assert filled(200, batch_size=200)["max_iter"] == 150
