"""Seeing on the connection that a caller has hung up, at servers that lend their socket.

Nothing is taken off the connection: what is on it may be the next request. A caller that has closed its sending side
only ("half-closed") counts as well; no HTTP client needs that, and the two cannot be told apart before a write fails.
"""

from __future__ import annotations

import select
import socket
from typing import Any

__all__ = ["hung_up"]

#: Linux tells the end of the stream apart from data that is still to be read; 0 elsewhere.
_END_OF_STREAM: int = getattr(select, "POLLRDHUP", 0)


def hung_up(sock: Any) -> bool:
    """Return whether the peer of a connected socket, over TLS or not, has closed its side. Waits for nothing."""
    if not hasattr(select, "poll"):  # Windows
        return False
    poller = select.poll()
    try:
        # Errors are reported without being asked for: a connection that was reset is gone, too.
        poller.register(sock, _END_OF_STREAM or select.POLLIN)
        return bool(poller.poll(0)) and (bool(_END_OF_STREAM) or _at_end(sock))
    except ConnectionError:
        return True
    except (OSError, ValueError):  # closed in this process, which is no doing of the caller's
        return False


def _at_end(sock: Any) -> bool:
    """Return whether there is no next byte; it stays where it is. An end behind unread data is not seen this way."""
    # The plain method of an SSLSocket's base: it looks at the encrypted bytes, which do as well.
    return not socket.socket.recv(sock, 1, socket.MSG_PEEK)
