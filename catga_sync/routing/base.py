"""The protocol of routers: a router picks one of the nodes that can handle a message."""

from __future__ import annotations

from typing import Any, Protocol

from catga_sync.errors import ConfigurationError
from catga_sync.nodes import ClusterNode

__all__ = ["Router", "check_callable", "check_method"]


class Router(Protocol):
    """
    Picks the node for a message. Called for every send, by many threads at once: it must be quick and do no I/O.

    An object may also have

    ``completed(node, message, result, elapsed)``
        Called once for each routed attempt, failed ones too, with the ``CatgaResult`` and the seconds it took.

    ``withdraw(node, message)``
        Called instead of ``completed`` if no request was sent after ``route`` (``mediator.explain``), so that the
        router can undo what it has counted.

    ``after_fork_in_child()``
        Called in a forked child, before anything else: the calls that the parent has under way are none of the
        child's, and a lock may have been held by a thread that the child does not have.

    .. versionadded:: 0.1
    """

    def route(self, message: Any, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
        """
        Return one of ``nodes``.

        Args:
            message: The request to send.
            nodes: The candidates; never empty, and the same object as long as the membership is the same. A further
                attempt of the same call has the remaining nodes.
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
