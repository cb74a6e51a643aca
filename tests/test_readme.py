"""The README's Python runs and prints what it says; its commands are there."""

import contextlib
import io
import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"

#: A python block and the text block that shows what it prints.
PAIRS = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", README.read_text(), flags=re.S)


def test_there_is_something_to_run():
    assert PAIRS


@pytest.mark.parametrize(("code", "printed"), PAIRS)
def test_example_prints_what_it_says(code, printed):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})
    assert out.getvalue() == printed


def test_commands_are_marked_for_continuous_integration():
    text = README.read_text()
    for mark in ("<!-- the main job -->", "<!-- the tests -->"):
        assert re.search(re.escape(mark) + r"\n+```bash\n.+\n```", text)
