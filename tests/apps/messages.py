"""What the two shops of these tests can be asked; both keep orders and a stock in a database of their own."""

from __future__ import annotations

from dataclasses import dataclass

from catga_sync import Query, Request, message

__all__ = [
    "PIECES",
    "BreakConnection",
    "CountOrders",
    "CrashAfterWrite",
    "Observe",
    "Observed",
    "PlaceInDjango",
    "PlaceInFlask",
    "PlaceOrder",
    "ReadAndAsk",
]

#: How many pieces of tea there are at first.
PIECES = 1_000_000


@message(name="apps.PlaceOrder")
@dataclass(frozen=True)
class PlaceOrder(Request[int]):
    """Write an order and take one piece from the stock, both or neither; returns the pieces that are left."""

    number: str


@message(name="apps.PlaceInDjango")
@dataclass(frozen=True)
class PlaceInDjango(Request[int]):
    """A ``PlaceOrder`` that the Django project alone handles."""

    number: str


@message(name="apps.PlaceInFlask")
@dataclass(frozen=True)
class PlaceInFlask(Request[int]):
    """A ``PlaceOrder`` that the Flask app alone handles."""

    number: str


@message(name="apps.CountOrders")
@dataclass(frozen=True)
class CountOrders(Query[int]):
    """How often an order was written."""

    number: str


@message(name="apps.CrashAfterWrite")
@dataclass(frozen=True)
class CrashAfterWrite(Request[None]):
    """Write an order and raise an error that is no business error, before anything is committed."""

    number: str


@message(name="apps.BreakConnection")
@dataclass(frozen=True)
class BreakConnection(Request[None]):
    """Close the driver's connection underneath the framework, then ask the database something: an error."""


@message(name="apps.ReadAndAsk")
@dataclass(frozen=True)
class ReadAndAsk(Query[int]):
    """Read orders row by row, and send a CountOrders for each row; returns the sum of the counts."""


@dataclass(frozen=True)
class Observed:
    """What a Django process has seen so far."""

    #: Signals ``request_started`` and ``request_finished``.
    started: int
    finished: int
    #: Connections that Django has opened.
    connections: int
    #: Entries of the query log after one query of this call.
    queries: int


@message(name="apps.Observe")
@dataclass(frozen=True)
class Observe(Query[Observed]):
    """Tell what this process has seen so far."""
