"""Writing to a socket that does not block, by a given time."""

from __future__ import annotations

import contextlib
import select
import socket
import time

__all__ = ["NotTaken", "send_all"]


class NotTaken(TimeoutError):
    """The time was up before the kernel had taken all; nothing else raises it."""


def send_all(sock: socket.socket, data: bytes, until: float) -> None:
    """
    Write all of the data, or raise.

    Args:
        sock: Connected, and set not to block.
        data: The bytes.
        until: Monotonic time at which it ends.

    Raises:
        NotTaken: The time was up before the kernel had taken all.
        OSError: The connection is broken; the kernel has not taken all.
    """
    try:
        sent = sock.send(data)
    except BlockingIOError:
        sent = 0
    if sent == len(data):
        return
    rest = memoryview(data)[sent:]
    poller = select.poll()
    poller.register(sock, select.POLLOUT)
    while rest:
        left = until - time.monotonic()
        if left <= 0 or not poller.poll(left * 1000.0 + 1.0):
            raise NotTaken("the data was not taken in time")
        with contextlib.suppress(BlockingIOError):
            rest = rest[sock.send(rest) :]
