"""Place an order, look at one, and see what has run out."""

from typing import Any

from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from catga_sync import CatgaResult
from catga_sync.integrations.django import mediator

from messages import PriceOf, Reserve
from orders.models import Missing, Order


@csrf_exempt  # a page for curl
@require_POST
def place(request: HttpRequest, item: str, amount: int) -> JsonResponse:
    """Ask prices, then stock; keep the order, and the error of the one that has failed."""
    price = mediator.send(PriceOf(item), timeout=5)
    if not price:
        return failed(item, amount, price)
    # No transaction is open here: stock calls back before it answers, and that call writes as well.
    reserved = mediator.send(Reserve(item, amount), timeout=5)
    if not reserved:
        return failed(item, amount, reserved)
    return page(Order.objects.create(item=item, amount=amount, total=amount * price.unwrap()), 201)


def failed(item: str, amount: int, result: CatgaResult[Any]) -> JsonResponse:
    order = Order.objects.create(item=item, amount=amount, code=str(result.code or ""), error=result.error or "")
    return page(order, result.http_status)


@require_GET
def show(request: HttpRequest, number: int) -> JsonResponse:
    order = Order.objects.filter(pk=number).first()
    return JsonResponse({"error": f"no order {number}"}, status=404) if order is None else page(order, 200)


@require_GET
def missing(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"missing": list(Missing.objects.order_by("item").values_list("item", flat=True))})


@require_GET
def healthz(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


def page(order: Order, status: int) -> JsonResponse:
    shown: dict[str, object] = {"order": order.pk, "item": order.item, "amount": order.amount}
    if order.total is None:
        shown |= {"code": order.code, "error": order.error}
    else:
        shown["total"] = f"{order.total:.2f}"
    return JsonResponse(shown, status=status)
