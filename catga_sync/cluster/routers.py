"""The routers of a cluster mediator: that of its options, and those that single message types name."""

from __future__ import annotations

from typing import Any

from catga_sync import _fork
from catga_sync._redaction import shown
from catga_sync.cluster.local_node import LocalNode
from catga_sync.errors import ConfigurationError
from catga_sync.routing import Router, create_router, router_options
from catga_sync.serialization import MessageRegistry, MessageType

__all__ = ["Routers"]


class Routers:
    """
    Makes routers by name, one of each. Thread-safe.

    Args:
        default: The option: a name, or an object.
        local_node: The node that ``local-first`` prefers while it has room.
        registry: Has the key of each message type.
        injected: Further options, for the routers that have them.

    Raises:
        ConfigurationError: The option is neither the name of a router nor a router.
    """

    def __init__(self, default: Any, local_node: LocalNode, registry: MessageRegistry, **injected: Any) -> None:
        self._local_node = local_node
        self._registry = registry
        self._injected = injected
        self._made: dict[str, Router] = {}
        if not isinstance(default, str) and not callable(getattr(default, "route", None)):
            text = f"router: give a name, or an object with route(message, nodes), not {shown(default)}"
            raise ConfigurationError(text)
        self.default: Router = self._named(default) if isinstance(default, str) else default
        _fork.watch_given(self.default)

    def of(self, entry: MessageType) -> Router:
        """
        Return the router of a message type.

        Raises:
            ConfigurationError: There is no router of the name that it gives.
        """
        return self.default if entry.route is None else self._named(entry.route)

    def _named(self, name: str) -> Router:
        router = self._made.get(name)
        return self._made.setdefault(name, self._make(name)) if router is None else router

    def _make(self, name: str) -> Router:
        known = router_options(name)
        injected = {
            **self._injected,
            "node_id": self._local_node.node_id,
            "has_room": lambda: self._local_node.room != 0,
            "key_of": self._key_of,
        }
        return create_router(name, **{option: value for option, value in injected.items() if option in known})

    def _key_of(self, message: Any) -> Any:
        key = self._registry.ensure(type(message)).key
        return None if key is None else getattr(message, key)
