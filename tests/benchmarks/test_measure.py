"""Turns, medians and ratios of the benchmarks."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace

import pytest

from benchmarks.bench.measure import Spread, calls_a_second, excess, in_turns, ratio, seconds_a_call, spread
from benchmarks.bench.progress import Progress


def noting(seen: list[str], name: str, figures: list[float]) -> Callable[[], float]:
    coming = iter(figures)

    def case() -> float:
        seen.append(name)
        return next(coming)

    return case


def test_cases_take_turns_and_the_warm_up_is_thrown_away() -> None:
    seen: list[str] = []
    measured = in_turns({"a": noting(seen, "a", [9, 1, 2]), "b": noting(seen, "b", [99, 10, 20])}, 2)
    assert measured.figures == {"a": [1, 2], "b": [10, 20]}
    assert "".join(seen) == "baabba"
    assert measured.failures == {}


def test_a_case_that_fails_is_told_and_ends_no_other() -> None:
    seen: list[str] = []
    calls = count()

    def breaks() -> float:
        if next(calls) == 1:
            raise ConnectionError("the peer is gone")
        return 1.0

    ticks: list[None] = []
    measured = in_turns({"a": noting(seen, "a", [9, 1, 2]), "b": breaks}, 2, tick=lambda: ticks.append(None))
    assert measured.figures == {"a": [1, 2]}
    assert measured.failures == {"b": "ConnectionError: the peer is gone"}
    assert len(ticks) == 6  # the bar is full all the same


def test_a_ratio_is_the_median_of_the_ratios_of_each_round() -> None:
    # Ten times as slow a machine in the third round changes no ratio.
    found = ratio([2.0, 4.0, 60.0, 8.0, 10.0], [1.0, 2.0, 20.0, 2.0, 2.0])
    assert (found.low, found.median, found.high) == (2.0, 3.0, 4.0)


def test_a_difference_is_that_of_each_round() -> None:
    assert excess([5.0, 9.0, 7.0], [1.0, 2.0, 1.0]).median == 6.0


def test_rounds_of_two_runs_are_never_mixed() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio([1.0, 2.0], [1.0])


def test_a_single_round_is_median_and_quartiles() -> None:
    assert spread([3.0]) == Spread(3.0, 3.0, 3.0)


def test_one_caller_is_timed_by_its_median_call(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 10.0, 12.0, 20.0, 99.0])  # before and after each call
    monkeypatch.setattr("benchmarks.bench.measure.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert seconds_a_call(lambda: None, 3) == 2.0


def test_every_thread_calls_with_its_own_connection() -> None:
    threads: list[set[int]] = [set(), set(), set()]
    done = [0, 0, 0]

    def calling(index: int) -> Callable[[], None]:
        def call() -> None:
            threads[index].add(threading.get_ident())
            done[index] += 1

        return call

    assert calls_a_second([calling(index) for index in range(3)], 0.05) > 0.0
    assert [len(each) for each in threads] == [1, 1, 1]
    assert len(set.union(*threads)) == 3


def test_the_error_of_a_thread_is_raised_when_all_have_ended() -> None:
    def fails() -> None:
        raise ConnectionError("the peer is gone")

    before = set(threading.enumerate())
    with pytest.raises(ConnectionError, match="the peer is gone"):
        calls_a_second([fails, lambda: None], 0.01)
    assert not [each for each in threading.enumerate() if each not in before]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_is_drawn_on_a_terminal_only() -> None:
    shown, piped = Terminal(), io.StringIO()
    for stream in (shown, piped):
        bar = Progress("remote", 4, stream)
        bar.tick()
        bar.clear()
    assert "remote   [##########....." in shown.getvalue()
    assert "1/4" in shown.getvalue()
    assert piped.getvalue() == ""
