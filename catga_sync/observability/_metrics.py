"""The metrics for Prometheus: their names, their labels, and the bounds of their label values.

Names follow https://prometheus.io/docs/practices/naming/: base units, ``_total`` for counters. A label value is never a
request id, and every set of values has a bound: what comes beyond it is counted as ``other``.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, exposition, multiprocess
except ImportError as exc:
    raise ImportError(
        "metrics need the prometheus_client package: pip install catga-sync[prometheus]", name=exc.name
    ) from exc

from catga_sync.observability._values import BUCKETS, NO_AMOUNT, Column, Values

__all__ = ["OTHER", "Bounded", "Family", "Metrics", "are_shared", "metrics_of", "write_page"]

#: Characters of a label value.
_LONGEST = 128
#: The label value of texts beyond a bound.
OTHER = "other"


def are_shared() -> bool:
    """Return whether the workers of this server keep their values in one folder, so that each has the sum."""
    # The variable is that of prometheus_client, and no option.
    return bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))  # noqa: TID251


class Bounded(dict[str, str]):
    """
    Label values by text: the first so many different texts as they are, "other" for any further one. Thread-safe.

    Args:
        most: How many.
        reserved: Texts that mean something else here, so that they become "other", too.
    """

    def __init__(self, most: int, *reserved: str) -> None:
        super().__init__(dict.fromkeys(reserved, OTHER))
        self._left = most

    def __missing__(self, text: str) -> str:
        if self._left <= 0:
            return OTHER
        # Two threads at once may let one text too many in.
        self._left -= 1
        # A page of metrics is UTF-8, which has no lone surrogates.
        value = text[:_LONGEST].encode("utf-8", "replace").decode("utf-8")
        return self.setdefault(text, value)

    def drop(self, text: str) -> str | None:
        """Forget a text, so that there is room for another one. Return its label value; None if it had none."""
        value = self.pop(text, None)
        if value is not None:
            self._left += 1
        return value


class Family(dict[tuple[str, ...], Any]):
    """
    The children of one metric by their label values, each made when it is first looked up. Thread-safe.

    Args:
        metric: Of prometheus_client, or of ``_values.py``.
    """

    __slots__ = ("_metric",)

    def __init__(self, metric: Any) -> None:
        super().__init__()
        self._metric = metric

    def __missing__(self, values: tuple[str, ...]) -> Any:
        # From the metric, so that it is the same for two threads at once.
        child = self[values] = self._metric.labels(*values)
        return child

    def drop(self, place: int, value: str) -> None:
        """Forget all children that have this label value at this place."""
        if are_shared():
            return  # prometheus_client cannot take values out of the files of workers
        for values in [values for values in list(self) if values[place] == value]:
            self.pop(values, None)
            self._metric.remove(*values)


#: Counts an outcome with the amount that came with it; where there are several, they are a tuple, and None stands for
#: one that was not measured.
Tell = Callable[[Any], None]


class Outcomes(dict[tuple[Any, ...], Tell]):
    """
    Functions that count an outcome, by its label values, each made when it is first looked up. Thread-safe.

    Args:
        counted: The counter of the outcomes.
        columns: Returns where the amounts are counted that come with an outcome of these label values.
    """

    __slots__ = ("_columns", "_counted")

    def __init__(self, counted: Family, columns: Callable[..., tuple[Column, ...]]) -> None:
        super().__init__()
        self._counted = counted
        self._columns = columns

    def __missing__(self, values: tuple[Any, ...]) -> Tell:
        labels = tuple(map(str, values))
        number, columns = self._counted[labels], self._columns(*labels)
        tell = self[values] = _one_by_one(number, columns) if are_shared() else number.recorded(columns)
        return tell

    def drop(self, place: int, value: str) -> None:
        """Forget all outcomes that have this label value at this place."""
        self._counted.drop(place, value)  # first: what is looked up anew counts where the page looks
        for values in [values for values in list(self) if values[place] == value]:
            self.pop(values, None)


def _one_by_one(number: Any, columns: tuple[Column, ...]) -> Tell:
    """Do as ``recorded`` of a number in ``_values.py``, with metrics of prometheus_client."""
    several = len(columns) > 1
    # By the place of the column; each is made with its first amount, so that what is never measured is not on the page.
    adders: dict[int, Callable[[float], None]] = {}

    def tell(amounts: Any) -> None:
        number.inc()
        for place, amount in enumerate(amounts if several else (amounts,)):
            if amount is not None:
                add = adders.get(place)
                if add is None:
                    child = columns[place].family[columns[place].labels]
                    add = adders[place] = child.observe if type(child) is Histogram else child.inc
                with contextlib.suppress(*NO_AMOUNT):
                    add(amount / columns[place].per)

    return tell


class Metrics:
    """
    All metrics, in one registry. Thread-safe.

    Args:
        registry: Of prometheus_client.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        new_counter: Any
        new_histogram: Any
        new_gauge: Any
        values = Values()
        if are_shared():
            new_counter = partial(Counter, registry=registry)
            new_histogram = partial(Histogram, registry=registry, buckets=BUCKETS)
            new_gauge = partial(Gauge, registry=registry, multiprocess_mode="livesum")
        else:
            new_counter, new_histogram, new_gauge = values.counter, values.histogram, values.gauge

        def counter(name: str, text: str, *labels: str) -> Any:
            return Family(new_counter(name, text, labels)) if labels else new_counter(name, text)

        def histogram(name: str, text: str, *labels: str) -> Any:
            return Family(new_histogram(name, text, labels)) if labels else new_histogram(name, text)

        # At both.
        self.bytes = counter("catga_bytes_total", "Bytes of bodies", "direction", "side")
        sent, received = Column(self.bytes, ("out", "client")), Column(self.bytes, ("in", "client"))
        taken, given = Column(self.bytes, ("in", "server")), Column(self.bytes, ("out", "server"))

        # At the caller.
        self.sends_in_flight = new_gauge("catga_sends_in_flight", "Calls that were sent and have no result yet")
        send_seconds = histogram("catga_send_seconds", "Time of a whole call, all attempts included", "type")
        #: By type, code and delivery; with its seconds.
        self.sends = Outcomes(
            counter("catga_sends_total", "Calls that were sent from here", "type", "code", "delivery"),
            lambda kind, *_: (Column(send_seconds, (kind,)),),
        )
        attempt_seconds = histogram("catga_attempt_seconds", "Time of an attempt", "type", "way")
        place = histogram("catga_place_seconds", "Wait for a slot at the node", "way")
        wire = histogram("catga_wire_seconds", "Time on the wire, there and back", "way")
        backlog = histogram("catga_backlog_seconds", "Wait for the server of the node", "way")

        def of_attempt(kind: str, _: str, way: str, *__: str) -> tuple[Column, ...]:
            seconds = Column(attempt_seconds, (kind, way))
            if way == "local":
                return (seconds,)
            return (seconds, *(Column(each, (way,), 1e3) for each in (place, wire, backlog)), sent, received)

        #: By type, node, way, code and delivery; with its seconds, and at another node the milliseconds of its waits,
        #: and its bytes.
        self.attempts = Outcomes(
            counter("catga_attempts_total", "Attempts at a node", "type", "node", "way", "code", "delivery"),
            of_attempt,
        )
        self.retries = counter("catga_retries_total", "Attempts beyond the first of a call", "type")
        self.budget = counter(
            "catga_retry_budget_exhausted_total", "Further attempts that were not made for want of budget"
        )

        # At the node.
        self.handlers_in_flight = new_gauge("catga_handlers_in_flight", "Handlers that run")
        handler_seconds = histogram("catga_handler_seconds", "Time of a handler with its behaviours", "type")
        #: Observed at the start of a handler: what still runs has waited as well.
        self.queue_seconds = histogram(
            "catga_queue_seconds", "Time from the sending of a call to the start of its handler"
        )
        #: By type, code and source; with its milliseconds.
        self.handled = Outcomes(
            counter("catga_handled_total", "Handlers that ran here", "type", "code", "source"),
            lambda kind, *_: (Column(handler_seconds, (kind,), 1e3),),
        )
        served_seconds = histogram("catga_served_seconds", "Time from arrival to response", "route")
        #: By route, way and status; with its seconds and its bytes.
        self.served = Outcomes(
            counter("catga_served_total", "Exchanges that were responded to", "route", "way", "status"),
            lambda route, *_: (Column(served_seconds, (route,)), taken, given),
        )
        self.refusals = counter("catga_refusals_total", "Requests that were refused, by reason", "reason")
        self.replayed = counter("catga_replayed_total", "Responses that are stored ones")

        # The cluster, as this node sees it.
        self.nodes = Gauge(
            "catga_nodes",
            "Nodes of the cluster",
            ("status",),
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self.ejections = counter("catga_ejections_total", "Ejections of a node for its failures", "node")
        self.node_events = counter("catga_node_events_total", "Events of the cluster", "event")
        self.heartbeats_missed = counter("catga_heartbeats_missed_total", "Times a node missed its heartbeats", "node")
        registry.register(values)  # empty where they are shared

    def forget_node(self, node_id: str) -> None:
        """Drop what has the id of a node as a label."""
        self.attempts.drop(1, node_id)
        self.ejections.drop(0, node_id)
        self.heartbeats_missed.drop(0, node_id)


_lock = threading.Lock()
#: Guarded by _lock: the metrics of each registry, so that two hooks can share one.
_known: weakref.WeakKeyDictionary[CollectorRegistry, Metrics] = weakref.WeakKeyDictionary()


def metrics_of(registry: CollectorRegistry | None) -> Metrics:
    """Return the metrics in a registry; None means the default one."""
    registry = REGISTRY if registry is None else registry
    with _lock:
        found = _known.get(registry)
        if found is None:
            found = _known[registry] = Metrics(registry)
        return found


def write_page(registry: CollectorRegistry | None, accept: str) -> tuple[bytes, str]:
    """
    Return the metrics as text, and its media type.

    Args:
        registry: None means the default one. Where values are shared, the sum over all workers is given instead.
        accept: The header of the request: which format the client prefers.
    """
    if are_shared():
        shown = CollectorRegistry()
        multiprocess.MultiProcessCollector(shown)  # type: ignore[no-untyped-call]
    else:
        shown = REGISTRY if registry is None else registry
    encode, media_type = exposition.choose_encoder(accept)
    return encode(shown), media_type
