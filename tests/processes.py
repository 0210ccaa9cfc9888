"""Real server processes for tests: start, wait until they answer, end, and show what they said when a test fails.

    with running([sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "app:app"], port=port) as server:
        requests.get(server.url)

Rules of this file:
1. A process leads its own group, and the whole group is gone when the ``with`` block is left.
2. Nothing waits for a time: everything polls a condition until a deadline.
3. The environment of the tests does not reach the process where it could change what it does.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import requests

from catga_sync._runtime_dir import RUNTIME_DIR
from tests import zygote

__all__ = [
    "Process",
    "clean_environment",
    "exclusive",
    "free_port",
    "get",
    "group_is_gone",
    "port_is_free",
    "run",
    "running",
    "stopped",
    "talking",
    "until",
]

T = TypeVar("T")

#: Below the range from which systems take the ports of outgoing connections, so that none of those gets in between.
_PORTS = range(20_000, 32_000)

_FOREIGN = ("CATGA_", "DJANGO_", "FLASK_", "GUNICORN_", "WEB_CONCURRENCY", "PORT")


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether a server could listen there."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections are still in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


#: The ports that this process was given.
_given: set[int] = set()


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens, and which no other test of this machine is given."""
    for port in random.sample(_PORTS, 200):
        if port not in _given and _reserve(port) and port_is_free(port):
            _given.add(port)
            return port
    raise RuntimeError(f"no free port among 200 of {_PORTS.start}-{_PORTS.stop - 1}")


@functools.cache
def _reservations() -> int:
    return os.open(Path(tempfile.gettempdir(), f"catga-tests-ports-{os.getuid()}.lock"), os.O_CREAT | os.O_RDWR, 0o600)


