"""How values are shown in error texts, logs and reprs: without passwords and keys.

A URL is shown without the user, the password and the values of its query. More is left out of a text that is too
malformed to tell which part of it is the password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NoReturn

from catga_sync.errors import ends_process

__all__ = ["HIDDEN", "Secret", "cause_of", "escaped", "printable", "shown", "without_credentials"]

#: Replaces what is left out.
HIDDEN = "***"

#: Characters of one value or text that are shown.
_LONGEST = 300
#: Characters of nested mappings and lists, and of an error text in a line of a log, that are shown.
_LONGEST_LINE = 600
#: Entries of one mapping or list that are shown.
_MOST = 20
_SCHEME = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.\-]*://")
_SECRET_NAME = re.compile(r"(?i)passw|pwd|secret|token|credential|api_?key")
_QUERY_VALUE = re.compile(r"([?&;][\w.\-]+=)[^\s&;#'\"]+")
_LOGIN = re.compile(r"(?s)(?<=://).*(?=@)")
_NAMED = re.compile(r"(?i)((?:password|passwd|secret|token)=)\S+")


class Secret:
    """
    Hold a key or a password, which no text of this object shows: each is ``***``. Immutable, thread-safe.

    Args:
        value: The key, or several. A ``Secret`` in a ``Secret`` is unwrapped.

    .. versionadded:: 0.1
    """

    __slots__ = ("_value",)

    _value: Any

    def __init__(self, value: object) -> None:
        held = value.reveal() if isinstance(value, Secret) else value
        object.__setattr__(self, "_value", tuple(held) if isinstance(held, list) else held)

    def reveal(self) -> Any:
        """Return the value."""
        return self._value

    def __repr__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return format(HIDDEN, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __setattr__(self, name: str, value: object = None) -> NoReturn:
        raise AttributeError(f"{name}: a Secret is immutable; make another one")

    __delattr__ = __setattr__

    def __copy__(self, memo: object = None) -> Secret:
        return self

    __deepcopy__ = __copy__

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled; give the secret to the other process as it was given to this one")


def shown(value: object) -> str:
    """
    Return the text of a value for an error or a repr, without credentials. Raises nothing.

    An object that is no plain value is shown as its class: its own ``repr`` may hold anything.
    """
    try:
        text = _shown(value)
        # Each part is short, but parts may be nested.
        return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}..."
    except BaseException as exc:  # a class of the user's may raise anything
        if ends_process(exc):
            raise
        return f"{type(value).__name__} object"


def without_credentials(text: str) -> str:
    """Return a text of another library or of the application without credentials."""
    return _NAMED.sub(rf"\1{HIDDEN}", _QUERY_VALUE.sub(rf"\1{HIDDEN}", _LOGIN.sub(HIDDEN, text)))


def printable(text: str) -> str:
    """Return a text of another library or of the application on one line, without credentials, of bounded length."""
    line = " ".join(without_credentials(text).split())
    return "".join(char if char.isprintable() else "?" for char in line[:_LONGEST])


def escaped(text: str, limit: int = _LONGEST_LINE) -> str:
    """Return a text of a peer's for a line of a log: in printable ASCII, of at most ``limit`` characters."""
    return text[:limit].encode("unicode_escape").decode("ascii")[:limit]


def cause_of(exc: BaseException) -> str:
    """Return the text of an exception on one line, without credentials, or else the name of its class."""
    try:
        text = str(exc)
    except BaseException as raised:  # an exception class of the user's
        if ends_process(raised):
            raise
        text = ""
    return printable(text) or type(exc).__name__


def _shown(value: object) -> str:
    if isinstance(value, str):
        return repr(_short(value)[:_LONGEST])
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)[:_LONGEST]
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value)} bytes"
    if isinstance(value, BaseException):
        return f"{type(value).__name__}({cause_of(value)!r})"
    if isinstance(value, Mapping):
        pairs = [f"{shown(name)}: {_under(name, each)}" for name, each in list(value.items())[:_MOST]]
        return f"{{{_joined(pairs, len(value))}}}"
    if isinstance(value, (list, tuple, set, frozenset)):
        left, right = "()" if isinstance(value, tuple) else "[]" if isinstance(value, list) else "{}"
        return f"{left}{_joined([shown(each) for each in list(value)[:_MOST]], len(value))}{right}"
    if isinstance(value, Secret):
        return HIDDEN
    return f"class {value.__qualname__}" if isinstance(value, type) else f"{type(value).__qualname__} object"


def _under(name: object, value: object) -> str:
    return HIDDEN if isinstance(name, str) and _SECRET_NAME.search(name) else shown(value)


def _joined(parts: list[str], count: int) -> str:
    return ", ".join(parts) + (", ..." if count > len(parts) else "")


def _short(text: str) -> str:
    """Return a text, which may be a URL, without credentials."""
    found = _SCHEME.match(text)
    if found is None:
        # With a URL inside it, or a URL without its scheme, nothing tells where a password ends.
        return HIDDEN if "@" in text or "://" in text else without_credentials(text)
    scheme, rest = found.group(), text[found.end() :]
    place, mark, extra = _cut(rest, "?#")
    if "@" in extra:
        return f"{scheme}{HIDDEN}"
    login, at, place = place.rpartition("@")
    host, slash, path = _cut(place, "/\\")
    return f"{scheme}{HIDDEN + at if at else login}{_host(host)}{slash}{path}{mark}{_query(extra) if mark else ''}"


def _cut(text: str, marks: str) -> tuple[str, str, str]:
    at = next((at for at, char in enumerate(text) if char in marks), len(text))
    return text[:at], text[at : at + 1], text[at + 1 :]


def _host(text: str) -> str:
    """Return host and port. Text in the place of the port may be the password of a URL without a host."""
    if re.fullmatch(r"\[[0-9A-Fa-f:.%]*\]?(:\d*)?", text):
        return text
    name, colon, port = text.partition(":")
    return f"{name}{colon}{port if port.isdigit() else HIDDEN}" if port else text


def _query(text: str) -> str:
    query, mark, _ = _cut(text, "#")
    pairs = [part.partition("=") for part in query.split("&")]
    known = [f"{name}={HIDDEN}" if sign and re.fullmatch(r"[\w.\-]+", name) else HIDDEN for name, sign, _ in pairs]
    return ("&".join(known) if query else "") + (f"{mark}{HIDDEN}" if mark else "")
