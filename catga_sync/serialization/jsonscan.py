"""What can be told of JSON before it is parsed: how deep it is nested, how many values it has.

A recursive parser dies of what is too deep, and any parser fills the memory with what has many values. Both can be told
from the bytes alone: in linear time, in C, and with little memory, whatever the bytes are.

Every function is pure and thread-safe.
"""

from __future__ import annotations

import re

from catga_sync.errors import SerializationError

__all__ = ["MAX_DEPTH", "check_depth", "check_values", "count_values"]

#: Levels of arrays and objects. System.Text.Json stops at 64, a recursive reader in Python at a few hundred.
MAX_DEPTH = 32

#: Bytes in which strings are looked for at once. What a pattern finds is a list of small objects.
_BLOCK = 64 * 1024
_STRINGS = re.compile(rb'"[^"]*"?')
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_BEFORE_VALUES = (b",", b":", b"[", b"{")


def check_depth(raw: bytes, limit: int = MAX_DEPTH) -> None:
    """
    Refuse JSON that is nested too deeply, before a recursive parser sees it.

    Text with unbalanced brackets is left to the parser, unless more of them are open than the limit allows.

    Raises:
        SerializationError: The text is deeper than ``limit``.
    """
    if raw.count(b"[") + raw.count(b"{") <= limit:
        return
    rest = _without_strings(raw).translate(_BRACKETS, _NOT_BRACKETS)
    for _ in range(limit):  # each round takes the innermost level away
        shorter = rest.replace(b"[]", b"")
        if len(shorter) == len(rest):
            break
        rest = shorter
    if b"[]" in rest or rest.count(b"[") > limit:
        raise SerializationError(f"JSON: nested more than {limit} levels deep")


def count_values(raw: bytes) -> int:
    """
    Return how many values there are at most: the commas, colons and opening brackets, of which each brings one.

    Those in strings are counted too. An array or an object with something in it counts for one more than that.
    """
    return sum(map(raw.count, _BEFORE_VALUES))


def check_values(raw: bytes, limit: int) -> None:
    """
    Refuse JSON with too many values, counted as ``count_values`` does, but for what stands in strings.

    Raises:
        SerializationError: There are more than ``limit``.
    """
    # What is shorter cannot have so many.
    if len(raw) > limit and count_values(raw) > limit and count_values(_without_strings(raw)) > limit:
        raise SerializationError(f"JSON: more than {limit} values")


def _without_strings(raw: bytes) -> bytes:
    # Without escaped backslashes and then escaped quotes, every quote that is left opens or closes a string. One
    # pattern for all of it ("(?:[^"\\]|\\.)*") would be quadratic, or use a lot of memory, on text made for that.
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
