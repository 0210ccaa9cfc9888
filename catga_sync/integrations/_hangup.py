"""Detects that a caller has closed its connection; for servers that expose their socket.

Nothing is read from the connection: it may hold the next request. A caller that has closed only its sending side
("half-closed") counts as well: no HTTP client does that, and the difference shows only when a write fails.
"""

from __future__ import annotations

import select
import socket
from typing import Any

__all__ = ["hung_up"]

#: Linux reports the end of the stream also behind unread data; 0 elsewhere.
_END_OF_STREAM: int = getattr(select, "POLLRDHUP", 0)


def hung_up(sock: Any) -> bool:
    """Return whether the peer of a connected socket, over TLS or not, has closed its side. Does not block."""
    if not hasattr(select, "poll"):  # Windows
        return False
    poller = select.poll()
    try:
        # Errors are always reported: a connection that was reset is closed, too.
        poller.register(sock, _END_OF_STREAM or select.POLLIN)
        return bool(poller.poll(0)) and (bool(_END_OF_STREAM) or _at_end(sock))
    except ConnectionError:
        return True
    except (OSError, ValueError):  # closed in this process, and not by the caller
        return False


def _at_end(sock: Any) -> bool:
    """Return whether there is no next byte, without reading it. An end behind unread data is not detected."""
    # The method of the base class: for an SSLSocket it looks at the encrypted bytes, which is enough.
    return not socket.socket.recv(sock, 1, socket.MSG_PEEK)
