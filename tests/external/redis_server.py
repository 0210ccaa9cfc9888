"""Redis servers for tests: real ones, private, on a free port, in a folder of their own, without persistence.

    with RedisServer() as server:
        RedisDiscovery(server.url)
        server.kill()
        server.start()          # on the same port, empty

Rules of this file:
1. ``require_redis`` skips where there is no ``redis-server``, and fails in CI.
2. Whatever a test did to it, the server is gone when its ``with`` block is left.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import processes
from tests.conftest import require_module, require_service
from tests.contracts.discovery import HeldClock

__all__ = ["RedisServer", "ServersClock", "be_patient", "require_redis"]


def be_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stores wait for longer than they do: a busy machine is no hung server. Not where time is the matter."""
    monkeypatch.setattr("catga_sync._redis._TIMEOUT", 20.0)
    monkeypatch.setattr("catga_sync.idempotency.redis._CLAIM_WITHIN", 20.0)


def require_redis() -> Any:
    """Return the redis package if it and a Redis server are there; call it at the top of a test module."""
    __tracebackhide__ = True
    redis = require_module("redis")
    require_service(shutil.which("redis-server") is not None, "needs redis-server: apt install redis-server, or alike")
    return redis


class RedisServer:
    """
    One server. Not thread-safe.

    Args:
        options: As on the command line, without the dashes: ``requirepass="x"``. With a ``tls_cert_file`` the port is
            one for TLS.
    """

    def __init__(self, **options: str) -> None:
        self.port = processes.free_port()
        self.folder = Path()
        ports = {"port": "0", "tls_port": str(self.port)} if "tls_cert_file" in options else {"port": str(self.port)}
        self._options = {**ports, **options}
        self._around = contextlib.ExitStack()
        self._run = contextlib.ExitStack()
        self._process: processes.Process | None = None

    @property
    def url(self) -> str:
        """Where it answers, without user and password."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def process(self) -> processes.Process:
        assert self._process is not None, "not started"
        return self._process

    def option(self, name: str) -> str:
        """Return an option that it was made with."""
        return self._options[name]

    def __enter__(self) -> RedisServer:
        self.folder = Path(self._around.enter_context(tempfile.TemporaryDirectory(prefix="catga-redis-")))
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        self._around.close()

    def start(self, **options: str) -> None:
        """Start it on the port it had, with ``options`` that differ this time; empty, unless it was told to save."""
        standard = {
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "dir": str(self.folder),
            "databases": "2",
        }
        arguments = [
            part
            for name, value in {**standard, **self._options, **options}.items()
            for part in (f"--{name.replace('_', '-')}", *value.split(" "))
        ]
        self._process = self._run.enter_context(
            processes.running(["redis-server", *arguments], port=self.port, cwd=self.folder)
        )

    def kill(self) -> None:
        """End it as a power failure would. Does nothing to one that is not there."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.signal(signal.SIGKILL)
            self._process.popen.wait()
            self._process = None
        self._run.close()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Have it hang, with its connections open, until the block is left."""
        with processes.stopped(self.process.pid):
            yield

    def client(self, **settings: Any) -> Any:
        """Return a client of the tests' own, for looking and for mischief; close it."""
        import redis

        return redis.Redis(port=self.port, protocol=2, **settings)

    def command(self, *words: Any) -> Any:
        """Run a command, on a connection of its own, and return the answer."""
        with contextlib.closing(self.client()) as client:
            return client.execute_command(*words)

    @contextlib.contextmanager
    def watched(self) -> Iterator[dict[str, int]]:
        """Count the commands of the block, those inside scripts too: name -> calls, filled in at its end."""
        counts: dict[str, int] = {}
        with contextlib.closing(self.client()) as client:
            client.config_resetstat()
            begun = client.info("stats")["total_net_output_bytes"]
            yield counts
            counts["bytes out"] = client.info("stats")["total_net_output_bytes"] - begun
            found = client.info("commandstats")
        counts.update({name.removeprefix("cmdstat_"): each["calls"] for name, each in found.items()})


#: ARGV: milliseconds. Moves each time that a store here keeps: the expiry of keys, and what it writes down itself.
_MOVE = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'hash' and redis.call('HEXISTS', key, 'lease') == 1 then
    redis.call('HINCRBY', key, 'lease', -ARGV[1])
  elseif kind == 'zset' and (string.match(key, ':expiry$') or string.match(key, ':late$')) then
    for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do redis.call('ZINCRBY', key, -ARGV[1], member) end
  end
  local left = redis.call('PTTL', key)
  if left >= 0 then redis.call('PEXPIRE', key, left - ARGV[1]) end
end
"""


class ServersClock(HeldClock):
    """The clock of a server: it goes by itself, and is put forward by moving all that is kept into the past."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._ahead = 0.0

    @property
    def seconds(self) -> float:  # type: ignore[override]  # it goes by itself
        return time.monotonic() + self._ahead

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        forward = seconds - self.seconds
        self._server.command("EVAL", _MOVE, 0, round(1000 * forward))
        self._ahead += forward
