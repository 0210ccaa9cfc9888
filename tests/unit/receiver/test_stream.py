"""The streams of a node, against callers that do as they please with the other end of the connection."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from catga_sync.context import CallContext
from catga_sync.receiver.request import RawRequest
from catga_sync.receiver.stream import IDLE_TIME, ServedCall
from catga_sync.receiver.streams import Streams
from catga_sync.wire.envelope import RequestEnvelope, ResponseEnvelope
from catga_sync.wire.frames import CALL, GOING, RESPONSE, CallHead, Frame, FrameReader, read_response, write_frame
from catga_sync.wire.mac import MacKey
from catga_sync.wire.stream_keys import StreamKeys
from tests.processes import until

KEYS = StreamKeys(MacKey(b"c" * 32), MacKey(b"r" * 32))
HEAD = CallHead("t.Ask", "t.Answer", "web")


class Handler:
    """Serves calls, and notes them."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.may_run = threading.Event()
        self.may_run.set()
        self.started = threading.Event()
        self.going = False
        self.hung_up: bool | None = None

    def __call__(self, raw: RawRequest, envelope: RequestEnvelope) -> ServedCall:
        self.ran.append(envelope.request_id)
        self.started.set()
        assert self.may_run.wait(20)
        assert raw.hung_up is not None
        self.hung_up = raw.hung_up()
        response = ResponseEnvelope(envelope.request_id, True, envelope.payload, None, None, "n1", 1)
        return ServedCall(response, 200, "1", False, "1,2", 5.0, self.going)


class Caller:
    """The other end of a stream."""

    def __init__(self, sock: Any, keys: StreamKeys | None) -> None:
        self.sock = sock
        self.key = None if keys is None else keys.calls
        self.reader = FrameReader(None if keys is None else keys.responses, 100_000)

    def call(self, number: int, payload: bytes = b"{}", request_id: str | None = None) -> bytes:
        head = HEAD.write(CallContext(request_id or f"r-{number}"), 5.0, time.time())
        return write_frame(CALL, number, head, payload, self.key)

    def read(self) -> Frame | None:
        """Return the next frame; None at the end."""
        frame = self.reader.feed(b"")
        while frame is None:
            data = self.sock.recv(65536)
            if not data:
                return None
            frame = self.reader.feed(data)
        return frame

    def ends(self) -> tuple[int, bytes]:
        """Return the number in GOING, which is the last thing that comes, and its head."""
        frame = self.read()
        assert frame is not None
        assert frame.kind == GOING
        assert self.read() is None
        return frame.number, frame.head


@pytest.fixture
def handler() -> Handler:
    return Handler()


@contextlib.contextmanager
def serving(handler: Handler, keys: StreamKeys | None = None, **options: Any) -> Iterator[tuple[Streams, Caller]]:
    streams = Streams(options.pop("most", 4), max_body_bytes=100_000, **options)
    with _opened(streams, handler, keys) as caller:
        yield streams, caller
    streams.end()
    until(lambda: not streams.open_streams, "the streams have ended")


@contextlib.contextmanager
def _opened(streams: Streams, handler: Handler, keys: StreamKeys | None = None) -> Iterator[Caller]:
    ours, theirs = socket.socketpair()
    with theirs:
        streams.start(ours, keys, handler, remote_address="peer", hung_up=lambda sock: sock.fileno() < 0)
        theirs.settimeout(20)
        yield Caller(theirs, keys)


@pytest.mark.parametrize("keys", [None, KEYS], ids=["plain", "signed"])
def test_calls_are_served_in_order_until_the_caller_closes(handler: Handler, keys: StreamKeys | None) -> None:
    with serving(handler, keys) as (streams, caller):
        for number in range(1, 6):
            caller.sock.sendall(caller.call(number, b'"%d"' % number))
            frame = caller.read()
            assert frame is not None
            assert (frame.kind, frame.number, frame.payload) == (RESPONSE, number, b'"%d"' % number)
            assert read_response(frame).envelope.request_id == f"r-{number}"
        assert (streams.open_streams, handler.hung_up) == (1, False)
        caller.sock.shutdown(socket.SHUT_WR)
        until(lambda: not streams.open_streams, "the stream has ended")


