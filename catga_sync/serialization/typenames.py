"""The names of message types: the default one, and those of .NET.

    messages.GetUser
    Acme.Users.GetUser, Acme.Users, Version=1.0.0.0, Culture=neutral, PublicKeyToken=null
    Acme.Page`1[[Acme.User, Acme.Users, Version=1.0.0.0]], Acme.Paging

The short form of a .NET name has no assembly in it, neither of the type nor of its arguments: ``Acme.Users.GetUser``,
``Acme.Page`1[[Acme.User]]``. Two names with one short form are the same type, so a new version changes nothing.

Rule of this file: a name is text. Nothing here (or anywhere else) imports or looks up what it says.
"""

from __future__ import annotations

import sys
from pathlib import PurePath

from catga_sync.errors import RegistrationError
from catga_sync.messages import MAX_NAME

__all__ = ["MAX_NAME", "check_name", "default_name", "short_name", "split_assembly"]


def default_name(cls: type) -> str:
    """Return ``module.QualName``, with the module's name as other processes import it and never ``__main__``."""
    module = cls.__module__
    if module in _MAIN:
        module = _importable_name(sys.modules.get(module)) or module
    return f"{module}.{cls.__qualname__}"


#: What the module that was started is called in its own process, and in one that multiprocessing has spawned from it.
_MAIN = ("__main__", "__mp_main__")


def _importable_name(main: object) -> str | None:
    """Return the name under which others import the module that was started; None where there is no such name."""
    name = getattr(getattr(main, "__spec__", None), "name", None)  # python -m shop.stock
    if isinstance(name, str) and name not in _MAIN:
        return name
    file = getattr(main, "__file__", None)
    return PurePath(file).stem if isinstance(file, str) else None


def check_name(name: object, owner: str, option: str = "name") -> str:
    """
    Return a type name if it can be one.

    Raises:
        RegistrationError: It is not 1 to 1024 printable characters. The text names the option.
    """
    if not isinstance(name, str):
        raise RegistrationError(f"{owner}: {option}: give a string, not {type(name).__name__}")
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable() or not short_name(name):
        raise RegistrationError(f"{owner}: {option}: give 1 to {MAX_NAME} printable characters, not {name[:80]!r}")
    return name


def split_assembly(name: str) -> tuple[str, str]:
    """Return a .NET name up to its own assembly, and the assembly from its comma on; "" where it has none."""
    depth = 0
    for at, char in enumerate(name):
        depth += (char == "[") - (char == "]")
        if char == "," and depth == 0:
            return name[:at], name[at:]
    return name, ""


def short_name(name: str) -> str:
    """Return a type name without the assemblies; any other name unchanged."""
    if "," not in name:
        return name
    out: list[str] = []
    quoted: list[bool] = []  # for each open bracket: does an assembly-qualified name start in it?
    skipping_at: int | None = None  # the depth of the comma from which an assembly is being left out
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
            # ``[[Type, Assembly],[Type, Assembly]]``: such a bracket follows a bracket or a comma. Any other, as in
            # ``Type[,]`` or ``list[dict[str, int]]``, has commas of its own.
            quoted.append(previous in ("[", ","))
        if not char.isspace():
            previous = char
    return "".join(out).strip()
