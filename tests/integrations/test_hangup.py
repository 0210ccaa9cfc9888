"""A caller that has hung up is seen on the connection, and its call is not started."""

from __future__ import annotations

import io
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from catga_sync import Mediator, create_cluster
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.context import CallContext
from catga_sync.discovery import MemoryDiscovery
from catga_sync.errors import Delivery, ErrorCode
from catga_sync.hooks import ServedDetails
from catga_sync.integrations import _hangup
from catga_sync.integrations._hangup import hung_up
from catga_sync.integrations.flask import cluster_blueprint
from catga_sync.integrations.wsgi import ClusterMiddleware, raw_request
from catga_sync.nodes import ClusterNode
from catga_sync.serialization import MessageRegistry
from catga_sync.transport import create_invoker
from tests.conftest import require_module
from tests.contracts.receiver import Call, GetUser, User, batch, envelope, invocation
from tests.processes import until

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["poll", "peek"])
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """Both ends of a TCP connection: the server's, the caller's."""
    if request.param == "peek":
        monkeypatch.setattr(_hangup, "_END_OF_STREAM", 0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        caller = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with server, caller:
        yield server, caller


def test_a_caller_that_waits_has_not_hung_up(pair: Pair) -> None:
    assert not hung_up(pair[0])


def test_a_caller_that_has_sent_its_next_request_already_has_not_hung_up_and_it_stays_unread(pair: Pair) -> None:
    server, caller = pair
    caller.sendall(b"POST")
    assert not hung_up(server)
    assert server.recv(10) == b"POST"


def test_a_caller_that_has_closed_its_connection_has_hung_up(pair: Pair) -> None:
    server, caller = pair
    caller.close()
    until(lambda: hung_up(server), "it is seen")


def test_a_half_closed_connection_counts_as_hung_up(pair: Pair) -> None:
    server, caller = pair
    caller.shutdown(socket.SHUT_WR)
    until(lambda: hung_up(server), "it is seen")


def test_a_connection_that_was_reset_counts_as_hung_up(pair: Pair) -> None:
    server, caller = pair
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    caller.close()
    until(lambda: hung_up(server), "it is seen")


def test_of_a_socket_that_is_closed_here_nothing_is_said(pair: Pair) -> None:
    pair[0].close()
    assert not hung_up(pair[0])


def test_a_body_that_was_cut_off_here_as_its_last_byte_came_is_not_taken_for_a_caller_that_has_hung_up(
    pair: Pair,
) -> None:
    server, _ = pair
    raw = raw_request({"REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO(), "gunicorn.socket": server})
    assert raw.end_at is not None
    assert raw.hung_up is not None
    call_off = raw.end_at(0.0)
    until(lambda: hung_up(server), "the reading side is shut")
    assert call_off()
    assert not raw.hung_up()


def test_a_socket_with_a_timeout_is_not_waited_for_and_keeps_it(pair: Pair) -> None:
    pair[0].settimeout(600.0)
    assert not hung_up(pair[0])
    assert pair[0].gettimeout() == 600.0


def test_hanging_up_is_seen_through_tls(pair: Pair) -> None:
    trustme = require_module("trustme")
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority = trustme.CA()
    authority.issue_cert("localhost").configure_cert(ours)
    authority.configure_trust(theirs)
    wrapped: list[ssl.SSLSocket] = []
    shaking = threading.Thread(
        target=lambda: wrapped.append(theirs.wrap_socket(pair[1], server_hostname="localhost")), daemon=True
    )
    shaking.start()
    with ours.wrap_socket(pair[0], server_side=True) as server:
        shaking.join(20)
        (caller,) = wrapped
        with caller:
            assert not hung_up(server)
        until(lambda: hung_up(server), "it is seen")


@pytest.mark.parametrize("lent", ["gunicorn.socket", "werkzeug.socket"])
def test_the_servers_that_lend_their_socket_let_it_be_seen(lent: str) -> None:
    server, caller = socket.socketpair()
    environ = {"REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO()}
    with server, caller:
        raw = raw_request({**environ, lent: server})
        assert raw.hung_up is not None
        assert not raw.hung_up()
        caller.close()
        assert raw.hung_up()
        # The connection of HTTP/2 is not one caller's alone, and another server shows none at all.
        assert raw_request({**environ, lent: server, "SERVER_PROTOCOL": "HTTP/2"}).hung_up is None
    assert raw_request(environ).hung_up is None


# -- what comes of it --------------------------------------------------------------------------------------------------


@pytest.fixture
def ran() -> list[Any]:
    return []


@pytest.fixture
def node(ran: list[Any]) -> Iterator[ClusterMediator]:
    local = Mediator()

    def get_user(request: GetUser) -> User:
        ran.append(request)
        return User(request.user_id, "Ada")

    local.register(GetUser, get_user)
    made = create_cluster(local, node_id="node-1", discovery=MemoryDiscovery(), insecure=True)
    with made:
        yield made


def served(node: ClusterMediator, way: str) -> Any:
    if way == "middleware":
        return ClusterMiddleware(lambda environ, start_response: [], node)
    app = Flask(__name__)
    app.register_blueprint(cluster_blueprint(node))
    return app.wsgi_app


def environ_of(call: Call, sock: socket.socket) -> dict[str, Any]:
    assert isinstance(call.body, bytes)
    return {
        "REQUEST_METHOD": "POST",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "5001",
        "HTTP_HOST": "localhost:5001",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "http",
        "PATH_INFO": call.path,
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(call.body)),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": io.BytesIO(call.body),
        "gunicorn.socket": sock,
    }


@pytest.mark.parametrize("way", ["middleware", "flask"])
@pytest.mark.parametrize("make", [invocation, lambda **changes: batch(envelope(**changes))], ids=["alone", "batch"])
def test_the_call_of_a_caller_that_has_hung_up_is_refused_unexecuted_and_the_log_says_so(
    node: ClusterMediator, ran: list[Any], way: str, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = served(node, way)
    server, caller = socket.socketpair()
    heads: list[Any] = []
    with server, caller:
        assert b"".join(app(environ_of(make(requestId=str(len(heads))), server), lambda *head: heads.append(head)))
        assert len(ran) == 1
        caller.close()
        app(environ_of(make(requestId=str(len(heads))), server), lambda *head: heads.append(head))
    assert len(ran) == 1
    assert dict(heads[-1][1])["Catga-Executed"] == "0"
    assert "code=CANCELLED: the caller has closed its side of the connection before the call was started" in caplog.text


class Exchanges(list[ServedDetails]):
    """A hook that keeps what it is told of exchanges."""

    on_served = list.append


@pytest.mark.parametrize("way", ["middleware", "flask"])
def test_a_response_that_nobody_is_there_to_read_is_not_told_as_a_success(way: str) -> None:
    """The caller hangs up while the handler runs: the call has run, and no response was written."""
    exchanges, local = Exchanges(), Mediator()
    server, caller = socket.socketpair()
    leaving = False

    def get_user(request: GetUser) -> User:
        if leaving:
            caller.close()
        return User(request.user_id, "Ada")

    local.register(GetUser, get_user)
    with (
        server,
        caller,
        create_cluster(local, discovery=MemoryDiscovery(), insecure=True, hooks=[exchanges]) as node,
    ):
        app = served(node, way)
        for number in range(2):
            leaving = number == 1
            app(environ_of(invocation(requestId=str(number)), server), lambda *head: None)
    there, gone = exchanges
    assert (there.status, there.refusals) == (200, ())
    assert there.bytes_out > 0
    assert (gone.status, gone.refusals, gone.bytes_out) == (499, (), 0)


def test_a_caller_that_gives_up_hangs_up_at_its_deadline() -> None:
    """What the receiver relies on: no connection of a call whose time is up stays open."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        node = ClusterNode("slow", f"http://127.0.0.1:{listener.getsockname()[1]}")
        invoker = create_invoker(MessageRegistry())
        try:
            for timeout in (0.05, 1.0, 20.0):
                result = invoker.invoke(node, GetUser("7"), timeout=timeout, call=CallContext("r-1"))
                if result.delivery is Delivery.UNKNOWN:
                    break  # else the time was up before it was sent, as on a busy machine
            assert (result.code, result.delivery) == (ErrorCode.DEADLINE_EXCEEDED, Delivery.UNKNOWN)
            server, _ = listener.accept()
            with server:
                until(lambda: hung_up(server), "the caller has hung up")
        finally:
            invoker.close()
