"""What is easily changed of a number on the way: the sign of a zero, and many digits. It is kept, or refused."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from marshmallow import fields

from catga_sync.errors import SerializationError
from catga_sync.messages import message
from catga_sync.serialization import CatgaSchema, loads
from tests.tables import every_row
from tests.unit.serialization.codecs import codec_of, refusals

# -- the sign of a zero -----------------------------------------------------------------------------------------------


class FloatSchema(CatgaSchema):
    ratio = fields.Float()
    price = fields.Decimal()


@message(schema=FloatSchema)
@dataclass
class WithSchema:
    ratio: float
    price: Decimal


@dataclass
class Both:
    ratio: float
    price: Decimal


def signs(value: Any) -> list[bool]:
    """Return for every zero in a value whether it is a negative one."""
    if isinstance(value, (Both, WithSchema)):
        return signs([value.ratio, value.price])
    if isinstance(value, dict):
        return signs([*value, *value.values()])
    if isinstance(value, (list, tuple)):
        return [sign for item in value for sign in signs(item)]
    return [math.copysign(1, value) < 0] if isinstance(value, (float, Decimal)) else []


@every_row(
    ("annotation", "value"),
    [
        (float, -0.0),
        (float, 0.0),
        (Decimal, Decimal("-0")),
        (Decimal, Decimal("-0.00")),
        (Decimal, Decimal("-0E+3")),
        (list[float], [-0.0, 0.0]),
        (dict[str, float], {"a": -0.0}),
        (dict[str, Decimal], {"a": Decimal("-0")}),
        (dict[Decimal, str], {Decimal("-0"): "a"}),
        (tuple[float, Decimal], (-0.0, Decimal("-0"))),
        (Any, {"a": [-0.0]}),
        (Both, Both(-0.0, Decimal("-0"))),
        (WithSchema, WithSchema(-0.0, Decimal("-0"))),
    ],
)
def test_a_zero_keeps_its_sign(annotation: Any, value: Any) -> None:
    codec = codec_of(annotation)
    read = codec.decode(codec.encode(value))
    assert read == value
    assert signs(read) == signs(value)


@every_row(
    ("annotation", "text", "expected"),
    [
        (float, "-0", [True]),
        (float, "0", [False]),
        (Decimal, "-0", [True]),
        (list[float], "[-0,0,-0 ]", [True, False, True]),
        (dict[str, float], '{"a-0":-0}', [True]),
        (Any, '{"a":-0}', [True]),
        (Both, '{"ratio":-0,"price":-0}', [True, True]),
        (WithSchema, '{"ratio":-0,"price":-0}', [True, True]),
    ],
)
def test_a_negative_zero_that_dotnet_writes_is_read_as_one(annotation: Any, text: str, expected: list[bool]) -> None:
    assert signs(codec_of(annotation).decode(text.encode())) == expected


@every_row(
    ("annotation", "text", "expected"),
    [(int, "-0", 0), (list[int], "[7,-0]", [7, 0]), (dict[str, int], '{"a":-0}', {"a": 0}), (Any, "[7,-0]", [7, 0])],
)
def test_integers_stay_integers_beside_a_negative_zero(annotation: Any, text: str, expected: Any) -> None:
    read = codec_of(annotation).decode(text.encode())
    assert read == expected
    assert type(read[0] if isinstance(read, list) else 0) is int


@dataclass
class Mixed:
    count: int
    ratio: float


def test_an_integer_beside_a_float_may_have_a_sign_of_its_own() -> None:
    read = codec_of(Mixed).decode(b'{"count":-0,"ratio":-0}')
    assert (repr(read.count), repr(read.ratio)) == ("0", "-0.0")
    for text in (b'{"count":0.0,"ratio":1}', b'{"count":"-0","ratio":1}'):
        with pytest.raises(SerializationError, match="count: expected int"):
            codec_of(Mixed).decode(text)


@pytest.mark.parametrize("text", ["-01", "[-0-0]", "- 0"])
def test_what_is_no_number_stays_none_though_it_starts_as_a_negative_zero(text: str) -> None:
    with pytest.raises(SerializationError):
        loads(text.encode(), signed_zeros=True)


# -- thousands of digits ----------------------------------------------------------------------------------------------

LONG = Decimal("1" * 4301)


@dataclass
class Amounts:
    amounts: list[Decimal]


@every_row(
    ("annotation", "value", "place"),
    [
        (Decimal, LONG, ""),
        (Decimal, Decimal(f"-{LONG}"), ""),
        (Decimal, Decimal(f"0.{LONG}"), ""),
        (Decimal, Decimal(f"{LONG}E+50"), ""),
        (list[Decimal], [Decimal(1), LONG], "[1]"),
        (dict[str, Decimal], {"a": LONG}, "['a']"),
        (dict[Decimal, str], {LONG: "a"}, "[Decimal('1111"),
        (Amounts, Amounts([LONG]), ".amounts[0]"),
        (int, 10**4300, ""),
        (int, -(10**4300), ""),
        (dict[int, str], {10**4300: "a"}, "[int]"),
        (Any, 10**4300, ""),
        (Any, {"a": [10**4300]}, ""),
    ],
)
def test_a_number_of_too_many_digits_is_refused_here_and_there_with_one_text(
    annotation: Any, value: Any, place: str
) -> None:
    codec = codec_of(annotation)
    here, there = refusals(codec, value)
    assert here == there
    assert there.startswith(f"{codec.label}{place}")
    assert there.endswith(": has more than 4300 digits")


@every_row(
    ("annotation", "value"),
    [
        (Decimal, Decimal("1" * 4300)),
        (Decimal, Decimal("1" * 4300 + "E-20")),
        (Decimal, Decimal("1E+999999999999999999")),
        (Decimal, Decimal("1E-999999999999999999")),
        (dict[Decimal, int], {Decimal("1E+5000"): 1}),
        (int, -(10**4299)),
        (dict[int, int], {10**4299: 1}),
        (Any, [10**4299]),
    ],
)
def test_a_number_of_many_digits_or_a_huge_exponent_is_kept(annotation: Any, value: Any) -> None:
    codec = codec_of(annotation)
    assert codec.decode(codec.encode(value)) == value


@pytest.mark.parametrize(("annotation", "text"), [(Decimal, f"0.{LONG}"), (Decimal, f'"{LONG}"'), (int, f"-{LONG}")])
def test_a_number_of_too_many_digits_is_not_read_either(annotation: Any, text: str) -> None:
    with pytest.raises(SerializationError, match=r"too many digits|more than 4300 digits"):
        codec_of(annotation).decode(text.encode())


def test_a_long_number_is_left_to_the_codec_that_knows_the_limit_of_the_process() -> None:
    codec = codec_of(Decimal)
    assert codec.round_trips(Decimal("1" * 100))
    number = Decimal("1" * 700)
    assert not codec.round_trips(number)
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        with pytest.raises(SerializationError, match="too many digits"):
            codec.decode(codec.encode(number))
    finally:
        sys.set_int_max_str_digits(before)


@every_row("value", [Fraction(1, 3), 1.5, "1.5", 1 + 0j, True])
def test_what_is_no_decimal_is_refused_here_and_there(value: Any) -> None:
    here, there = refusals(codec_of(Decimal), value)
    assert here == there
    assert "expected Decimal" in there
