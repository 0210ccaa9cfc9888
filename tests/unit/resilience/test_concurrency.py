"""Places at a node: in order, within a call's time, and told at once where there is no chance."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from catga_sync.resilience.concurrency import STALL_LEAST, NoPlace, Places
from tests.processes import until
from tests.unit.cluster.fakes import FakeClock

#: Seconds: a wait that these tests never see the end of.
LONG = 1000.0


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


def waiting(pool: ThreadPoolExecutor, places: Places, left: float = LONG) -> Future[float | NoPlace]:
    """Take a place in another thread; return when it waits."""
    before = len(places._waiting)
    taking = pool.submit(places.take, left)
    until(lambda: len(places._waiting) == before + 1, "one more waits")
    return taking


def test_so_many_go_at_once() -> None:
    clock = FakeClock()
    places = Places(2, monotonic=clock.monotonic)
    assert not places.in_use
    assert [places.take(1.0) for _ in range(2)] == [clock.now, clock.now]
    assert places.in_use


def test_those_who_wait_go_in_order(pool: ThreadPoolExecutor) -> None:
    places = Places(1)
    since = places.take(LONG)
    turns = [waiting(pool, places) for _ in range(3)]
    for turn in turns:
        assert isinstance(since, float)
        assert not turn.done()
        places.give_back(since)
        since = turn.result(10)
    assert isinstance(since, float)
    places.give_back(since)
    assert not places.in_use


def test_a_call_that_would_wait_too_long_is_told_at_once() -> None:
    clock = FakeClock()
    places = Places(1, monotonic=clock.monotonic)
    for _ in range(100):
        since = places.take(1.0)
        assert isinstance(since, float)
        clock.advance(2.0)
        places.give_back(since)
    places.take(1.0)
    assert places.take(1.0) is NoPlace.CROWDED


def test_a_call_gives_up_when_half_of_its_time_is_over() -> None:
    places = Places(1)
    places.take(LONG)
    assert places.take(2 * STALL_LEAST + 0.1) is NoPlace.STALLED


def test_a_short_wait_is_no_stall() -> None:
    clock = FakeClock()
    places = Places(1, monotonic=clock.monotonic)
    places.take(LONG)
    # Nothing has ended there for no time at all, by that clock.
    assert places.take(0.01) is NoPlace.CROWDED


def test_a_place_that_others_got_meanwhile_is_no_stall(pool: ThreadPoolExecutor) -> None:
    clock = FakeClock()
    places = Places(1, monotonic=clock.monotonic)
    since = places.take(LONG)
    first = waiting(pool, places)
    second = waiting(pool, places, 1.0)
    assert isinstance(since, float)
    places.give_back(since)
    assert isinstance(first.result(10), float)
    assert second.result(10) is NoPlace.CROWDED


def test_released_is_everybody_who_waits_and_nobody_else(pool: ThreadPoolExecutor) -> None:
    places = Places(1)
    since = places.take(LONG)
    turns = [waiting(pool, places) for _ in range(3)]
    places.release()
    assert [turn.result(10) for turn in turns] == [NoPlace.RELEASED] * 3
    later = waiting(pool, places)
    assert isinstance(since, float)
    places.give_back(since)
    assert isinstance(later.result(10), float)


def test_one_whose_time_is_up_in_the_moment_of_a_release_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places(1)
    places.take(LONG)

    class Late:
        """The lock of a turn whose time is up just when everybody is let go."""

        def __init__(self) -> None:
            self.held = False

        def acquire(self, timeout: float = -1) -> bool:
            if self.held:
                places.release()
                return False
            self.held = True
            return True

        def release(self) -> None:
            pass

    monkeypatch.setattr("catga_sync.resilience.concurrency.threading.Lock", Late)
    assert places.take(LONG) is NoPlace.RELEASED


@pytest.mark.parametrize("given", [False, True], ids=["it waits still", "it has just been given the place"])
def test_a_thread_that_is_ended_while_it_waits_takes_no_place_along(
    monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    places = Places(1)
    since = places.take(LONG)
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
                places.give_back(since)
            raise SystemExit

        def release(self) -> None:
            pass

    monkeypatch.setattr("catga_sync.resilience.concurrency.threading.Lock", Ended)
    with pytest.raises(SystemExit):
        places.take(LONG)
    monkeypatch.undo()
    if not given:
        places.give_back(since)
    assert not places.in_use
    assert isinstance(places.take(LONG), float)


def test_silence_is_how_long_no_call_has_ended_while_some_are_under_way() -> None:
    clock = FakeClock()
    places = Places(3, monotonic=clock.monotonic)
    clock.advance(100)
    assert places.silence == 0.0
    first = places.take(LONG)
    clock.advance(2)
    second = places.take(LONG)
    assert places.silence == 2.0
    assert isinstance(first, float)
    assert isinstance(second, float)
    places.give_back(first)
    assert places.silence == 0.0
    clock.advance(3)
    assert places.silence == 3.0
    places.give_back(second)
    clock.advance(5)
    assert places.silence == 0.0
    places.take(LONG)
    assert places.silence == 0.0


def test_no_place_is_lost_or_given_twice_however_many_threads_take_them() -> None:
    places = Places(3)
    inside: list[int] = []
    most: list[int] = []
    lock = threading.Lock()

    def work(_: int) -> None:
        for _ in range(200):
            since = places.take(LONG)
            assert isinstance(since, float)
            with lock:
                inside.append(1)
                most.append(len(inside))
            with lock:
                inside.pop()
            places.give_back(since)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert max(most) <= 3
    assert not places.in_use
