"""Whatever a peer does on a stream, a call ends within its deadline and tells the truth about delivery."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import requests

from catga_sync import CatgaResult, Delivery, ErrorCode
from catga_sync.context import CallContext
from catga_sync.nodes import STREAM, ClusterNode
from catga_sync.serialization import MessageRegistry
from catga_sync.transport import EnvelopeInvoker, create_invoker
from catga_sync.transport.signing import Signing
from catga_sync.wire.envelope import ResponseEnvelope
from catga_sync.wire.frames import (
    CALL,
    CallHead,
    Frame,
    FrameReader,
    read_call,
    write_frame,
    write_going,
    write_response,
)
from catga_sync.wire.keys import KeyRing
from catga_sync.wire.signatures import sign_response, signature_fields
from catga_sync.wire.stream_keys import StreamKeys, stream_keys
from tests.misbehaviour.calls import REQUEST_ID, Order
from tests.misbehaviour.peers import Peer, Script, read_request, reply, serving
from tests.processes import until

NONCE = "ab" * 16
RING = KeyRing("s" * 40)

#: What a peer does with one call that has come; True goes on with the next one.
Act = Callable[[socket.socket, Frame, StreamKeys | None, threading.Event], bool]


def switching(request: bytes, keys: StreamKeys | None) -> bytes:
    lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: catga-stream/1"]
    lines.append(f"Catga-Stream-Nonce: {NONCE}")
    if keys is not None:
        given = request.decode().partition("Catga-Signature: ")[2].partition("\r\n")[0]
        signed = sign_response(
            RING,
            nonce=signature_fields(given)[2],
            status=101,
            executed=None,
            node_id="peer",
            incarnation="run-1",
            content_type=None,
            content_encoding=None,
            body=NONCE.encode(),
        )
        lines.append(f"Catga-Signature: {signed}")
    return "\r\n".join([*lines, "", ""]).encode()


def keys_of(request: bytes) -> StreamKeys | None:
    given = request.decode().partition("Catga-Signature: ")[2].partition("\r\n")[0]
    if not given:
        return None
    key_id, _, nonce, *_ = signature_fields(given)
    return stream_keys(RING, key_id, caller_nonce=nonce, node_nonce=NONCE, cluster="c", node_id="peer")


def streaming(act: Act) -> Script:
    """Return a peer that serves streams by a script, and POST as it should."""

    def script(connection: socket.socket, over: threading.Event) -> None:
        request = read_request(connection)
        while request.startswith(b"POST"):
            connection.sendall(reply(request))
            request = read_request(connection)
        if not request:
            return
        keys = keys_of(request)
        connection.sendall(switching(request, keys))
        reader = FrameReader(None if keys is None else keys.calls, 100_000)
        while True:
            frame = reader.feed(b"")
            while frame is None:
                data = connection.recv(65536)
                if not data:
                    return
                frame = reader.feed(data)
            connection.peer.requests.append(b"CALL " + frame.head)  # type: ignore[attr-defined]
            if not act(connection, frame, keys, over):
                return

    return script


def response_to(frame: Frame, keys: StreamKeys | None, *, number: int | None = None, request_id: str = "") -> bytes:
    envelope = ResponseEnvelope(request_id or REQUEST_ID, True, b"null", None, None, "peer", 1)
    number = frame.number if number is None else number
    return write_response(number, envelope, 200, "1", None if keys is None else keys.responses)


def answers(connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event) -> bool:
    connection.sendall(response_to(frame, keys))
    return True


def closes_after_its_response(
    connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event
) -> bool:
    connection.sendall(response_to(frame, keys))
    return False


def closes(connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event) -> bool:
    return False


def never_answers(connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event) -> bool:
    over.wait()
    return False


def drips(connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event) -> bool:
    for byte in response_to(frame, keys)[:-1]:
        connection.sendall(bytes([byte]))
        if over.wait(0.05):
            break
    return False


def cuts_its_response(connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event) -> bool:
    connection.sendall(response_to(frame, keys)[:-1])
    return False


def answers_another_number(
    connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event
) -> bool:
    connection.sendall(response_to(frame, keys, number=frame.number + 1))
    return False


def answers_another_call(
    connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event
) -> bool:
    connection.sendall(response_to(frame, keys, request_id="another"))
    return True


def sends_a_call(connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event) -> bool:
    key = None if keys is None else keys.responses
    connection.sendall(write_frame(CALL, frame.number, frame.head, frame.payload, key))
    return True


def sends_an_unknown_kind(
    connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event
) -> bool:
    connection.sendall(write_frame(9, frame.number, b"{}", b"", None if keys is None else keys.responses))
    return True


def announces_gigabytes(
    connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event
) -> bool:
    connection.sendall((2**32 - 1).to_bytes(4, "big"))
    return True


def announces_nothing(connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event) -> bool:
    connection.sendall(bytes(4))
    return True


def answers_without_an_object(
    connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event
) -> bool:
    connection.sendall(write_frame(2, frame.number, b"[]", b"", None if keys is None else keys.responses))
    return True


def goes_after_a_call_that_was_not_sent(
    connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event
) -> bool:
    connection.sendall(write_going(frame.number + 1, "", None if keys is None else keys.responses))
    return True


def goes_and_has_taken_it(
    connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event
) -> bool:
    connection.sendall(write_going(frame.number, "", None if keys is None else keys.responses))
    return False


def goes_and_has_not_taken_it(
    connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event
) -> bool:
    connection.sendall(write_going(frame.number - 1, "", None if keys is None else keys.responses))
    return False


ACTS: dict[Act, tuple[Delivery, ErrorCode | None]] = {
    answers: (Delivery.EXECUTED, None),
    closes: (Delivery.UNKNOWN, ErrorCode.UNAVAILABLE),
    never_answers: (Delivery.UNKNOWN, ErrorCode.DEADLINE_EXCEEDED),
    drips: (Delivery.UNKNOWN, ErrorCode.DEADLINE_EXCEEDED),
    cuts_its_response: (Delivery.UNKNOWN, ErrorCode.UNAVAILABLE),
    answers_another_number: (Delivery.UNKNOWN, ErrorCode.INTERNAL),
    answers_another_call: (Delivery.UNKNOWN, ErrorCode.INTERNAL),
    sends_a_call: (Delivery.UNKNOWN, ErrorCode.INTERNAL),
    sends_an_unknown_kind: (Delivery.UNKNOWN, ErrorCode.INTERNAL),
    announces_gigabytes: (Delivery.UNKNOWN, ErrorCode.RESOURCE_EXHAUSTED),
    announces_nothing: (Delivery.UNKNOWN, ErrorCode.INTERNAL),
    answers_without_an_object: (Delivery.UNKNOWN, ErrorCode.INTERNAL),
    goes_after_a_call_that_was_not_sent: (Delivery.UNKNOWN, ErrorCode.INTERNAL),
    goes_and_has_taken_it: (Delivery.UNKNOWN, ErrorCode.UNAVAILABLE),
}


@contextlib.contextmanager
def invoking(*, signed: bool = False, stream: str = "on", clock: LaterClock | None = None) -> Iterator[EnvelopeInvoker]:
    signing = Signing(RING, "c") if signed else None
    made = create_invoker(MessageRegistry(), max_body_bytes=100_000, stream=stream, signing=signing, clock=clock)
    with contextlib.closing(made):
        yield made


def send(invoker: EnvelopeInvoker, peer: Peer, timeout: float = 20.0) -> CatgaResult[None]:
    node = ClusterNode("peer", peer.endpoint, handles=frozenset({"x"}), features=frozenset({STREAM}))
    return invoker.invoke(node, Order(), timeout=timeout, call=CallContext(REQUEST_ID))


def kinds(peer: Peer) -> list[str]:
    """Return what has reached a peer: GET, CALL, POST."""
    return [each.partition(b" ")[0].decode() for each in peer.requests]


@pytest.mark.parametrize("signed", [False, True], ids=["plain", "signed"])
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_every_misbehaviour_has_its_delivery_and_code(act: Act, *, signed: bool) -> None:
    delivery, code = ACTS[act]
    # On a busy machine a short time may be up before the call is sent; it has not run then.
    for timeout in (0.4, 2.0, 20.0) if code is ErrorCode.DEADLINE_EXCEEDED else (20.0,):
        with serving(streaming(act)) as peer, invoking(signed=signed) as invoker:
            result = send(invoker, peer, timeout)
            reached = kinds(peer)
        if reached == ["GET", "CALL"]:
            break
    assert (result.delivery, result.code) == (delivery, code)
    # Once, and never again by POST.
    assert reached == ["GET", "CALL"]


def test_a_call_that_was_provably_not_taken_goes_by_post() -> None:
    with serving(streaming(goes_and_has_not_taken_it)) as peer, invoking() as invoker:
        assert send(invoker, peer).is_success
        until(lambda: "POST" in kinds(peer), "the call has come by POST")
        assert kinds(peer) == ["GET", "CALL", "GET", "CALL", "POST"]


def test_a_stream_carries_many_calls_and_they_are_numbered() -> None:
    numbers = []

    def act(connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event) -> bool:
        numbers.append(frame.number)
        assert read_call(frame)[1].request_id == REQUEST_ID
        return answers(connection, frame, keys, over)

    with serving(streaming(act)) as peer, invoking(signed=True) as invoker:
        assert all(send(invoker, peer) for _ in range(5))
        assert (numbers, kinds(peer)) == ([1, 2, 3, 4, 5], ["GET", *["CALL"] * 5])


def test_a_stream_that_was_closed_while_it_waited_costs_no_call() -> None:
    def answers_once(connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event) -> bool:
        answers(connection, frame, keys, over)
        return False

    with serving(streaming(answers_once)) as peer, invoking() as invoker:
        for _ in range(5):
            assert send(invoker, peer).is_success
            until(
                lambda: all(not each.is_usable(time.monotonic()) for each in waiting(invoker, peer)),
                "the peer has closed it",
            )
        assert kinds(peer) == ["GET", "CALL"] * 5


def waiting(invoker: EnvelopeInvoker, peer: Peer) -> list:  # type: ignore[type-arg]
    streams = invoker._streams
    assert streams is not None
    return streams._peers["peer", peer.endpoint].waiting


@pytest.mark.parametrize(
    "bad",
    [
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 101 Switching Protocols\r\nUpgrade: catga-stream/1\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: catga-stream/1\r\nCatga-Stream-Nonce: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: catga-stream/1\r\nUpgrade: catga-stream/1\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"x" * 20_000,
        b"",
    ],
)
def test_anything_but_an_upgrade_means_post_and_the_reason_is_told(bad: bytes) -> None:
    def script(connection: socket.socket, over: threading.Event) -> None:
        while request := read_request(connection):
            if not request.startswith(b"GET"):
                connection.sendall(reply(request))
                continue
            connection.sendall(bad)
            return

    with serving(script) as peer, invoking() as invoker:
        node = ClusterNode("peer", peer.endpoint, features=frozenset({STREAM}))
        assert invoker.way_to(node) == "stream"
        assert send(invoker, peer).is_success
        assert kinds(peer) == ["GET", "POST"]
        assert invoker.way_to(node) == "post"
        assert invoker.why_not_stream(node)


def test_a_peer_that_is_silent_at_the_upgrade_costs_a_quarter_of_a_second() -> None:
    def script(connection: socket.socket, over: threading.Event) -> None:
        while request := read_request(connection):
            if request.startswith(b"GET"):
                over.wait()
                return
            connection.sendall(reply(request))

    with serving(script) as peer, invoking() as invoker:
        assert [send(invoker, peer).is_success for _ in range(3)] == [True] * 3
        assert kinds(peer) == ["GET", "POST", "POST", "POST"]


class LaterClock:
    """The real clocks, set forward."""

    time = staticmethod(time.time)
    later = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.later


def test_a_peer_that_opens_other_streams_meanwhile_is_busy_and_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catga_sync.transport.stream.OPENING_TIME", 1.0)
    clock, first = LaterClock(), threading.Event()
    serve = streaming(closes_after_its_response)

    def script(connection: socket.socket, over: threading.Event) -> None:
        if first.is_set():
            serve(connection, over)
            return
        first.set()
        read_request(connection)
        over.wait()

    with serving(script) as peer, invoking(clock=clock) as invoker:
        silent = threading.Thread(target=send, args=(invoker, peer))
        silent.start()
        assert first.wait(20)
        assert send(invoker, peer).is_success
        silent.join()
        assert sorted(kinds(peer)) == ["CALL", "GET", "GET", "POST"]
        clock.later = 1.5
        assert send(invoker, peer).is_success
        assert sorted(kinds(peer)) == ["CALL", "CALL", "GET", "GET", "GET", "POST"]


def test_an_upgrade_that_is_not_signed_is_not_used_where_a_secret_is_in_use() -> None:
    def script(connection: socket.socket, over: threading.Event) -> None:
        if read_request(connection).startswith(b"GET"):
            connection.sendall(switching(b"", None))
            over.wait()

    with serving(script) as peer, invoking(signed=True) as invoker:
        result = send(invoker, peer, timeout=5.0)
    assert result.delivery is Delivery.UNKNOWN  # of the POST, to which that peer does not respond
    assert kinds(peer) == ["GET", "POST"]


@pytest.mark.parametrize("spoil", ["flipped", "replayed", "unsigned", "reflected"])
def test_a_response_whose_mac_is_wrong_is_not_believed(spoil: str) -> None:
    seen: list[bytes] = []

    def act(connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event) -> bool:
        assert keys is not None
        good = response_to(frame, keys)
        if frame.number == 1:
            seen.append(good)
            connection.sendall(good)
            return True
        bad = {
            "flipped": good[:-1] + bytes([good[-1] ^ 1]),
            "replayed": seen[0],
            "unsigned": response_to(frame, None),
            "reflected": response_to(frame, StreamKeys(keys.responses, keys.calls)),
        }
        connection.sendall(bad[spoil])
        return True

    with serving(streaming(act)) as peer, invoking(signed=True) as invoker:
        assert send(invoker, peer).is_success
        result = send(invoker, peer)
    assert result.delivery is Delivery.UNKNOWN
    assert result.code in (ErrorCode.UNAUTHENTICATED, ErrorCode.INTERNAL)
    assert kinds(peer) == ["GET", "CALL", "CALL"]


def test_a_caller_whose_time_is_up_closes_the_stream() -> None:
    ended = threading.Event()

    def act(connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event) -> bool:
        assert connection.recv(1) == b""
        ended.set()
        return False

    with serving(streaming(act)) as peer, invoking() as invoker:
        for timeout in (0.2, 1.0, 5.0):
            if send(invoker, peer, timeout).delivery is Delivery.UNKNOWN:
                break
        assert ended.wait(20)
        assert waiting(invoker, peer) == []


def test_a_library_that_replaces_a_method_of_requests_sees_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(streaming(answers)) as peer, invoking(stream="auto") as invoker:
        assert send(invoker, peer).is_success
        for owner, name in ((requests.Session, "send"), (requests.adapters.HTTPAdapter, "send")):
            with monkeypatch.context() as patch:
                stock = getattr(owner, name)
                patch.setattr(owner, name, lambda *args, stock=stock, **kwargs: stock(*args, **kwargs))
                assert send(invoker, peer).is_success
        assert send(invoker, peer).is_success
    assert kinds(peer) == ["GET", "CALL", "POST", "POST", "CALL"]


def test_streams_are_used_only_where_they_are_wanted_and_offered() -> None:
    with serving(streaming(answers)) as peer:
        with invoking(stream="off") as invoker:
            assert send(invoker, peer).is_success
        with invoking() as invoker:
            silent = ClusterNode("peer", peer.endpoint, handles=frozenset({"x"}))
            assert invoker.invoke(silent, Order(), timeout=20.0, call=CallContext(REQUEST_ID)).is_success
            assert invoker.why_not_stream(silent) == "the node offers no streams"
        with (
            requests.Session() as session,
            contextlib.closing(create_invoker(MessageRegistry(), session=session, stream="auto")) as invoker,
        ):
            assert send(invoker, peer).is_success
    assert kinds(peer) == ["POST"] * 3


def test_a_stream_that_waits_is_not_used_once_the_node_offers_none_any_more() -> None:
    with serving(streaming(answers)) as peer, invoking() as invoker:
        assert send(invoker, peer).is_success
        silent = ClusterNode("peer", peer.endpoint, handles=frozenset({"x"}))
        assert invoker.invoke(silent, Order(), timeout=20.0, call=CallContext(REQUEST_ID)).is_success
        assert invoker._streams is not None
        way, head, call = invoker._ways.to(silent), CallHead("x", "none", None), CallContext(REQUEST_ID)
        assert invoker._streams.call(way, head, call, b"", time.monotonic() + 20.0) is None
        assert send(invoker, peer).is_success
    assert kinds(peer) == ["GET", "CALL", "POST", "CALL"]


def test_a_child_leaves_the_streams_of_its_parent_alone() -> None:
    with serving(streaming(answers)) as peer, invoking(signed=True) as invoker:
        assert send(invoker, peer).is_success
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if send(invoker, peer).is_success and send(invoker, peer).is_success else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert send(invoker, peer).is_success
        assert sorted(kinds(peer)) == sorted(["GET", "CALL", "GET", "CALL", "CALL", "CALL"])


def test_streams_that_waited_too_long_are_closed() -> None:
    with serving(streaming(answers)) as peer, invoking() as invoker:
        assert send(invoker, peer).is_success
        streams = invoker._streams
        assert streams is not None
        node = ClusterNode("peer", peer.endpoint)
        invoker.tidy([node])
        assert len(waiting(invoker, peer)) == 1
        later = time.monotonic() + 11.0
        streams._monotonic = lambda: later
        invoker.tidy([node])
        assert waiting(invoker, peer) == []
        assert streams._streams == set()
        assert send(invoker, peer).is_success
        invoker.tidy([])
        assert streams._streams == set()


def test_many_callers_have_a_stream_each_and_get_their_own_responses() -> None:
    def act(connection: socket.socket, frame: Frame, keys: StreamKeys | None, over: threading.Event) -> bool:
        request_id = read_call(frame)[1].request_id
        connection.sendall(response_to(frame, keys, request_id=request_id))
        return True

    with serving(streaming(act)) as peer, invoking(signed=True) as invoker:
        node = ClusterNode("peer", peer.endpoint, handles=frozenset({"x"}), features=frozenset({STREAM}))
        failures: list[CatgaResult[None]] = []

        def run(caller: int) -> None:
            for n in range(30):
                call = CallContext(f"{caller}-{n}")
                result = invoker.invoke(node, Order(), timeout=20.0, call=call)
                if not result or result.request_id != call.request_id:
                    failures.append(result)

        threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
