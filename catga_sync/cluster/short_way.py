"""The short way of a request whose handler is in this process: none of what decides between nodes.

``Dispatcher`` and ``Failover`` find the candidates, ask the router, plan attempts and record what they show. Where this
node takes a request anyway, nothing of that is left to decide: the handler runs, as the one attempt of the call.

Rules of this file:
1. The result is that of the long way, whichever way a call takes, and so is what hooks are told.
2. What may differ from call to call is looked at in each; what the nodes and the type decide, once a snapshot.
3. The clock is that of the deadlines of calls. Where no hook watches, it is read once before the handler, and once
   after it.
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
from catga_sync.results import Attempt, CatgaResult, expired_before_start

__all__ = ["ShortWay"]

#: Seconds: the time of a call that has less may be up already, which the long way looks at.
_SHORTEST = 0.001
#: To look up the member of an Enum takes as long as ten of the other steps here.
_EXECUTED = Delivery.EXECUTED


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
            False as well where ``monotonic`` is not the clock of the deadlines, which is the system's.
        timeout: Seconds of a call that was given none.
        is_running: Returns whether the background thread runs in this process; it keeps the snapshot up to date.
        monotonic: The clock of ``budget``, in seconds.
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
        # A mediator whose own ``dispatch`` sees each request, such as ``FakeMediator``, sees those of a node, too.
        self._prefers_this = prefers_this and type(local).dispatch is Mediator.dispatch
        self._timeout = timeout
        self._is_running = is_running
        self._monotonic = monotonic
        # A cache, read and filled without a lock: the snapshot that was looked at, and how many candidates it has for
        # each request type; 0 for a type that goes the long way. With it, the wire name of the type.
        self._numbers: tuple[Snapshot | None, dict[type, tuple[int, str]]] = (None, {})

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
        found = known[1].get(kind)
        if found is None:
            if not isinstance(request, Request):
                return None
            found = known[1][kind] = self._number(kind, snapshot)
        number, name = found
        # Looked up in each call: a test may have replaced a handler for a while, and taken it away again.
        chain = self._local.chains.get(kind) if number else None
        if chain is None or current_call() is not None or not self._is_running():
            return None
        seconds = self._timeout if timeout is None else check_timeout(timeout)
        if seconds < _SHORTEST or (number > 1 and self._local_node.room == 0) or not self._is_complete():
            return None
        began = self._monotonic()
        at = began + seconds
        call = call_within(at, self._node_id)
        if self._send_watchers:
            details = made(SendDetails, (name, call, False, {}))
            return self._hooks.watch(self._send_watchers, details, self._attempt, request, name, at)
        if self._attempt_watchers:
            return self._attempt(request, name, at, call)
        # An attempt that no hook watches.
        self._pay_in(began)
        token = enter_call(call)
        try:
            result = chain(request)
        finally:
            leave_call(token)
        result = result._of_attempt(call, self._node_id, self._monotonic() - began)
        # What has run is never sent again, failed or not.
        return result if result.delivery is _EXECUTED else self._dispatcher.go_on(request, call, result)

    def _attempt(self, request: Any, name: str, at: float, call: CallContext) -> CatgaResult[Any]:
        """Run a request, with its wire name and the end of its time, while hooks watch the attempt."""
        began = self._monotonic()
        chain = self._local.chains.get(type(request))
        if chain is None or at <= began:  # a hook has used it up
            return self._dispatcher.send(request, self._local.registry.ensure(type(request)), call)
        self._pay_in(began)
        carrier: dict[str, str] = {}
        details = made(AttemptDetails, (name, call, self._this, "local", None, False, carrier))
        told = self._hooks.begin(self._attempt_watchers, details)
        result: CatgaResult[Any] = CUT_SHORT
        token = None
        try:
            running, started = carried(details) if carrier else call, self._monotonic()
            token = enter_call(running)
            if at > started:
                result = chain(request)
                # Unless hooks were told it already.
                if result._request_id is not running or result.node_id != self._node_id:
                    result = result._of_call(running, self._node_id, (self._monotonic() - started) * 1e3)
            else:
                result = expired_before_start()._with(request_id=call.request_id)
        finally:
            if token is not None:
                leave_call(token)
            self._hooks.end(told, result)
        elapsed = self._monotonic() - began
        if result.delivery is _EXECUTED:
            return result._of_attempt(call, self._node_id, elapsed)
        attempt = Attempt(self._node_id, elapsed, result.delivery, result.code, result.error)
        return self._dispatcher.go_on(request, call, result._with(attempts=(attempt,)))

    def _number(self, kind: type, snapshot: Snapshot) -> tuple[int, str]:
        """Return the number of candidates for a request, 0 where this node does not take it first, and its name."""
        if not self._local.handles(kind):
            return 0, ""
        entry = self._local.registry.ensure(kind)
        number = 0 if entry.route is not None else self._dispatcher.number_without_store(entry, snapshot)
        return number, entry.name
