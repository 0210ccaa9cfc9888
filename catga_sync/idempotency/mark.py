"""Which store it is: a mark that two nodes have in common only if they remember request ids in the same one.

Two nodes with a file each both say that others share theirs; a plain request that was sent again from one to the other
would run twice.
"""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from urllib.parse import unquote, urlsplit

from catga_sync.nodes import is_loopback_host

__all__ = ["store_mark"]


def store_mark(url: object) -> str:
    """
    Return the mark of a store.

    Args:
        url: ``sqlite:///path``, ``redis://host`` or the like. Of an object that is no text, its user says that every
            node gets the same one.
    """
    if not isinstance(url, str):
        return "given"
    parts = urlsplit(url)
    place, machine = parts.netloc.rpartition("@")[2] + parts.path, ""
    if parts.scheme == "sqlite":
        place = str(Path(unquote(url.removeprefix("sqlite:///"))).resolve())
    if parts.scheme == "sqlite" or is_loopback_host(parts.hostname or "localhost"):
        # A file, and a server under a loopback address, are another one on the next machine or in the next container.
        machine = f"{_boot_id()} {socket.gethostname()}"
    return hashlib.sha256(f"{parts.scheme}\n{machine}\n{place}\n{parts.query}".encode()).hexdigest()[:16]


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return "-"
