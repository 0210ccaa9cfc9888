"""What the three services and the program that asks them share: what can be asked, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from catga_sync import Query


@dataclass(frozen=True)
class Reading:
    """What a clock on a wall of that zone shows."""

    zone: str
    time: datetime
    offset: timedelta
    abbreviation: str


@dataclass(frozen=True)
class ConvertTime(Query[Reading]):
    """Answered by clock: what it is in one zone when a clock in another shows ``time``."""

    time: datetime
    zone: str
    to: str


@dataclass(frozen=True)
class ListZones(Query[list[str]]):
    """Answered by atlas: the zones of a region that are this far ahead of UTC at that moment."""

    region: str
    offset: timedelta
    at: datetime


@dataclass(frozen=True)
class FindZone(Query[str]):
    """Answered by atlas: the zone of a city."""

    city: str


@dataclass(frozen=True)
class Span:
    begin: datetime
    end: datetime


@dataclass(frozen=True)
class Overlap(Query[Span]):
    """Answered by planner: the time that all spans have in common."""

    spans: list[Span]


@dataclass(frozen=True)
class Meeting:
    begin: datetime
    clocks: dict[str, Reading]


@dataclass(frozen=True)
class FindMeeting(Query[Meeting]):
    """Answered by planner, who asks atlas, clock and itself: an hour of that day at which all cities are at work."""

    cities: list[str]
    day: date


@dataclass(frozen=True)
class Report:
    """One node's own view: whom it sees, and how many of its sends each node has answered."""

    sees: list[str]
    sends: dict[str, int]


@dataclass(frozen=True)
class AskReport(Query[Report]):
    """Answered by every node; ``broadcast`` asks them all."""
