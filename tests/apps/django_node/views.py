"""A view that sends to a handler of this process, and goes on when that fails."""

from django.http import HttpRequest, JsonResponse

from catga_sync.integrations.django import mediator
from tests.apps.django_node.messages import RefuseAfterWrite
from tests.apps.django_project.models import Order
from tests.apps.messages import CountOrders


def place(request: HttpRequest, number: str) -> JsonResponse:
    """Write one order here, and have another written and refused."""
    Order.objects.create(number=number)
    result = mediator.send(RefuseAfterWrite(f"{number}-refused"))
    counts = {each: mediator.send(CountOrders(each)).unwrap() for each in (number, f"{number}-refused")}
    return JsonResponse({"code": result.code, "counts": counts})
