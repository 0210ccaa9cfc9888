"""Connections over TLS keep the deadline, and a forked child leaves those of its parent alone, whatever the session."""

from __future__ import annotations

import ctypes
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
import requests

from catga_sync import Delivery, ErrorCode
from tests.conftest import require_module
from tests.misbehaviour import peers
from tests.misbehaviour.calls import Order, few_ways, invoke, invoking, result_of_a_request_received
from tests.misbehaviour.peers import serving


def in_a_child(check: Callable[[], bool], fork: Callable[[], int] = os.fork) -> bool:
    """Return what ``check`` returns in a forked child."""
    child = fork()
    if child == 0:
        try:
            os._exit(0 if check() else 1)
        except BaseException:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def fork_in_c() -> int:
    """
    Fork without a word to Python.

    The child has no other thread. If one had just asked for the interpreter, the child waits for ever until that one
    has had it (drop_gil in CPython's ceval_gil.h). So none may ask now, and those that have asked get it before.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60.0)
    try:
        threading.Event().wait(4 * interval)
        return int(ctypes.PyDLL(None).fork())
    finally:
        sys.setswitchinterval(interval)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@few_ways
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_opens_connections_of_its_own(
    make: Callable[[], requests.Session | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    connect = socket.socket.connect

    def noting(self: socket.socket, address: object) -> None:
        opened.append(self.fileno())
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr("socket.socket.connect", noting)
    with serving(peers.answers) as peer, invoking(make()) as invoker:
        assert invoke(invoker, peer.endpoint, Order(), keep_alive=60.0)
        (descriptor,) = opened

        def check() -> bool:
            return not is_open(descriptor) and bool(invoke(invoker, peer.endpoint, Order(), keep_alive=60.0))

        assert in_a_child(check)
        # Of this one Python tells nothing.
        assert in_a_child(lambda: bool(invoke(invoker, peer.endpoint, Order(), keep_alive=60.0)), fork_in_c)
        assert peer.connections == 3
        assert invoke(invoker, peer.endpoint, Order(), keep_alive=60.0)
        assert peer.connections == 3


@pytest.fixture(scope="module")
def authority() -> Iterator[tuple[ssl.SSLContext, str]]:
    """What a server needs, and the bundle that a client needs."""
    trustme = require_module("trustme")
    made = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert("127.0.0.1").configure_cert(context)
    with made.cert_pem.tempfile() as bundle:
        yield context, bundle


@few_ways
def test_the_deadline_is_kept_over_tls(
    make: Callable[[], requests.Session | None], authority: tuple[ssl.SSLContext, str]
) -> None:
    context, bundle = authority
    result = result_of_a_request_received(peers.drips_its_head, make, tls=context, verify=bundle)
    assert (result.delivery, result.code) == (Delivery.UNKNOWN, ErrorCode.DEADLINE_EXCEEDED)


@few_ways
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_says_nothing_on_its_parents_tls_connection(
    make: Callable[[], requests.Session | None], authority: tuple[ssl.SSLContext, str]
) -> None:
    context, bundle = authority
    with serving(peers.answers, tls=context) as peer, invoking(make(), verify=bundle) as invoker:
        assert invoke(invoker, peer.endpoint, Order(), keep_alive=60.0)

        def check() -> bool:
            return bool(invoke(invoker, peer.endpoint, Order(), keep_alive=60.0))

        assert in_a_child(check)
        assert invoke(invoker, peer.endpoint, Order(), keep_alive=60.0)
        assert peer.connections == 2
