"""A view that asks: here or on another node, it cannot tell."""

from decimal import Decimal

from django.http import HttpRequest, JsonResponse

from catga_sync.integrations.django import mediator

from messages import ToEuro


def euro(request: HttpRequest, amount: int, currency: str) -> JsonResponse:
    """Say what an amount of an old currency is in euro."""
    result = mediator.send(ToEuro(Decimal(amount), currency))
    if result:
        return JsonResponse({"euro": str(result.unwrap().amount)})
    return JsonResponse({"error": result.error}, status=result.http_status)
