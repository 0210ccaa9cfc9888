"""The steps of the background thread: refresh the membership, probe nodes that are avoided, send heartbeats, drain.

    serving --drain()--> announced --settled--> refusing --nothing runs--> idle

A drain is that of the node, not of one worker: a file marks it for all workers, and the call that began it waits until
the last of them is idle.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from catga_sync import _fork
from catga_sync._log_limit import LimitedLog
from catga_sync.cluster.local_node import LocalNode
from catga_sync.cluster.membership import Membership
from catga_sync.cluster.peers import Peers
from catga_sync.cluster.presence import Presence
from catga_sync.cluster.sender import Sender
from catga_sync.nodes import ClusterNode
from catga_sync.resilience.ejection import Ejection

__all__ = ["Housekeeping"]

#: Seconds, beside those that the store needs, in which other nodes notice that this node goes offline.
SETTLE = 1.0
#: Seconds between two checks whether a drain has ended.
_LOOK = 0.05
#: Seconds without a response to any call after which a node is probed.
_SILENCE = 1.0
#: Nodes that one step probes.
_AT_ONCE = 8

_log = logging.getLogger(__name__)


class Store(Protocol):
    """An object with files or connections."""

    def close(self) -> None:
        """Close them."""


class Housekeeping:
    """
    Keeps the parts of a cluster mediator going. ``step`` is run by one thread; the rest is thread-safe.

    Args:
        membership: The other nodes.
        presence: Sends the heartbeats; None for a pure client.
        ejection: The nodes that are avoided.
        local_node: This node.
        sender: Has the connections to other nodes.
        peers: Probes a node that is avoided or silent.
        stores: Closed at the end.
        limited_log: Reports from time to time how many lines it has left out.
        monotonic: The clock.
    """

    def __init__(
        self,
        membership: Membership,
        presence: Presence | None,
        ejection: Ejection,
        local_node: LocalNode,
        sender: Sender,
        peers: Peers,
        stores: Sequence[Store],
        limited_log: LimitedLog,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._membership = membership
        self._presence = presence
        self._ejection = ejection
        self._local_node = local_node
        self._sender = sender
        self._peers = peers
        self._stores = stores
        self._limited_log = limited_log
        self._monotonic = monotonic
        self._drain_seen_at: float | None = None
        #: node id -> when it was last probed, for the nodes that are to be probed
        self._asked_at: dict[str, float] = {}
        _fork.watch(self)

    def step(self) -> float:
        """Do what is due; return the seconds until there may be more to do."""
        self._membership.refresh(ask=True)
        nodes = self._membership.snapshot.nodes
        pause = self._membership.refresh_interval
        if self._presence is not None:
            self._follow_drain(self._presence)
            # Before other nodes are probed, which may take long.
            pause = min(pause, self._presence.step())
        self._ejection.keep_only(nodes)
        self._check_suspects(nodes)
        self._limited_log.tell_left_out()
        self._sender.tidy(nodes)
        return pause

    def begin_drain(self) -> None:
        """Ask the whole node to drain; every worker follows within its next steps."""
        if self._presence is None or not self._presence.wish_drain():
            self._local_node.drain()

    def drain(self, timeout: float) -> bool:
        """Drain the node and wait for all its workers; return whether no call runs any more."""
        end = self._monotonic() + timeout
        self.begin_drain()
        if self._presence is None or not self._presence.visible:
            return self._local_node.wait_idle(timeout)
        pause = threading.Event()
        while not self._presence.all_idle():
            if self._monotonic() >= end:
                return False
            pause.wait(_LOOK)
        return True

    def close(self) -> None:
        """Leave the cluster and close connections and stores."""
        if self._presence is not None:
            self._presence.leave()
        self._sender.close()
        for store in self._stores:
            store.close()

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``: a drain that the parent has seen is not followed here."""
        self._drain_seen_at = None

    def _check_suspects(self, nodes: tuple[ClusterNode, ...]) -> None:
        """Probe nodes: those that are avoided, ejected and due, or silent towards calls."""
        probed = {node.node_id: node for node in self._ejection.due_for_probe(nodes)}
        suspects = {node.node_id: node for node in self._ejection.due_for_check(nodes)}
        suspects.update((node.node_id, node) for node in self._sender.silent(nodes, _SILENCE))
        due = {**suspects, **probed}
        # A node that hangs takes the whole time-out, so several are probed at once, the longest ago first.
        chosen = sorted(due.values(), key=lambda node: self._asked_at.get(node.node_id, float("-inf")))[:_AT_ONCE]
        now = self._monotonic()
        self._asked_at = {node_id: at for node_id, at in self._asked_at.items() if node_id in due}
        self._asked_at.update((node.node_id, now) for node in chosen)
        for node, responded in zip(chosen, self._are_alive(chosen), strict=True):
            if node.node_id in probed:
                self._ejection.probed(node, responded=responded)
            # A handler may take long while its node responds: only a node that does not respond is silent.
            elif self._ejection.checked(node, responded=responded):
                self._sender.abandon(node)

    def _are_alive(self, nodes: list[ClusterNode]) -> list[bool]:
        if len(nodes) < 2:
            return [self._peers.is_alive(node) for node in nodes]
        with ThreadPoolExecutor(len(nodes), thread_name_prefix="catga-look") as pool:
            return list(pool.map(self._peers.is_alive, nodes))

    def _follow_drain(self, presence: Presence) -> None:
        if not presence.visible or not presence.drain_wished:
            return
        now = self._monotonic()
        if self._drain_seen_at is None:
            _log.info("going offline: announced to the other nodes, still serving")
            self._drain_seen_at = now
            presence.hasten()
        elif not self._local_node.draining and now - self._drain_seen_at >= SETTLE + self._membership.refresh_interval:
            _log.info("going offline: new requests are refused")
            self._local_node.drain()
        elif self._local_node.draining and self._local_node.in_flight == 0:
            presence.say_idle()
