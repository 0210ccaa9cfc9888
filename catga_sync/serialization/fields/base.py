"""The base of the strict marshmallow fields. The rules are those of the package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from marshmallow import ValidationError, fields, missing

from catga_sync.serialization.roundtrip import Code, Uncertain

if TYPE_CHECKING:
    _Field = fields.Field[Any]
else:
    _Field = fields.Field  # not generic in marshmallow 3

__all__ = ["StrictField"]

_MESSAGES = {"required": "is missing", "null": "may not be null"}


class StrictField(_Field):
    """Base of the fields that are derived from annotations. Immutable once bound, thread-safe."""

    #: What the value is on the wire, for the fingerprint of a contract.
    kind: ClassVar[str] = ""
    #: Whether a key of a dict can be of this type.
    keyable: ClassVar[bool] = False
    #: Whether the text of a key is read as that key and no other, for every key that ``round_trips_if`` lets pass.
    round_trip_keys: ClassVar[bool] = False
    #: Whether values cannot be chosen to collide in a set: their hashes have a secret, or there are few of them.
    safe_hashes: ClassVar[bool] = False
    #: Whether a value can be a negative zero; an integer has none.
    signed_zeros: ClassVar[bool] = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(error_messages=dict(_MESSAGES), **kwargs)

    def to_wire(self, value: Any, /) -> Any:
        """Return plain JSON data for a value that is not None. Raises ValidationError."""
        raise NotImplementedError

    def from_wire(self, raw: Any, /) -> Any:
        """Return the value for plain JSON data that is not None. Raises ValidationError."""
        raise NotImplementedError

    def key_to_wire(self, value: Any) -> str:
        """Return the text of a key of a dict. Only where ``keyable``."""
        return str(self.to_wire(value))

    def key_from_wire(self, text: str) -> Any:
        """Return the key of a dict for its text. Only where ``keyable``."""
        return self.from_wire(text)

    def inner(self) -> tuple[StrictField, ...]:
        """Return the fields of what is inside, if this is a container."""
        return ()

    def describe(self) -> list[Any]:
        """Return the contract of this field without that of ``inner``: plain data, the same in every process."""
        return [self.kind]

    def parts(self) -> Iterator[StrictField]:
        """Yield this field and all that are inside of it, however deep; a type may contain itself."""
        seen: set[int] = set()
        waiting: list[StrictField] = [self]
        while waiting:
            current = waiting.pop()
            if id(current) not in seen:
                seen.add(id(current))
                yield current
                waiting.extend(current.inner())

    def reads_decimals(self) -> bool:
        """Return whether it has to see a JSON number with all its digits."""
        return False

    def round_trips_if(self, code: Code, v: str, /) -> str:
        """
        Return the Python expression that is true of a value only if the wire is certain to carry it unchanged.

        Args:
            code:
                Gives names to objects, and the tests of other fields.

            v:
                The variable with the value, which is not None. The expression names it before any other variable.

        Raises:
            Uncertain: Nothing can be promised.
        """
        raise Uncertain

    def dump_value(self, value: Any) -> Any:
        """Return plain JSON data for any value, None included."""
        if value is None:
            if self.allow_none:
                return None
            raise ValidationError("may not be None; annotate it as Optional if it may")
        return self.to_wire(value)

    def load_value(self, raw: Any) -> Any:
        """Return the value for any plain JSON data, null included."""
        if raw is None:
            if self.allow_none:
                return None
            raise ValidationError("may not be null")
        return self.from_wire(raw)

    # -- what marshmallow calls ---------------------------------------------------------------------------------

    def serialize(self, attr: str, obj: Any, accessor: Any = None, **kwargs: Any) -> Any:
        """Return plain JSON data for an attribute of an object; an error names the attribute."""
        try:
            value = self.get_value(obj, attr, accessor=accessor)
            if value is missing:
                raise ValidationError("is missing")
            return self.dump_value(value)
        except ValidationError as exc:
            raise ValidationError({attr: exc.messages}) from exc

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return self.dump_value(value)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        return self.from_wire(value)
