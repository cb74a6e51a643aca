"""Images of torchvision's data sets as `X` and `y`.

`load_torchvision` reads a data set into memory, as bytes with channels first; `LazyImages` leaves
it where it is and loads batches. Neither needs torchvision for a data set of one's own.
"""

from sknoprop._images import LazyImages
from sknoprop.datasets._torchvision import load_torchvision

__all__ = ["LazyImages", "load_torchvision"]
