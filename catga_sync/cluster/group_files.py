"""The files that the processes of a node on this machine share, and the locks on them.

Rules of this file:
1. ``flock`` belongs to the open file, and so to every process that has inherited it.
2. Nothing is concluded from a file that is missing or new.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catga_sync._runtime_dir import identity, open_private
from catga_sync.errors import ConfigurationError

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows: no gunicorn there either, so a node is one process.
    fcntl = None

__all__ = ["CAN_LOCK", "GroupFiles", "lock_alone", "lock_shared", "write_if_alone"]

#: Whether this system has the locks.
CAN_LOCK = fcntl is not None
#: Checks before the group counts as not empty: a check by another process holds the lock for a moment, too.
_EMPTY_CHECKS = 4
#: Bytes of a file that are read.
_LONGEST_TEXT = 64
#: Seconds within which every process of a node locks a recreated file: longer than any step takes.
_SETTLED = 5.0


class GroupFiles:
    """
    The files of one node in a folder. Thread-safe: it has no state.

    Args:
        folder: The folder.
        key: The same in all processes of the node, and different in every other node.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._stem = folder / hashlib.sha256(key.encode("utf-8")).hexdigest()[:32]

    def open(self, kind: str) -> int:
        """Return a descriptor of a file, which is made if it is not there."""
        return open_private(self._path(kind), make=True)

    def has(self, fd: int, kind: str) -> bool:
        """Return whether a descriptor still belongs to the file of that name, which may have been recreated."""
        return identity(fd) == identity(self._path(kind))

    def is_free(self, kind: str) -> bool | None:
        """Return whether no process holds a lock on a file; None when there is no such file of this user."""
        try:
            fd = open_private(self._path(kind), make=False)
        except (OSError, ConfigurationError):
            return None
        try:
            return lock_alone(fd)
        finally:
            os.close(fd)

    def is_settled(self, kind: str, now: float) -> bool:
        """Return whether the time for all processes to lock the recreated file is over."""
        text = self.read(kind)
        # A later time is from before a reboot.
        return bool(text) and not now < float(text or 0) <= now + _SETTLED

    def note_new(self, kind: str, now: float) -> None:
        """Record in an empty file when it counts as settled; see ``is_settled``."""
        if not self.read(kind):
            self.write(kind, str(now + _SETTLED))

    def read(self, kind: str) -> str | None:
        """Return the text of a file; None where there is none."""
        try:
            fd = open_private(self._path(kind), make=False)
        except (OSError, ConfigurationError):
            return None
        try:
            return os.pread(fd, _LONGEST_TEXT, 0).decode("ascii", "replace")
        except OSError:
            return None
        finally:
            os.close(fd)

    def write(self, kind: str, text: str) -> None:
        """Write the text of a file."""
        fd = self.open(kind)
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, text.encode("ascii"), 0)
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the lock for joining or leaving, since ``flock`` cannot turn one lock into another in one step."""
        while True:
            fd = self.open("turn")
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                if self.has(fd, "turn"):
                    os.utime(fd)
                    yield
                    return
            finally:
                os.close(fd)

    def _path(self, kind: str) -> Path:
        return self._stem.with_name(f"{self._stem.name}.{kind}")


def lock_alone(fd: int) -> bool:
    """Lock an open file for this descriptor alone; return False, at once, where another one has a lock on it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def lock_shared(fd: int) -> None:
    """Lock an open file together with other descriptors; wait while one has it alone."""
    fcntl.flock(fd, fcntl.LOCK_SH)


def write_if_alone(fd: int, text: str) -> None:
    """Write a text into an open file if no process of the node has a lock on it."""
    for _ in range(_EMPTY_CHECKS):
        if lock_alone(fd):
            os.pwrite(fd, text.encode("ascii"), 0)
            return
        # A member has the lock, or for a moment the check of another process.
        threading.Event().wait(0.002)
