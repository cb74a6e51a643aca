"""Read-outs: class probabilities at the end of a trajectory.

The last latent is ``z ~ N(signal * W[y], noise**2 I)`` given its class, so the exact posterior
under the class frequencies is a softmax of a *linear* function of z::

    log P(y | z) = (signal / noise**2) <W[y], z> - (signal / noise)**2 |W[y]|**2 / 2
                   + log prior[y] + const.

The paper's linear read-out (eq. 14) is trained; here it starts at that optimum, so that it is
right even where the data are too few to train it. `PosteriorReadout` is the paper's second form
(eq. 15-16).

Either turns each trajectory into one class, all but certain, however doubtful the input: a
trajectory *samples* ``P(y | x)``, and the mean of a few samples is a poor estimate of it.
`DenoiserReadout` reads no latent. With ``P(y | x, z_t)``, the probabilities that each step is
taken by, ``E[P(y | x, z_t) | x] = P(y | x)`` at every step (the law of total expectation): so their
mean over the steps estimates the same, and varies less the more of them see noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from sknoprop.rowwise import product, softmax

__all__ = [
    "READOUTS",
    "DenoiserReadout",
    "LinearReadout",
    "NearestReadout",
    "PosteriorReadout",
    "Readout",
    "gaussian_class_logits",
]


def gaussian_class_logits(
    z: Tensor, weight: Tensor, signal: float, noise: float | Tensor
) -> Tensor:
    """Log density of a latent given each class, up to a constant.

    That of ``z ~ N(signal * W[y], noise**2 I)`` less that at ``W[y] = 0``.

    Parameters
    ----------
    z : Tensor of shape (..., embedding_dim)
    weight : Tensor of shape (n_classes, embedding_dim)
        Class embeddings.
    signal : float
    noise : float or Tensor of shape ()
        Positive.

    Returns
    -------
    Tensor of shape (..., n_classes)

    Examples
    --------
    >>> import torch
    >>> from sknoprop.readouts import gaussian_class_logits
    >>> gaussian_class_logits(torch.tensor([2.0, 0.0]), torch.eye(2), signal=1.0, noise=1.0)
    tensor([ 1.5000, -0.5000])
    """
    scaled = signal / noise**2 * weight
    return product(z, scaled.T) - 0.5 * (signal / noise) ** 2 * weight.square().sum(1)


class Readout(nn.Module, ABC):
    """Class logits of the last latent.

    A subclass gives `forward`, whose cross-entropy is trained, and `predict` where predictions are
    made of something else.
    """

    #: Whether predictions are made of them, and not of what the denoiser said on the way.
    reads_latent = True

    @abstractmethod
    def forward(self, z: Tensor, weight: Tensor) -> Tensor:
        """Logits of latents `z` given class embeddings `weight`.

        Parameters
        ----------
        z : Tensor of shape (..., embedding_dim)
            Last latents.
        weight : Tensor of shape (n_classes, embedding_dim)
            Class embeddings as they are now; they may have been trained.

        Returns
        -------
        Tensor of shape (..., n_classes)
        """

    def predict(self, z: Tensor, weight: Tensor) -> Tensor:
        """Logits that predictions are made of: those of `forward`, unless overridden.

        Parameters
        ----------
        z : Tensor of shape (..., embedding_dim)
        weight : Tensor of shape (n_classes, embedding_dim)

        Returns
        -------
        Tensor of shape (..., n_classes)
        """
        logits: Tensor = self(z, weight)
        return logits


class LinearReadout(Readout):
    """A linear layer and softmax (paper, equation 14), started at the exact posterior.

    Untrained, as for flow matching with a fixed embedding, it picks the class whose embedding,
    times the signal, is nearest. That holds for equally frequent classes; with others, frequent
    ones win latents that are almost as near to them.

    Parameters
    ----------
    weight : Tensor of shape (n_classes, embedding_dim)
        Class embeddings at the start of training.
    prior : Tensor of shape (n_classes,)
        Class frequencies.
    signal, noise : float
        Of the last latent.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.readouts import LinearReadout
    >>> weight, prior = torch.eye(2), torch.tensor([0.5, 0.5])
    >>> readout = LinearReadout(weight, prior, signal=1.0, noise=0.5)
    >>> torch.softmax(readout(torch.tensor([0.75, 0.25]), weight), -1).detach().round(decimals=2)
    tensor([0.8800, 0.1200])
    """

    def __init__(self, weight: Tensor, prior: Tensor, signal: float, noise: float) -> None:
        super().__init__()
        zero = weight.new_zeros(1, weight.shape[1])
        at_zero = gaussian_class_logits(zero, weight, signal, noise)[0]
        self.weight = nn.Parameter((signal / noise**2 * weight).clone())
        self.bias = nn.Parameter(at_zero + prior.log().to(weight.dtype))

    def forward(self, z: Tensor, weight: Tensor) -> Tensor:
        return product(z, self.weight.T) + self.bias


class PosteriorReadout(Readout):
    """Class posterior around a learnt guess of the embedding (paper, equations 15 and 16).

    A linear layer and softmax give a mean embedding ``y_hat``; class probabilities are
    proportional to ``exp(-|y_hat - W[y]|**2 / (2 sigma**2))``. The paper leaves sigma open; here
    it is the noise of the last latent in units of its signal (with "fm" and a trained embedding
    it is one).

    Parameters
    ----------
    weight : Tensor of shape (n_classes, embedding_dim)
        Class embeddings at the start of training.
    prior : Tensor of shape (n_classes,)
        Class frequencies.
    signal, noise : float
        Of the last latent.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.readouts import PosteriorReadout
    >>> weight, prior = torch.eye(2), torch.tensor([0.5, 0.5])
    >>> readout = PosteriorReadout(weight, prior, signal=1.0, noise=0.5)
    >>> torch.softmax(readout(torch.tensor([0.75, 0.25]), weight), -1).detach().round(decimals=2)
    tensor([0.9500, 0.0500])
    """

    sigma: Tensor

    def __init__(self, weight: Tensor, prior: Tensor, signal: float, noise: float) -> None:
        super().__init__()
        self.guess = LinearReadout(weight, prior, signal, noise)
        # A buffer: with a learned schedule it cannot be found again after training.
        self.register_buffer("sigma", weight.new_tensor(noise / signal))

    def forward(self, z: Tensor, weight: Tensor) -> Tensor:
        y_hat = product(softmax(self.guess(z, weight)), weight)
        return gaussian_class_logits(y_hat, weight, 1.0, self.sigma)


class NearestReadout(LinearReadout):
    """The class whose embedding is nearest to the last latent: the paper's rule for flow matching.

    Class probabilities are proportional to ``exp(-|z - W[y]|**2 / (2 sigma**2))``, with sigma as in
    `PosteriorReadout`. The term of the loss that keeps a learned embedding from falling into one
    needs a read-out that is trained: there it is the linear one, which predicts nothing.

    Parameters
    ----------
    weight : Tensor of shape (n_classes, embedding_dim)
        Class embeddings at the start of training.
    prior : Tensor of shape (n_classes,)
        Class frequencies; predictions do without.
    signal, noise : float
        Of the last latent.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.readouts import NearestReadout
    >>> weight, prior = torch.eye(2), torch.tensor([0.9, 0.1])
    >>> readout = NearestReadout(weight, prior, signal=1.0, noise=0.5)
    >>> torch.softmax(readout.predict(torch.tensor([0.5, 0.5]), weight), -1)
    tensor([0.5000, 0.5000])
    """

    sigma: Tensor

    def __init__(self, weight: Tensor, prior: Tensor, signal: float, noise: float) -> None:
        super().__init__(weight, prior, signal, noise)
        self.register_buffer("sigma", weight.new_tensor(noise / signal))

    def predict(self, z: Tensor, weight: Tensor) -> Tensor:
        return gaussian_class_logits(z, weight, 1.0, self.sigma)


class DenoiserReadout(LinearReadout):
    """No read-out: the mean of the class probabilities over all denoising steps.

    With a fixed embedding nothing is left to train. A learned one needs a read-out in its loss,
    lest all embeddings fall into one: the linear one then has that part, and only that.

    Parameters
    ----------
    weight : Tensor of shape (n_classes, embedding_dim)
        Class embeddings at the start of training.
    prior : Tensor of shape (n_classes,)
        Class frequencies.
    signal, noise : float
        Of the last latent.

    Examples
    --------
    >>> from sknoprop.readouts import DenoiserReadout, LinearReadout
    >>> DenoiserReadout.reads_latent, LinearReadout.reads_latent
    (False, True)
    """

    reads_latent = False


#: Names a user may give for a read-out.
READOUTS: dict[str, type[LinearReadout] | type[PosteriorReadout]] = {
    "denoiser": DenoiserReadout,
    "linear": LinearReadout,
    "nearest": NearestReadout,
    "posterior": PosteriorReadout,
}
