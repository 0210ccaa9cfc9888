"""The folder for files that processes of one user on one machine share, and checks of these files.

Rules of this file:
1. Files in the private folder decide where calls go. They are opened in one way, for reading and writing: folder and
   file are this user's own, closed to other users, and no links.
2. Cleaners of temporary files remove files that were not touched for days, even open ones. So a file is identified by
   its inode, not by its name.
"""

from __future__ import annotations

import contextlib
import errno
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
    "check_given",
    "database_identity",
    "ensure_private",
    "identity",
    "make_database",
    "meeting_folder",
    "open_private",
    "private_file_is_there",
]

#: Device and inode of several files; None in the place of a missing one.
Identity = tuple["tuple[int, int] | None", ...]

#: The environment variable that names the folder.
RUNTIME_DIR = "CATGA_RUNTIME_DIR"


def meeting_folder() -> Path:
    """
    Return the path of the folder: ``CATGA_RUNTIME_DIR``, or else one for this user among the temporary files.

    Call it when the path is needed, in the process that needs it: a server may change its user after loading the app.

    Raises:
        OSError: The system has no folder for temporary files; the text has the cure.
    """
    given = os.environ.get(RUNTIME_DIR)  # noqa: TID251 - a setting of this machine, as TMPDIR is, and no option of a node
    if given:
        return Path(given)
    user = os.getuid() if hasattr(os, "getuid") else "user"
    try:
        return Path(tempfile.gettempdir()) / f"catga-sync-{user}"
    except FileNotFoundError as exc:
        text = f"{RUNTIME_DIR}: there is no folder for temporary files; set it to a folder that can be written to"
        raise FileNotFoundError(errno.ENOENT, text) from exc


def identity(file: Path | str | int) -> tuple[int, int] | None:
    """Return device and inode of a path or an open descriptor; None where there is no file."""
    try:
        found = os.stat(file)  # noqa: PTH116 - called for every request: half the time of Path.stat
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def database_identity(path: Path) -> Identity:
    """
    Return the identity of all files of an SQLite database.

    Processes that use one database with different logs or shared memories do not see each other's writes.
    """
    return tuple(identity(f"{path}{suffix}") for suffix in ("", "-wal", "-shm"))


def make_database(path: Path) -> bool:
    """
    Make an empty file for a database where there is none, for this user only; return whether there was none.

    The rest of an old log is removed, since SQLite would apply it to the new database.

    Raises:
        ConfigurationError: See ``check_given``.
    """
    check_given(path)
    if path.exists():
        # In this order: SQLite makes the log first, and removes it last.
        if Path(f"{path}-shm").exists() and not Path(f"{path}-wal").exists():
            Path(f"{path}-shm").unlink(missing_ok=True)
        return False
    with _turn_in(path.parent):
        return _make_database(path)


@contextlib.contextmanager
def _turn_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder while a database is made in it, so that the log of a new one is not removed."""
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
        # Not opened: closing a file releases all locks that this process has on it, also those of another store that
        # has just opened it (https://www.sqlite.org/howtocorrupt.html, 2.2).
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
        ConfigurationError: It belongs to another user, others may write to it, or it is a link: other users could
            decide where calls go.
        OSError: It cannot be made; the text has the cure.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        pass  # there is something else than a folder, which the check below reports
    except OSError as exc:
        why = f"{RUNTIME_DIR}: {folder} cannot be made ({exc.strerror}); set it to a folder that can be written to"
        raise OSError(exc.errno, why) from exc
    _private_folder_is_there(folder)


def private_file_is_there(path: Path) -> bool:
    """
    Return whether a file of the private folder exists. It is not opened: see ``make_database``.

    Raises:
        ConfigurationError: The folder or the file is not this user's own, others may use it, or it is a link.
    """
    if not _private_folder_is_there(path.parent):
        return False
    try:
        _check_file(path, os.lstat(path))
    except FileNotFoundError:
        return False
    return True


def open_private(path: Path, *, make: bool) -> int:
    """
    Return a descriptor of a file of the private folder.

    Args:
        path: The file.
        make: Whether missing folder and file are made.

    Raises:
        OSError: It does not exist, or cannot be opened.
        ConfigurationError: As ``private_file_is_there``.
    """
    if make:
        ensure_private(path.parent)
    else:
        _private_folder_is_there(path.parent)
    flags = os.O_RDWR | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        fd = os.open(path, flags | os.O_CREAT if make else flags, 0o600)
    except OSError:
        # A link, a folder, or a file that is closed to this user has an error of its own.
        with contextlib.suppress(OSError):
            _check_file(path, os.lstat(path))
        raise
    try:
        _check_file(path, os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def check_given(path: Path) -> None:
    """
    Check a file that the user has chosen, which may be anywhere, be shared, and be reached by links.

    Raises:
        ConfigurationError: Another user than root has made the file, or a link or folder on the way to it, in a
            world-writable folder, such as ``/tmp``.
    """
    if not hasattr(os, "getuid"):
        return
    for each in (path.absolute(), *path.absolute().parents):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            owner = os.lstat(each).st_uid
            if owner not in (os.getuid(), 0) and each.parent.stat().st_mode & stat.S_IWOTH:
                raise ConfigurationError(
                    f"path: {each} belongs to another user, in a world-writable folder; remove it, or choose a file in "
                    f"a folder of this user's own"
                )


def _private_folder_is_there(folder: Path) -> bool:
    try:
        found = os.lstat(folder)
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "getuid") and not _is_own(found, 0o022)):
        raise _not_private(folder, "folder")
    return True


def _check_file(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or (hasattr(os, "getuid") and not _is_own(found, 0o077)):
        raise _not_private(path, "file")


def _is_own(found: os.stat_result, closed: int) -> bool:
    return found.st_uid == os.getuid() and not found.st_mode & closed


def _not_private(path: Path, kind: str) -> ConfigurationError:
    access = "write to" if kind == "folder" else "read or write"
    return ConfigurationError(
        f"{RUNTIME_DIR}: {path} is not private: other users can {access} it, or it is a link or no {kind}; remove it, "
        f"or set {RUNTIME_DIR} to a folder of this user's own"
    )
