"""The other nodes: reads the discovery store into a snapshot, which a background thread replaces.

Rules of this file:
1. Readers take the snapshot without a lock. No call but the first of a process reads the store.
2. The clock of the store decides: a node that it returns is alive. Clocks of nodes and pauses of this process do not
   remove a node.
3. While the store is down, the last snapshot stays. A store that has lost more than half of its nodes at once may have
   been emptied: these nodes stay until they are found gone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from dataclasses import replace

from catga_sync import _fork
from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync._redaction import cause_of
from catga_sync.cluster.absence import StoreView, unreadable
from catga_sync.cluster.events import ClusterEvent, EventBoard, EventKind
from catga_sync.cluster.peer_descriptions import Descriptions
from catga_sync.cluster.peers import Peers
from catga_sync.cluster.snapshot import Snapshot
from catga_sync.context import CallContext
from catga_sync.discovery.base import Discovery, place_of
from catga_sync.errors import ends_process
from catga_sync.nodes import ClusterNode, NodeRecord, NodeStatus
from catga_sync.serialization import MessageType

__all__ = ["Membership"]

#: Seconds that the first call of a process waits for nodes to describe themselves.
_FIRST_WAIT = 0.25
#: Seconds between two reads by callers of a store that never was up.
_FIRST_LOOKS = 0.5
#: Seconds that a caller waits for a read by another thread: for the very first, and for a newer one.
_FIRST_PATIENCE, _PATIENCE = 1.0, 0.05
#: The oldest snapshot, in seconds, for the error that no node handles a type.
_FRESH = 0.1
#: If a refresh removes more than this share of the nodes, they stay until they are found gone.
_MASS = 0.5

_log = logging.getLogger(__name__)


class Membership:
    """
    Keeps the snapshot. Thread-safe.

    Args:
        discovery: The store of the records.
        this: This node; it is left out of the snapshot.
        events: Receives the nodes that join and leave.
        peers: Asks a node what it is, and whether it is gone.
        suspect_after: Seconds without a sign of life after which a node is used only when there is no better one.
        keep_missing: Seconds for which nodes are kept that went missing all at once, unless they are found gone.
        clock: None means the system's.
    """

    def __init__(
        self,
        discovery: Discovery,
        this: ClusterNode,
        events: EventBoard,
        peers: Peers,
        *,
        suspect_after: float,
        keep_missing: float,
        clock: Clock | None = None,
    ) -> None:
        self._discovery = discovery
        self._this = this
        self._events = events
        self._suspect_after = suspect_after
        self._keep_missing = keep_missing
        self._peers = peers
        self._clock = SYSTEM_CLOCK if clock is None else clock
        self._descriptions = Descriptions(peers.describe, self._clock)
        self._lock = threading.Lock()
        # Guarded by _lock, which also lets only one refresh run at a time:
        #: node id -> its last (incarnation, seq), and the epoch time of it
        self._sightings: dict[str, tuple[tuple[str, int], float]] = {}
        #: node id -> the node as it was, and the monotonic time at which it went missing with most others
        self._missing: dict[str, tuple[ClusterNode, float]] = {}
        #: Why the last read of the store failed; None when it did not.
        self._failure: str | None = None
        self._refreshed_at = float("-inf")
        #: Swapped whole: the records that the store returned last.
        self._records: tuple[NodeRecord, ...] = ()
        #: Swapped whole; None before the first refresh.
        self._snapshot: Snapshot | None = None
        self._nobody = Snapshot((), this)
        #: Set after the first refresh of the background thread, which asks the nodes to describe themselves, too.
        self._complete = threading.Event()
        #: The present one where that takes no time; None before a first call has looked.
        self.known: Snapshot | None = None
        #: Of the background thread: missing nodes that have responded.
        self._lost: frozenset[str] = frozenset()
        _fork.watch(self)

    @property
    def snapshot(self) -> Snapshot:
        """The present one; see ``look``."""
        return self.look(None)

    def look(self, call: CallContext | None) -> Snapshot:
        """
        Return the present snapshot.

        The first call of a process fetches it, and waits briefly for nodes to describe themselves.

        Args:
            call: The call within whose time it waits; None means that it waits for as long as it takes.
        """
        if self.known is None:
            self._get_ready(call)
        # Without one the store is down and has never been up: there is no node but this one.
        return self._nobody if self._snapshot is None else self._snapshot

    def candidates(self, entry: MessageType, here: bool, call: CallContext | None) -> tuple[ClusterNode, ...]:
        """
        Return the nodes that may take a request of a type; the same object as long as membership is the same.

        Args:
            entry: The type.
            here: Whether this node handles it.
            call: As in ``look``.
        """
        snapshot = self.look(call) if self.known is None else self.known
        found = snapshot.candidates(entry.name, entry.contract, here)
        if not found:
            # A node may have just joined: read the store once more before the call fails.
            self.refresh(_FRESH, call=call)
            found = self.look(call).candidates(entry.name, entry.contract, here)
        return found

    @property
    def around(self) -> StoreView:
        """The place and the state of the store, for error texts."""
        return StoreView(place_of(self._discovery), self._records, self._failure)

    @property
    def refresh_interval(self) -> float:
        """Seconds between two refreshes that suit the store."""
        return self._discovery.refresh_interval

    @property
    def troubles(self) -> tuple[tuple[str, str], ...]:
        """Node id and reason, for nodes listed by address only that do not describe themselves."""
        return self._descriptions.troubles

    def last_heartbeat(self, node_id: str) -> float | None:
        """Return the epoch time at which this process last saw a sign of life of a node."""
        sighting = self._sightings.get(node_id)
        return None if sighting is None else sighting[1]

    def refresh(self, max_age: float = 0.0, *, ask: bool = False, call: CallContext | None = None) -> None:
        """
        Fetch the records and swap the snapshot.

        Args:
            max_age: Do nothing if that was done less than so many seconds ago.
            ask: Whether to ask the nodes themselves where the store leaves doubts. It takes as long as they take, so
                only the background thread does it.
            call: The call within whose time another thread that does the same is waited for; None means any time.
        """
        self._refresh(max_age, call)
        if ask:
            self._ask()
            self._complete.set()

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``. The snapshot is as good in the child as in the parent."""
        self._lock = threading.Lock()
        self._complete = threading.Event()
        if self.known is not None:
            self.known = self._snapshot

    def _get_ready(self, call: CallContext | None) -> None:
        if self._snapshot is None:
            # Not by every call: a store that is down stays down for a while.
            self.refresh(_FIRST_LOOKS, call=call)
        if self._snapshot is not None and any(node.handles is None for node in self._snapshot.nodes):
            self._complete.wait(_within(call, _FIRST_WAIT))
        while self.known is not self._snapshot:  # a refresh may have swapped it meanwhile
            self.known = self._snapshot

    def _refresh(self, max_age: float, call: CallContext | None) -> None:
        # The background thread waits for its turn; a call does not, whatever the other thread is at.
        if not self._lock.acquire(timeout=_within(call, self._caller_patience) if max_age else -1):
            return
        try:
            if max_age and self._clock.monotonic() - self._refreshed_at < max_age:
                return
            try:
                self._records = tuple(self._discovery.nodes())
            except BaseException as exc:
                if ends_process(exc):
                    raise
                self._note_store(cause_of(exc))
                self._refreshed_at = self._clock.monotonic()
                return
            self._note_store(None)
            self._refreshed_at = self._clock.monotonic()
            before, after = self._swap_locked()
        finally:
            self._lock.release()
        self._tell(before, after)

    @property
    def _caller_patience(self) -> float:
        return _FIRST_PATIENCE if self._snapshot is None else _PATIENCE

    def _ask(self) -> None:
        gone = self._ask_missing()
        news = self._descriptions.ask(record.node for record in self._records if record.node.handles is None)
        if not news and not gone:
            return
        with self._lock:
            for node_id in gone:
                self._missing.pop(node_id, None)
            before, after = self._swap_locked(believed=gone)
        self._tell(before, after)

    def _note_store(self, failure: str | None) -> None:
        if failure is not None and self._failure is None:
            where = place_of(self._discovery)
            _log.warning("%s; going on with the nodes known", unreadable(where, failure))
        elif self._failure is not None and failure is None:
            _log.info("the discovery store can be read again")
        self._failure = failure

    def _ask_missing(self) -> set[str]:
        """Ask the nodes that went missing; return those that are gone, and log once those that are not."""
        checked = {node_id: self._peers.is_gone(node) for node_id, (node, _) in list(self._missing.items())}
        lost = frozenset(node_id for node_id, gone in checked.items() if gone is False)
        if lost - self._lost:
            _log.warning(
                "discovery: %s has lost nodes that still respond, as if it had been emptied; kept for up to %g s: %s",
                place_of(self._discovery),
                self._keep_missing,
                ", ".join(sorted(lost)),
            )
        # A node that is busy for a moment is not logged again when it responds again.
        self._lost = (self._lost | lost) & checked.keys()
        return {node_id for node_id, gone in checked.items() if gone}

    def _tell(self, before: Snapshot, after: Snapshot) -> None:
        for node_id, node in before.by_id.items():
            if node_id not in after.by_id:
                self._events.tell(ClusterEvent(EventKind.NODE_LEFT, node))
        for node_id, node in after.by_id.items():
            known = before.by_id.get(node_id)
            if known is None:
                self._events.tell(ClusterEvent(EventKind.NODE_JOINED, node))
            elif node.status is NodeStatus.SUSPECT and known.status is not NodeStatus.SUSPECT:
                self._events.tell(ClusterEvent(EventKind.NODE_SUSPECTED, node))

    def _swap_locked(self, believed: Iterable[str] = ()) -> tuple[Snapshot, Snapshot]:
        before = self._nobody if self._snapshot is None else self._snapshot
        found = {node.node_id: node for node in self._read_locked()}
        nodes = tuple(sorted(self._with_missing_locked(found, before, set(believed)), key=lambda node: node.node_id))
        if self._snapshot is None or self._snapshot.nodes != nodes:
            self._snapshot = Snapshot(nodes, self._this)
        if self.known is not None:
            # Each time, so that what has come between two of these lines, as a fork in C, does no lasting harm.
            self.known = self._snapshot
        return before, self._snapshot

    def _read_locked(self) -> Iterable[ClusterNode]:
        present = set()
        for record in self._records:
            node = record.node
            if node.node_id == self._this.node_id or node.endpoint is None or node.status is NodeStatus.OFFLINE:
                continue
            present.add(node.node_id)
            if node.handles is None:
                node = self._descriptions.of(node)
            mark = (record.node.incarnation, record.seq)
            sighting = self._sightings.get(node.node_id)
            # An address in a static list shows no sign of life before it describes itself.
            alive = record.age is not None or mark != ("", 0) or node is not record.node
            if alive and (record.age is not None or sighting is None or sighting[0] != mark):
                self._sightings[node.node_id] = (mark, self._clock.time() - (record.age or 0.0))
            if record.age is not None and record.age > self._suspect_after and node.status is NodeStatus.ONLINE:
                node = replace(node, status=NodeStatus.SUSPECT)
            yield node
        for gone in [node_id for node_id in self._sightings if node_id not in present]:
            del self._sightings[gone]

    def _with_missing_locked(
        self, found: dict[str, ClusterNode], before: Snapshot, believed: set[str]
    ) -> Iterable[ClusterNode]:
        now = self._clock.monotonic()
        lost = [node for node_id, node in before.by_id.items() if node_id not in found and node_id not in believed]
        fresh = [node for node in lost if node.node_id not in self._missing]
        if len(fresh) > len(before.nodes) * _MASS:
            self._missing.update((node.node_id, (node, now)) for node in fresh)
        for node_id, (_, since) in list(self._missing.items()):
            if node_id in found or now - since > self._keep_missing:
                del self._missing[node_id]
        kept = (replace(node, status=NodeStatus.SUSPECT) for node, _ in self._missing.values())
        return [*found.values(), *kept]


def _within(call: CallContext | None, seconds: float) -> float:
    """Return the seconds that may be waited for, which is no longer than the call has left."""
    left = None if call is None else call.remaining()
    return seconds if left is None else max(0.0, min(seconds, left))
