"""Nodes on two machines compress what they send each other; what comes damaged, or as a bomb, proves nothing else."""

from __future__ import annotations

import contextlib
import gzip
import io
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter, HTTPAdapter

from catga_sync import CatgaResult, ClusterMediator, Delivery, ErrorCode, Mediator, Query, create_cluster
from catga_sync.context import CallContext, new_request_id
from catga_sync.integrations.wsgi import ClusterMiddleware
from catga_sync.nodes import ClusterNode
from catga_sync.receiver import compression, receiver
from catga_sync.serialization import MessageRegistry
from catga_sync.transport import compression as transport_compression
from catga_sync.transport import create_invoker
from catga_sync.wire.compression import codings, compress
from catga_sync.wire.routes import BATCH_PATH, INVOKE_PATH
from tests.contracts.receiver import GetUser, User
from tests.integrations.test_unsigned_peers import DotNet
from tests.integrations.test_unsigned_peers import serve as serve_dotnet
from tests.processes import free_port, until
from tests.unit.serving import serving_app

SECRET = {"secret": "s" * 32}
LONG = "tea and biscuits " * 500


@dataclass(frozen=True)
class Echo(Query[str]):
    text: str


@dataclass
class Exchange:
    """What went over the wire, as the server saw it."""

    path: str
    request: dict[str, str | None]
    status: int = 0
    response: dict[str, str] = field(default_factory=dict)

    @property
    def encodings(self) -> tuple[str | None, str | None]:
        return self.request["Content-Encoding"], self.response.get("Content-Encoding")

    @property
    def lengths(self) -> tuple[int, int]:
        return int(self.request["Content-Length"] or 0), int(self.response["Content-Length"])


