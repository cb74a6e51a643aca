"""The table of errors made on purpose fits the package; `tests/mutations.py` makes them."""

from dataclasses import replace

import pytest

from tests.mutations import ROOT, mutations


def test_every_error_has_its_place_in_the_package():
    found = mutations()
    assert all(mutation.why and mutation.tests for mutation in found)
    with pytest.raises(ValueError, match="exactly once"):
        replace(found[0], old="no such text").applied(ROOT)
    with pytest.raises(ValueError, match="exactly once"):
        replace(found[0], old="import").applied(ROOT)
