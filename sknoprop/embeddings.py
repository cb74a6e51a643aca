"""Class embeddings: the points that labels are noised from and denoised to.

An embedding is a matrix ``W`` of shape ``(n_classes, embedding_dim)``; the embedding of label
``y`` is its row ``u = W[y]``. One-hot rows and a matrix of the user's stay fixed. A learned or
prototype embedding is trained with the blocks, which then share it: their gradients meet in
``W`` and nowhere else.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = [
    "EMBEDDINGS",
    "ClassEmbedding",
    "class_medoids",
    "fixed_embedding",
    "learned_embedding",
    "one_hot_embedding",
    "prototype_embedding",
]

#: Names a user may give for an embedding.
EMBEDDINGS = ("one-hot", "learned", "prototype")


class ClassEmbedding(nn.Module):
    """The matrix of class embeddings.

    Parameters
    ----------
    weight : Tensor of shape (n_classes, embedding_dim)
        Initial matrix.
    trainable : bool
        Whether training moves it.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.embeddings import ClassEmbedding
    >>> embedding = ClassEmbedding(torch.tensor([[0.0, 1.0], [2.0, 0.0]]), trainable=False)
    >>> embedding(torch.tensor([1, 0, 1]))
    tensor([[2., 0.],
            [0., 1.],
            [2., 0.]])
    """

    weight: Tensor

    def __init__(self, weight: Tensor, trainable: bool) -> None:
        super().__init__()
        self.trainable = trainable
        if trainable:
            self.weight = nn.Parameter(weight.clone())
        else:
            self.register_buffer("weight", weight.clone())

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self.weight.shape[0]

    @property
    def dim(self) -> int:
        """Dimension of the embeddings."""
        return self.weight.shape[1]

    def forward(self, y: Tensor) -> Tensor:
        """Embeddings of labels.

        Parameters
        ----------
        y : Tensor of shape (...), int64
            Labels 0 to ``n_classes - 1``.

        Returns
        -------
        Tensor of shape (..., embedding_dim)
        """
        if self.trainable:  # of plain indexing the gradient is the same each time, on a GPU too
            return self.weight[y]
        return self.weight.index_select(0, y.flatten()).view(*y.shape, self.dim)

    def extra_repr(self) -> str:
        return f"n_classes={self.n_classes}, dim={self.dim}, trainable={self.trainable}"


def one_hot_embedding(n_classes: int) -> ClassEmbedding:
    """The identity matrix, fixed.

    Parameters
    ----------
    n_classes : int

    Returns
    -------
    ClassEmbedding
        Of dimension `n_classes`.

    Examples
    --------
    >>> from sknoprop.embeddings import one_hot_embedding
    >>> one_hot_embedding(3)
    ClassEmbedding(n_classes=3, dim=3, trainable=False)
    """
    return ClassEmbedding(torch.eye(n_classes, dtype=torch.float32), trainable=False)


def fixed_embedding(weight: Tensor) -> ClassEmbedding:
    """A matrix of the user's, fixed.

    Parameters
    ----------
    weight : Tensor of shape (n_classes, embedding_dim)
        It is copied.

    Returns
    -------
    ClassEmbedding

    Examples
    --------
    >>> import torch
    >>> from sknoprop.embeddings import fixed_embedding
    >>> fixed_embedding(torch.tensor([[-1.0], [0.0], [1.0]]))
    ClassEmbedding(n_classes=3, dim=1, trainable=False)
    """
    return ClassEmbedding(weight, trainable=False)


def learned_embedding(n_classes: int, dim: int, generator: torch.Generator) -> ClassEmbedding:
    """Unit rows, mutually orthogonal where ``dim >= n_classes``, trained with the blocks.

    With fewer dimensions than classes no orthogonal rows exist; they then are independent
    random directions (as in the paper: orthogonal where possible, else random).

    Parameters
    ----------
    n_classes : int
    dim : int
        Dimension of the embeddings. In one dimension rows are Gaussian numbers, not unit ones.
    generator : torch.Generator
        Rows are drawn from it.

    Returns
    -------
    ClassEmbedding

    Examples
    --------
    >>> import torch
    >>> from sknoprop.embeddings import learned_embedding
    >>> embedding = learned_embedding(3, 20, torch.Generator().manual_seed(0))
    >>> products = embedding.weight @ embedding.weight.T
    >>> embedding.trainable, torch.allclose(products, torch.eye(3), atol=1e-5)
    (True, True)
    """
    rows = torch.randn(n_classes, dim, generator=generator, dtype=torch.float32)
    if dim >= n_classes:
        # The rows of a Gaussian matrix made orthogonal; signs fixed so that the result is
        # uniform over orthogonal frames (Mezzadri 2007, arXiv:math-ph/0609050).
        q, r = torch.linalg.qr(rows.T)
        rows = (q * r.diagonal().sign()).T
    elif dim > 1:  # on a line, unit rows would be two points for all classes
        rows = rows / rows.norm(dim=1, keepdim=True)
    return ClassEmbedding(rows.contiguous(), trainable=True)


def prototype_embedding(x: Tensor, y: Tensor, n_classes: int) -> ClassEmbedding:
    """One training example a class, its most central one, trained with the blocks.

    Parameters
    ----------
    x : Tensor of shape (n_samples, n_inputs)
        Inputs as the encoder sees them, flattened.
    y : Tensor of shape (n_samples,)
        Labels 0 to ``n_classes - 1``, each at least once.
    n_classes : int

    Returns
    -------
    ClassEmbedding
        Of dimension `n_inputs`; which examples it starts with is said by `class_medoids`.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.embeddings import prototype_embedding
    >>> x = torch.tensor([[0.0], [1.0], [5.0], [3.0], [4.0], [9.0]])
    >>> y = torch.tensor([0, 0, 0, 1, 1, 1])
    >>> prototype_embedding(x, y, n_classes=2).weight.tolist()
    [[1.0], [4.0]]
    """
    return ClassEmbedding(x[class_medoids(x, y, n_classes)], trainable=True)


def class_medoids(x: Tensor, y: Tensor, n_classes: int, chunk_size: int = 1024) -> Tensor:
    """Row of each class with the smallest median distance to the others of its class.

    Parameters
    ----------
    x : Tensor of shape (n_samples, n_inputs)
    y : Tensor of shape (n_samples,)
        Labels 0 to ``n_classes - 1``, each at least once.
    n_classes : int
    chunk_size : int, default=1024
        Rows whose distances are held at once; bounds the memory, not the result.

    Returns
    -------
    Tensor of shape (n_classes,)
        Indices into `x`; the first row wins a tie.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.embeddings import class_medoids
    >>> x = torch.tensor([[0.0], [1.0], [5.0], [3.0], [4.0], [9.0]])
    >>> class_medoids(x, torch.tensor([0, 0, 0, 1, 1, 1]), n_classes=2)
    tensor([1, 4])
    """
    chosen = []
    for label in range(n_classes):
        rows = (y == label).nonzero().squeeze(1)
        members = x[rows]
        if len(rows) == 1:
            chosen.append(rows[0])
            continue
        medians = []
        for start in range(0, len(rows), chunk_size):
            distances = torch.cdist(members[start : start + chunk_size], members)
            # A row's distance to itself does not count: at infinity it leaves the ranks of the
            # other n - 1 as they are. Their median is the mean of the two middle ones.
            index = torch.arange(len(distances))
            distances[index, start + index] = torch.inf
            middle = [
                distances.kthvalue(rank, dim=1).values
                for rank in (len(rows) // 2, (len(rows) + 1) // 2)
            ]
            medians.append(0.5 * (middle[0] + middle[1]))
        chosen.append(rows[torch.cat(medians).argmin()])
    return torch.stack(chosen)