class Wire:
    """A WSGI app that notes the exchanges of the app behind it, and may change them on the way."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.seen: list[Exchange] = []
        #: Changes the environment of a request, and the body of a response and its headers.
        self.inward: Callable[[dict[str, Any]], None] = lambda environ: None
        self.outward: Callable[[dict[str, str], bytes], bytes] = lambda headers, body: body

    @property
    def calls(self) -> list[Exchange]:
        return [each for each in self.seen if each.path in (INVOKE_PATH, BATCH_PATH)]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        names = {"Content-Encoding": "HTTP_CONTENT_ENCODING", "Asked": "HTTP_CATGA_ACCEPT_ENCODING"}
        names |= {"Content-Length": "CONTENT_LENGTH", "Accept-Encoding": "HTTP_ACCEPT_ENCODING"}
        exchange = Exchange(environ["PATH_INFO"], {name: environ.get(key) for name, key in names.items()})
        self.seen.append(exchange)
        self.inward(environ)
        started: list[Any] = []
        with contextlib.closing(self.app(environ, lambda *given: started.extend(given))) as parts:
            body = b"".join(parts)
        headers = dict(started[1])
        if exchange.path == INVOKE_PATH:
            body = self.outward(headers, body)
        headers["Content-Length"] = str(len(body))
        exchange.status, exchange.response = int(started[0][:3]), headers
        start_response(started[0], list(headers.items()))
        return [body]


def nothing(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("404 Not Found", [("Content-Length", "0")])
    return []


@pytest.fixture
def around() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """``node.test`` is a machine by its name, and this one by its address."""
    look_up = socket.getaddrinfo

    def here(name: Any, *rest: Any, **more: Any) -> Any:
        return look_up("127.0.0.1" if name == "node.test" else name, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", here)


def served(around: ExitStack, host: str = "node.test", **options: Any) -> tuple[str, Wire, ClusterMediator]:
    """Serve a node that echoes; return its endpoint, the wire in front of it, and the node."""
    local, port = Mediator(), free_port()
    local.register(Echo, lambda request: request.text)
    local.register(GetUser, lambda request: User(request.user_id, "Ada"))
    endpoint = f"http://{host}:{port}"
    node = around.enter_context(
        create_cluster(local, node_id="node-1", endpoint=endpoint, discovery="memory://", **{**SECRET, **options})
    )
    wire = Wire(ClusterMiddleware(nothing, node))
    around.enter_context(serving_app(wire, port))
    return endpoint, wire, node


def client_of(around: ExitStack, endpoint: str, **options: Any) -> ClusterMediator:
    """Return a client that knows what the node offers."""
    client = around.enter_context(
        create_cluster(Mediator(), node_id="client", peers={"node-1": endpoint}, **{**SECRET, **options})
    )
    until(lambda: [each.handles is not None for each in client.nodes()] == [True], "the node has described itself")
    return client


def invoke(endpoint: str, *features: str, text: str = LONG, session: Any = None, **options: Any) -> CatgaResult[str]:
    """Call a node of which so much is known, without a signature."""
    node = ClusterNode("node-1", endpoint, features=frozenset(features))
    with contextlib.closing(create_invoker(MessageRegistry(), session=session, **options)) as invoker:
        return invoker.invoke(node, Echo(text), timeout=20.0, call=CallContext(new_request_id()))


@pytest.mark.parametrize("options", [SECRET, {"secret": None, "insecure": True}], ids=["secret", "insecure"])
def test_a_long_request_and_its_response_are_compressed(around: ExitStack, options: dict[str, Any]) -> None:
    endpoint, wire, _ = served(around, **options)
    assert client_of(around, endpoint, **options).send(Echo(LONG)).unwrap() == LONG
    (call,) = wire.calls
    assert call.encodings == (codings()[0], codings()[0])
    assert max(call.lengths) < len(LONG) / 4
    # So that no proxy compresses by itself what is signed.
    assert (call.request["Accept-Encoding"], call.request["Asked"]) == ("identity", ", ".join(codings()))


def test_what_is_short_is_sent_as_it_is(around: ExitStack) -> None:
    endpoint, wire, _ = served(around)
    assert client_of(around, endpoint).send(Echo("tea")).unwrap() == "tea"
    assert [call.encodings for call in wire.calls] == [(None, None)]


def test_a_batch_is_compressed_as_a_whole(around: ExitStack) -> None:
    endpoint, wire, _ = served(around)
    texts = [f"tea {number}" for number in range(50)]
    results = client_of(around, endpoint).send_batch([Echo(text) for text in texts])
    assert [result.unwrap() for result in results] == texts
    (call,) = wire.calls
    assert call.path == BATCH_PATH
    assert call.encodings == (codings()[0], codings()[0])


@pytest.mark.parametrize(
    ("host", "there", "here"),
    [("127.0.0.1", "auto", "auto"), ("node.test", "off", "auto"), ("node.test", "auto", "off")],
    ids=["on this machine", "off there", "off here"],
)
def test_nothing_is_compressed_where_it_would_not_pay_or_is_not_wanted(
    around: ExitStack, host: str, there: str, here: str
) -> None:
    endpoint, wire, _ = served(around, host, compression=there)
    assert client_of(around, endpoint, compression=here).send(Echo(LONG)).unwrap() == LONG
    (call,) = wire.calls
    assert call.encodings == (None, None)
    assert call.request["Asked"] is None


def test_a_peer_that_has_offered_nothing_is_sent_nothing_compressed(around: ExitStack) -> None:
    peer = DotNet()
    port = serve_dotnet(around, peer).rpartition(":")[2]
    client = around.enter_context(
        create_cluster(
            Mediator(), node_id="client", peers={"node-1": {"url": f"http://node.test:{port}", "signed": False}}
        )
    )
    assert client.send(GetUser("7" * 5000)).is_success
    assert [(headers.get("Content-Encoding"), headers.get("Catga-Accept-Encoding")) for headers in peer.ran] == [
        (None, None)
    ]


def test_a_node_that_offers_no_brotli_gets_gzip(around: ExitStack) -> None:
    endpoint, wire, _ = served(around, secret=None, insecure=True)
    assert invoke(endpoint, "gzip").unwrap() == LONG
    assert wire.calls[0].encodings[0] == "gzip"


def test_a_node_that_no_longer_takes_what_it_has_offered_gets_the_request_as_it_is(around: ExitStack) -> None:
    endpoint, wire, _ = served(around, compression="off")
    client = client_of(around, endpoint)
    for features in ({"gzip"}, {"br", "gzip"}):
        client._sender._invoker.tidy(())
        wire.seen.clear()
        node = ClusterNode("node-1", endpoint, features=frozenset(features), signed=True)
        for _ in range(2):
            result: CatgaResult[str] = client._sender._invoker.invoke(
                node, Echo(LONG), timeout=20.0, call=CallContext(new_request_id())
            )
            assert result.unwrap() == LONG
        assert [call.status for call in wire.calls] == [415, 200, 200]


def strip_the_coding(environ: dict[str, Any]) -> None:
    del environ["HTTP_CONTENT_ENCODING"]


def name_another(environ: dict[str, Any]) -> None:
    environ["HTTP_CONTENT_ENCODING"] = "x-gzip"


@pytest.mark.parametrize("change", [strip_the_coding, name_another])
def test_the_coding_of_a_signed_request_cannot_be_changed_on_the_way(
    around: ExitStack, change: Callable[[dict[str, Any]], None]
) -> None:
    endpoint, wire, node = served(around)
    client = client_of(around, endpoint)
    wire.inward = change
    result = client.send(Echo(LONG))
    assert (result.code, {call.status for call in wire.calls}) == (ErrorCode.UNAUTHENTICATED, {401})
    assert node._local_node.in_flight == 0


def test_a_middleware_that_decompresses_requests_is_no_trouble_where_they_are_not_signed(around: ExitStack) -> None:
    endpoint, wire, _ = served(around, secret=None, insecure=True)

    def decompress(environ: dict[str, Any]) -> None:
        body = gzip.decompress(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        environ.update({"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))})
        del environ["HTTP_CONTENT_ENCODING"]

    wire.inward = decompress
    assert invoke(endpoint, "gzip").unwrap() == LONG


def test_through_a_session_of_the_users_own_responses_come_as_they_are_and_its_hooks_can_read_them(
    around: ExitStack,
) -> None:
    endpoint, wire, _ = served(around, secret=None, insecure=True)
    read: list[Any] = []
    with requests.Session() as session:
        session.hooks["response"].append(lambda response, **more: read.append(response.json()["isSuccess"]))
        assert invoke(endpoint, "gzip", session=session).unwrap() == LONG
    assert wire.calls[0].encodings == ("gzip", None)
    assert read == [True]


# -- responses that are damaged, or bombs ------------------------------------------------------------------------------

BOMB = bytes(64 * 1024 * 1024)
TOO_LONG = "gave a response that is longer than max_body_bytes allows"

DAMAGED: dict[str, tuple[Callable[[bytes], bytes], ErrorCode, str]] = {
    "nothing": (lambda body: b"", ErrorCode.INTERNAL, "cannot be decompressed (gzip: the body ends early)"),
    "no gzip": (lambda body: b"{}", ErrorCode.INTERNAL, "cannot be decompressed (gzip: the body is damaged"),
    "cut off": (lambda body: gzip.compress(body)[:-1], ErrorCode.INTERNAL, "(gzip: the body ends early)"),
    "twice": (lambda body: gzip.compress(body) * 2, ErrorCode.INTERNAL, "(gzip: something follows the end"),
    "a bomb": (lambda body: gzip.compress(BOMB, 1), ErrorCode.RESOURCE_EXHAUSTED, TOO_LONG),
}


@pytest.mark.parametrize(("damage", "code", "text"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_response_leaves_it_unknown_whether_the_request_ran(
    around: ExitStack, damage: Callable[[bytes], bytes], code: ErrorCode, text: str
) -> None:
    endpoint, wire, _ = served(around, secret=None, insecure=True, compression="off")

    def damaged(headers: dict[str, str], body: bytes) -> bytes:
        headers["Content-Encoding"] = "gzip"
        return damage(body)

    wire.outward = damaged
    result = invoke(endpoint, "gzip", text="tea")
    assert (result.code, result.delivery) == (code, Delivery.UNKNOWN)
    assert text in str(result.error)


@pytest.mark.parametrize("coding", ["deflate", "gzip, gzip", "br, gzip", "x"])
def test_a_response_in_a_coding_that_was_not_asked_for_is_not_read(around: ExitStack, coding: str) -> None:
    endpoint, wire, _ = served(around, secret=None, insecure=True)
    wire.outward = lambda headers, body: headers.update({"Content-Encoding": coding}) or body
    result = invoke(endpoint, "gzip", text="tea")
    assert (result.code, result.delivery) == (ErrorCode.INTERNAL, Delivery.UNKNOWN)
    assert f"is encoded ('{coding}')" in str(result.error)


def test_a_signed_refusal_that_cannot_be_decompressed_still_proves_that_nothing_ran(
    around: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, wire, node = served(around)
    client = client_of(around, endpoint, enable_failover=False)
    for module in (receiver, compression):
        monkeypatch.setattr(module, "THRESHOLD", 1)
    monkeypatch.setattr(compression, "compress", lambda coding, body: b"no such thing")
    ran = client.send(Echo("tea"))
    assert (ran.code, ran.delivery) == (ErrorCode.INTERNAL, Delivery.UNKNOWN)
    node._local_node.drain()
    refused = client.send(Echo("tea"))
    assert (refused.code, refused.delivery) == (ErrorCode.INTERNAL, Delivery.NOT_EXECUTED)
    assert [call.status for call in wire.calls] == [200, 503]


def test_a_compressed_response_that_is_not_signed_is_not_decompressed(
    around: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, wire, _ = served(around)
    client = client_of(around, endpoint, enable_failover=False)

    def must_not(*given: Any) -> bytes:
        raise AssertionError("decompressed before it was verified")

    monkeypatch.setattr(transport_compression, "decompress", must_not)

    def forged(headers: dict[str, str], body: bytes) -> bytes:
        headers["Content-Encoding"] = "gzip"
        return compress("gzip", BOMB[:1000])

    wire.outward = forged
    result = client.send(Echo("tea"))
    assert (result.code, result.delivery) == (ErrorCode.UNAUTHENTICATED, Delivery.UNKNOWN)


class Gateway(BaseAdapter):
    """An adapter with connections of its own, as a session of the user's may have."""

    def __init__(self) -> None:
        super().__init__()
        self._inner = HTTPAdapter()
        self.asked: list[bool] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        self.asked.append("Catga-Accept-Encoding" in request.headers)
        return self._inner.send(request, *args, **kwargs)

    def close(self) -> None:
        self._inner.close()


def test_an_adapter_of_the_users_own_sends_what_was_signed(around: ExitStack) -> None:
    endpoint, _, _ = served(around)
    session, gateway = around.enter_context(requests.Session()), Gateway()
    session.mount("http://", gateway)
    assert client_of(around, endpoint, session=session).send(Echo(LONG)).unwrap() == LONG
    assert gateway.asked == [False]
