"""The short way of a request whose handler is in this process: none of what decides between nodes.

``Dispatcher`` and ``Failover`` find the candidates, ask the router, plan attempts and record what they show. Where this
node takes a request anyway, nothing of that is left to decide: the handler runs, as the one attempt of the call.

Rules of this file:
1. The result is that of the long way, whichever way a call takes, and so is what hooks are told.
2. What may differ from call to call is looked at in each; what the nodes and the type decide, once a snapshot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from catga_sync.cluster.dispatch import Dispatcher
from catga_sync.cluster.local_node import LocalNode
from catga_sync.cluster.membership import Membership
from catga_sync.cluster.snapshot import Snapshot
from catga_sync.context import CallContext, call_within, current_call, enter_call, leave_call
from catga_sync.deadline import check_timeout
from catga_sync.errors import Delivery
from catga_sync.hooks import CUT_SHORT, AttemptDetails, Hooks, SendDetails, carried, made
from catga_sync.mediator import Mediator
from catga_sync.messages import Request
from catga_sync.receiver.surroundings import Surroundings
from catga_sync.resilience.budget import RetryBudget
from catga_sync.results import Attempt, CatgaResult
from catga_sync.serialization import MessageType

__all__ = ["ShortWay"]

#: Seconds: the time of a call that has less may be up already, which the long way looks at.
_SHORTEST = 0.001


class ShortWay:
    """
    Runs requests that this node takes anyway. Thread-safe.

    Args:
        local: The handlers of this process.
        local_node: This node.
        membership: The other nodes.
        dispatcher: The long way.
        budget: Counts the calls.
        surroundings: What the framework puts around a call that runs here.
        hooks: Watch the sends that start here, and their attempts.
        prefers_this: Whether the router is the ``local-first`` of the options; any other one is asked in each call.
        timeout: Seconds of a call that was given none.
        is_running: Returns whether the background thread runs in this process; it keeps the snapshot up to date.
        monotonic: The clock, in seconds.
    """

    def __init__(
        self,
        local: Mediator,
        local_node: LocalNode,
        membership: Membership,
        dispatcher: Dispatcher,
        budget: RetryBudget,
        surroundings: Surroundings,
        hooks: Hooks,
        *,
        prefers_this: bool,
        timeout: float,
        is_running: Callable[[], bool],
        monotonic: Callable[[], float],
    ) -> None:
        self._local = local
        self._local_node = local_node
        self._node_id = local_node.node_id
        self._this = local_node.this
        self._membership = membership
        self._dispatcher = dispatcher
        self._pay_in = budget.pay_in
        self._is_complete = surroundings.complete
        self._hooks = hooks
        self._send_watchers, self._attempt_watchers = hooks.send, hooks.attempt
        self._prefers_this = prefers_this
        self._timeout = timeout
        self._is_running = is_running
        self._monotonic = monotonic
        # A cache, read and filled without a lock: the snapshot that was looked at, and how many candidates it has for
        # each request type; 0 for a type that goes the long way.
        self._numbers: tuple[Snapshot | None, dict[type, int]] = (None, {})

    def send(self, request: Any, timeout: float | None) -> CatgaResult[Any] | None:
        """
        Run a request here, as a call of its own; return None, with nothing done, where it has to go the long way.

        Args:
            request: Anything; what is no request goes the long way.
            timeout: As in ``ClusterMediator.send``.
        """
        if not self._prefers_this:
            return None
        kind, snapshot = type(request), self._membership.known
        if snapshot is None:
            return None
        known = self._numbers
        if known[0] is not snapshot:
            known = self._numbers = (snapshot, {})
        number = known[1].get(kind)
        if number is None:
            if not isinstance(request, Request):
                return None
            number = known[1][kind] = self._number(kind, snapshot)
        chain = self._local.chains.get(kind) if number else None
        if chain is None or current_call() is not None or not self._is_running():
            return None
        seconds = self._timeout if timeout is None else check_timeout(timeout)
        if seconds < _SHORTEST or (number > 1 and self._local_node.room == 0) or not self._is_complete():
            return None
        call = call_within(seconds, self._node_id)
        if self._send_watchers:
            entry = self._local.registry.ensure(kind)
            details = made(SendDetails, (entry.name, call, False, {}))
            return self._hooks.watch(self._send_watchers, details, self._attempt, request, entry)
        if self._attempt_watchers:
            return self._attempt(request, self._local.registry.ensure(kind), call)
        self._pay_in()
        began = self._monotonic()
        token = enter_call(call)
        try:
            result = chain(request)
        finally:
            leave_call(token)
        result = result._of_attempt(call, self._node_id, self._monotonic() - began)
        # What has run is never sent again, failed or not.
        return result if result.delivery is Delivery.EXECUTED else self._dispatcher.go_on(request, call, result)

    def _attempt(self, request: Any, entry: MessageType, call: CallContext) -> CatgaResult[Any]:
        """Run a request here while hooks watch the attempt."""
        if call.deadline.remaining() <= 0.0:  # type: ignore[union-attr] # it has one, and a hook has used it up
            return self._dispatcher.send(request, entry, call)
        self._pay_in()
        began = self._monotonic()
        details = made(AttemptDetails, (entry.name, call, self._this, "local", None, False, {}))
        told = self._hooks.begin(self._attempt_watchers, details)
        result: CatgaResult[Any] = CUT_SHORT
        try:
            result = self._local.dispatch(request, carried(details) if details.carrier else call, self._node_id)
        finally:
            self._hooks.end(told, result)
        elapsed = self._monotonic() - began
        if result.delivery is Delivery.EXECUTED:
            return result._of_attempt(call, self._node_id, elapsed)
        attempt = Attempt(self._node_id, elapsed, result.delivery, result.code, result.error)
        return self._dispatcher.go_on(request, call, result._with(attempts=(attempt,)))

    def _number(self, kind: type, snapshot: Snapshot) -> int:
        """Return the number of candidates for a request that this node takes before the others; 0 where it does not."""
        if not self._local.handles(kind):
            return 0
        entry = self._local.registry.ensure(kind)
        return 0 if entry.route is not None else self._dispatcher.number_without_store(entry, snapshot)
