"""Limits on JSON that are checked before it is parsed: the depth of nesting and the number of values.

Deep nesting crashes a recursive parser, and many values fill the memory of any parser. Both are counted here in the
bytes: in linear time, in C, and with little memory, whatever the bytes are.

Every function is pure and thread-safe.
"""

from __future__ import annotations

import re

from catga_sync.errors import SerializationError

__all__ = ["MAX_DEPTH", "check_depth", "check_values", "count_properties", "count_values"]

#: Levels of arrays and objects. System.Text.Json stops at 64, a recursive reader in Python at a few hundred.
MAX_DEPTH = 32

#: Bytes that are searched for strings at a time, since each match makes small objects.
_BLOCK = 64 * 1024
_STRINGS = re.compile(rb'"[^"]*"?')
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_BEFORE_VALUES = (b",", b":", b"[", b"{")


def check_depth(raw: bytes, limit: int = MAX_DEPTH) -> None:
    """
    Refuse JSON that is nested too deeply, before a recursive parser sees it.

    Unbalanced brackets are left to the parser, unless more of them are open than the limit allows.

    Raises:
        SerializationError: The text is deeper than ``limit``.
    """
    if raw.count(b"[") + raw.count(b"{") <= limit:
        return
    rest = _without_strings(raw).translate(_BRACKETS, _NOT_BRACKETS)
    for _ in range(limit):  # each round removes the innermost level
        shorter = rest.replace(b"[]", b"")
        if len(shorter) == len(rest):
            break
        rest = shorter
    if b"[]" in rest or rest.count(b"[") > limit:
        raise SerializationError(f"JSON: nested more than {limit} levels deep")


def count_values(raw: bytes) -> int:
    """
    Return an upper bound of the number of values: the commas, colons and opening brackets, each of which adds one.

    Those inside strings are counted too, and an array or object that is not empty counts once more than it should.
    """
    return sum(map(raw.count, _BEFORE_VALUES))


def count_properties(raw: bytes) -> int:
    """Return the number of properties of all objects in valid JSON; one that is there twice counts twice."""
    return _without_strings(raw).count(b":")


def check_values(raw: bytes, limit: int) -> None:
    """
    Refuse JSON with too many values, counted as in ``count_values`` but without the contents of strings.

    Raises:
        SerializationError: There are more than ``limit``.
    """
    # Shorter text cannot have so many values.
    if len(raw) > limit and count_values(raw) > limit and count_values(_without_strings(raw)) > limit:
        raise SerializationError(f"JSON: more than {limit} values")


def _without_strings(raw: bytes) -> bytes:
    # Once escaped backslashes and escaped quotes are removed, every quote opens or closes a string. A single pattern
    # ("(?:[^"\\]|\\.)*") would be quadratic, or use much memory, on text made to attack it.
    raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    rest = []
    inside = False  # whether a block begins in a string
    for at in range(0, len(raw), _BLOCK):
        block = raw[at : at + _BLOCK]
        if inside:
            block = b'"' + block
        rest.append(_STRINGS.sub(b"", block))
        inside = block.count(b'"') % 2 == 1
    return b"".join(rest)
