"""Batches: cut where a node would refuse them, and every part as young as it is when it leaves."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime

import pytest

from catga_sync import CatgaResult, Delivery, ErrorCode
from catga_sync.context import CallContext
from catga_sync.nodes import ClusterNode
from catga_sync.results import OTHER_NODE, RETRY
from catga_sync.serialization import MessageRegistry
from catga_sync.transport import EnvelopeInvoker, create_invoker
from catga_sync.wire.call_path import write_chain
from tests.misbehaviour import calls, peers
from tests.misbehaviour.calls import Order, sender_to_few
from tests.misbehaviour.peers import Peer, Script, read_request, reply, serving
from tests.processes import until


def answering(on_batch: Callable[[], object] = lambda: None, most: int = 10_000) -> Script:
    """Return a peer that runs batches; one of more than ``most`` items is too long for it."""

    def answers(connection: socket.socket, over: threading.Event) -> None:
        while request := read_request(connection):
            items = json.loads(request.partition(b"\r\n\r\n")[2])["requests"]
            on_batch()
            if len(items) > most:
                refusal = {
                    "requestId": items[0]["requestId"],
                    "isSuccess": False,
                    "errorMessage": "the body is too long",
                    "errorCode": "RESOURCE_EXHAUSTED",
                }
                body = json.dumps(refusal).encode()
                head = b"HTTP/1.1 413 Too Long\r\nCatga-Executed: 0\r\nContent-Length: %d\r\n\r\n" % len(body)
                connection.sendall(head + body)
                continue
            answered = [
                {"requestId": item["requestId"], "isSuccess": True, "payloadData": None, "executed": "1"}
                for item in items
            ]
            body = json.dumps({"responses": answered}).encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    return answers


def send(invoker: EnvelopeInvoker, endpoint: str, *orders: Order, timeout: float = 20.0) -> list[CatgaResult[None]]:
    contexts = [CallContext(f"r-{number}") for number in range(len(orders))]
    return invoker.invoke_batch(ClusterNode("peer", endpoint), orders, timeout=timeout, calls=contexts)


def parts(peer: Peer) -> list[list[dict[str, str]]]:
    return [json.loads(request.partition(b"\r\n\r\n")[2])["requests"] for request in peer.requests]


class WallClock:
    """The time of the invoker: seconds since the epoch as the test says, everything else as ever."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(invoker: EnvelopeInvoker, monkeypatch: pytest.MonkeyPatch) -> WallClock:
    made = WallClock()
    monkeypatch.setattr(invoker, "_clock", made)
    return made


def stamp_of(item: dict[str, str]) -> float:
    return datetime.fromisoformat(item["timestamp"].replace("Z", "+00:00")).timestamp()


def test_a_batch_goes_in_one_request_and_comes_back_in_order(invoker: EnvelopeInvoker) -> None:
    with serving(answering()) as peer:
        results = send(invoker, peer.endpoint, *[Order(str(number)) for number in range(20)])
        assert len(peer.requests) == 1
    assert all(results)
    assert [result.request_id for result in results] == [f"r-{number}" for number in range(20)]


