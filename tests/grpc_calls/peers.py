"""Peers that speak HTTP/2 byte by byte, and do at one stage of a call what no good server does."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

__all__ = ["Peer", "Stage", "raw_peer"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class Peer:
    """One connection of a caller."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.sock.recv(size - len(data))
            if not piece:
                raise ConnectionError
            data += piece
        return data

    def settings(self) -> None:
        """Take part in the beginning of HTTP/2: after it grpcio counts the connection as READY."""
        self.read(len(PREFACE))
        self.sock.sendall(frame(SETTINGS, 0, 0))

    def until(self, kind: int) -> int:
        """Read frames up to one of this kind; return its stream."""
        while True:
            head = self.read(9)
            self.read(int.from_bytes(head[:3], "big"))
            if head[3] == SETTINGS and not head[4]:
                self.sock.sendall(frame(SETTINGS, 1, 0))
            if head[3] == kind:
                return int.from_bytes(head[5:9], "big") & 0x7FFFFFFF


#: What a peer does with a connection; it is closed afterwards.
Stage = Callable[[Peer], object]


@contextlib.contextmanager
def raw_peer(stage: Stage) -> Iterator[str]:
    """Serve each connection by ``stage``; yield the endpoint."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        open_now: list[socket.socket] = []
        threads: list[threading.Thread] = []

        def serve(sock: socket.socket) -> None:
            with sock, contextlib.suppress(OSError):
                stage(Peer(sock))

        def accept() -> None:
            while True:
                try:
                    sock, _ = server.accept()
                except OSError:
                    return
                open_now.append(sock)
                threads.append(threading.Thread(target=serve, args=(sock,), daemon=True))
                threads[-1].start()

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield f"grpc://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for sock in open_now:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            acceptor.join(10)
            for thread in threads:
                thread.join(10)
