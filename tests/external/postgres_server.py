"""PostgreSQL servers for tests: real ones, private, on a free port, in a folder of their own.

    with PostgresServer() as server:
        server.create("shop")                   # a database, and the user "app" who may do anything in it
        server.cut("shop", 3)                   # end three of that user's connections, as a failover would

Rules of this file:
1. ``require_postgres`` skips where there is no server to start, and fails in CI.
2. The server refuses to run as root: root starts it as the user that Debian's package makes.
3. Whatever a test did to it, the server and its data are gone when its ``with`` block is left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests import processes
from tests.conftest import require_module, require_service
from tests.processes import until

__all__ = ["PostgresServer", "require_postgres"]

#: Where Debian and its children put what is not for the path.
_DEBIAN = Path("/usr/lib/postgresql")
_USER = "postgres"
_CUT = "FATAL:  terminating connection due to administrator command"


def _program(name: str) -> str | None:
    newest = sorted(_DEBIAN.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    return str(newest[-1]) if newest else shutil.which(name)


def require_postgres() -> Any:
    """Return the psycopg package if it and a PostgreSQL server are there; call it at the top of a test module."""
    __tracebackhide__ = True
    psycopg = require_module("psycopg")
    there = _program("initdb") is not None and (os.geteuid() != 0 or shutil.which("setpriv") is not None)
    require_service(there, "needs PostgreSQL: apt install postgresql, or alike")
    return psycopg


def _as_its_user(*command: str) -> list[str]:
    # Not runuser: it stays between us and the server, and signals would be its own affair.
    return [
        *(("setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups") if os.geteuid() == 0 else ()),
        *command,
    ]


class PostgresServer:
    """One server. Not thread-safe, but for ``cut``."""

    def __init__(self) -> None:
        self.port = processes.free_port()
        self._around = contextlib.ExitStack()
        self._process: processes.Process | None = None

    def __enter__(self) -> PostgresServer:
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="catga-postgres-"))
            if os.geteuid() == 0:
                shutil.chown(folder, _USER, _USER)
            self._start(stack, folder)
            self._around = stack.pop_all()
        return self

    def _start(self, stack: contextlib.ExitStack, folder: str) -> None:
        data = f"{folder}/data"
        initdb = ["-D", data, "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(
            _as_its_user(_program("initdb") or "initdb", *initdb), cwd=folder, capture_output=True, text=True
        )
        assert made.returncode == 0, made.stderr
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": folder,
            "log_line_prefix": "%d ",
            "fsync": "off",
            "full_page_writes": "off",
            "max_wal_senders": "0",
            "wal_level": "minimal",
            "autovacuum": "off",
            # A connection is a process: less for it to map.
            "shared_buffers": "16MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = _as_its_user(_program("postgres") or "postgres", "-D", data, *options)
        self._process = stack.enter_context(processes.running(command, port=self.port, cwd=folder))
        # A fast shutdown, which ends clients' connections: SIGTERM would wait for them.
        stack.callback(self._process.popen.wait, 15)
        stack.callback(self._process.signal, signal.SIGINT)
        until(self._is_ready, "PostgreSQL takes connections")
        self.execute(_USER, "create role app login")

    def __exit__(self, *exc: object) -> None:
        self._around.close()

    def _is_ready(self) -> bool:
        import psycopg

        try:
            self.execute(_USER, "select 1")
        except psycopg.OperationalError:
            return False
        return True

    def execute(self, database: str, statement: str, *values: Any) -> list[Any]:
        """Run a statement as the server's owner, on a connection of its own; return the rows, if it gives any."""
        import psycopg

        with (
            psycopg.connect(
                host="127.0.0.1", port=self.port, user=_USER, dbname=database, autocommit=True
            ) as connection,
            connection.execute(statement, values) as cursor,
        ):
            return [] if cursor.description is None else cursor.fetchall()

    def create(self, database: str) -> None:
        """Make an empty database of the user ``app``."""
        self.execute(_USER, f"create database {database} owner app")

    def connections(self, database: str) -> list[str]:
        """Return the state of each connection that the user ``app`` has there."""
        return [
            state
            for (state,) in self.execute(
                _USER, "select state from pg_stat_activity where usename = 'app' and datname = %s", database
            )
        ]

    def cut(self, database: str, most: int) -> int:
        """End up to so many of that user's connections, whichever; return how many were told to end."""
        victims = "select pid from pg_stat_activity where usename = 'app' and datname = %s order by random() limit %s"
        return len(self.execute(_USER, f"select pg_terminate_backend(pid) from ({victims}) as victims", database, most))

    def cuts(self, database: str) -> int:
        """Return how many connections were cut, by the server's own word."""
        assert self._process is not None, "not started"
        return self._process.output().count(f"{database} {_CUT}")
