"""Claims in an SQLite file, for all processes of one machine; they outlive the processes and a reboot.

Rules of this file:
1. Every call is one statement, and so atomic.
2. Times are of a clock that starts at the wall clock's time when the file is first opened after a boot, and goes on
   with the machine's boot clock. So setting the wall clock changes nothing, all processes see the same time, and what
   was written before a reboot expires about when it should. A claim that was running then is lost. Where boots cannot
   be told apart (elsewhere than on Linux), the wall clock is used.
3. ``synchronous=NORMAL`` on a write-ahead log: the file is never damaged, and the crash of a process loses nothing. A
   power cut loses the claims since the last checkpoint (about 1000 pages, some hundred claims). FULL would wait for
   the disk at every claim; OFF is not measurably faster, and a power cut may damage the file.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from catga_sync._checks import check_seconds, check_whole
from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync._sqlite import SqliteFile, boot_id
from catga_sync.idempotency.base import MAX_BODY_BYTES, Claim, ClaimState, poll

__all__ = ["SqliteIdempotency"]

T = TypeVar("T")

_CLAIMS = """
CREATE TABLE IF NOT EXISTS claims (
    key TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    token TEXT NOT NULL,
    done INTEGER NOT NULL,
    body BLOB,
    lease_until REAL NOT NULL,
    keep_until REAL NOT NULL
)
"""
_INDEX = "CREATE INDEX IF NOT EXISTS claims_by_keep_until ON claims (keep_until)"
# One row: the offset to add to the boot clock of this boot.
_BOOTS = "CREATE TABLE IF NOT EXISTS boots (boot TEXT PRIMARY KEY, clock_offset REAL NOT NULL)"
# One row: made at random with the file, and copied with it.
_STORE = "CREATE TABLE IF NOT EXISTS store (one INTEGER PRIMARY KEY CHECK (one = 1), identity TEXT NOT NULL)"
_IDENTITY = "INSERT OR IGNORE INTO store VALUES (1, ?)"
_OFFSET = "SELECT clock_offset, identity FROM boots, store WHERE boot = ?"

_CLAIM = """
INSERT INTO claims VALUES (:key, :fingerprint, :token, 0, NULL, :until, :until + :ttl)
ON CONFLICT (key) DO UPDATE SET
    fingerprint = excluded.fingerprint, token = excluded.token, done = 0, body = NULL,
    lease_until = excluded.lease_until, keep_until = excluded.keep_until
