"""Training: one step for all blocks, on data that stay on the device."""

from sknoprop.training.batches import Batches, LazyInputs, NoiseSource
from sknoprop.training.callbacks import check_callbacks
from sknoprop.training.divergence import TrainingError
from sknoprop.training.left_out import LeftOut, leave_out
from sknoprop.training.loop import Rows, Settings, Trained, train, try_optimizer
from sknoprop.training.net import BlockNet
from sknoprop.training.progress import EpochBar, progress_bar
from sknoprop.training.stopping import Validation

__all__ = [
    "Batches",
    "BlockNet",
    "EpochBar",
    "LazyInputs",
    "LeftOut",
    "NoiseSource",
    "Rows",
    "Settings",
    "Trained",
    "TrainingError",
    "Validation",
    "check_callbacks",
    "leave_out",
    "progress_bar",
    "train",
    "try_optimizer",
]
