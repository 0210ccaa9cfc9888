"""Servers that load the app as root and serve as another user: their nodes meet, in that user's folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_module, require_service
from tests.process.nodes import ROOT, node
from tests.processes import clean_environment

require_module("gunicorn")

pytestmark = pytest.mark.process

OPTIONS = ("--preload", "--user", "65534", "--group", "65534")

#: Asks as that user; what it needs is imported before, for the interpreter may lie where only root can read.
CLIENT = """
import encodings.ascii, encodings.idna, os, sys, threading, time
from catga_sync import Mediator, create_cluster
from tests.process.messages import Ask

client = create_cluster(Mediator(), node_id="client", cluster_name=sys.argv[1], router="round-robin")
os.setgid(65534)
os.setuid(65534)
with client:
    pause, end, results = threading.Event(), time.monotonic() + 40, []
    while {each.node_id for each in results} != {"n1", "n2"}:
        if time.monotonic() > end:
            sys.exit(f"{client.nodes()} {results}")
        pause.wait(0.05)
        results = [client.send(Ask("x"), timeout=5.0) for _ in range(4)]
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder for temporary files of all users; pytest's own is for one."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o1777)
    yield folder
    # gunicorn's workers may be removing theirs.
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_two_services_that_root_starts_for_another_user_see_each_other(shared: Path, cluster_name: str) -> None:
    require_service(os.getuid() == 0, "needs root, to start servers for another user")
    env = {"TMPDIR": str(shared)}
    with contextlib.ExitStack() as stack:
        for name in ("n1", "n2"):
            stack.enter_context(node(name, cluster_name, *OPTIONS, **env))
        # It ends when it has been served by both.
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, cluster_name],
            cwd=ROOT,
            env=clean_environment({**env, "PYTHONPATH": str(ROOT)}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        # A worker that is still root may have made a key for root, and meets nobody with it.
        assert {path.parent.name for path in shared.glob("catga-sync*/*.sqlite3")} == {"catga-sync-65534"}
