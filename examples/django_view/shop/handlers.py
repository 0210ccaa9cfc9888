"""What this process answers itself. Django's app imports it at the start."""

from decimal import Decimal

from catga_sync.integrations.django import handler

from messages import ListProducts, Product


@handler
def list_products(query: ListProducts) -> list[Product]:
    return [Product("bread", Decimal("3.50"), "DEM"), Product("coffee", Decimal(2500), "ITL")]
