"""The paper's head: a path for the latent, one for the time, and the fused layers."""

from __future__ import annotations

import math

from torch import Tensor, nn

from sknoprop.networks.convolutions import ConvPath
from sknoprop.networks.heads import Head
from sknoprop.networks.latents import CandidateLatents, NoisedClasses, outputs_of_classes
from sknoprop.networks.stacked import (
    TORCH_GAIN,
    Generators,
    StackedBatchNorm,
    StackedDropout,
    StackedLinear,
)
from sknoprop.networks.times import time_features

__all__ = ["PaperHead"]


class PaperHead(Head):
    """The paper's fused network (figure 6), around the encoder's features.

    The encoder's last layer ends in ReLU, the latent path is FC + ReLU, the time path a
    positional embedding and FC + ReLU; then the concatenation goes through FC, FC of half the
    width, and the output layer, with ReLU between. That is the network for continuous time. The
    one for discrete time has batch normalisation after every FC but the output layer, *in place
    of* the ReLU at the encoder's end, and a residual pair FC + ReLU + FC on the latent path.

    Parameters
    ----------
    width : int
        Number of features, those of the encoder.
    embedding_dim, n_classes : int
    generators : sequence of torch.Generator
        One a block.
    dropout : float
        Probability of dropping a hidden feature in training.
    timed : bool
        Whether blocks own intervals and thus are told the time.
    normalize : bool
        The network for discrete time.
    latent_path : ConvPath, optional
        For latents that are noised images (the paper's prototypes): a path like that of the
        input, before the latent path's first layer.

    Examples
    --------
    >>> import torch
    >>> from sknoprop.networks import PaperHead
    >>> generators = [torch.Generator().manual_seed(block) for block in range(2)]
    >>> head = PaperHead(16, 3, 3, generators, dropout=0.0, timed=True, normalize=False)
    >>> features, z, position = torch.zeros(2, 5, 16), torch.zeros(2, 5, 1, 3), torch.zeros(2, 5, 1)
    >>> head(features, z, position).shape
    torch.Size([2, 5, 1, 3])
    """

    #: Of initial weights, which the paper does not give.
    #:
    #: With He's, and no batch normalisation, the first steps are so large that "ct" never recovers
    #: from them.
    gain = TORCH_GAIN
    many_inputs = None  # the paper has smaller steps

    time_dim = 64

    def __init__(
        self,
        width: int,
        embedding_dim: int,
        n_classes: int,
        generators: Generators,
        dropout: float,
        timed: bool,
        normalize: bool,
        latent_path: ConvPath | None = None,
    ) -> None:
        super().__init__()
        half = max(width // 2, 1)

        def norm(n: int) -> nn.Module:
            return StackedBatchNorm(n, len(generators)) if normalize else nn.Identity()

        def dense(n_in: int, n_out: int) -> StackedLinear:
            return StackedLinear(n_in, n_out, generators, self.gain)

        # With batch normalisation that is where the encoder ends, without ReLU.
        self.feature_end = nn.Identity() if normalize else nn.ReLU()
        self.latent_path = latent_path
        n_latent = embedding_dim
        if latent_path is not None:
            n_latent = latent_path.n_out
        self.latent = nn.Sequential(dense(n_latent, width), norm(width), nn.ReLU())
        self.residual = (
            nn.Sequential(
                dense(width, width), norm(width), nn.ReLU(), dense(width, width), norm(width)
            )
            if normalize
            else None
        )
        self.time = nn.Sequential(dense(self.time_dim, width), nn.ReLU()) if timed else None
        # The layer on the concatenation, as the sum of its parts.
        n_parts = 3 if timed else 2
        gain = self.gain / math.sqrt(n_parts)
        self.from_features = StackedLinear(width, width, generators, gain)
        self.from_latent = StackedLinear(width, width, generators, gain, bias=False)
        self.from_time = StackedLinear(width, width, generators, gain, False) if timed else None
        self.fused = nn.Sequential(
            norm(width), nn.ReLU(), dense(width, half), norm(half), nn.ReLU()
        )
        self.dropout = StackedDropout(dropout)
        self.out = dense(half, n_classes)

    def latent_size(self, own: bool) -> int:
        return self.from_latent.out_features

    @property
    def takes_candidates(self) -> bool:  # type: ignore[override]
        return self.latent_path is None

    @property
    def largest(self) -> int:
        if self.latent_path is None:
            return 0
        return math.ceil(self.latent_path.largest / len(self.out.weight))

    def forward(self, features, z, position):  # type: ignore[no-untyped-def]
        hidden = self.from_features(self.feature_end(features)).unsqueeze(2)
        if self.latent_path is not None:
            of_all = self.latent_path(z.reshape(len(z), -1, *self.latent_path.image_shape))
            z = of_all.view(*z.shape[:-1], -1)
        candidates = isinstance(z, CandidateLatents)
        latent = self._latent_of(z) if candidates else self.latent(z)
        if self.residual is not None:
            latent = latent + self.residual(latent)
        hidden = hidden + self.from_latent(latent)
        if self.time is not None and self.from_time is not None:
            time = self.time(time_features(position, self.time_dim))
            hidden = hidden + self.from_time(time)
        fused = self.dropout(self.fused(hidden))
        if not candidates:
            return self.out(fused)
        logits = fused.new_empty(*fused.shape[:-1], z.classes.shape[1])
        table, bias = self.out.weight.mT.contiguous(), self.out.bias
        assert bias is not None
        for i in range(len(fused)):
            outputs_of_classes(table[i], bias[i], fused[i], z.classes, logits[i])
        return logits

    def first_of_classes(
        self, noised: NoisedClasses, position: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        dense = self.latent[0]
        assert isinstance(dense, StackedLinear)
        assert dense.bias is not None
        of_classes, of_draws = noised.products(dense.weight)
        return of_classes, of_draws + dense.bias[:, None]

    def _latent_of(self, z: CandidateLatents) -> Tensor:
        """The latent path's first layers."""
        assert z.first is not None
        of_classes, of_draws = z.first
        latent = (of_classes[:, z.origins, None] + of_draws[:, None, None]).flatten(2, 3)
        for layer in self.latent[1:]:
            latent = layer(latent)
        return latent
