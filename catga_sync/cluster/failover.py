"""One call over several nodes: which node gets an attempt, and whether another attempt follows.

    it succeeded, or the handler returned an error  -> that is the result
    provably not run, for a reason that may pass    -> another node
    may have run, and may run twice                 -> another node, two nodes at most
    may have run, and may not run twice             -> that is the result; a plain request never runs twice

Rules of this file:
1. A node that had an attempt gets no second one while there is a node without.
2. A plain request may run twice only where all nodes remember request ids in one store. Each attempt names that store,
   the first one too, and a node with another store refuses it: the node information here may be stale.
3. All attempts share the call's deadline, and so do the waits between them.
4. What an attempt shows about its node is recorded in ``Ejection``; each further attempt takes one from the
   ``RetryBudget``.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
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

#: Least seconds left for another attempt.
_LEAST_LEFT = 0.050
#: The longest wait between two attempts, in seconds.
_LONGEST_WAIT = 0.250
#: Most attempts with unknown outcome, so that a request that crashes nodes crashes two at most.
_MOST_UNKNOWN = 2
#: Timeouts shorter than this, in seconds, are not counted against the node.
_FAIR_TIME = 0.100

_PASSING = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.RESOURCE_EXHAUSTED, ErrorCode.UNIMPLEMENTED})
_NO_RESPONSE = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.DEADLINE_EXCEEDED, ErrorCode.INTERNAL})

#: To look up the member of an Enum takes as long as a call.
_UNKNOWN, _NOT_EXECUTED = Delivery.UNKNOWN, Delivery.NOT_EXECUTED

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Plan:
    """The state of one call: its candidates, and the attempts so far."""

    request: Any
    #: The candidates; never empty.
    nodes: tuple[ClusterNode, ...]
    call: CallContext
    router: Router
    #: Whether it may run twice.
    repeatable: bool
    #: The store in which all of the nodes remember request ids, where it may run twice only because of that.
    store: str | None = None
    attempts: tuple[Attempt, ...] = ()
    unknown: int = 0
    #: The result of the last attempt that may have run; None when there is none.
    unsure: CatgaResult[Any] | None = None

    @property
    def tried(self) -> set[str]:
        """The ids of the nodes that had an attempt."""
        return {attempt.node_id for attempt in self.attempts}

    def remaining(self) -> float:
        """Return the seconds left for the call."""
        deadline = self.call.deadline
        return math.inf if deadline is None else deadline.at - deadline.monotonic()

    def of_another(self, request: Any, call: CallContext) -> Plan:
        """Return the plan of another call of the same type, path and deadline, before any attempt."""
        return Plan(request, self.nodes, call, self.router, self.repeatable, self.store)


class Failover:
    """
    Run a call on one or more nodes by the rules above. Thread-safe.

    Args:
        this: The id of this node; calls that run here are not recorded in ``ejection``.
        sender: Makes an attempt at a node.
        ejection: Keeps the record of failing nodes.
        budget: Grants further attempts.
        enabled: False makes the first attempt the only one.
        max_retries: Further attempts after the first.
        retry_delay: Seconds; the first wait is drawn from 0 to this, the next from 0 to twice as much.
        clock: Times the attempts; None means the system's.
        sleep: Waits; None means ``time.sleep``.
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
        self._max_attempts = 1 + max_retries if enabled else 1
        self._retry_delay = retry_delay
        self._monotonic = (SYSTEM_CLOCK if clock is None else clock).monotonic
        self._sleep = time.sleep if sleep is None else sleep
        self._rng = random.Random() if rng is None else rng  # noqa: S311 - spreads load, guards nothing

    @property
    def repeats(self) -> bool:
        """Whether there is ever a further attempt."""
        return self._max_attempts > 1

    def run(self, plan: Plan, node: ClusterNode | None = None) -> CatgaResult[Any]:
        """
        Return the result of a request on one of the plan's nodes.

        Args:
            plan: The call.
            node: The node of the first attempt, for a call that was counted already; None means that it is picked here.
        """
        if node is None:
            self._budget.pay_in()
            node = self.pick(plan)
        if node is None:
            return self.result(plan, NO_NODE)
        result = self._attempt(plan, node)
        if result.is_success and plan.unsure is None:  # ``result`` has nothing to decide then
            return result._of_send(result._request_id, result.delivery, plan.attempts, result.metadata)
        return self.go_on(plan, result)

    def go_on(self, plan: Plan, result: CatgaResult[Any]) -> CatgaResult[Any]:
        """Return the result of a request after an attempt with this one, which the plan has already."""
        while not result.is_success:
            wait = self.wait_before_next(plan, result)
            if wait is None or not self._budget.take():
                break
            self.sleep(wait)
            node = self.pick(plan)
            if node is None:
                break
            result = self._attempt(plan, node)
        return self.result(plan, result)

    def count(self, exchanges: int) -> None:
        """Count exchanges in the budget; calls that travel together are one exchange."""
        for _ in range(exchanges):
            self._budget.pay_in()

    def pay(self) -> bool:
        """Take a further attempt from the budget; return False when none is left."""
        return self._budget.take()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        if seconds:
            self._sleep(seconds)

    def pick(self, plan: Plan) -> ClusterNode | None:
        """Return the node of the next attempt; None when the router gives none."""
        options = plan.nodes if len(plan.nodes) == 1 else self._ejection.usable(plan.nodes)
        if plan.attempts:
            tried = plan.tried
            untried = tuple(node for node in options if node.node_id not in tried)
            options = untried or tuple(node for node in plan.nodes if node.node_id not in tried) or options
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
        """Return the seconds for an attempt: all that is left, or half if another attempt can follow a silent node."""
        left = plan.remaining()
        if not plan.repeatable or len(plan.nodes) == 1:
            return left
        another = len(plan.attempts) + 1 < self._max_attempts and len(plan.tried | {node.node_id}) < len(plan.nodes)
        return left / 2 if another and plan.unknown + 1 < _MOST_UNKNOWN else left

    @staticmethod
    def call_of(plan: Plan) -> CallContext:
        """Return the call as an attempt has it: with the store on which it relies."""
        return plan.call if plan.store is None else plan.call.with_changes(store=plan.store)

    def note(self, plan: Plan, node: ClusterNode, result: CatgaResult[Any], elapsed: float) -> None:
        """Record an attempt in the plan and at the router."""
        plan.attempts += (Attempt(node.node_id, elapsed, result.delivery, result.code, result.error),)
        if result.delivery is _UNKNOWN:
            plan.unknown += 1
            plan.unsure = result
        try:
            completed = getattr(plan.router, "completed", None)
            if completed is not None:
                completed(node, plan.request, result, elapsed)
        except BaseException as exc:
            if ends_process(exc):
                raise
            _log.exception("the router's completed() failed: %s", plan.call.ids)

    def drops_store(self, plan: Plan, result: CatgaResult[Any]) -> bool:
        """
        Rely on no store any more if the node has another store and nothing may have run yet.

        Returns:
            Whether the node is to get the request again at once. The budget is not charged for it: the refusal costs
            the node next to nothing, and after a store was emptied all plain requests are refused until the next
            heartbeats.
        """
        if not _has_another_store(plan, result) or plan.unsure is not None:
            return False
        plan.store, plan.repeatable = None, False
        return True

    def learn(self, node: ClusterNode, result: CatgaResult[Any], time_given: float) -> None:
        """Record what an exchange with this time limit shows about its node."""
        if node.node_id == self._this:
            return
        if result.delivery is Delivery.EXECUTED or (result.node_id and result.metadata.get(RETRY) == NEVER):
            # The node has responded; the refusal of a behaviour is a response, too.
            self._ejection.succeeded(node)
        elif result.delivery is Delivery.UNKNOWN:
            fair = result.code is not ErrorCode.DEADLINE_EXCEEDED or time_given >= _FAIR_TIME
            if fair and _without_response(result):
                self._ejection.failed(node)
        elif result.node_id is None and result.metadata.get(RETRY) == OTHER_NODE:
            # Its proof of signing failed.
            self._ejection.failed(node)
        elif result.code is ErrorCode.UNAVAILABLE:
            # No process listens there, or the node is draining; ``result.node_id`` is set then.
            self._ejection.avoid(node)
            if result.node_id is None:
                self._ejection.failed(node)

    def wait_before_next(self, plan: Plan, result: CatgaResult[Any]) -> float | None:
        """Return the seconds to wait before the next attempt, or None when there is to be none."""
        wait = self._wait_before_next(plan, result)
        return None if wait is None or plan.remaining() - wait < _LEAST_LEFT else wait

    def result(self, plan: Plan, last: CatgaResult[Any]) -> CatgaResult[Any]:
        """Return the result for the caller after the last attempt."""
        delivery = last.delivery
        if plan.unsure is not None and delivery is _NOT_EXECUTED:
            # An earlier attempt may have run, even if the last one provably did not.
            delivery = Delivery.UNKNOWN
            if _has_another_store(plan, last):
                # Report the earlier unknown result, not the store mismatch of the repeat.
                last = plan.unsure
        return last._of_send(last._request_id, delivery, plan.attempts, last.metadata)

    def _attempt(self, plan: Plan, node: ClusterNode) -> CatgaResult[Any]:
        deadline = plan.call.deadline
        if deadline is not None and (not plan.repeatable or len(plan.nodes) == 1):  # ``share`` has nothing to decide
            time_given = deadline.at - deadline.monotonic()
        else:
            time_given = self.share(plan, node)
        started = self._monotonic()
        try:
            call = plan.call if plan.store is None else self.call_of(plan)
            result = self._sender.send(node, plan.request, time_given, call)
        except BaseException:
            self.note(plan, node, _ABANDONED, self._monotonic() - started)
            raise
        self.note(plan, node, result, self._monotonic() - started)
        if result.delivery is not Delivery.EXECUTED or node.node_id in self._ejection.records:
            self.learn(node, result, time_given)
        if plan.store is not None and self.drops_store(plan, result):
            return self._attempt(plan, node)
        return result

    def _wait_before_next(self, plan: Plan, result: CatgaResult[Any]) -> float | None:
        """Return the seconds to wait before the next attempt, regardless of the time left; None when there is none."""
        made = len(plan.attempts)
        if result.is_success or made >= self._max_attempts:
            return None
        untried = len(plan.tried) < len(plan.nodes)
        if result.delivery is Delivery.NOT_EXECUTED:
            retry = result.metadata.get(RETRY)
            if retry == NEVER or (retry == OTHER_NODE and not untried):
                return None
            if result.code is ErrorCode.DEADLINE_EXCEEDED:
                # Only the share of this attempt was used up, in the queue of a busy node.
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
    """Return whether a node has refused a request because it does not have the named store."""
    refused = result.delivery is Delivery.NOT_EXECUTED and result.code is ErrorCode.FAILED_PRECONDITION
    # RETRY=NEVER marks a refusal by a behaviour, not by the store check.
    return plan.store is not None and refused and result.metadata.get(RETRY) != NEVER


def _without_response(result: CatgaResult[Any]) -> bool:
    """Return whether a result of unknown delivery is not a response of the node."""
    return result.code in _NO_RESPONSE or result.metadata.get(RETRY) == OTHER_NODE


#: The result of a call for which the router gave no node.
NO_NODE: CatgaResult[Any] = CatgaResult.failure(
    "router: its route() returned none of the nodes that it was given",
    ErrorCode.INTERNAL,
    delivery=Delivery.NOT_EXECUTED,
)
#: What a router gets as the result of an attempt that was cut short by the end of the process.
_ABANDONED: CatgaResult[Any] = CatgaResult.failure("abandoned", ErrorCode.CANCELLED, delivery=Delivery.UNKNOWN)
