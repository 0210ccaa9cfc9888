"""Whether a value is certain to come off the wire as it goes on, told by generated code.

A local call hands its objects over as they are, a remote one as JSON. Both have to give the same; going through JSON in
either case would cost a local call fifty times what it costs. So a value is looked at first: of exactly the
classes that the annotation names, all the way down, it would come back equal, and nothing needs to be done.

    GetUser(user_id: str, limit: int | None)   ->
        type(v) is C0 and type(v1 := v.user_id) is str and (v1.isascii() or C1(v1))
                      and ((v2 := v.limit) is None or type(v2) is int and C2 < v2 < C3)

Each kind of field writes the test of its own values, ``StrictField.round_trips_if``; here it is put together.

Rules of this file:
1. True is a promise. False promises nothing: whoever gets it lets the codec write and read the value.
2. The text of the code is made of the fields' own words, of ``Code.name`` for each object that it needs, and of
   attribute names that are checked to be identifiers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Code", "Uncertain", "compile_round_trip"]


class Uncertain(Exception):  # never seen outside of this package
    """Nothing can be promised of a field."""


class Field(Protocol):
    """What is needed of a field."""

    allow_none: bool

    def round_trips_if(self, code: Code, v: str) -> str:
        """Return the test of a variable; see ``StrictField``."""


def compile_round_trip(field: Field) -> Callable[[Any], bool]:
    """
    Return a function that tells of a value that is not None whether the wire is certain to carry it unchanged.

    It may raise for an object that lacks an attribute, or that does something when it is looked at: that is no "yes"
    either.
    """
    code = Code()
    try:
        return code.compile(code.test(field, "v"))
    except Uncertain:
        return lambda value: False


class Code:
    """The code of one function while it is written. Not thread-safe."""

    def __init__(self) -> None:
        #: All that the code can see.
        self._names: dict[str, Any] = {"__builtins__": {}, "all": all, "len": len, "type": type}
        self._functions: dict[Any, str] = {}
        self._count = 0

    def compile(self, test: str) -> Callable[[Any], bool]:
        """Return the function of a value ``v`` for a test."""
        made: Callable[[Any], bool] = eval(f"lambda v: {test}", self._names)  # noqa: S307 - see rule 2
        return made

    def name(self, value: Any) -> str:
        """Return a name by which the code sees an object."""
        name = f"C{len(self._names)}"
        self._names[name] = value
        return name

    def variable(self) -> str:
        """Return the name of a new variable."""
        self._count += 1
        return f"v{self._count}"

    def test(self, field: Field, v: str) -> str:
        """Return the test of a variable that is not None. Raises Uncertain."""
        # What a subclass does otherwise than its base is not known to the base.
        if "round_trips_if" not in vars(type(field)):
            raise Uncertain
        return f"({field.round_trips_if(self, v)})"

    def item(self, field: Field, v: str) -> str:
        """Return the test of a variable that may be None if the field allows it. Raises Uncertain."""
        return self._or_none(field, v, v)

    def part(self, field: Field, value: str) -> str:
        """Return the test of an expression, which is evaluated once. Raises Uncertain."""
        v = self.variable()
        if field.allow_none:
            return self._or_none(field, f"({v} := {value})", v)
        return self.test(field, v).replace(v, f"({v} := {value})", 1)

    def _or_none(self, field: Field, first: str, v: str) -> str:
        if not field.allow_none:
            return self.test(field, v)
        try:
            return f"({first} is None or {self.test(field, v)})"
        except Uncertain:
            return f"{first} is None"

    def function(self, key: Any, tests: Callable[[], list[str]]) -> str:
        """
        Return the name of a function that makes several tests of a value ``v``; it is written once for each key.

        Raises:
            Uncertain: One of the tests does, or the function calls itself: such a value may be deeper than the wire
                allows.
        """
        name = self._functions.get(key)
        if name is None:
            name = self._functions[key] = f"f{len(self._functions)}"
            self._names[name] = self.compile(" and ".join(tests()))
        elif name not in self._names:
            raise Uncertain
        return name
