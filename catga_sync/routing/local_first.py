"""Routes to this node if it can handle the message, otherwise to another node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from catga_sync import _fork
from catga_sync.errors import ConfigurationError
from catga_sync.nodes import ClusterNode
from catga_sync.routing.base import Router, check_callable
from catga_sync.routing.candidates import PerType

__all__ = ["LocalFirstRouter"]


class LocalFirstRouter:
    """
    Picks this node while it has room, and otherwise uses another router. Thread-safe if the other router is.

    Args:
        otherwise: The router for the other nodes. ``create_router`` accepts a router's name, and None for
            ``round-robin``.
        node_id: The id of this node. "" is the id of no node, and leaves everything to the other router.
        has_room: Returns whether this node accepts more work; None means always. Called for every send with more than
            one candidate.

    .. versionadded:: 0.1
    """

    def __init__(self, otherwise: Router, *, node_id: str = "", has_room: Callable[[], bool] | None = None) -> None:
        if not isinstance(node_id, str):
            raise ConfigurationError(f"node_id: give the id of this node, not {node_id!r}")
        check_callable("has_room", has_room, "a function without arguments")
        self._node_id = node_id
        self._otherwise = otherwise
        self._has_room = has_room
        self._completed = getattr(otherwise, "completed", None)
        self._withdraw = getattr(otherwise, "withdraw", None)
        self._split = PerType(self._apart)
        _fork.watch_given(otherwise)

    def route(self, message: Any, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
        """See ``Router``."""
        if len(nodes) == 1:
            return nodes[0] if nodes[0].node_id == self._node_id else self._otherwise.route(message, nodes)
        this, others = self._split.of(message, nodes)
        if this is not None and (not others or self._has_room is None or self._has_room()):
            return this
        return self._otherwise.route(message, others)

    def completed(self, node: ClusterNode, message: Any, result: Any, elapsed: float) -> None:
        """See ``Router``; passed on for what the other router has picked."""
        if self._completed is not None and node.node_id != self._node_id:
            self._completed(node, message, result, elapsed)

    def withdraw(self, node: ClusterNode, message: Any) -> None:
        """See ``Router``."""
        if self._withdraw is not None and node.node_id != self._node_id:
            self._withdraw(node, message)

    def _apart(self, nodes: tuple[ClusterNode, ...]) -> tuple[ClusterNode | None, tuple[ClusterNode, ...]]:
        """Return this node, or None, and the other nodes; see ``PerType``."""
        for at, node in enumerate(nodes):
            if node.node_id == self._node_id:
                return node, nodes[:at] + nodes[at + 1 :]
        return None, nodes
