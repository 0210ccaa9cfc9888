"""Who is in the cluster, as far as this process knows: a snapshot that a background thread swaps.

Rules of this file:
1. Readers take the snapshot without a lock. No store is touched on the way of a call, but for the very first.
2. The store keeps the time: what it returns is alive. No clock of a node, and no pause of this process, can evict one.
3. A store that is down changes nothing: the last snapshot serves.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync.cluster.descriptions import Descriptions
from catga_sync.cluster.events import ClusterEvent, EventBoard, EventKind
from catga_sync.discovery.base import Discovery
from catga_sync.nodes import ClusterNode, NodeRecord, NodeStatus

__all__ = ["Membership", "Snapshot"]

#: Seconds that the first call of a process waits for nodes to describe themselves.
_FIRST_WAIT = 0.25

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
        self._clock = SYSTEM_CLOCK if clock is None else clock
        self._descriptions = Descriptions(describe, self._clock)
        self._lock = threading.Lock()
        # Guarded by _lock, which also lets only one refresh run at a time:
        #: node id -> its last (incarnation, seq), and the epoch time of it
        self._sightings: dict[str, tuple[tuple[str, int], float]] = {}
        self._store_is_down = False
        self._refreshed_at = float("-inf")
        #: Swapped whole: what the store said last.
        self._records: tuple[NodeRecord, ...] = ()
        #: Swapped whole; None before the first refresh.
        self._snapshot: Snapshot | None = None
        self._nobody = Snapshot((), this)
        #: Set after the first refresh of the background thread, which asks the nodes to describe themselves, too.
        self._complete = threading.Event()
        self._is_ready = False

    @property
    def snapshot(self) -> Snapshot:
        """The present one. The first call of a process fetches it; it waits briefly for nodes to say what they are."""
        if not self._is_ready:
            self._get_ready()
        # Without one the store is down and has never been up: there is nobody but this node.
        return self._nobody if self._snapshot is None else self._snapshot

    @property
    def refresh_interval(self) -> float:
        """Seconds between two refreshes that suit the store."""
        return self._discovery.refresh_interval

    def last_heartbeat(self, node_id: str) -> float | None:
        """Return the epoch time at which this process last saw a sign of life of a node."""
        sighting = self._sightings.get(node_id)
        return None if sighting is None else sighting[1]

    def refresh(self, max_age: float = 0.0, *, ask: bool = False) -> None:
        """
        Fetch the records and swap the snapshot.

        Args:
            max_age: Do nothing if that was done less than so many seconds ago.
            ask: Whether to ask nodes of which only the address is known what they are. It takes as long as they
                take, so only the background thread does it.
        """
        self._refresh(max_age)
        if ask:
            self._ask()
            self._complete.set()

    def _get_ready(self) -> None:
        if self._snapshot is None:
            self.refresh()
        if self._snapshot is not None and any(node.handles is None for node in self._snapshot.nodes):
            self._complete.wait(_FIRST_WAIT)
        self._is_ready = self._snapshot is not None

    def _refresh(self, max_age: float) -> None:
        with self._lock:
            if max_age and self._clock.monotonic() - self._refreshed_at < max_age:
                return
            try:
                self._records = tuple(self._discovery.nodes())
            except Exception as exc:
                self._note_store(down=True, exc=exc)
                self._refreshed_at = self._clock.monotonic()
                return
            self._note_store(down=False)
            self._refreshed_at = self._clock.monotonic()
            before, after = self._swap_locked()
        self._tell(before, after)

    def _ask(self) -> None:
        if self._descriptions.ask(record.node for record in self._records if record.node.handles is None):
            with self._lock:
                before, after = self._swap_locked()
            self._tell(before, after)

    def forget(self) -> None:
        """In a forked child: the locks may have been held. The snapshot is as good there as here."""
        self._lock = threading.Lock()
        self._complete = threading.Event()
        self._events.forget()

    def _swap_locked(self) -> tuple[Snapshot, Snapshot]:
        before = self._nobody if self._snapshot is None else self._snapshot
        nodes = self._judge_locked()
        if self._snapshot is None or self._snapshot.nodes != nodes:
            self._snapshot = Snapshot(nodes, self._this)
        return before, self._snapshot

    def _judge_locked(self) -> tuple[ClusterNode, ...]:
        nodes = []
        for record in self._records:
            node = record.node
            if node.node_id == self._this.node_id or node.endpoint is None:
                continue
            self._note_sign_of_life(record)
            if node.status is not NodeStatus.OFFLINE:
                nodes.append(node if node.handles is not None else self._descriptions.of(node))
        present = {record.node.node_id for record in self._records}
        for gone in [node_id for node_id in self._sightings if node_id not in present]:
            del self._sightings[gone]
        return tuple(sorted(nodes, key=lambda node: node.node_id))

    def _note_sign_of_life(self, record: NodeRecord) -> None:
        mark = (record.node.incarnation, record.seq)
        sighting = self._sightings.get(record.node.node_id)
        if sighting is None or sighting[0] != mark:
            self._sightings[record.node.node_id] = (mark, self._clock.time() - (record.age or 0.0))

    def _note_store(self, *, down: bool, exc: Exception | None = None) -> None:
        if down and not self._store_is_down:
            _log.warning("the discovery store cannot be read; going on with the nodes known: %r", exc)
        elif self._store_is_down and not down:
            _log.info("the discovery store can be read again")
        self._store_is_down = down

    def _tell(self, before: Snapshot, after: Snapshot) -> None:
        for node_id, node in before.by_id.items():
            if node_id not in after.by_id:
                self._events.tell(ClusterEvent(EventKind.NODE_LEFT, node))
        for node_id, node in after.by_id.items():
            if node_id not in before.by_id:
                self._events.tell(ClusterEvent(EventKind.NODE_JOINED, node))
