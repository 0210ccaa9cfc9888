"""The floor: the least that a request over HTTP can cost under the server that catga_sync runs in.

A WSGI app without a framework, under the same gunicorn, and a caller that writes bytes to a socket and reads until the
response is whole.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.bench.messages import Ask, Told, answer
from benchmarks.bench.peers import Asking
from benchmarks.bench.servers import gunicorn


def command(port: int) -> list[str]:
    return gunicorn("benchmarks.bench.peers.floor:app", port)


@contextlib.contextmanager
def connect(port: int, callers: int) -> Iterator[list[Asking]]:
    with contextlib.ExitStack() as stack:

        def asking() -> Asking:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 30.0))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: ".encode()

            def ask(text: str) -> Told:
                body = json.dumps({"text": Ask(text).text}).encode()
                connection.sendall(head + str(len(body)).encode() + b"\r\n\r\n" + body)
                return Told(json.loads(_body(connection))["text"])

            return ask

        yield [asking() for _ in range(callers)]


def _body(connection: socket.socket) -> bytes:
    """Read one response."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += _piece(connection)
    head, _, body = raw.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += _piece(connection)
    return body


def _piece(connection: socket.socket) -> bytes:
    piece = connection.recv(64 * 1024)
    if not piece:
        raise ConnectionError("the server has closed the connection")
    return piece


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    """Return the same text, for gunicorn."""
    text = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))["text"]
    body = json.dumps({"text": answer(Ask(text)).text}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
