"""The addresses on which this process listens: they distinguish a server from a process that imports the app."""

from __future__ import annotations

import _socket
import os
import socket
import stat
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["listening", "port_of"]

#: A socket that is looked at stays as it is. Without the flag, a default timeout of the app
#: (``socket.setdefaulttimeout``) makes it non-blocking, as the class of gevent always does.
_AS_IT_IS = socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)


def port_of(endpoint: str) -> int:
    """Return the port of an endpoint, or its scheme's."""
    parts = urlsplit(endpoint)
    return parts.port if parts.port is not None else (443 if parts.scheme == "https" else 80)


def listening() -> list[str]:
    """Return the addresses on which this process listens, as in ``127.0.0.1:5001`` or ``[::1]:5001``."""
    try:
        descriptors = [int(path.name) for path in Path("/dev/fd").iterdir() if path.name.isdigit()]
    except OSError:
        return []
    return sorted({each for each in map(_listener, descriptors) if each is not None})


def _listener(fd: int) -> str | None:
    """Return the address on which a descriptor listens; None where it does not, or is gone."""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return None
        # Another thread may close the descriptor at any moment, and open a file under its number. So there is no copy
        # of it here: closing the copy of a file releases all locks that this process has on it.
        sock = _socket.socket(type=_AS_IT_IS, fileno=fd)
        try:
            if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return None
            name, is_v6 = sock.getsockname(), sock.family == socket.AF_INET6
        finally:
            sock.detach()
    except OSError:
        return None
    if not isinstance(name, tuple):
        return "a socket of this machine"
    return f"[{name[0]}]:{name[1]}" if is_v6 else f"{name[0]}:{name[1]}"
