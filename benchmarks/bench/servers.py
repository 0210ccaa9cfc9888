"""The servers of the peers: each a process of its own, on a free port, that ends with its ``with`` block.

A module in ``peers/`` says how its server is started. One that is a program of ours is told its port; gunicorn gets the
name of an app. All servers of a part are started at once, and then each is waited for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Seconds within which a server accepts connections.
STARTING_TIME = 30.0
#: As many threads as there are callers at most, for every server.
THREADS = 32
#: Variables that would configure a server or a node from outside. Without byte code, each process compiles us anew.
_FOREIGN = ("CATGA_", "FLASK_", "GUNICORN_", "WEB_CONCURRENCY", "PROMETHEUS_", "PYTHONDONTWRITEBYTECODE")


class ServerFailedError(Exception):
    """A server did not start; the text has the end of what it said."""


@dataclass(frozen=True)
class Server:
    """A server that was started."""

    port: int
    process: subprocess.Popen[bytes]
    said: Path

    def wait_until_open(self) -> None:
        """
        Wait until the port accepts connections.

        Raises:
            ServerFailedError: It has ended, or the time was up.
        """
        end = time.monotonic() + STARTING_TIME
        while self.process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
                return
            time.sleep(0.05)
        raise ServerFailedError(self.said.read_text("utf-8", "replace").strip()[-400:] or "the server said nothing")


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def clean_environ() -> dict[str, str]:
    """Return the variables for a process: those of this one, less what would change what it does."""
    kept = {
        name: value
        for name, value in os.environ.items()
        # Where the key of this user lies: clients and servers share it.
        if not name.startswith(_FOREIGN) or name == "CATGA_RUNTIME_DIR"
    }
    return {**kept, "PYTHONPATH": str(ROOT)}


@contextlib.contextmanager
def started(command: Sequence[str], port: int, environ: Mapping[str, str] | None = None) -> Iterator[Server]:
    """
    Start a server, and end it with all its processes afterwards.

    Args:
        command: What Python is to run, without Python itself.
        port: Where it will listen.
        environ: Variables for it, beside those of ``clean_environ``.
    """
    full = {**clean_environ(), "BENCH_PORT": str(port), **(environ or {})}
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder, "said")
        with said.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=folder,
                env=full,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield Server(port, process, said)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10.0)
            # What is left of its group: it leads one.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def gunicorn(app: str, port: int, *, workers: int = 1, hooks: bool = False) -> list[str]:
    """Return the command for a WSGI app in gunicorn's threads."""
    command = ["-m", "gunicorn", "-b", f"127.0.0.1:{port}", "-k", "gthread", "--threads", str(THREADS)]
    command += ["-w", str(workers), "--keep-alive", "75", "--log-level", "error"]
    if hooks:
        command += ["-c", "python:catga_sync.integrations.gunicorn"]
    return [*command, app]
