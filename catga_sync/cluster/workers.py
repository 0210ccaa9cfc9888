"""The processes of one node on this machine: who is there, who speaks for the node, who is the last to leave.

A node is not a worker: ``gunicorn -w 4`` is one node. Its processes agree through a few files of one folder:

    <node>.members   every process that serves holds a shared lock; the first one writes a new incarnation into it
    <node>.leader    one process holds it exclusively; that one sends the heartbeats
    <node>.busy      every process that serves holds a shared lock until it is drained and idle
    <node>.drain     holds the incarnation that is to be drained
    <node>.turn      held by whoever joins or leaves, for a moment

The kernel lets go of a dead process's locks, however it died, so nobody has to be asked who is alive.

Rules of this file:
1. ``flock`` belongs to the open file: a forked child inherits it. ``forget`` closes the child's copy, which
   leaves the parent's lock as it was.
2. An exclusive lock on ``members`` can be had only when no process of the node is left; it is held for
   microseconds, by a newcomer that finds itself the first, a leaver that finds itself the last, or an asker.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catga_sync.folders import ensure_private

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows: no gunicorn there either, so a node is one process.
    fcntl = None

__all__ = ["WorkerGroup", "any_process_of", "group_key"]

#: How often a newcomer looks whether the group is really not empty; an asker may hold the lock for a moment.
_LOOKS = 4


class WorkerGroup:
    """
    This process's place among the processes of its node. Thread-safe.

    Args:
        folder: Where the lock files are; made when first needed, for this user only.
        key: What all processes of the node have in common and no other node has.

    .. versionadded:: 0.1
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder = folder
        self._stem = _stem(folder, key)
        self._lock = threading.Lock()
        # Guarded by _lock: the descriptors, the incarnation, and the wish to drain where there are no locks.
        self._members: int | None = None
        self._leader: int | None = None
        self._busy: int | None = None
        self._incarnation = ""
        self._drain_wished = False

    @property
    def joined(self) -> bool:
        """Whether this process is counted among those that serve."""
        return bool(self._incarnation)

    @property
    def incarnation(self) -> str:
        """32 hex digits, the same in all processes of this run of the node; "" before ``join``."""
        return self._incarnation

    def join(self) -> str:
        """Count this process among those that serve; return the incarnation."""
        with self._lock:
            if self._incarnation:
                return self._incarnation
            if fcntl is None:
                self._incarnation = uuid.uuid4().hex
                return self._incarnation
            fd = _open(self._folder, self._stem, "members")
            try:
                with _turn(self._folder, self._stem):
                    _name_if_first(fd)
                    fcntl.flock(fd, fcntl.LOCK_SH)
                    incarnation = os.pread(fd, 32, 0).decode("ascii", "replace")
            except BaseException:
                os.close(fd)
                raise
            self._members, self._incarnation = fd, incarnation
            self._busy = _open(self._folder, self._stem, "busy")
            fcntl.flock(self._busy, fcntl.LOCK_SH)
            return incarnation

    def lead(self) -> bool:
        """Return whether this process speaks for the node; become the one that does if there is none."""
        with self._lock:
            if fcntl is None or self._leader is not None:
                return bool(self._incarnation)
            if not self._incarnation:
                return False
            fd = _open(self._folder, self._stem, "leader")
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(fd)
                return False
            self._leader = fd
            return True

    def leave(self) -> bool:
        """Stop counting this process; return whether it was the last one of the node."""
        with self._lock:
            if not self._incarnation:
                return False
            self._incarnation = ""
            self._drain_wished = False
            leader, self._leader = self._leader, None
            members, self._members = self._members, None
            busy, self._busy = self._busy, None
            for fd in (leader, busy):
                if fd is not None:
                    os.close(fd)
            if members is None or fcntl is None:
                return True
            try:
                with _turn(self._folder, self._stem):
                    fcntl.flock(members, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            finally:
                os.close(members)
            return True

    # -- draining -------------------------------------------------------------------------------------------------

    def wish_drain(self) -> None:
        """Have all processes of this run of the node go offline."""
        self._drain_wished = True
        if fcntl is None or not self._incarnation:
            return
        fd = _open(self._folder, self._stem, "drain")
        try:
            os.pwrite(fd, self._incarnation.encode("ascii"), 0)
        finally:
            os.close(fd)

    def drain_is_wished(self) -> bool:
        """Return whether this run of the node is to go offline."""
        if self._drain_wished or not self._incarnation or fcntl is None:
            return self._drain_wished
        with contextlib.suppress(OSError):
            self._drain_wished = _path(self._stem, "drain").read_text("ascii") == self._incarnation
        return self._drain_wished

    def say_idle(self) -> None:
        """Say that this process has nothing left to do, and takes nothing new."""
        with self._lock:
            busy, self._busy = self._busy, None
        if busy is not None:
            os.close(busy)

    def all_idle(self) -> bool:
        """Return whether every process of the node has said so."""
        if fcntl is None:
            return self._busy is None
        return _is_free(_path(self._stem, "busy")) is not False

    def forget(self) -> None:
        """In a forked child: drop the parent's locks without touching them."""
        self._lock = threading.Lock()
        descriptors = [fd for fd in (self._members, self._leader, self._busy) if fd is not None]
        self._members = self._leader = self._busy = None
        self._incarnation = ""
        self._drain_wished = False
        for fd in descriptors:
            with contextlib.suppress(OSError):
                os.close(fd)


def group_key(cluster_name: str, node_id: str, endpoint: str) -> str:
    """Return what all processes of a node have in common and no other node has."""
    return f"{cluster_name}\n{node_id}\n{endpoint}"


def any_process_of(folder: Path, key: str) -> bool | None:
    """Return whether any process of the node is there; None when this machine cannot tell."""
    if fcntl is None:
        return None
    free = _is_free(_path(_stem(folder, key), "members"))
    return None if free is None else not free


def _is_free(path: Path) -> bool | None:
    """Return whether nobody holds a lock on the file; None when there is no such file."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _stem(folder: Path, key: str) -> Path:
    return folder / hashlib.sha256(key.encode("utf-8")).hexdigest()[:32]


def _path(stem: Path, kind: str) -> Path:
    return stem.with_name(f"{stem.name}.{kind}")


def _open(folder: Path, stem: Path, kind: str) -> int:
    ensure_private(folder)
    return os.open(_path(stem, kind), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o600)


@contextlib.contextmanager
def _turn(folder: Path, stem: Path) -> Iterator[None]:
    """Let one process at a time join or leave: a lock of the system cannot be turned into another in one step."""
    fd = _open(folder, stem, "turn")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _name_if_first(fd: int) -> None:
    """Write a new incarnation if no process of the node is there."""
    for _ in range(_LOOKS):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # A member, or somebody who asks, for a moment.
            threading.Event().wait(0.002)
            continue
        os.pwrite(fd, uuid.uuid4().hex.encode("ascii"), 0)
        return
