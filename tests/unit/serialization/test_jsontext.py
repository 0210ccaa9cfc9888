"""Strict JSON text."""

import contextlib
import json
import sys
import time
from decimal import Decimal

import pytest

from catga_sync.errors import SerializationError
from catga_sync.serialization import check_depth, dumps, loads
from tests.tables import every_row


def nested(levels):
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize("raw", [nested(32), b'{"a":' * 32 + b"1" + b"}" * 32, b"[" + b"[]," * 500 + b"[]]"])
def test_thirty_two_levels_are_read(raw):
    assert loads(raw) == json.loads(raw)


@every_row(
    "raw",
    [
        nested(33),
        b'{"a":' * 33 + b"1" + b"}" * 33,
        nested(100_000),
        b"[" * 100_000,
        b'[{"a":' * 50_000,
        b"]" + b"[" * 40,
    ],
)
def test_more_than_thirty_two_levels_are_refused(raw):
    with pytest.raises(SerializationError, match="more than 32 levels"):
        loads(raw)


@every_row("text", ["[" * 100, '"[' * 50, "\\" * 99 + "[{" * 50, 'a\\"[[[[' * 20, "\\", "]]]]" * 40])
def test_brackets_in_a_text_do_not_count(text):
    raw = json.dumps([text, {text: [text]}]).encode()
    check_depth(raw, 3)
    assert loads(raw) == [text, {text: [text]}]


def test_the_limit_is_an_argument():
    check_depth(nested(5), 5)
    with pytest.raises(SerializationError, match="more than 4 levels"):
        check_depth(nested(5), 4)


@every_row(
    "raw",
    [
        b'"' * 1_000_000,
        b'\\"' * 1_000_000,
        b'"' + b'\\"' * 1_000_000,
        b"\\" * 2_000_000,
        b'{"' * 500_000,
        b"[]" * 500_000,
    ],
)
def test_the_depth_of_text_made_to_be_slow_is_found_in_linear_time(raw):
    started = time.perf_counter()
    with contextlib.suppress(SerializationError):
        check_depth(b"[" * 33 + raw)
    assert time.perf_counter() - started < 60.0  # quadratic would be hours


@every_row(
    ("raw", "says"),
    [
        (b"", "Expecting value"),
        (b"\xef\xbb\xbf1", "byte order mark"),
        (b'"\xff"', "not UTF-8 at byte 1"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        ("1".encode("utf-16"), "not UTF-8"),
        (b"NaN", "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"-Infinity", "Infinity"),
        (b"1e999", "too large"),
        (b"-1e999", "too large"),
        (b"1 2", "Extra data"),
        (b"{'a':1}", "property name"),
        (b"[1,]", "JSON: "),
        (b"01", "Extra data"),
    ],
)
def test_what_is_not_strict_json_is_refused(raw, says):
    with pytest.raises(SerializationError, match=says):
        loads(raw)


def test_a_property_twice_is_refused_where_asked():
    raw = b'{"a":{"b":1,"b":2}}'
    assert loads(raw) == {"a": {"b": 2}}
    with pytest.raises(SerializationError, match="twice"):
        loads(raw, unique_keys=True)


@pytest.mark.skipif(not hasattr(sys, "get_int_max_str_digits"), reason="an early 3.10 has no limit")
def test_an_integer_beyond_pythons_limit_of_digits_is_refused():
    with pytest.raises(SerializationError, match="too many digits"):
        loads(b"9" * (sys.get_int_max_str_digits() + 1))


def test_fractions_can_be_read_as_decimals():
    assert str(loads(b"[1.10,1E+3,1]", decimals=True)) == str([Decimal("1.10"), Decimal("1E+3"), 1])


def test_an_exponent_beyond_decimal_is_refused():
    with pytest.raises(SerializationError):
        loads(b"1e99999999999999999999999", decimals=True)


def test_json_is_written_compact_and_in_utf_8():
    assert dumps({"a": [1, 2.5, None, True, "é\u2028"], "b": {}}) == '{"a":[1,2.5,null,true,"é\u2028"],"b":{}}'.encode()


@every_row("text", ["1.10", "0.1000000000000000000000000000000000001", "-0", "1E+30", "1E-30", "123456789" * 5])
def test_a_decimal_is_written_as_a_number_with_all_its_digits(text):
    assert dumps({"a": Decimal(text), "b": "x"}) == b'{"a":%s,"b":"x"}' % text.encode()


def test_a_text_next_to_a_decimal_stays_as_it_is():
    value = ["decimal:0:1", 'decimal:"', Decimal("1.5"), "\\", '"']
    assert loads(dumps(value), decimals=True) == value


def test_what_contains_itself_is_refused():
    itself = []
    itself.append(itself)
    with pytest.raises(SerializationError):
        dumps(itself)


@every_row(
    "value",
    [float("nan"), float("inf"), Decimal("NaN"), Decimal("-Infinity"), "\ud800", {"\udfff": 1}, object(), {1, 2}, b"x"],
)
def test_what_is_not_json_is_not_written(value):
    with pytest.raises(SerializationError, match=r"^JSON: "):
        dumps([value])


def test_what_could_not_be_read_back_is_not_written():
    deep = 1
    for _ in range(33):
        deep = [deep]
    with pytest.raises(SerializationError, match="levels"):
        dumps(deep)
