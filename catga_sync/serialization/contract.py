"""Whether two nodes that mean the same message by name can read each other's form of it.

A contract is a line of text that a node tells of each type: for every property of request and answer its wire name, a
hash of its kind, whether null is allowed (``?``) and whether it must be there (``!``):

    userId:3f2a9c01!,page:77b0c2d4?|name:1c4e5a90!

Sending a newer form to an older node, or the other way round, is fine as long as the reader finds what it needs: what
it does not know it ignores. So a rolling deploy that adds a property with a default keeps going, and one that changes
a property's kind never sends a message to a node that cannot read it.

``fingerprint`` makes of a whole message one hash. It depends on the names, kinds and required-ness of the properties,
nested ones included, and on nothing else: not on process, order of fields, names of nested classes, or the version of
marshmallow. Types can contain themselves, so a type is described in rounds: first each is a blank, then each is
described with what the others were one round before. After as many rounds as JSON may have levels, no message can tell
the rest apart (Hopcroft's refinement of states, cut off where the wire is).
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

__all__ = ["Form", "contract", "contract_text", "differences", "fingerprint"]

#: Characters of a property's name that a text shows.
_LONGEST_NAME = 64

#: wire name -> (kind, may be null, must be there)
Form = dict[str, tuple[str, bool, bool]]


def fingerprint(*contracts: StrictField | None) -> str:
    """Return 16 hex digits for the contract of some fields together, in this order."""
    known = _refine(_shapes_in(*(field for field in contracts if field is not None)))
    return _digest([None if field is None else _describe(field, known) for field in contracts])


def contract(request: StrictField, answer: StrictField | None) -> str:
    """Return the contract of a request type."""
    return contract_text(_form(request), {} if answer is None else _form(answer))


def _form(field: StrictField) -> Form:
    parts = field.shape.fields if isinstance(field, ShapeField) else {"": field}
    return {
        str(part.data_key or name): (_kind(part), bool(part.allow_none), bool(part.required))
        for name, part in parts.items()
    }


def _kind(field: StrictField) -> str:
    """Return the hash of a property's kind, whether or not it may be null itself."""
    described = _describe(field, _refine(_shapes_in(field)))
    # The second entry from the end says whether it may be null; the contract says that apart.
    described[-2] = None
    return _digest(described)[:8]


def _shapes_in(*fields: StrictField) -> dict[Shape, None]:
    return {part.shape: None for field in fields for part in field.parts() if isinstance(part, ShapeField)}


def _refine(shapes: dict[Shape, None]) -> dict[Shape, str]:
    known: dict[Shape, str] = dict.fromkeys(shapes, "")
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


def contract_text(request: Form, answer: Form) -> str:
    """Return the contract of a request type with these forms."""
    return f"{_side(request)}|{_side(answer)}"


@functools.lru_cache(4096)
def differences(sender: str, receiver: str) -> tuple[str, ...]:
    """
    Return in words what the receiver cannot read of a request, and the sender of its response; empty if they can.

    "Here" is the sender, "there" the receiver. A contract holds hashes of kinds: that two kinds differ can be said, and
    not how. A text that is no contract fits nothing but itself.
    """
    if sender == receiver:
        return ()
    try:
        asked, answered = (_parse(side) for side in sender.split("|"))
        wanted, given = (_parse(side) for side in receiver.split("|"))
    except ValueError:
        return ("its contract is in no form that this version can read",)
    return (
        *_obstacles(asked, wanted, "the request", writer="here", reader="there"),
        *_obstacles(given, answered, "the response", writer="there", reader="here"),
    )


def _obstacles(written: Form, expected: Form, whole: str, *, writer: str, reader: str) -> Iterator[str]:
    for name, (kind, nullable, required) in expected.items():
        found = written.get(name)
        # The form of what is no object has one nameless part.
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
    # A contract comes from another node, and this is read by people.
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
