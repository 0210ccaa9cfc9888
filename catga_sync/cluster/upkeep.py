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

from catga_sync.cluster.events import ClusterEvent, EventBoard, EventKind
from catga_sync.cluster.membership import Membership
from catga_sync.cluster.presence import Presence
from catga_sync.nodes import ClusterNode
from catga_sync.receiver import Receiver
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
#: Seconds that one step may take to look at nodes that are avoided or silent.
_LOOKING = 1.0

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

    def step(self) -> float:
        """Do what is due; return the seconds until there may be more to do."""
        self._membership.refresh(ask=True)
        nodes = self._membership.snapshot.nodes
        self._ejection.keep_only(nodes)
        for node in self._ejection.due_for_probe(nodes):
            self._ejection.probed(node, answered=self._is_alive(node))
        self._look_at_suspects(nodes)
        tidy = getattr(self._invoker, "tidy", None)
        if tidy is not None:
            tidy(nodes)
        pause = self._membership.refresh_interval
        if self._presence is None:
            return pause
        self._follow_drain(self._presence)
        return min(pause, self._presence.step())

    def tell_ejected(self, node: ClusterNode, ejected: bool) -> None:
        """Tell the world that a node is left out, or let back."""
        kind = EventKind.NODE_FAULTED if ejected else EventKind.NODE_RECOVERED
        self._events.tell(ClusterEvent(kind, node))
        if ejected:
            self._release(node)

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

    def _look_at_suspects(self, nodes: tuple[ClusterNode, ...]) -> None:
        """Look at the nodes that are avoided, and at those at which calls have been waiting for their answers."""
        suspects = self._ejection.due_for_a_look(nodes)
        silent = getattr(self._invoker, "silent", None)
        if silent is not None:
            suspects += [node for node in silent(nodes, _SILENCE) if node not in suspects]
        # Where many hosts are off each look takes its whole time; those that no look has reached are tried by a call.
        end = time.monotonic() + _LOOKING
        for node in suspects:
            # A handler may take its time, and the node answers all the same: only one that does not is silent.
            if self._ejection.looked_at(node, answered=self._is_alive(node)):
                self._release(node)
            if time.monotonic() >= end:
                break

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
