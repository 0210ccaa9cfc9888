"""What a router is: it picks one of the nodes that may take a message."""

from __future__ import annotations

from typing import Any, Protocol

from catga_sync.errors import ConfigurationError
from catga_sync.nodes import ClusterNode

__all__ = ["Router", "check_callable", "check_method"]


class Router(Protocol):
    """
    Picks the node for a message. Called by many threads at once, on the way of every send: quick, no I/O.

    An object may also have

    ``completed(node, message, result, elapsed)``
        Called once for each routed attempt, failed ones too, with the ``CatgaResult`` and the seconds it took.

    ``withdraw(node, message)``
        Called in place of ``completed`` when nobody was asked after all, since somebody only wanted to know
        (``mediator.explain``): what ``route`` has counted is to be given back.

    ``after_fork_in_child()``
        Called in a forked child, before anything else: the calls that the parent has under way are none of the
        child's, and a lock may have been held by a thread that the child does not have.

    .. versionadded:: 0.1
    """

    def route(self, message: Any, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
        """
        Return one of ``nodes``.

        Args:
            message: The request that is sent.
            nodes: Those that may take it; never empty, and the same object as long as membership is the same. Another
                try of the same call comes with the nodes that are left.
        """


def check_callable(option: str, value: object, wanted: str) -> None:
    """
    Accept an option that is None or can be called.

    Raises:
        ConfigurationError: It is neither.
    """
    if value is not None and not callable(value):
        raise ConfigurationError(f"{option}: give {wanted}, or None, not {value!r}")


def check_method(option: str, value: object, method: str, wanted: str) -> None:
    """
    Accept an option that is None or has a method.

    Raises:
        ConfigurationError: It is neither.
    """
    if value is not None and not callable(getattr(value, method, None)):
        raise ConfigurationError(f"{option}: give {wanted}, or None, not {value!r}")
