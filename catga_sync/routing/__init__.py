"""Routers: ``base.py`` says what one is, one file each holds the built-in ones, ``create_router`` makes them by name.

Siblings never import each other; only this file knows them all.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from catga_sync.errors import ConfigurationError
from catga_sync.routing.base import Router
from catga_sync.routing.local_first import LocalFirstRouter
from catga_sync.routing.round_robin import RoundRobinRouter

__all__ = ["LocalFirstRouter", "RoundRobinRouter", "Router", "create_router"]


def _local_first(node_id: str = "", has_room: Callable[[], bool] | None = None) -> Router:
    return LocalFirstRouter(node_id, RoundRobinRouter(), has_room)


_ROUTERS: dict[str, Callable[..., Router]] = {
    "local-first": _local_first,
    "round-robin": RoundRobinRouter,
}


def create_router(name: str, **options: Any) -> Router:
    """
    Make a built-in router.

    Args:
        name:
            ``local-first`` (options ``node_id``, ``has_room``) or ``round-robin`` (no options).

        options:
            What that router takes.

    Raises:
        ConfigurationError: There is no such router, or it has no such option.

    .. versionadded:: 0.1
    """
    make = _ROUTERS.get(name)
    if make is None:
        near = difflib.get_close_matches(str(name), _ROUTERS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigurationError(f"router: {name!r} is none of {', '.join(sorted(_ROUTERS))}{hint}")
    try:
        return make(**options)
    except TypeError as exc:
        raise ConfigurationError(f"router: {name} does not take these options ({exc})") from exc
