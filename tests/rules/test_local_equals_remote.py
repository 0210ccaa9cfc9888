"""
Rule 7: the same handler gives the same result, whichever node runs it.

Two real servers in this process, over HTTP and over gRPC, and then a ``LocalCluster``, which is to be no different.
"""

from __future__ import annotations

import contextlib
import enum
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Optional
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from catga_sync import errors
from catga_sync.cluster.factory import create_cluster
from catga_sync.context import CallContext, current_call, enter_call, leave_call
from catga_sync.deadline import NESTED_MARGIN
from catga_sync.discovery import MemoryDiscovery
from catga_sync.errors import BusinessError, CallError, Delivery, ErrorCode
from catga_sync.mediator import Mediator
from catga_sync.messages import Event, Query, Request, message
from catga_sync.results import CatgaResult
from catga_sync.testing import LocalCluster
from tests.conftest import require_module
from tests.processes import free_port, until
from tests.tables import every_row
from tests.unit.serving import serving


class Color(enum.Enum):
    RED = "r"
    BLUE = 2


@dataclass(frozen=True)
class Line:
    article: str
    price: Decimal
    amount: int = 1


@dataclass(frozen=True)
class Order:
    order_id: UUID
    lines: list[Line]
    placed_at: datetime
    color: Color = Color.RED
    note: Optional[str] = None  # noqa: UP045
    tags: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Receipt(Order):
    paid: bool = True


@dataclass
class Even:
    """Refuses what it may not hold, when it is made."""

    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError("hunter2")


def changed(even: Even, *numbers: int) -> Even:
    """Return it with another number, or with none."""
    del even.number
    for number in numbers:
        even.number = number
    return even


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)

ORDER = Order(
    UUID("0f8fad5b-d9cb-469f-a165-70867728950e"),
    [Line("Grüße 🙂", Decimal("12.340")), Line("", Decimal("1E+3"), -5)],
    datetime(2026, 1, 31, 12, 0, 0, 123456, timezone.utc),
    Color.BLUE,
    None,
    {"a", "b"},
)


# One request type for each kind of answer; what its handler does stands in the table.


@dataclass(frozen=True)
class AsOrder(Query[Order]):
    case: str


@dataclass(frozen=True)
class AsEven(Query[Even]):
    case: str


@dataclass(frozen=True)
class AsInt(Query[int]):
    case: str


@dataclass(frozen=True)
class AsFloat(Query[float]):
    case: str


@dataclass(frozen=True)
class AsStr(Query[str]):
    case: str


@dataclass(frozen=True)
class AsBool(Query[bool]):
    case: str


@dataclass(frozen=True)
class AsBytes(Query[bytes]):
    case: str


@dataclass(frozen=True)
class AsDecimal(Query[Decimal]):
    case: str


@dataclass(frozen=True)
class AsDatetime(Query[datetime]):
    case: str


@dataclass(frozen=True)
class AsDate(Query[date]):
    case: str


@dataclass(frozen=True)
class AsTime(Query[time]):
    case: str


@dataclass(frozen=True)
class AsSpan(Query[timedelta]):
    case: str


@dataclass(frozen=True)
class AsColor(Query[Color]):
    case: str


@dataclass(frozen=True)
class AsInts(Query[list[int]]):
    case: str


@dataclass(frozen=True)
class AsOrders(Query[list[Order]]):
    case: str


@dataclass(frozen=True)
class AsMap(Query[dict[str, int]]):
    case: str


@dataclass(frozen=True)
class AsPair(Query[tuple[int, str]]):
    case: str


@dataclass(frozen=True)
class AsMaybe(Query[Optional[Order]]):  # noqa: UP045
    case: str


@dataclass(frozen=True)
class AsNothing(Request[None]):
    case: str


@dataclass(frozen=True)
class AsAny(Request):  # type: ignore[type-arg]
    case: str


@dataclass(frozen=True)
class Carry(Query[str]):
    """Answered with the text of what the handler was given."""

    ratio: float = 0.0
    price: Decimal = Decimal(0)
    count: int = 0
    at: Optional[time] = None  # noqa: UP045
    when: Optional[datetime] = None  # noqa: UP045
    ratios: dict[str, float] = field(default_factory=dict)
    prices: dict[Decimal, Decimal] = field(default_factory=dict)
    plain: Any = None


