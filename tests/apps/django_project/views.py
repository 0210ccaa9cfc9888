"""Views that send; here or on another node, they cannot tell."""

from django.http import HttpRequest, JsonResponse

from tests.apps.django_project.cluster import mediator
from tests.apps.django_project.models import Order
from tests.apps.django_project.observed import observed
from tests.apps.messages import CountOrders, PlaceInFlask


def orders(request: HttpRequest) -> JsonResponse:
    """Say of each order how often it was written, with a call between any two rows of this view's own reading."""
    rows = Order.objects.order_by("id").values_list("number", flat=True).iterator(chunk_size=1)
    counts = {number: mediator.send(CountOrders(number)).unwrap() for number in rows}
    return JsonResponse({"counts": counts, "started": observed().started, "finished": observed().finished})


def place_in_flask(request: HttpRequest, number: str) -> JsonResponse:
    """Place an order at the Flask shop, and say what came of it."""
    result = mediator.send(PlaceInFlask(number), timeout=20.0)
    return JsonResponse({"is_success": bool(result), "code": result.code, "delivery": result.delivery})
