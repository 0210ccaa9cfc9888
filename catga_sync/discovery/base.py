"""What a discovery store does: keep one record for each node, and return all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from catga_sync._redaction import printable
from catga_sync.nodes import NodeRecord

__all__ = ["Discovery", "place_of"]


class Discovery(Protocol):
    """
    A store in which nodes find each other.

    Every method may be called by any thread and after a fork, returns within about a second, and may raise anything
    when the store is down: the caller keeps the last records and tries again. No request waits for a store.

    A store may have an attribute ``where``: a text with the place of its nodes, such as "the SQLite file
    /run/shop.sqlite3". It is read for error texts, so reading it must not touch the store, and it holds no credentials.
    A store without it is named by its class.

    It may also have a method ``after_fork_in_child()``, called in a forked child. There, a lock may be held by a thread
    that the child does not have, and connections are the parent's.

    .. versionadded:: 0.1
    """

    #: Seconds between two calls of ``nodes`` that suit this store.
    refresh_interval: float

    def register(self, record: NodeRecord, ttl: float) -> None:
        """
        Write or renew the record of this node.

        Every heartbeat writes the whole record, so that a store that was emptied is complete again one heartbeat
        later.

        Args:
            record: The record.
            ttl: Seconds after which the record expires unless it is renewed.

        Raises:
            NodeIdTaken: There is a record of the same node id with another endpoint, and it has not expired. One with
                the same endpoint is replaced: that node was restarted.
        """

    def deregister(self, node_id: str, incarnation: str) -> None:
        """Remove the record of a node if it is still that of this incarnation."""

    def nodes(self) -> Sequence[NodeRecord]:
        """
        Return all records that have not expired: the complete set, never a part of it.

        The clock of the store decides. The ``age`` of a record is the time since it was written, if the store has it.
        """

    def close(self) -> None:
        """Close connections. Safe to call twice; a later call opens them again."""


def place_of(discovery: Discovery) -> str:
    """Return the place of a store as text. Raises nothing."""
    try:
        where = getattr(discovery, "where", None)
    except Exception:  # a property of the user's own store
        where = None
    return printable(where) if isinstance(where, str) and where else type(discovery).__name__