def test_a_long_call_that_comes_in_pieces_is_served(handler: Handler) -> None:
    with serving(handler, KEYS) as (_, caller):
        raw = caller.call(1, b'"' + b"x" * 99_000 + b'"')
        for start in range(0, len(raw), 7_001):
            caller.sock.sendall(raw[start : start + 7_001])
        frame = caller.read()
        assert frame is not None
        assert len(frame.payload) == 99_002


def hostile(caller: Caller) -> dict[str, bytes]:
    """Return what a stream ends for, when one call has been served."""
    good = caller.call(2)
    return {
        "the same again": caller.call(1),
        "one left out": caller.call(3),
        "number 0": caller.call(0),
        "another kind": write_frame(RESPONSE, 2, b"{}", b"", caller.key),
        "kind 0": write_frame(0, 2, b"{}", b"", caller.key),
        "no object": write_frame(CALL, 2, b"[]", b"", caller.key),
        "no id": caller.call(2, request_id="no id"),
        "too long": (2**32 - 1).to_bytes(4, "big") + b"x" * 100,
        "too short": bytes(4),
        "longer than allowed": write_frame(CALL, 2, b"{}", b"x" * 200_000, caller.key),
        "no frame": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "a bit of its MAC": good[:-1] + bytes([good[-1] ^ 1]),
        "a bit of its payload": good[:-33] + bytes([good[-33] ^ 1]) + good[-32:],
        "a MAC of the other direction": write_frame(CALL, 2, b"{}", b"", KEYS.responses),
        "no MAC": write_frame(CALL, 2, b"{}", b"", None),
    }


@pytest.mark.parametrize("what", hostile(Caller(None, KEYS)))
def test_a_frame_that_cannot_be_trusted_ends_the_stream_and_nothing_of_it_runs(handler: Handler, what: str) -> None:
    with serving(handler, KEYS) as (streams, caller):
        caller.sock.sendall(caller.call(1))
        assert caller.read() is not None
        with contextlib.suppress(OSError):  # it may be closed before all of it was taken
            caller.sock.sendall(hostile(caller)[what])
        assert caller.ends()[0] == 1
        caller.sock.close()
        until(lambda: not streams.open_streams, "the stream has ended")
    assert handler.ran == ["r-1"]


def test_a_frame_of_another_stream_runs_nothing(handler: Handler) -> None:
    other = StreamKeys(MacKey(b"o" * 32), KEYS.responses)
    with serving(handler, other) as (_, caller):
        recorded = Caller(None, KEYS)
        caller.sock.sendall(recorded.call(1))
        assert caller.ends()[0] == 0
    assert handler.ran == []


def test_a_call_that_was_cut_off_does_not_run(handler: Handler) -> None:
    with serving(handler) as (streams, caller):
        caller.sock.sendall(caller.call(1)[:-1])
        caller.sock.shutdown(socket.SHUT_WR)
        assert caller.ends()[0] == 0
        caller.sock.close()
        until(lambda: not streams.open_streams, "the stream has ended")
    assert handler.ran == []


