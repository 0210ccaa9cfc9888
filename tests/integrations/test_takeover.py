"""Taking a connection over from a server that lends it: what the server keeps, and what the app may say about it."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import flask
import pytest

import catga_sync
from catga_sync import ClusterMediator, Mediator, Request, _server_info, create_cluster
from catga_sync.integrations.flask import cluster_blueprint
from catga_sync.integrations.wsgi import ClusterMiddleware
from catga_sync.wire.frames import FrameReader, read_response
from tests.channels.lending import serving
from tests.processes import free_port, until


@dataclass(frozen=True)
class Ask(Request[str]):
    text: str


@pytest.fixture(autouse=True)
def _unknown_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests of this process have noticed of a server is not known here, and the other way round."""
    monkeypatch.setattr(_server_info, "_info", [_server_info.ServerInfo()])
    monkeypatch.setattr(_server_info, "_noticed", [])


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def node(port: int) -> Iterator[ClusterMediator]:
    local = Mediator()
    local.register(Ask, lambda request: request.text)
    endpoint = f"http://127.0.0.1:{port}"
    with create_cluster(local, node_id="n1", endpoint=endpoint, discovery="memory://", environ={}) as mediator:
        yield mediator


@pytest.fixture
def caller(port: int) -> Iterator[ClusterMediator]:
    peers = {"n1": f"http://127.0.0.1:{port}"}
    with create_cluster(Mediator(), node_id="caller", discovery="static", peers=peers, environ={}) as mediator:
        yield mediator


def described(caller: ClusterMediator) -> frozenset[str]:
    """Return the features of the node, once it has described itself."""
    until(lambda: any("batch" in each.features for each in caller.nodes()), "the node describes itself")
    return caller.nodes()[0].features


def flask_app(node: ClusterMediator) -> flask.Flask:
    app = flask.Flask(__name__)
    app.register_blueprint(cluster_blueprint(node))
    return app


@pytest.mark.parametrize("kind", ["blueprint", "middleware"])
def test_the_server_keeps_a_socket_that_is_connected_to_nobody(
    node: ClusterMediator, caller: ClusterMediator, port: int, kind: str
) -> None:
    app = flask_app(node) if kind == "blueprint" else ClusterMiddleware(lambda environ, start: [b""], node)
    with serving(app, port) as handler:
        assert "stream/1" in described(caller)
        handler.connected.clear()
        assert caller.send(Ask("tea")).unwrap() == "tea"
        assert caller.send(Ask("milk")).unwrap() == "milk"
        assert "over a stream" in str(caller.explain(Ask("x")))
        assert node.receiver.streams.open_streams == 1
        until(lambda: handler.connected.count(False) == 1, "the server has its books right")
    # The stream outlives the request, and the server that has lent it.
    assert caller.send(Ask("sugar")).unwrap() == "sugar"


def _functions_until_sent(caller: ClusterMediator) -> list[str]:
    """Return the functions of the package that a send runs until the last byte of the call is handed over."""
    package = catga_sync.__path__[0]
    ran: dict[CodeType, None] = {}
    until_sent: list[CodeType] = []

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(package):
            ran[frame.f_code] = None
        elif event == "c_call" and argument.__name__ == "send":
            until_sent[:] = ran if isinstance(argument.__self__, socket.socket) else until_sent

    sys.setprofile(watch)
    try:
        result = caller.send(Ask("tea"))
    finally:
        sys.setprofile(None)
    assert result.unwrap() == "tea"
    return [f"{code.co_filename.removeprefix(package)}:{code.co_firstlineno} {code.co_name}" for code in until_sent]


def test_a_warm_send_over_a_stream_runs_few_functions_until_its_last_byte_is_sent(
    node: ClusterMediator, caller: ClusterMediator, port: int
) -> None:
    with serving(ClusterMiddleware(lambda environ, start: [b""], node), port):
        assert "stream/1" in described(caller)
        for _ in range(3):
            assert caller.send(Ask("tea")).unwrap() == "tea"
        functions = min((_functions_until_sent(caller) for _ in range(5)), key=len)
    # By POST there are 54, and 128 of libraries. Below a dozen nothing was watched: another tool profiles this thread.
    assert 12 < len(functions) <= 46, f"{len(functions)} functions:\n" + "\n".join(functions)


