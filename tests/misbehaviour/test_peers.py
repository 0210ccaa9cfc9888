"""Whatever a peer does, a call ends within its deadline and tells the truth about delivery."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from catga_sync import ClusterMediator, Delivery, ErrorCode, Mediator, create_cluster
from catga_sync.nodes import ClusterNode
from catga_sync.serialization import MessageRegistry
from catga_sync.transport import EnvelopeInvoker, create_invoker
from catga_sync.transport.http import resolver
from tests.conftest import require_module
from tests.misbehaviour import peers
from tests.misbehaviour.calls import REQUEST_ID, Look, Order, invoke, result_of_a_request_received, send, sender_to_few
from tests.misbehaviour.grpc_peers import GRPC_PEERS
from tests.misbehaviour.peers import GRPC, PEERS, read_request, reply, serving
from tests.processes import free_port, until

#: By POST and over gRPC; streams have peers of their own.
ALL = PEERS | GRPC_PEERS


#: One of each kind: it says nothing, breaks off, responds with an error of HTTP, with what is none, or with too much,
#: and breaks off over gRPC.
FEW = {
    "never_answers",
    "closes_after_the_request",
    "answers_a_bare_503",
    "answers_garbage",
    "answers_compressed",
    "sends_a_huge_answer",
    "refuses_truthfully",
    "speaks_http1",
    "closes_at_the_body",
}


def of_few(script: peers.Script) -> Any:
    """Leave the others to "make soak": what each of them comes to is tested by itself."""
    return pytest.param(script, id=script.__name__, marks=[] if script.__name__ in FEW else pytest.mark.slow)


def needs(script: peers.Script) -> None:
    if script in GRPC:
        require_module("grpc")


@contextlib.contextmanager
def cluster_of(**endpoints: str) -> Iterator[ClusterMediator]:
    with create_cluster(
        Mediator(), node_id="caller", peers=endpoints, router="round-robin", max_body_bytes=100_000
    ) as mediator:
        yield mediator


@pytest.mark.parametrize("script", ALL, ids=lambda script: script.__name__)
def test_every_misbehaviour_has_its_delivery_and_code(script: peers.Script, invoker: EnvelopeInvoker) -> None:
    needs(script)
    delivery, code = ALL[script]
    if code == "DEADLINE_EXCEEDED":
        result = result_of_a_request_received(script, lambda: None)
    else:
        with serving(script) as peer:
            result = invoke(invoker, peer.endpoint, Order())
    assert (result.delivery, result.code) == (Delivery[delivery], ErrorCode[code])
    assert result.error
    assert result.value is None


@pytest.mark.parametrize("script", [of_few(script) for script in ALL if ALL[script][0] == "UNKNOWN"])
def test_a_plain_request_that_may_have_run_is_never_sent_again(script: peers.Script) -> None:
    needs(script)
    # On a busy machine a short time may be up before anything is sent.
    for timeout in (0.5, 5.0, 20.0) if ALL[script][1] == "DEADLINE_EXCEEDED" else (20.0,):
        with serving(script) as bad, serving(script) as worse, cluster_of(a=bad.endpoint, b=worse.endpoint) as mediator:
            result = mediator.send(Order(), timeout=timeout)
            posts = [r for r in bad.requests + worse.requests if r.startswith(b"POST")]
        if posts:
            break
    assert result.delivery is Delivery.UNKNOWN
    assert len(posts) == len(result.attempts) == 1


@pytest.mark.parametrize("script", [of_few(script) for script in ALL])
def test_a_query_is_answered_by_the_other_node(script: peers.Script) -> None:
    needs(script)
    expected = ALL[script][1] != "RESOURCE_EXHAUSTED"
    timeout = 6.0 if ALL[script][1] == "DEADLINE_EXCEEDED" else 20.0
    with (
        serving(script) as bad,
        serving(peers.answers) as good,
        cluster_of(a=bad.endpoint, b=good.endpoint) as mediator,
    ):
        results = [mediator.send(Look(), timeout=timeout) for _ in range(2)]
    assert [result.is_success for result in results].count(True) >= (2 if expected else 1)


def test_a_refused_connection_proves_that_nothing_ran(invoker: EnvelopeInvoker) -> None:
    result = invoke(invoker, f"http://127.0.0.1:{free_port()}", Order())
    assert (result.delivery, result.code) == (Delivery.NOT_EXECUTED, ErrorCode.UNAVAILABLE)


def test_a_plain_request_goes_to_another_node_when_it_provably_did_not_run() -> None:
    with serving(peers.answers) as good, cluster_of(a=f"http://127.0.0.1:{free_port()}", b=good.endpoint) as mediator:
        results = [mediator.send(Order()) for _ in range(4)]
    assert all(results)
    assert any(len(result.attempts) == 2 for result in results)


def test_a_request_that_the_kernel_never_took_whole_did_not_run(invoker: EnvelopeInvoker) -> None:
    big = create_invoker(MessageRegistry(), max_body_bytes=64 * 1024 * 1024)

    def reads_a_little_then_resets(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(1000)
        peers._reset(connection)

    with serving(reads_a_little_then_resets) as peer:
        result = invoke(big, peer.endpoint, Order("x" * 30_000_000))
    big.close()
    assert (result.delivery, result.code) == (Delivery.NOT_EXECUTED, ErrorCode.UNAVAILABLE)


def test_a_peer_that_stops_reading_ends_at_the_deadline_with_nothing_run() -> None:
    big = create_invoker(MessageRegistry(), max_body_bytes=64 * 1024 * 1024)

    def reads_nothing(connection: socket.socket, over: threading.Event) -> None:
        over.wait()

    with serving(reads_nothing) as peer:
        result = invoke(big, peer.endpoint, Order("x" * 30_000_000), timeout=0.4)
    big.close()
    assert (result.delivery, result.code) == (Delivery.NOT_EXECUTED, ErrorCode.DEADLINE_EXCEEDED)


def test_an_unaccepted_connection_ends_at_the_deadline(invoker: EnvelopeInvoker) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        result = invoke(invoker, f"http://127.0.0.1:{listener.getsockname()[1]}", Order(), timeout=0.3)
    assert result.code is ErrorCode.DEADLINE_EXCEEDED


def test_a_resolver_that_never_answers_ends_within_the_time_to_connect(
    invoker: EnvelopeInvoker, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, real = threading.Event(), socket.getaddrinfo
    ended: list[str] = []

    def hang(host: str, *args: object, **options: object) -> object:
        if options.get("flags") != socket.AI_NUMERICHOST:
            go.wait(60)
            ended.append(host)
        return real(host, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(resolver, "_resolver", resolver._Resolver())
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        for timeout, code in ((20.0, ErrorCode.UNAVAILABLE), (0.2, ErrorCode.DEADLINE_EXCEEDED)):
            result = invoke(invoker, "http://users.test:1", Order(), timeout)
            assert (result.delivery, result.code) == (Delivery.NOT_EXECUTED, code)
            assert ended == []
        assert "resolver" in (invoke(invoker, "http://users.test:1", Order()).error or "")
    finally:
        go.set()


def test_a_name_that_does_not_exist_proves_that_nothing_ran(invoker: EnvelopeInvoker) -> None:
    result = invoke(invoker, "http://no-such-host.invalid:1", Order())
    assert (result.delivery, result.code) == (Delivery.NOT_EXECUTED, ErrorCode.UNAVAILABLE)


def test_the_next_address_of_a_name_is_tried(invoker: EnvelopeInvoker, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def two(host: str, port: int, *args: object, **options: object) -> object:
        if host != "users.test":
            return real(host, port, *args, **options)  # type: ignore[arg-type]
        if options.get("flags") == socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (at, port)) for at in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    with serving(peers.answers) as peer:
        assert invoke(invoker, peer.endpoint.replace("127.0.0.1", "users.test"), Order())


def test_localhost_is_found_at_either_address(invoker: EnvelopeInvoker) -> None:
    with serving(peers.answers) as peer:
        assert invoke(invoker, peer.endpoint.replace("127.0.0.1", "localhost"), Order())
    result = invoke(invoker, f"http://localhost:{free_port()}", Order())
    assert (result.delivery, result.code) == (Delivery.NOT_EXECUTED, ErrorCode.UNAVAILABLE)
    assert "refused" in (result.error or "")


def test_a_time_that_is_up_sends_nothing(invoker: EnvelopeInvoker) -> None:
    with serving(peers.answers) as peer:
        result = invoke(invoker, peer.endpoint, Order(), timeout=0.0)
        assert peer.connections == 0
    assert (result.delivery, result.code) == (Delivery.NOT_EXECUTED, ErrorCode.DEADLINE_EXCEEDED)


def test_a_connection_that_the_server_closed_while_idle_costs_nothing(invoker: EnvelopeInvoker) -> None:
    closed = threading.Event()

    def answers_once(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(reply(read_request(connection)))
        connection.close()
        closed.set()

    with serving(answers_once) as peer:
        for _ in range(20):
            closed.clear()
            assert invoke(invoker, peer.endpoint, Order())
            assert closed.wait(20)
        assert peer.connections == 20


def test_a_connection_is_not_used_again_when_it_was_idle_or_alive_for_too_long(
    invoker: EnvelopeInvoker, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.monotonic()]

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now[0]

    with serving(peers.answers) as peer:
        invoke(invoker, peer.endpoint, Order())
        monkeypatch.setattr("catga_sync.transport.http.connection.time", Clock)
        monkeypatch.setattr("catga_sync.transport.http.verdict.time", _With(Clock))
        monkeypatch.setattr(invoker, "_clock", _With(Clock))
        now[0] += 0.9
        assert invoke(invoker, peer.endpoint, Order())
        assert peer.connections == 1
        now[0] += 1.1
        assert invoke(invoker, peer.endpoint, Order())
        assert peer.connections == 2
        for _ in range(400):
            now[0] += 0.9
            assert invoke(invoker, peer.endpoint, Order())
        assert peer.connections == 3
        now[0] += 1.1
        invoker.tidy([ClusterNode("peer", peer.endpoint)])
        channel: Any = invoker._channel._http
        pool = channel._lanes[peer.endpoint].pool
        assert all(conn is None or conn.sock is None for conn in pool.pool.queue)


class _With:
    def __init__(self, clock: type) -> None:
        self.monotonic = clock.monotonic  # type: ignore[attr-defined]
        self.time = time.time


def test_interim_answers_are_skipped(invoker: EnvelopeInvoker) -> None:
    def hints_first(connection: socket.socket, over: threading.Event) -> None:
        while request := read_request(connection):
            hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" + hints * 2 + reply(request))

    with serving(hints_first) as peer:
        assert all(invoke(invoker, peer.endpoint, Order(), keep_alive=60.0) for _ in range(3))
        assert peer.connections == 1


def test_a_surplus_of_bytes_never_becomes_the_next_answer(invoker: EnvelopeInvoker) -> None:
    def sends_too_much(connection: socket.socket, over: threading.Event) -> None:
        while request := read_request(connection):
            connection.sendall(reply(request) + reply(request, requestId="stale", isSuccess=False))

    with serving(sends_too_much) as peer:
        results = [invoke(invoker, peer.endpoint, Order()) for _ in range(50)]
    assert all(results)


def test_more_callers_than_connections_wait_for_a_free_one(invoker: EnvelopeInvoker) -> None:
    narrow = sender_to_few(invoker, 2)
    with serving(peers.answers) as peer:
        results: list[bool] = []

        def call() -> None:
            results.extend(bool(send(narrow, peer.endpoint, Order())) for _ in range(20))

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert peer.connections <= 2
    assert results == [True] * 160


def test_a_caller_that_finds_no_free_connection_in_time_has_sent_nothing(invoker: EnvelopeInvoker) -> None:
    narrow, go = sender_to_few(invoker, 1), threading.Event()

    def answers_when_told(connection: socket.socket, over: threading.Event) -> None:
        request = read_request(connection)
        go.wait(30)
        connection.sendall(reply(request))

    with serving(answers_when_told) as peer:
        first = threading.Thread(target=send, args=(narrow, peer.endpoint, Order(), 60.0))
        first.start()
        until(lambda: peer.requests, "the first is under way")
        result = send(narrow, peer.endpoint, Order(), timeout=0.1)
        go.set()
        first.join()
        assert len(peer.requests) == 1
    assert (result.delivery, result.code) == (Delivery.NOT_EXECUTED, ErrorCode.RESOURCE_EXHAUSTED)


def test_what_is_sent_is_what_the_contract_says(invoker: EnvelopeInvoker) -> None:
    import base64
    import json

    with serving(peers.answers) as peer:
        assert invoke(invoker, peer.endpoint, Order("hé"), timeout=70)
        head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    envelope = json.loads(body)
    assert lines[0] == "post /catga/cluster/invoke http/1.1"
    assert "content-type: application/json" in lines
    assert "accept-encoding: identity" in lines
    (given,) = [int(line.partition(": ")[2]) for line in lines if line.startswith("catga-timeout-ms: ")]
    assert 60_000 < given <= 70_000
    assert set(envelope) == {
        "requestTypeName", "responseTypeName", "payloadData", "sourceNodeId", "requestId", "timestamp",
    }  # fmt: skip
    assert json.loads(base64.b64decode(envelope["payloadData"])) == {"text": "hé"}
    assert envelope["requestId"] == REQUEST_ID
    assert envelope["sourceNodeId"] == "caller"
