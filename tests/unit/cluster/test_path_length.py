"""How many functions of this package one call runs: what a call costs that no benchmark of a busy machine shows.

A number that has grown is a step that was added to every call. Make it a part of another step, or do it once for each
type or node; where neither is possible, raise the number here and say what for.
"""

from __future__ import annotations

import contextlib
import io
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import CodeType, FrameType
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

import catga_sync
from catga_sync import ClusterMediator, Mediator, Request, _server_info, create_cluster
from catga_sync.integrations.wsgi import ClusterMiddleware
from tests.channels import lending
from tests.processes import free_port, until

_PACKAGE = catga_sync.__path__[0]


@dataclass(frozen=True)
class Ask(Request[str]):
    text: str


def answer(request: Ask) -> str:
    return request.text


class _KeepAlive(BaseHTTPRequestHandler):
    """Serves an app and keeps the connection, which the development servers of Flask and Python do not."""

    protocol_version = "HTTP/1.1"
    app: Any

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        environ = {
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": self.path,
            "REMOTE_ADDR": self.client_address[0],
            "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "wsgi.input": io.BytesIO(body),
            **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in self.headers.items()},
        }
        setup_testing_defaults(environ)

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            self.send_response_only(int(status[:3]))
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()

        self.wfile.write(b"".join(self.app(environ, start_response)))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@contextlib.contextmanager
def _node(**options: Any) -> Iterator[str]:
    """Serve a node that handles ``Ask``; yield its endpoint."""
    local = Mediator()
    local.register(Ask, answer)
    with ThreadingHTTPServer(("127.0.0.1", 0), _KeepAlive) as server:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        with create_cluster(local, node_id="node", endpoint=endpoint, discovery="memory://", **options) as node:
            server.RequestHandlerClass = type("Handler", (_KeepAlive,), {"app": ClusterMiddleware(_nothing, node)})
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield endpoint
            finally:
                server.shutdown()
                thread.join(10)


def _nothing(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("404 Not Found", [("Content-Length", "0")])
    return []


def _functions_until_sent(caller: ClusterMediator) -> list[str]:
    """Return the functions of the package that a send runs until the last byte of the request is handed over."""
    ran: dict[CodeType, None] = {}
    until_sent: list[CodeType] = []

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(_PACKAGE):
            ran[frame.f_code] = None
        elif event == "c_call" and argument.__name__ in ("send", "sendall"):
            until_sent[:] = ran if isinstance(argument.__self__, socket.socket) else until_sent

    sys.setprofile(watch)
    try:
        result = caller.send(Ask("tea"))
    finally:
        sys.setprofile(None)
    assert result.unwrap() == "tea"
    return [f"{code.co_filename.removeprefix(_PACKAGE)}:{code.co_firstlineno} {code.co_name}" for code in until_sent]


@pytest.mark.parametrize(("options", "most"), [({"insecure": True}, 40), ({"secret": "s" * 32}, 49), ({}, 49)])
def test_a_warm_send_runs_few_functions_until_its_last_byte_is_sent(options: dict[str, Any], most: int):
    with _node(**options) as endpoint:
        peers = {"node": endpoint}
        with create_cluster(Mediator(), node_id="caller", discovery="static", peers=peers, **options) as caller:
            caller.start()
            for _ in range(3):  # the first ones connect, compile and look who is there
                assert caller.send(Ask("tea")).unwrap() == "tea"
            # Some steps come once a second at most, and not with each send: a look at the key, a new connection.
            functions = min((_functions_until_sent(caller) for _ in range(5)), key=len)
    # Below a dozen nothing was watched: another tool profiles this thread.
    assert 12 < len(functions) <= most, f"{len(functions)} functions:\n" + "\n".join(functions)


@pytest.mark.parametrize(("options", "most"), [({"insecure": True}, 43), ({"secret": "s" * 32}, 45)])
def test_a_warm_send_over_a_stream_makes_few_calls(options: dict[str, Any], most: int, monkeypatch: pytest.MonkeyPatch):
    local = Mediator()
    local.register(Ask, answer)
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    # What other tests of this process have noticed of a server is not known here.
    monkeypatch.setattr(_server_info, "_info", [_server_info.ServerInfo()])
    monkeypatch.setattr(_server_info, "_noticed", [])
    with (
        create_cluster(local, node_id="node", endpoint=endpoint, discovery="memory://", **options) as node,
        lending.serving(ClusterMiddleware(_nothing, node), port),
        create_cluster(
            Mediator(), node_id="caller", discovery="static", peers={"node": endpoint}, stream="on", **options
        ) as caller,
    ):
        until(lambda: caller.send(Ask("tea")) and "over a stream" in str(caller.explain(Ask("tea"))), "a stream")
        for _ in range(3):
            assert caller.send(Ask("tea")).unwrap() == "tea"
        made = min((_calls(caller) for _ in range(5)), key=len)
    assert 12 < len(made) <= most, f"{len(made)} calls:\n" + "\n".join(made)


class _Watches:
    """A hook that does nothing."""

    def on_send(self, details: Any) -> Any:
        return id

    on_attempt = on_handle = on_send


def _calls(node: ClusterMediator) -> list[str]:
    """Return the calls of functions of the package that a send makes in this thread."""
    made: list[CodeType] = []

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(_PACKAGE):
            made.append(frame.f_code)

    sys.setprofile(watch)
    try:
        result = node.send(Ask("tea"))
    finally:
        sys.setprofile(None)
    assert result.unwrap() == "tea"
    return [f"{code.co_filename.removeprefix(_PACKAGE)}:{code.co_firstlineno} {code.co_name}" for code in made]


@contextlib.contextmanager
def _handles_it(router: str) -> Iterator[ClusterMediator]:
    local = Mediator()
    local.register(Ask, answer)
    with create_cluster(local, node_id="node", router=router, discovery="memory://", environ={}) as node:
        node.start()
        yield node


def test_a_warm_send_to_a_handler_of_this_process_makes_few_calls_where_there_is_nothing_to_choose():
    with _handles_it("local-first") as node:
        for _ in range(3):
            node.send(Ask("tea"))
        made = min((_calls(node) for _ in range(5)), key=len)
    assert 5 < len(made) <= 16, f"{len(made)} calls:\n" + "\n".join(made)


@pytest.mark.parametrize(("router", "most"), [("local-first", 28), ("round-robin", 46)])
def test_a_hook_adds_a_few_calls_to_a_warm_send_to_a_handler_of_this_process(router: str, most: int):
    with _handles_it(router) as node:
        node.add_hook(_Watches())
        for _ in range(3):
            node.send(Ask("tea"))
        made = min((_calls(node) for _ in range(5)), key=len)
    # Each of the three methods of a hook costs the hook's call, what begins and ends it, and what names the result.
    assert 12 < len(made) <= most, f"{len(made)} calls:\n" + "\n".join(made)


def test_a_send_that_goes_through_the_routers_makes_few_calls():
    with _handles_it("round-robin") as node:
        for _ in range(3):
            node.send(Ask("tea"))
        made = min((_calls(node) for _ in range(5)), key=len)
    assert 12 < len(made) <= 31, f"{len(made)} calls:\n" + "\n".join(made)