class Jumps:
    """A clock that is set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def _short_time_for_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catga_sync.receiver.stream.BODY_TIME", 0.1)


@pytest.mark.usefixtures("_short_time_for_a_frame")
def test_a_frame_that_drips_is_not_waited_for(handler: Handler) -> None:
    with serving(handler) as (_, caller):
        raw = caller.call(1)
        for byte in raw[:20]:  # each one wakes the stream, which looks at the clock
            with contextlib.suppress(OSError):
                caller.sock.sendall(bytes([byte]))
        assert caller.ends()[0] == 0
    assert handler.ran == []


@pytest.mark.usefixtures("_short_time_for_a_frame")
def test_a_stream_without_calls_is_ended(handler: Handler) -> None:
    clock = Jumps()
    with serving(handler, monotonic=clock) as (_, caller):
        caller.sock.sendall(caller.call(1))
        assert caller.read() is not None
        clock.ahead = IDLE_TIME + 1.0
        caller.sock.sendall(caller.call(2)[:4])
        number, head = caller.ends()
    assert (number, handler.ran) == (1, ["r-1"])
    assert b"frame" in head or b"long time" in head


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="only Linux tells of a hang-up with the call")
def test_the_look_that_finds_a_call_counts_once_and_for_a_moment() -> None:
    """In this connection every further look would find that the caller has hung up."""
    clock = Jumps()
    told: list[bool] = []
    ended = threading.Event()

    def serve(raw: RawRequest, envelope: RequestEnvelope) -> ServedCall:
        assert raw.hung_up is not None
        # A clock that stands back is no later than the look, however slow the machine is.
        clock.ahead += 1.0 if envelope.request_id == "r-2" else -0.5
        told.extend((raw.hung_up(), raw.hung_up()))
        if envelope.request_id == "r-2":
            assert ended.wait(20)
        return Handler()(raw, envelope)

    streams = Streams(1, max_body_bytes=100_000, monotonic=clock)
    ours, theirs = socket.socketpair()
    with theirs:
        streams.start(ours, None, serve, remote_address="peer", hung_up=lambda _: True)
        theirs.settimeout(20)
        caller = Caller(theirs, None)
        caller.sock.sendall(caller.call(1))
        assert caller.read() is not None
        caller.sock.sendall(caller.call(2))
        until(lambda: len(told) == 4, "the second call has asked")
        caller.sock.sendall(caller.call(3))
        caller.sock.shutdown(socket.SHUT_WR)
        ended.set()
        until(lambda: not streams.open_streams, "the stream has ended")
    assert told[:2] == [False, True]  # the look counts, and once
    assert told[2:4] == [True, True]  # it was long ago
    assert told[4:] == [True, True]  # it has found the end of what the caller sends


class Looked(Jumps):
    """A clock that tells when it is read, and can hold its reader after a look at the connection."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.may_read = threading.Event()
        self.may_read.set()

    def __call__(self) -> float:
        self.reads += 1
        assert self.may_read.wait(20)
        return super().__call__()


class Asks(Handler):
    """Asks at its first moment whether the caller has hung up, which every look but the first would find."""

    def __init__(self, clock: Looked) -> None:
        super().__init__()
        self.clock = clock
        self.told: list[bool] = []

    def __call__(self, raw: RawRequest, envelope: RequestEnvelope) -> ServedCall:
        assert raw.hung_up is not None
        self.clock.ahead -= 0.5  # however slow the machine is, no time goes by from the look on
        self.told.append(raw.hung_up())
        return super().__call__(raw, envelope)


@contextlib.contextmanager
def _asking() -> Iterator[tuple[Looked, Asks, Streams, Caller]]:
    clock = Looked()
    asks = Asks(clock)
    streams = Streams(1, max_body_bytes=300_000, monotonic=clock)
    ours, theirs = socket.socketpair()
    with theirs:
        streams.start(ours, None, asks, remote_address="peer", hung_up=lambda _: True)
        theirs.settimeout(20)
        caller = Caller(theirs, None)
        yield clock, asks, streams, caller
    until(lambda: not streams.open_streams, "the stream has ended")


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="only Linux tells of a hang-up with the call")
def test_a_look_is_as_old_as_its_beginning_for_its_thread_may_wait_for_the_interpreter_afterwards():
    with _asking() as (clock, asks, _, caller):
        until(lambda: clock.reads == 2, "the stream waits for a call")  # read once as it was made
        clock.ahead += 1.0
        caller.sock.sendall(caller.call(1))
        assert caller.read() is not None
    assert asks.told == [True]


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="only Linux tells of a hang-up with the call")
def test_a_later_look_that_finds_a_hang_up_is_what_counts():
    with _asking() as (clock, asks, streams, caller):
        until(lambda: clock.reads == 2, "the stream waits for a call")  # read once as it was made
        clock.may_read.clear()
        raw = caller.call(1, b'"' + b"x" * 150_000 + b'"')
        caller.sock.sendall(raw[:10])
        until(lambda: clock.reads == 3, "the stream has found the first bytes")
        caller.sock.sendall(raw[10:])
        caller.sock.shutdown(socket.SHUT_WR)
        clock.may_read.set()
        until(lambda: not streams.open_streams, "the stream has ended")
    assert asks.told == [True]


def test_there_are_no_more_streams_than_there_may_be(handler: Handler) -> None:
    with serving(handler, most=2) as (streams, _), _opened(streams, handler) as second:
        second.sock.sendall(second.call(1))
        assert second.read() is not None
        assert not streams.has_room
        with _opened(streams, handler) as third:
            # It is told so: no call of its own was taken, and it may send another way.
            assert third.ends()[0] == 0
    assert handler.ran == ["r-1"]


