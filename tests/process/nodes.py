"""Gunicorn nodes that serve ``tests/process/app.py``, or another app."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from catga_sync import ClusterMediator
from catga_sync._runtime_dir import meeting_folder
from tests.processes import Process, free_port, running, until

__all__ = ["ROOT", "default_file", "head", "node", "wait_for"]

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def node(
    name: str,
    cluster_name: str,
    *options: str,
    app: str = "tests.process.app:app",
    port: int | None = None,
    **environment: str,
) -> Iterator[Process]:
    """Run one node until the block is left; ``options`` are gunicorn's, and None means any free port."""
    port = free_port() if port is None else port
    command = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "-k", "gthread", "--threads", "8"]
    env = {"NODE": name, "PORT": str(port), "CLUSTER": cluster_name, **environment}
    with running([*command, *options, app], port=port, cwd=ROOT, env=env) as process:
        yield process


def head(*lines: str) -> bytes:
    """Return the head of a call, with these lines in it."""
    fixed = ["POST /catga/cluster/invoke HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    return "\r\n".join([*fixed, *lines, "", ""]).encode()


def default_file(cluster_name: str) -> str:
    """Return the discovery that nodes use by default, and tests do not."""
    return f"sqlite:///{meeting_folder() / cluster_name}.sqlite3"


def wait_for(client: ClusterMediator, *names: str) -> None:
    """Wait until a client sees exactly these nodes."""
    until(lambda: sorted(each.node_id for each in client.nodes()) == sorted(names), f"exactly {names} are visible")