def _reserve(port: int) -> bool:
    """Keep a port from the other processes that run tests until this one ends; return whether it was to be had."""
    try:
        # A byte for each port. Such a lock belongs to the process: no child has it, and no server that is started.
        fcntl.lockf(_reservations(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def until(probe: Callable[[], T | None], what: str | Callable[[], str], timeout: float = 20.0) -> T:
    """
    Call ``probe`` until it returns something else than None, False, 0 or something empty, and return that.

    Args:
        probe: What is called.
        what: What is waited for, or a function that returns it when the time is up.
        timeout: Seconds.

    Raises:
        AssertionError: The time was up; the text says what was waited for.
    """
    pause, seconds = threading.Event(), 0.01
    end = time.monotonic() + timeout
    while True:
        found = probe()
        # An answer with status 404 is "false" to requests, and there all the same.
        if found is not None and (found or not isinstance(found, (int, float, Sized))):
            return found
        if time.monotonic() >= end:
            raise AssertionError(f"not within {timeout:g} s: {what if isinstance(what, str) else what()}")
        pause.wait(seconds)
        seconds = min(0.05, 1.5 * seconds)


def get(url: str, timeout: float = 10.0) -> requests.Response | None:
    """GET as curl would, without proxies, or None where nobody answers."""
    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.get(url, timeout=timeout)
        except requests.RequestException:
            return None


@contextlib.contextmanager
def exclusive(name: str, timeout: float = 60.0) -> Iterator[None]:
    """Let one test of this machine at a time into the block, whichever worker or checkout it belongs to."""
    with Path(tempfile.gettempdir(), f"catga-tests-{name}.lock").open("a") as file:

        def lock() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        until(lock, f"another test lets go of {name}", timeout)
        yield  # closing the file unlocks it


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """
    Return the environment of this process without what would configure a server, and with ``extra``.

    The folder where nodes meet is that of the tests; with a ``TMPDIR`` of its own, a process has the default one there.
    """
    extra = extra or {}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    if RUNTIME_DIR in os.environ and "TMPDIR" not in extra:
        kept[RUNTIME_DIR] = os.environ[RUNTIME_DIR]
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


def run(
    *arguments: str | Path, cwd: str | Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 100.0
) -> subprocess.CompletedProcess[str]:
    """
    Run Python until it ends, and return what it has said.

    Args:
        arguments: Of Python: ``-c``, ``-m`` or a script, and before it ``-W error`` perhaps.
        cwd: Where it runs. None means: here.
        env: Added to ``clean_environment()``.
        timeout: Seconds. Later it is killed, and ``subprocess.TimeoutExpired`` raised.
    """
    command = [sys.executable, *map(str, arguments)]
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = zygote.start(
            command,
            cwd,
            clean_environment(env),
            stdin=stdin.fileno(),
            stdout=stdout.fileno(),
            stderr=stderr.fileno(),
        )
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
            process.wait()
        for file in (stdout, stderr):
            file.seek(0)
        return subprocess.CompletedProcess(command, code, stdout.read().decode(), stderr.read().decode())


@contextlib.contextmanager
def talking(
    *arguments: str | Path, cwd: str | Path | None = None, env: Mapping[str, str] | None = None
) -> Iterator[zygote.Forked]:
    """Run Python with pipes to its stdin and from its stdout, see ``run()``; kill it when the block is left."""
    command = [sys.executable, *map(str, arguments)]
    read, write = os.pipe(), os.pipe()
    process = zygote.start(command, cwd, clean_environment(env), stdin=read[0], stdout=write[1], stderr=2)
    os.close(read[0])
    os.close(write[1])
    with os.fdopen(read[1], "w") as stdin, os.fdopen(write[0]) as stdout:
        process.stdin, process.stdout = stdin, stdout
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            with contextlib.suppress(BrokenPipeError):
                stdin.close()


def group_is_gone(group: int) -> bool:
    """Return whether no process of that group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # macOS: nothing but zombies is left
        return True
    return False


@contextlib.contextmanager
def stopped(group: int) -> Iterator[None]:
    """Have all processes of a group hang, with their connections open, until the block is left."""
    os.killpg(group, signal.SIGSTOP)
    try:
        # The signal stops a process when one of its threads takes it. Until then the others may serve a call.
        until(lambda: not _runs(group), f"the processes of group {group} have stopped")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGCONT)


def _runs(group: int) -> bool:
    """Return whether a thread of that group is not stopped. Where there is no /proc, nothing is known of any."""
    for file in Path("/proc").glob("[0-9]*/task/*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            state, _, its_group = file.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "TtZX":
                return True
    return False


@dataclass(frozen=True)
class Process:
    """A running server. Immutable."""

    popen: subprocess.Popen[bytes] | zygote.Forked
    port: int
    log: Path

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id, which is the id of its group too."""
        return self.popen.pid

    def output(self) -> str:
        """Return everything that it has written to stdout and stderr."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def signal(self, number: int) -> None:
        """Send a signal to the process itself, not to its group."""
        self.popen.send_signal(number)

    def stop(self, timeout: float = 15.0) -> None:
        """End it as an operator would, with SIGTERM; kill what is left of its group after ``timeout`` seconds."""
        group = self.popen.pid
        with contextlib.suppress(ProcessLookupError):
            self.popen.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        self.popen.wait()

    def is_listening(self) -> bool:
        """
        Return whether its port takes connections.

        Raises:
            AssertionError: It has ended instead.
        """
        if self.popen.poll() is not None:
            raise AssertionError(f"ended with {self.popen.returncode} before it listened on port {self.port}")
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def _start(
    command: list[str], cwd: str | Path | None, env: dict[str, str], output: int, fresh: bool
) -> subprocess.Popen[bytes] | zygote.Forked:
    with Path(os.devnull).open("rb") as nothing:
        stdin = nothing.fileno()
        if not fresh and zygote.can_start(command, env):
            return zygote.start(command, cwd, env, stdin=stdin, stdout=output, stderr=output)
        return subprocess.Popen(
            command, cwd=cwd, env=env, stdin=stdin, stdout=output, stderr=output, start_new_session=True
        )


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    *,
    port: int,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 30.0,
    fresh: bool = False,
) -> Iterator[Process]:
    """
    Run a server until the block is left.

    Args:
        command: Program and arguments.
        port: Where it will listen, on 127.0.0.1.
        cwd: Where it runs. None means: here.
        env: Added to ``clean_environment()``.
        timeout: Seconds until it must listen.
        fresh: Whether no package of others may be imported already, as some are in a process of the zygote.
    """
    if not port_is_free(port):
        raise AssertionError(f"port {port} is taken, so nobody can tell who would answer there")
    with tempfile.TemporaryDirectory(prefix="catga-test-") as folder:
        log = Path(folder, "output")
        with log.open("wb") as output:
            popen = _start([str(part) for part in command], cwd, clean_environment(env), output.fileno(), fresh)
        process = Process(popen, port, log)
        try:
            until(process.is_listening, f"{command} listens on port {port}", timeout)
            yield process
        finally:
            process.stop()
            # pytest keeps this, and shows it with a test that fails.
            print(f"--- {' '.join(map(str, command))} (pid {popen.pid}) said:\n{process.output()}--- end")
