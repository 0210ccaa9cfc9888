"""Compiles a test of whether a value is equal after a JSON round trip.

A local call passes its objects on as they are, a remote call sends them as JSON. Both have to give the same result. To
write and read the JSON of every local call would cost fifty times the call. So the value is tested first: if every part
of it is exactly of the class that the annotation names, it would come back equal, and nothing has to be done.

    GetUser(user_id: str, limit: int | None)   ->
        type(v) is C0 and type(v1 := v.user_id) is str and (v1.isascii() or C1(v1))
                      and ((v2 := v.limit) is None or type(v2) is int and C2 < v2 < C3)

Each kind of field writes the test of its own values in ``StrictField.round_trips_if``; this file joins the tests.

Rules of this file:
1. True is a promise. False promises nothing: the caller then has the codec write and read the value.
2. The source text consists of the fields' own expressions, of names from ``Code.name``, and of attribute names that are
   checked to be identifiers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from catga_sync.serialization.fields.base import StrictField

__all__ = ["Code", "Uncertain", "compile_round_trip"]


class Uncertain(Exception):
    """No promise can be made for a field. Stays inside this package."""


def compile_round_trip(field: StrictField) -> Callable[[Any], bool]:
    """
    Return a function that returns whether a value that is not None is equal after a JSON round trip.

    The function may raise for an object that lacks an attribute or runs code when it is looked at; that means False.
    """
    code = Code()
    try:
        return code.compile(code.test(field, "v"))
    except Uncertain:
        return lambda value: False


class Code:
    """The source of one test function while it is written. Not thread-safe."""

    def __init__(self) -> None:
        #: The names that the source can use.
        self._names: dict[str, Any] = {"__builtins__": {}, "all": all, "len": len, "type": type}
        self._functions: dict[Any, str] = {}
        self._variables = 0

    def compile(self, test: str) -> Callable[[Any], bool]:
        """Return the function that makes a test of its argument ``v``."""
        made: Callable[[Any], bool] = eval(f"lambda v: {test}", self._names)  # noqa: S307 - see rule 2
        return made

    def name(self, value: Any) -> str:
        """Return a name for an object that the source uses."""
        name = f"C{len(self._names)}"
        self._names[name] = value
        return name

    def variable(self) -> str:
        """Return the name of a new variable."""
        self._variables += 1
        return f"v{self._variables}"

    def test(self, field: StrictField, v: str) -> str:
        """Return the test of a variable that is not None. Raises Uncertain."""
        # A subclass may treat values differently from its base, so it needs a test of its own.
        if "round_trips_if" not in vars(type(field)):
            raise Uncertain
        return f"({field.round_trips_if(self, v)})"

    def item(self, field: StrictField, v: str, first: str | None = None) -> str:
        """
        Return the test of a variable that may be None if the field allows it.

        Args:
            field: The field of the value.
            v: The variable.
            first: The expression for the first use of the variable. None means the variable itself.

        Raises:
            Uncertain: No promise can be made.
        """
        if not field.allow_none:
            test = self.test(field, v)
            return test if first is None else test.replace(v, first, 1)
        try:
            return f"({first or v} is None or {self.test(field, v)})"
        except Uncertain:
            return f"{first or v} is None"

    def part(self, field: StrictField, value: str) -> str:
        """Return the test of an expression, which is evaluated once. Raises Uncertain."""
        v = self.variable()
        return self.item(field, v, f"({v} := {value})")

    def function(self, key: Any, tests: Callable[[], list[str]]) -> str:
        """
        Return the name of a function that makes several tests of a value ``v``; it is written once for each key.

        Raises:
            Uncertain: One of the tests raised it, or the function would call itself: such a value may be deeper than
                the wire allows.
        """
        name = self._functions.get(key)
        if name is None:
            name = self._functions[key] = f"f{len(self._functions)}"
            self._names[name] = self.compile(" and ".join(tests()))
        elif name not in self._names:
            raise Uncertain
        return name
