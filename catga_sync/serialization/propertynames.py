"""The names of properties: camelCase out, any letter case and snake_case in.

    user_id  ->  userId        class_  ->  class        _internal_id  ->  _internalId

Rules of this file:
1. ``fold(camel_case(name)) == fold(name)`` for every name, so that a written property can be read.
2. The keys of a user's dict are data and are never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError

from catga_sync.errors import RegistrationError

__all__ = ["WireKeys", "camel_case", "fold"]


def camel_case(name: str) -> str:
    """Return the property's name for an attribute's name; leading underscores are kept, trailing ones removed."""
    body = name.lstrip("_")
    lead = name[: len(name) - len(body)]
    parts = [_lower_if_shouted(part) for part in body.split("_") if part]
    if not parts:
        return name
    first, *others = parts
    # Only ASCII letters are re-cased: the upper case of "ß" has two letters and does not fold back.
    head = first[0].lower() if first[0].isascii() else first[0]
    return lead + head + first[1:] + "".join(_capitalized(part) for part in others)


def _lower_if_shouted(part: str) -> str:
    return part.lower() if part.isascii() and part.isupper() else part


def _capitalized(part: str) -> str:
    return part[0].upper() + part[1:] if part[0].isascii() else part


def fold(name: str) -> str:
    """Return the form that all spellings of a property share: lower case, without underscores except leading ones."""
    body = name.lstrip("_")
    if not body:
        return name
    return name[: len(name) - len(body)] + body.replace("_", "").lower()


class WireKeys:
    """
    Finds the properties of a class in received data, in any spelling. Immutable, thread-safe.

    Args:
        keys: Field name -> the exact name of its property.
        owner: The name of the class, for an error.

    Raises:
        RegistrationError: Two property names are equal, or differ in letter case or underscores only.
    """

    __slots__ = ("_by_fold", "_exact")

    def __init__(self, keys: Mapping[str, str], owner: str) -> None:
        self._by_fold: dict[str, str] = {}
        fields: dict[str, str] = {}
        for field, key in keys.items():
            folded = fold(key)
            if folded in fields:
                raise RegistrationError(
                    f"{owner}: the fields {fields[folded]!r} and {field!r} have the same name on the wire, where "
                    "letter case and underscores are ignored; rename one of them"
                )
            fields[folded] = field
            self._by_fold[folded] = key
        self._exact = frozenset(self._by_fold.values())

    def match(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        Return ``data`` under the exact names; unknown properties keep theirs. Does not change ``data``.

        Raises:
            ValidationError: Two properties of ``data`` belong to the same field.
        """
        # In the usual case this is one comparison of sets in C.
        if data.keys() <= self._exact:
            return data
        matched: dict[str, Any] = {}
        for given, value in data.items():
            key = given
            if given not in self._exact and isinstance(given, str):
                key = self._by_fold.get(fold(given), given)
            if key in matched:
                raise ValidationError({key: ["is given twice, in two spellings"]})
            matched[key] = value
        return matched
