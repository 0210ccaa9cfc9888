"""Objects to bytes and back, for one annotation.

Rules of this file:
1. Nothing but ``SerializationError`` comes out, whatever goes in.
2. Its text starts with the path to what is wrong, and shows neither values nor the text of an exception:

    messages.GetUser.address.zip: expected str, not int
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, NoReturn

from marshmallow import ValidationError

from catga_sync.errors import SerializationError, ends_process
from catga_sync.serialization import jsontext
from catga_sync.serialization.fielderrors import Refusal, flatten
from catga_sync.serialization.fields.base import StrictField
from catga_sync.serialization.roundtrip import compile_round_trip

__all__ = ["Codec"]

#: How many of the errors in one message are told.
_TOLD = 5
#: Characters of one of them: what a validator says may repeat what it was given.
_LONGEST = 400


class Codec:
    """
    Write and read the values of one annotation. Immutable, thread-safe.

    Args:
        field:
            What does the work.

        label:
            What to call the whole in an error.

        nullable:
            Whether None is a value.

    .. versionadded:: 0.1
    """

    __slots__ = ("_decimals", "_dump", "_load", "_round_trips", "_signed_zeros", "field", "label", "nullable")

    def __init__(self, field: StrictField, label: str, *, nullable: bool) -> None:
        self.field = field
        self.label = label
        self.nullable = nullable
        self._dump = field.to_wire
        self._load = field.from_wire
        self._decimals = any(part.reads_decimals() for part in field.parts())
        self._signed_zeros = any(part.signed_zeros for part in field.parts())
        self._round_trips: Callable[[Any], bool] | None = None

    @property
    def round_trips(self) -> Callable[[Any], bool]:
        """See ``compile_round_trip``; compiled when first asked for."""
        if self._round_trips is None:
            self._round_trips = compile_round_trip(self.field)
        return self._round_trips

    def encode(self, value: Any) -> bytes:
        """
        Return the UTF-8 JSON of a value.

        Raises:
            SerializationError: It does not fit the annotation.
        """
        if value is None:
            if self.nullable:
                return b"null"
            raise SerializationError(f"{self.label}: may not be None")
        try:
            return jsontext.dumps(self._dump(value))
        except BaseException as exc:
            if ends_process(exc):
                raise
            self._refuse(exc, "written")

    def decode(self, raw: bytes) -> Any:
        """
        Return the value for UTF-8 JSON.

        Raises:
            SerializationError: It is not JSON, or does not fit the annotation.
        """
        try:
            data = jsontext.loads(raw, decimals=self._decimals, signed_zeros=self._signed_zeros, unique_keys=True)
            if data is not None:
                return self._load(data)
        except BaseException as exc:
            if ends_process(exc):
                raise
            self._refuse(exc, "read")
        if self.nullable:
            return None
        raise SerializationError(f"{self.label}: may not be null")

    def _refuse(self, exc: BaseException, verb: str) -> NoReturn:
        error, cause = self._explain(exc, verb)
        try:
            raise error from cause
        finally:
            # An error that its own frame knows is a cycle: it, and all that was read so far, would stay for long.
            del exc, error, cause

    def _explain(self, exc: BaseException, verb: str) -> tuple[SerializationError, BaseException]:
        """Return the error to raise, and what to raise it from."""
        if isinstance(exc, SerializationError):
            return SerializationError(f"{self.label}: {exc}"), exc
        if isinstance(exc, RecursionError):
            return SerializationError(f"{self.label}: nested too deeply, or it contains itself"), exc
        if not isinstance(exc, ValidationError):
            return SerializationError(f"{self.label}: cannot be {verb} ({type(exc).__name__})"), exc
        found = list(islice(flatten(exc.messages, self.label), _TOLD + 1))
        told = [_shown(f"{path}: {message}") for path, message in found[:_TOLD]]
        if len(found) > _TOLD:
            told.append("and more")
        # What a class raised is more to the point than marshmallow's account of it.
        causes = [message.cause for _, message in found if isinstance(message, Refusal)]
        return SerializationError("; ".join(told)), causes[0] if causes else exc

    def __repr__(self) -> str:
        return f"Codec({self.label})"


def _shown(text: str) -> str:
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
