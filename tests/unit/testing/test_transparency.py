"""transparent: what does not survive the wire fails in a unit test."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import IntEnum
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from catga_sync.cluster.factory import create_cluster
from catga_sync.errors import Delivery, ErrorCode
from catga_sync.mediator import Mediator
from catga_sync.messages import Event, Query, message
from catga_sync.testing import ChangedOnTheWire, transparent
from tests.tables import every_row


@dataclass
class Line:
    article: str = "apple"
    price: Decimal = Decimal("1.20")
    note: Any = None


@dataclass
class Gift(Line):
    wrapped: bool = True


@message(name="transparent.Put")
@dataclass
class Put(Query[Line]):
    line: Line = field(default_factory=Line)
    ratio: float = 0.0
    at: datetime = datetime(2026, 1, 31, tzinfo=timezone.utc)
    tags: set[str] = field(default_factory=lambda: {"a", "b"})


@message(name="transparent.Secret", remote=False)
@dataclass
class Here(Query[Any]):
    what: Any


@message(name="transparent.Done")
@dataclass
class Done(Event):
    lines: list[Line] = field(default_factory=list)


@message(name="transparent.DoneHere", remote=False)
@dataclass
class DoneHere(Event):
    what: Any


@pytest.fixture
def local() -> Mediator:
    made = Mediator()
    made.register(Put, lambda request: request.line)
    made.register(Here, lambda request: request.what)
    return made


def test_what_survives_is_left_alone(local: Mediator) -> None:
    with transparent(local):
        for request in (Put(), Put(ratio=1), Put(Line(note=[1, {"a": [None, 2.5]}]))):
            assert local.send(request).value == request.line
        assert local.send_batch([Put()])[0]


@pytest.mark.parametrize(
    ("line", "change"),
    [
        (Gift(), r"Put.line: Gift\(.*\) \(Gift\) is read as Line\(.*\) \(Line\)"),
        (Line(note=(1, 2)), r"Put.line.note: \(1, 2\) \(tuple\) is read as \[1, 2\] \(list\)"),
        (Line(note=[{"at": (1,)}]), r"Put.line.note\[0\]\['at'\]: \(1,\) \(tuple\) is read as \[1\]"),
    ],
)
def test_what_is_read_as_something_else_is_reported_at_the_end(local: Mediator, line: Line, change: str) -> None:
    results: list[Any] = []
    with pytest.raises(ChangedOnTheWire, match=rf"(?s)^did not survive the wire:\n.*{change}"), transparent(local):
        results.append(local.send(Put(line)))
    assert results[0].is_success


class Size(IntEnum):
    BIG = 2


@message(name="transparent.Kinds")
@dataclass
class Kinds(Query[None]):
    anything: Any = None
    number: int = 0
    size: Size = Size.BIG
    at: datetime | None = None
    counts: dict[int, int] = field(default_factory=dict)
    numbers: set[int] = field(default_factory=set)


def at(zone: tzinfo | None) -> datetime:
    return datetime(2026, 1, 31, tzinfo=zone)


@every_row(
    ("request_", "change"),
    [
        (Kinds(anything=Size.BIG), r"anything: <Size.BIG: 2> \(Size\) is read as 2 \(int\)"),
        (Kinds(number=Size.BIG), r"number: <Size.BIG: 2>"),
        (Kinds(counts={Size.BIG: 1}), r"counts, a key: <Size.BIG: 2>"),
        (Kinds(numbers={Size.BIG}), r"numbers, an element: <Size.BIG: 2>"),
        (Kinds(at=at(ZoneInfo("Europe/Berlin"))), r"at: .*"),
    ],
)
def test_a_part_that_is_equal_and_of_another_kind_is_reported(request_: Kinds, change: str) -> None:
    local = Mediator()
    local.register(Kinds, lambda request: None)
    with pytest.raises(ChangedOnTheWire, match=f"Kinds.{change}"), transparent(local):
        assert local.send(request_)


@every_row(
    "request_",
    [
        Kinds(1, 1, Size.BIG, None, {2: 2}, {2}),
        *(Kinds(at=at(zone)) for zone in (None, timezone.utc, ZoneInfo("UTC"), timezone(timedelta(hours=1), "X"))),
    ],
)
def test_a_part_of_the_same_kind_and_a_zone_of_the_same_offset_survive(request_: Kinds) -> None:
    local = Mediator()
    local.register(Kinds, lambda request: None)
    with transparent(local):
        assert local.send(request_)


def test_a_response_is_reported_too(local: Mediator) -> None:
    other = Mediator()
    other.register(Put, lambda request: Gift())
    with pytest.raises(ChangedOnTheWire, match=r"Line: Gift\(.* is read as Line"), transparent(other):
        other.send(Put())


def test_what_cannot_be_written_fails_as_remotely_and_is_reported(local: Mediator) -> None:
    with pytest.raises(ChangedOnTheWire, match=r"Put.line.article: expected str, not int"):  # noqa: SIM117
        with transparent(local):
            result = local.send(Put(Line(7)))  # type: ignore[arg-type]
    assert (result.code, result.delivery) == (ErrorCode.INVALID_ARGUMENT, Delivery.NOT_EXECUTED)


def test_a_handler_that_changes_its_request_changes_a_copy(local: Mediator) -> None:
    def change(request: Put) -> Line:
        request.line.article = "pear"
        return request.line

    other = Mediator()
    other.register(Put, change)
    request = Put()
    with transparent(other):
        value = other.send(request).value
    assert (request.line.article, value) == ("apple", Line("pear"))
    other.send(request)
    assert request.line.article == "pear"


def test_subscribers_get_copies_too(local: Mediator) -> None:
    heard: list[Done] = []
    local.subscribe(Done, heard.append)
    event = Done([Line()])
    with transparent(local):
        local.publish(event)
    assert heard == [event]
    assert heard[0].lines[0] is not event.lines[0]
    with pytest.raises(ChangedOnTheWire, match=r"Done.lines\[0\]: Gift"), transparent(local):
        local.publish(Done([Gift()]))
    with pytest.raises(ChangedOnTheWire, match="article: expected str"), transparent(local):
        assert local.publish(Done([Line(7)]))["local"]  # type: ignore[arg-type]
    assert len(heard) == 3


def test_what_never_travels_need_not_be_fit_for_it(local: Mediator) -> None:
    what = object()
    with transparent(local):
        assert local.send(Here(what)).value is what
    heard: list[DoneHere] = []
    local.subscribe(DoneHere, heard.append)
    with transparent(local):
        local.publish(DoneHere((what, 2)))
    assert heard[0].what == (what, 2)


def test_each_change_is_reported_once_and_ten_at_most(local: Mediator) -> None:
    with pytest.raises(ChangedOnTheWire) as caught, transparent(local):
        local.send_batch([Put(Line(note=(number // 2,))) for number in range(28)])
    lines = str(caught.value).splitlines()
    assert len(lines) == 12
    assert lines[-1].startswith("and ")


def test_the_own_node_of_a_cluster_is_a_local_call(local: Mediator) -> None:
    with (
        create_cluster(local, node_id="n", discovery="memory://") as node,
        pytest.raises(ChangedOnTheWire, match="is read as"),
        transparent(node),
    ):
        node.send(Put(Gift()))


def test_afterwards_everything_is_as_before(local: Mediator) -> None:
    with transparent(local), transparent(local):
        local.register(Other, lambda request: request.line)
    line = Line()
    assert local.send(Other(line)).value is line
    with pytest.raises(ChangedOnTheWire), transparent(local):
        local.send(Put(Gift()))
    assert local.send(Other(line)).value is line


def test_blocks_may_overlap_without_nesting(local: Mediator) -> None:
    heard: list[Done] = []
    local.subscribe(Done, heard.append)
    first, second = transparent(local), transparent(local)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    local.send(Put(Gift()))
    local.publish(Done([Gift()]))
    with pytest.raises(ChangedOnTheWire, match=r"(?s)Put.line: Gift.*Done.lines\[0\]: Gift"):
        second.__exit__(None, None, None)
    request, event = Put(Line("pear")), Done([Line()])
    local.publish(event)
    assert local.send(request).value is request.line
    assert heard[-1] is event


@message(name="transparent.Other")
@dataclass
class Other(Query[Line]):
    line: Line


def test_an_error_of_the_block_is_not_hidden_by_the_report(local: Mediator) -> None:
    with pytest.raises(KeyError), transparent(local):  # noqa: PT012
        local.send(Put(Gift()))
        raise KeyError


def test_hooks_that_watch_handlers_may_be_there_and_come(local: Mediator) -> None:
    class Watching:
        def __init__(self) -> None:
            self.told: list[bool] = []

        def on_handle(self, details: Any) -> Any:
            return lambda result: self.told.append(result.is_success)

    first, second = Watching(), Watching()
    local.add_hook(first)
    with transparent(local):
        assert local.send(Put())
        local.add_hook(second)
        assert local.send(Put())
    assert local.send(Put())
    assert (first.told, second.told) == ([True] * 3, [True] * 2)
