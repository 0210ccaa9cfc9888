"""One option of a cluster, described once: default, meaning, how it is checked, and how it is read from text."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from catga_sync._redaction import shown
from catga_sync.errors import ConfigurationError

__all__ = ["Kind", "anything", "boolean", "json_object", "of", "option", "read_text", "seconds", "whole"]


class Kind(NamedTuple):
    """What values an option may have. Immutable."""

    #: Returns the value to keep, given the option's name and the value; raises ``ConfigurationError``.
    check: Callable[[str, Any], Any]
    #: Returns the value that a text means; raises ``ValueError``.
    read: Callable[[str], Any] = str
    #: What to write, where the error of ``read`` would show the text.
    wanted: str = ""
    #: Whether an error must not show the text.
    hidden: bool = False


def option(default: Any, kind: Kind, meaning: str) -> Any:
    """Return a dataclass field. The meaning is Markdown, for the table in the documentation."""
    metadata = {"kind": kind, "meaning": meaning}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def read_text(name: str, kind: Kind, text: str) -> Any:
    """
    Return the value of an option that is written as text.

    Raises:
        ConfigurationError: It cannot be read.
    """
    try:
        return kind.read(text)
    except (ValueError, RecursionError) as exc:
        # Not chained: the texts and fields of these errors may hold the whole value, which may be a key.
        position = getattr(exc, "pos", None) if kind.read is json.loads else None
        reason = kind.wanted if position is None else f"no JSON from character {position} on"
    given = "the value" if kind.hidden else shown(text)
    raise ConfigurationError(f"{name}: {given} cannot be read ({reason})")


# -- kinds ------------------------------------------------------------------------------------------------------------


def of(accepts: Callable[[Any], object], wanted: str, read: Callable[[str], Any] = str) -> Kind:
    """Return the kind of values that ``accepts`` is true of; ``wanted`` tells what to give."""

    def check(name: str, value: Any) -> Any:
        if not accepts(value):
            raise ConfigurationError(f"{name}: {wanted}, not {shown(value)}")
        return value

    return Kind(check, read)


#: Checked where it is used.
anything = Kind(lambda name, value: value)


def seconds(*, zero: bool = False) -> Kind:
    """Return the kind of seconds above 0, or from 0 on."""

    def check(name: str, value: Any) -> float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not _is_finite(value) or value < 0 or (value == 0 and not zero):
            bound = "of at least 0" if zero else "above 0"
            raise ConfigurationError(f"{name}: give seconds {bound}, not {shown(value)}")
        return float(value)

    return Kind(check, float, "write a number")


def whole(least: int, *, optional: bool = False) -> Kind:
    """Return the kind of whole numbers from ``least`` on, and None where it is optional."""

    def check(name: str, value: Any) -> int | None:
        if value is None and optional:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigurationError(f"{name}: give a whole number of at least {least}, not {shown(value)}")
        return value

    return Kind(check, int, "write a whole number")


def read_boolean(text: str) -> bool:
    """Return what a text means; raises ``ValueError``."""
    lowered = text.strip().lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("0", "false", "no", "off"):
        return False
    raise ValueError


boolean = of(lambda value: isinstance(value, bool), "give True or False", read_boolean)._replace(
    wanted="write true or false"
)


def json_object(check: Callable[[str, Any], Any]) -> Kind:
    """Return the kind of what is written as a JSON object."""
    return Kind(check, json.loads, "write JSON with numbers of fewer digits", hidden=True)


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
