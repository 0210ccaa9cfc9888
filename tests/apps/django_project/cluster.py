"""This Django process as a node: its handlers, which use the ORM, and the mediator that views send with."""

from __future__ import annotations

import logging
import os

from django.db import connection, transaction
from django.db.models import F

from catga_sync import BusinessError, ClusterOptions, Mediator, create_cluster
from tests.apps.django_project.models import Order, Stock
from tests.apps.django_project.observed import observed
from tests.apps.messages import (
    BreakConnection,
    CountOrders,
    CrashAfterWrite,
    Observe,
    Observed,
    PlaceInDjango,
    PlaceOrder,
    ReadAndAsk,
)

local = Mediator()
log = logging.getLogger("shop")
log.info("the shop is open")


@local.handler
def place_order(request: PlaceOrder) -> int:
    if not request.number:
        raise BusinessError("an order needs a number", code="NO_NUMBER")
    with transaction.atomic():
        Stock.objects.filter(name="tea").update(pieces=F("pieces") - 1)
        Order.objects.create(number=request.number)
    log.info("order %s", request.number)
    return Stock.objects.get(name="tea").pieces


@local.handler
def place_in_django(request: PlaceInDjango) -> int:
    return place_order(PlaceOrder(request.number))


@local.handler
def count_orders(query: CountOrders) -> int:
    return Order.objects.filter(number=query.number).count()


@local.handler
def crash_after_write(request: CrashAfterWrite) -> None:
    with transaction.atomic():
        Order.objects.create(number=request.number)
        raise RuntimeError("the printer is on fire")


@local.handler
def break_connection(request: BreakConnection) -> None:
    connection.ensure_connection()
    connection.connection.close()
    Order.objects.count()


@local.handler
def read_and_ask(query: ReadAndAsk) -> int:
    rows = Order.objects.order_by("id").values_list("number", flat=True).iterator(chunk_size=1)
    return sum(mediator.send(CountOrders(number)).unwrap() for number in rows)


@local.handler
def observe(query: Observe) -> Observed:
    Order.objects.count()
    return observed()


mediator = create_cluster(local, ClusterOptions.from_env(os.environ))
