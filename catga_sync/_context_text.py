"""The context that an application gives to its calls, as one line of text: ``tenant=a,user=J%C3%B6rg``.

Each value is percent-encoded UTF-8, as in W3C baggage. The bounds keep the line within what servers accept of a header.

Rules of this file:
1. What can be written can be read, and what cannot is an error that names the entry.
2. No error text has a value in it: a value may be personal data, and an error goes into logs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import quote, unquote

__all__ = ["NO_CONTEXT", "read_context", "write_context"]

#: The context of a call that was given none.
NO_CONTEXT: Mapping[str, str] = MappingProxyType({})

_MAX_ENTRIES = 32
_MAX_KEY = 64
_MAX_VALUE = 1_024
#: Bytes of the line. With a baggage of 8,160 it still fits into the 16 KiB that gRPC accepts of metadata.
_MAX_TEXT = 4_096

_KEY = re.compile(rf"[A-Za-z0-9._\-]{{1,{_MAX_KEY}}}")
#: A percent sign that begins no byte. ``unquote`` would let it pass.
_STRAY = re.compile(r"%(?![0-9A-Fa-f]{2})")
_VALUE = re.compile(r"[A-Za-z0-9._~%\-]*")


def write_context(given: Mapping[str, str], inherited: str | None = None) -> str | None:
    """
    Return the line of a context; None for an empty one.

    Args:
        given: The entries.
        inherited: The line of the call around this one; an entry of ``given`` takes the place of one with the same key.

    Raises:
        TypeError: ``given`` is no mapping of text to text.
        ValueError: There are too many entries, a key or a value cannot travel, or all together are too long.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"context: give a mapping of text to text, not {type(given).__name__}")
    entries = {} if inherited is None else dict(read_context(inherited))
    for key, value in given.items():
        _check_entry(key, value)
        entries[key] = value
    around = "" if inherited is None else ", those of the call around this one included"
    if len(entries) > _MAX_ENTRIES:
        raise ValueError(f"context: {len(entries)} entries{around}, and a call carries at most {_MAX_ENTRIES}")
    text = ",".join(f"{key}={quote(value, safe='')}" for key, value in entries.items())
    if len(text) > _MAX_TEXT:
        raise ValueError(
            f"context: {len(text)} bytes in all{around}, and a call carries at most {_MAX_TEXT}; "
            "send an id, and look up the rest where it is needed"
        )
    return text or None


def read_context(text: str | None) -> Mapping[str, str]:
    """
    Return the entries of a line, read-only; None has none.

    Raises:
        ValueError: ``write_context`` could not have written it.
    """
    if text is None:
        return NO_CONTEXT
    if len(text) > _MAX_TEXT:
        raise ValueError(f"more than {_MAX_TEXT} bytes")
    entries: dict[str, str] = {}
    for part in text.split(","):
        key, equals, written = part.strip(" ").partition("=")
        if not equals or _KEY.fullmatch(key) is None or key in entries:
            raise ValueError("an entry without a key of its own")
        if _VALUE.fullmatch(written) is None or _STRAY.search(written):
            raise ValueError(f"the value of {key!r} is not percent-encoded")
        try:
            value = unquote(written, errors="strict")
        except UnicodeDecodeError:
            raise ValueError(f"the value of {key!r} is not UTF-8") from None
        if len(value) > _MAX_VALUE:
            raise ValueError(f"the value of {key!r} has more than {_MAX_VALUE} characters")
        entries[key] = value
    if len(entries) > _MAX_ENTRIES:
        raise ValueError(f"more than {_MAX_ENTRIES} entries")
    return MappingProxyType(entries)


def _check_entry(key: object, value: object) -> None:
    if not isinstance(key, str):
        raise TypeError(f"context: a key is text, not {type(key).__name__}")
    if _KEY.fullmatch(key) is None:
        raise ValueError(f"context: the key {key[:_MAX_KEY]!r}: give 1 to {_MAX_KEY} characters of A-Z a-z 0-9 . _ -")
    if not isinstance(value, str):
        raise TypeError(f"context: the value of {key!r} is text, not {type(value).__name__}")
    if len(value) > _MAX_VALUE:
        raise ValueError(
            f"context: the value of {key!r} has {len(value)} characters, and a call carries at most {_MAX_VALUE}"
        )
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"context: the value of {key!r} has half a surrogate pair, which is no text")
