"""One call over several nodes: which one is tried, and whether there is another try.

    it succeeded, or the handler said no            -> that is the result
    provably not run, for a reason that may pass    -> another node
    may have run, and may run twice                 -> another node, two nodes at most
    may have run, and may not run twice             -> that is the result; a plain request never runs twice

Rules of this file:
1. A node that was tried is not tried again while there is one that was not.
2. A plain request may run twice only where all nodes remember request ids in one store. Each try names that store, the
   first one too, and a node that has another one refuses it: what is known here of the nodes may be old.
3. All tries share the call's deadline; the waits between them do, too.
4. What a try shows about its node is recorded in ``Ejection``; every further try is paid from the ``RetryBudget``.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync.cluster.sender import Sender
from catga_sync.context import CallContext
from catga_sync.errors import Delivery, ErrorCode, ends_process
from catga_sync.nodes import ClusterNode
from catga_sync.resilience.budget import RetryBudget
from catga_sync.resilience.ejection import Ejection
from catga_sync.results import NEVER, OTHER_NODE, RETRY, Attempt, CatgaResult
from catga_sync.routing.base import Router

__all__ = ["NO_NODE", "Failover", "Plan"]

#: Seconds that must be left for another try to make sense.
_LEAST_LEFT = 0.050
#: The longest wait between two tries, in seconds.
_LONGEST_WAIT = 0.250
#: Nodes on which a request may be left without a response: a request that ends its node must not end all of them.
_MOST_UNKNOWN = 2
#: A caller that gave less time than this, in seconds, learns nothing about the node from running out of it.
_FAIR_TIME = 0.100

_PASSING = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.RESOURCE_EXHAUSTED, ErrorCode.UNIMPLEMENTED})
_NO_RESPONSE = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.DEADLINE_EXCEEDED, ErrorCode.INTERNAL})

_log = logging.getLogger(__name__)


@dataclass
class Plan:
    """One call on its way over the nodes."""

    request: Any
    #: The candidates; never empty.
    nodes: tuple[ClusterNode, ...]
    call: CallContext
    router: Router
    #: Whether it may run twice.
    repeatable: bool
    #: The store in which all of the nodes remember request ids, where it may run twice only because of that.
    store: str | None = None
    attempts: list[Attempt] = field(default_factory=list)
    tried: set[str] = field(default_factory=set)
    unknown: int = 0
    #: The last result of a try that may have run; None when there is none.
    unsure: CatgaResult[Any] | None = None

    def remaining(self) -> float:
        """Return the seconds left for the call."""
        deadline = self.call.deadline
        return float("inf") if deadline is None else deadline.at - deadline.monotonic()


class Failover:
    """
    Try nodes until one responds. Thread-safe.

    Args:
        this: The id of this node; what happens to calls that run here says nothing about other nodes.
        sender: Makes an attempt at a node.
        ejection: Keeps the record of failing nodes.
        budget: Grants further tries.
        enabled: False makes the first try the only one.
        max_retries: Further tries after the first.
        retry_delay: Seconds; the first wait is drawn from 0 to this, the next from 0 to twice as much.
        clock: Times the tries; None means the system's.
        sleep: Waits; None means really.
        rng: Source of the jitter; None means one of its own.
    """

    def __init__(
        self,
        this: str,
        sender: Sender,
        ejection: Ejection,
        budget: RetryBudget,
        *,
        enabled: bool,
        max_retries: int,
        retry_delay: float,
        clock: Clock | None = None,
        sleep: Callable[[float], object] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._this = this
        self._sender = sender
        self._ejection = ejection
        self._budget = budget
        self._tries = 1 + max_retries if enabled else 1
        self._retry_delay = retry_delay
        self._monotonic = (SYSTEM_CLOCK if clock is None else clock).monotonic
        self._sleep = time.sleep if sleep is None else sleep
        self._rng = random.Random() if rng is None else rng  # noqa: S311 - spreads load, guards nothing

    @property
    def repeats(self) -> bool:
        """Whether there is ever a further try."""
        return self._tries > 1

    def run(self, plan: Plan, node: ClusterNode | None = None) -> CatgaResult[Any]:
        """
        Return the result of a request on one of the plan's nodes.

        Args:
            plan: The call.
            node: The first node to try, for a call that was counted already; None means that it is picked here.
        """
        if node is None:
            self._budget.pay_in()
            node = self.pick(plan)
        result = NO_NODE
        while node is not None:
            result = self._try(plan, node)
            wait = self.wait_before_next(plan, result)
            if wait is None or not self._budget.take():
                break
            self.sleep(wait)
            node = self.pick(plan)
        return self.result(plan, result)

    def count(self, exchanges: int) -> None:
        """Count calls in the budget; several that travel together are one."""
        for _ in range(exchanges):
            self._budget.pay_in()

    def pay(self) -> bool:
        """Pay for a further try; return False when the budget has none left."""
        return self._budget.take()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        if seconds:
            self._sleep(seconds)

    def pick(self, plan: Plan) -> ClusterNode | None:
        """Return the node to try next; None when the router gives none."""
        options = plan.nodes if len(plan.nodes) == 1 else self._ejection.usable(plan.nodes)
        if plan.tried:
            untried = tuple(node for node in options if node.node_id not in plan.tried)
            options = untried or tuple(node for node in plan.nodes if node.node_id not in plan.tried) or options
        try:
            node = plan.router.route(plan.request, options)
            # By identity: comparing a thousand nodes by value takes longer than all the rest of a call.
            for each in options:
                if each is node:
                    return node
            return node if node in options else None
        except BaseException as exc:
            if ends_process(exc):
                raise
            _log.exception("the router failed: %s", plan.call.ids)
            return None

    def share(self, plan: Plan, node: ClusterNode) -> float:
        """Return the seconds for a try at a node: all that is left, or half if another one can follow its silence."""
        left = plan.remaining()
        another = len(plan.attempts) + 1 < self._tries and len(plan.tried | {node.node_id}) < len(plan.nodes)
        return left / 2 if plan.repeatable and another and plan.unknown + 1 < _MOST_UNKNOWN else left

    @staticmethod
    def call_of(plan: Plan) -> CallContext:
        """Return the call as an attempt has it: with the store on which it relies."""
        return plan.call if plan.store is None else replace(plan.call, store=plan.store)

    def note(self, plan: Plan, node: ClusterNode, result: CatgaResult[Any], elapsed: float) -> None:
        """Take note of a try, in the plan and at the router."""
        plan.tried.add(node.node_id)
        plan.attempts.append(Attempt(node.node_id, elapsed, result.delivery, result.code, result.error))
        if result.delivery is Delivery.UNKNOWN:
            plan.unknown += 1
            plan.unsure = result
        _completed(plan, node, result, elapsed)

    def forgoes_store(self, plan: Plan, result: CatgaResult[Any]) -> bool:
        """
        Rely on no store any more, where the node has another one and nothing may have run yet.

        Returns:
            Whether the node is to be asked again at once. That is free: it cost the node next to nothing to refuse,
            and after a store was emptied all plain requests are refused until the next heartbeats.
        """
        if not _has_another_store(plan, result) or plan.unsure is not None:
            return False
        plan.store, plan.repeatable = None, False
        return True

    def learn(self, node: ClusterNode, result: CatgaResult[Any], time_given: float) -> None:
        """Take note of what an exchange that was given so many seconds shows about its node."""
        if node.node_id == self._this:
            return
        if result.delivery is Delivery.EXECUTED or (result.node_id and result.metadata.get(RETRY) == NEVER):
            # It has responded, if only with the refusal of a behaviour.
            self._ejection.succeeded(node)
        elif result.delivery is Delivery.UNKNOWN:
            fair = result.code is not ErrorCode.DEADLINE_EXCEEDED or time_given >= _FAIR_TIME
            if fair and _without_response(result):
                self._ejection.failed(node)
        elif result.node_id is None and result.metadata.get(RETRY) == OTHER_NODE:
            # It was asked to describe itself first, and what came was not signed by it.
            self._ejection.failed(node)
        elif result.code is ErrorCode.UNAVAILABLE:
            # No process listens there, or the node said that it is going offline; it names itself then.
            self._ejection.avoid(node)
            if result.node_id is None:
                self._ejection.failed(node)

    def wait_before_next(self, plan: Plan, result: CatgaResult[Any]) -> float | None:
        """Return the seconds to wait before the next try, or None when there is to be none."""
        wait = self._wait_before_next(plan, result)
        return None if wait is None or plan.remaining() - wait < _LEAST_LEFT else wait

    def result(self, plan: Plan, last: CatgaResult[Any]) -> CatgaResult[Any]:
        """Return the result for the caller after the last try."""
        delivery = last.delivery
        if plan.unsure is not None and delivery is Delivery.NOT_EXECUTED:
            # A later try that provably did not run says nothing about an earlier one that may have.
            delivery = Delivery.UNKNOWN
            if _has_another_store(plan, last):
                # Nor does the store matter to the caller: the request should not have been sent again.
                last = plan.unsure
        return last._with(attempts=tuple(plan.attempts), delivery=delivery)

    def _try(self, plan: Plan, node: ClusterNode) -> CatgaResult[Any]:
        time_given = self.share(plan, node)
        started = self._monotonic()
        try:
            call = plan.call if plan.store is None else self.call_of(plan)
            result = self._sender.send(node, plan.request, time_given, call)
        except BaseException:
            _completed(plan, node, _ABANDONED, self._monotonic() - started)
            raise
        self.note(plan, node, result, self._monotonic() - started)
        self.learn(node, result, time_given)
        return self._try(plan, node) if self.forgoes_store(plan, result) else result

    def _wait_before_next(self, plan: Plan, result: CatgaResult[Any]) -> float | None:
        """Return the seconds to wait before the next try, or None when there is to be none."""
        made = len(plan.attempts)
        if result.is_success or made >= self._tries:
            return None
        untried = len(plan.tried) < len(plan.nodes)
        if result.delivery is Delivery.NOT_EXECUTED:
            retry = result.metadata.get(RETRY)
            if retry == NEVER or (retry == OTHER_NODE and not untried):
                return None
            if result.code is ErrorCode.DEADLINE_EXCEEDED:
                # Only the share of this try was used up, waiting for its turn at a busy node.
                return 0.0 if untried else None
            passing = result.code in _PASSING or retry == OTHER_NODE
            if not passing or (result.code is ErrorCode.UNIMPLEMENTED and (made > 1 or not untried)):
                return None
            if made == 1 and untried:
                return 0.0
        elif result.delivery is Delivery.UNKNOWN:
            if not plan.repeatable or not _without_response(result) or plan.unknown >= _MOST_UNKNOWN or not untried:
                return None
        else:
            return None
        return self._rng.uniform(0.0, min(_LONGEST_WAIT, self._retry_delay * 2 ** (made - 1)))


def _has_another_store(plan: Plan, result: CatgaResult[Any]) -> bool:
    """Return whether a node has refused a request since it does not have the store that was named."""
    refused = result.delivery is Delivery.NOT_EXECUTED and result.code is ErrorCode.FAILED_PRECONDITION
    # What is final is the refusal of a behaviour.
    return plan.store is not None and refused and result.metadata.get(RETRY) != NEVER


def _without_response(result: CatgaResult[Any]) -> bool:
    """Return whether a result of unknown delivery is no response of the node that was asked."""
    return result.code in _NO_RESPONSE or result.metadata.get(RETRY) == OTHER_NODE


#: The result of a call for which the router gave no node.
NO_NODE: CatgaResult[Any] = CatgaResult.failure(
    "router: its route() returned none of the nodes that it was given",
    ErrorCode.INTERNAL,
    delivery=Delivery.NOT_EXECUTED,
)
#: The result for a router of a try that was cut short by the end of the process.
_ABANDONED: CatgaResult[Any] = CatgaResult.failure("abandoned", ErrorCode.CANCELLED, delivery=Delivery.UNKNOWN)


def _completed(plan: Plan, node: ClusterNode, result: CatgaResult[Any], elapsed: float) -> None:
    try:
        completed = getattr(plan.router, "completed", None)
        if completed is not None:
            completed(node, plan.request, result, elapsed)
    except BaseException as exc:
        if ends_process(exc):
            raise
        _log.exception("the router's completed() failed: %s", plan.call.ids)
