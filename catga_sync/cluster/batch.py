"""Several requests at once, with one round trip for each node.

    round 1   every request is routed; those for one node travel together, and those for this node run meanwhile
    round 2   those that failed in a way that allows another attempt are routed again, and travel together again
    ...

Rules of this file:
1. Every item has a plan of its own, so its attempts, its delivery and its failover are those of a call alone.
2. A round trip is one exchange, however many items it carries: it counts once in the budget, takes one from it if it
   is a further attempt, and is recorded once for its node.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from catga_sync.cluster.failover import NO_NODE, Failover, Plan
from catga_sync.cluster.sender import Sender
from catga_sync.errors import Delivery
from catga_sync.nodes import ClusterNode
from catga_sync.results import CatgaResult

__all__ = ["Batch", "at_once"]

#: Exchanges at once that one ``broadcast``, ``publish`` or ``send_batch`` makes.
_FAN_OUT = 16


class Batch:
    """
    Requests on their way together. Not thread-safe; one for each ``send_batch``.

    Args:
        plans: A plan for each, by its place in the batch.
        failover: Picks nodes, and decides about further attempts.
        sender: Makes the attempts.
    """

    def __init__(self, plans: Mapping[int, Plan], failover: Failover, sender: Sender) -> None:
        self._plans = plans
        self._failover = failover
        self._sender = sender
        self._results: dict[int, CatgaResult[Any]] = {}

    def run(self) -> dict[int, CatgaResult[Any]]:
        """Return the result of each, by its place."""
        due: list[tuple[int, ClusterNode | None]] = []
        for index, plan in self._plans.items():
            due.append((index, self._failover.pick(plan)))
        first = True
        while due:
            due = self._round(due, first)
            first = False
        return self._results

    def _round(self, due: list[tuple[int, ClusterNode | None]], first: bool) -> list[tuple[int, ClusterNode | None]]:
        """Send what is due; return what is due in the next round."""
        # Calls that travel together rely on the same store, or on none: the request has one header for all.
        groups: dict[tuple[str, str | None], tuple[ClusterNode, list[int]]] = {}
        alone: list[tuple[int, ClusterNode | None]] = []
        for index, node in due:
            if node is not None:
                key = (node.node_id, self._plans[index].store)
                group = groups.get(key)
                if group is None and self._sender.takes_batches(node):
                    group = groups[key] = (node, [])
                if group is not None:
                    group[1].append(index)
                    continue
            alone.append((index, node))
        if first:
            self._failover.count(len(groups) + len(alone))

        def meanwhile() -> None:
            for index, node in alone:
                self._results[index] = self._alone(self._plans[index], node)

        # Handlers of this node run in the caller's thread, during the round trips.
        rounds = at_once(self._together, list(groups.values()), meanwhile=meanwhile if alone else None)
        pause = 0.0
        again: list[int] = []
        for results in rounds:
            waits = self._sort_out(results)
            again += waits
            pause = max([pause, *waits.values()])
        self._failover.sleep(pause)
        return [(index, self._failover.pick(self._plans[index])) for index in again]

    def _alone(self, plan: Plan, node: ClusterNode | None) -> CatgaResult[Any]:
        if node is None:
            return self._failover.result(plan, self._last(plan))
        return self._failover.run(plan, node)

    def _together(self, group: tuple[ClusterNode, list[int]]) -> dict[int, CatgaResult[Any]]:
        """Make one round trip; return the result of each item."""
        node, indexes = group
        plans = [self._plans[index] for index in indexes]
        # The longest share: a plain request gets all the time that is left, and the others travel with it.
        plain = next((plan for plan in plans if not plan.repeatable), None)
        time_given = max(self._failover.share(plan, node) for plan in (plans if plain is None else [plain]))
        started = time.monotonic()
        requests, calls = [plan.request for plan in plans], [plan.call for plan in plans]
        calls[0] = self._failover.call_of(plans[0])
        results = self._sender.send_batch(node, requests, time_given, calls)
        elapsed = time.monotonic() - started
        for plan, result in zip(plans, results, strict=True):
            self._failover.note(plan, node, result, elapsed)
        ran = next((result for result in results if result.delivery is Delivery.EXECUTED), results[0])
        self._failover.learn(node, ran, time_given)
        found = dict(zip(indexes, results, strict=True))
        if plans[0].store is None:  # as that of all of them
            return found
        again = [index for index in indexes if self._failover.drops_store(self._plans[index], found[index])]
        return {**found, **self._together((node, again))} if again else found

    def _sort_out(self, results: Mapping[int, CatgaResult[Any]]) -> dict[int, float]:
        """Keep the final results; return the waits before the next attempts of the others."""
        failed = [(index, result) for index, result in results.items() if not result.is_success]
        waits = ((index, self._failover.wait_before_next(self._plans[index], each)) for index, each in failed)
        again = {index: wait for index, wait in waits if wait is not None}
        if again and not self._failover.pay():
            again = {}
        for index, result in results.items():
            if index not in again:
                self._results[index] = self._failover.result(self._plans[index], result)
        return again

    @staticmethod
    def _last(plan: Plan) -> CatgaResult[Any]:
        """Return the result of the last attempt, for a call that gets no further node from the router."""
        if not plan.attempts:
            return NO_NODE
        last = plan.attempts[-1]
        return CatgaResult.failure(last.error or "", last.code, delivery=last.delivery)


def at_once(
    function: Callable[[Any], Any], items: Sequence[Any], *, meanwhile: Callable[[], None] | None = None
) -> list[Any]:
    """
    Call ``function`` with each item at the same time; return what it returned, in order.

    Args:
        function: Called in threads of a pool, or in this one if there is one item and no ``meanwhile``.
        items: What it is called with.
        meanwhile: Called in this thread while the others run.
    """
    if not items or (len(items) == 1 and meanwhile is None):
        # A further thread would gain nothing: this one would only wait for it.
        if meanwhile is not None:
            meanwhile()
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(len(items), _FAN_OUT), thread_name_prefix="catga-fan-out") as pool:
        running = [_start(pool, function, item) for item in items]
        if meanwhile is not None:
            meanwhile()
        return [each.result() for each in running]


def _start(pool: ThreadPoolExecutor, function: Callable[[Any], Any], item: Any) -> Future[Any]:
    """Call ``function`` with the item in a thread of the pool, or in this one if the system has no thread left."""
    try:
        return pool.submit(copy_context().run, function, item)
    except RuntimeError:  # "can't start new thread"
        done: Future[Any] = Future()
        done.set_result(function(item))
        return done