def test_a_batch_is_cut_where_it_has_more_requests_than_a_node_takes(
    invoker: EnvelopeInvoker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catga_sync.transport.batch.MAX_BATCH", 2)
    with serving(answering()) as peer:
        assert all(send(invoker, peer.endpoint, *[Order()] * 5))
        assert [len(part) for part in parts(peer)] == [2, 2, 1]


def test_a_batch_is_cut_where_it_is_longer_than_a_body_may_be(invoker: EnvelopeInvoker) -> None:
    with serving(answering()) as peer:
        results = send(invoker, peer.endpoint, *[Order("x" * 30_000)] * 4, Order("x" * 90_000))
        sizes = [len(request.partition(b"\r\n\r\n")[2]) for request in peer.requests]
    assert all(results[:4])
    assert (results[4].delivery, results[4].code) == (Delivery.NOT_EXECUTED, ErrorCode.RESOURCE_EXHAUSTED)
    assert len(sizes) == 2
    assert max(sizes) <= 100_000


def test_a_batch_that_is_too_long_for_the_node_is_cut_until_it_fits(invoker: EnvelopeInvoker) -> None:
    with serving(answering(most=3)) as peer:
        results = send(invoker, peer.endpoint, *[Order(str(number)) for number in range(10)])
        assert [len(part) for part in parts(peer)] == [10, 5, 2, 3, 5, 2, 3]
    assert all(results)
    assert [result.request_id for result in results] == [f"r-{number}" for number in range(10)]


def test_a_node_for_which_every_item_is_too_long_is_sent_each_once(invoker: EnvelopeInvoker) -> None:
    with serving(answering(most=0)) as peer:
        results = send(invoker, peer.endpoint, *[Order()] * 2)
        assert [len(part) for part in parts(peer)] == [2, 1, 1]
    assert [(each.code, each.delivery, each.metadata.get(RETRY)) for each in results] == [
        (ErrorCode.RESOURCE_EXHAUSTED, Delivery.NOT_EXECUTED, OTHER_NODE)
    ] * 2


def test_every_part_names_the_store_and_the_path_of_the_batch(
    invoker: EnvelopeInvoker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catga_sync.transport.batch.MAX_BATCH", 2)
    first = CallContext("r-0", chain=(("me", 3),), store="the-store")
    contexts = [first, *[CallContext(f"r-{number}") for number in range(1, 5)]]
    with serving(answering()) as peer:
        node = ClusterNode("peer", peer.endpoint)
        # The first one cannot be written: what travels begins with another.
        orders = [Order("x" * 200_000), *[Order()] * 4]
        results = invoker.invoke_batch(node, orders, timeout=20.0, calls=contexts)
        heads = [request.partition(b"\r\n\r\n")[0].decode() for request in peer.requests]
    assert [bool(result) for result in results] == [False, True, True, True, True]
    assert [values(head, "Catga-Request-Id") for head in heads] == [["r-1"], ["r-3"]]
    assert [values(head, "Catga-Store") for head in heads] == [["the-store"]] * 2
    assert [values(head, "Catga-Chain") for head in heads] == [[write_chain(first.chain)]] * 2


def values(head: str, name: str) -> list[str]:
    lines = [line.partition(": ") for line in head.split("\r\n")[1:]]
    return [value for found, _, value in lines if found == name]


def test_every_part_says_when_it_was_sent(
    invoker: EnvelopeInvoker, clock: WallClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catga_sync.transport.batch.MAX_BATCH", 2)
    began = clock.now

    def takes_a_minute() -> None:
        clock.now += 60.0

    with serving(answering(takes_a_minute)) as peer:
        assert all(send(invoker, peer.endpoint, *[Order()] * 4))
        assert [[stamp_of(item) - began for item in part] for part in parts(peer)] == [[0.0, 0.0], [60.0, 60.0]]


def test_a_request_that_waited_for_its_turn_says_when_it_was_sent(invoker: EnvelopeInvoker, clock: WallClock) -> None:
    narrow, go = sender_to_few(invoker, 1), threading.Event()
    began = clock.now

    def answers_when_told(connection: socket.socket, over: threading.Event) -> None:
        while request := read_request(connection):
            go.wait(20)
            connection.sendall(reply(request))

    with serving(answers_when_told) as peer:
        callers = [threading.Thread(target=calls.send, args=(narrow, peer.endpoint, Order(), 40.0)) for _ in range(2)]
        callers[0].start()
        until(lambda: peer.requests, "the first is under way")
        callers[1].start()
        until(lambda: narrow._limiters[(peer.endpoint, None)]._waiting, "the second waits")
        clock.now += 10.0
        go.set()
        for caller in callers:
            caller.join(20)
        envelopes = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in peer.requests]
    assert [stamp_of(envelope) - began for envelope in envelopes] == [0.0, 10.0]


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (peers.answers, ErrorCode.INTERNAL),
        (peers.answers_garbage, ErrorCode.UNAVAILABLE),
        (peers.answers_a_bare_503, ErrorCode.UNAVAILABLE),
    ],
)
def test_a_batch_without_a_proper_answer_may_have_run(
    invoker: EnvelopeInvoker, script: Script, code: ErrorCode
) -> None:
    with serving(script) as peer:
        results = send(invoker, peer.endpoint, Order(), Order())
    assert {(result.delivery, result.code) for result in results} == {(Delivery.UNKNOWN, code)}


def test_a_batch_that_fails_without_an_id_says_what_the_peer_said_of_each_and_ends_the_connection() -> None:
    with serving(peers.fails_as_dotnet_does) as peer:
        invoker = create_invoker(MessageRegistry())
        results = [each for _ in range(2) for each in send(invoker, peer.endpoint, Order())]
        invoker.close()
    assert peer.connections == 2
    assert [result.delivery for result in results] == [Delivery.UNKNOWN] * 2
    assert [str(result.error).rpartition(": ")[2] for result in results] == ["Object reference not set"] * 2
