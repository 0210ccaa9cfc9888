"""An SQLite file that the processes of one machine share: its URL, and a process's connection to it.

Rules of this file:
1. No connection is open during a fork. Its locks belong to the process, but SQLite's record of them is in the memory
   that a fork copies: a child with an open connection of its parent's, even unused, takes the parent's locks for its
   own, and with a connection of its own goes on writing to a log that another process has removed. Writes are lost
   that way (seen with 3.40; see also https://www.sqlite.org/howtocorrupt.html, 2.6). A process that inherited a
   connection all the same neither uses nor closes it, and opens no other.
2. A process has one connection, and its threads take turns. The lock is therefore held during I/O: SQLite has one
   writer at a time anyway, and waits by sleeping, while a lock is handed on at once.
3. SQLite does not wait for a busy file; ``run`` does. SQLite's pauses grow to 100 ms, so that late callers starve, and
   it does not wait at all where it fears a deadlock, as when several processes make the file.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from catga_sync import _fork
from catga_sync._redaction import shown
from catga_sync._runtime_dir import (
    Identity,
    check_given,
    database_identity,
    ensure_private,
    make_database,
    private_file_is_there,
)
from catga_sync.errors import ConfigurationError

__all__ = ["SQLITE_SCHEMES", "SqliteFile", "boot_id", "sqlite_path"]

T = TypeVar("T")

#: Seconds that a call waits for other threads and processes, and between two attempts.
_BUSY_TIMEOUT, _PAUSE = 0.5, 0.0005
#: Seconds that a fork, or ``close``, waits for a running call.
_PATIENCE = 2.0

_START = "sqlite:///"
#: Schemes that are meant for SQLite; one with a driver, as SQLAlchemy has them, is told what to write.
SQLITE_SCHEMES = ("sqlite", "sqlite+pysqlite", "sqlite+aiosqlite", "file")
#: A path with the letter of a drive, which elsewhere than on Windows would be a folder "C:" in the current one.
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def sqlite_path(url: str, option: str, in_memory: str) -> Path:
    """
    Return the path in a URL.

    As in SQLAlchemy, that is ``sqlite:///relative``, ``sqlite:////absolute`` or ``sqlite:///~/of-the-user``; characters
    may be escaped with ``%``.

    Args:
        url: The URL.
        option: The option's name, for errors.
        in_memory: What to write for a store in memory, for errors. Each connection to such an SQLite database would
            have its own.

    Raises:
        ConfigurationError: The URL names no file, or has parameters.
    """
    raw = url[len(_START) :] if url.startswith(_START) else ""
    path, mark, _ = raw.partition("?")
    path = unquote(path)
    wanted = f"write {_START}relative/path or {_START}/absolute/path"
    if url in ("sqlite:", "sqlite:/", "sqlite://", _START) or ":memory:" in url or "mode=memory" in url:
        raise ConfigurationError(
            f"{option}: {shown(url)} is in memory, which no other process sees; {wanted}, or {in_memory}"
        )
    is_odd = "\0" in path or raw.startswith("file:") or path.endswith("/") or (os.name != "nt" and _DRIVE.match(path))
    if not path or mark or is_odd:
        raise ConfigurationError(
            f"{option}: {wanted} of a file on this system, without parameters (a question mark in a name is %3F), not "
            f"{shown(url)}"
        )
    try:
        return Path(path).expanduser()
    except RuntimeError as exc:
        raise ConfigurationError(f"{option}: there is no home folder for {shown(path)}; {wanted}") from exc


@functools.cache
def boot_id() -> str:
    """Return the id of this boot of the machine; "" where there is none (elsewhere than on Linux)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


