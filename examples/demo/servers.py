"""The three gunicorn servers of the demo: started with a place of their own to meet, and ended whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

HERE = Path(__file__).resolve().parent

#: Settings of other programs that would change what ours do.
FOREIGN = ("CATGA_", "FLASK_", "GUNICORN_", "WEB_CONCURRENCY")
#: What ends the demo early.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@dataclass(frozen=True)
class Server:
    name: str
    endpoint: str
    popen: subprocess.Popen[bytes]
    log: Path


def discovery_in(folder: Path) -> str:
    """Return the discovery that everybody in the demo is given: a file that nobody else knows of."""
    return f"sqlite:///{quote(str(folder / 'nodes.sqlite3'))}"


@contextlib.contextmanager
def running(names: list[str], cluster_name: str, folder: Path) -> Iterator[list[Server]]:
    """Run one server for each name, which is both the module and the node id, until the block is left."""
    servers: list[Server] = []
    try:
        for name in names:
            with uninterrupted():
                servers.append(_start(name, cluster_name, folder))
        yield servers
    finally:
        with uninterrupted():
            _stop(servers)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Put Ctrl-C off until the block is left, so that no server is started and forgotten, or left when cleaning up."""
    seen: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: seen.append(number)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if seen:
            signal.raise_signal(seen[0])


def _start(name: str, cluster_name: str, folder: Path) -> Server:
    own = folder / name
    own.mkdir()
    log = own / "log"
    with socket.socket() as listener, log.open("wb") as output:
        # The port is bound here and handed over: a free port that is only looked up may be gone a moment later.
        listener.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        environment = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)} | {
            "CATGA_CLUSTER_NAME": cluster_name,
            "CATGA_DISCOVERY": discovery_in(folder),
            "CATGA_ENDPOINT": endpoint,
            "CATGA_NODE_ID": name,
            "CATGA_RUNTIME_DIR": str(folder),
            "TMPDIR": str(folder),
            "XDG_RUNTIME_DIR": str(own),
        }
        gunicorn = [sys.executable, "-m", "gunicorn", "-k", "gthread", "--threads", "16"]
        popen = subprocess.Popen(
            [*gunicorn, "-b", f"fd://{listener.fileno()}", f"{name}:app"],
            cwd=HERE,
            env=environment,
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the program that asks; it ends the servers.
        )
    return Server(name, endpoint, popen, log)


def _stop(servers: list[Server], patience: float = 5.0) -> None:
    for server in servers:
        server.popen.terminate()
    end = time.monotonic() + patience
    for server in servers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.popen.wait(max(0.0, end - time.monotonic()))
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(server.popen.pid, signal.SIGKILL)  # Its workers too, should it have died without them.
        server.popen.wait()
