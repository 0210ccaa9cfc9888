"""Payloads: what the codec makes of a message class with every kind of field."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field, make_dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from marshmallow import ValidationError

from catga_sync.errors import SerializationError
from catga_sync.serialization import MessageRegistry, MessageType, jsontext
from tests.fuzz.target import Check, Finding, Target

__all__ = ["TARGETS"]


_KEY = UUID(int=7)


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
    amount: Decimal = Decimal("1.50")
    ratio: float = 0.5
    when: datetime = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
    day: date = date(2024, 2, 29)
    at: time = time(12, 30)
    span: timedelta = timedelta(days=1, seconds=1)
    key: UUID = _KEY
    color: Color = Color.RED
    raw: bytes = b"raw"
    flag: Literal[True, "x", 3] = "x"
    anything: Any = None
    maybe: bool | None = None
    kids: list[Tree] = field(default_factory=list)
    by_day: dict[date, Leaf] = field(default_factory=dict)
    by_number: dict[int, float] = field(default_factory=dict)
    by_amount: dict[Decimal, bool] = field(default_factory=dict)
    pair: tuple[int, str] = (0, "")
    many: frozenset[str] = frozenset()


_KINDS: tuple[Any, ...] = (
    str, int, float, bool, bytes, Decimal, datetime, date, time, timedelta, UUID, Color, Any, list[int | None],
    dict[int, str], dict[Decimal, int], dict[datetime, int], dict[UUID, int], set[Decimal], tuple[float, ...],
)  # fmt: skip


def _read(entry: MessageType, data: bytes) -> Any:
    """Return the value that was read, having written and read it again; None where it was refused."""
    try:
        value = entry.codec.decode(data)
    except SerializationError as exc:
        if len(str(exc)) > 4000:
            raise Finding(f"a refusal has {len(str(exc))} characters") from exc
        return None
    if value is None and data.strip(b" \t\r\n") == b"null" and entry.codec.nullable:
        return None
    if not isinstance(value, entry.cls):
        raise Finding(f"it was read as a {type(value).__name__}")
    written = entry.codec.encode(value)
    again = entry.codec.decode(written)
    if again != value:
        raise Finding(f"read again it is another: {again!a} and not {value!a}")
    return value


def _prepare_tree(place: str) -> Check:
    entry = MessageRegistry().register(Tree)

    def check(data: bytes) -> bool:
        value = _read(entry, data)
        if value is None:
            return False
        plain = jsontext.loads(data, decimals=True, signed_zeros=True)
        try:
            loaded = entry.schema.load(plain)
        except ValidationError as exc:
            raise Finding(f"the schema refuses what the codec reads: {exc.messages}") from exc
        if loaded != value:
            raise Finding(f"the schema reads another value than the codec: {loaded!a} and not {value!a}")
        return True

    return check


def _tree_seeds() -> list[bytes]:
    codec = MessageRegistry().register(Tree).codec
    full = Tree(
        Leaf("größer", -3),
        anything={"a": [1, 2.5, None, "x"]},
        kids=[Tree(Leaf("kid"))],
        by_day={date(2024, 2, 29): Leaf("day")},
        by_number={-1: 1e300},
        by_amount={Decimal("1.10"): True},
        many=frozenset({"a", "b"}),
    )
    dotnet = {"Leaf": {"SomeText": "x", "NUMBER": 1}, "Color": 2, "When": "2024-02-29T12:30:00.1234567"}
    return [codec.encode(Tree(Leaf("x"))), codec.encode(full), json.dumps(dotnet).encode()]


def _prepare_scalars(place: str) -> Check:
    registry = MessageRegistry()
    entries = [registry.register(make_dataclass(f"C{n}", [("it", kind)])) for n, kind in enumerate(_KINDS)]

    def check(data: bytes) -> bool:
        entry, rest = entries[data[0] % len(entries) if data else 0], data[1:]
        # As it is, and as a text: the first may be any JSON, the second is what dates and the like come in.
        text = jsontext.dumps(rest.decode("utf-8", "replace"))
        read = [_read(entry, b'{"it":%b}' % each) for each in (rest, text, b"{%b:1}" % text)]
        return any(value is not None for value in read)

    return check


def _scalar_seeds() -> list[bytes]:
    return [bytes([kind]) + each for kind in range(len(_KINDS)) for each in _SCALARS]


_SCALARS = (
    b"x", b"-0", b"1e400", b"1.50", b"-12345678901234567890123456789012345", b"true", b"null", b"[1,null]",
    b'{"1":"a"}', b"cmF3", b"2024-02-29T12:30:00.1234567+01:00", b"2024-02-29", b"23:59:59.9999999", b"-1.02:03:04.5",
    b"0b9f6a4e-1c1d-4b5e-9d2f-3a4b5c6d7e8f", b'["1.0",1,1e0]', b'"\\ud800"', b"1E+999999999999999999", b"r",
)  # fmt: skip

TARGETS = (
    Target(
        "payload",
        _prepare_tree,
        _tree_seeds,
        ("leaf", "some_text", "SOMETEXT", "number", "null", "-0", "1e-400", '"r"', "[", "]", "{", "}", ":", "anything"),
    ),
    Target("payload-scalars", _prepare_scalars, _scalar_seeds, ("-0", "1e999", ".0", "\\u0030", "T", "Z", "[", "]")),
)
