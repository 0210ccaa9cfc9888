"""What holds for every kind of field."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Any, Optional

from catga_sync.messages import Query
from catga_sync.serialization import MessageRegistry, fields
from catga_sync.serialization.fields.base import StrictField, TextualField
from catga_sync.serialization.fields.container import DictField, ListField, SetField, TupleField
from catga_sync.serialization.fields.number import IntField
from catga_sync.serialization.fields.object import Shape, ShapeField
from catga_sync.serialization.fields.text import StrField
from catga_sync.serialization.roundtrip import compile_round_trip
from tests.tables import every_row


def kinds() -> list[type[StrictField]]:
    """Return the fields of all files of the package."""
    modules = [
        importlib.import_module(f"{fields.__name__}.{found.name}") for found in pkgutil.iter_modules(fields.__path__)
    ]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, StrictField) and value.__module__ == module.__name__
        if value.__name__ in module.__all__
    ]


def test_no_two_kinds_have_the_same_contract():
    names = sorted(kind.kind for kind in kinds() if kind not in (StrictField, TextualField))
    assert len(names) >= 20
    assert all(names)
    assert names == sorted(set(names))


def test_every_kind_writes_and_reads():
    for kind in kinds():
        if kind not in (StrictField, ShapeField):  # a ShapeField takes both from its shape
            assert kind.to_wire is not StrictField.to_wire, kind
            assert kind.from_wire is not StrictField.from_wire, kind


class Doubled(IntField):
    """A kind that changes what its base lets pass."""

    def to_wire(self, value: Any) -> Any:
        return super().to_wire(value) * 2


class Shouted(StrField):
    def to_wire(self, value: Any) -> Any:
        return super().to_wire(value).upper()


class Reversed(ListField):
    def to_wire(self, value: Any) -> Any:
        return super().to_wire(value)[::-1]


@every_row(
    ("make", "value"),
    [
        (lambda kind: kind(), 1),
        (lambda kind: ListField(kind()), [1]),
        (lambda kind: SetField(kind(), set), {1}),
        (lambda kind: TupleField((kind(),)), (1,)),
        (lambda kind: DictField(kind(), kind()), {1: 1}),
    ],
    ids=["itself", "list", "set", "tuple", "dict"],
)
def test_a_kind_inherits_no_promise_that_its_values_travel_unchanged(make, value):
    assert compile_round_trip(make(IntField))(value)
    assert not compile_round_trip(make(Doubled))(value)


def test_the_same_holds_for_texts_and_lists():
    assert compile_round_trip(StrField())("a")
    assert not compile_round_trip(Shouted())("a")
    assert compile_round_trip(ListField(IntField()))([1, 2])
    assert not compile_round_trip(Reversed(IntField()))([1, 2])


@dataclass
class Tree:
    name: str
    parent: Optional[Tree] = None  # noqa: UP045
    branches: list[Tree] = ()  # type: ignore[assignment]


@dataclass
class GetTree(Query[Tree]):
    tree: Tree


def test_the_parts_of_a_type_that_contains_itself_are_each_told_once():
    field = MessageRegistry().register(GetTree).codec.field
    parts = list(field.parts())
    assert parts[0] is field
    assert len(parts) == len(set(map(id, parts)))
    assert sorted(part.kind for part in parts) == ["list", "object", "object", "object", "object", "str"]


def test_the_parts_of_a_shape_without_fields_are_itself():
    shape = Shape(Tree, "Tree")
    shape.fill({})
    field = ShapeField(shape)
    assert list(field.parts()) == [field]
