"""What is said about the oldest versions is one thing in both files that say it."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: Tools that look at the text of the package and never run it.
LINTERS = {"mypy", "pre-commit", "ruff"}


def test_minimum_versions_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    stated = {}
    optional = project["optional-dependencies"]
    extras = [optional[name] for name in ("plot", "vision", "distributed", "test")]
    for requirement in sum(extras, project["dependencies"]):
        named, *_ = requirement.split(";")  # behind it stands for which versions of Python
        name, version = re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", named).groups()
        # One and the same wherever it is said.
        assert stated.setdefault(name, version) == version, name
    pins = (ROOT / "tests" / "minimum-versions.txt").read_text().splitlines()
    pinned = dict(pin.split("==") for pin in pins if pin and not pin.startswith("#"))
    pinned.pop("distributed")  # Dask's own half, of the same version
    assert pinned.keys() == stated.keys() - LINTERS
    for name, version in pinned.items():
        # "1.4" is 1.4.0.
        assert re.fullmatch(rf"{re.escape(stated[name])}(\.0)*", version), name
