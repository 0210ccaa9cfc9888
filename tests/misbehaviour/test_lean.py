"""The short way of a POST: it sends what the long way sends, and every response means what it means there."""

from __future__ import annotations

import contextlib
import functools
import http.client
import queue
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import urllib3
from hypothesis import example, given
from hypothesis import strategies as st

from catga_sync._socket_io import send_all
from catga_sync.nodes import ClusterNode
from catga_sync.transport.base import ExchangeFailed
from catga_sync.transport.http import lean
from catga_sync.transport.http.channel import HttpChannel
from catga_sync.transport.http.lean import Lane
from tests.conftest import require_module
from tests.misbehaviour.peers import PEERS, Peer, Script, read_request, serving
from tests.thorough import thorough

LIMIT = 70_000
USUAL = b"HTTP/1.1 200 OK\r\nServer: gunicorn\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nusual"
HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "catga-sync", "X-A": "b c"}


def exchange(channel: HttpChannel, endpoint: str, *, seconds: float = 20.0, **headers: str) -> object:
    """Return all that shows of an exchange."""
    node = ClusterNode("peer", endpoint, keep_alive=60.0)
    try:
        came = channel.exchange(node, "/path", {**HEADERS, **headers}, b'{"a": 1}', time.monotonic() + seconds)
    except ExchangeFailed as exc:
        return exc.sent, exc.code, exc.layer, exc.what
    named = {name: came.headers.get(name) for name in ("Content-Length", "X-B", "CONNECTION", "content-type")}
    return came.status, named, came.body


def usual_then(*pieces: bytes) -> Script:
    """Return a peer that gives a usual response, then these bytes, and closes."""

    def script(connection: socket.socket, over: threading.Event) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if read_request(connection):
            connection.sendall(USUAL)
        if read_request(connection):
            for piece in pieces:
                connection.sendall(piece)

    return script


def first_usual(script: Script) -> Script:
    """Return a peer that gives a usual response before it misbehaves."""

    def first(connection: socket.socket, over: threading.Event) -> None:
        if read_request(connection):
            connection.sendall(USUAL)
        script(connection, over)

    return first


@contextlib.contextmanager
def calling(script: Script) -> Iterator[tuple[HttpChannel, Peer]]:
    channel = HttpChannel(max_body_bytes=LIMIT)
    with serving(script) as peer, contextlib.closing(channel):
        yield channel, peer


def outcomes(script: Script, *, short: bool, seconds: float = 20.0) -> tuple[list[object], Peer]:
    """Return what shows of two exchanges with a peer, the first of which connects."""
    with pytest.MonkeyPatch.context() as patched, calling(script) as (channel, peer):
        if not short:
            patched.setattr(Lane, "post", lambda *given: None)
        first = exchange(channel, peer.endpoint)
        return [first, exchange(channel, peer.endpoint, seconds=seconds)], peer


def assert_same(script: Script, *, seconds: float = 20.0) -> None:
    (short, at_one), (long, at_other) = (outcomes(script, short=each, seconds=seconds) for each in (True, False))
    assert short == long
    assert at_one.connections == at_other.connections


@pytest.mark.parametrize("script", PEERS, ids=lambda script: script.__name__)
def test_a_peer_that_misbehaves_later_has_the_outcome_of_the_long_way(script: Script) -> None:
    expires = PEERS[script][1] == "DEADLINE_EXCEEDED"
    assert_same(first_usual(script), seconds=0.2 if expires else 20.0)


