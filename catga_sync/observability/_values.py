"""Metrics that are counted in the memory of one process, in a tenth of the time that those of prometheus_client take.

prometheus_client reads them as it reads any collector, when a page is made. Workers that share a folder cannot use
them: what is in the memory of a worker ends with it.

Rules of this file:
1. What happens is noted in a list of its child, for which a thread takes no lock. It is counted when the list has
   grown, or a page is read: a lock for each number would take longer than all the rest.
2. One lock guards all values of a registry, and is held while what was noted is counted, by one thread at a time.
"""

from __future__ import annotations

import contextlib
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, cast

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from catga_sync import _fork

__all__ = ["BUCKETS", "NO_AMOUNT", "Column", "Values"]

#: Upper ends of the buckets, in seconds: less than a call over loopback takes, up to half a minute.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ENDS = (*map(str, BUCKETS), "+Inf")
#: What may be noted of one child and not counted.
_MOST_NOTED = 128
#: What is raised for an amount that is no number, or too large a one; an invoker of the application's own may give it.
NO_AMOUNT = (TypeError, ValueError, OverflowError)


class Column(NamedTuple):
    """Where one of the amounts is counted that come with an outcome."""

    #: The children of the metric, made when they are first looked up, and the label values of the one.
    family: Mapping[tuple[str, ...], Any]
    labels: tuple[str, ...]
    #: How many of the amount's unit are one of the metric's: 1000 for milliseconds.
    per: float = 1.0


class Values:
    """A collector with all metrics of one registry. Thread-safe, and safe after a fork."""

    def __init__(self) -> None:
        # Re-entrant: a signal handler may read a page while this thread counts.
        self.lock = threading.RLock()
        self._kinds: list[_Kind] = []
        # Guarded by lock: whether the thread that holds it is counting.
        self._counts = False
        _fork.watch(self)

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self.lock = threading.RLock()
        self._counts = False

    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Any:
        """Return a metric, whose children only grow; without names of labels, its only child."""
        return self._add(_Kind(self, _Number, CounterMetricFamily, name, text, labels))

    def gauge(self, name: str, text: str) -> Any:
        """Return a number that grows and shrinks by one at a time."""
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
        with self.lock:
            # All are counted before any is read: an outcome is counted in two metrics.
            for kind in self._kinds:
                self.settle_locked(*kind.children())
            return iter([kind.family() for kind in self._kinds])

    def settle_locked(self, *children: _Child) -> None:
        """Count what is noted of some children. Their values change at no other place."""
        if self._counts:  # this is a signal handler of the thread that counts: what it has noted is counted later
            return
        self._counts = True
        try:
            for child in children:
                if number := len(child.noted):
                    noted = child.noted[:number]
                    # Others only add to its end.
                    del child.noted[:number]
                    child.count(noted)
        finally:
            self._counts = False


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
        """Forget a child, once what it has noted is counted: other metrics are told by it, too."""
        child = self._children.pop(values, None)
        if child is not None:
            with self._values.lock:
                self._values.settle_locked(child)

    def children(self) -> list[_Number | _Running | _Times]:
        """Return all children."""
        return list(self._children.values())

    def family(self) -> Metric:
        """Return all children, as prometheus_client writes them. The lock is held."""
        family = self._family(self._name, self._text, labels=self.names)
        for values, child in list(self._children.items()):
            family.add_metric(values, *child.read())
        return cast("Metric", family)


class _Child:
    """The values for one set of label values, and what is noted for them and not counted. Thread-safe."""

    __slots__ = ("_values", "noted")

    def __init__(self, values: Values) -> None:
        self._values = values
        self.noted: list[Any] = []

    def note(self, amount: Any = 1.0) -> None:
        """Have an amount counted before a page is read."""
        noted = self.noted
        noted.append(amount)
        # Where another thread counts, or makes a page, one of the next amounts has all of them counted.
        if len(noted) >= _MOST_NOTED and (lock := self._values.lock).acquire(blocking=False):
            try:
                self._values.settle_locked(self)
            finally:
                lock.release()

    def count(self, amounts: list[Any], per: float = 1.0) -> None:
        """Count what was noted, in a unit of which so many are one of the metric's. The lock is held."""


class _Number(_Child):
    """A number that only grows."""

    __slots__ = ("_columns", "value")

    def __init__(self, values: Values) -> None:
        super().__init__(values)
        self.value = 0.0
        self._columns: Sequence[Column] | None = None

    #: Adds an amount.
    inc = _Child.note

    def recorded(self, columns: Sequence[Column]) -> Callable[[Any], None]:
        """
        Return a function that adds one, with the amount that came with it; nothing else may add then.

        Args:
            columns: Where it is counted. Where there are several, the amount is a tuple with one for each, or None for
                one that was not measured.
        """
        self._columns = columns
        return self.note

    def count(self, amounts: list[Any], per: float = 1.0) -> None:
        """See ``_Child``."""
        if self._columns is None:
            self.value += sum(amounts) / per
            return
        self.value += len(amounts)
        columns = [amounts] if len(self._columns) == 1 else zip(*amounts, strict=True)
        for (family, labels, per), column in zip(self._columns, columns, strict=True):
            given = [amount for amount in column if amount is not None]
            if not given:
                continue
            try:
                family[labels].count(given, per)
            except NO_AMOUNT:
                for amount in given:
                    with contextlib.suppress(*NO_AMOUNT):
                        family[labels].count([amount], per)

    def read(self) -> tuple[float]:
        """Return what ``add_metric`` takes."""
        return (self.value,)


class _Running(_Child):
    """How much has begun and has not ended."""

    __slots__ = ("_begun", "dec", "inc")

    def __init__(self, values: Values) -> None:
        super().__init__(values)
        # An item for each: to add one or to take one off is one step, which needs no lock.
        self._begun: list[int] = []
        #: Adds one, which is to be given.
        self.inc = self._begun.append
        #: Takes one off.
        self.dec = self._begun.pop

    def read(self) -> tuple[float]:
        """Return what ``add_metric`` takes."""
        return (float(len(self._begun)),)


class _Times(_Child):
    """How many times were in each bucket, and their sum."""

    __slots__ = ("counts", "sum")

    def __init__(self, values: Values) -> None:
        super().__init__(values)
        self.counts = [0] * len(_ENDS)
        self.sum = 0.0

    #: Counts a time.
    observe = _Child.note

    def count(self, amounts: list[Any], per: float = 1.0) -> None:
        """See ``_Child``."""
        amounts.sort()
        self.sum += sum(amounts) / per
        # To look for each end among the times takes a fifth of looking for each time among the ends.
        counts, before = self.counts, 0
        for number, end in enumerate(BUCKETS):
            up_to = bisect_right(amounts, end * per)
            counts[number] += up_to - before
            before = up_to
        counts[-1] += len(amounts) - before

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """Return what ``add_metric`` takes: in each bucket are all shorter times as well."""
        return list(zip(_ENDS, map(float, accumulate(self.counts)), strict=True)), self.sum
