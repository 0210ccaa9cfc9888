"""Generated functions write the same bytes, read the same values and have the same errors as the fields do."""

from __future__ import annotations

import enum
import itertools
import json
import math
import random
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, Literal, Optional, get_args, get_origin
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catga_sync import Request, message
from catga_sync.errors import SerializationError
from catga_sync.serialization import CatgaSchema, Codec, MessageRegistry
from catga_sync.serialization.reader import UNREAD
from tests.tables import every_row
from tests.thorough import thorough


class Color(enum.Enum):
    RED = "rot 100 %"
    BLUE = 2
    HALF = 0.5
    GREEN = True


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Bits(enum.Flag):
    A = 1
    B = 2


class Loud(str):
    pass


@dataclass(frozen=True)
class Leaf:
    text: str
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Slotted:
    ratio: float
    amount: Decimal


@dataclass(frozen=True)
class PartlySlotted(Slotted):
    note: str


@dataclass
class Counted:
    """Shows another ``__dict__`` than that in which its attributes are."""

    text: str

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return {}


@dataclass(kw_only=True)
class Named:
    per_cent_: int = 7
    class_: str


@dataclass
class Tree:
    name: str
    kids: list[Tree] = field(default_factory=list)
    by_name: dict[str, Tree] = field(default_factory=dict)


#: What the application's code was called for, in order.
CALLS: list[str] = []


@dataclass(frozen=True)
class Checked:
    text: str
    leaves: list[Leaf] = field(default_factory=list)

    def __post_init__(self) -> None:
        CALLS.append(self.text)
        if self.text == "x":
            raise ValueError


@dataclass
class Computed:
    number: int

    @property
    def _looked_at(self) -> int:
        return 1

    def __getattribute__(self, name: str) -> Any:
        if name == "number":
            CALLS.append(name)
        return object.__getattribute__(self, name)


class WithSchemaSchema(CatgaSchema):
    pass


@message(schema=WithSchemaSchema)
@dataclass(frozen=True)
class WithSchema:
    text: str


ZONES = st.sampled_from([None, timezone.utc, timezone(timedelta(seconds=1)), timezone(timedelta(hours=-5))])
TEXTS = st.text(max_size=4) | st.sampled_from(["\ud800", "\\u", '":', " :", "-0", "%s", "\n", "\x7f\u2028", "x"])
FLOATS = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([-0.0, 1e16, 5e-324])
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)

#: Values of the annotations that consist of nothing else.
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXTS,
    int: st.integers() | st.sampled_from([2**63, -(2**63), 2**63 - 1]),
    float: FLOATS,
    bool: st.booleans(),
    bytes: st.binary(max_size=4),
    Decimal: st.decimals(allow_nan=False, allow_infinity=False) | st.sampled_from([Decimal("-0"), Decimal("1E+30")]),
    datetime: st.datetimes(timezones=ZONES) | st.just(datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Berlin"))),
    date: st.dates(),
    time: st.times(timezones=ZONES),
    timedelta: st.timedeltas(),
    UUID: st.uuids(),
    Color: st.sampled_from(Color),
    Level: st.sampled_from(Level),
    Bits: st.sampled_from([Bits.A, Bits.A | Bits.B]),
    Literal["x", 1, True]: st.sampled_from(["x", 1, True]),
    Any: PLAIN,
}
CLASSES = (Leaf, Slotted, Named, Tree, Checked, Computed, WithSchema)
KEYS = [str, int, bool, Decimal, UUID, datetime, date, Color, Bits, Literal["x", "y"]]


def annotations() -> st.SearchStrategy[Any]:
    """Return annotations of every kind, nested."""
    return st.recursive(
        st.sampled_from([*SCALARS, *CLASSES]),
        lambda inner: st.one_of(
            inner.map(lambda one: one if one is Any else one | None if isinstance(one, type) else _optional(one)),
            inner.map(lambda one: list[one]),
            inner.map(lambda one: tuple[one, ...]),
            st.tuples(inner, inner).map(lambda both: tuple[both]),
            st.sampled_from([*SCALARS]).map(lambda one: frozenset[one]),
            st.tuples(st.sampled_from(KEYS), inner).map(lambda both: dict[both]),
        ),
        max_leaves=3,
    )


