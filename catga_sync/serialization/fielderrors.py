"""Errors of fields: what they say, and a message of marshmallow's that remembers the exception it stands for.

marshmallow collects messages and forgets where they came from. The text of an application's exception must not reach
the peer, but its traceback belongs into the log: it travels inside the message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from marshmallow import ValidationError

__all__ = ["Refusal", "construct", "fail", "flatten", "place_of_key", "refuse", "type_name"]


class Refusal(str):
    """A message with its ``cause``."""

    __slots__ = ("cause",)

    cause: Exception

    @classmethod
    def of(cls, text: str, cause: Exception) -> Refusal:
        """Return the message for an exception whose own text stays here."""
        message = cls(text)
        message.cause = cause
        return message


class Place(str):
    """The key of a dict in the messages, ready to be shown."""

    __slots__ = ()


def type_name(value: object) -> str:
    """Return what to call the type of a value in an error."""
    return "null" if value is None else type(value).__name__


def fail(expected: str, value: object) -> NoReturn:
    """Raise the error for a value of the wrong type."""
    raise ValidationError(f"expected {expected}, not {type_name(value)}")


def refuse(text: str, cause: Exception) -> ValidationError:
    """Return the error to raise from ``cause``."""
    return ValidationError([Refusal.of(text, cause)])


def construct(cls: Any, values: Mapping[str, Any]) -> Any:
    """
    Return ``cls(**values)``.

    Raises:
        ValidationError: The class raised; the text does not say what.
    """
    try:
        return cls(**values)
    except Exception as exc:
        raise refuse(f"{cls.__name__} refused the values", exc) from exc


def flatten(messages: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield (path, message) of everything that marshmallow collected: nested dicts and lists of texts."""
    if isinstance(messages, Mapping):
        for key, inner in messages.items():
            yield from flatten(inner, _join(path, key))
    elif isinstance(messages, (list, tuple)):
        for inner in messages:
            yield from flatten(inner, path)
    else:
        yield path, messages if isinstance(messages, str) else str(messages)


def _join(path: str, key: Any) -> str:
    if key == "_schema":  # marshmallow's name for "the whole of it"
        return path
    if isinstance(key, int):
        return f"{path}[{key}]"
    if isinstance(key, Place):
        return f"{path}{key}"
    name = str(key)
    # A property that nobody knows may have any name: one to be shown in a log, and of bounded length.
    return f"{path}.{name}" if name.isprintable() and len(name) <= 60 else f"{path}{place_of_key(key)}"


def place_of_key(key: object) -> Place:
    """Return how a path shows the key of a dict: in brackets, printable, and not too long."""
    try:
        text = ascii(key)
    except Exception:  # an int of thousands of digits, a class with a repr of its own
        text = type(key).__name__
    return Place(f"[{text if len(text) <= 40 else text[:36] + '...'}]")
