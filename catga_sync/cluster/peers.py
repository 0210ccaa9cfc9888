"""Asking other nodes to describe themselves, and whether they run."""

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
    """Return a function that tells whether a node of this machine runs; None where that cannot be told."""

    def is_alive(node: ClusterNode) -> bool | None:
        try:
            folder = meeting_folder()
        except OSError:
            return None
        alive = any_process_of(folder, group_key(cluster_name, node.node_id, node.endpoint or ""))
        if alive is False and not nobody_listens(node.endpoint or ""):
            # Its workers have died, but a process keeps the port for the next ones: gunicorn's master, say.
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
        answer = self._ask(node)
        return trouble_of(answer) or answer.description

    def is_gone(self, node: ClusterNode) -> bool | None:
        """Return whether a node that is missing in the store is gone; None when that cannot be told."""
        answer = self._ask(node)
        if self._share_a_key and answer.status == 401 and answer.node_id not in (None, node.node_id):
            # It names itself without a signature. Between processes of one user of one machine that is enough.
            return True
        if answer.outcome is not ProbeOutcome.DESCRIBED:
            return True if answer.outcome is ProbeOutcome.REFUSED else None
        said = answer.description
        if said.get("nodeId") != node.node_id or said.get("status") == NodeStatus.OFFLINE.name:
            # Another node has its port, or its server lives on where its mediator was closed.
            return True
        # A node that drains has left the store by itself, and is not lost.
        return None if said.get("status") == NodeStatus.DRAINING.name else False

    def is_alive(self, node: ClusterNode) -> bool:
        """Return whether a node responds."""
        # A node without the describe route responds otherwise, which is a sign of life as well.
        return self._ask(node).outcome in (ProbeOutcome.DESCRIBED, ProbeOutcome.OTHER)

    def _ask(self, node: ClusterNode) -> Probe:
        return self._probe.ask(node.node_id, node.endpoint or "", _TIMEOUT)
