"""The names of message types: the default one, and those of .NET.

    messages.GetUser
    Acme.Users.GetUser, Acme.Users, Version=1.0.0.0, Culture=neutral, PublicKeyToken=null
    Acme.Page`1[[Acme.User, Acme.Users, Version=1.0.0.0]], Acme.Paging

The short form of a .NET name leaves out the assemblies of the type and of its arguments: ``Acme.Users.GetUser``,
``Acme.Page`1[[Acme.User]]``. Names with the same short form mean the same type, whatever version they name.

Rule of this file: a name is text. It never leads to an import or to getattr, here or in any other module.
"""

from __future__ import annotations

import sys
from pathlib import PurePath

from catga_sync.errors import RegistrationError
from catga_sync.messages import MAX_NAME

__all__ = ["MAX_NAME", "check_name", "default_name", "short_name", "split_assembly"]


def default_name(cls: type) -> str:
    """Return ``module.QualName``, with the name by which other processes import the module and never ``__main__``."""
    module = cls.__module__
    if module in _MAIN:
        module = _importable_name(sys.modules.get(module)) or module
    return f"{module}.{cls.__qualname__}"


#: The name of the started module in its own process, and in a process that multiprocessing spawned from it.
_MAIN = ("__main__", "__mp_main__")


def _importable_name(main: object) -> str | None:
    """Return the name by which other processes import the started module, or None if there is none."""
    name = getattr(getattr(main, "__spec__", None), "name", None)  # python -m shop.stock
    if isinstance(name, str) and name not in _MAIN:
        return name
    file = getattr(main, "__file__", None)
    return PurePath(file).stem if isinstance(file, str) else None


def check_name(name: object, owner: str, option: str = "name") -> str:
    """
    Return a valid type name.

    Raises:
        RegistrationError: The name is not 1 to 1024 printable characters. The text names the option.
    """
    if not isinstance(name, str):
        raise RegistrationError(f"{owner}: {option}: give a string, not {type(name).__name__}")
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable() or not short_name(name):
        raise RegistrationError(f"{owner}: {option}: give 1 to {MAX_NAME} printable characters, not {name[:80]!r}")
    return name


def split_assembly(name: str) -> tuple[str, str]:
    """Return a .NET name without its own assembly, and the assembly with its comma, or "" if there is none."""
    depth = 0
    for at, char in enumerate(name):
        depth += (char == "[") - (char == "]")
        if char == "," and depth == 0:
            return name[:at], name[at:]
    return name, ""


def short_name(name: str) -> str:
    """Return a .NET name without assemblies; any other name unchanged."""
    if "," not in name:
        return name
    out: list[str] = []
    quoted: list[bool] = []  # for each open bracket: whether it encloses an assembly-qualified name
    skipping_at: int | None = None  # the depth of the comma that starts the assembly being skipped
    previous = ""
    for char in name:
        if char == "]" and quoted:
            if skipping_at == len(quoted):
                skipping_at = None
            quoted.pop()
        elif char == "," and skipping_at is None:
            if not quoted:
                break
            if quoted[-1]:
                skipping_at = len(quoted)
        if skipping_at is None:
            out.append(char)
        if char == "[":
            # In ``[[Type, Assembly],[Type, Assembly]]`` such a bracket follows a bracket or a comma. Other brackets, as
            # in ``Type[,]`` or ``list[dict[str, int]]``, contain commas with another meaning.
            quoted.append(previous in ("[", ","))
        if not char.isspace():
            previous = char
    return "".join(out).strip()
