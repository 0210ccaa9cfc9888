"""Where an SQLite URL says that the file is."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from catga_sync._redaction import shown
from catga_sync.errors import ConfigurationError

__all__ = ["sqlite_path"]

_START = "sqlite:///"
#: A path with the letter of a drive, which elsewhere than on Windows would be a folder "C:" in the present one.
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def sqlite_path(url: str, option: str, in_memory: str) -> Path:
    """
    Return the path in a URL such as SQLAlchemy takes.

    That is ``sqlite:///relative``, ``sqlite:////absolute`` or ``sqlite:///~/of-the-user``; characters may be escaped
    with ``%``.

    Args:
        url: The URL.
        option: The option that has it, for errors.
        in_memory: What to write for a store in memory, which an SQLite file cannot be: each connection would have its
            own.

    Raises:
        ConfigurationError: It names no file, or has parameters.
    """
    wanted = f"write {_START}relative/path or {_START}/absolute/path"
    raw = url[len(_START) :] if url.startswith(_START) else None
    if url in ("sqlite:", "sqlite:/", "sqlite://") or raw == "" or ":memory:" in url or "mode=memory" in url:
        raise ConfigurationError(
            f"{option}: {shown(url)} is in memory, which nobody else sees; {wanted}, or {in_memory}"
        )
    if raw is None:
        raise ConfigurationError(f"{option}: {wanted}, not {shown(url)}")
    if raw.startswith("file:"):
        raise ConfigurationError(f"{option}: {wanted}, not a file: URI as in {shown(url)}")
    raw, mark, _ = raw.partition("?")
    if mark:
        raise ConfigurationError(
            f"{option}: leave out what follows the ? in {shown(url)}: no parameters are taken, and a busy file is "
            f"waited for as it is; a question mark in the name of the file is written %3F"
        )
    text = unquote(raw)
    if "\0" in text or text.endswith("/") or (os.name != "nt" and _DRIVE.match(text)):
        raise ConfigurationError(f"{option}: {wanted} of a file on this system, not {shown(url)}")
    try:
        return Path(text).expanduser()
    except RuntimeError as exc:
        raise ConfigurationError(f"{option}: there is no home folder for {shown(text)}; {wanted}") from exc
