"""Responses of peers, over HTTP: whatever comes back, a call tells the truth about what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from catga_sync.cluster.peer_descriptions import Descriptions
from catga_sync.context import CallContext
from catga_sync.errors import Delivery
from catga_sync.messages import Query, message
from catga_sync.nodes import ClusterNode, NodeRecord
from catga_sync.results import CatgaResult
from catga_sync.serialization import MessageRegistry
from catga_sync.testing.clock import FakeClock
from catga_sync.transport import EnvelopeInvoker, create_invoker
from catga_sync.transport.http.probe import HttpProbe, Probe, ProbeOutcome
from catga_sync.transport.signing import Signing
from catga_sync.wire.envelope import ResponseEnvelope, write_batch_response
from tests.fuzz.peer import Peer
from tests.fuzz.target import Check, Finding, Target
from tests.fuzz.targets.envelopes import responses
from tests.fuzz.targets.signatures import CLUSTER, RING

__all__ = ["TARGETS"]

#: Seconds of a call. The peer responds and closes at once: nothing ever waits for so long.
_TIMEOUT = 3.0


@message(name="Fuzzed")
@dataclass(frozen=True)
class Fuzzed(Query[dict[str, Any]]):
    number: int = 0


def _node(peer: Peer) -> ClusterNode:
    # It has described itself: with a secret, one that has not would be asked first.
    return ClusterNode("node-1", peer.url, handles=frozenset({"Fuzzed"}), features=frozenset({"batch"}))


def _invoker(signing: Signing | None = None) -> EnvelopeInvoker:
    return create_invoker(MessageRegistry(), signing=signing, max_body_bytes=64 * 1024)


def _judge(result: CatgaResult[object], data: bytes) -> bool:
    if result.is_success and (result.delivery is not Delivery.EXECUTED or not isinstance(result.value, dict)):
        raise Finding(f"a success of {result.value!a}, {result.delivery}")
    if not result.is_success and not result.error:
        raise Finding("a failure without a text")
    # The peer has read all of the request: only its word proves that nothing ran. An escape may spell the word.
    said = b"executed" in data.lower() or b"\\u" in data
    answered = b"r-1" in data or b"r-2" in data or b"\\u" in data
    if result.is_success and not answered:
        raise Finding("the response to another request is believed")
    if result.delivery is Delivery.NOT_EXECUTED and not said:
        raise Finding(f"nothing proves that it did not run: {result.error}")
    return result.is_success


def _prepare_one(place: str) -> Check:
    peer = Peer()
    node, invoker = _node(peer), _invoker()

    def check(data: bytes) -> bool:
        with peer.sending(data):
            result = invoker.invoke(node, Fuzzed(), timeout=_TIMEOUT, call=CallContext("r-1"))
        return _judge(result, data)

    return check


def _prepare_batch(place: str) -> Check:
    peer = Peer()
    node, invoker = _node(peer), _invoker()

    def check(data: bytes) -> bool:
        with peer.sending(data):
            found = invoker.invoke_batch(
                node, [Fuzzed(1), Fuzzed(2)], timeout=_TIMEOUT, calls=[CallContext("r-1"), CallContext("r-2")]
            )
        if len(found) != 2:
            raise Finding(f"{len(found)} results of two requests")
        judged = [_judge(each, data) for each in found]
        return any(judged)

    return check


def _prepare_signed(place: str) -> Check:
    peer = Peer()
    node, invoker = _node(peer), _invoker(Signing(RING, CLUSTER))

    def check(data: bytes) -> bool:
        with peer.sending(data):
            result = invoker.invoke(node, Fuzzed(), timeout=_TIMEOUT, call=CallContext("r-1"))
        # No response can be signed for a nonce that is made for this very call.
        if result.is_success or result.delivery is not Delivery.UNKNOWN:
            raise Finding(f"a response that nobody signed is believed: {result!a}")
        return False

    return check


def _prepare_description(place: str) -> Check:
    peer = Peer()
    node = ClusterNode("node-1", peer.url)

    def check(data: bytes) -> bool:
        with peer.sending(data):
            probe = HttpProbe().ask(node.node_id, peer.url, _TIMEOUT)
        if not isinstance(probe, Probe) or probe.outcome is ProbeOutcome.REFUSED:
            raise Finding(f"a peer that was reached counts as {probe!a}")
        if probe.outcome is not ProbeOutcome.DESCRIBED:
            return False
        said = Descriptions(lambda each: probe.description, FakeClock())
        news = said.ask([node])
        known = said.of(node)
        if (known.node_id, known.endpoint) != (node.node_id, node.endpoint):
            raise Finding("a node has made itself another one")
        if not all(text.isprintable() for _, text in said.troubles):
            raise Finding(f"a trouble is not one printable line: {said.troubles!a}")
        return news

    return check


def _http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _chunked(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x;a=b\r\n%b\r\n0\r\nTrailer: x\r\n\r\n" % (len(body), body)


def _one_seeds() -> list[bytes]:
    good, fault, refusal = (each.encode() for each in responses())
    return [
        _http(good, "Catga-Executed: 1"),
        _http(good.replace(b"r-1", b"r-7"), "Catga-Executed: 1"),
        _http(fault, status="500 Internal Server Error"),
        _http(refusal.replace(b"r-2", b"r-1"), "Catga-Executed: 0", status="503 Service Unavailable"),
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + _http(good, "Catga-Executed: 1"),
        _chunked(good),
        b"HTTP/1.0 200 OK\r\n\r\n" + good,
        _http(b"", "Location: http://127.0.0.1/else", status="302 Found"),
        _http(b"\x1f\x8b", "Content-Encoding: gzip"),
        _http(good)[:-5],
        _http(b"<html>", "Connection: close", status="502 Bad Gateway"),
    ]


def _batch_seeds() -> list[bytes]:
    good = ResponseEnvelope("r-1", True, b'{"number":1}')
    bad = ResponseEnvelope("r-2", False, error_message="no")
    return [
        _http(write_batch_response([good.encode("1"), bad.encode(told)]), "Catga-Executed: 1")
        for told in ("0", "1", "unknown")
    ]


def _description_seeds() -> list[bytes]:
    node = ClusterNode("node-1", "http://localhost:5001", handles=frozenset({"Ask"}), contracts={"Ask": "a:b!|"})
    wrong = b'{"nodeId":"node-1","handles":7}'
    return [_http(NodeRecord(node).to_text().encode()), _http(wrong), _http(b'{"status":"ONLINE"}', status="403 No")]


_WORDS = (
    "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 101 \r\n", "HTTP/1.1 204 \r\n", "HTTP/1.1 421 \r\n", "Content-Length: ",
    "Transfer-Encoding: chunked\r\n", "Catga-Executed: 0\r\n", "Content-Encoding: br\r\n", "Connection: close\r\n",
    "\r\n", "\r\n\r\n", "requestId", "isSuccess", '"executed":"0"', "errorMessage", "payloadData", "Location: //",
)  # fmt: skip

TARGETS = (
    Target("response", _prepare_one, _one_seeds, _WORDS),
    Target("response-batch", _prepare_batch, _batch_seeds, _WORDS),
    Target("response-unsigned", _prepare_signed, _one_seeds, _WORDS),
    Target("response-description", _prepare_description, _description_seeds, _WORDS),
)
