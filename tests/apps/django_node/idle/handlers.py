"""A handler that its author has not registered."""

from catga_sync.integrations.django import handler  # noqa: F401 - as an author has it who forgot the decorator
from tests.apps.messages import CountOrders


def count(query: CountOrders) -> int:
    return len(query.number)
