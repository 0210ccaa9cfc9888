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

from catga_sync.serialization.fields import StrictField
from catga_sync.serialization.jsontext import MAX_DEPTH
from catga_sync.serialization.shape import Shape, ShapeField

__all__ = ["fingerprint"]


def fingerprint(*contracts: StrictField | None) -> str:
    """Return 16 hex digits for the contract of some fields together, in this order."""
    shapes: dict[Shape, None] = {}
    for field in contracts:
        if field is not None:
            _collect(field, shapes)
    known: dict[Shape, str] = dict.fromkeys(shapes, "")
    for _ in range(MAX_DEPTH):
        described = {shape: _digest(_describe_shape(shape, known)) for shape in shapes}
        if described == known:
            break
        known = described
    return _digest([None if field is None else _describe(field, known) for field in contracts])


def _collect(field: StrictField, shapes: dict[Shape, None]) -> None:
    waiting = [field]
    while waiting:
        current = waiting.pop()
        if isinstance(current, ShapeField):
            if current.shape in shapes:
                continue
            shapes[current.shape] = None
        waiting.extend(current.inner())


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
