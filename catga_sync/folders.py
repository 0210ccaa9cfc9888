"""The folder in which processes of one user on one machine meet: the default discovery file and the locks."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from catga_sync.errors import ConfigurationError

__all__ = ["ensure_private", "meeting_folder"]


def meeting_folder() -> Path:
    """Return the folder's path. It lies with the temporary files: what is in it means nothing after a reboot."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"catga-sync-{user}"


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
            f"discovery: {folder} is not a folder that only this user can write to; remove it, or give another place "
            f"with discovery='sqlite:///path'"
        )
