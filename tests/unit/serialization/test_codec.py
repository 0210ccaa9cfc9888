# ruff: noqa: DTZ001  # a moment without a zone stays without one
"""What a derived class is on the wire, and what is refused."""

from __future__ import annotations

import enum
import gc
import json
import typing
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Generic, Literal, NewType, Optional, TypeVar
from uuid import UUID

import pytest
from marshmallow import Schema

from catga_sync import messages
from catga_sync.errors import CallError, SerializationError
from catga_sync.serialization import MessageRegistry
from tests.tables import every_row

T = TypeVar("T")
UserId = NewType("UserId", str)
ID = UUID("0b9f6a4e-1c1d-4b5e-9d2f-3a4b5c6d7e8f")


class Color(enum.Enum):
    RED = "r"
    GREEN = "g"
    ALSO_RED = "r"  # noqa: PIE796


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Mood(str, enum.Enum):
    GOOD = "good"


@dataclass(frozen=True)
class Address:
    zip: str
    street_name: str = "?"


@dataclass
class Node:
    value: int
    children: list[Node] = field(default_factory=list)
    other: Other | None = None


@dataclass
class Other:
    node: Optional["Node"] = None  # noqa: UP037, UP045  # as users write it


@dataclass
class Page(Generic[T]):
    items: list[T]
    by_key: dict[str, T] = field(default_factory=dict)
    more: Page[T] | None = None


@dataclass
class Everything:
    a_str: str
    an_int: int
    a_float: float
    a_bool: bool
    a_bytes: bytes
    a_decimal: Decimal
    a_datetime: datetime
    a_date: date
    a_time: time
    a_timedelta: timedelta
    a_uuid: UUID
    a_color: Color
    a_level: Level
    an_access: Access
    a_literal: Literal["x", 1, None]
    anything: Any
    an_id: UserId
    annotated: Annotated[int, "metadata"]
    maybe: Optional[int]  # noqa: UP045
    a_list: list[int | None]
    pair: tuple[int, str]
    many: tuple[int, ...]
    none: tuple[()]
    a_set: set[int]
    a_frozenset: frozenset[str]
    a_dict: dict[UUID, Address]
    by_int: dict[int, str]
    by_color: dict[Color, int]
    by_mood: dict[str, int]
    by_date: dict[date, int]
    by_decimal: dict[Decimal, int]
    by_bool: dict[bool, int]
    old_list: typing.List[Address]  # noqa: UP006
    bare_list: list
    bare_dict: dict
    page: Page[Address]
    class_: int = 0
    made: int = field(init=False, default=7)
    shared: ClassVar[int] = 1


EVERYTHING = Everything(
    "é\u2028😀",
    -(10**30),
    1.5,
    True,
    b"\x00\xff",
    Decimal("1.10"),
    datetime(2024, 2, 29, 12, 30, tzinfo=timezone.utc),
    date(2024, 2, 29),
    time(12, 30, 0, 5),
    timedelta(days=-1, microseconds=1),
    ID,
    Color.GREEN,
    Level.HIGH,
    Access.READ | Access.WRITE,
    "x",
    {"Some_Key": [1, 2.5, None, {"a": "b"}]},
    UserId("u"),
    3,
    None,
    [1, None],
    (1, "a"),
    (1, 2, 3),
    (),
    {1, 2},
    frozenset("ab"),
    {ID: Address("1010")},
    {-1: "x"},
    {Color.RED: 1},
    {Mood.GOOD: 1, "snake_Key": 2},
    {date(2024, 1, 1): 1},
    {Decimal("1.50"): 1},
    {True: 1, False: 2},
    [Address("1", "s")],
    [1, "x"],
    {"k": []},
    Page([Address("1")], {"a_B": Address("2")}, Page([])),
)


def codec(cls, **options):
    return MessageRegistry().register(cls, **options).codec


def make(annotation, *default):
    """A codec for a class with one field."""
    cls = type("C", (), {"__annotations__": {"it": annotation}, "__module__": __name__})
    for value in default:
        cls.it = value
    return codec(dataclass(cls))


