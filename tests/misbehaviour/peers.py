"""Peers that misbehave, one function each, on a real socket of 127.0.0.1.

    with serving(never_answers) as peer:
        ...invoke the node at peer.endpoint...

A function gets one accepted connection and an event that is set when the test is over.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

__all__ = ["GRPC", "PEERS", "Peer", "read_request", "reply", "serving"]

Script = Callable[[socket.socket, threading.Event], None]

#: The scripts of peers that are called over gRPC.
GRPC: set[Script] = set()


@dataclass
class Peer:
    """A listening peer and what has reached it."""

    endpoint: str
    #: One entry a request: its head and body as they came.
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0


@contextlib.contextmanager
def serving(script: Script, *, tls: ssl.SSLContext | None = None) -> Iterator[Peer]:
    """Listen until the block is left; run ``script`` on every connection, each in a thread of its own."""
    over = threading.Event()
    threads: list[threading.Thread] = []
    accepted: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        scheme = "grpc" if script in GRPC else "http" if tls is None else "https"
        peer = Peer(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}")

        def run(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                if tls is None:
                    script(_Recorded(connection, peer), over)  # type: ignore[arg-type]
                    return
                connection.getpeername()  # raises for one that has gone; wrap_socket() would leave its socket behind
                with tls.wrap_socket(connection, server_side=True) as wrapped:
                    script(_Recorded(wrapped, peer), over)  # type: ignore[arg-type]

        def accept() -> None:
            while not over.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                peer.connections += 1
                accepted.append(connection)
                threads.append(threading.Thread(target=run, args=(connection,), daemon=True))
                threads[-1].start()

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield peer
        finally:
            over.set()
            for each in (listener, *accepted):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
    for thread in (acceptor, *threads):
        thread.join(5)


class _Recorded:
    """A socket that notes the requests it has read."""

    def __init__(self, connection: socket.socket, peer: Peer) -> None:
        self._connection = connection
        self.peer = peer

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


def read_request(connection: socket.socket) -> bytes:
    """Read one whole request; return it, or b"" when the caller has closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    length = int(found[1]) if found else 0
    while len(body) < length:
        piece = connection.recv(65536)
        if not piece:
            return b""
        body += piece
    whole = head + b"\r\n\r\n" + body
    connection.peer.requests.append(whole)  # type: ignore[attr-defined]
    return whole


def reply(request: bytes, *, status: str = "200 OK", headers: str = "", **changes: object) -> bytes:
    """Return a whole HTTP answer to a request, with an envelope that says success unless ``changes`` say otherwise."""
    asked = json.loads(request.partition(b"\r\n\r\n")[2] or b"{}")
    envelope = {
        "requestId": asked.get("requestId"),
        "isSuccess": True,
        "payloadData": "bnVsbA==",
        "errorMessage": None,
        "processedByNodeId": "peer",
        "processingTimeMs": 1,
        **changes,
    }
    body = json.dumps(envelope).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def answers(connection: socket.socket, over: threading.Event) -> None:
    while request := read_request(connection):
        connection.sendall(reply(request))


