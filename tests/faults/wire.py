"""A wire that fails: it stands in front of a node, and cuts, doubles, delays or replaces what goes over it.

    with wired(node.port, random.Random(1)) as wire:
        wire.faults = CUTS

Only calls are touched, those by POST and those over a stream: a node is described over a whole wire.
"""

from __future__ import annotations

import contextlib
import random
import re
import select
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from catga_sync.wire.frames import CALL
from tests.faults.listening import listening

__all__ = ["BARE", "CUTS", "DOUBLES", "ON_STREAMS", "Wire", "wired"]

CUTS = ("cut before", "cut in request", "cut after request", "cut in response")
DOUBLES = ("double on one connection", "double on two connections")
BARE = ("delay", "502 before", "502 after")

#: What can happen to a call over a stream: there is no status in its place.
ON_STREAMS = (*CUTS, *DOUBLES, "delay")

_CALL = bytes([CALL])
_UPGRADE = b"GET /catga/cluster/stream "
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
                if request.startswith(_UPGRADE):
                    self._carry_upgrade(request, caller, node)
                    return
                if not self._carry(request, caller, node):
                    return

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=20.0)

    def _carry(self, request: bytes, caller: socket.socket, node: socket.socket) -> bool:
        fault = self._choose(self.faults if request.startswith(b"POST") else ())
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

    def _carry_upgrade(self, upgrade: bytes, caller: socket.socket, node: socket.socket) -> None:
        node.sendall(upgrade)
        caller.sendall(_read(node))
        doomed = ""
        while True:
            # In both directions by turns: a node says on its own that it is going.
            for sock in select.select([caller, node], [], [])[0]:
                frame = _read_frame(sock)
                if not frame:
                    return
                if sock is caller:
                    doomed = self._carry_call(frame, upgrade, node)
                    if doomed in ("cut before", "cut in request"):
                        return
                elif doomed == "cut after request":
                    return
                elif doomed == "cut in response":
                    caller.sendall(frame[: self._rng.randrange(len(frame))])
                    return
                else:
                    caller.sendall(frame)

    def _carry_call(self, frame: bytes, upgrade: bytes, node: socket.socket) -> str:
        """Return the fault that the call has met."""
        fault = self._choose([each for each in self.faults if each in ON_STREAMS] if frame[4:5] == _CALL else ())
        if fault == "cut before":
            return fault
        if fault == "cut in request":
            node.sendall(frame[: self._rng.randrange(1, len(frame))])
            return fault
        if fault == "delay":
            # The delay is the fault.
            time.sleep(self._rng.uniform(0.02, 0.3))
        node.sendall(frame)
        if fault == "double on one connection":
            node.sendall(frame)
        if fault == "double on two connections":
            with self._connect() as other:
                other.sendall(upgrade)
                if _read(other).startswith(b"HTTP/1.1 101 "):
                    # The number of the first call of a stream: it is one in the other stream.
                    other.sendall(frame[:5] + (1).to_bytes(4, "big") + frame[9:])
                    _read_frame(other)
        return fault

    def _choose(self, faults: Sequence[str]) -> str:
        fault = self._rng.choice(faults) if faults and self._rng.random() < _SHARE else ""
        self.met[fault] += 1
        return fault


def _read_frame(sock: socket.socket) -> bytes:
    """Return one whole frame, or what there was of it."""
    kept = b""
    left = 4
    while left > 0 and (piece := sock.recv(left)):
        kept += piece
        left = 4 + (int.from_bytes(kept[:4], "big") if len(kept) >= 4 else 0) - len(kept)
    return kept


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