def load(annotation, raw):
    return make(annotation).decode(b'{"it":%s}' % (raw if isinstance(raw, bytes) else raw.encode())).it


def dump(annotation, value):
    made = make(annotation)
    raw = made.encode(made.field.shape.cls(value))
    return raw[len(b'{"it":') : -1]


def test_every_kind_of_field_comes_back_as_it_was():
    found = codec(Everything)
    assert found.decode(found.encode(EVERYTHING)) == EVERYTHING


def test_the_schema_is_marshmallows_and_does_the_same_as_the_codec():
    entry = MessageRegistry().register(Everything)
    assert isinstance(entry.schema, Schema)
    dumped = entry.schema.dump(EVERYTHING)
    assert dumped == entry.codec.field.to_wire(EVERYTHING)
    assert entry.schema.load(dumped) == EVERYTHING


def test_wire_names_are_camel_case_and_keys_of_a_dict_are_data():
    data = json.loads(codec(Everything).encode(EVERYTHING))
    assert {"aStr", "class", "aDict", "byMood"} <= data.keys()
    assert not {"made", "shared", "class_"} & data.keys()
    assert data["anything"].keys() == {"Some_Key"}
    assert data["byMood"].keys() == {"good", "snake_Key"}
    assert data["aDict"] == {str(ID): {"zip": "1010", "streetName": "?"}}
    assert data["byBool"] == {"true": 1, "false": 2}
    assert data["page"]["byKey"].keys() == {"a_B"}


@pytest.mark.parametrize("raw", ['{"ZIP":"1","street_name":"x"}', '{"Zip":"1","StreetName":"x","unknown":[{}]}'])
def test_any_spelling_is_read_and_the_unknown_is_ignored(raw):
    assert codec(Address).decode(raw.encode()) == Address("1", "x")


@pytest.mark.parametrize("raw", ['{"zip":"1","Zip":"2"}', '{"zip":"1","zip":"2"}'])
def test_a_property_given_twice_is_refused(raw):
    with pytest.raises(SerializationError, match="twice"):
        codec(Address).decode(raw.encode())


def test_a_field_with_a_default_may_be_missing_and_another_may_not():
    assert codec(Address).decode(b'{"zip":"1"}') == Address("1")
    with pytest.raises(SerializationError, match=r"\.Address\.zip: is missing"):
        codec(Address).decode(b"{}")


def test_types_may_contain_themselves_and_each_other():
    tree = Node(1, [Node(2), Node(3, [Node(4)])], Other(Node(5)))
    found = codec(Node)
    assert found.decode(found.encode(tree)) == tree


def test_a_class_in_a_function_may_contain_itself():
    @dataclass
    class Local:
        inner: Local | None = None

    found = codec(Local)
    assert found.decode(b'{"inner":{}}') == Local(Local())


def test_a_generic_class_is_bound_by_its_parameter():
    @dataclass
    class Pages(Page[Address]):
        pass

    assert codec(Pages).decode(b'{"items":[{"zip":"1"}]}') == Pages([Address("1")])
    assert load(Page[Page[int]], '{"items":[{"items":[1]}]}') == Page([Page([1])])
    with pytest.raises(SerializationError, match=r"it\.items\[0\]: expected int, not str"):
        load(Page[int], '{"items":["1"]}')


