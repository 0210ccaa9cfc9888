"""What the nodes of the fault tests are asked. Importing it starts nothing, as importing the app does."""

from __future__ import annotations

from dataclasses import dataclass

from catga_sync import Event, Query, Request, message

__all__ = ["Ask", "Come", "Do", "Done", "Go", "Happened", "Put"]


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
