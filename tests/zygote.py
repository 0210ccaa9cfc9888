"""Python processes for tests, forked from one that has imported what they all import: half of a start is that.

    process = zygote.start([sys.executable, "-m", "gunicorn", "app:app"], None, env, stdin=0, stdout=1, stderr=2)

It does what ``subprocess.Popen(command, start_new_session=True)`` does. Nothing of ours is imported beforehand, so each
process runs our code from its first line. ``tests.processes`` is what tests use of it.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import types
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

__all__ = ["Forked", "can_start", "start"]

#: Packages of others that start no thread and read neither environment nor working directory when they are imported, as
#: gunicorn, prometheus_client and grpc do.
_IMPORTED = (
    "concurrent.futures.thread",
    "django.core.handlers.wsgi",
    "django.core.management",
    "django.db.models",
    "flask",
    "http.server",
    "marshmallow",
    "redis",
    "requests",
    "sqlite3",
    "waitress",
    "werkzeug.serving",
)


# -- in the test ------------------------------------------------------------------------------------------------------


class Forked:
    """A process of the zygote, with what tests use of ``subprocess.Popen``. Not thread-safe."""

    def __init__(self, link: socket.socket) -> None:
        """Take the connection over which the zygote tells the process id, and later how the process has ended."""
        self._link = link
        self.pid = int(self._read())
        self.returncode: int | None = None
        self.stdin: TextIO | None = None
        self.stdout: TextIO | None = None

    def _read(self) -> bytes:
        line = self._link.recv(100)
        if not line:
            raise AssertionError("the process that forks servers has ended")
        return line

    def poll(self) -> int | None:
        """Return how it has ended, as ``Popen.returncode`` does, or None if it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0.0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Return how it has ended; raise ``subprocess.TimeoutExpired`` if it still runs after ``timeout`` seconds."""
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._link, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            self.returncode = int(self._read())
            self._link.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and the zygote is about to tell
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Send it SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)


def can_start(command: Sequence[str], env: Mapping[str, str]) -> bool:
    """Return whether that is for this very Python, and the environment has nothing else for Python itself than ours."""
    return command[0] == sys.executable and _for_python(env) == _for_python({**os.environ, "PYTHONUNBUFFERED": "1"})


def _for_python(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(("PYTHON", "LD_", "MALLOC_"))}


_turn = threading.Lock()


def start(
    command: Sequence[str], cwd: str | Path | None, env: Mapping[str, str], *, stdin: int, stdout: int, stderr: int
) -> Forked:
    """
    Start a command in a session of its own. Thread-safe.

    Args:
        command: What ``can_start`` has said yes to. Of Python's own options it may have ``-W error`` alone.
        cwd: Where it runs. None means: here.
        env: Its whole environment.
        stdin, stdout, stderr: The descriptors that it gets. The caller still has to close them.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        order = json.dumps([list(command[1:]), str(cwd or Path.cwd()), dict(env)]).encode()
        with _turn:
            socket.send_fds(_control(), [order], [its.fileno(), stdin, stdout, stderr])
        return Forked(ours)


@functools.cache
def _control() -> socket.socket:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # A session of its own: Ctrl-C ends the tests, and they end their servers.
    popen = subprocess.Popen(
        [sys.executable, __file__, str(its.fileno())],
        pass_fds=[its.fileno()],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    its.close()
    atexit.register(popen.wait)
    atexit.register(ours.close)  # tells it to end
    return ours


# -- in the zygote ----------------------------------------------------------------------------------------------------


def _serve(control: socket.socket) -> list[str] | None:
    """Fork for each order until the tests have ended. Return in a child the arguments of Python, in the zygote None."""
    links: dict[int, socket.socket] = {}
    ended, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake.fileno())
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is ended:
                    ended.recv(4096)
                    _tell_ends(links)
                    continue
                order, descriptors, *_ = socket.recv_fds(control, 1 << 20, 4)
                if not order:
                    return None
                link, streams = socket.socket(fileno=descriptors[0]), descriptors[1:]
                arguments, cwd, env = json.loads(order)
                if (pid := os.fork()) == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    selector.close()
                    for ours in (control, ended, wake, link, *links.values()):
                        ours.close()
                    _become(cwd, env, streams)
                    return list(arguments)
                for each in streams:
                    os.close(each)
                links[pid] = link
                link.send(b"%d" % pid)


def _tell_ends(links: dict[int, socket.socket]) -> None:
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            with links.pop(found[0]) as link, contextlib.suppress(OSError):
                link.send(b"%d" % os.waitstatus_to_exitcode(found[1]))


def _become(cwd: str, env: dict[str, str], streams: list[int]) -> None:
    os.setsid()
    os.chdir(cwd)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()


def _run(arguments: list[str]) -> None:
    """Do what Python does with these arguments."""
    if arguments[:2] == ["-W", "error"]:
        sys.warnoptions.append("error")
        warnings.simplefilter("error")
        del arguments[:2]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path[0] = str(Path.cwd())
        runpy._run_module_as_main(arguments[1])  # type: ignore[attr-defined]
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        sys.path[0] = ""
        exec(compile(arguments[1], "<string>", "exec"), main.__dict__)
    else:
        sys.argv = arguments
        sys.path[0] = str(Path(arguments[0]).resolve().parent)
        main.__file__ = arguments[0]
        exec(compile(Path(arguments[0]).read_bytes(), arguments[0], "exec"), main.__dict__)


if __name__ == "__main__":
    for name in _IMPORTED:
        with contextlib.suppress(ImportError):  # an extra that is not installed
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    if (order := _serve(socket.socket(fileno=int(sys.argv[1])))) is not None:
        _run(order)