def test_a_hook_of_the_app_that_refuses_the_upgrade_has_its_way(
    node: ClusterMediator, caller: ClusterMediator, port: int
) -> None:
    app = flask_app(node)
    seen = []

    @app.before_request
    def only_posts() -> None:
        seen.append(flask.request.path)
        if flask.request.path.endswith("/stream"):
            flask.abort(403)

    with serving(app, port):
        assert "stream/1" in described(caller)
        assert caller.send(Ask("tea")).unwrap() == "tea"
        assert "403" in str(caller.explain(Ask("x")))
    assert "/catga/cluster/stream" in seen
    assert node.receiver.streams.open_streams == 0


@pytest.mark.parametrize("how", ["another response", "another status"])
def test_a_hook_of_the_app_that_replaces_the_response_refuses_the_stream(
    node: ClusterMediator, caller: ClusterMediator, port: int, how: str
) -> None:
    app = flask_app(node)

    @app.after_request
    def change(response: flask.Response) -> flask.Response:
        if flask.request.path.endswith("/stream"):
            if how == "another response":
                return flask.Response("no", status=418)
            response.status_code = 418
        return response

    with serving(app, port):
        described(caller)
        assert caller.send(Ask("tea")).unwrap() == "tea"
        assert "418" in str(caller.explain(Ask("x")))
    assert node.receiver.streams.open_streams == 0


def test_a_server_that_lends_nothing_offers_no_streams(
    node: ClusterMediator, caller: ClusterMediator, port: int
) -> None:
    with serving(ClusterMiddleware(lambda environ, start: [b""], node), port, lends=False):
        assert caller.send(Ask("tea")).unwrap() == "tea"


def test_the_upgrade_is_refused_as_a_call_is(node: ClusterMediator, port: int) -> None:
    app = ClusterMiddleware(lambda environ, start: [b""], node)
    with serving(app, port):

        def ask(*lines: str) -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
                head = ["GET /catga/cluster/stream HTTP/1.1", f"Host: 127.0.0.1:{port}", *lines, "", ""]
                sock.sendall("\r\n".join(head).encode())
                return sock.recv(65536).split()[1]

        upgrade = ("Connection: Upgrade", "Upgrade: catga-stream/1")
        assert ask(*upgrade) == b"401"
        assert ask(*upgrade, "Catga-Signature: x") == b"401"
    assert node.receiver.streams.open_streams == 0


def test_a_stranger_may_open_a_stream_where_calls_need_no_signature(port: int) -> None:
    local = Mediator()
    local.register(Ask, lambda request: request.text)
    entry = local.registry.ensure(Ask)
    endpoint = f"http://127.0.0.1:{port}"
    with (
        create_cluster(
            local, node_id="n1", endpoint=endpoint, discovery="memory://", insecure=True, environ={}
        ) as node,
        serving(ClusterMiddleware(lambda environ, start: [b""], node), port),
    ):
        head = (
            f'{{"catga-request-type": "{entry.name}", "catga-response-type": "{entry.response_name}", '
            '"catga-request-id": "r-1", "catga-timestamp-ms": "1", "catga-unknown": "is ignored"}'
        ).encode()
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            lines = ["GET /catga/cluster/stream HTTP/1.1", f"Host: 127.0.0.1:{port}"]
            sock.sendall("\r\n".join([*lines, "Connection: Upgrade", "Upgrade: nonsense", "", ""]).encode())
            assert sock.recv(65536).split()[1] == b"426"
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            sock.sendall("\r\n".join([*lines, "Connection: Upgrade", "Upgrade: catga-stream/1", "", ""]).encode())
            assert sock.recv(65536).endswith(b"\r\n\r\n")
            # Written by hand, as another language would.
            payload = b'{"text":"tea"}'
            size = (9 + len(head) + len(payload)).to_bytes(4, "big")
            sock.sendall(size + b"\x01" + (1).to_bytes(4, "big") + len(head).to_bytes(4, "big") + head + payload)
            reader, frame = FrameReader(None, 1000), None
            while frame is None:
                frame = reader.feed(sock.recv(65536))
            assert frame.payload == b'"tea"'
            assert read_response(frame).executed == "1"
