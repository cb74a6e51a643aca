"""Networks: encoders of the input, heads that join it with the latent, and stacks of both."""

from sknoprop.networks.convolutions import PATHS, ConvPath
from sknoprop.networks.custom import CustomPath, FrozenEncoding, is_frozen
from sknoprop.networks.encoders import Encoder
from sknoprop.networks.heads import LightHead
from sknoprop.networks.images import ImageEncoding
from sknoprop.networks.numbers import NumberEncoding
from sknoprop.networks.paper_head import PaperHead

__all__ = [
    "HEADS",
    "PATHS",
    "ConvPath",
    "CustomPath",
    "Encoder",
    "FrozenEncoding",
    "ImageEncoding",
    "LightHead",
    "NumberEncoding",
    "PaperHead",
    "is_frozen",
]

#: Names a user may give for a head.
HEADS: dict[str, type[LightHead] | type[PaperHead]] = {"light": LightHead, "paper": PaperHead}
