"""What the three services share."""

from dataclasses import dataclass
from decimal import Decimal

from catga_sync import Event, Query, Request


@dataclass(frozen=True)
class PriceOf(Query[Decimal]):
    """Answered by prices."""

    item: str


@dataclass(frozen=True)
class Reserve(Request[int]):
    """Takes so many of an item out of the stock, and returns how many are left. Answered by stock."""

    item: str
    amount: int


@dataclass(frozen=True)
class SoldOut(Event):
    """Published by stock, for orders."""

    item: str
