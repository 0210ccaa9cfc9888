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


@pytest.mark.parametrize(("max_age", "keeps"), [("0", False), pytest.param("60", True, marks=pytest.mark.slow)])
def test_an_async_view_awaits_many_calls_and_each_handler_has_the_signals_of_a_request(
    tmp_path: Path, max_age: str, keeps: bool
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.apps.async_django", str(tmp_path / "db.sqlite3"), max_age],
        cwd=_ROOT,
        env=processes.clean_environment({}),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    pages, finished, received = done.stdout.splitlines()
    assert json.loads(pages) == [[one + other for other in range(5)] for one in range(20)]
    # Half of the 100 calls await another one, and have no connection of their own unless the thread has kept one.
    kept = json.loads(finished)
    assert (len(kept), any(kept)) == (150, keeps)
    assert json.loads(received) == [keeps]