def test_at_the_end_a_call_that_runs_is_answered_and_no_further_one_is_taken(handler: Handler) -> None:
    handler.may_run.clear()
    with serving(handler, KEYS) as (streams, caller), _opened(streams, handler, KEYS) as idle:
        caller.sock.sendall(caller.call(1))
        assert handler.started.wait(20)
        streams.end("the node goes offline")
        assert idle.ends()[0] == 0
        assert not streams.wait(0.0)
        assert streams.running == 1
        caller.sock.sendall(caller.call(2))
        handler.may_run.set()
        frame = caller.read()
        assert frame is not None
        assert (frame.kind, frame.number) == (RESPONSE, 1)
        assert caller.ends()[0] == 1
        assert streams.wait(20)
        assert not streams.has_room
        streams.reopen()
        assert streams.has_room
        with _opened(streams, handler, KEYS) as again:
            again.sock.sendall(again.call(1))
            assert again.read() is not None
    assert handler.ran == ["r-1", "r-1"]


def test_opened_again_without_an_end_the_streams_wait_and_can_still_be_ended(handler: Handler) -> None:
    with serving(handler, KEYS) as (streams, caller):
        wake = streams._wake
        assert wake is not None
        pipe = os.fstat(wake[0])
        streams.reopen()
        # What the threads wait for is not closed under them: they would never wait again.
        assert os.fstat(wake[0]).st_ino == pipe.st_ino
        caller.sock.sendall(caller.call(1))
        assert caller.read() is not None
        streams.end("the node goes offline")
        assert caller.ends()[0] == 1


def test_a_stream_that_waits_keeps_nothing_of_its_last_call() -> None:
    kept: list[Any] = []

    def serve(raw: RawRequest, envelope: RequestEnvelope) -> ServedCall:
        payload = bytes(90_000)
        kept.extend([raw, envelope, envelope.payload, payload])
        response = ResponseEnvelope(envelope.request_id, True, payload, None, None, "n1", 1)
        kept.append(response)
        return ServedCall(response, 200, "1", False, "1,2", 5.0, False)

    with serving(serve, KEYS) as (streams, caller):  # type: ignore[arg-type]
        caller.sock.sendall(caller.call(1, bytes(80_000)))
        assert caller.read() is not None
        raw, envelope, asked, answered, response = (kept.pop(0) for _ in range(5))
        # Here each has a name, and is the argument that is counted.
        until(lambda: sys.getrefcount(raw) == 2, "the request is forgotten")
        until(lambda: sys.getrefcount(envelope) == 2, "the envelope is forgotten")
        until(lambda: sys.getrefcount(response) == 2, "the response is forgotten")
        # The envelope and the response have one more of each.
        until(lambda: (sys.getrefcount(asked), sys.getrefcount(answered)) == (3, 3), "their bytes are forgotten")
        assert (streams.open_streams, streams.running) == (1, 0)


def test_a_node_that_takes_no_more_calls_ends_the_stream_behind_its_refusal(handler: Handler) -> None:
    handler.going = True
    with serving(handler) as (_, caller):
        caller.sock.sendall(caller.call(1))
        frame = caller.read()
        assert frame is not None
        assert (frame.kind, frame.number) == (RESPONSE, 1)
        assert caller.ends()[0] == 1


def test_what_a_handler_raises_ends_one_stream_only(handler: Handler, caplog: pytest.LogCaptureFixture) -> None:
    def fails(raw: RawRequest, envelope: RequestEnvelope) -> ServedCall:
        raise RuntimeError("a fault")

    streams = Streams(2)
    with _opened(streams, fails) as bad, _opened(streams, handler) as good:  # type: ignore[arg-type]
        bad.sock.sendall(bad.call(1))
        # The call was taken, so its caller knows that it may have run.
        assert bad.ends()[0] == 1
        good.sock.sendall(good.call(1))
        assert good.read() is not None
    until(lambda: not streams.open_streams, "the streams have ended")
    assert "fault of a stream" in caplog.text


def test_a_child_has_none_of_the_streams(handler: Handler) -> None:
    with serving(handler) as (streams, caller):
        caller.sock.sendall(caller.call(1))
        assert caller.read() is not None
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if streams.open_streams == 0 and streams.has_room else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        caller.sock.sendall(caller.call(2))
        assert caller.read() is not None
