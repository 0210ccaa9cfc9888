"""What is asked, and what the answer must be: worked out here from ``zoneinfo`` alone, with no handler of the nodes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from catga_sync import CatgaResult, ErrorCode, Request

from messages import ConvertTime, FindMeeting, ListZones, Meeting, Reading

REGIONS = ("Africa", "America", "Asia", "Australia", "Europe", "Pacific")
TEAMS = (
    {"Berlin": "Europe/Berlin", "Nairobi": "Africa/Nairobi", "Sao Paulo": "America/Sao_Paulo"},
    {"New York": "America/New_York", "London": "Europe/London", "Lagos": "Africa/Lagos"},
    {"Los Angeles": "America/Los_Angeles", "New York": "America/New_York", "Sao Paulo": "America/Sao_Paulo"},
    {"Tokyo": "Asia/Tokyo", "Sydney": "Australia/Sydney", "Kolkata": "Asia/Kolkata"},
)


@dataclass(frozen=True)
class Question:
    """One request, with the node that must answer it and the answer that it must give."""

    text: str
    request: Request[Any]
    node: str
    answer: CatgaResult[Any]


def ask_everything(count: int, seed: int = 2026) -> list[Question]:
    """Return ``count`` questions with an answer, mixed, and two whose right answer is "no"."""
    source = _Source(random.Random(seed))
    makers = (source.conversion, source.conversion, source.listing, source.meeting)
    asked = [makers[i % len(makers)]() for i in range(count)]
    for refusal in refusals():
        asked.insert(source.rng.randrange(len(asked)), refusal)
    return asked


def refusals() -> Iterator[Question]:
    """Yield the questions to which a handler must say no: a business error is an answer too."""
    no_hour = "Tokyo, Berlin, New York have no working hour in common"
    yield _meeting(["Tokyo", "Berlin", "New York"], date(2026, 7, 1), CatgaResult.failure(no_hour, "NO_COMMON_HOUR"))
    no_city = "no zone is named after Atlantis"  # said by atlas, and handed on by planner
    yield _meeting(["Lagos", "Atlantis"], date(2026, 7, 1), CatgaResult.failure(no_city, ErrorCode.NOT_FOUND))


class _Source:
    """Makes questions out of the time zone database. Not thread-safe."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        everything = sorted(available_timezones())
        self.zones = {region: [name for name in everything if name.startswith(f"{region}/")] for region in REGIONS}

    def conversion(self) -> Question:
        zone, to = (self.rng.choice(self.zones[region]) for region in self.rng.sample(REGIONS, 2))
        when = datetime.combine(self._day(), time(self.rng.randrange(24), self.rng.randrange(60)))
        reading = _reading(when.replace(tzinfo=ZoneInfo(zone)), to)
        text = f"{when:%Y-%m-%d %H:%M} {zone} in {to}"
        return Question(text, ConvertTime(when, zone, to), "clock", CatgaResult.success(reading))

    def listing(self) -> Question:
        region = self.rng.choice(REGIONS)
        at = datetime.combine(self._day(), time(12), timezone.utc)
        offsets = {name: at.astimezone(ZoneInfo(name)).utcoffset() or timedelta(0) for name in self.zones[region]}
        wanted = offsets[self.rng.choice(self.zones[region])]
        names = [name for name, offset in offsets.items() if offset == wanted]
        text = f"zones of {region} at {utc_offset(wanted)} on {at:%Y-%m-%d}"
        return Question(text, ListZones(region, wanted, at), "atlas", CatgaResult.success(names))

    def meeting(self) -> Question:
        team, day = self.rng.choice(TEAMS), self._day()
        # All of them are at work from the last one's nine o'clock on.
        begin = max(datetime.combine(day, time(9), ZoneInfo(zone)).astimezone(timezone.utc) for zone in team.values())
        meeting = Meeting(begin, {city: _reading(begin, zone) for city, zone in team.items()})
        return _meeting(list(team), day, CatgaResult.success(meeting))

    def _day(self) -> date:
        return date(1985, 1, 1) + timedelta(days=self.rng.randrange(50 * 365))


def _meeting(cities: list[str], day: date, answer: CatgaResult[Any]) -> Question:
    return Question(f"meet {', '.join(cities)} on {day}", FindMeeting(cities, day), "planner", answer)


def _reading(moment: datetime, zone: str) -> Reading:
    there = moment.astimezone(ZoneInfo(zone))
    return Reading(zone, there.replace(tzinfo=None), there.utcoffset() or timedelta(0), there.tzname() or "")


def utc_offset(offset: timedelta) -> str:
    """Return an offset as it is usually written, +05:30."""
    minutes = int(offset.total_seconds()) // 60
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
