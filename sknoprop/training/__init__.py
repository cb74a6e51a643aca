"""Training: one step for all blocks, on data that stay on the device."""

from sknoprop.training.batches import Batches, NoiseSource
from sknoprop.training.net import BlockNet, train

__all__ = ["Batches", "BlockNet", "NoiseSource", "train"]
