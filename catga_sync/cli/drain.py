"""Draining one node from outside: ask for it, then ask how far it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from catga_sync.errors import ConfigurationError
from catga_sync.nodes import ClusterNode, NodeStatus
from catga_sync.transport import NodeProbe
from catga_sync.transport.http.diagnosis import trouble_of
from catga_sync.transport.http.probe import Probe, ProbeOutcome

__all__ = ["PROBE_TIMEOUT", "Drain"]

#: Seconds to wait for a node to describe itself.
PROBE_TIMEOUT = 2.0
#: Seconds between two looks whether a drain has ended.
_LOOK = 0.2


class Drain:
    """
    Have one node go offline, and wait until nothing runs there. Belongs to one thread.

    Args:
        node: The node.
        probe: Sends the requests.
        is_listed: Returns whether the store lists a node id with an incarnation.
        tell: Called with the text of each step.
    """

    def __init__(
        self, node: ClusterNode, probe: NodeProbe, is_listed: Callable[[str, str], bool], tell: Callable[[str], None]
    ) -> None:
        self._node = node
        self._probe = probe
        self._is_listed = is_listed
        self._tell = tell
        #: The incarnation that is drained; "" until a worker has named it.
        self._incarnation = ""
        #: Whether that incarnation is known to go offline.
        self._begun = False

    def run(self, timeout: float) -> str | None:
        """
        Wait for ``timeout`` seconds at most; return "idle", "restarted" or "gone", or None when the time is over.

        Raises:
            ConfigurationError: The node refuses; the text says why.
        """
        end = time.monotonic() + timeout
        pause = threading.Event()
        while True:
            left = end - time.monotonic()
            if left <= 0:
                return None
            ask = self._probe.ask if self._begun else self._probe.drain
            ended = self._judge(ask(self._node.node_id, self._node.endpoint or "", min(PROBE_TIMEOUT, left)))
            if ended is not None:
                return ended
            pause.wait(min(_LOOK, max(0.0, end - time.monotonic())))

    def _judge(self, probe: Probe) -> str | None:
        if probe.outcome is ProbeOutcome.REFUSED:
            return "gone"
        if probe.outcome is ProbeOutcome.SILENT:
            known = self._incarnation or self._node.incarnation
            return None if self._is_listed(self._node.node_id, known) else "gone"
        if probe.outcome is ProbeOutcome.OTHER:
            if not self._begun and probe.status is not None and probe.status < 500:
                raise ConfigurationError(f"{self._node.node_id}: {trouble_of(probe)}")
            return None
        description = probe.description
        incarnation, draining = (
            str(description.get("incarnation") or ""),
            description.get("status") == NodeStatus.DRAINING.name,
        )
        if not incarnation:
            # A worker that has just started: its state is not the node's.
            return None
        if self._incarnation and incarnation != self._incarnation:
            return "restarted"
        if draining and not self._begun:
            self._tell("going offline; waiting for running calls")
        self._incarnation, self._begun = incarnation, draining
        return "idle" if draining and description.get("idle") is True else None
