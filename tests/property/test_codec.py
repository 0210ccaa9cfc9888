# ruff: noqa: UP045, PT017, SIM105  # both ways to write a union, and to fail
"""The codec, for whatever there is."""

from __future__ import annotations

import enum
import json
import math
from dataclasses import dataclass, field, fields
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, Optional
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from catga_sync.errors import SerializationError
from catga_sync.serialization import CatgaSchema, MessageRegistry, check_depth, dumps, loads, short_name
from catga_sync.serialization.fields.isotext import format_timedelta, parse_datetime, parse_timedelta
from catga_sync.serialization.propertynames import camel_case, fold
from tests.thorough import thorough


class Color(enum.Enum):
    RED = "r"
    BLUE = 2


@dataclass
class Leaf:
    some_text: str
    number: int = 0


@dataclass
class Tree:
    leaf: Leaf
    amount: Decimal
    ratio: float
    when: datetime
    day: date
    at: time
    span: timedelta
    key: UUID
    color: Color
    raw: bytes
    flag: Literal[True, "x", 3]
    anything: Any
    maybe: Optional[bool] = None
    kids: list[Tree] = field(default_factory=list)
    by_day: dict[date, Leaf] = field(default_factory=dict)
    by_number: dict[int, float] = field(default_factory=dict)
    pair: tuple[int, str] = (0, "")
    many: frozenset[str] = frozenset()


REGISTRY = MessageRegistry()
TREE = REGISTRY.register(Tree)
LEAF = REGISTRY.register(Leaf)
BARE = [
    REGISTRY.register(dataclass(type(f"C{n}", (), {"__annotations__": {"it": kind}, "__module__": __name__})))
    for n, kind in enumerate((str, int, float, bytes, Decimal, datetime, date, time, timedelta, UUID, Color, Any))
]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
floats = st.floats(allow_nan=False, allow_infinity=False)
decimals = st.decimals(allow_nan=False, allow_infinity=False)
zones = st.none() | st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
leaves = st.builds(Leaf, texts, st.integers())


def trees(kids):
    return st.builds(
        Tree,
        leaves,
        decimals,
        floats,
        st.datetimes(timezones=zones),
        st.dates(),
        st.times(),
        st.timedeltas(),
        st.uuids(),
        st.sampled_from(Color),
        st.binary(max_size=8),
        st.sampled_from([True, "x", 3]),
        plain,
        st.none() | st.booleans(),
        kids,
        st.dictionaries(st.dates(), leaves, max_size=2),
        st.dictionaries(st.integers(), floats, max_size=2),
        st.tuples(st.integers(), texts),
        st.frozensets(texts, max_size=3),
    )


all_trees = st.recursive(trees(st.just([])), lambda inner: trees(st.lists(inner, max_size=2)), max_leaves=3)


@thorough(400)
@given(all_trees)
def test_an_object_comes_back_as_it_was(tree):
    raw = TREE.codec.encode(tree)
    assert TREE.codec.decode(raw) == tree
    assert raw == TREE.codec.encode(TREE.codec.decode(raw)) or tree.kids or len(tree.many) > 1


@thorough(400)
@given(all_trees)
def test_the_codec_writes_and_reads_what_the_schema_does(tree):
    dumped = TREE.schema.dump(tree)
    assert dumped == TREE.codec.field.to_wire(tree)
    assert TREE.schema.load(dumped) == TREE.codec.field.from_wire(dumped) == tree


def outcome(function, *arguments):
    try:
        return function(*arguments)
    except ValidationError as exc:
        return exc.messages


spelled = st.sampled_from(["someText", "some_text", "SOMETEXT", "number", "Number", "num_ber", "other"])


@thorough(400)
@given(st.dictionaries(spelled | texts, plain, max_size=4))
def test_the_codec_refuses_what_the_schema_refuses_and_with_the_same_words(data):
    assert outcome(LEAF.codec.field.from_wire, data) == outcome(LEAF.schema.load, data)


@thorough(800)
@given(plain, plain)
def test_the_codec_does_not_write_what_the_schema_does_not_and_with_the_same_words(text, number):
    # marshmallow stops at the first error of an object, the codec tells all of them
    wrong = outcome(LEAF.schema.dump, Leaf(text, number))
    found = outcome(LEAF.codec.field.to_wire, Leaf(text, number))
    assert all(found[key] == wrong[key] for key in wrong)


@thorough(800)
@given(st.binary(max_size=64))
def test_no_bytes_raise_anything_else(raw):
    for entry in (TREE, LEAF, *BARE):
        for data in (raw, b'{"it":' + raw + b"}", b'{"it":"' + raw + b'"}', b'{"leaf":{"someText":"' + raw + b'"}}'):
            try:
                entry.codec.decode(data)
            except SerializationError as exc:
                assert entry.name in str(exc)


