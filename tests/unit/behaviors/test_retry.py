"""What is tried again, and what never is."""

import random
from dataclasses import dataclass

import pytest

from catga_sync.behaviors import retry_behavior
from catga_sync.context import CallContext, enter_call, leave_call
from catga_sync.deadline import Deadline
from catga_sync.errors import ConfigurationError, Delivery, ErrorCode
from catga_sync.mediator import Mediator
from catga_sync.messages import Query, Request, message
from catga_sync.results import NEVER, RETRY, Attempt, CatgaResult
from tests.tables import every_row

RUN, NOT_RUN, MAYBE = Delivery.EXECUTED, Delivery.NOT_EXECUTED, Delivery.UNKNOWN


@dataclass(frozen=True)
class Command(Request[int]):
    pass


@dataclass(frozen=True)
class Ask(Query[int]):
    pass


@message(idempotent=True)
@dataclass(frozen=True)
class Put(Request[int]):
    pass


@message(idempotent=False)
@dataclass(frozen=True)
class Count(Query[int]):
    pass


class Steps:
    """Answers with one result after the other, then with success."""

    def __init__(self, *results):
        self.results = list(results)
        self.calls = 0

    def __call__(self, request):
        self.calls += 1
        return self.results.pop(0) if self.results else CatgaResult.success(1)


def failed(code=ErrorCode.UNAVAILABLE, delivery=NOT_RUN):
    return CatgaResult.failure("no", code, delivery=delivery)


def run(request, *results, attempts=3, delay=0.0, waits=None):
    steps = Steps(*results)
    wait = [].append if waits is None else waits.append
    handle = retry_behavior(attempts, delay, sleep=wait, rng=random.Random(1))(steps)
    return handle(request), steps.calls


@every_row(
    ("request_", "code", "delivery", "repeated"),
    [
        (Command(), ErrorCode.UNAVAILABLE, NOT_RUN, True),
        (Command(), ErrorCode.RESOURCE_EXHAUSTED, NOT_RUN, True),
        (Command(), ErrorCode.ABORTED, NOT_RUN, True),
        (Command(), ErrorCode.UNAVAILABLE, MAYBE, False),
        (Command(), ErrorCode.UNAVAILABLE, RUN, False),
        (Put(), ErrorCode.UNAVAILABLE, MAYBE, True),
        (Ask(), ErrorCode.UNAVAILABLE, MAYBE, True),
        (Ask(), ErrorCode.UNAVAILABLE, RUN, True),
        (Ask(), ErrorCode.ABORTED, RUN, True),
        (Count(), ErrorCode.UNAVAILABLE, MAYBE, False),
        (Count(), ErrorCode.UNAVAILABLE, NOT_RUN, True),
        (Ask(), ErrorCode.UNIMPLEMENTED, NOT_RUN, False),
        (Ask(), ErrorCode.INVALID_ARGUMENT, NOT_RUN, False),
        (Ask(), ErrorCode.DEADLINE_EXCEEDED, MAYBE, False),
        (Ask(), ErrorCode.FAILED_PRECONDITION, RUN, False),
        (Ask(), ErrorCode.UNKNOWN, RUN, False),
        (Ask(), "shop.closed", RUN, False),
        (Ask(), None, NOT_RUN, False),
    ],
)
def test_only_what_may_pass_and_may_be_repeated_is_tried_again(request_, code, delivery, repeated):
    result, calls = run(request_, failed(code, delivery))
    assert result.is_success is repeated
    assert calls == (2 if repeated else 1)


def test_a_success_is_returned_at_once():
    waits = []
    assert run(Ask(), waits=waits) == (CatgaResult.success(1), 1)
    assert waits == []


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_there_are_never_more_calls_than_attempts_and_the_last_failure_is_the_answer(attempts):
    result, calls = run(Ask(), *[failed()] * 10, attempts=attempts)
    assert calls == attempts
    assert result == failed()


def test_the_waits_are_drawn_from_zero_to_a_doubling_bound():
    waits = []
    run(Ask(), *[failed()] * 4, attempts=5, delay=1.0, waits=waits)
    assert len(waits) == 4
    assert all(0 <= pause < 2**n for n, pause in enumerate(waits))
    assert len(set(waits)) == 4


def test_no_wait_goes_beyond_the_deadline_of_the_call():
    waits = []
    token = enter_call(CallContext("r", Deadline.after(0.0)))
    try:
        result, calls = run(Ask(), failed(), delay=10.0, waits=waits)
    finally:
        leave_call(token)
    assert (result, calls, waits) == (failed(), 1, [])


@every_row("attempts", [0, -1, 1.5, "3", None, True])
def test_attempts_must_be_a_whole_number_of_at_least_one(attempts):
    with pytest.raises(ConfigurationError, match=r"^attempts: "):
        retry_behavior(attempts)


@every_row("delay", [-1, -0.001, "1", None, True, float("nan"), float("inf")])
def test_the_delay_must_be_seconds(delay):
    with pytest.raises(ConfigurationError, match=r"^delay: "):
        retry_behavior(delay=delay)


def test_it_retries_a_query_of_the_local_mediator():
    calls = []

    def flaky(request):
        calls.append(request)
        return 7 if len(calls) > 1 else CatgaResult.failure("later", ErrorCode.UNAVAILABLE)

    mediator = Mediator()
    mediator.add_behavior(retry_behavior(delay=0))
    mediator.register(Ask, flaky)
    assert mediator.send(Ask()).value == 7
    assert len(calls) == 2


def test_a_later_try_that_did_not_run_takes_nothing_back_of_one_that_may_have():
    result, _ = run(Ask(), failed(delivery=MAYBE), failed(), failed())
    assert result.delivery is MAYBE


def test_all_attempts_are_in_the_result():
    one, two = (Attempt(name, 0.1, NOT_RUN, ErrorCode.UNAVAILABLE, "no") for name in "ab")
    first = failed()._with(attempts=(one,))
    result, _ = run(Command(), first, failed()._with(attempts=(two,)))
    assert result.is_success
    assert result.attempts == (one, two)


def test_a_refusal_that_cannot_pass_is_not_asked_for_again():
    refused = failed(ErrorCode.RESOURCE_EXHAUSTED)._with(metadata={RETRY: NEVER})
    result, calls = run(Ask(), refused)
    assert (result, calls) == (refused, 1)
