"""What this shop can be asked beyond what both can."""

from __future__ import annotations

from dataclasses import dataclass

from catga_sync import Event, Query, Request, message


@message(name="apps.RefuseAfterWrite")
@dataclass(frozen=True)
class RefuseAfterWrite(Request[None]):
    """Write an order, and then refuse it as a business failure; ``raises`` says how."""

    number: str
    raises: bool = True


@message(name="apps.Length")
@dataclass(frozen=True)
class Length(Query[int]):
    """How long a text is."""

    text: str


@message(name="apps.Loaded")
@dataclass(frozen=True)
class Loaded(Query[bool]):
    """Whether the process has imported a module."""

    module: str


@message(name="apps.Shipped")
@dataclass(frozen=True)
class Shipped(Event):
    """An order is under way."""

    number: str
