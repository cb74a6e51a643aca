"""Networks: encoders of the input, heads that join it with the latent, and stacks of both."""

from sknoprop.networks.encoders import MLPEncoder, NumberEncoding
from sknoprop.networks.heads import HEADS, LightHead, PaperHead

__all__ = ["HEADS", "LightHead", "MLPEncoder", "NumberEncoding", "PaperHead"]