names = st.sampled_from([member.name for member in fields(Tree)] + ["someText", "other"])
wild_plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | floats
    | texts
    | st.sampled_from(["2024-01-01", "1.5", "00:00:01", "r", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | names, inner, max_size=8),
    max_leaves=12,
)


@thorough(400)
@given(wild_plain)
def test_no_json_raises_anything_else(value):
    raw = json.dumps(value).encode()
    for entry in (TREE, LEAF, *BARE):
        for data in (raw, b'{"it":' + raw + b"}", b'{"leaf":' + raw + b',"kids":' + raw + b"}"):
            try:
                found = entry.codec.decode(data)
            except SerializationError:
                continue
            assert found is None or isinstance(found, entry.cls)


@thorough(800)
@given(wild_plain)
def test_what_is_read_as_any_is_what_json_reads(value):
    raw = json.dumps({"it": value}).encode()
    try:
        assert BARE[-1].codec.decode(raw).it == value
    except SerializationError as exc:
        assert "surrogate" in str(exc) or "twice" in str(exc)


@thorough(800)
@given(st.text(max_size=20))
def test_camel_case_is_another_spelling_of_the_same_name(name):
    assert fold(camel_case(name)) == fold(name)
    assert fold(fold(name)) == fold(name)


@thorough(800)
@given(st.from_regex(r"_?[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*_?", fullmatch=True))
def test_a_snake_case_name_has_no_inner_underscore_on_the_wire(name):
    wire = camel_case(name)
    assert "_" not in wire.lstrip("_")
    assert wire.startswith("_") == name.startswith("_")
    assert camel_case(wire) == wire


@thorough(800)
@given(st.text("AB.,[] `1", max_size=30))
def test_the_short_form_of_a_short_name_is_itself(name):
    assert short_name(short_name(name)) == short_name(name)


@thorough(800)
@given(
    st.decimals(allow_nan=False, allow_infinity=False) | st.integers(0, 10**60).map(lambda n: Decimal(n).scaleb(-30))
)
def test_a_decimal_keeps_every_digit(number):
    read = BARE[4].codec.decode(BARE[4].codec.encode(BARE[4].cls(number))).it
    assert read == number
    assert read.as_tuple()[1:] == number.as_tuple()[1:]


@thorough(400)
@given(plain, decimals)
def test_a_decimal_does_not_touch_what_is_around_it(value, number):
    assert loads(dumps({"a": value, "b": 0}))["a"] == json.loads(dumps({"a": value, "b": number}))["a"]


@thorough(800)
@given(st.timedeltas())
def test_a_span_survives_dotnets_form(span):
    assert parse_timedelta(format_timedelta(span)) == span


@thorough(800)
@given(st.text("-0123456789.:", max_size=24))
def test_no_text_of_a_span_raises_anything_else(text):
    try:
        parse_timedelta(text)
    except (ValueError, OverflowError):
        pass


@thorough(800)
@given(st.datetimes(timezones=zones), st.integers(0, 9))
def test_a_moment_survives_a_seventh_digit(moment, digit):
    text = moment.replace(tzinfo=None).isoformat(timespec="microseconds") + str(digit)
    zone = moment.isoformat(timespec="microseconds")[26:]
    found = parse_datetime(text + zone)
    assert found == moment
    assert found.utcoffset() == moment.utcoffset()


@thorough(800)
@given(st.text("0123456789-:.TZ+ ", max_size=30))
def test_no_text_of_a_moment_raises_anything_else(text):
    try:
        parse_datetime(text)
    except (ValueError, OverflowError):
        pass


def depth(value):
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


bracketed = st.text('[]{}"\\a', max_size=6)


@thorough(800)
@given(
    st.recursive(
        st.integers() | bracketed,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(bracketed, inner, max_size=3),
        max_leaves=20,
    ),
    st.integers(0, 6),
)
def test_the_depth_is_that_of_the_value(value, limit):
    raw = json.dumps(value).encode()
    if depth(value) <= limit:
        check_depth(raw, limit)
    else:
        with pytest.raises(SerializationError, match="levels"):
            check_depth(raw, limit)


@thorough(800)
@given(floats)
def test_a_float_is_never_more_or_less(number):
    found = BARE[2].codec.decode(BARE[2].codec.encode(BARE[2].cls(number))).it
    assert found == number
    assert math.copysign(1, found) == math.copysign(1, number)


def test_the_schemas_are_catga_schemas():
    assert isinstance(TREE.schema, CatgaSchema)
