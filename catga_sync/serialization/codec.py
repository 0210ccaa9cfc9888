"""Objects to bytes and back, for one annotation.

Rules of this file:
1. Only ``SerializationError`` is raised, whatever the input is.
2. Its text starts with the path to the wrong part, and contains neither values nor the text of another exception:

    messages.GetUser.address.zip: expected str, not int
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, NoReturn

from marshmallow import ValidationError

from catga_sync.errors import SerializationError, ends_process
from catga_sync.serialization import jsontext
from catga_sync.serialization.fielderrors import CausedMessage, construct, flatten
from catga_sync.serialization.fields.base import StrictField
from catga_sync.serialization.reader import UNREAD, Reader, compile_reader
from catga_sync.serialization.roundtrip import compile_round_trip
from catga_sync.serialization.writer import compile_writer

__all__ = ["Codec"]

#: How many errors of one message the text lists.
_MOST_ERRORS = 5
#: Characters of one of them: the text of a validator may repeat the value.
_MOST_CHARACTERS = 400


_NOT_COMPILED: Any = object()


class Codec:
    """
    Writes and reads the values of one annotation. Immutable, thread-safe.

    Args:
        field: The field of the annotation.
        label: The name of the whole value in an error.
        nullable: Whether the value may be None.

    .. versionadded:: 0.1
    """

    __slots__ = (
        "_decimals", "_dump", "_load", "_reader", "_signed_zeros", "_write",
        "field", "label", "nullable", "round_trips",
    )  # fmt: skip

    def __init__(self, field: StrictField, label: str, *, nullable: bool) -> None:
        self.field = field
        self.label = label
        self.nullable = nullable
        self._dump = field.to_wire
        self._load = field.from_wire
        self._decimals = any(part.reads_decimals() for part in field.parts())
        self._signed_zeros = any(part.signed_zeros for part in field.parts())
        #: Returns whether a value that is not None is equal after a JSON round trip: False may also mean "not known".
        self.round_trips: Callable[[Any], bool] = self._first_round_trip
        self._write: Callable[[Any], bytes | None] | None = _NOT_COMPILED
        self._reader: Reader | None = _NOT_COMPILED

    def _first_round_trip(self, value: Any) -> bool:
        # Compiling takes longer than the rest of a registration, and most types of a node are never sent locally.
        self.round_trips = compile_round_trip(self.field)
        return self.round_trips(value)

    def encode(self, value: Any) -> bytes:
        """
        Return the UTF-8 JSON of a value.

        Raises:
            SerializationError: The value does not fit the annotation.
        """
        if value is None:
            if self.nullable:
                return b"null"
            raise SerializationError(f"{self.label}: may not be None")
        try:
            write = self._write if self._write is not _NOT_COMPILED else self._compile_writer()
            raw = None if write is None else write(value)
            return raw if raw is not None else jsontext.dumps(self._dump(value))
        except BaseException as exc:
            if ends_process(exc):
                raise
            self._raise(exc, "written")

    def decode(self, raw: bytes) -> Any:
        """
        Return the value for UTF-8 JSON.

        Raises:
            SerializationError: The bytes are not JSON, or do not fit the annotation.
        """
        try:
            reader = self._reader if self._reader is not _NOT_COMPILED else self._compile_reader()
            if reader is not None:
                found = reader.read(raw)
                if found is not UNREAD:
                    return found if reader.makes is None else construct(reader.makes, found)
            data = jsontext.loads(raw, decimals=self._decimals, signed_zeros=self._signed_zeros, unique_keys=True)
            if data is not None:
                return self._load(data)
        except BaseException as exc:
            if ends_process(exc):
                raise
            self._raise(exc, "read")
        if self.nullable:
            return None
        raise SerializationError(f"{self.label}: may not be null")

    # On first use, as each takes about a millisecond. Two threads may do so at once: they get equal functions.
    def _compile_writer(self) -> Callable[[Any], bytes | None] | None:
        self._write = compile_writer(self.field)
        return self._write

    def _compile_reader(self) -> Reader | None:
        self._reader = compile_reader(self.field, decimals=self._decimals, signed_zeros=self._signed_zeros)
        return self._reader

    def _raise(self, exc: BaseException, verb: str) -> NoReturn:
        error, cause = self._explain(exc, verb)
        try:
            raise error from cause
        finally:
            # An error that its own frame refers to is a cycle, and would keep all that was read so far in memory.
            del exc, error, cause

    def _explain(self, exc: BaseException, verb: str) -> tuple[SerializationError, BaseException]:
        """Return the error to raise, and its cause."""
        if isinstance(exc, SerializationError):
            return SerializationError(f"{self.label}: {exc}"), exc
        if isinstance(exc, RecursionError):
            return SerializationError(f"{self.label}: nested too deeply, or it contains itself"), exc
        if not isinstance(exc, ValidationError):
            return SerializationError(f"{self.label}: cannot be {verb} ({type(exc).__name__})"), exc
        found = list(islice(flatten(exc.messages, self.label), _MOST_ERRORS + 1))
        texts = [_shortened(f"{path}: {message}") for path, message in found[:_MOST_ERRORS]]
        if len(found) > _MOST_ERRORS:
            texts.append("and more")
        # The exception of a user's class says more than marshmallow's error about it.
        causes = [message.cause for _, message in found if isinstance(message, CausedMessage)]
        return SerializationError("; ".join(texts)), causes[0] if causes else exc

    def __repr__(self) -> str:
        return f"Codec({self.label})"


def _shortened(text: str) -> str:
    text = text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "..."
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
