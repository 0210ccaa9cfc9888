"""A wire that is listened to: what callers send to a node goes through, and is kept, to be sent again by anybody.

with tapped(node.port) as tap:
    ...call the node at tap.endpoint...
    replay(tap.requests("/catga/cluster/invoke")[0], node.port)
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import threading
from collections.abc import Iterator

from tests.faults.listening import listening

__all__ = ["Tap", "replay", "tapped"]

_REQUEST = re.compile(rb"(?:GET|POST) (\S+) HTTP/1\.1\r\n(?:[^\r\n]+\r\n)*\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class Tap:
    """What has gone over the wire. Thread-safe."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        #: What callers have sent, one entry a connection.
        self.streams: list[bytearray] = []

    def requests(self, path: str) -> list[bytes]:
        """Return each request for a route, byte for byte."""
        found = []
        for stream in self.streams:
            rest = bytes(stream)
            while (head := _REQUEST.match(rest)) is not None:
                length = _LENGTH.search(head[0])
                end = head.end() + (0 if length is None else int(length[1]))
                if head[1].decode() == path:
                    found.append(rest[:end])
                rest = rest[end:]
        return found


@contextlib.contextmanager
def tapped(port: int) -> Iterator[Tap]:
    """Pass on what comes to ``tap.endpoint`` to a port of this machine until the block is left."""

    def carry(source: socket.socket, target: socket.socket, kept: bytearray) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                kept += piece
                target.sendall(piece)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def serve(caller: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=20.0) as node:
            node.settimeout(None)
            kept = bytearray()
            tap.streams.append(kept)
            back = threading.Thread(target=carry, args=(node, caller, bytearray()))
            back.start()
            carry(caller, node, kept)
            back.join()

    tap = Tap("")
    with listening(serve) as own:
        tap.endpoint = f"http://127.0.0.1:{own}"
        yield tap


def replay(request: bytes, port: int) -> tuple[int, bytes]:
    """Send bytes that were kept to a port; return the status and the body of the response."""
    with socket.create_connection(("127.0.0.1", port), timeout=20.0) as sock:
        sock.sendall(request)
        response = http.client.HTTPResponse(sock)
        response.begin()
        return response.status, response.read()
