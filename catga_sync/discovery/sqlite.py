"""Records in an SQLite file, for the processes of one machine: the default, because it needs no server.

Rules of this file:
1. A connection lives for one call: none is open between two calls.
2. Times are of the machine's boot clock, which all its processes share and which cannot be set. A record that was
   written before the last boot has expired.
3. A node whose processes are all dead is left out at once: ``is_alive`` looks at the locks of ``worker_group.py``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync._sqlite import SqliteFile, boot_id
from catga_sync.errors import NodeIdTaken
from catga_sync.nodes import ClusterNode, NodeRecord

__all__ = ["SqliteDiscovery"]

_log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS nodes (
    cluster TEXT NOT NULL,
    node_id TEXT NOT NULL,
    incarnation TEXT NOT NULL,
    record TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    boot TEXT NOT NULL,
    written REAL NOT NULL,
    expires REAL NOT NULL,
    PRIMARY KEY (cluster, node_id)
)
"""
#: The rows of a result, and the number of rows that were written.
_Outcome = tuple[list[Any], int]


class SqliteDiscovery:
    """
    Keep the records in an SQLite file. Thread-safe, and safe to share with forked processes.

    Args:
        path:
            The file, or a function that returns it, called at each opening in the process and by the user that opens
            it. The file and its folder are made when first needed, for this user only. A function returns a file in a
            private folder, which is refused unless file and folder are this user's own, closed to others, and no
            links. A path is refused only if another user has made it in a world-writable folder.

        cluster_name:
            Clusters in the same file do not see each other's nodes.

        is_alive:
            Returns whether a process of a node is still there; None where that cannot be known here. Without it (None)
            records stay until they expire.

        clock:
            Measures the age of records; None means the system's.

    .. versionadded:: 0.1
    """

    refresh_interval = 0.25

    def __init__(
        self,
        path: str | os.PathLike[str] | Callable[[], Path],
        *,
        cluster_name: str = "default",
        is_alive: Callable[[ClusterNode], bool | None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._place = path
        self._file = SqliteFile(lambda: self.path, lambda db: None, private=callable(path), keep=False)
        self._cluster = cluster_name
        self._is_alive = is_alive
        self._clock = SYSTEM_CLOCK if clock is None else clock
        #: The rows that were left out when the file was last read.
        self._refused: frozenset[Any] = frozenset()

    @property
    def path(self) -> Path:
        """The file."""
        return self._place() if callable(self._place) else Path(self._place)

    @property
    def where(self) -> str:
        """See ``Discovery``."""
        missing = ""
        with contextlib.suppress(OSError):  # the folder may be closed to this user
            missing = "" if self.path.exists() else ", which does not exist"
        return f"the SQLite file {self.path.absolute()}{missing} (cluster_name {self._cluster!r})"

    def register(self, record: NodeRecord, ttl: float) -> None:
        """See ``Discovery``."""
        node, boot, now = record.node, boot_id(), self._now()
        row = (self._cluster, node.node_id, node.incarnation, record.to_text(), node.endpoint, boot, now, now + ttl)
        # One statement, so that of two nodes that start at once with one id only one is registered. The record of a
        # dead node is replaced.
        _, written = self._run(
            "INSERT INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (cluster, node_id) DO UPDATE SET "
            "incarnation = excluded.incarnation, record = excluded.record, endpoint = excluded.endpoint, "
            "boot = excluded.boot, written = excluded.written, expires = excluded.expires "
            "WHERE endpoint = excluded.endpoint OR boot <> excluded.boot OR expires <= excluded.written",
            row,
            create=True,
        )
        if written:
            return
        held = [other.node for other in self.nodes() if other.node.node_id == node.node_id]
        if held:
            raise NodeIdTaken(node.node_id, str(held[0].endpoint))
        self._run("DELETE FROM nodes WHERE cluster = ? AND node_id = ?", (self._cluster, node.node_id))
        self._run("INSERT OR IGNORE INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def deregister(self, node_id: str, incarnation: str) -> None:
        """See ``Discovery``."""
        self._run(
            "DELETE FROM nodes WHERE cluster = ? AND node_id = ? AND incarnation = ?",
            (self._cluster, node_id, incarnation),
        )

    def nodes(self) -> Sequence[NodeRecord]:
        """See ``Discovery``. A file that is not there yet holds no nodes."""
        now = self._now()
        # As bytes: a text that is not UTF-8 would fail the reading of all rows.
        rows, _ = self._run(
            "SELECT CAST(node_id AS BLOB), CAST(record AS BLOB), written FROM nodes "
            "WHERE cluster = ? AND boot = ? AND expires > ? ORDER BY node_id",
            (self._cluster, boot_id(), now),
        )
        records, refused = [], {}
        for node_id, record, written in rows:
            try:
                found = NodeRecord.from_text(record.decode("utf-8"))
                records.append(replace(found, age=max(0.0, now - written)))
            except Exception as exc:  # an invalid row may raise anything, and the others stay
                refused[node_id, record, written] = exc
        self._log_refused(refused)
        if self._is_alive is None:
            return records
        return [record for record in records if self._is_alive(record.node) is not False]

    def _log_refused(self, refused: dict[Any, Exception]) -> None:
        for (node_id, *rest), exc in refused.items():
            if (node_id, *rest) not in self._refused:
                _log.warning("an invalid row of %s is left out: %.99r %.99r", self.path, node_id, exc)
        self._refused = frozenset(refused)

    def close(self) -> None:
        """See ``Discovery``. Nothing is open between two calls."""

    def _now(self) -> float:
        return self._clock.monotonic()

    def _run(self, statement: str, values: tuple[object, ...], *, create: bool = False) -> _Outcome:
        def work(db: sqlite3.Connection) -> _Outcome:
            try:
                return _outcome(db.execute(statement, values))
            except sqlite3.OperationalError as exc:
                if "no such table" not in str(exc):
                    raise
            if not create:
                return [], 0
            db.execute(_SCHEMA)
            return _outcome(db.execute(statement, values))

        return self._file.run(work, absent=None if create else ([], 0))


def _outcome(cursor: sqlite3.Cursor) -> _Outcome:
    return cursor.fetchall(), cursor.rowcount
