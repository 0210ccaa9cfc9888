"""Cutting off the reading of a socket: it ends whoever waits in ``recv``, and the answer can still be written."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest

from catga_sync import _fork
from catga_sync.integrations._cutoff import CutOff, shut_reading
from tests.conftest import require_module

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    server, client = socket.socketpair()
    with server, client:
        server.settimeout(20.0)
        client.settimeout(20.0)
        yield server, client


def test_a_reader_that_waits_is_let_go_at_the_end_and_can_still_answer(pair: Pair) -> None:
    server, client = pair
    cut_off = CutOff()
    client.sendall(b"some of it")
    call_off = cut_off.reading(time.monotonic(), server)
    assert server.recv(100) in (b"some of it", b"")
    assert server.recv(100) == b""
    call_off()
    server.sendall(b"too slow")
    assert client.recv(100) == b"too slow"


def test_a_reader_that_is_done_is_left_alone(pair: Pair) -> None:
    server, client = pair
    other, _ = socket.socketpair()
    with other, _:
        cut_off = CutOff()
        cut_off.reading(time.monotonic(), server)()
        # When this one has been cut off, the watcher has looked.
        cut_off.reading(time.monotonic(), other)
        assert other.recv(1) == b""
    client.sendall(b"the next request")
    assert server.recv(100) == b"the next request"


def test_bodies_at_once_end_each_at_its_own_time(pair: Pair) -> None:
    server, client = pair
    other, _ = socket.socketpair()
    with other, _:
        cut_off = CutOff()
        call_off = cut_off.reading(time.monotonic() + 600.0, server)
        cut_off.reading(time.monotonic(), other)
        assert other.recv(1) == b""
        client.sendall(b"x")
        assert server.recv(1) == b"x"
        call_off()


def test_a_socket_that_is_closed_is_left_alone() -> None:
    server, client = socket.socketpair()
    with server, client:
        pass
    shut_reading(server)


def test_a_forked_child_watches_for_itself(pair: Pair) -> None:
    server, other = pair
    cut_off = CutOff()
    cut_off.reading(time.monotonic() + 600.0, other)
    # As it is in a child: the parent's thread is not there, and its lock may never be let go.
    cut_off._lock.acquire()
    lock, watcher, reading = cut_off._lock, cut_off._watcher, cut_off._reading
    cut_off.after_fork_in_child()
    cut_off.reading(time.monotonic(), server)
    assert cut_off._watcher is not watcher
    assert server.recv(1) == b""
    lock.release()
    reading.clear()


def test_nothing_goes_out_in_clear_over_tls(pair: Pair) -> None:
    trustme = require_module("trustme")
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority = trustme.CA()
    authority.issue_cert("localhost").configure_cert(ours)
    authority.configure_trust(theirs)
    raw: list[bytes] = []

    def ask() -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = theirs.wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                pair[1].sendall(outgoing.read())
                incoming.write(pair[1].recv(65536))
        pair[1].sendall(outgoing.read())
        while piece := pair[1].recv(65536):
            raw.append(piece)

    asking = threading.Thread(target=ask)
    asking.start()
    with ours.wrap_socket(pair[0], server_side=True) as server:
        shut_reading(server)
        with contextlib.suppress(OSError):
            assert server.recv(1) == b""
            server.sendall(b"too slow")
    asking.join(20)
    assert b"too slow" not in b"".join(raw)


def test_a_process_that_was_forked_unseen_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off = CutOff()
    ours, theirs = socket.socketpair()
    with ours, theirs, cut_off._lock:
        cut_off._reading[object()] = (0.0, 0.0, ours)  # type: ignore[assignment]
        monkeypatch.setattr(_fork, "_watched", {1: lambda: cut_off})
        monkeypatch.setattr(_fork, "pid", -1)
        _fork.check_process()
        # Here no thread of the parent lets go of its lock.
        assert not cut_off._lock.locked()
        assert not cut_off._reading
