"""Files by which processes of one user on one machine meet: where they are, and whether they are still there.

Rules of this file:
1. Cleaners of temporary files remove what nobody has touched for days, under the processes that have it open. A file
   is the same as long as its name leads to the same inode.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catga_sync.errors import ConfigurationError

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = [
    "RUNTIME_DIR",
    "Identity",
    "database_identity",
    "ensure_private",
    "identity",
    "make_database",
    "meeting_folder",
]

#: Which files these are; None in the place of one that is not there.
Identity = tuple["tuple[int, int] | None", ...]

#: The environment variable that names the folder.
RUNTIME_DIR = "CATGA_RUNTIME_DIR"


def meeting_folder() -> Path:
    """
    Return the path of the folder: ``CATGA_RUNTIME_DIR``, or else one for this user among the temporary files.

    Ask when it is needed, in the process that needs it: a server may become another user after it has loaded the app.

    Raises:
        OSError: There is no folder for temporary files.
    """
    given = os.environ.get(RUNTIME_DIR)  # noqa: TID251 - a place of this machine, as TMPDIR is, and no option of a node
    if given:
        return Path(given)
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"catga-sync-{user}"


def identity(file: Path | str | int) -> tuple[int, int] | None:
    """Return which file has a name, or is open as a descriptor; None where there is no such file."""
    try:
        found = os.stat(file)  # noqa: PTH116 - a call on the way of every request: half the time of Path.stat
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def database_identity(path: Path) -> Identity:
    """
    Return which files an SQLite database consists of.

    All of them count: processes that have different logs or shared memories at one database neither see nor respect
    each other's writes.
    """
    return tuple(identity(f"{path}{suffix}") for suffix in ("", "-wal", "-shm"))


def make_database(path: Path) -> bool:
    """
    Make an empty file for a database where there is none, for this user only; return whether there was none.

    What was left of a log is removed: SQLite would take it for that of the new database, or of the new log.
    """
    if path.exists():
        # In this order: SQLite makes the log first, and removes it last.
        if Path(f"{path}-shm").exists() and not Path(f"{path}-wal").exists():
            Path(f"{path}-shm").unlink(missing_ok=True)
        return False
    with _turn_in(path.parent):
        return _make_database(path)


@contextlib.contextmanager
def _turn_in(folder: Path) -> Iterator[None]:
    """Let one process or thread at a time make a database in a folder: another's log is not to be taken for a rest."""
    if fcntl is None:
        yield
        return
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _make_database(path: Path) -> bool:
    if path.exists():
        return False
    for suffix in ("-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    try:
        # Not opened: to close a file takes all locks away that this process has on it, those of another store that
        # has just opened it among them (https://www.sqlite.org/howtocorrupt.html, 2.2).
        os.mknod(path, 0o600)
    except FileExistsError:
        return False
    except (AttributeError, OSError):  # elsewhere than on Linux
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            return False
    return True


def ensure_private(folder: Path) -> None:
    """
    Make the folder if it is not there, for this user only.

    Raises:
        ConfigurationError: It belongs to somebody else, or others may write to it: what they put there would decide
            where calls go.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not hasattr(os, "getuid"):
        return
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise ConfigurationError(
            f"{RUNTIME_DIR}: {folder} is not a folder that only this user can write to; remove it, or set "
            f"{RUNTIME_DIR} to a folder of this user's own"
        )
