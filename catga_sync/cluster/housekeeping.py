"""What the background thread does, a little at a time: look who is there, let nodes back, say that we are, and leave.

    serving --drain()--> announced --settled--> refusing --nothing runs--> idle

A drain is the node's, not a worker's: the wish stands in a file that all its workers read, and whoever asked waits
until the last of them is idle.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from catga_sync.cluster.events import ClusterEvent, EventBoard, EventKind
from catga_sync.cluster.membership import Membership
from catga_sync.cluster.presence import Presence
from catga_sync.nodes import ClusterNode
from catga_sync.receiver.receiver import Receiver
from catga_sync.resilience.budget import RetryBudget
from catga_sync.resilience.ejection import Ejection
from catga_sync.transport.base import RemoteInvoker

__all__ = ["Upkeep"]

#: Seconds, on top of what the store needs, that others get to notice that this node goes offline.
SETTLE = 1.0
#: Seconds between two looks whether a drain has ended.
_LOOK = 0.05
#: Seconds without an answer to any call after which a node is asked whether it is there.
_SILENCE = 1.0
#: Nodes that one step asks whether they are there.
_AT_ONCE = 8

_log = logging.getLogger(__name__)


class Upkeep:
    """
    Keep the parts of a cluster mediator going. ``step`` is run by one thread; the rest is thread-safe.

    Args:
        membership: Looks who is there.
        presence: Says that we are; None for a pure client.
        ejection: Keeps the nodes that are left out.
        budget: Reset in a forked child.
        events: Told of nodes that are left out and let back.
        receiver: Drained.
        invoker: Tidied.
        is_alive: Asks a node that was left out whether it answers again.
        close_discovery: Lets go of the store.
    """

    def __init__(
        self,
        membership: Membership,
        presence: Presence | None,
        ejection: Ejection,
        budget: RetryBudget,
        events: EventBoard,
        receiver: Receiver,
        invoker: RemoteInvoker,
        *,
        is_alive: Callable[[ClusterNode], bool],
        close_discovery: Callable[[], None],
        forget_discovery: Callable[[], None],
    ) -> None:
        self._membership = membership
        self._presence = presence
        self._ejection = ejection
        self._budget = budget
        self._events = events
        self._receiver = receiver
        self._invoker = invoker
        self._is_alive = is_alive
        self._close_discovery = close_discovery
        self._forget_discovery = forget_discovery
        self._drain_seen_at: float | None = None
        #: node id -> when it was last asked whether it is there, for those that are to be asked
        self._asked_at: dict[str, float] = {}

    def step(self) -> float:
        """Do what is due; return the seconds until there may be more to do."""
        self._membership.refresh(ask=True)
        nodes = self._membership.snapshot.nodes
        pause = self._membership.refresh_interval
        if self._presence is not None:
            self._follow_drain(self._presence)
            # Before anybody else is asked, which takes as long as it takes.
            pause = min(pause, self._presence.step())
        self._ejection.keep_only(nodes)
        self._look_around(nodes)
        self._receiver.tell_left_out()
        tidy = getattr(self._invoker, "tidy", None)
        if tidy is not None:
            tidy(nodes)
        return pause

    def tell_ejected(self, node: ClusterNode, ejected: bool) -> None:
        """Tell the world that a node is left out, or let back."""
        kind = EventKind.NODE_FAULTED if ejected else EventKind.NODE_RECOVERED
        self._events.tell(ClusterEvent(kind, node))

    def begin_drain(self) -> None:
        """Wish the whole node drained; every worker follows within its next steps."""
        if self._presence is None or not self._presence.wish_drain():
            self._receiver.drain()

    def drain(self, timeout: float) -> bool:
        """Drain the node and wait for all its workers; return whether nothing runs any more."""
        end = time.monotonic() + timeout
        self.begin_drain()
        if self._presence is None or not self._presence.visible:
            return self._receiver.wait_idle(timeout)
        pause = threading.Event()
        while not self._presence.all_idle():
            if time.monotonic() >= end:
                return False
            pause.wait(_LOOK)
        return True

    @property
    def is_idle(self) -> bool:
        """Whether the node is drained and no worker of it runs anything."""
        if self._presence is None or not self._presence.visible:
            return self._receiver.draining and self._receiver.in_flight == 0
        return self._presence.drain_wished and self._presence.all_idle()

    def close(self) -> None:
        """Leave the cluster and let go of connections."""
        if self._presence is not None:
            self._presence.leave()
        self._invoker.close()
        self._close_discovery()

    def forget(self) -> None:
        """In a forked child: drop what belongs to the parent."""
        self._membership.forget()
        self._ejection.forget()
        self._budget.forget()
        self._receiver.forget()
        self._drain_seen_at = None
        if self._presence is not None:
            self._presence.forget()
        self._forget_discovery()
        forget = getattr(self._invoker, "forget", None)
        if forget is not None:
            forget()

    def _look_around(self, nodes: tuple[ClusterNode, ...]) -> None:
        """Ask nodes whether they are there: those that are avoided, ejected and due, or silent towards calls."""
        probed = {node.node_id: node for node in self._ejection.due_for_probe(nodes)}
        suspects = {node.node_id: node for node in self._ejection.due_for_a_look(nodes)}
        silent = getattr(self._invoker, "silent", None)
        if silent is not None:
            suspects.update((node.node_id, node) for node in silent(nodes, _SILENCE))
        due = {**suspects, **probed}
        # One that hangs takes its whole time, so several are asked at once, and who was not asked for longest first.
        chosen = sorted(due.values(), key=lambda node: self._asked_at.get(node.node_id, float("-inf")))[:_AT_ONCE]
        now = time.monotonic()
        self._asked_at = {node_id: at for node_id, at in self._asked_at.items() if node_id in due}
        self._asked_at.update((node.node_id, now) for node in chosen)
        for node, answered in zip(chosen, self._are_alive(chosen), strict=True):
            if node.node_id in probed:
                self._ejection.probed(node, answered=answered)
            # A handler may take its time, and the node answers all the same: only one that does not is silent.
            elif self._ejection.looked_at(node, answered=answered):
                self._release(node)

    def _are_alive(self, nodes: list[ClusterNode]) -> list[bool]:
        if len(nodes) < 2:
            return [self._is_alive(node) for node in nodes]
        with ThreadPoolExecutor(len(nodes), thread_name_prefix="catga-look") as pool:
            return list(pool.map(self._is_alive, nodes))

    def _release(self, node: ClusterNode) -> None:
        release = getattr(self._invoker, "release", None)
        if release is not None:
            release(node)

    def _follow_drain(self, presence: Presence) -> None:
        if not presence.visible or not presence.drain_wished:
            return
        now = time.monotonic()
        if self._drain_seen_at is None:
            _log.info("going offline: told the others, still serving")
            self._drain_seen_at = now
            presence.hasten()
        elif not self._receiver.draining and now - self._drain_seen_at >= SETTLE + self._membership.refresh_interval:
            _log.info("going offline: new requests are refused")
            self._receiver.drain()
        elif self._receiver.draining and self._receiver.in_flight == 0:
            presence.say_idle()
