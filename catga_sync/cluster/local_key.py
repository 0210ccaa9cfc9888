"""The key that the nodes of one user on one machine share without being given a secret.

It stands in the private folder of the user: another user has another one, and so has another container.

Rules of this file:
1. The file is opened by ``_runtime_dir.open_private``, and is empty or whole: it is read and written under its lock.
2. No error shows any of the key, nor leads to an exception that does.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from catga_sync._runtime_dir import RUNTIME_DIR, meeting_folder, open_private, private_file_is_there
from catga_sync.errors import ConfigurationError
from catga_sync.wire.keys import KeyRing

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["LocalKeys"]

_log = logging.getLogger(__name__)

_FILE = "local.key"
_BYTES = 32
#: Which file it is. Not the inode alone: a file system gives that of a removed file to the next one.
_Stamp = tuple[int, int, int]
#: Times that the file is opened again because a cleaner of temporary files has removed it meanwhile.
_TRIES = 5
#: Seconds between two checks of the file. A check releases the interpreter lock, which costs where many threads call.
LOOK_EVERY = 0.5


class LocalKeys:
    """
    The key of this user on this machine: read when it is first needed, and made where there is none.

    Thread-safe, and safe across processes and forks. A server may become another user after it has loaded the app, and
    cleaners of temporary files may remove the key: the file is checked repeatedly.

    Raises:
        ConfigurationError: By what asks for it: it can be neither read nor made, or others may use it. The text starts
            with "secret:" and says what to do.
    """

    def __init__(self) -> None:
        #: The file and its key, and the key before it, with which calls that are on their way are signed.
        self._held: tuple[_Stamp, KeyRing, KeyRing | None] | None = None
        self._told = False
        #: The monotonic time until which it is not checked again, and the user whose key it is.
        self._good_until, self._user = 0.0, -1

    @property
    def key_ids(self) -> tuple[str, ...]:
        """See ``Keys``."""
        return self.present().key_ids

    def knows(self, key_id: str) -> bool:
        """See ``Keys``."""
        if key_id in self.present().key_ids:
            return True
        # Another process may have made it just now, after the former one was removed: check at once.
        self._good_until = 0.0
        return key_id in self.key_ids

    def mac(self, key_id: str, text: bytes) -> str | None:
        """See ``Keys``."""
        held = self._held  # read once: another thread may swap it meanwhile
        if held is None:
            return self.present().mac(key_id, text)
        _, ring, former = held
        made = ring.mac(key_id, text)
        return former.mac(key_id, text) if made is None and former is not None else made

    def check(self) -> None:
        """
        Make sure that the key can be used.

        Not as root: a server that starts as root may become another user, who cannot read files of root.

        Raises:
            ConfigurationError: See above.
        """
        if not hasattr(os, "geteuid") or os.geteuid() != 0:
            self.present()

    @staticmethod
    def is_missing() -> bool:
        """Return whether no process has made the key yet; False where it cannot be used. It makes none."""
        if fcntl is None:
            return False
        try:
            path = meeting_folder() / _FILE
            # A shorter one is no key, see _content().
            return not private_file_is_there(path) or path.stat().st_size < _BYTES
        except (OSError, ConfigurationError):  # what uses it says why
            return False

    def present(self) -> KeyRing:
        """See ``Keys``."""
        if fcntl is None:
            raise ConfigurationError(
                "secret: on this system nodes share no key by themselves; give all of them one secret, or insecure=True"
            )
        held, now, user = self._held, time.monotonic(), os.getuid()
        if held is not None and now < self._good_until and user == self._user:
            return held[1]
        try:
            path = meeting_folder() / _FILE
            if held is None or _stamp(path) != held[0]:
                file, content = _read_or_make(path)
                # Several threads may get here at once; what they find is the same.
                self._held = held = (file, KeyRing(content), None if held is None else held[1])
        except (OSError, ConfigurationError) as exc:
            error = ConfigurationError(
                f"secret: nodes without one share a key in a folder of this user's, and it cannot be used: {exc}. Give "
                f"all nodes the same secret, set {RUNTIME_DIR} to a folder that can be written to, or write "
                f"insecure=True"
            )
            if not self._told:
                self._told = True
                _log.warning("%s", error)
            raise error from exc
        self._good_until, self._user = now + LOOK_EVERY, user
        return held[1]


def _read_or_make(path: Path) -> tuple[_Stamp, bytes]:
    for _ in range(_TRIES):
        fd = open_private(path, make=True)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            content, file = _content(fd), _stamp(fd)
            if file is not None and _stamp(path) == file:
                return file, content
        finally:
            os.close(fd)
    raise OSError(f"{path} is removed again and again")


def _stamp(file: Path | int) -> _Stamp | None:
    """Return which file has a name, or is open as a descriptor; None where there is none. It is written once."""
    try:
        found = os.stat(file)  # noqa: PTH116 - a call on the way of every request: half the time of Path.stat
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _content(fd: int) -> bytes:
    """Return the key in an open file that this process has locked."""
    # One byte more than a key has: a longer file is no key either.
    found = os.pread(fd, _BYTES + 1, 0)
    if len(found) == _BYTES:
        return found
    # Empty, or cut off by a crash of the machine or a full disk: no process has got a key from it.
    made = os.urandom(_BYTES)
    os.ftruncate(fd, 0)
    if os.pwrite(fd, made, 0) != _BYTES:
        raise OSError("the disk is full")
    return made
