"""A handler that cannot be registered."""

from catga_sync.integrations.django import handler


@handler
def count(number: int) -> int:
    return number
