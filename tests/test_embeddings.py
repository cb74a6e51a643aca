"""Class embeddings."""

import numpy as np
import torch
from sklearn.datasets import load_iris

from sknoprop.embeddings import (
    class_medoids,
    fixed_embedding,
    learned_embedding,
    one_hot_embedding,
    prototype_embedding,
)


def generator():
    return torch.Generator().manual_seed(0)


def test_one_hot_is_the_identity_and_fixed():
    embedding = one_hot_embedding(3)
    torch.testing.assert_close(embedding(torch.tensor([2, 0])), torch.eye(3)[[2, 0]])
    assert not list(embedding.parameters())
    assert repr(embedding) == "ClassEmbedding(n_classes=3, dim=3, trainable=False)"


def test_fixed_is_what_was_given():
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    embedding = fixed_embedding(weight)
    torch.testing.assert_close(embedding.weight, weight)
    weight[0, 0] = 9.0
    assert float(embedding.weight[0, 0]) == 1.0, "a copy"
    assert not list(embedding.parameters())


def test_learned_rows_are_orthonormal_where_they_can_be():
    weight = learned_embedding(5, 8, generator()).weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(5), atol=1e-6, rtol=0)
    assert weight.requires_grad


def test_learned_rows_are_unit_where_they_cannot_be_orthogonal():
    weight = learned_embedding(9, 4, generator()).weight
    torch.testing.assert_close(weight.norm(dim=1), torch.ones(9))


def test_medoids_by_brute_force():
    X, y = load_iris(return_X_y=True)
    found = class_medoids(torch.tensor(X), torch.tensor(y), 3, chunk_size=7)
    for label, row in enumerate(found.tolist()):
        members = np.flatnonzero(y == label)
        medians = []
        for i in members:
            others = [np.linalg.norm(X[i] - X[j]) for j in members if j != i]
            medians.append(np.median(others))
        best = members[np.argmin(medians)]
        assert np.isclose(medians[list(members).index(row)], min(medians)), (row, best)


def test_single_member_is_its_own_medoid():
    x = torch.tensor([[0.0], [5.0], [6.0], [9.0]])
    assert class_medoids(x, torch.tensor([1, 0, 0, 0]), 2).tolist() == [2, 0]


def test_prototypes_are_training_rows_and_trained():
    X, y = load_iris(return_X_y=True)
    x = torch.tensor(X, dtype=torch.float32)
    weight = prototype_embedding(x, torch.tensor(y), 3).weight
    assert weight.requires_grad
    for row in weight:
        assert (x == row).all(1).any()


def test_learned_rows_on_a_line_are_distinct():
    assert len(learned_embedding(9, 1, generator()).weight.unique()) == 9
