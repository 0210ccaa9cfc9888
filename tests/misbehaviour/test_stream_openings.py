"""Which calls open a stream, and which ones use those that are there."""

from __future__ import annotations

import io
import socket
import threading
from typing import Any

import pytest

from catga_sync import ErrorCode, Mediator, create_cluster
from catga_sync.context import CallContext
from catga_sync.nodes import STREAM, ClusterNode
from catga_sync.receiver.request import RawRequest
from catga_sync.wire.keys import KeyRing
from catga_sync.wire.routes import INVOKE_PATH, STREAM_PATH
from catga_sync.wire.signatures import sign_response, signature_fields
from tests.misbehaviour.calls import REQUEST_ID, Order
from tests.misbehaviour.peers import Script, read_request, serving
from tests.misbehaviour.test_streams import RING, answers, invoking, kinds, send, streaming

OURS = "Catga-Executed: 0\r\n"


def test_a_stream_carries_no_call_to_another_node_that_has_the_same_endpoint() -> None:
    with serving(streaming(answers)) as peer, invoking(signed=True) as invoker:
        assert send(invoker, peer).is_success
        other = ClusterNode("other", peer.endpoint, handles=frozenset({"x"}), features=frozenset({STREAM}))
        result = invoker.invoke(other, Order(), timeout=5.0, call=CallContext(REQUEST_ID))
        # What is there proves to be "peer", and runs nothing that was meant for another node.
        assert kinds(peer) == ["GET", "CALL", "GET", "POST"]
        assert not result.is_success
        streams = invoker._streams
        assert streams is not None
        assert len(streams._streams) == 1
        # The node at an endpoint is another one now: its predecessor's streams are closed.
        invoker.tidy([other])
        assert streams._streams == set()


def refusal(request: bytes, headers: str, ring: KeyRing | None) -> bytes:
    """Return the response of a worker that ends: 503, and the next one may be asked at once."""
    body = b"{}"
    if ring is not None:
        given = request.decode().partition("Catga-Signature: ")[2].partition("\r\n")[0]
        signed = sign_response(
            ring,
            nonce=signature_fields(given)[2],
            status=503,
            executed="0",
            node_id="peer",
            incarnation="run-1",
            content_type=None,
            content_encoding=None,
            body=body,
        )
        headers += f"Catga-Signature: {signed}\r\n"
    head = f"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def refusing(headers: str, ring: KeyRing | None) -> Script:
    """Return a peer that refuses the first stream, and serves the others."""
    serves = streaming(answers)

    def script(connection: socket.socket, over: threading.Event) -> None:
        if kinds(connection.peer):  # type: ignore[attr-defined]
            serves(connection, over)
        else:
            connection.sendall(refusal(read_request(connection), headers, ring))

    return script


@pytest.mark.parametrize("signed", [False, True], ids=["insecure", "secret"])
def test_the_refusal_of_a_real_node_whose_worker_ends_is_one(signed: bool) -> None:
    security: dict[str, Any] = {"secret": "s" * 40} if signed else {"insecure": True}

    def script(connection: socket.socket, over: threading.Event) -> None:
        while request := read_request(connection):
            lines = request.decode().partition("\r\n\r\n")[0].split("\r\n")[1:]
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = b"" if request.startswith(b"GET") else request.partition(b"\r\n\r\n")[2]
            method, path = ("POST", INVOKE_PATH) if body else ("GET", STREAM_PATH)
            reader = io.BytesIO(body)
            raw = RawRequest(method, path, headers, reader.read, headers.get("content-length"), takes_over=not body)
            came = node.receiver.handle(raw)
            fields = {**came.headers, "Content-Length": str(len(came.body))}
            head = [f"HTTP/1.1 {came.status} X", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
            connection.sendall("\r\n".join(head).encode() + came.body)
            if not body:
                return

    with (
        create_cluster(
            Mediator(), node_id="peer", cluster_name="c", discovery="memory://", environ={}, **security
        ) as node,
        serving(script) as peer,
        invoking(signed=signed) as invoker,
    ):
        node.receiver.streams.most = 1
        node.receiver.streams.end("the worker ends")
        for _ in range(2):
            # There is no handler, which the node says by POST.
            assert send(invoker, peer).code is ErrorCode.UNIMPLEMENTED
        assert kinds(peer) == ["GET", "POST", "GET", "POST"]


def then_posts(headers: str, ring: KeyRing | None, *, signed: bool) -> list[str]:
    """Return what reaches such a peer with two calls."""
    with serving(refusing(headers, ring)) as peer, invoking(signed=signed) as invoker:
        assert invoker._streams is not None
        invoker._streams._monotonic = lambda: 100.0  # no pause ends by itself
        for _ in range(2):
            send(invoker, peer)
        return kinds(peer)


@pytest.mark.parametrize(("ring", "signed"), [(None, False), (RING, True)], ids=["insecure", "secret"])
def test_a_worker_that_ends_keeps_the_next_call_from_no_stream(ring: KeyRing | None, signed: bool) -> None:
    assert then_posts(OURS, ring, signed=signed) == ["GET", "POST", "GET", "CALL"]


@pytest.mark.parametrize(
    ("headers", "ring", "signed"),
    [("", None, False), (OURS, None, True), (OURS, KeyRing("x" * 40), True)],
    ids=["a proxy", "unsigned", "another secret"],
)
def test_what_is_not_proven_to_come_from_the_node_takes_no_pause_off(
    headers: str, ring: KeyRing | None, signed: bool
) -> None:
    assert then_posts(headers, ring, signed=signed) == ["GET", "POST", "POST"]
