"""Asking other nodes what they are, and whether they are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from catga_sync.nodes import ClusterNode, NodeStatus
from catga_sync.transport.http.diagnosis import Trouble, trouble_of
from catga_sync.transport.http.probe import HttpProbe, Probe, ProbeOutcome

__all__ = ["Peers", "ProbedPeers"]

#: Seconds to wait for a node to describe itself.
_TIMEOUT = 1.0


class Peers(Protocol):
    """What can be asked of other nodes. Thread-safe."""

    def describe(self, node: ClusterNode) -> Mapping[str, Any] | Trouble | None:
        """Return what a node says of itself, or why it says nothing; None where that is not known."""

    def is_gone(self, node: ClusterNode) -> bool | None:
        """Return whether a node that is missing in the store is gone; None when that cannot be told."""

    def is_alive(self, node: ClusterNode) -> bool:
        """Return whether a node responds."""


class ProbedPeers:
    """
    Asks other nodes over HTTP. Thread-safe.

    Args:
        probe: Asks one.
        share_a_key: Whether the nodes of this user on this machine share a key without having been given a secret.
    """

    def __init__(self, probe: HttpProbe, *, share_a_key: bool) -> None:
        self._probe = probe
        self._share_a_key = share_a_key

    def describe(self, node: ClusterNode) -> Mapping[str, Any] | Trouble:
        """See ``Peers``."""
        answer = self._ask(node)
        return trouble_of(answer) or answer.description

    def is_gone(self, node: ClusterNode) -> bool | None:
        """See ``Peers``."""
        answer = self._ask(node)
        if self._share_a_key and answer.status == 401 and answer.node_id not in (None, node.node_id):
            # It names itself without a signature; where every process of this machine was believed, that is enough.
            return True
        if answer.outcome is not ProbeOutcome.DESCRIBED:
            return True if answer.outcome is ProbeOutcome.REFUSED else None
        said = answer.description
        if said.get("nodeId") != node.node_id or said.get("status") == NodeStatus.OFFLINE.name:
            # Another node has its port, or its server lives on where its mediator was closed.
            return True
        # One on its way out has left the store by itself, and is not lost.
        return None if said.get("status") == NodeStatus.DRAINING.name else False

    def is_alive(self, node: ClusterNode) -> bool:
        """See ``Peers``."""
        # A node without the describe route answers something else, which is a sign of life as well.
        return self._ask(node).outcome in (ProbeOutcome.DESCRIBED, ProbeOutcome.OTHER)

    def _ask(self, node: ClusterNode) -> Probe:
        return self._probe.ask(node.node_id, node.endpoint or "", _TIMEOUT)
