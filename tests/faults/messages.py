"""What the nodes of the fault tests are asked. Importing it starts nothing, as importing the app does."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from catga_sync import Event, Query, Request, message

__all__ = ["Ask", "Colour", "Come", "Do", "Done", "Echo", "Fail", "Go", "Happened", "Part", "Put", "Wide"]


@message(name="faults.Done")
@dataclass(frozen=True)
class Done:
    """What was asked, and which execution has answered it."""

    text: str
    execution: str


@message(name="faults.Ask")
@dataclass(frozen=True)
class Ask(Query[Done]):
    """A query that takes so many seconds."""

    text: str
    seconds: float = 0.0


@message(name="faults.Do")
@dataclass(frozen=True)
class Do(Request[Done]):
    """A plain request that takes so many seconds."""

    text: str
    seconds: float = 0.0


@message(name="faults.Put", idempotent=True)
@dataclass(frozen=True)
class Put(Request[Done]):
    """A request that may run again, as a query may."""

    text: str
    seconds: float = 0.0


@message(name="faults.Go")
@dataclass(frozen=True)
class Go(Request[Done]):
    """A request whose handler sends ``Come``, until ``hops`` are made."""

    text: str
    hops: int


@message(name="faults.Come")
@dataclass(frozen=True)
class Come(Request[Done]):
    """A request whose handler sends ``Go``, until ``hops`` are made."""

    text: str
    hops: int


@message(name="faults.Happened")
@dataclass(frozen=True)
class Happened(Event):
    """An event."""

    text: str


class Colour(enum.Enum):
    """A value by its name or its number."""

    RED = 1
    GREEN = 2


@dataclass(frozen=True)
class Part:
    """A part of ``Wide``."""

    name: str
    price: Decimal


@message(name="faults.Wide")
@dataclass(frozen=True)
class Wide:
    """A value of each kind that can travel."""

    text: str
    number: int
    ratio: float
    flag: bool
    raw: bytes
    price: Decimal
    moment: datetime
    day: date
    hour: time
    span: timedelta
    ident: UUID
    colour: Colour
    parts: list[Part]
    pair: tuple[int, str]
    unique: set[int]
    mapping: dict[str, int]
    kind: Literal["a", "b"]
    anything: Any
    missing: str | None = None


@message(name="faults.Echo")
@dataclass(frozen=True)
class Echo(Query[Wide]):
    """A query whose response is what it carries."""

    wide: Wide


@message(name="faults.Fail")
@dataclass(frozen=True)
class Fail(Request[Done | None]):
    """A request that ends in the way that ``how`` says."""

    how: str
