"""What every discovery store does: keep one record per node, and hand out all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from catga_sync._redaction import printable
from catga_sync.nodes import NodeRecord

__all__ = ["Discovery", "place_of"]


class Discovery(Protocol):
    """
    A place where nodes find each other.

    Every call may be made by any thread and after a fork, must return within about a second, and may raise
    anything when the store is down: the caller keeps the last set it got and comes back. None is ever made on
    the way of a call.

    A store may have a text ``where``, too: where it looks for nodes, such as "the SQLite file /run/shop.sqlite3". It is
    read for error texts, so reading it must not touch the store, and it must hold no credentials. A store without it is
    named by its class.

    It may also have a method ``after_fork_in_child()``, called in a forked child. There, a lock may be held by a thread
    that the child does not have, and connections are the parent's.

    .. versionadded:: 0.1
    """

    #: Seconds between two calls of ``nodes`` that suit this store.
    refresh_interval: float

    def register(self, record: NodeRecord, ttl: float) -> None:
        """
        Write or renew the record of this node.

        The first call and every heartbeat are the same call, so that a store that was emptied is complete again
        one heartbeat later.

        Args:
            record: What to write.
            ttl: Seconds after which the store forgets it unless it is renewed.

        Raises:
            NodeIdTaken: A record of the same node id that has not expired has another endpoint. One with the same
                endpoint is replaced: that node was restarted.
        """

    def deregister(self, node_id: str, incarnation: str) -> None:
        """Remove the record of a node, if it is still the one of this incarnation."""

    def nodes(self) -> Sequence[NodeRecord]:
        """
        Return the records of all nodes that are there: the complete set, never a part of it.

        The store keeps the time: a record that was not renewed within its ``ttl`` is not returned. Each record's
        ``age`` says how long ago it was written, as far as the store knows.
        """

    def close(self) -> None:
        """Let go of connections. Safe to call twice."""


def place_of(discovery: Discovery) -> str:
    """Return in words where a store looks for nodes. Raises nothing."""
    try:
        said = getattr(discovery, "where", None)
    except Exception:  # a property of somebody else's
        said = None
    return printable(said) if isinstance(said, str) and said else type(discovery).__name__
