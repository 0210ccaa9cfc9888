"""What is sent to peers that misbehave, and through which sessions."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from catga_sync import CatgaResult, Mediator, Query, Request
from catga_sync.cluster.sender import Sender
from catga_sync.context import CallContext
from catga_sync.nodes import ClusterNode
from catga_sync.receiver.surroundings import Surroundings
from catga_sync.resilience.ejection import Ejection
from catga_sync.serialization import MessageRegistry
from catga_sync.transport import EnvelopeInvoker, create_invoker
from tests.misbehaviour.peers import Script, serving
from tests.unit.serving_node import local_node

__all__ = [
    "REQUEST_ID",
    "Look",
    "Mounted",
    "Order",
    "every_way",
    "few_ways",
    "invoke",
    "invoking",
    "own",
    "result_of_a_request_received",
    "send",
    "sender_to_few",
]

REQUEST_ID = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Order(Request[None]):
    """Has side effects."""

    text: str = "x"


@dataclass(frozen=True)
class Look(Query[None]):
    """Has none."""

    text: str = "x"


def invoke(
    invoker: EnvelopeInvoker,
    endpoint: str,
    message: Request[None],
    timeout: float = 20.0,
    *,
    keep_alive: float | None = None,
) -> CatgaResult[None]:
    """Send a message to the node at ``endpoint``, once."""
    node = ClusterNode("peer", endpoint, keep_alive=keep_alive)
    return invoker.invoke(node, message, timeout=timeout, call=CallContext(REQUEST_ID))


def sender_to_few(invoker: EnvelopeInvoker, pool_size: int) -> Sender:
    """Return what sends so many calls at once to a node."""
    return Sender(local_node("caller"), Mediator(), invoker, Ejection(), Surroundings(), pool_size=pool_size)


def send(sender: Sender, endpoint: str, message: Request[None], timeout: float = 5.0) -> CatgaResult[None]:
    """Send a message to the node at ``endpoint``, once its turn has come."""
    return sender.send(ClusterNode("peer", endpoint), message, timeout, CallContext(REQUEST_ID))


class Mounted(HTTPAdapter):
    """An adapter of the user's own; it notes what goes through it."""

    def __init__(self, **options: object) -> None:
        self.seen: list[str] = []
        super().__init__(**options)  # type: ignore[arg-type]

    def send(self, request: requests.PreparedRequest, **options: object) -> requests.Response:  # type: ignore[override]
        self.seen.append(str(request.url))
        return super().send(request, **options)  # type: ignore[arg-type]


def own(adapter: HTTPAdapter | None = None) -> requests.Session:
    """Return a session as a user would make one."""
    session = requests.Session()
    if adapter is not None:
        session.mount("http://", adapter)
        session.mount("https://", adapter)
    return session


@contextlib.contextmanager
def invoking(session: requests.Session | None, **options: object) -> Iterator[EnvelopeInvoker]:
    made = create_invoker(MessageRegistry(), session=session, max_body_bytes=100_000, **options)  # type: ignore[arg-type]
    with contextlib.closing(made):
        yield made
    if session is not None:
        session.close()


def result_of_a_request_received(
    script: Script,
    make: Callable[[], requests.Session | None],
    *,
    tls: ssl.SSLContext | None = None,
    **options: object,
) -> CatgaResult[None]:
    """
    Call a peer that never responds in full, until it has read the request; return the result of that call.

    On a busy machine the time may be up before the request is sent, and then the call has truly not run. So each
    attempt has more time than the one before, and only the one whose request has arrived counts.
    """
    for timeout in (0.2, 1.0, 5.0, 20.0):
        with serving(script, tls=tls) as peer, invoking(make(), **options) as invoker:
            result = invoke(invoker, peer.endpoint, Order(), timeout=timeout)
            if peer.requests:
                return result
    raise AssertionError("the peer has read no request")


#: Every way to send: (name, what makes the session).
WAYS: dict[str, Callable[[], requests.Session | None]] = {
    "none given": lambda: None,
    "a plain session": own,
    "a stock adapter": lambda: own(HTTPAdapter(max_retries=3, pool_maxsize=2)),
    "an adapter of his own": lambda: own(Mounted(max_retries=Retry(3, status_forcelist=[503], allowed_methods=None))),
    "an adapter of his own that blocks": lambda: own(Mounted(pool_maxsize=1, pool_block=True)),
}
every_way = pytest.mark.parametrize("make", WAYS.values(), ids=WAYS)
#: Two of them in "make test", for what takes long.
few_ways = pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            make,
            id=way,
            marks=[] if way in ("none given", "an adapter of his own that blocks") else pytest.mark.slow,
        )
        for way, make in WAYS.items()
    ],
)
