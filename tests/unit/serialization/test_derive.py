# ruff: noqa: UP007, UP045  # both ways to write a union
"""What cannot be derived is an error at registration that names class and field."""

from __future__ import annotations

import enum
import sys
import types
import typing
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Optional, TypeVar, Union

import pytest

from catga_sync.errors import RegistrationError, SerializationError
from catga_sync.messages import Event, Query, Request, message
from catga_sync.serialization import MessageRegistry
from tests.tables import every_row

if TYPE_CHECKING:
    from decimal import Context  # noqa: F401  # what cannot be resolved at run time

T = TypeVar("T")
date = __import__("datetime").date


class Plain:
    pass


class Shape(enum.Enum):
    ROUND = (1, 2)


@dataclass
class Page(Generic[T]):
    items: list[T]


@dataclass
class Inner:
    bad: complex


class Row(typing.TypedDict):
    a: int


def register(annotation):
    cls = type("C", (), {"__annotations__": {"fine": int, "some_field": annotation}, "__module__": __name__})
    return MessageRegistry().register(dataclass(cls))


@every_row(
    "annotation",
    [
        complex,
        object,
        Plain,
        Row,
        "Plain",
        list[Plain],
        dict[str, Plain],
        tuple[int, Plain],
        Optional[Plain],
        Union[int, str],
        int | str | None,
        Sequence[int],
        typing.Callable[[int], int],
        typing.Literal[b"x"],
        Shape,
        T,
        Page,
        Page[T],
        dict[bytes, int],
        dict[float, int],
        dict[Optional[str], int],
        dict[tuple[int, int], int],
        "Context",
        "Missing[int]",
        "list[",
    ],
)
def test_a_field_that_cannot_be_derived_is_named(annotation):
    with pytest.raises(RegistrationError, match=rf"^{__name__}\.(C\.some_field|Page\.items): "):
        register(annotation)


def test_the_error_lists_what_can_be_used():
    with pytest.raises(
        RegistrationError, match=r"cannot derive a field from complex; use str, int, .*@message\(schema"
    ):
        register("complex")


def test_an_unresolvable_name_says_where_to_import_it():
    with pytest.raises(RegistrationError, match=r"'Context'.*outside of TYPE_CHECKING"):
        register("Context")


def test_the_field_of_a_nested_class_is_named_with_its_class():
    with pytest.raises(RegistrationError, match=rf"{__name__}\.Inner\.bad"):
        register(list[Inner])


def test_an_init_var_is_an_error():
    @dataclass
    class C:
        a: int
        b: InitVar[int]

    with pytest.raises(RegistrationError, match=r"C\.b: an InitVar"):
        MessageRegistry().register(C)


def test_two_fields_with_one_wire_name_are_an_error():
    @dataclass
    class C:
        user_id: int
        userId: int  # noqa: N815

    with pytest.raises(RegistrationError, match="'user_id' and 'userId'"):
        MessageRegistry().register(C)


@every_row("base", [Request[int], Query[int], Event, object])
def test_a_class_that_is_no_dataclass_says_what_to_add(base):
    class C(base):
        pass

    kind = {object: "", Event: "event "}.get(base, "request ")
    text = rf"C: this {kind}class is not a dataclass; add @dataclass\(frozen=True\) or give @message\(schema=\.\.\.\)"
    with pytest.raises(RegistrationError, match=text):
        MessageRegistry().register(C)


def test_a_forgotten_decorator_on_a_subclass_is_an_error():
    @dataclass
    class Base(Request[int]):
        a: int

    class Sub(Base):
        b: int

    class Same(Base):
        pass

    with pytest.raises(RegistrationError, match=r"Sub: adds b .*add @dataclass"):
        MessageRegistry().register(Sub)
    assert MessageRegistry().register(Same).codec.decode(b'{"a":1}') == Same(1)


def test_a_request_that_is_an_event_is_an_error():
    @dataclass
    class Both(Request[int], Event):
        pass

    with pytest.raises(RegistrationError, match="a Request and an Event"):
        MessageRegistry().register(Both)


