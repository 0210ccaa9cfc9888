"""Counts the calls in flight by node, and finds the node with the fewest."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import chain

from catga_sync import _fork
from catga_sync.nodes import ClusterNode
from catga_sync.routing.candidates import Present

__all__ = ["Outstanding"]


class Outstanding:
    """
    The calls in flight by node id. Thread-safe.

    A node without calls is not in the table, so a departed node is removed with the end of its last call, or by
    ``Present`` if that end is never reported.
    """

    def __init__(self) -> None:
        self.after_fork_in_child()
        _fork.watch(self)

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``: none of the parent's calls run here."""
        self._lock = threading.Lock()
        # Guarded by _lock: node id -> calls, 1 or more; message type -> where its next search begins; ids of the
        # present nodes.
        self._busy: dict[str, int] = {}
        self._begin: dict[type, int] = {}
        self._present = Present()

    def __len__(self) -> int:
        return len(self._busy)

    def count(self, node_id: str) -> int:
        """Return the calls in flight to a node."""
        return self._busy.get(node_id, 0)

    def take(self, kind: type, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
        """
        Return the node with the fewest calls, and count one more for it.

        Args:
            kind: The message type. Each type takes equal nodes in turn by itself: if all types shared one turn, two
                types sent alternately would each always go to the same one of two nodes.
            nodes: The candidates.
        """
        with self._lock:
            at = self._least_locked(nodes, self._begin.get(kind, 0) % len(nodes))
            self._begin[kind] = at + 1
            node = nodes[at]
            self._busy[node.node_id] = self._busy.get(node.node_id, 0) + 1
            self._present.note(kind, nodes)
            self._present.tidy(self._busy)
        return node

    def end(self, node_id: str) -> None:
        """Record the end of a call; an end without a call is ignored."""
        with self._lock:
            calls = self._busy.get(node_id, 0)
            if calls > 1:
                self._busy[node_id] = calls - 1
            elif calls:
                del self._busy[node_id]

    def _least_locked(self, nodes: tuple[ClusterNode, ...], begin: int) -> int:
        busy = self._busy
        if len(busy) < len(nodes):
            # A node is idle, most likely the next one after ``begin``, so the search ends early.
            for at in _round(begin, len(nodes)):
                if nodes[at].node_id not in busy:
                    return at
        calls = [busy.get(node.node_id, 0) for node in nodes]
        least = min(calls)
        try:
            return calls.index(least, begin)
        except ValueError:
            return calls.index(least)


def _round(begin: int, end: int) -> Iterator[int]:
    return chain(range(begin, end), range(begin))
