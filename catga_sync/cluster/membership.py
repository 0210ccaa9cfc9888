"""Who is in the cluster, as far as this process knows: a snapshot that a background thread swaps.

Rules of this file:
1. Readers take the snapshot without a lock. No store is touched on the way of a call, but for the very first.
2. The store keeps the time: what it returns is alive. No clock of a node, and no pause of this process, can evict one.
3. A store that is down changes nothing: the last snapshot serves.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync.cluster.events import ClusterEvent, EventBoard, EventKind
from catga_sync.discovery.base import Discovery
from catga_sync.errors import ConfigurationError
from catga_sync.nodes import ClusterNode, NodeRecord, NodeStatus

__all__ = ["Membership", "Snapshot"]

#: Seconds between two attempts to have a node of a static list describe itself.
_DESCRIBE_INTERVAL = 5.0

_log = logging.getLogger(__name__)


class Snapshot:
    """
    The nodes at one moment. Immutable, thread-safe.

    Args:
        nodes: The other nodes that are not offline.
        this: This node.
    """

    def __init__(self, nodes: tuple[ClusterNode, ...], this: ClusterNode) -> None:
        self.nodes = nodes
        self.by_id: Mapping[str, ClusterNode] = {node.node_id: node for node in nodes}
        self._with_this = tuple(sorted((*nodes, this), key=lambda node: node.node_id))
        # A cache: two threads that fill the same place at once put equal tuples there.
        self._candidates: dict[tuple[str, bool], tuple[ClusterNode, ...]] = {}

    def candidates(self, type_name: str, here: bool) -> tuple[ClusterNode, ...]:
        """
        Return the nodes that may take a request of this type; the same object every time.

        Args:
            type_name: Wire name of the request type.
            here: Whether this node handles it.
        """
        key = (type_name, here)
        found = self._candidates.get(key)
        if found is None:
            pool = self._with_this if here else self.nodes
            known = self.by_id
            found = tuple(
                node
                for node in pool
                if node.node_id not in known or (node.status is not NodeStatus.DRAINING and node.may_handle(type_name))
            )
            found = self._candidates.setdefault(key, found)
        return found


class Membership:
    """
    Keep the snapshot. Thread-safe.

    Args:
        discovery: Where the records are.
        this: This node; it is left out of what the store says.
        events: Told of nodes that come and go.
        describe: Asks the node at an endpoint what it says of itself; None when it says nothing.
        clock: None means the system's.
    """

    def __init__(
        self,
        discovery: Discovery,
        this: ClusterNode,
        events: EventBoard,
        *,
        describe: Callable[[str], Mapping[str, Any] | None],
        clock: Clock | None = None,
    ) -> None:
        self._discovery = discovery
        self._this = this
        self._events = events
        self._describe = describe
        self._clock = SYSTEM_CLOCK if clock is None else clock
        self._lock = threading.Lock()
        # Guarded by _lock, which also lets only one refresh run at a time:
        #: node id -> its last (incarnation, seq), and the epoch time of it
        self._sightings: dict[str, tuple[tuple[str, int], float]] = {}
        self._descriptions: dict[str, _Description] = {}
        self._store_is_down = False
        self._refreshed_at = float("-inf")
        #: Swapped whole; None before the first refresh.
        self._snapshot: Snapshot | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The present one; the first call in a process fetches it."""
        snapshot = self._snapshot
        if snapshot is None:
            self.refresh()
            snapshot = self._snapshot
            if snapshot is None:
                # The store is down and never has been up: there is nobody but this node.
                return Snapshot((), self._this)
        return snapshot

    @property
    def refresh_interval(self) -> float:
        """Seconds between two refreshes that suit the store."""
        return self._discovery.refresh_interval

    def last_heartbeat(self, node_id: str) -> float | None:
        """Return the epoch time at which this process last saw a sign of life of a node."""
        sighting = self._sightings.get(node_id)
        return None if sighting is None else sighting[1]

    def refresh(self, max_age: float = 0.0) -> None:
        """Fetch the records and swap the snapshot, unless that was done less than ``max_age`` seconds ago."""
        with self._lock:
            if max_age and self._clock.monotonic() - self._refreshed_at < max_age:
                return
            try:
                records = self._discovery.nodes()
            except Exception as exc:
                self._note_store(down=True, exc=exc)
                self._refreshed_at = self._clock.monotonic()
                return
            self._note_store(down=False)
            nodes = self._judge(records)
            before = self._snapshot
            if before is None or before.nodes != nodes:
                self._snapshot = Snapshot(nodes, self._this)
            self._refreshed_at = self._clock.monotonic()
        self._tell(before, nodes)

    def forget(self) -> None:
        """In a forked child: the lock may have been held. The snapshot is as good there as here."""
        self._lock = threading.Lock()
        self._events.forget()

    # -- the rest runs under the lock -----------------------------------------------------------------------------

    def _judge(self, records: Any) -> tuple[ClusterNode, ...]:
        now = self._clock.monotonic()
        nodes = []
        present = set()
        for record in records:
            node = record.node
            if node.node_id == self._this.node_id or node.endpoint is None:
                continue
            present.add(node.node_id)
            self._note_sign_of_life(record)
            if node.status is not NodeStatus.OFFLINE:
                nodes.append(node if node.handles is not None else self._described(node, now))
        for gone in [node_id for node_id in self._sightings if node_id not in present]:
            del self._sightings[gone]
        return tuple(sorted(nodes, key=lambda node: node.node_id))

    def _note_sign_of_life(self, record: NodeRecord) -> None:
        mark = (record.node.incarnation, record.seq)
        sighting = self._sightings.get(record.node.node_id)
        if sighting is None or sighting[0] != mark:
            self._sightings[record.node.node_id] = (mark, self._clock.time() - (record.age or 0.0))

    def _described(self, node: ClusterNode, now: float) -> ClusterNode:
        endpoint = node.endpoint or ""
        known = self._descriptions.get(endpoint)
        if known is None or now >= known.ask_again_at:
            answer = self._describe(endpoint)
            if answer is None and known is not None:
                known.ask_again_at = now + _DESCRIBE_INTERVAL
            else:
                known = _Description(_read_description(node, answer), now + _DESCRIBE_INTERVAL)
                self._descriptions[endpoint] = known
        return node if known.node is None else known.node

    def _note_store(self, *, down: bool, exc: Exception | None = None) -> None:
        if down and not self._store_is_down:
            _log.warning("the discovery store cannot be read; going on with the nodes known: %r", exc)
        elif self._store_is_down and not down:
            _log.info("the discovery store can be read again")
        self._store_is_down = down

    def _tell(self, before: Snapshot | None, nodes: tuple[ClusterNode, ...]) -> None:
        old = {} if before is None else before.by_id
        new = {node.node_id: node for node in nodes}
        for node_id, node in old.items():
            if node_id not in new:
                self._events.tell(ClusterEvent(EventKind.NODE_LEFT, node))
        for node_id, node in new.items():
            if node_id not in old:
                self._events.tell(ClusterEvent(EventKind.NODE_JOINED, node))


@dataclasses.dataclass
class _Description:
    #: None when the node says nothing of itself.
    node: ClusterNode | None
    ask_again_at: float


def _read_description(node: ClusterNode, answer: Mapping[str, Any] | None) -> ClusterNode | None:
    """Return the node as it describes itself, under the id and endpoint by which it is known here."""
    if answer is None:
        return None
    try:
        said = NodeRecord.from_mapping({**answer, "nodeId": node.node_id, "endpoint": node.endpoint}).node
    except ConfigurationError as exc:
        _log.warning("node %s at %s describes itself wrongly: %s", node.node_id, node.endpoint, exc)
        return None
    return said