TYPES = (
    AsOrder, AsEven, AsInt, AsFloat, AsStr, AsBool, AsBytes, AsDecimal, AsDatetime, AsDate, AsTime, AsSpan, AsColor,
    AsInts, AsOrders, AsMap, AsPair, AsMaybe, AsNothing, AsAny,
)  # fmt: skip


def give(value: Any) -> Callable[[], Any]:
    return lambda: value


def throw(error: Exception) -> Callable[[], Any]:
    def handler() -> Any:
        raise error

    return handler


def relay() -> Any:
    return CatgaResult.failure("nobody there", ErrorCode.UNAVAILABLE, delivery=Delivery.NOT_EXECUTED)._with(
        node_id="far-away", request_id="r-9"
    )


def unwrap_failed() -> Any:
    return CatgaResult.failure("nobody there", ErrorCode.UNAVAILABLE, delivery=Delivery.UNKNOWN).unwrap()


TABLE: dict[str, tuple[type[Any], Callable[[], Any]]] = {
    "a code of two lines": (AsInt, give(CatgaResult.failure("no", "a\nb"))),
    # values
    "a dataclass": (AsOrder, give(ORDER)),
    "an int": (AsInt, give(7)),
    "zero": (AsInt, give(0)),
    "a long int": (AsInt, give(2**53 + 1)),
    "a float": (AsFloat, give(0.1)),
    "an int for a float": (AsFloat, give(3)),
    "a text": (AsStr, give('Grüße "quoted" \u2028 </script> \x00 🙂')),
    "an empty text": (AsStr, give("")),
    "true": (AsBool, give(True)),
    "false": (AsBool, give(False)),
    "bytes": (AsBytes, give(bytes(range(256)))),
    "a decimal": (AsDecimal, give(Decimal("-0.10"))),
    "a moment with a zone": (AsDatetime, give(datetime(2026, 1, 31, 14, 0, tzinfo=timezone(timedelta(hours=2))))),
    "a moment in UTC": (AsDatetime, give(datetime(2026, 1, 31, 14, 0, tzinfo=timezone.utc))),
    "a moment without one": (AsDatetime, give(datetime(2026, 1, 31, 14, 0, 0, 7))),  # noqa: DTZ001
    "a day": (AsDate, give(date(2026, 1, 31))),
    "a time of day": (AsTime, give(time(23, 59, 59, 999999))),
    "a time of day with a zone": (AsTime, give(time(23, 59, tzinfo=timezone(timedelta(hours=2))))),
    "a span": (AsSpan, give(-timedelta(days=3, hours=4, microseconds=5))),
    "an enum": (AsColor, give(Color.BLUE)),
    "a list": (AsInts, give([1, 2, 3])),
    "an empty list": (AsInts, give([])),
    "a list of dataclasses": (AsOrders, give([ORDER, ORDER])),
    "a map": (AsMap, give({"A_b": 1, "": 2, "ü": 3})),
    "a tuple": (AsPair, give((1, "x"))),
    "something": (AsMaybe, give(ORDER)),
    "nothing for something optional": (AsMaybe, give(None)),
    "nothing for nothing": (AsNothing, give(None)),
    "nothing for a dataclass": (AsOrder, give(None)),
    "nothing for an int": (AsInt, give(None)),
    "plain data": (AsAny, give({"a": [1, 2.5, None, True, {"b": "c"}], "": ""})),
    # results
    "a result": (AsOrder, give(CatgaResult.success(ORDER))),
    "a result of nothing": (AsOrder, give(CatgaResult.success())),
    "a result with metadata": (AsInt, give(CatgaResult.success(1, metadata={"cache": "hit"}))),
    "a failure": (AsInt, give(CatgaResult.failure("no"))),
    "a failure with a code": (AsInt, give(CatgaResult.failure("no", ErrorCode.NOT_FOUND))),
    "a failure with a code as text": (AsInt, give(CatgaResult.failure("no", "ABORTED"))),
    "a failure with an own code": (AsInt, give(CatgaResult.failure("no", "shop.sold_out"))),
    "a failure with an empty code": (AsInt, give(CatgaResult.failure("no", ""))),
    "a failure with code UNKNOWN": (AsInt, give(CatgaResult.failure("no", ErrorCode.UNKNOWN))),
    "a failure that claims not to have run": (AsInt, give(CatgaResult.failure("no", delivery=Delivery.NOT_EXECUTED))),
    "a result of another node": (AsInt, relay),
    # errors
    "a business error": (AsInt, throw(BusinessError("sold out"))),
    "a business error with a code": (AsInt, throw(BusinessError("sold out", code="shop.sold_out"))),
    "a business error with a code of ours": (AsInt, throw(BusinessError("sold out", code="NOT_FOUND"))),
    "a call error": (AsInt, throw(CallError("no"))),
    "a network error": (AsInt, throw(errors.NetworkError("no"))),
    "a deadline": (AsInt, throw(errors.DeadlineExceeded("no"))),
    "a serialization error": (AsInt, throw(errors.SerializationError("no"))),
    "no handler": (AsInt, throw(errors.NoHandlerError("no"))),
    "denied": (AsInt, throw(errors.AccessDenied("no"))),
    "handler failed": (AsInt, throw(errors.HandlerFailed("no"))),
    "unwrapped": (AsInt, unwrap_failed),
    "an empty error text": (AsInt, throw(BusinessError())),
    "an empty text in a result": (AsInt, give(CatgaResult.failure(""))),
    "a code of 200 characters": (AsInt, give(CatgaResult.failure("no", "c" * 200))),
    "a code that is an enum": (AsInt, give(CatgaResult.failure("no", Color.RED))),  # type: ignore[arg-type]
    "a text of 512 characters": (AsInt, throw(BusinessError("x" * 512))),
    "a text of 513 characters": (AsInt, throw(BusinessError("x" * 513))),
    "a text of many lines": (AsInt, throw(BusinessError('a\nb\t"c" \u202e ü 🙂 \ud800'))),
    "ValueError": (AsInt, throw(ValueError("hunter2"))),
    "KeyError": (AsInt, throw(KeyError("hunter2"))),
    "OSError": (AsInt, throw(OSError(2, "hunter2"))),
    "AssertionError": (AsInt, throw(AssertionError("hunter2"))),
    "RecursionError": (AsInt, throw(RecursionError("hunter2"))),
    "MemoryError": (AsInt, throw(MemoryError("hunter2"))),
    "StopIteration": (AsInt, throw(StopIteration("hunter2"))),
    "ConfigurationError": (AsInt, throw(errors.ConfigurationError("hunter2"))),
    "group": (AsInt, throw(NotImplementedError("hunter2"))),
    # answers of another type
    "a text for an int": (AsInt, give("7")),
    "a float for an int": (AsInt, give(7.0)),
    "an int for a text": (AsStr, give(7)),
    "an int for a bool": (AsBool, give(1)),
    "a dict for a dataclass": (AsOrder, give({"order_id": "x"})),
    "another dataclass": (AsOrder, give(ORDER.lines[0])),
    "a tuple for a list": (AsInts, give((1, 2))),
    "a list for a tuple": (AsPair, give([1, "x"])),
    "a dataclass for nothing": (AsNothing, give(ORDER)),
    "a value for nothing": (AsNothing, give(0)),
    "a result of a text for an int": (AsInt, give(CatgaResult.success("7"))),
    "a class": (AsOrder, give(Order)),
    "a bool for an int": (AsInt, give(True)),
    "a bool for a float": (AsFloat, give(True)),
    "a moment for a day": (AsDate, give(datetime(2026, 1, 31, 5))),  # noqa: DTZ001
    # answers that the wire does not carry, or not as they are
    "a wrong item": (AsInts, give(["1"])),
    "a wrong field": (AsOrder, give(Order("x", [], None))),  # type: ignore[arg-type]
    "NaN": (AsFloat, give(math.nan)),
    "infinity": (AsFloat, give(math.inf)),
    "a negative zero": (AsFloat, give(-0.0)),
    "a decimal negative zero": (AsDecimal, give(Decimal("-0"))),
    "a decimal of too many digits": (AsDecimal, give(Decimal("1" * 4301))),
    "a fraction of too many digits": (AsDecimal, give(Decimal("0." + "1" * 4301))),
    "a decimal with a huge exponent": (AsDecimal, give(Decimal("1E+99999"))),
    "an int of too many digits": (AsInt, give(10**4300)),
    "an int of too many digits in plain data": (AsAny, give({"a": [10**4300]})),
    "a time of day whose zone depends on the day": (AsTime, give(time(12, tzinfo=ZoneInfo("Europe/Berlin")))),
    "a number that a float does not hold exactly": (AsFloat, give(2**53 + 1)),
    "half a surrogate pair": (AsStr, give("\ud800")),
    "an answer of a subclass": (AsOrder, give(Receipt(ORDER.order_id, [], ORDER.placed_at))),
    "a tuple in plain data": (AsAny, give({"a": (1, 2)})),
    "a dataclass in plain data": (AsAny, give({"a": ORDER})),
    "a set in plain data": (AsAny, give({1, 2})),
    "a decimal in plain data": (AsAny, give(Decimal(1))),
    "data that contain themselves": (AsAny, give(ENDLESS)),
    "an answer whose class refuses what it holds": (AsEven, give(changed(Even(2), 3))),
    "an answer with an attribute gone": (AsEven, give(changed(Even(2)))),
}


