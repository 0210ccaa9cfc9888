"""A proxy that loses, cuts and repeats what it carries, by chance: HTTP/1.1 between callers and one node.

with bad_proxy(port, random.Random(1), share=0.2) as proxy:
    ...call the node at proxy.endpoint; proxy.done counts each kind of fault...
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator

__all__ = ["FAULTS", "BadProxy", "bad_proxy"]

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_BARE_502 = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"


class BadProxy:
    """
    What carries requests to one port. Thread-safe.

    Args:
        port: Of the node, on this machine.
        rng: Draws the faults.
        share: The share of the requests that are treated badly.
    """

    def __init__(self, port: int, rng: random.Random, share: float) -> None:
        self.endpoint = ""
        #: How often each fault was done.
        self.done: Counter[str] = Counter()
        self._port = port
        self._rng = rng
        self._share = share
        self._lock = threading.Lock()
        self._copies: list[threading.Timer] = []

    def serve(self, caller: socket.socket) -> None:
        """Carry the requests of one connection until one end closes it."""
        with contextlib.suppress(OSError), caller:
            while (request := _message(caller)) is not None:
                fault = self._draw() if request.startswith(b"POST ") else None
                response = self._response(request) if fault is None else FAULTS[fault](self, request)
                if response is None:
                    return
                caller.sendall(response)
                if fault is not None and fault.startswith("cut"):
                    return

    def _draw(self) -> str | None:
        with self._lock:
            if self._rng.random() >= self._share:
                return None
            fault = self._rng.choice(list(FAULTS))
            self.done[fault] += 1
            return fault

    def _response(self, request: bytes) -> bytes | None:
        """Carry a request, and return the response; None when the node closes without one."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=20.0) as node:
            node.sendall(request)
            return _message(node)

    def _cut_before(self, request: bytes) -> None:
        return None

    def _cut_within(self, request: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self._port), timeout=20.0) as node:
            node.sendall(request[: len(request) - 10])

    def _cut_after(self, request: bytes) -> None:
        self._response(request)

    def _cut_response(self, request: bytes) -> bytes | None:
        response = self._response(request)
        return None if response is None else response[: len(response) // 2]

    def _twice(self, request: bytes) -> bytes | None:
        """Carry it two times, one after the other; the caller sees the first response."""
        response = self._response(request)
        self._response(request)
        return response

    def _twice_at_once(self, request: bytes) -> bytes | None:
        copy = threading.Thread(target=self._quietly, args=(request,), daemon=True)
        copy.start()
        response = self._response(request)
        copy.join()
        return response

    def _later(self, request: bytes) -> bytes | None:
        """Carry it once more after a second, when the node may be another process."""
        copy = threading.Timer(1.0, self._quietly, args=(request,))
        self._copies.append(copy)
        copy.start()
        return self._response(request)

    def settle(self) -> None:
        """Wait until all is carried that is to be carried later."""
        for copy in self._copies:
            copy.join()

    def _quietly(self, request: bytes) -> None:
        with contextlib.suppress(OSError):
            self._response(request)

    def _bare_502(self, request: bytes) -> bytes:
        return _BARE_502

    def _bare_502_after(self, request: bytes) -> bytes:
        self._response(request)
        return _BARE_502


FAULTS: dict[str, Callable[[BadProxy, bytes], bytes | None]] = {
    "cut before": BadProxy._cut_before,
    "cut within": BadProxy._cut_within,
    "cut after": BadProxy._cut_after,
    "cut response": BadProxy._cut_response,
    "twice": BadProxy._twice,
    "twice at once": BadProxy._twice_at_once,
    "again later": BadProxy._later,
    "502 before": BadProxy._bare_502,
    "502 after": BadProxy._bare_502_after,
}


@contextlib.contextmanager
def bad_proxy(port: int, rng: random.Random, *, share: float) -> Iterator[BadProxy]:
    """Carry what comes to ``proxy.endpoint`` to a port of this machine until the block is left."""
    proxy = BadProxy(port, rng, share)
    open_sockets: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        proxy.endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def accept() -> None:
            while True:
                try:
                    caller, _ = listener.accept()
                except OSError:
                    return
                caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                open_sockets.append(caller)
                threading.Thread(target=proxy.serve, args=(caller,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.settle()
            # Closing a socket does not wake up a thread that waits for it.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in open_sockets:
                each.close()


def _message(sock: socket.socket) -> bytes | None:
    """Return a request or response with its body, as its Content-Length tells it; None when there is no whole one."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = sock.recv(65536)
        if not piece:
            return None
        got += piece
    head = got.index(b"\r\n\r\n") + 4
    length = _LENGTH.search(got, 0, head)
    whole = head + (0 if length is None else int(length[1]))
    while len(got) < whole:
        piece = sock.recv(65536)
        if not piece:
            return None
        got += piece
    return got
