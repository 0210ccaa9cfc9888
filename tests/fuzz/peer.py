"""A peer that sends whatever it is given: a real server on loopback, in a thread of the process that fuzzes."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator

__all__ = ["Peer"]

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class Peer:
    """
    Read one request on each connection, send the bytes that it is told to, and close the connection.

    It serves for the life of the process; a test closes it.
    """

    def __init__(self) -> None:
        self._response = b""
        self._closed = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, name="peer", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def sending(self, response: bytes) -> Iterator[None]:
        """Respond so to the one request of the block, which is left when the connection is closed."""
        self._response = response
        self._closed.clear()
        yield
        # Else a later request might still find the connection open.
        if not self._closed.wait(10.0):
            raise TimeoutError("the peer was not called, or its connection is open still")

    def close(self) -> None:
        """Serve no longer."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:  # closed
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5.0)
                _read_request(connection)
                connection.sendall(self._response)
            self._closed.set()


def _read_request(connection: socket.socket) -> None:
    """Read all of a request: a server that closes before that resets the connection."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65536)
        if not piece:
            return
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    found = _LENGTH.search(head)
    left = (int(found[1]) if found else 0) - len(body)
    while left > 0 and (piece := connection.recv(65536)):
        left -= len(piece)