RESPONSES = (
    USUAL,
    USUAL + b"more",
    USUAL + USUAL,
    USUAL[:-1],
    USUAL[:40],
    b"",
    b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    USUAL.replace(b"keep-alive", b"close"),
    USUAL.replace(b"HTTP/1.1", b"HTTP/1.0"),
    USUAL.replace(b"200 OK", b"204 None"),
    USUAL.replace(b"200 OK", b"304 Same"),
    USUAL.replace(b"200 OK", b"100 Continue") + USUAL,
    USUAL.replace(b"200 OK", b"200"),
    USUAL.replace(b"200 OK", b"700 Odd"),
    USUAL.replace(b": 5", b": 5, 5"),
    USUAL.replace(b": 5", b": +5"),
    USUAL.replace(b": 5", b": 6"),
    USUAL.replace(b": 5", b": 0"),
    USUAL.replace(b": 5", b": 05"),
    USUAL.replace(b"Server", b"Content-Length: 4\r\nServer"),
    USUAL.replace(b"Server", b"X-B: 1\r\nX-B: 2\r\nServer"),
    USUAL.replace(b"Server", b"X-B: 1\r\nx-b: 2\r\nServer"),
    *(
        USUAL.replace(b"Server", b"X-B: %b\r\nServer" % value)
        for value in (b"a  b", b" a", b"a ", b"a\tb", b"a: b", b"~")
    ),
    USUAL.replace(b"Server", b"X B: 1\r\nServer"),
    USUAL.replace(b"Server", b" X-B: 1\r\nServer"),
    USUAL.replace(b"Server", b"X_B: 1\r\nServer"),
    USUAL.replace(b"gunicorn", b"a\r\n folded"),
    USUAL.replace(b"gunicorn", b"a\nX-B: bare"),
    USUAL.replace(b"gunicorn", b"a\rX-B: bare"),
    USUAL.replace(b"gunicorn", b"\xe9"),
    USUAL.replace(b"gunicorn", b""),
    USUAL.replace(b"Server: ", b"Server:"),
    USUAL.replace(b"Server: ", b"Server : "),
    USUAL.replace(b"Server: gunicorn", b"no colon"),
    USUAL.replace(b"gunicorn", b"g" * 70_000),
    USUAL.replace(b"Server", b"Content-Encoding: gzip\r\nServer"),
    USUAL.replace(b"Server", b"Content-Encoding: identity\r\nServer"),
    USUAL.replace(b"Server", b"\r\n".join(b"X-%d: 1" % number for number in range(60)) + b"\r\nServer"),
    USUAL.replace(b"Server", b"Transfer-Encoding: chunked\r\nServer").replace(b"usual", b"5\r\nusual\r\n0\r\n\r\n"),
    USUAL.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked").replace(b"usual", b"5\r\nusual\r\n0\r\n\r\n"),
    b"HTTP/1.1 200 OK\r\nContent-Length: 66000\r\n\r\n" + b"x" * 66_000,
    b"HTTP/1.1 200 OK\r\nContent-Length: 80000\r\n\r\n" + b"x" * 80_000,
)


@pytest.mark.parametrize("response", RESPONSES, ids=range(len(RESPONSES)))
def test_a_response_has_the_outcome_of_the_long_way(response: bytes) -> None:
    assert_same(usual_then(response))
    assert_same(usual_then(*(response[at : at + 7] for at in range(0, min(len(response), 400), 7)), response[400:]))


PARTS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 503 No\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 103 Hints\r\n\r\n",
        b"Content-Length: 5\r\n", b"content-length: 3\r\n", b"Content-Length: 5, 5\r\n", b"Content-Length:\t5\r\n",
        b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"X-B: one\r\n", b" folded\r\n", b"X-B: \r\n",
        b"Content-Encoding: br\r\n", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"usual", b"5\r\nusual\r\n0\r\n\r\n", b"\0",
    ]
)  # fmt: skip
RANDOM = st.builds(b"".join, st.lists(PARTS | st.binary(max_size=6), max_size=10))
ALTERED = st.builds(
    lambda at, gone, put: USUAL[:at] + put + USUAL[at + gone :],
    st.integers(0, len(USUAL)),
    st.integers(0, 20),
    PARTS | st.binary(max_size=4),
)


@given(RANDOM | ALTERED, st.integers(0, 100))
@example(USUAL, 20)
@thorough(2_000)
def test_any_response_has_the_outcome_of_the_long_way(response: bytes, at: int) -> None:
    assert_same(usual_then(response[:at], response[at:]))


def answers_usually(connection: socket.socket, over: threading.Event) -> None:
    while read_request(connection):
        connection.sendall(USUAL)


def test_the_request_has_the_bytes_of_the_long_way() -> None:
    with calling(answers_usually) as (channel, peer):
        for _ in range(3):
            assert exchange(channel, peer.endpoint)[0] == 200  # type: ignore[index]
        assert peer.connections == 1
        assert peer.requests[0] == peer.requests[1] == peer.requests[2]


