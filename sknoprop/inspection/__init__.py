"""Looking at what blocks learnt: displays in scikit-learn's manner.

Each display computes its numbers once, in ``from_estimator`` (or from numbers of one's own), and
keeps them as attributes; ``plot`` draws them, on an ``ax`` of one's own or a new one, and keeps
the artists; ``frame`` gives the numbers as a data frame. Drawing needs matplotlib
(``pip install 'sknoprop[plot]'``), data frames pandas; importing this package needs neither.
"""

from sknoprop.inspection.block_scores import BlockScoreDisplay
from sknoprop.inspection.denoising import DenoisingDisplay
from sknoprop.inspection.embeddings import EmbeddingDisplay
from sknoprop.inspection.loss_curves import LossCurveDisplay
from sknoprop.inspection.reliability import ReliabilityCurve, ReliabilityDisplay
from sknoprop.inspection.schedules import ScheduleDisplay

__all__ = [
    "BlockScoreDisplay",
    "DenoisingDisplay",
    "EmbeddingDisplay",
    "LossCurveDisplay",
    "ReliabilityCurve",
    "ReliabilityDisplay",
    "ScheduleDisplay",
]
