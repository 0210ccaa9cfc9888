"""One option of a cluster, described once: default, values, meaning, check, and how it is read from text."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import re
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from catga_sync._checks import check_seconds, check_whole
from catga_sync._environment import PREFIX
from catga_sync._redaction import shown
from catga_sync.errors import ConfigurationError, RegistrationError

__all__ = [
    "Kind",
    "anything",
    "boolean",
    "json_object",
    "naming_as_written",
    "of",
    "option",
    "read_boolean",
    "read_secret",
    "read_text",
    "read_verify",
    "seconds",
    "suggesting",
    "whole",
]

T = TypeVar("T")

#: The beginning of the text of an error: the option, and those that are suggested in its place.
_BEGINNING = re.compile(r"([a-z][a-z0-9_]*)(: no such option|: |\[)(; did you mean .*)?")
_QUOTED = re.compile(r"'(\w+)'")


class Kind(NamedTuple):
    """The values that an option may have. Immutable."""

    #: Returns the value to keep, given the option's name and the value; raises ``ConfigurationError``.
    check: Callable[[str, Any], Any]
    #: The values in words, for errors and for docs/options.md.
    values: str
    #: Returns the value that a text means; raises ``ValueError``. None: no text stands for a value.
    read: Callable[[str], Any] | None = str
    #: How to write a value as text, for the error when ``read`` fails.
    how_to_write: str = ""
    #: Whether errors must not show the text.
    hidden: bool = False


def option(default: Any, kind: Kind, meaning: str) -> Any:
    """Return a dataclass field. The meaning is Markdown, for the table in docs/options.md."""
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
        return text if kind.read is None else kind.read(text)
    except (ValueError, RecursionError) as exc:
        # Not chained: the texts and fields of these errors may hold the whole value, which may be a key.
        position = getattr(exc, "pos", None) if kind.read is json.loads else None
        reason = kind.how_to_write if position is None else f"no JSON from character {position} on"
    given = "the value" if kind.hidden else shown(text)
    raise ConfigurationError(f"{name}: {given} cannot be read ({reason})")


def of(accepts: Callable[[Any], object], values: str, read: Callable[[str], Any] | None = str) -> Kind:
    """Return the kind of values for which ``accepts`` returns something true; ``values`` names them."""

    def check(name: str, value: Any) -> Any:
        if not accepts(value):
            raise ConfigurationError(f"{name}: give {values}, not {shown(value)}")
        return value

    return Kind(check, values, read)


def anything(values: str) -> Kind:
    """Return the kind of values that are checked where they are used."""
    return Kind(lambda name, value: value, values)


def seconds(*, zero: bool = False) -> Kind:
    """Return the kind of seconds above 0, or from 0 on."""
    values = "seconds of at least 0" if zero else "seconds above 0"
    return Kind(functools.partial(check_seconds, zero=zero), values, float, "write a number")


def whole(least: int, *, optional: bool = False) -> Kind:
    """Return the kind of whole numbers from ``least`` on, and None where it is optional."""

    def check(name: str, value: Any) -> int | None:
        return None if value is None and optional else check_whole(name, value, least)

    values = f"a whole number of at least {least}{', or None' if optional else ''}"
    return Kind(check, values, int, "write a whole number")


def read_boolean(text: str) -> bool:
    """Return what a text means; raises ``ValueError``."""
    lowered = text.strip().lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("0", "false", "no", "off"):
        return False
    raise ValueError


boolean = of(lambda value: isinstance(value, bool), "True or False", read_boolean)._replace(
    how_to_write="write true or false"
)


def json_object(check: Callable[[str, Any], Any], values: str) -> Kind:
    """Return the kind of what is written as a JSON object."""
    return Kind(check, values, json.loads, "write JSON with numbers of fewer digits", hidden=True)


def suggesting(cls: type[T]) -> type[T]:
    """Have a dataclass suggest the nearest option for an unknown name, in place of a ``TypeError``."""
    target: Any = cls
    made = target.__init__
    known = [each.name for each in dataclasses.fields(target)]

    @functools.wraps(made)
    def init(self: Any, *args: Any, **given: Any) -> None:
        for name in given:
            if name not in known:
                near = " or ".join(repr(each) for each in _near(name, known))
                hint = f"; did you mean {near}?" if near else f"; there are {', '.join(sorted(known))}"
                raise ConfigurationError(f"{name}: no such option{hint}")
        made(self, *args, **given)

    target.__init__ = init
    return cls


def _near(name: str, known: Sequence[str]) -> list[str]:
    """Return the option that is like a name, or else those that end in a word like it, as two do for "timout"."""
    near = difflib.get_close_matches(name, known, 1)
    words = {each.rpartition("_")[2] for each in known}
    last = difflib.get_close_matches(name, words, 1)
    return near or [each for each in known if last and each.endswith(f"_{last[0]}")]


@contextmanager
def naming_as_written(given: Container[str], place: str = "") -> Iterator[None]:
    """
    Have the errors of a block name an option as its user has written it.

    Args:
        given: The names of the options that are given by name. All others are named as a variable of the environment,
            which is the key in an app's config as well.
        place: Where they are given; comes before their names.
    """
    try:
        yield
    except (ConfigurationError, RegistrationError) as exc:
        found = _BEGINNING.match(str(exc))
        if found is not None:
            name, what, near = found.groups()
            if name in given:
                name = place + name
            else:
                name, near = _variable(name), near and _QUOTED.sub(lambda each: repr(_variable(each[1])), near)
            exc.args = (f"{name}{what}{near or ''}{str(exc)[found.end() :]}",)
        raise


def _variable(option: str) -> str:
    return f"{PREFIX}{option.upper()}"


def read_secret(text: str) -> str | list[str]:
    """Several keys are written as a JSON list; anything else is one key."""
    return json.loads(text) if text.startswith("[") else text


def read_verify(text: str) -> bool | str:
    try:
        return read_boolean(text)
    except ValueError:
        return text
