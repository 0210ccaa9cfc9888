"""Telling how long a call took."""

from dataclasses import dataclass

from catga_sync.behaviors import timing_behavior
from catga_sync.errors import BusinessError
from catga_sync.mediator import Mediator
from catga_sync.messages import Query


@dataclass(frozen=True)
class Ask(Query[int]):
    number: int


def test_every_call_is_told_with_request_result_and_seconds():
    seen = []

    def odd(request):
        if request.number % 2:
            raise BusinessError("odd")
        return request.number

    mediator = Mediator()
    mediator.register(Ask, odd)
    mediator.add_behavior(timing_behavior(lambda *told: seen.append(told)))
    results = mediator.send_batch([Ask(1), Ask(2)])
    assert [(request, result) for request, result, _ in seen] == [(Ask(1), results[0]), (Ask(2), results[1])]
    assert all(seconds >= 0 for _, _, seconds in seen)
