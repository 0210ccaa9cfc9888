"""Calls at once to one node: in order, within a call's time, and told at once where there is no chance."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from catga_sync.resilience.concurrency import STALL_LEAST, ConcurrencyLimiter, Rejection
from tests.processes import until
from tests.unit.cluster.fakes import FakeClock

#: Seconds: a wait that these tests never see the end of.
LONG = 1000.0


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


def waiting(pool: ThreadPoolExecutor, limiter: ConcurrencyLimiter, left: float = LONG) -> Future[float | Rejection]:
    """Take a place in another thread; return when it waits."""
    before = len(limiter._waiting)
    taking = pool.submit(limiter.acquire, left)
    until(lambda: len(limiter._waiting) == before + 1, "one more waits")
    return taking


def test_so_many_go_at_once() -> None:
    clock = FakeClock()
    limiter = ConcurrencyLimiter(2, monotonic=clock.monotonic)
    assert not limiter.in_use
    assert [limiter.acquire(1.0) for _ in range(2)] == [clock.now, clock.now]
    assert limiter.in_use


def test_those_who_wait_go_in_order(pool: ThreadPoolExecutor) -> None:
    limiter = ConcurrencyLimiter(1)
    since = limiter.acquire(LONG)
    turns = [waiting(pool, limiter) for _ in range(3)]
    for turn in turns:
        assert isinstance(since, float)
        assert not turn.done()
        limiter.release(since)
        since = turn.result(10)
    assert isinstance(since, float)
    limiter.release(since)
    assert not limiter.in_use


def test_a_call_that_would_wait_too_long_is_told_at_once() -> None:
    clock = FakeClock()
    limiter = ConcurrencyLimiter(1, monotonic=clock.monotonic)
    for _ in range(100):
        since = limiter.acquire(1.0)
        assert isinstance(since, float)
        clock.advance(2.0)
        limiter.release(since)
    limiter.acquire(1.0)
    assert limiter.acquire(1.0) is Rejection.CROWDED


def test_a_call_gives_up_when_half_of_its_time_is_over() -> None:
    limiter = ConcurrencyLimiter(1)
    limiter.acquire(LONG)
    assert limiter.acquire(2 * STALL_LEAST + 0.1) is Rejection.STALLED


def test_a_short_wait_is_no_stall() -> None:
    clock = FakeClock()
    limiter = ConcurrencyLimiter(1, monotonic=clock.monotonic)
    limiter.acquire(LONG)
    # Nothing has ended there for no time at all, by that clock.
    assert limiter.acquire(0.01) is Rejection.CROWDED


def test_a_place_that_others_got_meanwhile_is_no_stall(pool: ThreadPoolExecutor) -> None:
    clock = FakeClock()
    limiter = ConcurrencyLimiter(1, monotonic=clock.monotonic)
    since = limiter.acquire(LONG)
    first = waiting(pool, limiter)
    second = waiting(pool, limiter, 3.0)
    assert isinstance(since, float)
    limiter.release(since)
    assert isinstance(first.result(10), float)
    assert second.result(10) is Rejection.CROWDED


def test_released_is_everybody_who_waits_and_nobody_else(pool: ThreadPoolExecutor) -> None:
    limiter = ConcurrencyLimiter(1)
    since = limiter.acquire(LONG)
    turns = [waiting(pool, limiter) for _ in range(3)]
    limiter.abandon()
    assert [turn.result(10) for turn in turns] == [Rejection.ABANDONED] * 3
    later = waiting(pool, limiter)
    assert isinstance(since, float)
    limiter.release(since)
    assert isinstance(later.result(10), float)


def test_one_whose_time_is_up_in_the_moment_of_a_release_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = ConcurrencyLimiter(1)
    limiter.acquire(LONG)

    class Late:
        """The lock of a turn whose time is up just when everybody is let go."""

        def __init__(self) -> None:
            self.held = False

        def acquire(self, timeout: float = -1) -> bool:
            if self.held:
                limiter.abandon()
                return False
            self.held = True
            return True

        def release(self) -> None:
            pass

    monkeypatch.setattr("catga_sync.resilience.concurrency.threading.Lock", Late)
    assert limiter.acquire(LONG) is Rejection.ABANDONED


@pytest.mark.parametrize("given", [False, True], ids=["it waits still", "it has just been given the place"])
def test_a_thread_that_is_ended_while_it_waits_takes_no_place_along(
    monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    limiter = ConcurrencyLimiter(1)
    since = limiter.acquire(LONG)
    assert isinstance(since, float)

    class Ended:
        """The lock of a turn, in whose acquire the thread is ended."""

        def __init__(self) -> None:
            self.held = False

        def acquire(self, timeout: float = -1) -> bool:
            if not self.held:
                self.held = True
                return True
            if given:
                limiter.release(since)
            raise SystemExit

        def release(self) -> None:
            pass

    monkeypatch.setattr("catga_sync.resilience.concurrency.threading.Lock", Ended)
    with pytest.raises(SystemExit):
        limiter.acquire(LONG)
    monkeypatch.undo()
    if not given:
        limiter.release(since)
    assert not limiter.in_use
    assert isinstance(limiter.acquire(LONG), float)


def test_silence_is_how_long_no_call_has_ended_while_some_are_under_way() -> None:
    clock = FakeClock()
    limiter = ConcurrencyLimiter(3, monotonic=clock.monotonic)
    clock.advance(100)
    assert limiter.silence == 0.0
    first = limiter.acquire(LONG)
    clock.advance(2)
    second = limiter.acquire(LONG)
    assert limiter.silence == 2.0
    assert isinstance(first, float)
    assert isinstance(second, float)
    limiter.release(first)
    assert limiter.silence == 0.0
    clock.advance(3)
    assert limiter.silence == 3.0
    limiter.release(second)
    clock.advance(5)
    assert limiter.silence == 0.0
    limiter.acquire(LONG)
    assert limiter.silence == 0.0


def test_no_place_is_lost_or_given_twice_however_many_threads_take_them() -> None:
    limiter = ConcurrencyLimiter(3)
    inside: list[int] = []
    most: list[int] = []
    lock = threading.Lock()

    def work(_: int) -> None:
        for _ in range(200):
            since = limiter.acquire(LONG)
            assert isinstance(since, float)
            with lock:
                inside.append(1)
                most.append(len(inside))
            with lock:
                inside.pop()
            limiter.release(since)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert max(most) <= 3
    assert not limiter.in_use
