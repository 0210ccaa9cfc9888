"""What an invoker is: it carries one request to one node and brings back one result."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from catga_sync.messages import Request
from catga_sync.nodes import ClusterNode
from catga_sync.results import CatgaResult

__all__ = ["RemoteInvoker", "UpkeptInvoker"]

T = TypeVar("T")


class RemoteInvoker(Protocol):
    """
    Carries requests to other nodes. Called by many threads at once.

    .. versionadded:: 0.1
    """

    def invoke(self, node: ClusterNode, request: Request[T], *, timeout: float, request_id: str) -> CatgaResult[T]:
        """
        Send ``request`` to ``node`` once; never anywhere else and never again.

        ``current_call()`` has what travels with it: trace, chain, and ``store``, which is to reach the node as the
        header ``Catga-Store``. Without it a node that has another store by now lets the request run a second time.

        Args:
            node: Where to.
            request: The message; an ``Event`` is carried the same way, and answered with None.
            timeout: Seconds in which it must return, whatever the peer does.
            request_id: The id of the call; the same for every attempt of it.

        Returns:
            The answer, or a failure whose ``delivery`` is decided by evidence; its ``metadata`` may say more about
            another try, see ``results.RETRY``. It raises nothing.
        """

    def close(self) -> None:
        """Let go of connections. Safe to call twice; a later ``invoke`` opens new ones."""


class UpkeptInvoker(RemoteInvoker, Protocol):
    """
    An invoker that the background thread looks after. Every one of these methods may be missing.

    .. versionadded:: 0.1
    """

    def tidy(self, nodes: Iterable[ClusterNode]) -> None:
        """Close what has been idle for too long, and forget every node but these. Called about once a second."""

    def silent(self, nodes: Iterable[ClusterNode], seconds: float) -> list[ClusterNode]:
        """Return those at which calls are under way and none has ended for so many seconds."""

    def release(self, node: ClusterNode) -> None:
        """Have the calls that wait for a place at this node go without one: it is known not to answer."""

    def forget(self) -> None:
        """In a forked child: drop the parent's connections without a word to the other side."""
