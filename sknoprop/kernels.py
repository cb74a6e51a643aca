"""The class kernel: class probabilities from a single denoising block.

A block at noise level t that knows ``P(y | x, z)`` turns "the label is c" into "the label is
y": noise the embedding of c, then ask the block::

    M(x)[c, y] = E_eps[ P(y | x, signal * W[c] + noise * eps) ] = int q(z | c) P(y | x, z) dz.

For the exact posterior, ``P(c | x) M(x)[c, y] = int p(z | x) P(c | x, z) P(y | x, z) dz``. The
right side is symmetric in c and y, so ``M(x)`` is a reversible Markov kernel with stationary
law ``P(. | x)``: at every level, for every schedule and every embedding. The stationary law of
a learnt block's kernel is thus an estimate of the class probabilities by that block alone. At
pure noise all rows of ``M`` are equal, and the estimate is the block's own output.

The integral is taken over a few draws from each class. Were a row estimated by its own class's
draws alone, reversibility would hold only in the limit, and close to the label, where what
leaves a class hangs on rare draws, the law would be far off. So every draw counts for every
class, with the weight that multiple importance sampling gives it (the balance heuristic of
Veach & Guibas 1995): its density under that class over its density under the classes' mixture::

    flow[c, y] = 1/J sum_z q(z | c) / sum_k q(z | k) * P(y | x, z)

over the draws z of all classes, J of each.

For the exact posterior ``P(c | x) flow[c, y]`` is symmetric in c and y *term by term*: with
any draws, be it one, the law is ``P(. | x)`` and not an approximation to it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sknoprop.rowwise import sum_of_classes

__all__ = [
    "asymmetry",
    "kernel_from_flow",
    "kernel_latents",
    "latent_shares",
    "log_density_at_centre",
    "retention",
    "shared_draws",
    "shares_of_distances",
    "stationary_distribution",
]


def shared_draws(n_draws: int, dim: int, generator: torch.Generator) -> Tensor:
    """Standard normal draws in antithetic pairs, shared by all rows, classes and blocks.

    Sharing them makes a prediction a function of the row alone; pairs of opposite sign cancel
    the odd part of the Monte Carlo error. With an odd `n_draws` the last draw stands alone.

    Parameters
    ----------
    n_draws : int
    dim : int
        Dimension of the embeddings.
    generator : torch.Generator
        Half of the draws are made with it.

    Returns
    -------
    Tensor of shape (n_draws, dim)

    Examples
    --------
    >>> import torch
    >>> from sknoprop.kernels import shared_draws
    >>> eps = shared_draws(4, 2, torch.Generator().manual_seed(0))
    >>> eps.shape, bool((eps[:2] == -eps[2:]).all())
    (torch.Size([4, 2]), True)
    """
    half = torch.randn((n_draws + 1) // 2, dim, generator=generator, dtype=torch.float32)
    return torch.cat([half, -half])[:n_draws]


def kernel_latents(weight: Tensor, signal: Tensor, noise: Tensor, eps: Tensor) -> Tensor:
    """Noised embeddings of all classes: the points at which blocks are asked.

    Parameters
    ----------
    weight : Tensor of shape (..., n_classes, embedding_dim)
        Class embeddings.
    signal, noise : Tensor of shape (n_levels,)
    eps : Tensor of shape (n_draws, embedding_dim)
        Standard normal draws, see `shared_draws`.

    Returns
    -------
    Tensor of shape (n_levels, ..., n_classes, n_draws, embedding_dim)

    Examples
    --------
    >>> import torch
    >>> from sknoprop.kernels import kernel_latents
    >>> signal, noise = torch.tensor([0.0, 0.8]), torch.tensor([1.0, 0.6])
    >>> kernel_latents(torch.eye(3), signal, noise, torch.zeros(4, 3)).shape
    torch.Size([2, 3, 4, 3])
    """
    leading = (-1, *[1] * (weight.dim() + 1))
    return signal.view(leading) * weight[..., None, :] + noise.view(leading) * eps


def latent_shares(
    origin: Tensor, weight: Tensor, signal: Tensor, noise: Tensor, eps: Tensor
) -> Tensor:
    """How much each latent of `kernel_latents` counts for each class.

    ``q(z | c) / sum_k q(z | k)`` at ``z = signal * origin + noise * eps``: the classes' posterior
    given z alone, all being equally frequent.

    Parameters
    ----------
    origin : Tensor of shape (..., n_origins, embedding_dim)
        Embeddings that were noised.
    weight : Tensor of shape (..., n_classes, embedding_dim)
        Class embeddings.
    signal, noise : Tensor of shape (n_levels,)
    eps : Tensor of shape (n_draws, embedding_dim)
        Standard normal draws, those of `kernel_latents`.

    Returns
    -------
    Tensor of shape (n_levels, ..., n_origins, n_draws, n_classes)
        Along the last axis not negative, with sum one.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.kernels import latent_shares
    >>> signal, noise = torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.0])
    >>> shares = latent_shares(torch.eye(2), torch.eye(2), signal, noise, torch.zeros(1, 2))
    >>> shares[:, 0, 0].round(decimals=2)  # of the first class, at both levels
    tensor([[0.5000, 0.5000],
            [0.9800, 0.0200]])
    """
    # Squares of differences, not differences of squares: they keep digits of large embeddings.
    apart = torch.cdist(origin, weight, compute_mode="donot_use_mm_for_euclid_dist").square()
    return shares_of_distances(apart, (weight @ eps.T).mT, signal, noise)


def shares_of_distances(apart: Tensor, along: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    """What `latent_shares` gives, of what it asks of embeddings and draws: the same at all levels.

    Parameters
    ----------
    apart : Tensor of shape (..., n_origins, n_classes)
        Squared distances of embeddings.
    along : Tensor of shape (..., n_draws, n_classes)
        Products of draws and embeddings.
    signal, noise : Tensor of shape (n_levels,)

    Returns
    -------
    Tensor of shape (n_levels, ..., n_origins, n_draws, n_classes)

    Examples
    --------
    >>> import torch
    >>> from sknoprop.kernels import shares_of_distances
    >>> apart = torch.tensor([[0.0, 2.0], [2.0, 0.0]])  # of one-hot embeddings
    >>> level, along = torch.ones(1), torch.zeros(1, 2)
    >>> shares_of_distances(apart, along, level, level)[0, 0].round(decimals=2)
    tensor([[0.7300, 0.2700]])
    """
    # log q(z | c) = -|eps + ratio * (origin - W[c])|**2 / 2, less what c has no part in.
    ratio = (signal / noise).view(-1, *[1] * (apart.dim() + 1))
    along, apart = along[..., None, :, :], apart[..., :, None, :]
    return torch.softmax(ratio * along - 0.5 * ratio**2 * apart, -1)


def log_density_at_centre(weight: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    """``log q(z | c)`` at the mean of the noised embeddings, less that of the nearest class.

    Parameters
    ----------
    weight : Tensor of shape (n_classes, embedding_dim)
        Class embeddings.
    signal, noise : Tensor of shape (...)

    Returns
    -------
    Tensor of shape (..., n_classes)
        Nought for the nearest class, negative for those further away.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.kernels import log_density_at_centre
    >>> one = torch.ones(())
    >>> bool((log_density_at_centre(torch.eye(5), one, one).abs() < 1e-6).all())
    True
    >>> log_density_at_centre(torch.tensor([[-1.0], [0.0], [1.0]]), one, one)
    tensor([-0.5000, -0.0000, -0.5000])
    """
    apart = (weight - weight.mean(0)).square().sum(1)
    return -0.5 * ((signal / noise) ** 2)[..., None] * (apart - apart.min())


def kernel_from_flow(flow: Tensor) -> Tensor:
    """A Markov kernel with the off-diagonal entries of `flow`.

    What does not leave a class stays there. Where more than all would leave one (a chance of
    few draws), all classes are left more slowly by one factor, which leaves the law as it is.

    Parameters
    ----------
    flow : Tensor of shape (..., n_classes, n_classes)
        Not negative. It is not changed.

    Returns
    -------
    Tensor of shape (..., n_classes, n_classes)
        Rows sum to one.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.kernels import kernel_from_flow
    >>> kernel_from_flow(torch.tensor([[9.0, 0.25], [0.5, 9.0]]))
    tensor([[0.7500, 0.2500],
            [0.5000, 0.5000]])
    """
    kernel = flow.clone()
    kernel.diagonal(dim1=-2, dim2=-1).zero_()
    leave = sum_of_classes(kernel)
    slower = leave.amax(-1, keepdim=True).clamp_min(1.0)
    kernel /= slower[..., None]
    kernel.diagonal(dim1=-2, dim2=-1).add_(1.0 - leave / slower)
    return kernel


def stationary_distribution(kernel: Tensor, overwrite_kernel: bool = False) -> Tensor:
    """Stationary distribution of each of a batch of Markov kernels.

    Solved exactly, not iterated: close to the label a kernel is nearly the identity and powers
    of it would hardly move. The elimination is that of Grassmann, Taksar & Heyman (1985), which
    subtracts nothing: every entry keeps its relative accuracy even where the off-diagonal ones
    are tiny, and no entry can turn negative.

    Parameters
    ----------
    kernel : Tensor of shape (..., n_classes, n_classes)
        Only off-diagonal entries are used. Any factor of them all leaves the law as it is, so
        rows need not sum to one.
    overwrite_kernel : bool, default=False
        Whether `kernel` may be changed, which saves a copy of it if it is float64.

    Returns
    -------
    Tensor of shape (..., n_classes)
        In float64. A kernel that keeps every class where it is has no single answer; classes
        that nothing connects count as equally likely.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.kernels import stationary_distribution
    >>> stationary_distribution(torch.tensor([[0.75, 0.25], [0.5, 0.5]])).round(decimals=4)
    tensor([0.6667, 0.3333], dtype=torch.float64)
    """
    m = kernel.double()
    if m is kernel and not overwrite_kernel:
        m = m.clone()
    m.diagonal(dim1=-2, dim2=-1).zero_()
    # Close to the label all entries may be tiny: only ratios count. The floor, relative to the
    # largest, stands for "no connection seen", and products below do not underflow with it.
    m /= m.amax((-2, -1), keepdim=True).clamp_min(torch.finfo(m.dtype).tiny)
    m.clamp_min_(1e-60)
    n = m.shape[-1]
    for k in range(n - 1, 0, -1):
        # Censor the chain on states 0 .. k-1: steps through k are made direct.
        leave = m[..., k, :k]
        m[..., :k, k] /= sum_of_classes(leave)[..., None]
        if k > 1:
            m[..., :k, :k].addcmul_(m[..., :k, k, None], leave[..., None, :])
    law = torch.ones_like(m[..., 0])
    for k in range(1, n):
        law[..., k] = sum_of_classes(law[..., :k] * m[..., :k, k])
    return law / sum_of_classes(law)[..., None]


def retention(kernel: Tensor) -> Tensor:
    """Mean of a kernel's eigenvalues other than 1: how much of the label survives the noise.

    ``(trace - 1) / (n_classes - 1)``: 0 at pure noise, where a block has x alone to go by;
    1 where the latent gives the label away and nothing is left to learn.

    Parameters
    ----------
    kernel : Tensor of shape (..., n_classes, n_classes)
        Rows sum to one.

    Returns
    -------
    Tensor of shape (...)

    Examples
    --------
    >>> import torch
    >>> from sknoprop.kernels import retention
    >>> retention(torch.tensor([[0.75, 0.25], [0.5, 0.5]]))
    tensor(0.2500)
    """
    trace = kernel.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (trace - 1.0) / (kernel.shape[-1] - 1)


def asymmetry(kernel: Tensor, law: Tensor) -> Tensor:
    """How far a kernel is from reversible: total variation between the flow and its reverse.

    Zero for the exact posterior, whose flow ``law[c] * kernel[c, y]`` is symmetric; the larger,
    the less the block's answers at different latents agree with each other.

    Parameters
    ----------
    kernel : Tensor of shape (..., n_classes, n_classes)
        Rows sum to one.
    law : Tensor of shape (..., n_classes)
        Its stationary distribution.

    Returns
    -------
    Tensor of shape (...)
        Between 0 and 1.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.kernels import asymmetry
    >>> cycle = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    >>> asymmetry(cycle, torch.full((3,), 1 / 3)).round(decimals=4)
    tensor(1.)
    """
    flow = law[..., :, None] * kernel
    return 0.5 * (flow - flow.mT).abs().sum((-2, -1))