WHERE keep_until <= :now
"""
_LOOK = "SELECT fingerprint, done, body, lease_until FROM claims WHERE key = :key AND keep_until > :now"
_COMPLETE = """
UPDATE claims SET done = 1, body = :body, keep_until = :now + :ttl
WHERE key = :key AND token = :token AND keep_until > :now AND done = 0
"""
_COMPLETED = "SELECT 1 FROM claims WHERE key = :key AND token = :token AND keep_until > :now AND done = 1"
_RELEASE = "DELETE FROM claims WHERE key = :key AND token = :token AND done = 0"
_SWEEP = """
DELETE FROM claims WHERE rowid IN (SELECT rowid FROM claims WHERE keep_until <= :now ORDER BY keep_until LIMIT :count)
"""

#: After so many claims a process removes up to twice as many expired ones, so that no single claim takes long.
_SWEEP_EVERY = 8
#: Attempts at a claim whose key others release between the two statements.
_TRIES = 10
#: Bytes to which the log is cut back after a rush.
_LOG_BYTES = 16 * 1024 * 1024


class SqliteIdempotency:
    """
    Keep claims and responses in an SQLite file. Thread-safe, and safe to share with forked processes.

    Not for a network share: neither SQLite's locks nor the boot clock work across machines.

    Args:
        path:
            The file. It and its folder are made when first needed, for this user only, since it holds the responses
            in clear. A file that was replaced is opened anew, and the claims of the old one are gone.

        ttl:
            Seconds for which a completed claim is kept, and a lost one from the end of its lease on. The file holds
            all claims of that time, some 400 bytes each, and their responses.

        max_body_bytes:
            The longest response that is kept; of a longer one only the fact is.

        clock:
            Measures leases and ``ttl``; None means the system's.

        sleep:
            Waits between two looks of ``wait``.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        ttl: float = 24 * 3600.0,
        max_body_bytes: int = MAX_BODY_BYTES,
        clock: Clock | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.path = Path(path)
        self._ttl = check_seconds("ttl", ttl)
        self._max_body_bytes = check_whole("max_body_bytes", max_body_bytes, 0)
        self._clock = SYSTEM_CLOCK if clock is None else clock
        self._sleep = sleep
        self._file = SqliteFile(lambda: self.path, self._prepare)
        # Guarded by the file's turn: the offset to add to the boot clock, None for the wall clock; the identity in the
        # file; and the number of claims.
        self._offset: float | None = None
        self._row = ""
        self._claims = 0

    def claim(self, key: str, fingerprint: str, lease: float) -> Claim:
        """See ``IdempotencyStore``."""
        token = uuid.uuid4().hex

        def work(db: sqlite3.Connection, now: float) -> Claim | None:
            self._sweep(db, now)
            values = {"key": key, "fingerprint": fingerprint, "token": token, "until": now + lease, "now": now}
            if db.execute(_CLAIM, {**values, "ttl": self._ttl}).rowcount:
                return Claim(ClaimState.NEW, token)
            row = db.execute(_LOOK, values).fetchone()
            if row is None:
                return None
            return _seen(row, now) if row[0] == fingerprint else Claim(ClaimState.MISMATCH)

        for _ in range(_TRIES):
            found = self._run(work)
            if found is not None:
                return found
        raise sqlite3.OperationalError("idempotency: the claim was released by others again and again")

    def complete(self, key: str, token: str, body: bytes | None) -> bool:
        """See ``IdempotencyStore``."""
        kept = None if body is None or len(body) > self._max_body_bytes else body

        def work(db: sqlite3.Connection, now: float) -> bool:
            values = {"key": key, "token": token, "body": kept, "ttl": self._ttl, "now": now}
            if db.execute(_COMPLETE, values).rowcount:
                return True
            return db.execute(_COMPLETED, {"key": key, "token": token, "now": now}).fetchone() is not None

        return self._run(work)

    def release(self, key: str, token: str) -> None:
        """See ``IdempotencyStore``."""
        self._run(lambda db, _: db.execute(_RELEASE, {"key": key, "token": token}))

    def wait(self, key: str, timeout: float) -> Claim:
        """See ``IdempotencyStore``."""
        return poll(lambda: self._look(key), timeout, self._clock, self._sleep)

    def identity(self) -> str:
        """See ``SharedIdempotencyStore``."""
        # All three: a copy of the file has the same row, and a new file may get the inode numbers of a deleted one.
        row, file = self._run(lambda _, now: (self._row, self._file.identity))
        return f"{row} {boot_id() or socket.gethostname()} {file}"

    def close(self) -> None:
        """See ``IdempotencyStore``."""
        self._file.close()

    def _run(self, work: Callable[[sqlite3.Connection, float], T]) -> T:
        def timed(db: sqlite3.Connection) -> T:
            offset, clock = self._offset, self._clock
            return work(db, clock.time() if offset is None else clock.monotonic() + offset)

        return self._file.run(timed)

    def _look(self, key: str) -> Claim:
        def work(db: sqlite3.Connection, now: float) -> Claim:
            row = db.execute(_LOOK, {"key": key, "now": now}).fetchone()
            return Claim(ClaimState.NEW) if row is None else _seen(row, now)

        return self._run(work)

    def _sweep(self, db: sqlite3.Connection, now: float) -> None:
        # Before the claim: if this fails, nothing was claimed.
        self._claims += 1
        if self._claims % _SWEEP_EVERY == 0:
            db.execute(_SWEEP, {"now": now, "count": 2 * _SWEEP_EVERY})

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        boot = boot_id()
        row = None
        # Read first, which needs no lock for writing. On an error (there is no table yet, say) the rest is done.
        with contextlib.suppress(sqlite3.OperationalError):
            row = db.execute(_OFFSET, (boot,)).fetchone()
        if row is None:
            db.execute("BEGIN IMMEDIATE")
            for statement in (_CLAIMS, _INDEX, _BOOTS, _STORE):
                db.execute(statement)
            db.execute(_IDENTITY, (uuid.uuid4().hex,))
            row = db.execute(_OFFSET, (boot,)).fetchone()
            if row is None:
                offset = self._clock.time() - self._clock.monotonic()
                db.execute("DELETE FROM boots")
                db.execute("INSERT INTO boots VALUES (?, ?)", (boot, offset))
                db.execute("UPDATE claims SET lease_until = 0 WHERE done = 0")
                row = db.execute(_OFFSET, (boot,)).fetchone()
            db.execute("COMMIT")
        self._offset, self._row = float(row[0]) if boot else None, str(row[1])


def _seen(row: Any, now: float) -> Claim:
    _, done, body, lease_until = row
    if done:
        return Claim(ClaimState.DONE, body=body)
    return Claim(ClaimState.RUNNING if now < lease_until else ClaimState.LOST)
