"""A short hash of what a message looks like on the wire, so that two nodes can tell whether they mean the same.

It depends on the names, kinds and required-ness of the properties, nested ones included, and on nothing else: not on
process, order of fields, names of nested classes, or the version of marshmallow.

Types can contain themselves. A type is therefore described in rounds: first each is a blank, then each is described
with what the others were one round before. After as many rounds as JSON may have levels, no message can tell the rest
apart (Hopcroft's refinement of states, cut off where the wire is).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from catga_sync.contracts import Form, contract_text
from catga_sync.serialization.fields import StrictField
from catga_sync.serialization.jsonscan import MAX_DEPTH
from catga_sync.serialization.shape import Shape, ShapeField

__all__ = ["contract", "fingerprint"]


def fingerprint(*contracts: StrictField | None) -> str:
    """Return 16 hex digits for the contract of some fields together, in this order."""
    shapes: dict[Shape, None] = {}
    for field in contracts:
        if field is not None:
            _collect(field, shapes)
    known = _refine(shapes)
    return _digest([None if field is None else _describe(field, known) for field in contracts])


def contract(request: StrictField, answer: StrictField | None) -> str:
    """Return the contract of a request type; ``catga_sync.contracts`` compares two nodes' forms of it by theirs."""
    return contract_text(_form(request), {} if answer is None else _form(answer))


def _form(field: StrictField) -> Form:
    parts = field.shape.fields if isinstance(field, ShapeField) else {"": field}
    return {
        str(part.data_key or name): (_kind(part), bool(part.allow_none), bool(part.required))
        for name, part in parts.items()
    }


def _kind(field: StrictField) -> str:
    """Return the hash of a property's kind, whether or not it may be null itself."""
    shapes: dict[Shape, None] = {}
    _collect(field, shapes)
    known = _refine(shapes)
    described = _describe(field, known)
    # The second entry from the end says whether it may be null; the contract says that apart.
    described[-2] = None
    return _digest(described)[:8]


def _collect(field: StrictField, shapes: dict[Shape, None]) -> None:
    waiting = [field]
    while waiting:
        current = waiting.pop()
        if isinstance(current, ShapeField):
            if current.shape in shapes:
                continue
            shapes[current.shape] = None
        waiting.extend(current.inner())


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
