"""The key that the nodes of one user on one machine share without being given a secret.

It stands in the private folder of the user: another user has another one, and so has another container.

Rules of this file:
1. The file is opened in the one way of ``folders.py``, and is empty or whole: it is read and written under its lock.
2. No error shows any of the key, nor leads to an exception that does.
"""

from __future__ import annotations

import os
from typing import Any

from catga_sync.errors import ConfigurationError
from catga_sync.folders import RUNTIME_DIR, identity, meeting_folder, open_private
from catga_sync.keys import KeyRing

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["local_keys"]

_FILE = "local.key"
_BYTES = 32
#: Times that the file is opened again because a cleaner of temporary files has removed it meanwhile.
_TRIES = 5


def local_keys() -> KeyRing:
    """
    Return the key of this user on this machine; it is made where there is none. Thread-safe, and safe across processes.

    Ask when it is needed, in the process that needs it: a server may become another user after it has loaded the app.

    Raises:
        ConfigurationError: It can be neither read nor made, or others may read it. The text starts with "secret:" and
            says what to do.
    """
    if fcntl is None:
        raise ConfigurationError(
            "secret: on this system nodes share no key by themselves; give all of them one secret, or insecure=True"
        )
    try:
        return KeyRing(_read_or_make())
    except (OSError, ConfigurationError) as exc:
        raise ConfigurationError(
            f"secret: nodes without one share a key in a folder of this user's, and it cannot be used: {exc}. Give all "
            f"nodes the same secret, set {RUNTIME_DIR} to a folder that can be written to, or write insecure=True"
        ) from exc


def _read_or_make() -> bytes:
    path = meeting_folder() / _FILE
    for _ in range(_TRIES):
        fd = open_private(path, make=True)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if identity(path) == identity(fd):
                return _content(fd)
        finally:
            os.close(fd)
    raise OSError(f"{path} is removed again and again")


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
