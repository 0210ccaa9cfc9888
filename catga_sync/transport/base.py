"""What an invoker is: it carries one request to one node and brings back one result."""

from __future__ import annotations

from typing import Protocol, TypeVar

from catga_sync.messages import Request
from catga_sync.nodes import ClusterNode
from catga_sync.results import CatgaResult

__all__ = ["RemoteInvoker"]

T = TypeVar("T")


class RemoteInvoker(Protocol):
    """
    Carries requests to other nodes. Called by many threads at once.

    .. versionadded:: 0.1
    """

    def invoke(self, node: ClusterNode, request: Request[T], *, timeout: float, request_id: str) -> CatgaResult[T]:
        """
        Send ``request`` to ``node`` once; never anywhere else and never again.

        Args:
            node: Where to.
            request: The message; an ``Event`` is carried the same way, and answered with None.
            timeout: Seconds in which it must return, whatever the peer does.
            request_id: The id of the call; the same for every attempt of it.

        Returns:
            The answer, or a failure whose ``delivery`` is decided by evidence. It raises nothing.
        """

    def close(self) -> None:
        """Let go of connections. Safe to call twice; a later ``invoke`` opens new ones."""
