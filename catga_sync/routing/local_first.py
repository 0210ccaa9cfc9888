"""This node if it can, else another one."""

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
    Take this node while it has room; else ask another router about the rest. Thread-safe if the other one is.

    Args:
        otherwise:
            Asked about the other nodes. Through ``create_router`` a name will do; None there means ``round-robin``.

        node_id:
            The id of this node. "" is nobody's: then all is left to the other router.

        has_room:
            Tells whether this node takes more work; None means that it always does. Called on the way of every send
            for which there is a choice.

    .. versionadded:: 0.1
    """

    def __init__(self, otherwise: Router, *, node_id: str = "", has_room: Callable[[], bool] | None = None) -> None:
        if not isinstance(node_id, str):
            raise ConfigurationError(f"node_id: give the id of this node, not {node_id!r}")
        check_callable("has_room", has_room, "a function without arguments")
        self._node_id = node_id
        self._otherwise = otherwise
        self._has_room = has_room
        self._tell = getattr(otherwise, "completed", None)
        self._withdraw = getattr(otherwise, "withdraw", None)
        self._split = PerType(self._apart)
        _fork.watch_given(otherwise)

    def route(self, message: Any, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
        """See ``Router``."""
        this, others = self._split.of(message, nodes)
        if this is not None and (not others or self._has_room is None or self._has_room()):
            return this
        return self._otherwise.route(message, others)

    def completed(self, node: ClusterNode, message: Any, result: Any, elapsed: float) -> None:
        """See ``Router``: the other router hears of what it was asked about."""
        if self._tell is not None and node.node_id != self._node_id:
            self._tell(node, message, result, elapsed)

    def withdraw(self, node: ClusterNode, message: Any) -> None:
        """See ``Router``."""
        if self._withdraw is not None and node.node_id != self._node_id:
            self._withdraw(node, message)

    def _apart(self, nodes: tuple[ClusterNode, ...]) -> tuple[ClusterNode | None, tuple[ClusterNode, ...]]:
        """Return this node, or None, and the others: a tuple that is the same as long as ``nodes`` is."""
        for at, node in enumerate(nodes):
            if node.node_id == self._node_id:
                return node, nodes[:at] + nodes[at + 1 :]
        return None, nodes
