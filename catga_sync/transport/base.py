"""What carries requests to other nodes: a ``RemoteInvoker`` takes requests, a ``Channel`` takes bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol, TypeVar

from catga_sync.context import CallContext
from catga_sync.errors import ErrorCode
from catga_sync.messages import Request
from catga_sync.nodes import ClusterNode
from catga_sync.results import CatgaResult

__all__ = ["Channel", "ExchangeFailed", "RemoteInvoker", "Response", "UpkeptInvoker"]

T = TypeVar("T")


class RemoteInvoker(Protocol):
    """
    Carries requests to other nodes. Called by many threads at once.

    .. versionadded:: 0.1
    """

    def invoke(self, node: ClusterNode, request: Request[T], *, timeout: float, call: CallContext) -> CatgaResult[T]:
        """
        Send ``request`` to ``node`` once; never anywhere else and never again.

        Args:
            node: Where to.
            request: The message; an ``Event`` is carried the same way, and its response is None.
            timeout: Seconds in which it must return, whatever the peer does.
            call: The call, whose id is the same for every attempt of it. Its trace, its path and its ``store`` travel
                with it. Without the store (the header ``Catga-Store``) a node that has another one by now lets the
                request run a second time.

        Returns:
            The response, or a failure whose ``delivery`` is decided by evidence; its ``metadata`` may say more about
            another attempt, see ``results.RETRY``. It raises nothing.
        """

    def close(self) -> None:
        """Close connections. Safe to call twice; a later ``invoke`` opens new ones."""


class UpkeptInvoker(RemoteInvoker, Protocol):
    """
    An invoker that the background thread maintains. Each of these methods may be missing.

    .. versionadded:: 0.1
    """

    def tidy(self, nodes: Iterable[ClusterNode]) -> None:
        """Close connections that were idle for too long, and drop the state of all other nodes; called every second."""


class Response(NamedTuple):
    """A response, read to its end. Immutable."""

    status: int
    #: Names in any letter case.
    headers: Mapping[str, str]
    body: bytes
    #: Closes the connection instead of keeping it, after a response that cannot be trusted.
    retire: Callable[[], None]


class ExchangeFailed(Exception):
    """
    An exchange ended without a response.

    Args:
        what: What the node did, as the end of a sentence that begins with its name.
        sent: Whether the request may have reached the node whole.
        code: What kind of failure it is; DEADLINE_EXCEEDED needs no ``what``.
        layer: For the log: network or serialization.
    """

    def __init__(
        self, what: str, *, sent: bool, code: ErrorCode = ErrorCode.UNAVAILABLE, layer: str = "network"
    ) -> None:
        super().__init__(what)
        self.what = what
        self.sent = sent
        self.code = code
        self.layer = layer


class Channel(Protocol):
    """
    Carries bytes to a node and back. Called by many threads at once.

    .. versionadded:: 0.1
    """

    def exchange(
        self,
        node: ClusterNode,
        path: str,
        headers: dict[str, str],
        body: bytes,
        expires: float,
        renew: Callable[[Mapping[str, str]], Mapping[str, str]] | None = None,
    ) -> Response:
        """
        Send one request and wait for its response.

        Args:
            node: Where to.
            path: The cluster's route.
            headers: The request's.
            body: The request's.
            expires: Monotonic time at which it ends, whatever the peer does.
            renew: Returns the headers to send, if a library below has added some; None leaves them.

        Raises:
            ExchangeFailed: No response came. ``sent`` has the evidence whether the request may have arrived.
        """

    def tidy(self, nodes: Iterable[ClusterNode]) -> None:
        """Close connections that were idle for too long, and drop all state of other nodes."""

    def close(self) -> None:
        """Close connections. Safe to call twice; a later ``exchange`` opens new ones."""