@every_row(
    ("annotation", "raw", "says"),
    [
        (int, "true", "expected int, not bool"),
        (int, "1.0", "expected int, not float"),
        (int, '"1"', "expected int, not str"),
        (float, "true", "expected float, not bool"),
        (float, '"1.5"', "expected float, not str"),
        (float, "1" + "0" * 400, "too large"),
        (float, "1e999", "too large"),
        (str, "1", "expected str, not int"),
        (str, '"\\ud800"', "surrogate"),
        (bool, "1", "expected bool, not int"),
        (bool, '"true"', "expected bool, not str"),
        (bytes, '"a b="', "base64"),
        (bytes, '"YQ"', "base64"),
        (bytes, '"YQ==\\n"', "base64"),
        (bytes, '"é"', "base64"),
        (Decimal, "true", "expected a decimal number, not bool"),
        (Decimal, '"NaN"', "decimal number"),
        (Decimal, '"1_000"', "decimal number"),
        (Decimal, '"٣"', "decimal number"),
        (datetime, "1709209845", "ISO 8601"),
        (datetime, '"yesterday"', "date and time"),
        (date, '"2024-02-29T01:00:00"', "date such as"),
        (time, '"25:00:00"', "time such as"),
        (timedelta, "5", r"\[-\]\[d"),
        (UUID, '"{0b9f6a4e-1c1d-4b5e-9d2f-3a4b5c6d7e8f}"', "UUID"),
        (UUID, '"0b9f6a4e1c1d-4b5e-9d2f-3a4b5c6d7e8f"', "UUID"),
        (Color, '"b"', "expected one of 'r', 'g'"),
        (Color, "[]", "expected one of"),
        (Level, "true", "expected one of 1, 2"),
        (Level, "1.0", "expected one of 1, 2"),
        (Level, '"1"', "expected one of 1, 2"),
        (Access, "4", "expected one of 1, 2"),
        (Access, "-1", "expected one of 1, 2"),
        (Access, "true", "expected one of 1, 2"),
        (Literal[1], "true", "expected one of 1"),
        (Literal["a"], "[]", "expected one of 'a'"),
        (list[int], "{}", "expected list, not dict"),
        (list[int], "[1,null]", r"it\[1\]: may not be null"),
        (tuple[int, str], "[1]", "expected 2 items, not 1"),
        (tuple[int, str], "[1,2]", r"it\[1\]: expected str, not int"),
        (set[Any], "[[]]", "cannot be in a set"),
        (dict[str, int], "[]", "expected object, not list"),
        (dict[int, int], '{"x":1}', r"it\['x'\]: expected the text of an integer"),
        (dict[int, int], '{"01":1}', "integer"),
        (dict[UUID, int], f'{{"{ID}":1,"{ID.hex}":2}}', "two keys that mean the same"),
        (dict[bool, int], '{"1":1}', "'true' or 'false'"),
        (Address, "[]", "expected object, not list"),
        (int, "null", "may not be null"),
        (Address, '{"zip":null}', r"it\.zip: may not be null"),
        (Any, '{"\\ud800":1}', "surrogate"),
        (None, "1", "expected null"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_field_named(annotation, raw, says):
    with pytest.raises(SerializationError, match=says) as caught:
        load(annotation, raw)
    assert str(caught.value).startswith(f"{__name__}.C")


@every_row(
    ("annotation", "value", "says"),
    [
        (int, True, "expected int, not bool"),
        (int, 1.0, "expected int, not float"),
        (str, b"x", "expected str, not bytes"),
        (str, "\ud800", "surrogate"),
        (dict[str, int], {"\ud800": 1}, "surrogate"),
        (float, float("nan"), "NaN"),
        (float, 10**400, "too large"),
        (Decimal, 1.5, "expected Decimal, not float"),
        (Decimal, Decimal("NaN"), "NaN"),
        (date, datetime(2024, 1, 1), "expected date, not datetime"),
        (int, None, "may not be None"),
        (Color, "r", "expected Color, not str"),
        (list[int], (1,), "expected list, not tuple"),
        (tuple[int, ...], [1], "expected tuple, not list"),
        (list[int], [1, "x"], r"it\[1\]: expected int"),
        (Address, {"zip": "1"}, "expected Address, not dict"),
        (Address, Address(1), r"it\.zip: expected str, not int"),
        (Any, {1: 2}, "expected str as the key"),
        (Any, object(), "plain JSON data, not object"),
        (Any, float("inf"), "Infinity"),
        (Literal[1], True, "expected one of 1"),
    ],
)
def test_what_could_not_be_read_is_not_written(annotation, value, says):
    with pytest.raises(SerializationError, match=says):
        dump(annotation, value)


@every_row(
    ("annotation", "raw", "value"),
    [
        (float, "1", 1.0),
        (Color, '"GREEN"', Color.GREEN),
        (Color, '"green"', Color.GREEN),
        (Color, '"Also_Red"', Color.RED),
        (Level, '"High"', Level.HIGH),
        (Access, "3", Access.READ | Access.WRITE),
        (Access, '"read"', Access.READ),
        (dict[Level, int], '{"2":1,"low":2}', {Level.HIGH: 1, Level.LOW: 2}),
        (UUID, f'"{ID.hex}"', ID),
        (datetime, '"2024-02-29T12:30:45.1234567"', datetime(2024, 2, 29, 12, 30, 45, 123456)),
        (date, '"2024-02-29T00:00:00"', date(2024, 2, 29)),
        (Decimal, '"1.10"', Decimal("1.10")),
        (Decimal, "7", Decimal(7)),
        (Any, "[1.10,1e3,7]", [1.1, 1000.0, 7]),
        (list[Any], "[[]]", [[]]),
        (str, '"\\u0026\\ud83d\\ude00"', "&😀"),
    ],
)
def test_what_dotnet_writes_is_read(annotation, raw, value):
    found = load(annotation, raw)
    assert found == value
    assert type(found) is type(value)


@every_row("text", ["1.10", "12345678901234567890123456789.123456789", "1E+400", "0.10", "-0.0", "5"])
def test_a_decimal_keeps_its_digits(text):
    assert dump(Decimal, Decimal(text)) == text.encode()
    assert str(load(Decimal, text)) == text


def test_next_to_a_decimal_other_numbers_stay_floats():
    @dataclass
    class Both:
        price: Decimal
        rate: float
        rest: Any

    found = codec(Both).decode(b'{"price":1.10,"rate":1.10,"rest":[1.10,{"a":2e1}]}')
    assert found == Both(Decimal("1.10"), 1.1, [1.1, {"a": 20.0}])
    assert type(found.rate) is float
    assert type(found.rest[0]) is float
    with pytest.raises(SerializationError, match=r"rate: is too large|rate: may not be NaN"):
        codec(Both).decode(b'{"price":1,"rate":1e999,"rest":1}')


def test_an_enum_of_text_and_numbers_is_told_apart_by_type():
    class Mixed(enum.Enum):
        A = 1
        B = "1"
        C = 1.5

    assert load(Mixed, "1") is Mixed.A
    assert load(Mixed, '"1"') is Mixed.B
    assert load(Mixed, "1.5") is Mixed.C


def test_names_that_differ_in_case_only_are_found_by_exact_spelling():
    class Case(enum.Enum):
        a = 1
        A = 2

    assert load(Case, '"a"') is Case.a
    assert load(Case, '"A"') is Case.A


def test_a_constructor_that_refuses_keeps_its_reason_to_itself():
    @dataclass
    class Positive:
        n: int

        def __post_init__(self):
            if self.n < 0:
                raise ValueError("secret reason")

    with pytest.raises(SerializationError, match=r"Positive: Positive refused the values") as caught:
        codec(Positive).decode(b'{"n":-1}')
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(SerializationError, match=r"C\.it\[0\]: Positive refused") as caught:
        load(list[Positive], '[{"n":-1}]')
    assert isinstance(caught.value.__cause__, ValueError)


def test_all_wrong_fields_are_told_up_to_a_limit():
    @dataclass
    class Six:
        a: int
        b: int
        c: int
        d: int
        e: int
        f: int

    with pytest.raises(SerializationError) as caught:
        codec(Six).decode(b"{}")
    assert str(caught.value).count("is missing") == 5
    assert str(caught.value).endswith("; and more")


def test_no_error_shows_a_value():
    with pytest.raises(SerializationError) as caught:
        codec(Address).decode(b'{"zip":["hunter2"],"streetName":{"hunter2":1}}')
    assert "hunter2" not in str(caught.value)


@every_row("raw", [b"", b"[", b"\xff", b"nul", b"[]", b"1", b'"x"', b"{" * 1000, b'{"zip":' + b"9" * 5000 + b"}"])
def test_bytes_that_are_no_such_message_are_refused_with_its_name(raw):
    with pytest.raises(SerializationError, match=r"^[\w.]+\.Address"):
        codec(Address).decode(raw)


@every_row(
    "answer",
    [None, Any, Address | None, Optional[Address], Annotated[int | None, "x"], Literal["a", None]],  # noqa: UP045
)
def test_none_is_an_answer_where_its_type_says_so(answer):
    @dataclass
    class Get(messages.Request[answer]):
        pass

    entry = MessageRegistry().register(Get)
    assert entry.response_may_be_none
    assert entry.response_codec.encode(None) == b"null"
    assert entry.response_codec.decode(b" null ") is None


@every_row("answer", [Address, int, list[Address], list[int | None], Annotated[int, "x"], Literal["a"]])
def test_none_is_no_answer_of_any_other_type(answer):
    @dataclass
    class Get(messages.Request[answer]):
        pass

    entry = MessageRegistry().register(Get)
    assert not entry.response_may_be_none
    with pytest.raises(SerializationError, match="may not be None"):
        entry.response_codec.encode(None)
    with pytest.raises(SerializationError, match="may not be null"):
        entry.response_codec.decode(b"null")


def test_none_is_no_request():
    @dataclass
    class Get(messages.Request[Address]):
        pass

    entry = MessageRegistry().register(Get)
    with pytest.raises(SerializationError, match="may not be null"):
        entry.codec.decode(b"null")
    with pytest.raises(SerializationError, match="may not be None"):
        entry.codec.encode(None)


def test_what_contains_itself_is_no_accident():
    node = Node(1)
    node.children.append(node)
    with pytest.raises(SerializationError, match="contains itself"):
        codec(Node).encode(node)


def test_what_is_too_deep_to_be_read_is_not_written():
    node = Node(0)
    for _ in range(17):
        node = Node(1, [node])
    with pytest.raises(SerializationError, match="levels"):
        codec(Node).encode(node)


def test_a_field_may_have_the_name_of_anything_of_marshmallows():
    @dataclass
    class Names:
        fields: int
        load: int
        opts: int
        context: int
        model: int
        Meta: int
        makes: int
        data: int

    entry = MessageRegistry().register(Names)
    value = Names(1, 2, 3, 4, 5, 6, 7, 8)
    assert entry.codec.decode(entry.codec.encode(value)) == value
    assert entry.schema.load(entry.schema.dump(value)) == value


def test_an_error_is_one_of_a_call():
    assert issubclass(SerializationError, CallError)


# -- memory --------------------------------------------------------------------------------------------------------


@dataclass
class Mixed:
    exact: Decimal
    anything: Any


@every_row(
    "anything", ["0.5", "[0.5]", '{"a":[1,{"b":0.5}],"c":[0.5,[0.25]]}', '[[],{},{"a":null},"x",true,-0.0]', "[]"]
)
def test_anything_beside_a_decimal_has_floats_however_deep(anything):
    codec = MessageRegistry().ensure(Mixed).codec
    found = codec.decode(b'{"exact":0.1,"anything":%b}' % anything.encode())
    assert found == Mixed(Decimal("0.1"), json.loads(anything))
    assert repr(found.anything) == repr(json.loads(anything))


def test_anything_is_not_made_a_second_time():
    field_of_anything = MessageRegistry().ensure(Mixed).codec.field.shape.fields["anything"]
    raw = [{"a": [1, 2.5, "x"]}, [], None]
    assert field_of_anything.from_wire(raw) is raw
    with_a_decimal = [raw, Decimal("0.5")]
    assert field_of_anything.from_wire(with_a_decimal) == [raw, 0.5]
    assert with_a_decimal == [raw, Decimal("0.5")]


@pytest.mark.parametrize("raw", [b'{"exact":0.1}', b'{"exact":true,"anything":[[]]}', b'{"exact":1,"anything":['])
def test_what_was_refused_is_forgotten_at_once(raw):
    """An error in a cycle would keep all that was read until the collector comes by."""
    codec = MessageRegistry().ensure(Mixed).codec
    ways = (codec.decode, lambda _: codec.encode(Mixed(Decimal(1), object())))
    for decode in ways:  # what is made once for a type is made now
        with pytest.raises(SerializationError):
            decode(raw)
    gc.collect()
    gc.disable()
    try:
        for decode in ways:
            with pytest.raises(SerializationError):
                decode(raw)
        assert gc.collect() == 0
    finally:
        gc.enable()
