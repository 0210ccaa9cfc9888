"""Peers of gRPC that speak HTTP/2 byte by byte: at one stage of a call they do what no good server does.

Each is a function as in ``peers.py``. A call that has reached one is noted as ``b"POST"``; a description is not.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable

from tests.misbehaviour.peers import GRPC, Script

__all__ = ["GRPC_PEERS", "never_speaks"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionError
        data += piece
    return data


def _begin(connection: socket.socket) -> None:
    """Take part in the beginning of HTTP/2: after it grpcio counts the connection as READY."""
    _read(connection, len(PREFACE))
    connection.sendall(frame(SETTINGS, 0, 0))


def _until(connection: socket.socket, kind: int) -> int:
    """Read up to the first frame of this kind of a call; return its stream."""
    call = None
    while True:
        head = _read(connection, 9)
        payload = _read(connection, int.from_bytes(head[:3], "big"))
        stream = int.from_bytes(head[5:9], "big") & 0x7FFFFFFF
        if head[3] == SETTINGS and not head[4]:
            connection.sendall(frame(SETTINGS, 1, 0))
        if head[3] == HEADERS and b"/Invoke" in payload:
            call = stream
            connection.peer.requests.append(b"POST")  # type: ignore[attr-defined]
        if head[3] == kind and stream == call:
            return stream


def closes_before_it_speaks(connection: socket.socket, over: threading.Event) -> None:
    connection.close()


def never_speaks(connection: socket.socket, over: threading.Event) -> None:
    while connection.recv(1000):
        pass


def speaks_http1(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    never_speaks(connection, over)


def never_answers_over_grpc(connection: socket.socket, over: threading.Event) -> None:
    _begin(connection)
    _until(connection, DATA)
    never_speaks(connection, over)


def _after(kind: int, name: str, *then: Callable[[int], bytes]) -> Script:
    """Return a peer that sends something after the first frame of this kind of a call, and closes."""

    def script(connection: socket.socket, over: threading.Event) -> None:
        _begin(connection)
        stream = _until(connection, kind)
        for each in then:
            connection.sendall(each(stream))

    script.__name__ = name
    return script


def _refuses(stream: int) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack(">I", 7))


def _has_not_taken(stream: int) -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0))


def _breaks(stream: int) -> bytes:
    return frame(DATA, 0, 0, b"x")


#: peer -> (delivery, code) that a call of it must end with. Before there is a connection nothing is sent, and once a
#: call has begun nothing is proven.
GRPC_PEERS: dict[Script, tuple[str, str]] = {
    closes_before_it_speaks: ("NOT_EXECUTED", "UNAVAILABLE"),
    speaks_http1: ("NOT_EXECUTED", "UNAVAILABLE"),
    never_speaks: ("NOT_EXECUTED", "UNAVAILABLE"),
    never_answers_over_grpc: ("UNKNOWN", "DEADLINE_EXCEEDED"),
    _after(HEADERS, "closes_at_the_head"): ("UNKNOWN", "UNAVAILABLE"),
    _after(DATA, "closes_at_the_body"): ("UNKNOWN", "UNAVAILABLE"),
    _after(HEADERS, "refuses_the_head", _refuses): ("UNKNOWN", "UNAVAILABLE"),
    _after(DATA, "refuses_the_body", _refuses): ("UNKNOWN", "UNAVAILABLE"),
    _after(DATA, "goes_away", _has_not_taken): ("UNKNOWN", "UNAVAILABLE"),
    _after(DATA, "breaks_the_protocol", _breaks): ("UNKNOWN", "UNAVAILABLE"),
}
GRPC.update(GRPC_PEERS)