@dataclass(frozen=True)
class Outer(Request[str]):
    timeout: Optional[float] = None  # noqa: UP045


@dataclass(frozen=True)
class Inner(Request[str]):
    pass


@message(remote=False)
@dataclass(frozen=True)
class Private(Query[str]):
    pass


@dataclass(frozen=True)
class Unhandled(Query[str]):
    pass


@dataclass(frozen=True)
class Happened(Event):
    case: str = ""


class World:
    """A client, node "a" with all handlers, and node "b" with the inner one."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}
        self.local = Mediator()
        for kind in TYPES:
            self.local.register(kind, self.run)
        self.local.register(Carry, lambda request: repr(request)[:500])
        self.local.register(Private, lambda request: "here")
        self.local.subscribe(Happened, self.run)
        self.inner = Mediator()
        self.inner.register(Inner, self.handle_inner)

    @staticmethod
    def run(request: Any) -> object:
        return TABLE[request.case][1]()

    def handle_inner(self, request: Inner) -> str:
        call = current_call()
        assert call is not None
        self.seen["inner"], self.seen["inner left"] = call, call.remaining()
        return "inner"

    def handle_outer(self, request: Outer) -> str:
        call = current_call()
        assert call is not None
        self.seen["outer"], self.seen["outer left"] = call, call.remaining()
        return self.a.send(Inner(), timeout=request.timeout).unwrap()

    @contextlib.contextmanager
    def in_process(self) -> Iterator[World]:
        with LocalCluster() as cluster:
            self.local.register(Outer, self.handle_outer)
            self.a, self.b = cluster.add_node("a", self.local), cluster.add_node("b", self.inner)
            self.client = cluster.add_client()
            # Their threads begin with the fixture, and not with the test that calls first.
            self.a._lifecycle._background.ensure()
            self.client.start()
            yield self

    @contextlib.contextmanager
    def over(self, scheme: str) -> Iterator[World]:
        store = MemoryDiscovery()
        with contextlib.ExitStack() as stack:
            ports = {"a": free_port(), "b": free_port()}
            self.a, self.b = (
                create_cluster(local, node_id=name, endpoint=f"{scheme}://127.0.0.1:{ports[name]}", discovery=store)
                for name, local in (("a", self.local), ("b", self.inner))
            )
            self.local.register(Outer, self.handle_outer)
            self.client = create_cluster(Mediator(), node_id="client", discovery=store)
            for node in (self.a, self.b):
                stack.enter_context(serving(node, ports[node.node.node_id]))
            for mediator in (self.a, self.b, self.client):
                stack.enter_context(mediator)
                mediator.start()
            until(lambda: [node.node_id for node in self.client.nodes()] == ["a", "b"], "both nodes are there")
            until(lambda: [node.node_id for node in self.a.nodes()] == ["a", "b"], "a sees b")
            yield self


@pytest.fixture(scope="module", params=["http", "grpc", "in process"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "grpc":
        require_module("grpc")
    made = World()
    with made.in_process() if request.param == "in process" else made.over(request.param):
        yield made


FORGOTTEN = ["nothing for a dataclass", "nothing for an int", "a result of nothing"]


@every_row("case", FORGOTTEN)
def test_a_handler_without_a_return_is_a_fault_everywhere(world: World, case: str) -> None:
    for result in ways(world, TABLE[case][0](case)).values():
        assert (result.code, result.delivery) == (ErrorCode.INTERNAL, Delivery.EXECUTED)
        assert (result.error or "").endswith("add a return, or make the response type Optional")


def ways(world: World, request: Any) -> dict[str, CatgaResult[Any]]:
    return {
        "the local mediator": world.local.send(request),
        "the node's own cluster mediator": world.a.send(request),
        "another node": world.client.send(request),
    }


def outcome(result: CatgaResult[Any]) -> Any:
    try:
        return type(result.unwrap())
    except CallError as exc:
        return type(exc), str(exc), exc.code, exc.delivery


def assert_equal(results: dict[str, CatgaResult[Any]]) -> None:
    first = next(iter(results.values()))
    for result in results.values():
        assert result == first
        assert str(result.value) == str(first.value) or not isinstance(result.value, (float, Decimal, datetime, time))
        assert (result.is_success, result.error, result.code) == (first.is_success, first.error, first.code)
        assert result.delivery is first.delivery is Delivery.EXECUTED
        assert type(result.code) is type(first.code)
        assert outcome(result) == outcome(first) or isinstance(first.value, (int, float))


@every_row("case", TABLE)
def test_the_same_handler_gives_the_same_result_on_every_way(world: World, case: str) -> None:
    results = ways(world, TABLE[case][0](case))
    assert_equal(results)
    assert "hunter2" not in repr(results)


@every_row("case", [["an int"], None, 7, "\ud800"], ids=["list", "None", "int", "surrogate"])
def test_a_request_that_does_not_fit_its_class_is_the_same_everywhere(world: World, case: Any) -> None:
    first, *others = ways(world, AsInt(case)).values()
    assert (first.code, first.delivery) == (ErrorCode.INVALID_ARGUMENT, Delivery.NOT_EXECUTED)
    assert others == [first, first]
    assert "AsInt.case" in (first.error or "")


@every_row(
    ("request_", "said"),
    [
        (Carry(-0.0, Decimal("-0")), "ratio=-0.0, price=Decimal('-0')"),
        (Carry(ratios={"a": -0.0}, plain=[-0.0]), "ratios={'a': -0.0}, prices={}, plain=[-0.0]"),
        (Carry(prices={Decimal("-0"): Decimal("-0.00")}), "{Decimal('-0'): Decimal('-0.00')}"),
        (Carry(at=time(1, tzinfo=timezone.utc)), "at=datetime.time(1, 0, tzinfo=datetime.timezone.utc)"),
        (Carry(at=time(1, tzinfo=ZoneInfo("Europe/Berlin"))), "Carry.at: has a time zone without a fixed offset"),
        (Carry(price=Decimal("1" * 4301)), "Carry.price: has more than 4300 digits"),
        (Carry(prices={Decimal("1" * 4301): Decimal(1)}), "has more than 4300 digits"),
        (Carry(price=Decimal("1E+5000")), "price=Decimal('1E+5000')"),
        (Carry(count=10**4300), "Carry.count: has more than 4300 digits"),
        (Carry(plain={"a": [10**4300]}), "Carry.plain: has more than 4300 digits"),
    ],
)
def test_a_request_is_the_same_to_its_handler_on_every_way(world: World, request_: Carry, said: str) -> None:
    first, *others = ways(world, request_).values()
    assert others == [first, first]
    assert said in str(first.value or first.error)


def test_a_remote_result_knows_where_it_comes_from(world: World) -> None:
    result = world.client.send(AsInt("an int"))
    assert result.node_id == "a"
    assert len(result.request_id) == 32
    (attempt,) = result.attempts
    assert (attempt.node_id, attempt.delivery, attempt.code, attempt.error) == ("a", Delivery.EXECUTED, None, None)
    assert result.processing_time_ms >= 0


@every_row("timeout", [60, 5.5, 10**6])
def test_a_timeout_that_is_not_up_changes_nothing(world: World, timeout: float) -> None:
    for mediator in (world.local, world.a, world.client):
        assert mediator.send(AsInt("an int"), timeout=timeout) == CatgaResult.success(7)


@every_row("timeout", [math.inf, 1e300, 10**30])
def test_a_timeout_may_be_as_long_as_one_likes(world: World, timeout: float) -> None:
    for mediator in (world.local, world.a, world.client):
        assert mediator.send(AsInt("an int"), timeout=timeout) == CatgaResult.success(7)


@every_row("timeout", [0, -1])
def test_a_call_whose_time_is_up_is_not_started_anywhere(world: World, timeout: float) -> None:
    for mediator in (world.local, world.a, world.client):
        result = mediator.send(AsInt("an int"), timeout=timeout)
        assert (result.code, result.delivery) == (ErrorCode.DEADLINE_EXCEEDED, Delivery.NOT_EXECUTED)


def test_a_type_without_a_handler_is_the_same_everywhere(world: World) -> None:
    for mediator in (world.local, world.a, world.client):
        result = mediator.send(Unhandled())
        assert (result.code, result.delivery) == (ErrorCode.UNIMPLEMENTED, Delivery.NOT_EXECUTED)
        assert "Unhandled" in (result.error or "")


def test_a_local_type_stays_where_it_is(world: World) -> None:
    assert world.local.send(Private()).value == "here"
    assert world.a.send(Private()).value == "here"
    result = world.client.send(Private())
    assert (result.code, result.delivery) == (ErrorCode.UNIMPLEMENTED, Delivery.NOT_EXECUTED)


@every_row("argument", [None, "x", Happened(), AsInt])
def test_an_argument_that_is_no_request_is_a_type_error_everywhere(world: World, argument: Any) -> None:
    for mediator in (world.local, world.a, world.client):
        with pytest.raises(TypeError, match=r"^request: "):
            mediator.send(argument)


def test_a_batch_is_the_same_everywhere(world: World) -> None:
    requests = [AsInt("an int"), AsInt("a business error"), AsOrder("a dataclass"), AsNothing("nothing for nothing")]
    here = world.local.send_batch(requests)
    assert world.client.send_batch(requests) == here
    assert world.a.send_batch(requests, timeout=30) == here
    assert [result.is_success for result in here] == [True, False, True, True]
    assert len({result.request_id for result in world.client.send_batch(requests)}) == len(requests)


def test_a_stream_is_the_same_everywhere(world: World) -> None:
    taken: list[int] = []

    def requests() -> Iterator[AsInt]:
        for number in range(5):
            taken.append(number)
            yield AsInt("an int" if number % 2 else "a business error")

    stream = world.client.send_stream(requests())
    assert taken == []
    assert next(stream).code is ErrorCode.FAILED_PRECONDITION
    assert taken == [0]
    assert [bool(result) for result in stream] == [True, False, True, False]


def test_a_broadcast_is_the_result_of_each_node(world: World) -> None:
    for mediator in (world.a, world.client):
        assert mediator.broadcast(AsInt("an int")) == {"a": CatgaResult.success(7)}
        assert mediator.broadcast(AsInt("a business error")) == {"a": world.local.send(AsInt("a business error"))}
    assert world.client.broadcast(Unhandled()) == {}


def test_an_event_reaches_the_subscribers_of_other_nodes(world: World) -> None:
    assert world.local.publish(Happened("an int")) == {"local": CatgaResult.success(None)}
    for mediator in (world.a, world.client):
        assert mediator.publish(Happened("an int")) == {"a": CatgaResult.success(None)}


def test_a_subscriber_that_fails_is_the_same_everywhere(world: World) -> None:
    here = world.local.publish(Happened("a business error"))["local"]
    assert not here
    assert world.a.publish(Happened("a business error")) == {"a": here}
    assert world.client.publish(Happened("a business error")) == {"a": here}


# -- a handler that sends ----------------------------------------------------------------------------------------------


@every_row("timeout", [None, 1000.0])
def test_a_nested_send_has_what_its_caller_has_left(world: World, timeout: float | None) -> None:
    assert world.client.send(Outer(timeout), timeout=25).value == "inner"
    assert world.seen["outer left"] <= 25
    assert world.seen["inner left"] <= world.seen["outer left"] - NESTED_MARGIN + 1e-6


def test_a_nested_send_may_have_less(world: World) -> None:
    assert world.client.send(Outer(15.0), timeout=25).value == "inner"
    assert world.seen["inner left"] <= 15.0


def test_a_nested_send_is_a_call_of_its_own_and_of_its_own_node(world: World) -> None:
    result = world.client.send(Outer())
    outer, inner = world.seen["outer"], world.seen["inner"]
    assert outer.request_id == result.request_id
    assert inner.request_id != outer.request_id
    assert (outer.source_node_id, inner.source_node_id) == ("client", "a")


def test_the_trace_of_a_call_goes_all_the_way(world: World) -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    token = enter_call(CallContext("r", traceparent=trace, tracestate="vendor=x", baggage="tenant=7"))
    try:
        assert world.client.send(Outer())
    finally:
        leave_call(token)
    for place in ("outer", "inner"):
        assert (world.seen[place].traceparent, world.seen[place].tracestate) == (trace, "vendor=x")
        assert world.seen[place].baggage == "tenant=7"
