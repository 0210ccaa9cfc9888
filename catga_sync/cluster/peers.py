"""Probes of other nodes: their description, and whether they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from catga_sync._runtime_dir import meeting_folder
from catga_sync.cluster.worker_group import any_process_of, group_key
from catga_sync.nodes import ClusterNode, NodeStatus
from catga_sync.transport.http.diagnosis import Trouble, trouble_of
from catga_sync.transport.http.probe import Probe, ProbeOutcome, nobody_listens

__all__ = ["Asker", "Peers", "liveness"]

#: Seconds to wait for a node to describe itself.
_TIMEOUT = 1.0


class Asker(Protocol):
    """Asks nodes to describe themselves. Thread-safe."""

    def ask(self, node_id: str, endpoint: str, timeout: float) -> Probe:
        """Ask the node at an endpoint; wait so many seconds at most. Raises nothing."""


def liveness(cluster_name: str) -> Callable[[ClusterNode], bool | None]:
    """Return a function that returns whether a node of this machine runs; None where that cannot be determined."""

    def is_alive(node: ClusterNode) -> bool | None:
        try:
            folder = meeting_folder()
        except OSError:
            return None
        alive = any_process_of(folder, group_key(cluster_name, node.node_id, node.endpoint or ""))
        if alive is False and not nobody_listens(node.endpoint or ""):
            # Its workers have died, but another process, such as gunicorn's master, keeps the port for the next ones.
            return None
        return alive

    return is_alive


class Peers:
    """
    Asks other nodes to describe themselves. Thread-safe.

    Args:
        probe: Asks one of them.
        share_a_key: Whether the nodes of this user on this machine share a key without having been given a secret.
    """

    def __init__(self, probe: Asker, *, share_a_key: bool) -> None:
        self._probe = probe
        self._share_a_key = share_a_key

    def describe(self, node: ClusterNode) -> Mapping[str, Any] | Trouble:
        """Return the description of a node, or why there is none."""
        probe = self._ask(node)
        return trouble_of(probe) or probe.description

    def is_gone(self, node: ClusterNode) -> bool | None:
        """Return whether a node that is missing in the store is gone; None when that cannot be determined."""
        probe = self._ask(node)
        if self._share_a_key and probe.status == 401 and probe.node_id not in (None, node.node_id):
            # The other node id is not signed. Between processes of one user of one machine that is enough.
            return True
        if probe.outcome is not ProbeOutcome.DESCRIBED:
            return True if probe.outcome is ProbeOutcome.REFUSED else None
        found = probe.description
        if found.get("nodeId") != node.node_id or found.get("status") == NodeStatus.OFFLINE.name:
            # Another node has its port, or its server lives on where its mediator was closed.
            return True
        # A node that drains has left the store by itself, and is not lost.
        return None if found.get("status") == NodeStatus.DRAINING.name else False

    def is_alive(self, node: ClusterNode) -> bool:
        """Return whether a node responds."""
        # Any other response, such as that of a node without the describe route, is a sign of life as well.
        return self._ask(node).outcome in (ProbeOutcome.DESCRIBED, ProbeOutcome.OTHER)

    def _ask(self, node: ClusterNode) -> Probe:
        return self._probe.ask(node.node_id, node.endpoint or "", _TIMEOUT)
