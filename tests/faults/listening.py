"""A port at which each connection is served in a thread of its own, as a proxy or a peer of the tests does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

__all__ = ["listening"]


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """
    Serve connections until the block is left; then they are shut down, and their threads have ended.

    Args:
        serve: Called with each connection, which is closed when it returns. An ``OSError`` ends it.
    """
    serving: dict[threading.Thread, socket.socket] = {}

    def run(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            serve(sock)

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=run, args=(sock,))
            serving[thread] = sock
            thread.start()

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            # Closing a socket does not wake up the thread that waits for it.
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread, sock in serving.items():
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                thread.join()
