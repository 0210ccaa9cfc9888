"""This process as a node: what it answers itself, and the mediator that its views send with."""

import os
from decimal import Decimal

from catga_sync import Mediator, create_cluster

from messages import ListProducts, Product

local = Mediator()


@local.handler
def list_products(query: ListProducts) -> list[Product]:
    return [Product("bread", Decimal("3.50"), "DEM"), Product("coffee", Decimal(2500), "ITL")]


port = os.environ.get("PORT", "5032")
mediator = create_cluster(local, node_id="shop", endpoint=f"http://localhost:{port}")
