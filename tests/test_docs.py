"""The Python of the README and of the user guide runs, and prints what the pages say.

The blocks of a page are run in their order in one namespace. A block whose first line begins with
``# Not run`` is left out; the line says why, to readers too.
"""

import doctest
import importlib
import os
import re
import textwrap
from pathlib import Path

import pytest

from sknoprop import NoPropClassifier

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
GUIDE = sorted((ROOT / "docs" / "guide").glob("*.rst"))
API = [p for p in sorted((ROOT / "docs" / "api").glob("*.rst")) if p.stem != "index"]

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def markdown_blocks(text):
    """Line number and source of each Python block, with the block of text that it prints."""
    pattern = r"```python\n(.*?)```(?:\n+```text\n(.*?)```)?"
    for match in re.finditer(pattern, text, flags=re.S):
        line = text[: match.start()].count("\n") + 1
        yield line, match[1], match[2]


def rst_blocks(text):
    """Line number and source of each code-block of Python and of each doctest."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        indent = len(line) - len(line.lstrip())
        start = at + 1
        if line.strip() == ".. code-block:: python":
            at += 1
            while at < len(lines) and (
                not lines[at].strip() or len(lines[at]) - len(lines[at].lstrip()) > indent
            ):
                at += 1
            yield start, textwrap.dedent("\n".join(lines[start:at])).strip() + "\n"
        elif line.lstrip().startswith(">>>"):
            while at < len(lines) and lines[at].strip():
                at += 1
            yield start, textwrap.dedent("\n".join(lines[start - 1 : at])) + "\n"
        else:
            at += 1


def run_block(source, namespace, page, line):
    if source.startswith(">>>"):
        test = doctest.DocTestParser().get_doctest(source, namespace, page, page, line)
        test.globs = namespace  # it has a copy, and what a block defines is for the next ones
        report = []
        runner = doctest.DocTestRunner(optionflags=FLAGS)
        runner.run(test, out=report.append, clear_globs=False)
        assert not report, "".join(report)
    else:
        code = "\n" * line + source  # so that an error names the line of the page
        exec(compile(code, page, "exec"), namespace)


def is_run(source):
    return not source.startswith("# Not run")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Files that a page writes are not written into the repository."""
    monkeypatch.chdir(tmp_path)
    # Workers of a fit find the package where these tests find it.
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


@pytest.mark.slow
def test_readme_runs_and_prints_what_it_says(elsewhere, capsys):
    namespace = {"__name__": "README"}
    blocks = list(markdown_blocks(README.read_text()))
    assert any(printed for *_, printed in blocks)
    for line, source, printed in blocks:
        if is_run(source):
            run_block(source, namespace, str(README), line)
            said = capsys.readouterr().out
            assert printed is None or said == printed


@pytest.mark.slow
@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_guide_runs(page, elsewhere, capsys):
    namespace = {"__name__": page.stem}
    for line, source in rst_blocks(page.read_text()):
        if is_run(source):
            run_block(source, namespace, str(page), line)


def test_blocks_are_found():
    text = "\n".join(
        ("x", "", ".. code-block:: python", "", "   a = 1", "", "   b = 2", "", ">>> a", "1", "")
    )
    assert [source for _, source in rst_blocks(text)] == ["a = 1\n\nb = 2\n", ">>> a\n1\n"]
    with pytest.raises(AssertionError, match="Expected"):
        run_block(">>> 1\n2\n", {}, "page", 0)


@pytest.mark.parametrize("page", [README, *GUIDE], ids=lambda page: page.stem)
def test_what_is_not_run_says_why(page):
    for reason in re.findall(r"# Not run(.*)", page.read_text()):
        assert re.match(r": \w.{10,}", reason)


def test_commands_are_marked_for_continuous_integration():
    text = README.read_text()
    for mark in ("<!-- the main job -->", "<!-- the tests -->", "<!-- the docs -->"):
        assert re.search(re.escape(mark) + r"\n+```bash\n.+\n```", text)


def test_picture_of_the_estimator_links_to_its_page_where_there_is_one(monkeypatch):
    monkeypatch.delenv("SKNOPROP_DOCS", raising=False)
    clf = NoPropClassifier()
    assert clf._get_doc_link() == ""
    assert "generated/sknoprop" not in clf._repr_html_()
    monkeypatch.setenv("SKNOPROP_DOCS", "https://docs.example.org/")
    link = "https://docs.example.org/generated/sknoprop.NoPropClassifier.html"
    assert clf._get_doc_link() == link
    assert f'href="{link}' in clf._repr_html_()


@pytest.mark.parametrize("page", API, ids=lambda page: page.stem)
def test_pages_of_modules_list_every_public_name(page):
    text = page.read_text()
    module = importlib.import_module(re.search(r"automodule:: (\S+)", text)[1])
    listed = set(re.findall(r"^ +(\w+)$|:: (\w+)$", text, flags=re.M))
    missing = set(module.__all__) - {name for pair in listed for name in pair}
    # Of training, only what a program may meet is for users.
    assert not missing or page.stem == "training"


@pytest.mark.parametrize("page", API, ids=lambda page: page.stem)
def test_pages_of_modules_list_the_names_a_user_may_give(page):
    text = page.read_text()
    module = importlib.import_module(re.search(r"automodule:: (\S+)", text)[1])
    for table in re.findall(r"data:: (\w+)", text):
        names = getattr(module, table)
        if isinstance(names, (dict, tuple)):
            entry = text.split(f"data:: {table}\n")[1].split("\n.. ")[0]
            assert re.findall(r'^   \* ``"(.+)"``: ', entry, flags=re.M) == list(names)
