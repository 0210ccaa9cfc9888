"""Makes this node visible to other nodes: registration, heartbeats, withdrawal.

A process that has attached its receiver to an app is to serve. It serves once

* the node's own endpoint responds as this node, and
* this process has received a request, or listens on the endpoint's port (a worker that has had no call yet).

Only then does it join the node's workers; one of them leads and sends the heartbeats. A process that merely imports the
app (a shell, ``manage.py migrate``, the parent of a reloader or of ``--preload``) never joins.

    outside --endpoint responds--> serving --endpoint refuses, or is silent for too long--> outside

When the last process of a node leaves, it removes the node's record. ``visibility.py`` keeps the reason why a node is
outside.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from catga_sync import _fork
from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync._endpoint import check_endpoint
from catga_sync._redaction import shown
from catga_sync.cluster.listening import listening, port_of
from catga_sync.cluster.peers import Asker
from catga_sync.cluster.visibility import Visibility
from catga_sync.cluster.worker_group import WorkerGroup
from catga_sync.discovery.base import Discovery
from catga_sync.errors import ConfigurationError, NodeIdTaken
from catga_sync.nodes import STREAM, ClusterNode, NodeRecord
from catga_sync.transport.http.diagnosis import Trouble, trouble_of
from catga_sync.transport.http.probe import Probe, ProbeOutcome
from catga_sync.wire.routes import NODE_PATH

__all__ = ["Presence"]

#: Seconds to wait for this node's own response.
_PROBE_TIMEOUT = 1.0
#: Seconds between two attempts to become visible: at first, and at most.
_FIRST_LOOK, _LAST_LOOK = 0.05, 1.0

_log = logging.getLogger(__name__)


class Describable(Protocol):
    """What presence needs of this node."""

    @property
    def this(self) -> ClusterNode:
        """Its id and endpoint."""

    def before_heartbeat(self) -> None:
        """
        Get ready to be described.

        Called before each heartbeat, and about as often in the workers that send none: each worker may be asked for the
        description. Raises nothing.
        """

    def describe(self) -> ClusterNode:
        """Return it as it is now."""


class Presence:
    """
    The visibility of this node. Its steps are run by one thread; the rest is thread-safe.

    Args:
        local_node: This node; it has an endpoint.
        group: Its processes on this machine.
        visibility: Keeps the reason why it is not visible.
        discovery: The store of its record.
        probe: Asks the endpoint.
        heartbeat_interval: Seconds between two heartbeats.
        heartbeat_timeout: Seconds after which its record expires.
        started: Called once for each run of the node, in one of its processes, when the node has become visible.
        listens: Returns the addresses on which this process listens, as in ``127.0.0.1:80``; None means the real ones.
        clock: None means the system's.
    """

    def __init__(
        self,
        local_node: Describable,
        group: WorkerGroup,
        visibility: Visibility,
        discovery: Discovery,
        probe: Asker,
        *,
        heartbeat_interval: float,
        heartbeat_timeout: float,
        started: Callable[[ClusterNode], None] = lambda node: None,
        listens: Callable[[], Sequence[str]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._local_node = local_node
        self._node_id = local_node.this.node_id
        self._endpoint = endpoint = local_node.this.endpoint or ""
        self._port = port_of(endpoint)
        self._group = group
        self._discovery = discovery
        self._probe = probe
        self._interval = heartbeat_interval
        self._timeout = heartbeat_timeout
        self._started = started
        self._listens = listening if listens is None else listens
        self._clock = SYSTEM_CLOCK if clock is None else clock
        #: Whether this process is to serve.
        self.attached = False
        #: Whether this process has received a request.
        self.has_served = False
        #: Whether it has forked since it was attached: then it is the parent of servers until it receives a request.
        self.has_forked = False
        self._look = _FIRST_LOOK
        self._due = float("-inf")
        self._answered_at = float("-inf")
        self._leads = False
        self._seq = 0
        self._visibility = visibility
        _fork.watch(self)

    @property
    def visible(self) -> bool:
        """Whether this process is counted among those that serve the node."""
        return self._group.joined

    @property
    def trouble(self) -> str | None:
        """Why the node is not visible to others, in a sentence; None when it is, or is not to be."""
        return self._visibility.trouble

    def step(self) -> float:
        """Do what is due; return the seconds until there may be more to do."""
        if not self.attached:
            return self._interval
        now = self._clock.monotonic()
        if now < self._due:
            return self._due - now
        try:
            pause = self._stay() if self._group.joined else self._enter()
        except ConfigurationError as exc:
            # The folder or the lock files of this node are not this user's own.
            self._visibility.note(exc, at_once=True)
            pause = _LAST_LOOK
        self._due = self._clock.monotonic() + pause
        return pause

    def hasten(self) -> None:
        """Make the next step do its work whatever the time."""
        self._due = float("-inf")
        self._look = _FIRST_LOOK

    @property
    def drain_wished(self) -> bool:
        """Whether the node is to go offline."""
        return self._group.drain_is_wished()

    def wish_drain(self) -> bool:
        """Ask all workers of the node to go offline; return False when this process is not one of them."""
        if not self._group.joined:
            return False
        self._group.wish_drain()
        return True

    def say_idle(self) -> None:
        """Record that this worker is drained and idle."""
        self._group.say_idle()

    def all_idle(self) -> bool:
        """Return whether every worker of the node is drained and idle."""
        return self._group.all_idle()

    def leave(self) -> None:
        """Stop serving in this process; the last process of the node removes its record. Raises nothing."""
        self.attached = False
        self._leads = False
        self._visibility.reset()
        incarnation = self._group.incarnation
        if not self._group.leave():
            return
        try:
            self._discovery.deregister(self._node_id, incarnation)
        except Exception as exc:
            _log.warning("the node's record could not be removed; it will expire: %s", shown(exc))

    def attach(self) -> None:
        """Mark this process as a server; the next step checks whether it serves."""
        self.attached = True
        self.hasten()

    def served(self) -> None:
        """Note that this process has received a request."""
        self.has_served = True

    def before_fork(self) -> None:
        """See ``Forkable``."""

    def after_fork_in_parent(self) -> None:
        """See ``Forkable``."""
        if self.attached and not self.has_served:
            # Attached, and forking before any request: the parent of the servers (--preload), not one of them.
            self.has_forked = True

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``: the child has yet to become visible by itself."""
        # A server forks its workers before the first request; later on, a handler has forked something else.
        self.attached = self.attached and not self.has_served
        self.has_served = self.has_forked = False
        self.hasten()

    def _enter(self) -> float:
        pause, self._look = self._look, min(self._look * 1.15, _LAST_LOOK)
        if not self._may_serve():
            return pause
        probe, trouble = self._ask()
        if trouble is not None:
            self._visibility.note(trouble)
            return pause
        if not self._serves():
            self._visibility.note_waiting(self._waiting())
            return pause
        self._group.join()
        self._look = _FIRST_LOOK
        self._answered_at = self._clock.monotonic()
        return self._beat(probe)

    def _stay(self) -> float:
        led = self._leads
        self._leads = self._group.lead()
        if not self._leads:
            # Another process leads; be ready to take over soon after it has ended.
            self._local_node.before_heartbeat()
            return min(self._interval, _LAST_LOOK)
        if not led:
            # Another process has led and asked until now: silence counts from here on.
            self._answered_at = self._clock.monotonic()
        probe, trouble = self._ask()
        now = self._clock.monotonic()
        if trouble is None:
            self._answered_at = now
        # A busy node may be silent; a refused connection means that its server has ended.
        elif probe.outcome is ProbeOutcome.REFUSED or now - self._answered_at > self._timeout:
            _log.warning("node %s is removed from the cluster: %s", self._node_id, trouble)
            attached = self.attached
            self.leave()
            self.attached = attached
            self.has_served = False
            return _FIRST_LOOK
        return self._beat(probe)

    def _beat(self, probe: Probe) -> float:
        self._local_node.before_heartbeat()
        self._leads = self._group.lead()
        if not self._leads:
            self._visibility.done()
            return min(self._interval, _LAST_LOOK)
        self._seq += 1
        node = replace(self._local_node.describe(), incarnation=self._group.incarnation)
        try:
            self._register(NodeRecord(node, self._seq))
        except NodeIdTaken as exc:
            self._visibility.note(exc, at_once=True)
            return self._interval
        except Exception as exc:
            self._visibility.note(_unwritten(exc))
            return min(self._interval, _LAST_LOOK)
        self._visibility.done()
        if self._group.tell_start():
            said = probe.description.get("features")
            # The server lends sockets: the worker that was asked knows it, and this one perhaps not yet.
            lends = isinstance(said, list) and STREAM in said
            self._started(replace(node, features=node.features | {STREAM}) if lends else node)
        return self._interval

    def _register(self, record: NodeRecord) -> None:
        try:
            self._discovery.register(record, self._timeout)
        except NodeIdTaken as exc:
            # Perhaps by this very run, under another spelling of the endpoint.
            if not self._is_this_run(exc.endpoint):
                raise
            for held in self._discovery.nodes():
                if held.node.node_id == self._node_id and held.node.endpoint == exc.endpoint:
                    self._discovery.deregister(self._node_id, held.node.incarnation)
            self._discovery.register(record, self._timeout)

    def _is_this_run(self, endpoint: str) -> bool:
        try:
            check_endpoint(endpoint)  # a store may hand it over as it was written
        except ConfigurationError:
            return False
        said = self._probe.ask(self._node_id, endpoint, _PROBE_TIMEOUT).description
        return said.get("nodeId") == self._node_id and said.get("incarnation") == self._group.incarnation

    def _may_serve(self) -> bool:
        return self.has_served or (not self.has_forked and bool(self._listens()))

    def _serves(self) -> bool:
        # Behind a port mapping or a proxy no process here has the endpoint's port: only a request can show it, and the
        # probe is one.
        if self.has_served:
            return True
        return not self.has_forked and any(each.rpartition(":")[2] == str(self._port) for each in self._listens())

    def _ask(self) -> tuple[Probe, Trouble | None]:
        probe = self._probe.ask(self._node_id, self._endpoint, _PROBE_TIMEOUT)
        return probe, trouble_of(probe, own_id=self._node_id, listening=self._listens)

    def _waiting(self) -> str:
        return (
            f"GET {self._endpoint}{NODE_PATH}: another process responds as this node; no request has reached this one, "
            f"which listens on {' and '.join(self._listens()) or 'nothing'}"
        )


def _unwritten(exc: Exception) -> str:
    return f"its heartbeat cannot be written into the discovery store: {shown(exc)}"
