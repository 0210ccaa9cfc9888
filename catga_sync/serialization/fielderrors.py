"""The errors of fields: their texts, and a message that keeps the exception that caused it.

marshmallow collects messages and drops the exceptions behind them. The text of an application's exception must not
reach the peer, but its traceback belongs in the log: so the exception travels inside the message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from marshmallow import ValidationError

__all__ = ["CausedMessage", "caused_error", "construct", "fail", "flatten", "path_of_key", "type_name"]


class CausedMessage(str):
    """A message with the exception that caused it."""

    __slots__ = ("cause",)

    cause: Exception


class _PathOfKey(str):
    """How a path shows the key of a dict."""

    __slots__ = ()


def type_name(value: object) -> str:
    """Return the name of a value's type for an error."""
    return "null" if value is None else type(value).__name__


def fail(expected: str, value: object) -> NoReturn:
    """Raise ValidationError for a value of the wrong type."""
    raise ValidationError(f"expected {expected}, not {type_name(value)}")


def caused_error(text: str, cause: Exception) -> ValidationError:
    """Return the error to raise from ``cause``, whose own text is not part of it."""
    message = CausedMessage(text)
    message.cause = cause
    return ValidationError([message])


def construct(cls: Any, values: Mapping[str, Any]) -> Any:
    """
    Return ``cls(**values)``.

    Raises:
        ValidationError: The class raised; the text does not say what.
    """
    try:
        return cls(**values)
    except Exception as exc:
        raise caused_error(f"{cls.__name__} refused the values", exc) from exc


def flatten(messages: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield (path, message) for all messages that marshmallow collected in nested dicts and lists."""
    if isinstance(messages, Mapping):
        for key, inner in messages.items():
            yield from flatten(inner, _join(path, key))
    elif isinstance(messages, (list, tuple)):
        for inner in messages:
            yield from flatten(inner, path)
    else:
        yield path, messages if isinstance(messages, str) else str(messages)


def _join(path: str, key: Any) -> str:
    if key == "_schema":  # marshmallow's key for the object as a whole
        return path
    if isinstance(key, int):
        return f"{path}[{key}]"
    if isinstance(key, _PathOfKey):
        return f"{path}{key}"
    name = str(key)
    # An unknown property may have any name: in a log it has to be printable and short.
    return f"{path}.{name}" if name.isprintable() and len(name) <= 60 else f"{path}{path_of_key(key)}"


def path_of_key(key: object) -> str:
    """Return how a path shows the key of a dict: in brackets, printable, at most 42 characters."""
    try:
        text = ascii(key)
    except Exception:  # an int of thousands of digits, or a class whose __repr__ raises
        text = type(key).__name__
    return _PathOfKey(f"[{text if len(text) <= 40 else text[:36] + '...'}]")
