"""The servers of ``docs/servers.md``, each with what it does with streams and signals, as that page tells it."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import require_module
from tests.process.nodes import ROOT
from tests.processes import Process, running

__all__ = ["SERVERS", "Server"]

#: Where its configuration has gevent patch the standard library before anything else is imported.
GEVENT = "tests/process/gevent_conf.py"
HOOKS = "python:catga_sync.integrations.gunicorn"

WSGIREF = """
import sys
from wsgiref.simple_server import make_server
from tests.process.app import app
make_server("127.0.0.1", int(sys.argv[1]), app).serve_forever()
"""


@dataclass(frozen=True)
class Server:
    """One way to serve ``tests/process/app.py``. Immutable."""

    #: What it needs beyond this package.
    package: str
    #: Arguments of Python, or a program; ``{}`` is the port.
    command: tuple[str, ...]
    #: Whether it lends its connections for streams.
    streams: bool = False
    #: Whether calls that run at SIGTERM are ended.
    ends_calls: bool = False
    #: The options with which it replaces a worker after 20 requests; empty where there are none.
    recycling: tuple[str, ...] = ()
    #: The signal that replaces all workers; None where there is none.
    reload: signal.Signals | None = None
    #: Whether its process begins with nothing imported, see ``running()``.
    fresh: bool = False

    @contextlib.contextmanager
    def serve(self, port: int, *options: str, **environment: str) -> Iterator[Process]:
        """Serve the app until the block is left; without the package the test is skipped."""
        require_module(self.package)
        program, *arguments = (part.format(port) for part in (*self.command, *options))
        command = [sys.executable, program, *arguments]
        if not program.startswith("-"):
            command = [str(Path(sys.executable).with_name(program)), *arguments]
        env = {"PORT": str(port), **environment}
        with running(command, port=port, cwd=ROOT, env=env, fresh=self.fresh) as process:
            yield process


APP = "tests.process.app:app"
GUNICORN = ("-m", "gunicorn", "-b", "127.0.0.1:{}")
RECYCLING = ("--max-requests", "20")

SERVERS = {
    "gunicorn gthread": Server(
        "gunicorn",
        (*GUNICORN, "-k", "gthread", "--threads", "4", "-w", "2", "-c", HOOKS, APP),
        streams=True,
        ends_calls=True,
        recycling=RECYCLING,
        reload=signal.SIGHUP,
    ),
    "gunicorn sync": Server(
        "gunicorn",
        (*GUNICORN, "-k", "sync", "-w", "2", "-c", HOOKS, APP),
        ends_calls=True,
        recycling=RECYCLING,
        reload=signal.SIGHUP,
    ),
    "gunicorn gevent": Server(
        "gevent",
        (*GUNICORN, "-k", "gevent", "-w", "2", "-c", GEVENT, APP),
        ends_calls=True,
        recycling=RECYCLING,
        reload=signal.SIGHUP,
        fresh=True,
    ),
    "granian": Server(
        "granian",
        (
            *("-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", "{}", "--workers", "2"),
            *("--blocking-threads", "4", "--workers-kill-timeout", "10", APP),
        ),
        ends_calls=True,
        reload=signal.SIGHUP,
        fresh=True,
    ),
    "uwsgi": Server(
        "pyuwsgi",
        (
            "pyuwsgi",
            "--http",
            "127.0.0.1:{}",
            "--binary-path",
            sys.executable,
            "--home",
            sys.prefix,
            "--pythonpath",
            str(ROOT),
            "--need-app",
            *("--master", "--processes", "2", "--threads", "4", "--die-on-term", "--no-orphans", "--module", APP),
        ),
        recycling=RECYCLING,
        reload=signal.SIGHUP,
    ),
    "waitress": Server("waitress", ("-m", "waitress", "--listen=127.0.0.1:{}", APP)),
    "flask run": Server("flask", ("-m", "flask", "--app", "tests.process.app", "run", "--port", "{}")),
    # It starts itself once more, and hands its socket on.
    "flask run, reloader": Server(
        "flask", ("-m", "flask", "--app", "tests.process.app", "run", "--reload", "--port", "{}"), fresh=True
    ),
    "wsgiref": Server("flask", ("-c", WSGIREF, "{}")),
}
