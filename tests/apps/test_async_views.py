"""Calls that an async view of Django awaits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import processes
from tests.conftest import require_module

require_module("django")

pytestmark = pytest.mark.process

_ROOT = Path(__file__).parents[2]


def test_an_async_view_awaits_many_calls_and_each_handler_has_the_signals_of_a_request(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.apps.async_django", str(tmp_path / "db.sqlite3")],
        cwd=_ROOT,
        env=processes.clean_environment({}),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    pages, finished = done.stdout.splitlines()
    assert json.loads(pages) == [[one + other for other in range(5)] for one in range(20)]
    assert finished == "100"
