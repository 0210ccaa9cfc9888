"""What is sent to peers that misbehave, and how."""

from __future__ import annotations

from dataclasses import dataclass

from catga_sync import CatgaResult, Query, Request
from catga_sync.nodes import ClusterNode
from catga_sync.transport import HttpInvoker

__all__ = ["REQUEST_ID", "Look", "Order", "invoke"]

REQUEST_ID = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Order(Request[None]):
    """Has side effects."""

    text: str = "x"


@dataclass(frozen=True)
class Look(Query[None]):
    """Has none."""

    text: str = "x"


def invoke(invoker: HttpInvoker, endpoint: str, message: Request[None], timeout: float = 5.0) -> CatgaResult[None]:
    """Send a message to the node at ``endpoint``, once."""
    return invoker.invoke(ClusterNode("peer", endpoint), message, timeout=timeout, request_id=REQUEST_ID)
