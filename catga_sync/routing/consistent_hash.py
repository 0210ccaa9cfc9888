"""Routes all messages with the same key to the same node.

Rules of this file:
1. A ring depends on node ids and weights only. Message types with other candidates, snapshots with other loads and
   second attempts share one ring, and skip its nodes that are not candidates; see ``ring.py``.
2. A ring is made under the lock: when the membership changes, one thread makes it and the others wait.
"""

from __future__ import annotations

import logging
import operator
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from catga_sync import _fork
from catga_sync._redaction import shown
from catga_sync.errors import ends_process
from catga_sync.messages import options_of
from catga_sync.nodes import ClusterNode
from catga_sync.routing.base import Router, check_callable
from catga_sync.routing.candidates import PerType, weight_of
from catga_sync.routing.ring import Ring, key_bytes, points_for

__all__ = ["ConsistentHashRouter"]

#: A ring is used for candidates that are at least one in this many of its nodes; with fewer, too many are skipped.
_SPARSEST = 4

_log = logging.getLogger(__name__)


class ConsistentHashRouter:
    """
    Picks the node that owns the message's key. Thread-safe if the other router is.

    Every process that sees the same nodes finds the same owner. A node that joins N others takes over about
    1/(N + 1) of the keys. The keys of a node that leaves, or that has failed this call, go to the others in equal
    parts. A node whose ``metadata["weight"]`` is a positive number owns that many times as many keys. The load is
    ignored, as keys would move with every report.

    Args:
        otherwise: The router for messages without a key: the type has none, or the key is None or has no text that is
            the same in every process. ``create_router`` accepts the name of a router, and None for ``round-robin``.
        key_of: Returns the key of a message, or None. None means the field that ``@message(key=...)`` names. The type
            is not part of the hash: messages of two types with the same key go to the same node.

    .. versionadded:: 0.1
    """

    def __init__(self, otherwise: Router, *, key_of: Callable[[Any], object] | None = None) -> None:
        check_callable("key_of", key_of, "a function that returns the key of a message")
        self._otherwise = otherwise
        self._key_of = key_of
        self._completed = getattr(otherwise, "completed", None)
        self._withdraw = getattr(otherwise, "withdraw", None)
        # Caches: two threads that fill the same entry store equal values.
        self._keys: dict[type, Callable[[Any], object]] = {}
        self._owners = PerType(self._owners_among)
        self._lock = threading.Lock()
        #: Newest first; replaced as a whole, under the lock. Weak: a ring lives as long as a message type uses it.
        self._rings: tuple[weakref.ref[Ring], ...] = ()
        self._keyless: set[type] = set()
        _fork.watch_given(otherwise)
        _fork.watch(self)

    def route(self, message: Any, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
        """See ``Router``."""
        key = self._key(message)
        if key is None:
            return self._otherwise.route(message, nodes)
        ring, present = self._owners.of(message, nodes)
        return present[ring.owner_among(key, present)]

    def completed(self, node: ClusterNode, message: Any, result: Any, elapsed: float) -> None:
        """See ``Router``; passed on for what the other router has picked."""
        if self._completed is not None and self._key(message) is None:
            self._completed(node, message, result, elapsed)

    def withdraw(self, node: ClusterNode, message: Any) -> None:
        """See ``Router``."""
        if self._withdraw is not None and self._key(message) is None:
            self._withdraw(node, message)

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self._lock = threading.Lock()

    def _key(self, message: Any) -> bytes | None:
        """Return the bytes of the message's key, or None."""
        kind = type(message)
        try:
            read = self._keys.get(kind)
            if read is None:
                read = self._keys[kind] = _reader(kind) if self._key_of is None else self._key_of
            key = read(message)
            return None if key is None else key_bytes(key)
        except BaseException as exc:  # a router never fails a call, and key_of is user code
            if ends_process(exc):
                raise
            if kind not in self._keyless:
                self._keyless.add(kind)
                text = "%s has no usable key; routed as a message without a key: %s"
                _log.warning(text, kind.__qualname__, shown(exc))
            return None

    def _owners_among(self, nodes: tuple[ClusterNode, ...]) -> tuple[Ring, Mapping[str, ClusterNode]]:
        """Return a ring that has these nodes, and the nodes by id."""
        members = {node.node_id: points_for(weight_of(node)) for node in nodes}
        ring = self._ring_for(members)
        if ring is None:
            with self._lock:
                ring = self._ring_for(members)
                if ring is None:
                    ring = Ring(members)
                    self._rings = (weakref.ref(ring), *(each for each in self._rings if each() is not None))
        return ring, {node.node_id: node for node in nodes}

    def _ring_for(self, members: dict[str, int]) -> Ring | None:
        for each in self._rings:
            ring = each()
            if ring is not None and _serves(ring.members, members):
                return ring
        return None


def _serves(members: dict[str, int], candidates: dict[str, int]) -> bool:
    """Return whether the candidates are members of a ring, and enough of them."""
    enough = len(candidates) <= len(members) <= _SPARSEST * len(candidates)
    return enough and candidates.items() <= members.items()


def _reader(kind: type) -> Callable[[Any], object]:
    key = options_of(kind).key
    return _no_key if key is None else operator.attrgetter(key)


def _no_key(message: object) -> None:
    return None
