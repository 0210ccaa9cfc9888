"""A wire that fails: it stands in front of a node, and cuts, doubles, delays or replaces what goes over it.

    with wired(node.port, random.Random(1)) as wire:
        wire.faults = CUTS

Only calls (POST) are touched: a node is described over a whole wire.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator

from tests.faults.listening import listening

__all__ = ["BARE", "CUTS", "DOUBLES", "Wire", "wired"]

CUTS = ("cut before", "cut in request", "cut after request", "cut in response")
DOUBLES = ("double on one connection", "double on two connections")
BARE = ("delay", "502 before", "502 after")

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_502 = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
#: The share of calls that meet a fault.
_SHARE = 0.4


class Wire:
    """
    What fails on the way to one node. Thread-safe; ``faults`` may be set at any time.

    Args:
        port: Of the node.
        rng: Chooses.
    """

    def __init__(self, port: int, rng: random.Random) -> None:
        self._port = port
        self._rng = rng
        self.endpoint = ""
        self.faults: tuple[str, ...] = ()
        #: How often each fault came.
        self.met: Counter[str] = Counter()

    def serve(self, caller: socket.socket) -> None:
        """Carry the requests of one connection until it ends."""
        with self._connect() as node:
            while request := _read(caller):
                if not self._carry(request, caller, node):
                    return

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=20.0)

    def _carry(self, request: bytes, caller: socket.socket, node: socket.socket) -> bool:
        faults = self.faults if request.startswith(b"POST") else ()
        fault = self._rng.choice(faults) if faults and self._rng.random() < _SHARE else ""
        self.met[fault] += 1
        if fault == "cut before":
            return False
        if fault == "cut in request":
            node.sendall(request[: self._rng.randrange(1, len(request))])
            return False
        if fault == "502 before":
            caller.sendall(_502)
            return False
        if fault == "delay":
            # The delay is the fault.
            time.sleep(self._rng.uniform(0.02, 0.3))
        if fault == "double on two connections":
            with self._connect() as other:
                other.sendall(request)
                node.sendall(request)
                _read(other)
                response = _read(node)
        else:
            node.sendall(request)
            if fault == "cut after request" and self._rng.random() < 0.5:
                return False  # the node may see that nobody is there any more
            response = _read(node)
            if fault == "double on one connection":
                # A server that threads need not read what comes before its response.
                node.sendall(request)
                _read(node)
        if fault == "cut after request":
            return False
        if fault == "502 after":
            caller.sendall(_502)
            return False
        if fault == "cut in response":
            caller.sendall(response[: self._rng.randrange(len(response))] if response else b"")
            return False
        caller.sendall(response)
        return bool(response)


def _read(sock: socket.socket) -> bytes:
    """Return one whole message, or what there was of it; b"" when the other side has closed."""
    kept = b""
    while (end := kept.find(b"\r\n\r\n")) < 0:
        piece = sock.recv(65536)
        if not piece:
            return kept
        kept += piece
    length = _LENGTH.search(kept[: end + 2])
    whole = end + 4 + (0 if length is None else int(length[1]))
    while len(kept) < whole and (piece := sock.recv(65536)):
        kept += piece
    return kept


@contextlib.contextmanager
def wired(port: int, rng: random.Random) -> Iterator[Wire]:
    """Put a wire in front of a port of this machine until the block is left."""
    wire = Wire(port, rng)
    with listening(wire.serve) as own:
        wire.endpoint = f"http://127.0.0.1:{own}"
        yield wire