class SqliteFile:
    """
    Run statements on a file, over one connection. Thread-safe, and safe to share with forked processes.

    The connection is opened at the first call, and again when the file was replaced.

    Args:
        place: Returns the path; called at every ``run``, in the process and by the user that calls it.
        prepare: Prepares a new connection. It is called again where the file was busy.
        private: Whether the file must be in a private folder, see ``private_file_is_there``; else see ``check_given``.
        keep: Whether the connection stays open between two calls.
    """

    def __init__(
        self,
        place: Callable[[], Path],
        prepare: Callable[[sqlite3.Connection], object],
        *,
        private: bool = False,
        keep: bool = True,
    ) -> None:
        self._place, self._prepare, self._private, self._keep = place, prepare, private, keep
        self._turn = threading.Lock()
        # Guarded by _turn: the connection, its process, and path and identity of the file when it was opened.
        self._db: sqlite3.Connection | None = None
        self._pid = 0
        self._path: Path | None = None
        self._identity: Identity = ()
        #: The thread that is forking and has the turn; 0 means none.
        self._forking = 0
        #: Whether a connection of the parent's is open in this process, so that no other is safe.
        self._inherited = False
        _fork.watch(self)

    @property
    def identity(self) -> Identity:
        """The identity of the open file. Read it during ``run``."""
        return self._identity

    def run(self, work: Callable[[sqlite3.Connection], T], absent: T | None = None) -> T:
        """
        Call ``work`` with the connection, again while the file is busy, and return its result.

        Args:
            work: Runs one transaction, or several that may be repeated.
            absent: The result where there is no file. None means that the file and its folder are made, for this user
                only.

        Raises:
            sqlite3.Error: A statement failed, or the file was busy for half a second.
            OSError: The file cannot be made; or it was open in the parent when this process was forked.
            ConfigurationError: Other users can write the file, see ``check_given`` and ``private_file_is_there``.
        """
        end = time.monotonic() + _BUSY_TIMEOUT
        with self._taken(_BUSY_TIMEOUT):
            while True:
                try:
                    db = self._connected_locked(make=absent is None)
                    if db is None:
                        assert absent is not None
                        return absent
                    done = work(db)
                except BaseException as exc:
                    busy = isinstance(exc, sqlite3.OperationalError) and "lock" in str(exc)
                    if not busy or time.monotonic() >= end:
                        # The next call starts with a new connection, whatever is wrong with this one.
                        self._close_locked()
                        raise
                else:
                    if not self._keep:
                        self._close_locked()
                    return done
                time.sleep(_PAUSE)

    def close(self) -> None:
        """Close the connection. Waits for a running call. Safe to call twice; a later call opens one again."""
        with self._taken(_PATIENCE):
            self._close_locked()

    @contextlib.contextmanager
    def _taken(self, timeout: float) -> Iterator[None]:
        _fork.check_process()
        turn = self._turn
        if not turn.acquire(timeout=timeout):
            raise sqlite3.OperationalError(f"the file was in use by other threads for {timeout} s")
        try:
            yield
        finally:
            turn.release()

    def _connected_locked(self, *, make: bool) -> sqlite3.Connection | None:
        if self._inherited:
            raise OSError("it was open when this process was forked; fork workers before they serve, and with os.fork")
        path = self._place()
        if self._db is not None:
            # Cleaners of /tmp remove files that were not touched for long; other processes then make a new one.
            if path == self._path and database_identity(path) == self._identity:
                return self._db
            self._close_locked()
        if not self._is_there(path):
            if not make:
                return None
            if self._private:
                ensure_private(path.parent)
            else:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if make:
            # Made here rather than by SQLite, so that no other user can ever read it.
            make_database(path)
        self._db, self._pid = self._connect(path), os.getpid()
        try:
            self._prepare(self._db)
        except BaseException:
            self._close_locked()
            raise
        self._path, self._identity = path, database_identity(path)
        return self._db

    def _is_there(self, path: Path) -> bool:
        if self._private:
            return private_file_is_there(path)
        check_given(path)
        return path.exists()

    @staticmethod
    def _connect(path: Path) -> sqlite3.Connection:
        # "rw": the file is not made again where it has just been removed.
        url = f"{path.absolute().as_uri()}?mode=rw"
        return sqlite3.connect(url, uri=True, timeout=0.0, isolation_level=None, check_same_thread=False)

    def _close_locked(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def before_fork(self) -> None:
        """See ``Forkable``."""
        if self._turn.acquire(timeout=_PATIENCE):
            self._forking = threading.get_ident()
            self._close_locked()

    def after_fork_in_parent(self) -> None:
        """See ``Forkable``."""
        if self._forking == threading.get_ident():
            self._forking = 0
            self._turn.release()

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``. Safe to call twice."""
        self._turn = threading.Lock()
        self._forking = 0
        if self._db is not None and self._pid != os.getpid():
            import ctypes

            # Dropping the last reference would close the connection, so one reference is kept for ever.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._db))
            self._db, self._inherited = None, True