def _optional(annotation: Any) -> Any:
    return Optional[annotation]  # noqa: UP045


def values_of(annotation: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Return values that fit an annotation."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is Tree:
        few = st.just([]) if depth else st.lists(values_of(Tree, 1), max_size=2)
        return st.builds(Tree, TEXTS, few, few.map(lambda kids: {str(at): kid for at, kid in enumerate(kids)}))
    if annotation in SCALARS:
        return SCALARS[annotation]
    if origin is Literal:
        return st.sampled_from(args)
    if is_dataclass(annotation):
        types = {
            "text": str, "number": int if annotation is Computed else int | None, "ratio": float, "amount": Decimal,
            "per_cent_": int, "class_": str, "leaves": list[Leaf],
        }  # fmt: skip
        given_values = {one.name: values_of(types[one.name]) for one in fields(annotation)}
        if annotation is Checked:
            given_values["text"] = given_values["text"].filter(lambda text: text != "x")
        return st.builds(annotation, **given_values)
    inner = [values_of(arg, depth + 1) for arg in args if arg is not type(None) and arg is not ...]
    if type(None) in args:
        return st.none() | inner[0]
    if origin is list:
        return st.lists(inner[0], max_size=3)
    if origin is frozenset:
        hashable = inner[0].filter(lambda value: not isinstance(value, (list, dict)))
        return st.frozensets(hashable, max_size=3)
    if origin is dict:
        return st.dictionaries(inner[0], inner[1], max_size=3)
    if args[-1] is ...:
        return st.lists(inner[0], max_size=3).map(tuple)
    return st.tuples(*inner)


_NUMBERS = itertools.count()
_CODECS: dict[str, tuple[Codec, Codec]] = {}


def codecs_of(annotation: Any) -> tuple[Codec, Codec]:
    """Return the codec of a response, and the same without generated functions."""
    known = _CODECS.get(repr(annotation))
    if known is None:
        namespace = {"__module__": __name__}
        get = make_dataclass(f"Get{next(_NUMBERS)}", [], bases=(Request[annotation],), namespace=namespace)
        # The name that an annotation gives may be longer than is allowed.
        fast = MessageRegistry().register(message(response_name="Response")(get)).response_codec
        assert fast is not None
        plain = Codec(fast.field, fast.label, nullable=fast.nullable)
        plain._write = plain._reader = None
        known = _CODECS[repr(annotation)] = fast, plain
    return known


def outcome(function: Callable[[Any], Any], argument: Any) -> tuple[Any, list[str]]:
    """Return what a function returns or how it fails, and which code of the application it has called."""
    CALLS.clear()
    try:
        found = shown(function(argument))
    except SerializationError as exc:
        found = str(exc), type(exc.__cause__)
    return found, CALLS.copy()


def shown(value: Any) -> Any:
    """Return data that are equal only for values that are equal, and of the same types all the way down."""
    if is_dataclass(value):
        # Not by attribute, as that is code of the application here.
        parts = [(one.name, shown(object.__getattribute__(value, one.name))) for one in fields(value)]
        return type(value), parts
    if isinstance(value, dict):
        return dict, [(shown(key), shown(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [shown(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(repr(shown(item)) for item in value)
    if isinstance(value, (datetime, time)):
        return type(value), value.isoformat(), type(value.tzinfo), repr(value.tzinfo)
    if isinstance(value, float):
        return float, value.hex(), math.copysign(1, value)
    return type(value), repr(value) if not isinstance(value, (str, int)) else value


def same(annotation: Any, value: Any, changed: Callable[[bytes], bytes] | None = None) -> bytes | None:
    fast, plain = codecs_of(annotation)
    assert outcome(fast.encode, value) == outcome(plain.encode, value)
    try:
        raw = plain.encode(value)
    except SerializationError:
        return None
    if changed is not None:
        raw = changed(raw)
    assert outcome(fast.decode, raw) == outcome(plain.decode, raw)
    return raw


@thorough(800)
@given(st.data())
def test_right_values_are_written_and_read_alike(data: st.DataObject) -> None:
    annotation = data.draw(annotations(), "annotation")
    same(annotation, data.draw(values_of(annotation), "value"))


WRONG = st.one_of(
    TEXTS, st.none(), st.integers(), st.floats(), st.booleans(), st.sampled_from(Color), st.decimals(), PLAIN,
    st.sampled_from([Loud("x"), Level.LOW, 10**5000, Decimal("1" * 5000), Checked("y"), Leaf(7), Leaf("x", True), {1}]),
    st.builds(WithSchema, TEXTS), st.dictionaries(st.integers() | st.booleans(), TEXTS, max_size=2),
)  # fmt: skip


def with_another_part(value: Any, wrong: Any, at: random.Random) -> Any:
    """Return a value one part of which is another one."""
    if isinstance(value, (list, tuple)) and value and at.random() < 0.8:
        parts = list(value)
        place = at.randrange(len(parts))
        parts[place] = with_another_part(parts[place], wrong, at)
        return type(value)(parts)
    if isinstance(value, dict) and value and at.random() < 0.8:
        parts_by_key = dict(value)
        key = at.choice(list(value))
        parts_by_key[key] = with_another_part(value[key], wrong, at)
        return parts_by_key
    if is_dataclass(value) and type(value) in (Leaf, Slotted, Named, Tree) and at.random() < 0.8:
        copy = object.__new__(type(value))
        changed = at.choice(fields(value)).name
        for one in fields(value):
            part = getattr(value, one.name)
            part = with_another_part(part, wrong, at) if one.name == changed else part
            object.__setattr__(copy, one.name, part)
        return copy
    return wrong


@thorough(800)
@given(st.data())
def test_of_wrong_values_the_same_is_said(data: st.DataObject) -> None:
    annotation = data.draw(annotations(), "annotation")
    value, wrong = data.draw(values_of(annotation), "value"), data.draw(WRONG, "wrong")
    same(annotation, with_another_part(value, wrong, data.draw(st.randoms(use_true_random=False))))


TOKENS = [
    b"-0", b"-0.0", b"1e999", b"-1e999", b"1.0", b"1E2", b"NaN", b"Infinity", b"null", b"true", b"7", b'"7"',
    b'"\\ud800"', b'"\\u0041"', b'"":', b":", b" ", b"\n", b"\t", b"[]", b"{}", b"[", b"}", b",", b'"a":1', b'":"',
    b'" :"', b"\xff",
    b"9" * 30, b"1." + b"3" * 400, b"1" * 5000, b"1e-400", b'"2026-01-01"', b'"rot 100 %"', b"0.5", b"3",
    b"[" * 40 + b"]" * 40, b'"text"', b'"TEXT":', b'"per_cent_":', b"\xef\xbb\xbf",
]  # fmt: skip


def with_other_bytes(raw: bytes, at: random.Random) -> bytes:
    """Return JSON that is changed in one or two places, and may be JSON no more."""
    for _ in range(at.choice([1, 1, 2])):
        start = at.randrange(len(raw) + 1)
        kind = at.randrange(5)
        if kind == 0:
            raw = raw[:start] + at.choice(TOKENS) + raw[start:]
        elif kind == 1:
            raw = raw[:start] + raw[start + at.randrange(1, 4) :]
        elif kind == 2:
            parts = raw.split(b",")
            parts.insert(at.randrange(len(parts) + 1), at.choice(parts))
            raw = b",".join(parts)
        elif kind == 3:
            # A value, and not any bytes: what is left is JSON mostly.
            parts = raw.split(b":")
            place = at.randrange(len(parts))
            end = min([found for found in map(parts[place].find, (b",", b"}", b"]")) if found >= 0], default=None)
            parts[place] = at.choice(TOKENS) + (b"" if end is None else parts[place][end:])
            raw = b":".join(parts)
        else:
            raw = raw.replace(b":", at.choice([b": ", b" :", b"\n:", b":"]), at.choice([1, -1]))
    return raw


@thorough(1600)
@given(st.data())
def test_of_other_json_the_same_is_read_and_said(data: st.DataObject) -> None:
    annotation = data.draw(annotations(), "annotation")
    value, at = data.draw(values_of(annotation), "value"), data.draw(st.randoms(use_true_random=False))
    same(annotation, value, lambda raw: with_other_bytes(raw, at))


@thorough(800)
@given(st.data())
def test_of_data_of_another_type_the_same_is_read_and_said(data: st.DataObject) -> None:
    annotation, other = data.draw(annotations(), "annotation"), data.draw(annotations(), "other")
    raw = same(other, data.draw(values_of(other), "value"))
    if raw is not None:
        fast, plain = codecs_of(annotation)
        assert outcome(fast.decode, raw) == outcome(plain.decode, raw)


@every_row(
    "raw",
    [
        b'{"text":"a","text":"b","number":1}', b'{"text" :"a","text" :"b","number":1}',
        b'{"text":":","number" :1,"number" :2}', b'{"text":"x :\\":","text":"","number":1}',
        b'{"text":"":"","number":1}', b'{"number":1,"text":"a"}', b'{"text":"a","number":1,"number":null}',
        b' {"text":"a","number":1}', b'{"text":"a","number":1} ', b'{"text":"a","number":1}x', b'{"text":"a"}',
        b'{"TEXT":"a","Number":1}', b'{"text":"a","TEXT":"b","number":1}',
        b'{"text":"a","number":1,"other":{"a":1,"a":2}}', b'{"text":"\\ud83d","number":1}',
        b'{"text":"a","number":-0}', b'{"text":"a","number":1.0}', b'{"text":"\\u0061","number":1}', b"null", b"",
    ],
)  # fmt: skip
def test_of_an_object_the_same_is_read_and_said(raw: bytes) -> None:
    for annotation in (Leaf, list[Leaf], Leaf | None, Any, dict[str, Any], Checked):
        fast, plain = codecs_of(annotation)
        for whole in (raw, b"[" + raw + b"]"):
            assert outcome(fast.decode, whole) == outcome(plain.decode, whole)


@every_row("annotation", [*SCALARS, Leaf, Slotted, Checked])
def test_of_each_token_the_same_is_read_and_said(annotation: Any) -> None:
    for kind, form in ((annotation, b"%s"), (list[annotation], b"[%s]"), (dict[str, annotation], b'{"a":%s}')):
        fast, plain = codecs_of(kind)
        for token in TOKENS:
            assert outcome(fast.decode, form % token) == outcome(plain.decode, form % token), token


class Zone(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        CALLS.append("utcoffset")
        return timedelta(hours=1)


ODD = [
    0, 1, True, 2**63, -(2**63), 10**400, 10**5000, 1.5, -0.0, math.inf, math.nan, "", "x", "\ud800", Loud("x"), b"x",
    bytearray(b"x"), Level.LOW, Color.RED, Color.GREEN, Bits.A, Bits(0), Decimal("NaN"), Decimal("-0"),
    Decimal("1" * 5000), Decimal("-Infinity"), date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=Zone()),
    time(1, tzinfo=Zone()), time(1), time(1, tzinfo=ZoneInfo("Europe/Berlin")), timedelta(1), UUID(int=7), None,
    [], (), {}, {1: 2}, set(), object(),
]  # fmt: skip


@every_row("annotation", [*SCALARS, Leaf, Slotted, Checked])
def test_of_each_odd_value_the_same_is_written_and_said(annotation: Any) -> None:
    for value in ODD:
        for kind, whole in ((annotation, value), (list[annotation], [value]), (dict[str, annotation], {"a": value})):
            fast, plain = codecs_of(kind)
            assert outcome(fast.encode, whole) == outcome(plain.encode, whole), value


@every_row(
    "annotation",
    [list[int], tuple[int, ...], tuple[int, int], frozenset[int], dict[int, int], list[datetime]],
)
def test_of_each_collection_the_same_is_written_and_said(annotation: Any) -> None:
    fast, plain = codecs_of(annotation)
    odd_zone = datetime(2026, 1, 1, tzinfo=Zone())
    for value in (*ODD, [1, 2], (1, 2), {1, 2}, frozenset({1, 2}), {True: 3}, [1, "x"], (1,), [odd_zone, "x"]):
        assert outcome(fast.encode, value) == outcome(plain.encode, value), value


@pytest.mark.skipif(not hasattr(sys, "set_int_max_str_digits"), reason="Python 3.10.6 and before have no limit")
def test_a_process_that_reads_longer_integers_refuses_them_here() -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        for annotation in (int, list[int], Decimal, Any):
            fast, plain = codecs_of(annotation)
            for raw in (b"1" * 4300, b"1" * 4301, b"[%s]" % (b"1" * 4301)):
                assert outcome(fast.decode, raw) == outcome(plain.decode, raw)
            for value in (10**4299, 10**4300, [10**4300], Decimal(10**4300)):
                assert outcome(fast.encode, value) == outcome(plain.encode, value)
    finally:
        sys.set_int_max_str_digits(before)


USUAL: list[tuple[Any, Any]] = [
    (UUID, UUID(int=7)), (UUID, UUID(int=2**128 - 1)), (list[Counted], [Counted("x")]),
    (list[PartlySlotted], [PartlySlotted(0.5, Decimal("19.90"), "x")]), (Leaf, Leaf("{v} 'x' \\", 7)),
    (Leaf, Leaf("ü \" : %", 7)), (Leaf, Leaf("x")), (list[Slotted], [Slotted(0.5, Decimal("19.90"))] * 40),
    (Named, Named(class_="x")), (Tree, Tree("a", [Tree("b")], {"c": Tree("d")})), (list[int], [1, 2]),
    (dict[str, list[float]], {"a": [1.5]}), (dict[int, str], {1: "x"}), (dict[Color, str], {Color.RED: "x"}),
    (dict[Decimal, str], {Decimal("1.5"): "x"}), (dict[UUID, str], {UUID(int=7): "x"}), (tuple[int, str], (1, "x")),
    (list[tuple[int, Leaf]], [(1, Leaf("x"))]), (frozenset[int], frozenset({1, 2})), (Any, {"a": [{"b": 1.5}, None]}),
    (Color, Color.HALF), (Color, Color.GREEN), (Level, Level.HIGH), (Bits, Bits.A | Bits.B), (bytes, b"x"),
    (datetime, datetime(2026, 1, 1, tzinfo=timezone.utc)), (time, time(1, 2)), (date, date(2026, 1, 1)),
    (timedelta, timedelta(days=-1, microseconds=7)), (bool, False), (Literal["x", 1], 1), (Checked, Checked("y")),
]  # fmt: skip


@every_row(("annotation", "value"), USUAL)
def test_usual_values_are_written_and_read_by_generated_functions(annotation: Any, value: Any) -> None:
    raw = same(annotation, value)
    assert raw is not None
    fast, _ = codecs_of(annotation)
    assert fast._reader is not None
    assert fast._reader.read(raw) is not UNREAD
    if annotation is not Checked:
        assert fast._write is not None
    assert fast._write is None or fast._write(value) == raw


def test_classes_whose_code_would_run_twice_have_no_generated_functions() -> None:
    for annotation in (WithSchema, list[Checked], dict[str, WithSchema]):
        fast, _ = codecs_of(annotation)
        assert fast._compile_reader() is None
    for annotation in (WithSchema, Computed, list[Computed]):
        fast, _ = codecs_of(annotation)
        assert fast._compile_writer() is None


@pytest.mark.parametrize("refused", [False, True])
def test_the_application_makes_an_object_once(refused: bool) -> None:
    fast, plain = codecs_of(Checked)
    raw = json.dumps({"text": "x" if refused else "y", "leaves": []}).replace(" ", "").encode()
    found, calls = outcome(fast.decode, raw)
    assert calls == ["x" if refused else "y"]
    assert (found, calls) == outcome(plain.decode, raw)


def test_an_attribute_may_have_any_name_of_python() -> None:
    odd = make_dataclass("Odd", [("größe", int), ("_class", str), ("v", str), ("len", str)], frozen=True)
    value = odd(7, "a", "b", "c")
    raw = same(odd, value)
    fast, _ = codecs_of(odd)
    assert fast._write is not None
    assert fast._reader is not None
    assert fast._write(value) == raw
    assert fast._reader.read(raw) == value


def test_annotations_nested_as_deeply_as_can_be_are_written_and_read() -> None:
    lists: Any = str
    dicts: Any = Leaf
    for _ in range(15):
        lists, dicts = list[_optional(lists)], dict[int, _optional(dict[Color, dicts])]
    value: Any = Leaf("x")
    for _ in range(15):
        value = {1: {Color.RED: value}}
    assert same(dicts, value) is not None
    assert same(lists, [[[[]]]]) is not None


def test_threads_that_use_a_codec_at_once_for_the_first_time_all_get_the_same() -> None:
    found: list[bytes] = []
    for _ in range(20):
        codec = codecs_of(Tree)[0]
        fresh = Codec(codec.field, codec.label, nullable=False)
        start = threading.Barrier(4)

        def work(fresh: Codec = fresh, start: threading.Barrier = start) -> None:
            start.wait()
            found.append(fresh.encode(fresh.decode(b'{"name":"a","kids":[],"byName":{}}')))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [b'{"name":"a","kids":[],"byName":{}}'] * 80


class Audit:
    """A descriptor that an attribute is set through."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __set__(self, instance: Any, value: Any) -> None:
        self.seen.append(value)


@dataclass
class Audited:
    number: int


Audited.number = Audit()  # type: ignore[assignment]

_LOWERED: dict[str, Any] = {"dataclass": dataclass, "__name__": __name__}
exec(  # as in python -c: its code has the file name of what dataclass() makes
    """
@dataclass
class Lowered:
    text: str

    def __init__(self, text: str) -> None:
        self.text = text.lower()
""",
    _LOWERED,
)


@pytest.mark.parametrize("cls", [Audited, _LOWERED["Lowered"]])
def test_what_sets_or_makes_by_code_of_the_application_is_not_generated(cls: type) -> None:
    shape = MessageRegistry().ensure(make_dataclass("Of", [("part", cls)])).codec.field.shape
    assert shape.fields["part"].shape.runs_code()


def test_an_init_of_the_application_is_called() -> None:
    lowered = _LOWERED["Lowered"]
    of = MessageRegistry().ensure(make_dataclass("Of", [("part", lowered)])).codec.decode(b'{"part":{"text":"ADA"}}')
    assert of.part.text == "ada"


class Endless(enum.Enum):
    EVER = math.inf
    ONE = 1.0


@pytest.mark.parametrize(
    ("annotation", "value"), [(Literal[0.0, "a"], -0.0), (Literal[0.0, "a"], 0.0), (Endless, Endless.EVER)]
)
def test_floats_among_choices_are_written_as_the_fields_write_them(annotation: Any, value: Any) -> None:
    same(annotation, value)


def test_an_infinite_member_is_not_read_from_a_number_that_is_too_large() -> None:
    codec = MessageRegistry().ensure(make_dataclass("Of", [("x", Endless)])).codec
    with pytest.raises(SerializationError):
        codec.decode(b'{"x":1e999}')
