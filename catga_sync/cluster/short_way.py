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
from typing import Any, NamedTuple

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
from catga_sync.pipeline import Step
from catga_sync.receiver.surroundings import Surroundings
from catga_sync.resilience.budget import RetryBudget
from catga_sync.results import Attempt, CatgaResult, expired_before_start, succeeded

__all__ = ["ShortWay"]

#: Seconds: the time of a call that has less may be up already, which the long way looks at.
_SHORTEST = 0.001
#: To look up the member of an Enum takes as long as ten of the other steps here.
_EXECUTED = Delivery.EXECUTED


class _Way(NamedTuple):
    """How a type of request runs here. Immutable."""

    chain: Step
    #: Whether no other node could take it.
    alone: bool
    #: The wire name of the type.
    name: str


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
        self._budget = budget
        self._surroundings = surroundings
        self._hooks = hooks
        self._send_watchers, self._attempt_watchers = hooks.send, hooks.attempt
        # A mediator whose own ``dispatch`` sees each request, such as ``FakeMediator``, sees those of a node, too.
        self._prefers_this = prefers_this and type(local).dispatch is Mediator.dispatch
        self._timeout = timeout
        self._is_running = is_running
        self._monotonic = monotonic
        # A cache, read and filled without a lock: the snapshot and the handlers that were looked at, and what they
        # decide for each request type; None for a type that goes the long way.
        self._known: tuple[Snapshot | None, dict[type, Step], dict[type, _Way | None]] = (None, {}, {})

    def send(self, request: Any, timeout: float | None) -> CatgaResult[Any] | None:
        """
        Run a request here, as a call of its own; return None, with nothing done, where it has to go the long way.

        Args:
            request: Anything; what is no request goes the long way.
            timeout: As in ``ClusterMediator.send``.
        """
        if not self._prefers_this:
            return None
        snapshot, chains = self._membership.known, self._local.chains
        if snapshot is None:
            return None
        # Both are swapped whole; a test may have replaced a handler for a while, and taken it away again.
        seen, handled, ways = self._known
        if seen is not snapshot or handled is not chains:
            ways = {}
            self._known = (snapshot, chains, ways)
        kind = type(request)
        if kind not in ways:
            if not isinstance(request, Request):
                return None
            ways[kind] = self._way(kind, snapshot, chains)
        way = ways[kind]
        if way is None or current_call() is not None or not self._is_running():
            return None
        chain, alone, name = way
        seconds = self._timeout if timeout is None else check_timeout(timeout)
        if seconds < _SHORTEST or (not alone and self._local_node.room == 0) or not self._surroundings.complete():
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
        self._budget.pay_in(began)
        token = enter_call(call)
        try:
            found = chain(request)
        finally:
            leave_call(token)
        elapsed = self._monotonic() - began
        if type(found) is not CatgaResult:
            return succeeded(found, elapsed * 1e3, call, self._node_id, attempts=elapsed)
        result = found._of_attempt(call, self._node_id, elapsed)
        # What has run is never sent again, failed or not.
        return result if result.delivery is _EXECUTED else self._dispatcher.go_on(request, call, result)

    def _attempt(self, request: Any, name: str, at: float, call: CallContext) -> CatgaResult[Any]:
        """Run a request, with its wire name and the end of its time, while hooks watch the attempt."""
        began = self._monotonic()
        chain = self._local.chains.get(type(request))
        if chain is None or at <= began:  # a hook has used it up
            return self._dispatcher.send(request, self._local.registry.ensure(type(request)), call)
        self._budget.pay_in(began)
        carrier: dict[str, str] = {}
        details = made(AttemptDetails, (name, call, self._this, "local", None, False, carrier))
        told = self._hooks.begin(self._attempt_watchers, details)
        result: CatgaResult[Any] = CUT_SHORT
        token = None
        try:
            running, started = carried(details) if carrier else call, self._monotonic()
            token = enter_call(running)
            if at > started:
                found = chain(request)
                result = found if type(found) is CatgaResult else succeeded(found, 0.0)
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

    def _way(self, kind: type, snapshot: Snapshot, chains: dict[type, Step]) -> _Way | None:
        """Return how a type of request runs here, or None where this node does not take it first."""
        chain = chains.get(kind)
        if chain is None:
            return None
        entry = self._local.registry.ensure(kind)
        number = 0 if entry.route is not None else self._dispatcher.number_without_store(entry, snapshot)
        return _Way(chain, number == 1, entry.name) if number else None
