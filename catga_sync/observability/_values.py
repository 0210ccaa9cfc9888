"""Metrics that are counted in the memory of one process, in a tenth of the time that those of prometheus_client take.

prometheus_client reads them as it reads any collector, when a page is made. Workers that share a folder cannot use
them: what is in the memory of a worker ends with it.

Rules of this file:
1. What happens is noted in a queue, for which a thread takes no lock. It is counted when the queue has grown, or a page
   is read: a lock for each number would take longer than all the rest.
2. One lock guards all values of a registry, and is held while what was noted is counted.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from typing import Any, cast

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from catga_sync import _fork

__all__ = ["BUCKETS", "Values", "told_together"]

#: Upper ends of the buckets, in seconds: less than a call over loopback takes, up to half a minute.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ENDS = (*map(str, BUCKETS), "+Inf")
#: What may be noted and not counted.
_MOST_NOTED = 256


class Values:
    """A collector with all metrics of one registry. Thread-safe, and safe after a fork."""

    def __init__(self) -> None:
        # Re-entrant: a signal handler may send while this thread counts.
        self.lock = threading.RLock()
        #: What is to be counted: a function, and the amount for it.
        self._noted: deque[tuple[Callable[[float], None], float]] = deque()
        self._kinds: list[_Kind] = []
        _fork.watch(self)

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self.lock = threading.RLock()

    def note(self, count: Callable[[float], None], amount: float) -> None:
        """Have ``count(amount)`` called with the lock held, before a page is read."""
        noted = self._noted
        noted.append((count, amount))
        if len(noted) >= _MOST_NOTED:
            self.settle()

    def noting(self, count: Callable[[float], None]) -> Callable[[], None]:
        """Return a function that notes one; it leaves it to ``note`` to look at how much is noted."""
        return partial(self._noted.append, (count, 1.0))

    def settle(self) -> None:
        """Count what is noted."""
        noted = self._noted
        with self.lock:
            for _ in range(len(noted)):
                try:
                    count, amount = noted.popleft()
                except IndexError:  # a signal handler has settled it
                    break
                count(amount)

    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Any:
        """Return a metric, whose children only grow; without names of labels, its only child."""
        return self._add(_Kind(self, _Number, CounterMetricFamily, name, text, labels))

    def gauge(self, name: str, text: str) -> Any:
        """Return a number that grows by one at a time, and shrinks with the outcomes; see ``told_together``."""
        return self._add(_Kind(self, _Running, GaugeMetricFamily, name, text, ()))

    def histogram(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Any:
        """Return a metric, whose children count times by ``BUCKETS``; without names of labels, its only child."""
        return self._add(_Kind(self, _Times, HistogramMetricFamily, name, text, labels))

    def _add(self, kind: _Kind) -> Any:
        self._kinds.append(kind)
        # One without labels is on the page from the beginning.
        return kind if kind.names else kind.labels()

    def describe(self) -> Iterator[Metric]:
        """Called by prometheus_client for the names, which no other collector is to have."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client for a page: return the metrics as they are now."""
        self.settle()
        return iter([kind.family() for kind in self._kinds])


class _Kind:
    """One metric, with the methods of those of prometheus_client that are used here. Thread-safe."""

    def __init__(
        self,
        values: Values,
        child: type[_Number | _Running | _Times],
        family: Any,
        name: str,
        text: str,
        labels: tuple[str, ...],
    ) -> None:
        self._values = values
        self._child = child
        self._family = family
        self._name = name
        self._text = text
        self.names = labels
        self._children: dict[tuple[str, ...], _Number | _Running | _Times] = {}

    def labels(self, *values: str) -> Any:
        """Return the child with these label values; it is made if there is none."""
        # Two threads at once get the same one.
        return self._children.setdefault(values, self._child(self._values))

    def remove(self, *values: str) -> None:
        """Forget a child."""
        self._children.pop(values, None)

    def family(self) -> Metric:
        """Return all children, as prometheus_client writes them."""
        with self._values.lock:
            read = [(values, child.read()) for values, child in list(self._children.items())]
        family = self._family(self._name, self._text, labels=self.names)
        for values, given in read:
            family.add_metric(values, *given)
        return cast("Metric", family)


def told_together(number: _Number, times: _Times, running: _Running | None) -> Callable[[float], None]:
    """
    Return a function that notes an outcome and its time in one step.

    Args:
        number: Grows by one.
        times: Gets the seconds with which the function is called.
        running: One is taken off it. None means: of none.
    """
    counts = times.counts

    def add(seconds: float) -> None:
        # As the methods ``add``, without a call of each.
        number.value += 1.0
        counts[bisect_left(BUCKETS, seconds)] += 1
        times.sum += seconds
        if running is not None:
            running.value -= 1.0

    return partial(number.values.note, add)


class _Number:
    """A number that only grows. Thread-safe."""

    __slots__ = ("value", "values")

    def __init__(self, values: Values) -> None:
        self.values = values
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Add to it."""
        self.values.note(self.add, amount)

    def add(self, amount: float) -> None:
        """Add to it at once. The lock is held."""
        self.value += amount

    def read(self) -> tuple[float]:
        """Return what ``add_metric`` takes."""
        return (self.value,)


class _Running:
    """How much has begun and has no outcome yet. Thread-safe."""

    __slots__ = ("inc", "value")

    def __init__(self, values: Values) -> None:
        self.value = 0.0
        #: Adds one.
        self.inc = values.noting(self.add)

    def add(self, amount: float) -> None:
        """Add to it at once. The lock is held."""
        self.value += amount

    def read(self) -> tuple[float]:
        """Return what ``add_metric`` takes."""
        return (self.value,)


class _Times:
    """How many times were in each bucket, and their sum. Thread-safe."""

    __slots__ = ("counts", "sum", "values")

    def __init__(self, values: Values) -> None:
        self.values = values
        self.counts = [0] * len(_ENDS)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count a time."""
        self.values.note(self.add, seconds)

    def add(self, seconds: float) -> None:
        """Count it at once. The lock is held."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """Return what ``add_metric`` takes: in each bucket are all shorter times as well."""
        return list(zip(_ENDS, map(float, accumulate(self.counts)), strict=True)), self.sum
