"""What the two services share."""

from dataclasses import dataclass
from decimal import Decimal

from catga_sync import Query


@dataclass(frozen=True)
class Euro:
    amount: Decimal


@dataclass(frozen=True)
class ToEuro(Query[Euro]):
    """Answered by the rates service."""

    amount: Decimal
    currency: str


@dataclass(frozen=True)
class Product:
    name: str
    price: Decimal
    currency: str


@dataclass(frozen=True)
class ListProducts(Query[list[Product]]):
    """Answered by the shop, the Django process."""
