"""Nonces of signed requests: a captured request is not accepted again. Stored responses are in ``deduplication.py``.

A store that cannot check a nonce raises, and then the request is refused. No store drops nonces early to make room.

A nonce is added only when the signature of its request was found good, so callers without a key cannot fill a store.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from catga_sync._checks import check_whole
from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync._sqlite import SqliteFile, boot_id
from catga_sync.errors import CatgaError, ConfigurationError

__all__ = ["NonceStore", "NonceStoreError", "SqliteNonces"]

#: The most seconds for which a nonce can be remembered.
_LONGEST = 86_400.0
_PAGE_BYTES = 4096

# rowid grows with time, so the oldest are found without an index.
_SCHEMA = "CREATE TABLE IF NOT EXISTS nonces (nonce TEXT PRIMARY KEY, expires REAL NOT NULL)"
_ADD = (
    "INSERT INTO nonces VALUES (?, ?) "
    "ON CONFLICT (nonce) DO UPDATE SET expires = excluded.expires WHERE nonces.expires <= ?"
)
# A nonce that expires in more than a day is from before a boot, on a system without boot ids.
_CLEAN_ALL = "DELETE FROM nonces WHERE expires <= :now OR expires > :now + 86400"
# Every so many calls, up to four times as many of the oldest are checked: this keeps up, and never takes long.
_CLEAN_EVERY = 64
_CLEAN_SOME = (
    "DELETE FROM nonces WHERE (expires <= :now OR expires > :now + 86400) "
    "AND rowid < (SELECT min(rowid) FROM nonces) + 256"
)


class NonceStoreError(CatgaError):
    """The store cannot check a nonce, so the request is to be refused."""


class NonceStore(Protocol):
    """
    A store of nonces. Any thread may make any call, also after a fork; all return or raise within a second.

    .. versionadded:: 0.1
    """

    def add(self, nonce: str, expires_in: float) -> bool:
        """
        Store a nonce; return False if it is stored already. Of any number of callers exactly one gets True.

        Args:
            nonce: That of a request whose signature is good.
            expires_in: Seconds after which it may be removed: more than 0, a day at most.

        Raises:
            NonceStoreError: The nonce cannot be checked. Any other exception means the same.
        """

    def close(self) -> None:
        """Close files and connections. Safe to call twice; a later call opens them again."""


class SqliteNonces:
    """
    Stores nonces in an SQLite file, for a node whose workers run on one machine. Thread-safe, also across forks.

    The file outlives the processes, but not the boot of the machine: it is not synced to the disk, so a crash of
    the machine may have damaged it. Therefore the boot id is part of the name of the file.

    Args:
        path:
            The file, on a local disk, or what returns it: called as the file is opened, in the process and by the
            user that opens it. It and its folder are made then, for this user only.

        max_bytes:
            Length of the file, at some 100 bytes a nonce. When it is reached, ``add`` raises.

        clock:
            Tells when a nonce has expired; it must be the same for all processes. None means the system's, which
            starts with the machine.

    Raises:
        ConfigurationError: ``max_bytes`` is no whole number, or too few for a database.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Callable[[], Path],
        *,
        max_bytes: int = 64 * 1024 * 1024,
        clock: Clock | None = None,
    ) -> None:
        self._place = path
        self._max_pages = check_whole("max_bytes", max_bytes, 16 * _PAGE_BYTES) // _PAGE_BYTES
        self._clock = SYSTEM_CLOCK if clock is None else clock
        self._file = SqliteFile(lambda: _file_of_this_boot(self.path), self._prepare, private=True)
        # Guarded by the file's turn.
        self._calls = 0

    @property
    def path(self) -> Path:
        """The file, without the name of the boot."""
        return self._place() if callable(self._place) else Path(self._place)

    def add(self, nonce: str, expires_in: float) -> bool:
        """See ``NonceStore``."""
        _check(nonce, expires_in)
        try:
            return self._file.run(lambda db: self._add(db, nonce, expires_in))
        except (sqlite3.Error, OSError, ConfigurationError) as exc:
            raise NonceStoreError(f"nonces: {self.path} cannot be used: {exc}") from exc

    def close(self) -> None:
        """See ``NonceStore``."""
        self._file.close()

    def _add(self, db: sqlite3.Connection, nonce: str, expires_in: float) -> bool:
        now = self._clock.monotonic()
        values = (nonce, now + expires_in, now)
        try:
            added = db.execute(_ADD, values).rowcount == 1
        except sqlite3.OperationalError as exc:
            if "full" not in str(exc):
                raise
            db.execute(_CLEAN_ALL, {"now": now})
            added = db.execute(_ADD, values).rowcount == 1
        self._calls += 1
        if self._calls % _CLEAN_EVERY == 0:
            # The nonce is in; whether others are out does not matter to this call.
            with contextlib.suppress(sqlite3.OperationalError):
                db.execute(_CLEAN_SOME, {"now": now})
        return added

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute(f"PRAGMA max_page_count = {self._max_pages}")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(_SCHEMA)
        # The folder has the files of all nodes of this user, so only who makes the file looks through it.
        (cleaned,) = db.execute("PRAGMA user_version").fetchone()
        if not cleaned:
            _remove_other_boots(self.path)
            db.execute("PRAGMA user_version = 1")


def _check(nonce: str, expires_in: float) -> None:
    if not isinstance(nonce, str) or not 1 <= len(nonce) <= 128:
        raise ValueError("nonce: give 1 to 128 characters")
    if not 0 < expires_in <= _LONGEST:
        raise ValueError(f"expires_in: give seconds, more than 0 and at most {_LONGEST:g}")


@functools.lru_cache(maxsize=16)  # asked for with every nonce; the paths are few
def _file_of_this_boot(path: Path) -> Path:
    boot = boot_id()[:8]
    return path.with_name(f"{path.stem}-{boot}{path.suffix}") if boot else path


def _remove_other_boots(path: Path) -> None:
    """Remove the files of former boots, which no process has open."""
    start, present = f"{path.stem}-", _file_of_this_boot(path).name
    former = re.compile(rf"{re.escape(start)}[0-9a-f]{{8}}{re.escape(path.suffix)}(-wal|-shm)?")
    with os.scandir(path.parent) as found:
        names = [each.name for each in found if each.name.startswith(start)]
    for name in names:
        if former.fullmatch(name) and not name.startswith(present):
            with contextlib.suppress(OSError):
                path.with_name(name).unlink()
