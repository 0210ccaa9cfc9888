"""Measures several cases in turns, and makes ratios of them.

A case is a function that returns one figure, such as the median time of some calls. Every round has one figure of each
case, taken one right after another, so that what else the machine does meets all of them. Ratios are those of the same
round; what is told of them is the median and the quartiles over the rounds.

Rules of this file:
1. The first round warms up and is thrown away.
2. Every other round has the cases in reverse, so that none is always the one after the same other.
3. A case that fails is told with its error and has no figures. It ends no other case.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Case = Callable[[], float]
Call = Callable[[], object]


@dataclass
class Measured:
    """What one part has found: the figures of each case, a round each, and the errors of those that failed."""

    figures: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def fail(self, case: str, error: BaseException | str) -> None:
        """Record that a case has no figures, and why."""
        self.figures.pop(case, None)
        self.failures[case] = error if isinstance(error, str) else told(error)


def told(error: BaseException) -> str:
    """Return what is told of an error."""
    return f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class Spread:
    """A figure over the rounds: the median, and the quartiles around it."""

    low: float
    median: float
    high: float


def in_turns(cases: Mapping[str, Case], rounds: int, *, tick: Callable[[], None] = lambda: None) -> Measured:
    """
    Measure the cases in turns.

    Args:
        cases: What is measured, by name.
        rounds: How many figures each case gets.
        tick: Called after each case of each round, the round of the warm-up included.

    Returns:
        The figures of the cases that never failed, and the errors of the others.
    """
    measured = Measured({name: [] for name in cases})
    for number in range(rounds + 1):
        for name in list(cases) if number % 2 else list(reversed(cases)):
            if name not in measured.failures:
                try:
                    figure = cases[name]()
                except Exception as exc:
                    measured.fail(name, exc)
                else:
                    if number > 0:
                        measured.figures[name].append(figure)
            tick()
    return measured


def spread(figures: Sequence[float]) -> Spread:
    """Return median and quartiles; a single figure is all three."""
    if len(figures) == 1:
        return Spread(figures[0], figures[0], figures[0])
    return Spread(*statistics.quantiles(figures, n=4, method="inclusive"))


def ratio(over: Sequence[float], under: Sequence[float]) -> Spread:
    """Return the spread of the ratios of the same round."""
    return spread([a / b for a, b in zip(over, under, strict=True)])


def excess(over: Sequence[float], under: Sequence[float]) -> Spread:
    """Return the spread of the differences of the same round."""
    return spread([a - b for a, b in zip(over, under, strict=True)])


def seconds_a_call(call: Call, count: int) -> float:
    """Return the median time of calls that are made one after another."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def seconds_each(call: Call, count: int) -> float:
    """Return the time of one of many calls, where one is too short to be timed by itself."""
    began = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - began) / count


def calls_a_second(calls: Sequence[Call], seconds: float) -> float:
    """
    Return how many calls a second as many threads get done as there are functions.

    Each thread makes a call before the clock starts: connections that a library closes when idle are open again.

    Args:
        calls: What each thread calls, over and over; twice at least.
        seconds: For how long, from the moment at which all threads have made their first call.

    Raises:
        Exception: That of the first call that failed, once all threads have ended.
    """
    counts, errors = [0] * len(calls), []
    began = 0.0

    def begin() -> None:
        nonlocal began
        began = time.perf_counter()

    all_there = threading.Barrier(len(calls), begin)

    def work(index: int) -> None:
        done, call = 0, calls[index]
        try:
            call()
            all_there.wait()
            end = began + seconds
            while done == 0 or time.perf_counter() < end:
                call()
                done += 1
        except threading.BrokenBarrierError:
            pass  # the call of another thread has failed
        except BaseException as exc:
            errors.append(exc)
            all_there.abort()
        counts[index] = done

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(counts) / (time.perf_counter() - began)
