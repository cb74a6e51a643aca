"""From a block's logits to its prediction: two ways, one mathematics.

On a Gaussian path an estimate ``u_hat`` of the label embedding and an estimate ``v`` of the
velocity say the same thing. With derivatives with respect to `Schedule.clock`::

    u_hat = s v - s' z,        v = (u_hat + s' z) / s,

which on the straight line is ``u_hat = z + (1 - t) v``. What differs is which of them the
network's output *is*:

* `LabelParameterization`: probabilities ``p = softmax(logits)`` and ``u_hat = p W``, a convex
  combination of embeddings (the paper's choice for discrete and continuous time).
* `VelocityParameterization`: ``v = logits W``, any direction (its choice for flow matching).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from sknoprop.rowwise import product, softmax
from sknoprop.schedules import Schedule

__all__ = [
    "PARAMETERIZATIONS",
    "LabelParameterization",
    "Parameterization",
    "VelocityParameterization",
    "project_to_simplex",
]

#: Largest factor by which an error in the label counts as an error in velocity; it grows like
#: 1 / s(t) towards the label. The value is that at a log SNR of 8, where schedules end.
MAX_GAIN = math.exp(4.0)


def project_to_simplex(point: Tensor) -> Tensor:
    """Nearest point of the probability simplex, along the last axis (Duchi et al. 2008).

    Parameters
    ----------
    point : Tensor of shape (..., n)

    Returns
    -------
    Tensor of shape (..., n)
        Not negative, with sum one.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.parameterizations import project_to_simplex
    >>> project_to_simplex(torch.tensor([0.5, 1.0, -0.5]))
    tensor([0.2500, 0.7500, 0.0000])
    """
    point = point.contiguous()  # to sort numbers that lie apart takes twice as long
    ranked = point.sort(dim=-1, descending=True).values
    size = torch.arange(1, point.shape[-1] + 1, device=point.device, dtype=point.dtype)
    shift = (ranked.cumsum(-1) - 1.0) / size
    # The active set is the longest prefix whose smallest member stays above its shift.
    n_active = (ranked > shift).sum(-1, keepdim=True)
    return (point - shift.gather(-1, n_active - 1)).clamp_min(0.0)


class Parameterization(ABC):
    """How logits are read."""

    #: Whether logits of some classes are enough for the probabilities given that it is one of them.
    local = False

    @abstractmethod
    def label(
        self, logits: Tensor, z: Tensor, t: Tensor, weight: Tensor, schedule: Schedule
    ) -> Tensor:
        """Estimate ``u_hat`` of the label embedding.

        Parameters
        ----------
        logits : Tensor of shape (..., n_classes)
        z : Tensor of shape (..., embedding_dim)
            Latents.
        t : Tensor of shape (..., 1)
            Their times.
        weight : Tensor of shape (n_classes, embedding_dim)
            Class embeddings.
        schedule : Schedule

        Returns
        -------
        Tensor of shape (..., embedding_dim)
        """

    @abstractmethod
    def probabilities(
        self, logits: Tensor, z: Tensor, t: Tensor, weight: Tensor, schedule: Schedule
    ) -> Tensor:
        """Estimate of ``P(y | x, z)``.

        Parameters
        ----------
        logits : Tensor of shape (..., n_classes)
        z : Tensor of shape (..., embedding_dim)
            Latents.
        t : Tensor of shape (..., 1)
            Their times.
        weight : Tensor of shape (n_classes, embedding_dim)
            Class embeddings.
        schedule : Schedule

        Returns
        -------
        Tensor of shape (..., n_classes)
        """

    @abstractmethod
    def label_and_probabilities(
        self, logits: Tensor, z: Tensor, t: Tensor, weight: Tensor, schedule: Schedule
    ) -> tuple[Tensor, Tensor]:
        """What `label` and `probabilities` give, of which one is made of the other.

        Parameters
        ----------
        logits : Tensor of shape (..., n_classes)
        z : Tensor of shape (..., embedding_dim)
            Latents.
        t : Tensor of shape (..., 1) or ()
            Their times.
        weight : Tensor of shape (n_classes, embedding_dim)
            Class embeddings.
        schedule : Schedule

        Returns
        -------
        label : Tensor of shape (..., embedding_dim)
        probabilities : Tensor of shape (..., n_classes)
        """

    @abstractmethod
    def error(
        self,
        logits: Tensor,
        t: Tensor,
        weight: Tensor,
        schedule: Schedule,
        u: Tensor,
        eps: Tensor,
    ) -> Tensor:
        """Difference of what the network gives from what it should: a label or a velocity.

        The label is `u`, the path's own velocity ``m' u + s' eps``. The error in velocity is this
        one times the root of `velocity_scale`.

        Parameters
        ----------
        logits : Tensor of shape (..., n_classes)
            Of the latents ``m u + s eps``.
        t : Tensor of shape (..., 1)
            Their times.
        weight : Tensor of shape (n_classes, embedding_dim)
            Class embeddings.
        schedule : Schedule
        u, eps : Tensor of shape (..., embedding_dim)
            True embeddings and noise.

        Returns
        -------
        Tensor of shape (..., embedding_dim)
        """

    @abstractmethod
    def velocity_scale(self, t: Tensor, schedule: Schedule) -> Tensor:
        """Squared factor by which the error in velocity exceeds `error`.

        Parameters
        ----------
        t : Tensor of shape (...)
            Times.
        schedule : Schedule

        Returns
        -------
        Tensor of shape (...)
        """


class LabelParameterization(Parameterization):
    """The network gives class probabilities; ``u_hat`` is their mean embedding.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.parameterizations import LabelParameterization
    >>> from sknoprop.schedules import CosineSchedule
    >>> logits, z, t = torch.tensor([0.25, 0.75]).log(), torch.zeros(1), torch.tensor([0.5])
    >>> weight = torch.tensor([[-1.0], [1.0]])
    >>> LabelParameterization().label(logits, z, t, weight, CosineSchedule())
    tensor([0.5000])
    """

    local = True

    def label(self, logits, z, t, weight, schedule):  # type: ignore[no-untyped-def]
        return self.label_and_probabilities(logits, z, t, weight, schedule)[0]

    def probabilities(self, logits, z, t, weight, schedule):  # type: ignore[no-untyped-def]
        return softmax(logits)

    def label_and_probabilities(self, logits, z, t, weight, schedule):  # type: ignore[no-untyped-def]
        p = softmax(logits)
        return product(p, weight), p

    def error(self, logits, t, weight, schedule, u, eps):  # type: ignore[no-untyped-def]
        return torch.softmax(logits, -1) @ weight - u

    def velocity_scale(self, t, schedule):  # type: ignore[no-untyped-def]
        # v - v* = (u_hat - u) / s, whatever the noise
        return schedule.noise(t).reciprocal().clamp_max(MAX_GAIN) ** 2


class VelocityParameterization(Parameterization):
    """The network gives a velocity in the span of the embeddings.

    ``u_hat`` then need not lie between the embeddings. Class probabilities are its barycentric
    coordinates, ``p W = u_hat`` with ``sum(p) = 1``, moved to the nearest probabilities. Where
    embeddings do not determine them they are the most even ones, of either sign, before they are
    moved. With ``c`` the mean of the K embeddings and ``+`` the pseudo-inverse::

        p = 1 / K + (u_hat - c) (W - c)^+.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.parameterizations import VelocityParameterization
    >>> from sknoprop.schedules import StraightLineSchedule
    >>> logits, z, t = torch.tensor([1.0, -1.0]), torch.tensor([0.5, 0.5]), torch.tensor([0.5])
    >>> point = logits, z, t, torch.eye(2), StraightLineSchedule()
    >>> VelocityParameterization().label(*point)  # z + (1 - t) v
    tensor([1., 0.])
    >>> VelocityParameterization().probabilities(*point).round(decimals=4)
    tensor([1., 0.])
    """

    def label(self, logits, z, t, weight, schedule):  # type: ignore[no-untyped-def]
        _, noise_rate = schedule.velocity_coefficients(t)
        return schedule.noise(t) * product(logits, weight) - noise_rate * z

    def probabilities(self, logits, z, t, weight, schedule):  # type: ignore[no-untyped-def]
        return self.label_and_probabilities(logits, z, t, weight, schedule)[1]

    def label_and_probabilities(self, logits, z, t, weight, schedule):  # type: ignore[no-untyped-def]
        label = self.label(logits, z, t, weight, schedule)
        # The rows of W - c sum to nought, and so do the coordinates that its inverse gives.
        centre = weight.mean(0)
        coordinates = product(label - centre, torch.linalg.pinv(weight - centre))
        return label, project_to_simplex(coordinates + 1.0 / len(weight))

    def error(self, logits, t, weight, schedule, u, eps):  # type: ignore[no-untyped-def]
        signal_rate, noise_rate = schedule.velocity_coefficients(t)
        return logits @ weight - (signal_rate * u + noise_rate * eps)

    def velocity_scale(self, t, schedule):  # type: ignore[no-untyped-def]
        return torch.ones_like(t)


#: Names a user may give for a parameterization.
PARAMETERIZATIONS: dict[str, type[Parameterization]] = {
    "label": LabelParameterization,
    "velocity": VelocityParameterization,
}
