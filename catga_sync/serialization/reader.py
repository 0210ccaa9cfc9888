"""Compiles a function that reads the JSON of right values; any other JSON is left to the fields.

    GetUser(user_id: str, limit: int | None)   ->
        if len(v) != 2: unfit(v)
        v1 = v['userId']
        v2 = v['limit']
        return GetUser(v1 if type(v1) is str else unfit(v1), None if v2 is None else ...)

Each kind of field writes the expression for its own values in ``StrictField.read_code``; this file joins them. An
object must have all its properties, in the spelling in which nodes write them, and no others.

``jsontext.loads`` calls a function for each object to find a property that is there twice. Here the properties in the
text are counted instead, and those in the data, which the types tell where to find. A property that is there twice is
one more in the text than in the data.

Rules of this file:
1. The values are those that ``jsontext.loads`` and ``StrictField.from_wire`` give. For anything unexpected the function
   returns ``UNREAD``; the caller then uses those two, which have the errors.
2. So nothing of a user's may run, as it would run twice. The one exception is the class of the whole value: its values
   are returned, and the caller makes the object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from catga_sync.serialization import jsontext
from catga_sync.serialization.jsonscan import count_properties
from catga_sync.serialization.source import NOT_COMPILED, Source, Uncertain
from catga_sync.serialization.writer import unfit

if TYPE_CHECKING:
    from catga_sync.serialization.fields.base import StrictField

__all__ = ["UNREAD", "CountCode", "ReadCode", "Reader", "compile_reader"]

#: What a reader returns for JSON that it is not for.
UNREAD: Any = object()


class Reader(NamedTuple):
    """How the JSON of a field is read. Immutable, thread-safe."""

    #: Returns the value for JSON, or ``UNREAD``.
    read: Callable[[bytes], Any]
    #: The class that the value, a dict, is to be given to; None if it is the value itself.
    makes: type | None


def compile_reader(field: StrictField, *, decimals: bool, signed_zeros: bool) -> Reader | None:
    """
    Return the reader of a field.

    Args:
        field: The field.
        decimals, signed_zeros: As for ``jsontext.loads``.

    Returns:
        The reader. None means that values of this field cannot be read in this way.
    """
    code, counting = ReadCode(), CountCode()
    makes = field.runs_code_of()
    try:
        convert = code.compile(code.value(field, "v") if makes is None else f"{field.read_values(code)}(v)")
        count = counting.compile(counting.count(field, "v"))
    except NOT_COMPILED:
        return None

    def read(raw: bytes) -> Any:
        try:
            data, most = jsontext.loads_plain(raw, decimals=decimals, signed_zeros=signed_zeros)
            value = convert(data)
            found = count(data)
            return value if found == most or found == count_properties(raw) else UNREAD
        except Exception:
            return UNREAD

    return Reader(read, makes)


class ReadCode(Source):
    """The source of a function that makes a value of plain JSON data. Not thread-safe."""

    def __init__(self) -> None:
        super().__init__(dict=dict, float=float, int=int, list=list, str=str, tuple=tuple, unfit=unfit)

    def value(self, field: StrictField, v: str) -> str:
        """Return the expression for the value of a variable that is not None. Raises Uncertain."""
        # A subclass may treat values differently from its base, so it needs an expression of its own.
        if "read_code" not in vars(type(field)):
            raise Uncertain
        return f"({field.read_code(self, v)})"

    def item(self, field: StrictField, v: str) -> str:
        """Return the expression for the value of a variable that may be None if the field allows it."""
        value = self.value(field, v)
        return f"(None if {v} is None else {value})" if field.allow_none else value


class CountCode(Source):
    """The source of a function that counts the properties in plain JSON data that has been read. Not thread-safe."""

    def __init__(self) -> None:
        super().__init__(sum=sum)
        #: What is always the same count, and "" for the others.
        self._numerals: dict[Any, str] = {}

    def count(self, field: StrictField, v: str) -> str:
        """Return the expression for the properties in a variable; a numeral if there are always as many."""
        count = field.count_code(self, v)
        return f"(0 if {v} is None else {count})" if field.allow_none and count != "0" else count

    def total(self, key: Any, write: Callable[[], list[str]], v: str) -> str:
        """
        Return the expression for the sum of several counts.

        Args:
            key: What the sum is for.
            write: Returns the expressions for the counts in a variable ``v``.
            v: The variable, or another expression.
        """
        name = self.function(key, lambda: (self._sum(key, write()), ()))
        return self._numerals.get(key) or f"{name}({v})"

    def _sum(self, key: Any, counts: list[str]) -> str:
        fixed = str(sum(int(count) for count in counts if count.isdigit()))
        others = [count for count in counts if not count.isdigit()]
        if not others:
            self._numerals[key] = fixed
        return " + ".join([fixed, *others])
