"""Writes the source of a function and compiles it: the one way in which this package generates code.

Rule of this file: a source consists of expressions written in this package, of names from ``Source.name``, of attribute
names that are checked to be identifiers, and of ``repr()`` of texts and numbers. Nothing else of a user's, and nothing
from the wire, is ever part of it.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable
from typing import Any, cast

__all__ = ["NOT_COMPILED", "Source", "Uncertain", "is_plain_name"]


class Uncertain(Exception):
    """No function can be generated for a field. Stays inside this package."""


#: Why there is no function for a field; the last two mean that it is nested too deeply for Python's compiler.
NOT_COMPILED = (Uncertain, SyntaxError, RecursionError)


def is_plain_name(name: str) -> bool:
    """Return whether a name can be part of a source, and means the same there."""
    # Python changes some names that are not ASCII while it parses them.
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name)


#: What only calls a function of its source with the value.
_CALL = re.compile(r"\(?(?P<name>f\d+)\(v\)\)?")
#: Brackets around brackets in the source of one function. The compiler of Python 3.13 crashes on what is far deeper.
_DEEPEST = 40


def _depth(source: str) -> int:
    """Return how deeply brackets are nested; those in texts count, too."""
    depth = deepest = 0
    for char in source:
        if char in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in ")]}":
            depth -= 1
    return deepest


class Source:
    """The source of one function while it is written, and of the functions that it calls. Not thread-safe."""

    def __init__(self, **names: Any) -> None:
        #: The names that the source can use.
        self._names: dict[str, Any] = {"__builtins__": {}, "len": len, "type": type, **names}
        self._functions: dict[Any, str] = {}
        self._variables = 0

    def compile(self, expression: str, lines: tuple[str, ...] = ()) -> Callable[[Any], Any]:
        """
        Return a function of an argument ``v``.

        Args:
            expression: What the function returns.
            lines: The statements before it, one a line.
        """
        called = None if lines else _CALL.fullmatch(expression)
        if called and called["name"] in self._names:
            # Without a function around it: in a local call, that would take as long as the rest of a test.
            return cast("Callable[[Any], Any]", self._names[called["name"]])
        body = "".join(f"    {line}\n" for line in (*lines, f"return {expression}"))
        if _depth(body) > _DEEPEST:
            raise Uncertain
        made: dict[str, Callable[[Any], Any]] = {}
        exec(f"def function(v):\n{body}", self._names, made)  # noqa: S102 - see the rule
        return made["function"]

    def name(self, value: Any) -> str:
        """Return a name for an object that the source uses."""
        name = f"C{len(self._names)}"
        self._names[name] = value
        return name

    def variable(self) -> str:
        """Return the name of a new variable."""
        self._variables += 1
        return f"v{self._variables}"

    def attribute(self, v: str, name: str) -> str:
        """Return the expression for an attribute of a variable."""
        return f"{v}.{name}" if is_plain_name(name) else f"{self.name(getattr)}({v}, {name!r})"

    def function(self, key: Any, write: Callable[[], tuple[str, tuple[str, ...]]], *, recursive: bool = True) -> str:
        """
        Return the name of a function of a value ``v``; it is written once for each key.

        Args:
            key: What the function is for.
            write: Returns the arguments of ``compile``.
            recursive: False refuses a function that would call itself.

        Raises:
            Uncertain: ``write`` raised it, or the function would call itself and may not.
        """
        name = self._functions.get(key)
        if name is None:
            name = self._functions[key] = f"f{len(self._functions)}"
            self._names[name] = self.compile(*write())
        elif name not in self._names and not recursive:
            raise Uncertain
        return name
