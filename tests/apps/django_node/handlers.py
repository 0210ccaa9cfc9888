"""The handlers, which use the ORM."""

import sys

from catga_sync import BusinessError, CatgaResult
from catga_sync.integrations.django import handler, subscriber
from tests.apps.django_node.messages import Length, Loaded, RefuseAfterWrite, Shipped
from tests.apps.django_project.models import Order
from tests.apps.django_project.observed import observed
from tests.apps.messages import CountOrders, CrashAfterWrite, Observe, Observed, PlaceOrder


@handler
def place_order(request: PlaceOrder) -> int:
    Order.objects.create(number=request.number)
    return Order.objects.count()


@handler
def count_orders(query: CountOrders) -> int:
    return Order.objects.filter(number=query.number).count()


@handler
def crash_after_write(request: CrashAfterWrite) -> None:
    Order.objects.create(number=request.number)
    raise RuntimeError("the printer is on fire")


@handler
def refuse_after_write(request: RefuseAfterWrite) -> CatgaResult[None]:
    Order.objects.create(number=request.number)
    if request.raises:
        raise BusinessError("sold out", code="SOLD_OUT")
    return CatgaResult.failure("sold out", code="SOLD_OUT")


@handler
def length(query: Length) -> int:
    return len(query.text)


@handler
def loaded(query: Loaded) -> bool:
    return query.module in sys.modules


@handler
def observe(query: Observe) -> Observed:
    return observed()


@subscriber
def shipped(event: Shipped) -> None:
    Order.objects.create(number=event.number)
