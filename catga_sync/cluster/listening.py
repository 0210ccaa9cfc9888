"""The addresses on which this process listens: they distinguish a server from a process that imports the app."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["listening", "port_of"]


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
    return sorted({each for fd in descriptors for each in _listener(fd)})


def _listener(fd: int) -> Iterator[str]:
    # Another thread may close the descriptor at any moment, but not a copy of it.
    with contextlib.suppress(OSError):
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return
        with socket.socket(fileno=os.dup(fd)) as sock:
            if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return
            name = sock.getsockname()
            if isinstance(name, tuple):
                yield f"[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"
            else:
                yield "a socket of this machine"
