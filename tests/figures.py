"""matplotlib without a display. Tests that import it from here are skipped where there is none."""

import pytest

__all__ = ["matplotlib", "plt"]

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")