@pytest.mark.parametrize("short", [True, False], ids=["short way", "long way"])
def test_a_connection_on_which_a_call_was_refused_unread_is_not_used_again(short: bool) -> None:
    def refuses(connection: socket.socket, over: threading.Event) -> None:
        read_request(connection)
        connection.sendall(USUAL.replace(b"200 OK", b"401 Unauthorized"))
        read_request(connection)  # a node of ours has shut this side already

    (first, second), peer = outcomes(refuses, short=short)
    assert first[0] == second[0] == 401  # type: ignore[index]
    assert peer.connections == 2


def test_nothing_is_sent_when_the_time_is_up() -> None:
    with calling(answers_usually) as (channel, peer):
        exchange(channel, peer.endpoint)
        assert exchange(channel, peer.endpoint, seconds=-1.0)[0] is False  # type: ignore[index]
        exchange(channel, peer.endpoint)
        assert len(peer.requests) == 2


@pytest.mark.parametrize(("response", "sent"), [(USUAL, None), (b"", False)])
def test_a_write_that_fails_is_no_proof_of_a_request_that_arrived(
    response: bytes, sent: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any) -> None:
        send_all(*given)
        raise BrokenPipeError

    with calling(usual_then(response)) as (channel, peer):
        exchange(channel, peer.endpoint)
        monkeypatch.setattr(lean, "send_all", broken)
        came = exchange(channel, peer.endpoint)
        assert came[0] == (200 if sent is None else sent)  # type: ignore[index]


