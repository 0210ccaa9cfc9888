"""The test of whether a value comes back from JSON equal keeps its promise, and promises it for plain values."""

from __future__ import annotations

import enum
import itertools
import math
import types
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, NewType, Optional
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from catga_sync import Request, message
from catga_sync.serialization import CatgaSchema, Codec, MessageRegistry
from catga_sync.serialization.roundtrip import compile_round_trip
from tests.tables import every_row
from tests.thorough import thorough

Name = NewType("Name", str)


class Color(enum.Enum):
    RED = "r"
    BLUE = 2


class Bits(enum.Flag):
    A = 1
    B = 2


class Loud(str):
    pass


@dataclass(frozen=True)
class Leaf:
    text: str
    number: Optional[int] = None  # noqa: UP045


@dataclass(frozen=True)
class Checked:
    text: str

    def __post_init__(self) -> None:
        if not self.text:
            raise ValueError


@dataclass(frozen=True)
class Counted:
    text: str
    length: int = field(init=False, default=0)


@dataclass
class Making:
    text: str

    def __init__(self, text: str) -> None:
        self.text = f"{text}!"


@dataclass
class Setting:
    text: str

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, f"{value}!")


@dataclass(frozen=True)
class Endless:
    inner: Optional[Endless]  # noqa: UP045


class LeafSchema(CatgaSchema):
    pass


@message(schema=LeafSchema)
@dataclass(frozen=True)
class WithSchema:
    text: str


ANNOTATIONS: list[Any] = [
    str, int, float, bool, bytes, Decimal, datetime, date, time, timedelta, UUID, Any, Color, Bits, Name, Leaf, Checked,
    Counted, Endless, WithSchema, None, Literal["x", 1, True], str | None, Leaf | None, list[int], list[str | None],
    list[Leaf], tuple[int, str], tuple[str, ...], tuple[()], set[str], frozenset[int], dict[str, int], dict[int, Leaf],
    dict[UUID, str], dict[Color, str], dict[bool, str], dict[date, list[float]], dict[str, Any], list[list[list[str]]],
]  # fmt: skip

REGISTRY = MessageRegistry()


_NUMBERS = itertools.count()


def _in_this_module(namespace: dict[str, Any]) -> None:
    namespace["__module__"] = __name__


def codec_of(annotation: Any) -> Codec:
    made = types.new_class(f"R{next(_NUMBERS)}", (Request[annotation],), exec_body=_in_this_module)
    codec = REGISTRY.register(dataclass(made)).response_codec
    assert codec is not None
    return codec


CODECS = [codec_of(annotation) for annotation in ANNOTATIONS]

texts = st.text(max_size=4) | st.sampled_from(["\ud800", Loud("x"), "x"])
numbers = st.integers() | st.sampled_from([True, 10**400, 2**63, -(2**63)])
floats = st.floats() | st.sampled_from([math.nan, math.inf])
leaves = st.builds(Leaf, texts | numbers, st.none() | numbers | texts)
zones = st.sampled_from([None, timezone.utc, timezone(timedelta(seconds=1)), ZoneInfo("Europe/Berlin")])
scalars = st.one_of(
    st.none(), texts, numbers, floats, st.booleans(), st.binary(max_size=4), st.decimals(allow_nan=False),
    st.sampled_from([Decimal("NaN"), Decimal("-0"), Decimal("1" * 5000), -0.0]),
    st.dates(), st.datetimes(timezones=zones), st.timedeltas(), st.uuids(),
    st.times(timezones=zones), st.sampled_from(Color),
    st.sampled_from([Bits.A, Bits.A | Bits.B]), leaves, st.builds(WithSchema, texts), st.just(Endless(Endless(None))),
    st.builds(Checked, st.text(min_size=1, max_size=2)), st.builds(Counted, texts),
)  # fmt: skip
keys = texts | numbers | st.uuids() | st.dates() | st.sampled_from(Color) | st.booleans()
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.lists(scalars.filter(lambda value: value.__hash__ is not None), max_size=3).map(frozenset)
        | st.sets(texts, max_size=3)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=6,
)


def round_trips(codec: Codec, value: Any) -> bool:
    try:
        return codec.round_trips(value)
    except Exception:
        return False


def alike(one: Any, other: Any) -> bool:
    """Return whether two values are equal, and of the same types all the way down."""
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, (float, Decimal)):
        return math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, (datetime, time)):
        return one.utcoffset() == other.utcoffset()
    if isinstance(one, (list, tuple)):
        return all(map(alike, one, other))
    if isinstance(one, dict):
        return all(alike(one[key], other[key]) for key in one) and set(map(type, one)) == set(map(type, other))
    return True


@thorough(600)
@given(values)
def test_what_is_promised_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    for codec in CODECS:
        if value is not None and round_trips(codec, value):
            assert alike(codec.decode(codec.encode(value)), value), codec


@every_row(
    ("annotation", "value"),
    [
        (str, "x"), (str, "Grüße 🙂"), (int, 7), (float, 0.5), (bool, False), (bytes, b"x"), (Decimal, Decimal("1.50")),
        (datetime, datetime(2026, 1, 1)), (datetime, datetime(2026, 1, 1, tzinfo=timezone.utc)),  # noqa: DTZ001
        (date, date(2026, 1, 1)), (time, time(1)), (time, time(1, tzinfo=timezone.utc)),
        (timedelta, timedelta(1)), (UUID, UUID(int=7)), (Color, Color.RED),
        (Literal["x", 1], "x"), (Leaf, Leaf("x")), (Leaf, Leaf("x", 7)), (list[Leaf], [Leaf("x")]), (Name, "x"),
        (tuple[int, str], (1, "x")), (set[str], {"x"}), (tuple[str, ...], ("x", "y")), (dict[str, int], {"x": 1}),
        (dict[int, Leaf], {1: Leaf("x")}), (Any, {"a": [1, 2.5, None, True, {"b": "c"}]}), (list[list[str]], [["x"]]),
        (list[int | None], [1, None]), (Endless, Endless(None)),
    ],
)  # fmt: skip
def test_plain_values_are_promised(annotation: Any, value: Any) -> None:
    assert codec_of(annotation).round_trips(value)


@every_row("annotation", [Checked, Counted, Making, Setting, Endless, WithSchema, Bits])
def test_of_classes_that_do_more_than_hold_their_fields_nothing_is_promised(annotation: Any) -> None:
    value = {
        Checked: lambda: Checked("x"), Counted: lambda: Counted("x"), Making: lambda: Making("x"),
        Setting: lambda: Setting("x"), Endless: lambda: Endless(Endless(None)), WithSchema: lambda: WithSchema("x"),
        Bits: lambda: Bits.A,
    }[annotation]()  # fmt: skip
    assert not codec_of(annotation).round_trips(value)


def test_data_deeper_than_the_wire_allows_are_not_promised() -> None:
    deep: Any = "x"
    for _ in range(40):
        deep = [deep]
    assert not codec_of(Any).round_trips(deep)


def test_a_field_of_another_kind_is_not_promised() -> None:
    class Strange(type(codec_of(str).field)):  # type: ignore[misc]
        pass

    assert not compile_round_trip(Strange())("x")
