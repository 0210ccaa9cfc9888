"""What mypy and pyright find in the apps of this folder: nothing in good.py, and in mistakes.py what is marked."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import processes

_FOLDER = Path(__file__).parent
_ROOT = _FOLDER.parents[1]
_APPS = ["tests/typing/good.py", "tests/typing/mistakes.py"]

#: A line of a file, after its name.
Lines = set[tuple[str, int]]


def marked() -> Lines:
    """Return the lines that say that there is an error in them."""
    found = {
        (name, number)
        for name in _APPS
        for number, line in enumerate((_ROOT / name).read_text("utf-8").splitlines(), 1)
        if line.endswith("# error")
    }
    assert {name for name, _ in found} == {"tests/typing/mistakes.py"}
    return found


def output(checker: str, *arguments: str) -> str:
    """Run a checker over the apps; skip where it is not installed, but for the environment that is there for it."""
    if importlib.util.find_spec(checker) is None:
        text = f"needs {checker}: pip install -e '.[types]'"
        if os.environ.get("CATGA_TESTS_TYPES"):
            pytest.fail(text, pytrace=False)
        pytest.skip(text)
    done = subprocess.run(
        [sys.executable, "-m", checker, *arguments, *_APPS],
        cwd=_ROOT,
        env=processes.clean_environment({"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}),
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def test_mypy_finds_the_mistakes_and_nothing_else() -> None:
    text = output("mypy", "--strict")
    found = re.findall(r"^([^:\n]+):(\d+):\d+: error", text, re.MULTILINE)
    assert {(name, int(line)) for name, line in found} == marked(), text


def test_pyright_finds_the_mistakes_and_nothing_else() -> None:
    text = output("pyright", "--outputjson", "--pythonpath", sys.executable)
    found: Lines = set()
    for each in json.loads(text)["generalDiagnostics"]:
        name = Path(each["file"]).relative_to(_ROOT).as_posix()
        found.add((name, each["range"]["start"]["line"] + 1))
    assert found == marked(), text