def never_answers(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    over.wait()


def drips_its_head(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 10_000:
        connection.sendall(bytes([byte]))
        if over.wait(0.05):
            return


def drips_its_body(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    while not over.wait(0.05):
        connection.sendall(b"x")


def sends_endless_continues(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    while not over.wait(0.001):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def sends_an_endless_chunk_size(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not over.is_set():
        connection.sendall(b"0" * 65536)


def answers_garbage(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    connection.sendall(b"\x00\xff garbage, no HTTP at all\r\n\r\n")


def answers_a_web_page(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>")


def answers_a_bare_503(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")


def closes_at_once(connection: socket.socket, over: threading.Event) -> None:
    connection.close()


def closes_after_the_request(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    connection.close()


def closes_half_way(connection: socket.socket, over: threading.Event) -> None:
    request = read_request(connection)
    connection.sendall(reply(request)[:-20])
    connection.close()


def resets_after_the_request(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    _reset(connection)


def redirects(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 307 Temporary\r\nLocation: http://127.0.0.1:9/elsewhere\r\nContent-Length: 0\r\n\r\n")
    over.wait()


def answers_another_request(connection: socket.socket, over: threading.Event) -> None:
    request = read_request(connection)
    connection.sendall(reply(request, requestId="somebody-elses"))
    over.wait()


def fails_as_dotnet_does(connection: socket.socket, over: threading.Event) -> None:
    request = read_request(connection)
    nobody = {"requestId": "unknown", "isSuccess": False, "payloadData": None, "processedByNodeId": None}
    connection.sendall(
        reply(request, status="500 Internal Server Error", errorMessage="Object reference not set", **nobody)
    )
    over.wait()


def sends_a_huge_answer(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    while not over.is_set():
        connection.sendall(b" " * 65536)


def answers_with_wrong_types(connection: socket.socket, over: threading.Event) -> None:
    request = read_request(connection)
    connection.sendall(reply(request, isSuccess="yes", processingTimeMs=[]))


def has_two_lengths(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n12345")


def _closes_after(connection: socket.socket, length: str) -> None:
    """Answer well, with such a Content-Length; the end of the connection would end the answer if it had none."""
    request = read_request(connection)
    head, _, body = reply(request).partition(b"\r\n\r\n")
    head = re.sub(rb"Content-Length: \d+", b"Content-Length: " + length.encode(), head)
    connection.sendall(head + b"\r\n\r\n" + body)
    connection.close()


def has_a_negative_length(connection: socket.socket, over: threading.Event) -> None:
    _closes_after(connection, "-5")


def has_a_length_in_letters(connection: socket.socket, over: threading.Event) -> None:
    _closes_after(connection, "abc")


def has_an_empty_length(connection: socket.socket, over: threading.Event) -> None:
    _closes_after(connection, "")


def answers_compressed(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    bomb = gzip.compress(b" " * 5_000_000, 1)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    connection.sendall(head.encode() + bomb)
    over.wait()


def claims_to_be_compressed(connection: socket.socket, over: threading.Event) -> None:
    while request := read_request(connection):
        connection.sendall(reply(request, headers="Content-Encoding: br\r\n"))


def sends_endless_hints(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    while not over.is_set():
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 50)


def switches_protocols(connection: socket.socket, over: threading.Event) -> None:
    request = read_request(connection)
    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\n\r\n" + reply(request))
    over.wait()


def refuses_truthfully(connection: socket.socket, over: threading.Event) -> None:
    request = read_request(connection)
    answer = reply(
        request,
        status="503 Service Unavailable",
        headers="Catga-Executed: 0\r\n",
        isSuccess=False,
        payloadData=None,
        errorMessage="going offline",
        errorCode="UNAVAILABLE",
    )
    connection.sendall(answer)


#: peer -> (delivery, code) that a call of it must end with, whatever the request.
PEERS: dict[Script, tuple[str, str]] = {
    never_answers: ("UNKNOWN", "DEADLINE_EXCEEDED"),
    drips_its_head: ("UNKNOWN", "DEADLINE_EXCEEDED"),
    drips_its_body: ("UNKNOWN", "DEADLINE_EXCEEDED"),
    sends_endless_continues: ("UNKNOWN", "UNAVAILABLE"),
    sends_endless_hints: ("UNKNOWN", "UNAVAILABLE"),
    switches_protocols: ("UNKNOWN", "INTERNAL"),
    sends_an_endless_chunk_size: ("UNKNOWN", "UNAVAILABLE"),
    answers_garbage: ("UNKNOWN", "UNAVAILABLE"),
    answers_a_web_page: ("UNKNOWN", "INTERNAL"),
    answers_a_bare_503: ("UNKNOWN", "UNAVAILABLE"),
    closes_after_the_request: ("UNKNOWN", "UNAVAILABLE"),
    closes_half_way: ("UNKNOWN", "UNAVAILABLE"),
    resets_after_the_request: ("UNKNOWN", "UNAVAILABLE"),
    redirects: ("UNKNOWN", "UNAVAILABLE"),
    answers_another_request: ("UNKNOWN", "INTERNAL"),
    fails_as_dotnet_does: ("UNKNOWN", "INTERNAL"),
    sends_a_huge_answer: ("UNKNOWN", "RESOURCE_EXHAUSTED"),
    answers_with_wrong_types: ("UNKNOWN", "INTERNAL"),
    has_two_lengths: ("UNKNOWN", "UNAVAILABLE"),
    has_a_negative_length: ("UNKNOWN", "UNAVAILABLE"),
    has_a_length_in_letters: ("UNKNOWN", "UNAVAILABLE"),
    has_an_empty_length: ("UNKNOWN", "UNAVAILABLE"),
    answers_compressed: ("UNKNOWN", "INTERNAL"),
    claims_to_be_compressed: ("UNKNOWN", "INTERNAL"),
    refuses_truthfully: ("NOT_EXECUTED", "UNAVAILABLE"),
}
