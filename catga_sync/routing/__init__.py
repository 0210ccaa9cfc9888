"""Routers: the protocol is in ``base.py``, each built-in router in a file of its own; ``create_router`` makes them.

The built-in routers never import each other. Only this file names them all, and it imports each on first use.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from catga_sync._redaction import shown
from catga_sync.errors import ConfigurationError
from catga_sync.routing.base import Router

if TYPE_CHECKING:
    from catga_sync.routing.consistent_hash import ConsistentHashRouter
    from catga_sync.routing.least_connections import LeastConnectionsRouter
    from catga_sync.routing.least_load import LeastLoadRouter
    from catga_sync.routing.local_first import LocalFirstRouter
    from catga_sync.routing.p2c_ewma import P2cEwmaRouter
    from catga_sync.routing.random import RandomRouter
    from catga_sync.routing.round_robin import RoundRobinRouter
    from catga_sync.routing.weighted_round_robin import WeightedRoundRobinRouter

__all__ = [
    # Making one
    "Router",
    "create_router",
    "router_names",
    "router_options",
    # The built-in ones
    "ConsistentHashRouter",
    "LeastConnectionsRouter",
    "LeastLoadRouter",
    "LocalFirstRouter",
    "P2cEwmaRouter",
    "RandomRouter",
    "RoundRobinRouter",
    "WeightedRoundRobinRouter",
]

#: Name of the router -> its class. The file has the name of the router.
_ROUTERS = {
    "consistent-hash": "ConsistentHashRouter",
    "least-connections": "LeastConnectionsRouter",
    "least-load": "LeastLoadRouter",
    "local-first": "LocalFirstRouter",
    "p2c-ewma": "P2cEwmaRouter",
    "random": "RandomRouter",
    "round-robin": "RoundRobinRouter",
    "weighted-round-robin": "WeightedRoundRobinRouter",
}


def create_router(name: str, **options: Any) -> Router:
    """
    Make a built-in router.

    Args:
        name: One of ``router_names()``.
        options: The arguments of the router's class. ``otherwise`` may also be the name of a router.

    Raises:
        ConfigurationError: There is no such router, it has no such option, or the option is wrong. The text starts
            with the name of the option, or with ``router``.

    .. versionadded:: 0.1
    """
    known = router_options(name)
    for option in options:
        if option not in known:
            takes = f"its options are {', '.join(sorted(known))}" if known else "it has none"
            raise ConfigurationError(f"{option}: {name} has no such option; {_hint(option, known) or takes}")
    if "otherwise" in known:
        options["otherwise"] = _other_router(name, options.get("otherwise"))
    router: Router = _class(name)(**options)
    return router


def router_names() -> tuple[str, ...]:
    """Return the names of the built-in routers."""
    return tuple(_ROUTERS)


def router_options(name: str) -> frozenset[str]:
    """
    Return the names of the options that a built-in router takes.

    Raises:
        ConfigurationError: There is no such router.
    """
    return frozenset(inspect.signature(_class(name)).parameters)


def _class(name: object, option: str = "router") -> Any:
    if not isinstance(name, str) or name not in _ROUTERS:
        hint = _hint(str(name), _ROUTERS)
        raise ConfigurationError(f"{option}: {shown(name)} is not one of {', '.join(_ROUTERS)}{hint and '; ' + hint}")
    return getattr(importlib.import_module(f"{__name__}.{name.replace('-', '_')}"), _ROUTERS[name])


def _other_router(name: str, other: Any) -> Router:
    if other is None:
        other = "round-robin"
    if isinstance(other, str):
        _class(other, "otherwise")
        if other == name:
            raise ConfigurationError(f"otherwise: give another router than {name}")
        return create_router(other)
    if callable(getattr(other, "route", None)):
        found: Router = other
        return found
    raise ConfigurationError(f"otherwise: give the name of a router, or an object with route(), not {other!r}")


def _hint(wrong: str, right: Iterable[str]) -> str:
    near = difflib.get_close_matches(wrong, list(right), 1)
    return f"did you mean {near[0]!r}?" if near else ""


def __getattr__(name: str) -> Any:
    for router, class_name in _ROUTERS.items():
        if class_name == name:
            return _class(router)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
