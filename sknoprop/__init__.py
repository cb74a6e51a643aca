"""sknoprop: NoProp for scikit-learn.

Neural networks trained without propagating anything through the whole network: the label is
diffused, and every block learns to denoise it on its own.
"""

from sknoprop._version import __version__
from sknoprop.classifier import NoPropClassifier
from sknoprop.presets import paper_parameters

__all__ = ["NoPropClassifier", "__version__", "paper_parameters"]
