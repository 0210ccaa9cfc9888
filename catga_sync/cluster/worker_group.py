"""The processes of one node on this machine: which ones there are, which one leads, and which one leaves last.

A node is not a worker: ``gunicorn -w 4`` is one node. Its processes agree through a few files of one folder:

    <node>.members   every process that serves holds a shared lock; the first one writes a new incarnation into it
    <node>.leader    one process holds it exclusively; that one sends the heartbeats
    <node>.busy      every process that serves holds a shared lock until it is drained and idle
    <node>.drain     holds the incarnation that is to be drained
    <node>.told      holds the incarnation whose start has been logged
    <node>.turn      held for a moment by the process that joins or leaves

The kernel releases the locks of a process that has ended, however it ended, so locks show which processes are alive.

Rules of this file:
1. ``flock`` belongs to the open file: a forked child inherits it. ``after_fork_in_child`` closes the child's copy,
   which leaves the parent's lock as it was.
2. An exclusive lock on ``members`` can be had only when no process of the node is left; it is held for
   microseconds, by a newcomer that finds itself the first, a leaver that finds itself the last, or an asker.
3. A lock counts as long as its file has its name, since cleaners of temporary files remove files that are locked.
   ``tend`` recreates missing files and touches the others. Processes with different incarnations agree on the one in
   the file.
4. Nothing is concluded from a file that is missing or new. A file shows that all processes are idle only after every
   process of the node has had time to lock it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

from catga_sync import _fork
from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync.cluster.group_files import CAN_LOCK, GroupFiles, lock_alone, lock_shared, write_if_alone
from catga_sync.errors import ConfigurationError

__all__ = ["WorkerGroup", "any_process_of", "group_key"]

_log = logging.getLogger(__name__)


class WorkerGroup:
    """
    This process among the processes of its node. Thread-safe.

    Args:
        folder: The folder of the lock files, or a function that returns it, called in the process that joins. Made when
            first needed, for this user only.
        key: The same in all processes of the node, and different in every other node.
        clock: Tells how long a file has been there; the same for all processes. None means the system's.

    .. versionadded:: 0.1
    """

    def __init__(self, folder: Path | Callable[[], Path], key: str, *, clock: Clock | None = None) -> None:
        self._folder = folder
        self._key = key
        self._clock = SYSTEM_CLOCK if clock is None else clock
        self._lock = threading.Lock()
        # Guarded by _lock: the files, their descriptors, the incarnation, and the wish to drain.
        self._files: GroupFiles | None = None
        self._held: dict[str, int] = {}
        self._incarnation = ""
        self._drain_wished = False
        self._idle = False
        #: The run of the node that this process knows to be told of.
        self._told = ""
        #: Why the files could not be tended the last time.
        self._problem: str | None = None
        _fork.watch(self)

    @property
    def joined(self) -> bool:
        """Whether this process is counted among those that serve."""
        return bool(self._incarnation)

    @property
    def incarnation(self) -> str:
        """32 hex digits, the same in all processes of this run of the node; "" before ``join``."""
        return self._incarnation

    @property
    def present(self) -> str:
        """The incarnation of the node, also for a process that has not joined; "" when no process of it has."""
        if self._incarnation or not CAN_LOCK:
            return self._incarnation
        try:
            files = self._open_files()
        except (OSError, ConfigurationError):
            return ""
        return (files.read("members") or "")[:32] if files.is_free("members") is False else ""

    def join(self) -> str:
        """
        Count this process among those that serve; return the incarnation.

        Raises:
            ConfigurationError: The folder, or a file in it, is not this user's own.
        """
        with self._lock:
            if self._incarnation:
                return self._incarnation
            self._idle = self._drain_wished = False
            if CAN_LOCK:
                try:
                    self._files = self._open_files()
                    self._tend_locked(self._files)
                except OSError as exc:
                    self._close_all_locked()
                    self._files = None
                    _log.warning(
                        "CATGA_RUNTIME_DIR: the lock files cannot be used, so this process counts as the whole node; "
                        "set it to a folder that can be written to: %s", exc,
                    )  # fmt: skip
                except BaseException:
                    self._let_go_locked()
                    raise
            # Not before it is sure: others read it without the lock, and no process is to name a run of its own.
            self._incarnation = self._incarnation or uuid.uuid4().hex
            return self._incarnation

    def lead(self) -> bool:
        """Return whether this process leads the node; become the leader if there is none."""
        with self._lock:
            if not self._incarnation or self._files is None:
                return bool(self._incarnation)
            self._tend_quietly_locked()
            if "leader" not in self._held:
                self._try_to_lead_locked(self._files)
            return "leader" in self._held

    def tell_start(self) -> bool:
        """Return whether the start of this run is to be logged: True once for all processes. Only the leader asks."""
        with self._lock:
            if self._told == self._incarnation:
                return False
            self._told = self._incarnation
            # A file that cannot be used costs a second line in the log, and nothing else.
            with contextlib.suppress(OSError, ConfigurationError):
                if self._files is not None:
                    if self._files.read("told") == self._incarnation:
                        return False
                    self._files.write("told", self._incarnation)
            return True

    def leave(self) -> bool:
        """Stop counting this process; return whether it was the last one of the node."""
        with self._lock:
            if not self._incarnation:
                return False
            files = self._files
            members = self._held.pop("members", None)
            self._let_go_locked()
            if members is None or files is None:
                return True
            try:
                with files.turn():
                    if not files.has(members, "members") and files.is_free("members") is False:
                        return False
                    return lock_alone(members)
            except OSError:
                return False
            finally:
                os.close(members)

    def tend(self) -> None:
        """Recreate missing files in the folder, and touch the others, so that cleaners leave them."""
        with self._lock:
            self._tend_quietly_locked()

    def wish_drain(self) -> None:
        """Ask all processes of this run of the node to go offline."""
        with self._lock:
            self._drain_wished = True
            if self._files is not None and self._incarnation:
                self._files.write("drain", self._incarnation)

    def drain_is_wished(self) -> bool:
        """Return whether this run of the node is to go offline. Asked often, it tends the files as well."""
        if not self._incarnation or self._files is None:
            return self._drain_wished
        self.tend()
        return self._drain_wished

    def say_idle(self) -> None:
        """Record that this process is idle and takes no new call."""
        with self._lock:
            self._idle = True
            self._close_locked("busy")

    def all_idle(self) -> bool:
        """Return whether every process of the node is idle and takes no new call."""
        files = self._files
        if files is None:
            return self._idle or not self._incarnation
        return files.is_free("busy") is True and files.is_settled("busy", self._clock.monotonic())

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``. The parent's file locks are dropped without touching them."""
        self._lock = threading.Lock()
        self._let_go_locked()

    def _open_files(self) -> GroupFiles:
        return GroupFiles(self._folder() if callable(self._folder) else self._folder, self._key)

    def _close_all_locked(self) -> None:
        for kind in list(self._held):
            self._close_locked(kind)

    def _let_go_locked(self) -> None:
        self._close_all_locked()
        self._files = None
        self._incarnation = ""
        self._drain_wished = False

    def _close_locked(self, kind: str) -> None:
        fd = self._held.pop(kind, None)
        if fd is not None:
            with contextlib.suppress(OSError):
                os.close(fd)

    def _tend_quietly_locked(self) -> None:
        problem = None
        if self._files is not None:
            try:
                self._tend_locked(self._files)
            except (OSError, ConfigurationError) as exc:
                problem = str(exc)
        if problem and problem != self._problem:
            _log.warning("the lock files of this node cannot be kept; its processes may lose each other: %s", problem)
        self._problem = problem

    def _tend_locked(self, files: GroupFiles) -> None:
        for kind, fd in list(self._held.items()):
            if files.has(fd, kind):
                os.utime(fd)
            else:
                self._close_locked(kind)
        if "members" not in self._held:
            self._enter_locked(files)
        # Another process may have written it: one that has come while the file was missing.
        self._incarnation = os.pread(self._held["members"], 32, 0).decode("ascii", "replace")
        if "busy" not in self._held:
            files.note_new("busy", self._clock.monotonic())
            if not self._idle:
                self._held["busy"] = files.open("busy")
                lock_shared(self._held["busy"])
        if files.read("drain") == self._incarnation:
            self._drain_wished = True
        elif self._drain_wished:
            files.write("drain", self._incarnation)

    def _enter_locked(self, files: GroupFiles) -> None:
        """Lock the file of the members. The first process writes its run into it; the others take the run from it."""
        with files.turn():
            fd = files.open("members")
            self._held["members"] = fd
            write_if_alone(fd, self._incarnation or uuid.uuid4().hex)
            lock_shared(fd)

    def _try_to_lead_locked(self, files: GroupFiles) -> None:
        try:
            fd = files.open("leader")
        except OSError:
            return
        if lock_alone(fd):
            self._held["leader"] = fd
        else:
            os.close(fd)


def group_key(cluster_name: str, node_id: str, endpoint: str) -> str:
    """Return the key of a node's group, the same in all its processes."""
    return f"{cluster_name}\n{node_id}\n{endpoint}"


def any_process_of(folder: Path, key: str) -> bool | None:
    """Return whether any process of the node is there; None when it cannot be determined."""
    free = GroupFiles(folder, key).is_free("members") if CAN_LOCK else None
    return None if free is None else not free
