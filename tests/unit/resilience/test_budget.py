"""The budget for further tries: a tenth of the calls of the last ten seconds, and ten a second besides."""

from __future__ import annotations

from catga_sync.resilience.budget import WINDOW, RetryBudget
from tests.unit.cluster.fakes import FakeClock


def granted(budget: RetryBudget, asked: int) -> int:
    return sum(budget.take() for _ in range(asked))


def test_the_reserve_is_granted_without_any_call() -> None:
    budget = RetryBudget(monotonic=FakeClock().monotonic)
    assert budget.left == 10 * WINDOW
    assert granted(budget, 200) == 10 * WINDOW
    assert budget.left == 0.0


def test_every_call_pays_in_a_tenth() -> None:
    budget = RetryBudget(reserve=0.0, monotonic=FakeClock().monotonic)
    assert not budget.take()
    for _ in range(100):
        budget.pay_in()
    assert granted(budget, 50) == 10


def test_a_call_that_another_thread_has_overtaken_takes_nothing_back() -> None:
    clock, seconds = FakeClock(), []
    budget = RetryBudget(reserve=0.0, monotonic=lambda: seconds.pop() if seconds else clock.monotonic())
    for _ in range(100):
        budget.pay_in()
    assert granted(budget, 5) == 5
    seconds.append(clock.monotonic() - 1.0)  # it had looked at the clock before the second was over
    budget.pay_in()
    assert granted(budget, 50) == 5


def test_a_call_waits_for_no_lock_and_counts_all_the_same() -> None:
    clock = FakeClock()
    budget = RetryBudget(reserve=0.0, monotonic=clock.monotonic)
    budget.pay_in()
    clock.advance(1.0)
    with budget._lock:  # as in the child of a fork in C, where nobody lets go of it
        for _ in range(100):
            budget.pay_in(clock.monotonic())
    assert granted(budget, 50) == 10


def test_a_retry_that_is_not_granted_is_reported() -> None:
    denied: list[str] = []
    clock = FakeClock()
    budget = RetryBudget(reserve=0.1, on_exhausted=lambda: denied.append("denied"), monotonic=clock.monotonic)
    assert granted(budget, 3) == 1
    assert denied == ["denied"] * 2


def test_what_is_older_than_the_window_counts_for_nothing() -> None:
    clock = FakeClock()
    budget = RetryBudget(reserve=0.0, monotonic=clock.monotonic)
    for _ in range(100):
        budget.pay_in()
    clock.advance(WINDOW - 1)
    assert budget.left == 10.0
    clock.advance(1)
    assert budget.left == 0.0
    clock.advance(1000)
    assert not budget.take()


def test_an_outage_at_a_steady_rate_costs_a_tenth_more_and_the_reserve() -> None:
    clock = FakeClock()
    budget = RetryBudget(monotonic=clock.monotonic)
    tries = 0
    for _ in range(60 * 100):
        clock.advance(0.01)
        budget.pay_in()
        tries += granted(budget, 2)
    assert tries <= 0.1 * 6000 + 10 * 60 + 10 * WINDOW
