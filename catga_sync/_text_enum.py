"""The base of enums whose members are texts."""

from __future__ import annotations

import enum

__all__ = ["TextEnum"]


class TextEnum(str, enum.Enum):
    """An enum whose members compare, format and dump as JSON as their text does, on every Python."""

    # Python 3.10 formats a member as its text and prints it as Class.NAME, and Python 3.12 prints both as Class.NAME.
    __str__ = str.__str__
    __format__ = str.__format__  # type: ignore[assignment]
