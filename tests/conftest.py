"""What holds for all tests."""

import os

# Before scipy is imported: scikit-learn's check of array API input is skipped without it.
os.environ["SCIPY_ARRAY_API"] = "1"

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import train_test_split

# Tests run beside each other; one thread each.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split(X / 16, y, test_size=450, stratify=y, random_state=0)


@pytest.fixture(scope="session")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture
def closed_figures():
    """Leave no figure behind."""
    from tests.figures import plt

    yield
    plt.close("all")


@pytest.fixture
def untouched_generators():
    """Fail if a test moves numpy's or torch's global generator."""
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    yield
    assert np.array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())
