"""Errors made on purpose: what is wrong in the mathematics must fail a test.

    python tests/mutations.py              # all of them (10 minutes), and the table
    python tests/mutations.py NAME ...     # those with such a text in their names
    python tests/mutations.py --report     # the table of what was found

An error is an entry of ``tests/mutations.toml``: a text that stands in a file of the package
exactly once, what is put in its place, why that matters, and the tests that must notice. It is put
into a copy of the package, and pytest runs until a test fails, which without the error must then
pass. What breaks an import, finds no test or never ends proves nothing and is not counted as
noticed. Records go to ``benchmarks/results/mutations.json``; those of other errors stay in it.

pytest does not collect this file; ``tests/test_mutations.py`` holds that the table fits the
package.
"""

from __future__ import annotations

import gc
import importlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "tests" / "mutations.toml"
RESULTS = ROOT / "benchmarks" / "results" / "mutations.json"

#: What tests import of others' and takes long; nothing of the package.
PRELOADED = (
    "torch.optim",
    "torch.testing",
    "sympy",
    "torch._dynamo",
    "sklearn.datasets",
    "skorch",
    "hypothesis",
)

#: Children that are copies of this process.
FORK = multiprocessing.get_context("fork")

#: Seconds after which a run of tests is taken not to end.
LIMIT = 600


@dataclass(frozen=True)
class Mutation:
    """An error to put into the package."""

    name: str
    file: str
    old: str
    new: str
    why: str
    tests: tuple[str, ...]

    def applied(self, root: Path) -> str:
        """The text of the file with the error in it.

        Raises
        ------
        ValueError
            If the text to be replaced is not there exactly once.
        """
        text = (root / "sknoprop" / self.file).read_text()
        if (n := text.count(self.old)) != 1 or self.old == self.new:
            raise ValueError(
                f"{self.name!r}: {self.old!r} must be in sknoprop/{self.file} exactly once, and be "
                f"replaced by something else. It is there {n} times."
            )
        return text.replace(self.old, self.new)


def mutations() -> list[Mutation]:
    """All errors, in the order of the table."""
    entries = tomllib.loads(TABLE.read_text())["mutation"]
    found = [Mutation(**entry | {"tests": tuple(entry["tests"])}) for entry in entries]
    if len({m.name for m in found}) < len(found):
        raise ValueError("Two errors have one name.")
    for mutation in found:
        mutation.applied(ROOT)
        for name in mutation.tests:
            path, _, test = node(name).partition("::")
            if f"def {test}" not in (ROOT / path).read_text():
                raise ValueError(f"{mutation.name!r}: there are no tests {node(name)}.")
    return found


def node(name: str) -> str:
    """pytest's name of a file of tests, or of one test in it: "file" or "file::test"."""
    file, colons, test = name.partition("::")
    return f"tests/test_{file}.py{colons}{test}"


class FirstFailure:
    """A plugin of pytest's that knows the first test that failed."""

    name = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.name:
            self.name = report.nodeid


def _in_child(root: Path, tests: list[str], answer: Connection) -> None:
    os.chdir(root)
    sys.path.insert(0, str(root))
    # For processes that tests start. Two texts of one file may be of one size and one second: no
    # bytecode of the first.
    os.environ |= {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    first = FirstFailure()
    # Nobody reads the messages that rewritten assertions would have.
    flags = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider"]
    status = pytest.main([*flags, *tests], plugins=[first])
    answer.send((int(status), first.name))


def run_tests(root: Path, tests: list[str]) -> tuple[int, str]:
    """pytest's exit status, and the first test that failed, with the package as it is in `root`.

    A fork has torch and the rest imported already, which would take longer than most tests.
    """
    receiver, sender = FORK.Pipe(duplex=False)
    child = FORK.Process(target=_in_child, args=(root, tests, sender))
    child.start()
    sender.close()
    child.join(LIMIT)
    if child.is_alive():
        child.kill()
    try:
        found: tuple[int, str] = receiver.recv()
    except EOFError:  # it was killed, or died
        found = -1, ""
    return found


def copy_package(to: Path) -> None:
    """What tests need: the package, themselves, pytest's settings."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("sknoprop", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, to / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", to)


def examine(chosen: list[Mutation]) -> Iterator[dict]:
    """Try each error: records of what noticed it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        copy_package(root)
        for mutation in chosen:
            target = root / "sknoprop" / mutation.file
            right = target.read_text()
            target.write_text(mutation.applied(root))
            started = time.monotonic()
            status, failed = run_tests(root, [node(name) for name in mutation.tests])
            target.write_text(right)
            if status == 0:
                found = "survived"
            elif status == 1 and failed and run_tests(root, [failed])[0] == 0:
                found = "noticed"
            else:  # no test ran, or it fails without the error too
                found = "no proof"
            yield {
                "name": mutation.name,
                "file": mutation.file,
                "why": mutation.why,
                "found": found,
                "by": failed.partition("[")[0].removeprefix("tests/"),
                "seconds": round(time.monotonic() - started, 1),
            }


def report(records: list[dict]) -> str:
    """The table, in Markdown."""
    lines = ["| in | error | why it matters | noticed by |", "|---|---|---|---|"]
    for r in records:
        by = f"`{r['by']}`" if r["found"] == "noticed" else f"**{r['found']}**"
        lines.append(f"| `{r['file']}` | {r['name']} | {r['why']} | {by} |")
    noticed = sum(r["found"] == "noticed" for r in records)
    return "\n".join([*lines, "", f"{noticed} of {len(records)} errors were noticed."])


def main(arguments: list[str]) -> int:
    table = mutations()
    known = json.loads(RESULTS.read_text())["records"] if RESULTS.exists() else []
    records = {record["name"]: record for record in known}
    if arguments != ["--report"]:
        os.environ["OMP_NUM_THREADS"] = "1"
        for module in PRELOADED:
            importlib.import_module(module)
        gc.freeze()  # lest each child goes through all of that
        chosen = [m for m in table if not arguments or any(a in m.name for a in arguments)]
        if not chosen:
            raise SystemExit(f"No error has one of {arguments} in its name.")
        for record in examine(chosen):
            print(f"{record['found']}  {record['seconds']:5.1f} s  {record['name']}", flush=True)
            records[record["name"]] = record
            # Each at once: a run that is cut off has not been for nothing.
            text = {
                "command": "python tests/mutations.py",
                "records": [records[m.name] for m in table if m.name in records],
            }
            RESULTS.write_text(json.dumps(text, indent=1) + "\n")
    missing = [m.name for m in table if m.name not in records]
    found = [records[m.name] for m in table if m.name in records]
    print(report(found))
    if missing:
        print(f"Not tried: {', '.join(missing)}.")
    return int(bool(missing) or any(record["found"] != "noticed" for record in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