@pytest.mark.parametrize("odd", ["a\r\nX-C: d", "a\nb", "a\rb", "a\x85b", "\xe9", " a ", ""])
def test_an_odd_value_of_a_header_has_the_outcome_of_the_long_way(odd: str) -> None:
    shown = []
    for short in (True, False):
        with pytest.MonkeyPatch.context() as patched, calling(answers_usually) as (channel, peer):
            if not short:
                patched.setattr(Lane, "post", lambda *given: None)
            exchange(channel, peer.endpoint)
            outcome = exchange(channel, peer.endpoint, **{"X-C": odd})
            shown.append((outcome, [re.sub(rb"127.0.0.1:\d+", b"", each) for each in peer.requests]))
    assert shown[0] == shown[1]


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (urllib3.HTTPConnectionPool, "urlopen"),
        (urllib3.connection.HTTPConnection, "request"),
        (http.client.HTTPConnection, "putrequest"),
        (http.client.HTTPConnection, "getresponse"),
    ],
)
def test_whoever_replaces_a_method_of_the_long_way_sees_every_request(
    cls: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    with calling(answers_usually) as (channel, peer):
        exchange(channel, peer.endpoint)
        before: Callable[..., object] = getattr(cls, name)

        class Watched:
            """Equals what it wraps, as the proxies of ``wrapt`` do, with which tracing libraries replace methods."""

            def __get__(self, instance: object, owner: type) -> object:
                return functools.partial(self, instance) if instance is not None else self

            def __call__(self, *given: Any, **options: Any) -> object:
                seen.append(name)
                return before(*given, **options)

            def __eq__(self, other: object) -> bool:
                return other == before

            __hash__ = object.__hash__

        monkeypatch.setattr(cls, name, Watched())
        exchange(channel, peer.endpoint)
        assert len(seen) == 1
        monkeypatch.undo()
        exchange(channel, peer.endpoint)
        assert len(seen) == 1
        assert peer.connections == 1


def test_the_short_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with calling(answers_usually) as (channel, peer):
        exchange(channel, peer.endpoint)
        monkeypatch.setattr("catga_sync.transport.http.channel.post_directly", None)
        assert exchange(channel, peer.endpoint)[2] == b"usual"  # type: ignore[index]
        assert peer.connections == 1


def test_each_look_has_a_poll_object_of_its_own_where_one_is_for_one_thread_as_with_gevent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []

    class Poll:
        def __init__(self) -> None:
            made.append(self)
            self._real = real()
            self.register, self.poll = self._real.register, self._real.poll

    real = select.poll
    with calling(answers_usually) as (channel, peer):
        monkeypatch.setattr(select, "poll", Poll)
        exchange(channel, peer.endpoint)
        before = len(made)
        monkeypatch.setattr("catga_sync.transport.http.channel.post_directly", None)
        assert exchange(channel, peer.endpoint)[2] == b"usual"  # type: ignore[index]
        assert len(made) - before >= 2  # before the request, and for the response
        assert peer.connections == 1


class _OtherQueue:
    """A queue without the inside of the standard library's, as gevent's is, and as a user may give a pool."""

    def __init__(self, maxsize: int) -> None:
        self._real: queue.LifoQueue[Any] = queue.LifoQueue(maxsize)
        self.get, self.put = self._real.get, self._real.put
        self.qsize, self.full, self.maxsize = self._real.qsize, self._real.full, maxsize

    @property
    def queue(self) -> list[Any]:
        return self._real.queue


def test_a_pool_with_another_queue_takes_the_short_way_and_keeps_its_connection(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(urllib3.HTTPConnectionPool, "QueueCls", _OtherQueue)
    with calling(answers_usually) as (channel, peer):
        exchange(channel, peer.endpoint)
        monkeypatch.setattr("catga_sync.transport.http.channel.post_directly", None)
        for _ in range(3):
            assert exchange(channel, peer.endpoint)[2] == b"usual"  # type: ignore[index]
        assert peer.connections == 1


def test_pools_of_another_class_go_the_long_way(monkeypatch: pytest.MonkeyPatch):
    class Pool(urllib3.HTTPConnectionPool):
        pass

    monkeypatch.setitem(urllib3.poolmanager.pool_classes_by_scheme, "http", Pool)
    with calling(answers_usually) as (channel, peer):
        for _ in range(3):
            assert exchange(channel, peer.endpoint)[2] == b"usual"  # type: ignore[index]
        assert peer.connections == 1


def test_a_system_without_poll_goes_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with calling(answers_usually) as (channel, peer):
        monkeypatch.setattr("urllib3.util.wait.wait_for_socket", urllib3.util.wait.select_wait_for_socket)
        monkeypatch.delattr(select, "poll")
        for _ in range(3):
            assert exchange(channel, peer.endpoint)[2] == b"usual"  # type: ignore[index]
        assert peer.connections == 1


def test_a_connection_comes_back_to_a_pool_that_was_closed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    with calling(answers_usually) as (channel, peer):
        exchange(channel, peer.endpoint)

        def closing(*given: Any) -> None:
            send_all(*given)
            channel.close()

        monkeypatch.setattr(lean, "send_all", closing)
        assert exchange(channel, peer.endpoint)[2] == b"usual"  # type: ignore[index]
        monkeypatch.undo()
        assert exchange(channel, peer.endpoint)[2] == b"usual"  # type: ignore[index]
        assert peer.connections == 2


def test_what_a_signal_handler_raises_when_the_kernel_has_the_request_is_no_proof_that_it_was_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*given: Any) -> None:
        send_all(*given)
        raise RuntimeError("job time-out")

    with calling(first_usual(usual_then())) as (channel, peer):
        exchange(channel, peer.endpoint)
        monkeypatch.setattr(lean, "send_all", interrupted)
        assert exchange(channel, peer.endpoint)[0] is True  # type: ignore[index]


def test_whoever_watches_through_the_standard_library_or_the_log_of_urllib3_sees_the_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with calling(first_usual(usual_then())) as (channel, peer):
        exchange(channel, peer.endpoint)
        with caplog.at_level("DEBUG", "urllib3.connectionpool"):
            exchange(channel, peer.endpoint)
    assert "POST /path" in caplog.text


@pytest.mark.parametrize("short", [True, False])
def test_a_response_is_too_long_by_both_ways(short: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.misbehaviour.test_lean.LIMIT", 3)
    first, second = outcomes(first_usual(usual_then()), short=short)[0]
    assert first == second
    assert first[1] == "RESOURCE_EXHAUSTED"  # type: ignore[index]


_UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, time
from catga_sync.nodes import ClusterNode
from catga_sync.transport.http.channel import HttpChannel

channel, node = HttpChannel(), ClusterNode("n", sys.argv[1], keep_alive=60.0)
for _ in range(3):
    print(channel.exchange(node, "/p", {"A": "b"}, b"{}", time.monotonic() + 20.0).body.decode())
channel.close()
"""


def test_every_exchange_of_a_process_that_gevent_has_patched_arrives():
    require_module("gevent")
    with serving(answers_usually) as peer:
        done = subprocess.run(
            [sys.executable, "-c", _UNDER_GEVENT, peer.endpoint], capture_output=True, text=True, timeout=60
        )
    assert done.stdout.split() == ["usual"] * 3, done.stderr
    assert peer.connections == 1
