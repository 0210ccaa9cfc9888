"""Compiles a test of whether a value is equal after a JSON round trip.

A local call passes its objects on as they are, a remote call sends them as JSON. Both have to give the same result. To
write and read the JSON of every local call would cost fifty times the call. So the value is tested first: if every part
of it is exactly of the class that the annotation names, it would come back equal, and nothing has to be done.

    GetUser(user_id: str, limit: int | None)   ->
        type(v) is C0 and type(v1 := v.user_id) is str and (v1.isascii() or C1(v1))
                      and ((v2 := v.limit) is None or type(v2) is int and C2 < v2 < C3)

Each kind of field writes the test of its own values in ``StrictField.round_trips_if``; this file joins the tests.

Rule of this file: True is a promise. False promises nothing: the caller then has the codec write and read the value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from catga_sync.serialization.source import NOT_COMPILED, Source, Uncertain

if TYPE_CHECKING:
    from catga_sync.serialization.fields.base import StrictField

__all__ = ["Code", "compile_round_trip"]


def compile_round_trip(field: StrictField) -> Callable[[Any], bool]:
    """
    Return a function that returns whether a value that is not None is equal after a JSON round trip.

    The function may raise for an object that lacks an attribute or runs code when it is looked at; that means False.
    """
    code = Code()
    try:
        return code.compile(code.test(field, "v"))
    except NOT_COMPILED:
        return lambda value: False


class Code(Source):
    """The source of one test function while it is written. Not thread-safe."""

    def __init__(self) -> None:
        super().__init__(all=all)

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
