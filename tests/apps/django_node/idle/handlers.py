"""A handler that its author has not registered."""

from tests.apps.messages import CountOrders


def count(query: CountOrders) -> int:
    return len(query.number)
