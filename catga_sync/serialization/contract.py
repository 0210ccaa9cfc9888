"""Whether two nodes that use the same type name can read each other's messages.

A contract is a line of text that a node publishes for each request type. For every property of request and response it
has the name on the wire, a hash of the kind of value, ``?`` if null is allowed, and ``!`` if it is required:

    userId:3f2a9c01!,page:77b0c2d4?|name:1c4e5a90!

Two contracts fit if each reader finds what it needs; it ignores properties that it does not know. So a rolling deploy
that adds a property with a default keeps running, and one that changes the kind of a property never sends a message to
a node that cannot read it.

The hash of a kind depends on the names, kinds and required-ness of the nested properties, and on nothing else: not on
the process, the order of fields, the names of nested classes, or the version of marshmallow. Types can contain
themselves, so they are described in rounds: each starts as a blank, and each round describes every type by what the
round before said of the others. After as many rounds as JSON may have levels, no message can tell the remaining types
apart (Hopcroft's partition refinement, cut off at the depth limit of the wire).
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from catga_sync.serialization.fields.base import StrictField
from catga_sync.serialization.fields.object import Shape, ShapeField
from catga_sync.serialization.jsonscan import MAX_DEPTH

__all__ = ["Form", "contract", "contract_text", "differences"]

#: Characters of a property's name in a text.
_LONGEST_NAME = 64

#: name on the wire -> (hash of the kind, null is allowed, required)
Form = dict[str, tuple[str, bool, bool]]


def contract(request: StrictField, response: StrictField | None) -> str:
    """Return the contract of a request type; ``response`` is None for an event."""
    return contract_text(_form(request), {} if response is None else _form(response))


def _form(field: StrictField) -> Form:
    parts = field.shape.fields if isinstance(field, ShapeField) else {"": field}
    return {
        str(part.data_key or name): (_kind(part), bool(part.allow_none), bool(part.required))
        for name, part in parts.items()
    }


def _kind(field: StrictField) -> str:
    """Return the hash of a property's kind, the same whether or not the property itself may be null."""
    described = _describe(field, _refine([part.shape for part in field.parts() if isinstance(part, ShapeField)]))
    # The second entry from the end says whether null is allowed, for which the contract has its own mark.
    described[-2] = None
    return _digest(described)[:8]


def _refine(shapes: list[Shape]) -> dict[Shape, str]:
    """Return the hash of each shape, in the rounds that the module's text describes."""
    known = dict.fromkeys(shapes, "")
    for _ in range(MAX_DEPTH):
        described = {shape: _digest(_describe_shape(shape, known)) for shape in shapes}
        if described == known:
            break
        known = described
    return known


def _describe_shape(shape: Shape, known: dict[Shape, str]) -> list[Any]:
    described = [[f.data_key, f.required, _describe(f, known)] for f in shape.fields.values()]
    return sorted(described, key=lambda entry: str(entry[0]))


def _describe(field: StrictField, known: dict[Shape, str]) -> list[Any]:
    if isinstance(field, ShapeField):
        return [field.kind, field.allow_none, known[field.shape]]
    return [*field.describe(), field.allow_none, [_describe(inner, known) for inner in field.inner()]]


def _digest(described: Any) -> str:
    text = json.dumps(described, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def contract_text(request: Form, response: Form) -> str:
    """Return the contract of a request type with these forms."""
    return f"{_side(request)}|{_side(response)}"


@functools.lru_cache(4096)
def differences(sender: str, receiver: str) -> tuple[str, ...]:
    """
    Return the parts of a request that the receiver cannot read, and those of its response that the sender cannot.

    In the texts "here" is the sender and "there" the receiver. As a contract has hashes, a text can say that two kinds
    differ, but not how. A text that is not a contract fits nothing but itself.
    """
    if sender == receiver:
        return ()
    try:
        request_here, response_here = (_parse(side) for side in sender.split("|"))
        request_there, response_there = (_parse(side) for side in receiver.split("|"))
    except ValueError:
        return ("its contract has a format that this version cannot read",)
    return (
        *_obstacles(request_here, request_there, "the request", writer="here", reader="there"),
        *_obstacles(response_there, response_here, "the response", writer="there", reader="here"),
    )


def _obstacles(written: Form, expected: Form, whole: str, *, writer: str, reader: str) -> Iterator[str]:
    for name, (kind, nullable, required) in expected.items():
        found = written.get(name)
        # A value that is not an object has one part without a name.
        part = f"`{_unquoted(name)}`" if name else whole
        if name and whole == "the response":
            part += " of the response"
        if found is None:
            if required:
                yield f"{part} is required {reader}, absent {writer}"
        elif found[0] != kind:
            yield f"{part} is another kind of value there"
        elif found[1] and not nullable:
            yield f"{part} may be null {writer} and not {reader}"


def _side(form: Form) -> str:
    return ",".join(
        f"{_quoted(name)}:{kind}{'?' if nullable else ''}{'!' if required else ''}"
        for name, (kind, nullable, required) in sorted(form.items())
    )


def _quoted(name: str) -> str:
    return "".join(char if char.isalnum() and char.isascii() else f"%{ord(char):x};" for char in name)


def _unquoted(name: str) -> str:
    text = re.sub(r"%([0-9a-f]{1,6});", lambda match: _char(int(match[1], 16)), name)
    # A contract comes from another node, and this text goes into logs.
    return "".join(char if char.isprintable() else "?" for char in text[:_LONGEST_NAME])


def _char(code: int) -> str:
    return chr(code) if code <= sys.maxunicode else "?"


def _parse(side: str) -> Form:
    form: Form = {}
    for part in filter(None, side.split(",")):
        name, colon, rest = part.partition(":")
        kind = rest.rstrip("?!")
        if not colon or not kind:
            raise ValueError(part)
        form[name] = (kind, "?" in rest, "!" in rest)
    return form
