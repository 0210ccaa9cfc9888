"""What the two services share: what can be asked, and what comes back."""

from dataclasses import dataclass

from catga_sync import Query, Request


@dataclass(frozen=True)
class StockLevel:
    sku: str
    available: int


@dataclass(frozen=True)
class GetStock(Query[StockLevel]):
    """A query: it changes nothing, so it may be asked again at another node."""

    sku: str


@dataclass(frozen=True)
class Reservation:
    sku: str
    quantity: int
    left: int


@dataclass(frozen=True)
class ReserveStock(Request[Reservation]):
    """A request: it has an effect, so it is never sent again when it may have run."""

    sku: str
    quantity: int
