"""How this node becomes visible, stays so, and goes.

A process that has attached its receiver to an app means to serve. It does serve once

* the node's own endpoint answers as this node, and
* this very process has received a request, or listens on the endpoint's port (a worker that has had no call yet).

Only then does it join the node's workers; one of them leads and sends the heartbeats. A process that merely
imports the app (a shell, ``manage.py migrate``, the parent of a reloader or of ``--preload``) never gets there on
its own, and what it cannot do it cannot fake.

    outside --endpoint answers--> serving --endpoint refuses, or is silent for too long--> outside

and when a process leaves, the last one of the node takes the record along.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync.cluster.workers import WorkerGroup
from catga_sync.discovery.base import Discovery
from catga_sync.errors import NodeIdTaken
from catga_sync.nodes import ClusterNode, NodeRecord
from catga_sync.transport.probe import Probe, ProbeOutcome

__all__ = ["Presence", "listens_on"]

#: Seconds to wait for this node's own answer.
_PROBE_TIMEOUT = 1.0
#: Seconds between two looks while the node is not visible: the first, and the longest.
_FIRST_LOOK, _LAST_LOOK = 0.05, 1.0

_log = logging.getLogger(__name__)


class Asker(Protocol):
    """What presence needs of a probe."""

    def ask(self, node_id: str, endpoint: str, timeout: float) -> Probe:
        """Ask the node at an endpoint what it says of itself."""


class Presence:
    """
    The visibility of this node. Its steps are run by one thread; the rest is thread-safe.

    Args:
        node_id: Of this node.
        endpoint: Where it is reached.
        group: Its processes on this machine.
        discovery: Where its record goes.
        probe: Asks the endpoint.
        describe: Returns this node as it is now.
        heartbeat_interval: Seconds between two heartbeats.
        heartbeat_timeout: Seconds after which its record may be forgotten.
        listens: Tells whether this process listens on a port.
        clock: None means the system's.
    """

    def __init__(
        self,
        node_id: str,
        endpoint: str,
        group: WorkerGroup,
        discovery: Discovery,
        probe: Asker,
        describe: Callable[[], ClusterNode],
        *,
        heartbeat_interval: float,
        heartbeat_timeout: float,
        listens: Callable[[int], bool] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._node_id = node_id
        self._endpoint = endpoint
        self._port = port_of(endpoint)
        self._group = group
        self._discovery = discovery
        self._probe = probe
        self._describe = describe
        self._interval = heartbeat_interval
        self._timeout = heartbeat_timeout
        self._listens = listens_on if listens is None else listens
        self._clock = SYSTEM_CLOCK if clock is None else clock
        #: Whether this process means to serve.
        self.attached = False
        #: Whether this process has received a request.
        self.has_served = False
        #: Whether it has forked since it was attached: then it is the parent of servers until a request says otherwise.
        self.has_forked = False
        self._look = _FIRST_LOOK
        self._due = float("-inf")
        self._answered_at = float("-inf")
        self._leads = False
        self._seq = 0
        self._warned = False

    @property
    def visible(self) -> bool:
        """Whether this process is counted among those that serve the node."""
        return self._group.joined

    @property
    def incarnation(self) -> str:
        """The incarnation of the node, or "" while this process does not serve it."""
        return self._group.incarnation

    def step(self) -> float:
        """Do what is due; return the seconds until there may be more to do."""
        if not self.attached:
            return self._interval
        now = self._clock.monotonic()
        if now < self._due:
            return self._due - now
        pause = self._stay() if self._group.joined else self._enter()
        self._due = self._clock.monotonic() + pause
        return pause

    def hasten(self) -> None:
        """Have the next step do its work whatever the time."""
        self._due = float("-inf")
        self._look = _FIRST_LOOK

    @property
    def drain_wished(self) -> bool:
        """Whether the node is to go offline."""
        return self._group.drain_is_wished()

    def wish_drain(self) -> bool:
        """Have all workers of the node go offline; return False when this process is none of them."""
        if not self._group.joined:
            return False
        self._group.wish_drain()
        return True

    def say_idle(self) -> None:
        """Say that this worker is drained and has nothing left to do."""
        self._group.say_idle()

    def all_idle(self) -> bool:
        """Return whether every worker of the node has said so."""
        return self._group.all_idle()

    def leave(self) -> None:
        """Stop serving in this process; the last process of the node takes its record along. Raises nothing."""
        self.attached = False
        self._leads = False
        incarnation = self._group.incarnation
        if not self._group.leave():
            return
        try:
            self._discovery.deregister(self._node_id, incarnation)
        except Exception as exc:
            _log.warning("the node's record could not be removed; it will expire: %r", exc)

    def forget(self) -> None:
        """In a forked child: what the parent is, this process still has to become."""
        self._group.forget()
        self.has_served = self.has_forked = False
        self.hasten()

    def _enter(self) -> float:
        pause, self._look = self._look, min(self._look * 1.15, _LAST_LOOK)
        if not self._may_serve():
            return pause
        answer = self._probe.ask(self._node_id, self._endpoint, _PROBE_TIMEOUT)
        if not self._is_this_node(answer) or not self._serves():
            return pause
        self._group.join()
        self._look = _FIRST_LOOK
        self._answered_at = self._clock.monotonic()
        return self._beat()

    def _stay(self) -> float:
        led = self._leads
        self._leads = self._group.lead()
        if not self._leads:
            # Somebody else speaks for the node; be ready to take over soon after that process is gone.
            return min(self._interval, _LAST_LOOK)
        if not led:
            # Whoever led before has listened; only from now on is silence ours to judge.
            self._answered_at = self._clock.monotonic()
        answer = self._probe.ask(self._node_id, self._endpoint, _PROBE_TIMEOUT)
        now = self._clock.monotonic()
        if answer.outcome is ProbeOutcome.ANSWERED:
            self._answered_at = now
        # A busy node is silent without being gone; nobody listening is another matter.
        if answer.outcome is ProbeOutcome.REFUSED or now - self._answered_at > self._timeout:
            _log.warning("nobody answers at %s any more; the node is taken out of the cluster", self._endpoint)
            attached = self.attached
            self.leave()
            self.attached = attached
            self.has_served = False
            return _FIRST_LOOK
        return self._beat()

    def _beat(self) -> float:
        self._leads = self._group.lead()
        if not self._leads:
            return min(self._interval, _LAST_LOOK)
        self._seq += 1
        node = replace(self._describe(), incarnation=self._group.incarnation)
        try:
            self._discovery.register(NodeRecord(node, self._seq), self._timeout)
        except NodeIdTaken as exc:
            _log.error("this node is not in the cluster: %s", exc)
            return self._interval
        except Exception as exc:
            _log.warning("the heartbeat could not be written: %r", exc)
            return min(self._interval, _LAST_LOOK)
        return self._interval

    def _may_serve(self) -> bool:
        return self.has_served or (not self.has_forked and self._listens(0))

    def _serves(self) -> bool:
        # Behind a port mapping or a proxy the endpoint's port is nobody's here, and only a request can tell; the
        # probe itself is one.
        return self.has_served or (not self.has_forked and self._listens(self._port))

    def _is_this_node(self, answer: Probe) -> bool:
        if answer.outcome is not ProbeOutcome.ANSWERED:
            return False
        if answer.description.get("nodeId") == self._node_id:
            return True
        if not self._warned:
            self._warned = True
            _log.error(
                "endpoint: %s answers as another node than %s; give the right endpoint", self._endpoint, self._node_id
            )
        return False


def port_of(endpoint: str) -> int:
    """Return the port of an endpoint, or its scheme's."""
    parts = urlsplit(endpoint)
    return parts.port if parts.port is not None else (443 if parts.scheme == "https" else 80)


def listens_on(port: int) -> bool:
    """Return whether this process has a socket that listens on a port; 0 means on any."""
    try:
        descriptors = [int(path.name) for path in Path("/dev/fd").iterdir() if path.name.isdigit()]
    except OSError:
        return False
    return any(_is_listener(fd, port) for fd in descriptors)


def _is_listener(fd: int, port: int) -> bool:
    # Another thread may close the descriptor at any moment; a copy of our own cannot be pulled away.
    with contextlib.suppress(OSError):
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return False
        with socket.socket(fileno=os.dup(fd)) as sock:
            if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return False
            name = sock.getsockname()
            return port == 0 or (isinstance(name, tuple) and name[1] == port)
    return False
