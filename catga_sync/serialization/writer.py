"""Compiles a function that writes the JSON of right values; any other value is left to the fields.

    GetUser(user_id: str, limit: int | None)   ->
        v1 = v.user_id
        v2 = v.limit
        v1 = quote(v1)
        v2 = "null" if v2 is None else ...
        return f'{C1}{v1}{C2}{v2}{C3}'      if type(v) is GetUser; C1 is '{"userId":', C2 is ',"limit":'

Each kind of field writes the expression for its own values in ``StrictField.write_code``; this file joins them.

Rules of this file:
1. The bytes are those that ``StrictField.to_wire`` and ``jsontext.dumps`` give. For anything unexpected the function
   returns None; the caller then uses those two, which have the errors.
2. So nothing of a user's may run, as it would run twice: a class with properties has no such function.
"""

from __future__ import annotations

from collections.abc import Callable
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, NoReturn

from catga_sync.serialization.jsonscan import check_depth
from catga_sync.serialization.source import NOT_COMPILED, Source, Uncertain

if TYPE_CHECKING:
    from catga_sync.serialization.fields.base import StrictField

__all__ = ["WriteCode", "compile_writer", "unfit"]


def unfit(value: Any) -> NoReturn:
    """Leave a generated function: the value is not one of those that it is for."""
    raise TypeError


def compile_writer(field: StrictField) -> Callable[[Any], bytes | None] | None:
    """
    Return a function that returns the JSON of a value that is not None, and None for a value that it is not for.

    None instead of a function means that values of this field cannot be written in this way.
    """
    code = WriteCode()
    try:
        text = code.compile(code.text(field, "v"))
    except NOT_COMPILED:
        return None

    def write(value: Any) -> bytes | None:
        try:
            # A text with half of a surrogate pair is found here.
            raw: bytes = text(value).encode("utf-8")
            check_depth(raw)
        except Exception:
            return None
        return raw

    return write


class WriteCode(Source):
    """The source of a function that writes. Not thread-safe."""

    def __init__(self) -> None:
        super().__init__(
            bool=bool, bytes=bytes, dict=dict, float=float, int=int, list=list, set=set, str=str, tuple=tuple,
            quote=encode_basestring, comma=",".join, unfit=unfit,
        )  # fmt: skip

    def text(self, field: StrictField, v: str) -> str:
        """Return the expression for the JSON of a variable that is not None. Raises Uncertain."""
        # A subclass may treat values differently from its base, so it needs an expression of its own.
        if "write_code" not in vars(type(field)):
            raise Uncertain
        return f"({field.write_code(self, v)})"

    def item(self, field: StrictField, v: str) -> str:
        """Return the expression for the JSON of a variable that may be None if the field allows it."""
        text = self.text(field, v)
        return f"('null' if {v} is None else {text})" if field.allow_none else text

    def parts(self, open_: str, parts: list[tuple[str, StrictField, str]], close: str) -> tuple[str, tuple[str, ...]]:
        """
        Return the arguments of ``compile`` for a value with a fixed number of parts.

        Args:
            open_, close: The brackets.
            parts: Of each part the JSON before it, its field, and the expression for its value.
        """
        variables = [self.variable() for _ in parts]
        lines = [f"{v} = {value}" for v, (_, _, value) in zip(variables, parts, strict=True)]
        lines += [f"{v} = {self.item(field, v)}" for v, (_, field, _) in zip(variables, parts, strict=True)]
        joined = "".join(
            f"{{{self.name((',' if at else open_) + before)}}}{{{variables[at]}}}"
            for at, (before, _, _) in enumerate(parts)
        )
        return f"f'{joined}{{{self.name(close if parts else open_ + close)}}}'", tuple(lines)
