"""The bases of the strict marshmallow fields. The rules are those of the package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from marshmallow import ValidationError, fields, missing

from catga_sync.serialization.fielderrors import fail
from catga_sync.serialization.reader import CountCode, ReadCode
from catga_sync.serialization.roundtrip import Code
from catga_sync.serialization.source import Uncertain
from catga_sync.serialization.writer import WriteCode

if TYPE_CHECKING:
    _Field = fields.Field[Any]
else:
    _Field = fields.Field  # not generic in marshmallow 3

__all__ = ["StrictField", "TextualField"]

_MESSAGES = {"required": "is missing", "null": "may not be null"}


class StrictField(_Field):
    """Base of the fields that are derived from annotations. Immutable once bound, thread-safe."""

    #: The kind of value on the wire, for the contract.
    kind: ClassVar[str] = ""
    #: Whether the keys of a dict can be of this kind.
    keyable: ClassVar[bool] = False
    #: Whether the text of a key is read as the same key, for every key that passes the test of ``round_trips_if``.
    round_trip_keys: ClassVar[bool] = False
    #: Whether values cannot be chosen to collide in a set: their hashes depend on a secret, or there are few values.
    safe_hashes: ClassVar[bool] = False
    #: Whether a value can be a negative zero; an integer cannot.
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
        """Return the text of a key of a dict. Only if ``keyable``."""
        return str(self.to_wire(value))

    def key_from_wire(self, text: str) -> Any:
        """Return the key of a dict for its text. Only if ``keyable``."""
        return self.from_wire(text)

    def inner(self) -> tuple[StrictField, ...]:
        """Return the fields of the parts of a value, if this is a container."""
        return ()

    def describe(self) -> list[Any]:
        """Return the contract of this field without ``inner``: plain data, the same in every process."""
        return [self.kind]

    def parts(self) -> Iterator[StrictField]:
        """Yield this field and all fields inside it, at any depth, each once; a type may contain itself."""
        seen: set[int] = set()
        waiting: list[StrictField] = [self]
        while waiting:
            current = waiting.pop()
            if id(current) not in seen:
                seen.add(id(current))
                yield current
                waiting.extend(current.inner())

    def reads_decimals(self) -> bool:
        """Return whether JSON numbers have to be read with all their digits."""
        return False

    def round_trips_if(self, code: Code, v: str, /) -> str:
        """
        Return a Python expression that is true only of values that would come back from JSON equal.

        Args:
            code: Gives names to objects, and the tests of other fields.
            v: The variable with the value, which is not None. The expression uses it before any other variable.

        Raises:
            Uncertain: No promise can be made.
        """
        raise Uncertain

    def write_code(self, code: WriteCode, v: str, /) -> str:
        """
        Return a Python expression for the JSON of a value; it raises for a value that it is not for.

        Args:
            code: Gives names to objects, and the expressions of other fields.
            v: The variable with the value, which is not None unless the caller is wrong.

        Raises:
            Uncertain: There is no such expression, or it would run code of the application.
        """
        raise Uncertain

    def read_code(self, code: ReadCode, v: str, /) -> str:
        """
        Return a Python expression for the value of plain JSON data; it raises for data that it is not for.

        Args:
            code: Gives names to objects, and the expressions of other fields.
            v: The variable with the data.

        Raises:
            Uncertain: There is no such expression, or it would run code of the application.
        """
        raise Uncertain

    def count_code(self, code: CountCode, v: str, /) -> str:
        """Return a Python expression for the number of properties in plain JSON data that ``read_code`` has read."""
        return "0"

    def runs_code_of(self) -> type | None:
        """Return the class of the values if the application's code makes them, which ``read_values`` can do without."""
        return None

    def read_values(self, code: ReadCode, /) -> str:
        """Return the name of a function that reads the arguments of that class, as a dict. Raises Uncertain."""
        raise Uncertain

    def dump_value(self, value: Any) -> Any:
        """Return plain JSON data for any value, None included. Raises ValidationError."""
        if value is None:
            if self.allow_none:
                return None
            raise ValidationError("may not be None; annotate it as Optional if it may")
        return self.to_wire(value)

    def load_value(self, raw: Any) -> Any:
        """Return the value for any plain JSON data, null included. Raises ValidationError."""
        if raw is None:
            if self.allow_none:
                return None
            raise ValidationError("may not be null")
        return self.from_wire(raw)

    def serialize(self, attr: str, obj: Any, accessor: Any = None, **kwargs: Any) -> Any:
        """Return plain JSON data for an attribute of an object; an error names the attribute. Called by marshmallow."""
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


class TextualField(StrictField):
    """Base of the kinds that JSON has no form for: one function writes the value as text, another reads it."""

    #: The class of the values.
    cls: ClassVar[type]
    write: ClassVar[Any]
    #: Raises ValueError or OverflowError for a text that it cannot read.
    read: ClassVar[Any]
    #: What an error expects instead of a value that is not text, and instead of another text.
    form: ClassVar[str]
    expected: ClassVar[str]

    def to_wire(self, value: Any) -> Any:
        if not isinstance(value, self.cls):
            fail(self.cls.__name__, value)
        return self.write(value)

    def from_wire(self, raw: Any) -> Any:
        if type(raw) is not str:
            fail(self.form, raw)
        try:
            return self.read(raw)
        except (ValueError, OverflowError) as exc:
            raise ValidationError(f"expected {self.expected}") from exc

    def is_exact_class(self, code: Code, v: str) -> str:
        """Return the test for values of the class itself; see ``round_trips_if``, which is not inherited."""
        return f"type({v}) is {code.name(self.cls)}"

    def write_exact_class(self, code: WriteCode, v: str) -> str:
        """Return the expression for values of the class itself; see ``write_code``, which is not inherited."""
        # No text of these kinds has a character that JSON escapes.
        return f"""'"' + {code.name(self.write)}({v}) + '"' if type({v}) is {code.name(self.cls)} else unfit({v})"""

    def read_text(self, code: ReadCode, v: str) -> str:
        """Return the expression for text; see ``read_code``, which is not inherited."""
        return f"{code.name(self.read)}({v}) if type({v}) is str else unfit({v})"