@every_row("annotation", [object, Plain, Union[int, str], complex])
def test_an_answer_that_cannot_be_derived_is_an_error(annotation):
    @dataclass
    class Get(Request[annotation]):
        pass

    with pytest.raises(RegistrationError, match=r"Get: response: cannot derive"):
        MessageRegistry().register(Get)


def test_an_annotation_is_the_type_even_if_a_field_has_its_name():
    @dataclass
    class C:
        date: date | None = None
        str: str = ""
        list: list[int] = field(default_factory=list)

    assert MessageRegistry().register(C).codec.decode(b'{"date":"2024-01-01","str":"a"}') == C(date(2024, 1, 1), "a")


def test_one_forward_reference_means_another_class_in_another_module(monkeypatch):
    found = {}
    for name, kind in (("one", int), ("two", str)):
        module = types.ModuleType(f"module_{name}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        module.Target = dataclass(type("Target", (), {"__annotations__": {"a": kind}, "__module__": module.__name__}))
        holder = type("C", (), {"__annotations__": {"it": Optional["Target"]}, "__module__": module.__name__})  # noqa: F821
        module.C = dataclass(holder)
        found[name] = MessageRegistry().register(module.C).codec
    assert found["one"].decode(b'{"it":{"a":1}}').it.a == 1
    assert found["two"].decode(b'{"it":{"a":"x"}}').it.a == "x"


def test_an_inherited_field_is_resolved_in_the_module_that_wrote_it(monkeypatch):
    module = types.ModuleType("module_of_base")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    module.OnlyThere = int
    base = dataclass(type("Base", (), {"__annotations__": {"a": "OnlyThere"}, "__module__": module.__name__}))

    @dataclass
    class Sub(base):
        b: int = 0

    assert MessageRegistry().register(Sub).codec.decode(b'{"a":1}') == Sub(1)


def test_a_class_with_a_schema_of_its_own_may_be_a_field():
    from marshmallow import Schema, fields

    class PlainSchema(Schema):
        x = fields.Int(required=True)

    @message(schema=PlainSchema)
    class Point:
        def __init__(self, x):
            self.x = x

    namespace = {"__annotations__": {"points": list[Point], "any_of": Any}, "__module__": __name__}
    cls = dataclass(type("C", (), namespace))
    codec = MessageRegistry().register(cls).codec
    assert codec.encode(cls([Point(1)], None)) == b'{"points":[{"x":1}],"anyOf":null}'
    assert codec.decode(b'{"points":[{"x":1}],"anyOf":1}').points[0].x == 1


@dataclass
class Endless(Generic[T]):
    more: Endless[list[T]] | None


def test_a_type_without_an_end_is_an_error():
    with pytest.raises(RegistrationError, match=r"Endless: contains itself with another type parameter"):
        register(Endless[int])


def test_slots_and_keyword_only_fields_are_fine():
    @dataclass(frozen=True, slots=True, kw_only=True)
    class C(Request[int]):
        a: int
        b: str = ""

    codec = MessageRegistry().register(C).codec
    assert codec.decode(codec.encode(C(a=1, b="x"))) == C(a=1, b="x")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12")
def test_the_generics_of_python_3_12_are_fine():
    source = """
from __future__ import annotations
from dataclasses import dataclass
from catga_sync.messages import Request

type Number = int | None
type Rows[X] = list[X]

@dataclass
class Page[T]:
    items: list[T]
    count: Number

@dataclass
class Base[T](Request[Page[T]]):
    one: T

@dataclass
class Get(Base[int]):
    pass
"""
    module = types.ModuleType("module_of_312")
    sys.modules[module.__name__] = module
    try:
        exec(source, vars(module))
        entry = MessageRegistry().register(module.Get)
    finally:
        del sys.modules[module.__name__]
    assert entry.response_codec.decode(b'{"items":[1],"count":null}') == module.Page([1], None)
    with pytest.raises(SerializationError, match=r"items\[0\]: expected int"):
        entry.response_codec.decode(b'{"items":["x"],"count":null}')
