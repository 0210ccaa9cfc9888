"""Checks that several parts of the package make: each returns the value, or raises an error that names the option."""

from __future__ import annotations

import math
import re
from typing import TypeGuard

from catga_sync._redaction import shown
from catga_sync.errors import ConfigurationError

__all__ = ["check_seconds", "check_whole", "is_id", "is_number"]

#: Characters of node ids and request ids.
_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}")


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a finite int or float; a bool is not a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int that no float can hold
        return False


def is_id(value: object) -> TypeGuard[str]:
    """Return whether a value is a text of 1 to 128 characters of ``A-Z a-z 0-9 . _ : -``."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def check_seconds(option: str, value: object, *, zero: bool = False) -> float:
    """
    Return a number of seconds as a float.

    Args:
        option: The option's name, which starts the error.
        value: The value to check.
        zero: Whether 0 is allowed.

    Raises:
        ConfigurationError: The value is not a finite number above 0.
    """
    if is_number(value):
        number = float(value)
        if number > 0 or (zero and number == 0):
            return number
    raise ConfigurationError(f"{option}: give seconds {'of at least 0' if zero else 'above 0'}, not {shown(value)}")


def check_whole(option: str, value: object, least: int) -> int:
    """
    Return a whole number of at least ``least``.

    Raises:
        ConfigurationError: The value is another one.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{option}: give a whole number of at least {least}, not {shown(value)}")
    return value
