"""From a message to the nodes: who may take it, who is asked, and what is said when nobody can.

Rules of this file:
1. A call touches no store; candidates come from the snapshot.
2. What runs here runs in the caller's thread, and never over a socket.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from catga_sync.chain import LONGEST, full_nodes
from catga_sync.cluster.failover import Failover, Plan
from catga_sync.cluster.membership import Membership
from catga_sync.cluster.snapshot import reason_against
from catga_sync.context import CallContext, current_call, enter_call, leave_call, new_request_id
from catga_sync.errors import ConfigurationError, Delivery, ErrorCode
from catga_sync.explanation import Explanation, Verdict
from catga_sync.mediator import Mediator, expired_before_start, nested_call
from catga_sync.nodes import ClusterNode
from catga_sync.resilience.budget import RetryBudget
from catga_sync.resilience.ejection import Ejection
from catga_sync.results import CatgaResult
from catga_sync.routing.base import Router
from catga_sync.serialization import MessageType
from catga_sync.transport.base import RemoteInvoker

__all__ = ["SHARED_IDEMPOTENCY", "Dispatcher"]

#: The oldest snapshot, in seconds, on which "nobody handles this" is answered.
_FRESH = 0.1
#: Calls at once that one ``broadcast``, ``publish`` or ``send_batch`` makes.
_FAN_OUT = 16
#: What a node says of itself, followed by which store it is, when it remembers request ids in one that others share.
SHARED_IDEMPOTENCY = "shared-idempotency:"

_log = logging.getLogger(__name__)


class Dispatcher:
    """
    Bring messages to nodes. Thread-safe.

    Args:
        local: The handlers of this process.
        this: This node.
        membership: The other nodes.
        ejection: Those that are left out for their failures.
        budget: Shown by ``explain``.
        failover: Tries one node after the other.
        invoker: Carries a message to another node.
        router: Picks one of the candidates.
        routers: Returns the router that a message type asks for by name.
        room: Returns how many more calls this process takes; None when it cannot tell.
        timeout: Seconds of a call that was given none.
    """

    def __init__(
        self,
        local: Mediator,
        this: ClusterNode,
        membership: Membership,
        ejection: Ejection,
        budget: RetryBudget,
        failover: Failover,
        invoker: RemoteInvoker,
        router: Router,
        routers: Callable[[str], Router],
        *,
        room: Callable[[], int | None],
        timeout: float,
    ) -> None:
        self._local = local
        self._this = this
        self._membership = membership
        self._ejection = ejection
        self._budget = budget
        self._failover = failover
        self._invoker = invoker
        self._router = router
        self._routers = routers
        self._room = room
        self._timeout = timeout

    def forward(self, request: Any) -> CatgaResult[Any]:
        """Run a request on whichever node may take it, as the current call."""
        call = current_call()
        if call is None:  # a behaviour has moved the call to a thread of its own, without its context
            call = nested_call(self._timeout)
        entry = self._local.registry.ensure(type(request))
        here = self._local.handles(entry.cls)
        if not entry.remote:
            return self._here(request, call) if here else self._local.no_handler(entry.cls)
        nodes = self.candidates(entry, here)
        if call.chain and nodes:
            full = full_nodes(call.chain) - {self._this.node_id}
            if len(call.chain) >= LONGEST or (full and full.issuperset(node.node_id for node in nodes)):
                return self._would_wait_for_itself(entry, call)
            if full:
                nodes = tuple(node for node in nodes if node.node_id not in full)
        if not nodes:
            return self._nobody(entry)
        if call.deadline is not None and call.deadline.expired:
            return expired_before_start()
        try:
            router = self._router_of(entry)
        except ConfigurationError as exc:
            return CatgaResult.failure(
                f"the route of {entry.name} is wrong: {exc}", ErrorCode.INTERNAL, delivery=Delivery.NOT_EXECUTED
            )
        shared = not entry.idempotent and _share_a_store(nodes)
        plan = Plan(request, nodes, call, router, entry.idempotent or shared)
        result = self._failover.run(plan, self.on)
        if not shared:
            return result
        return result._with(metadata=MappingProxyType({**result.metadata, "idempotency": "shared"}))

    def candidates(self, entry: MessageType, here: bool) -> tuple[ClusterNode, ...]:
        """Return the nodes that may take a request of this type."""
        nodes = self._membership.snapshot.candidates(entry.name, entry.contract, here)
        if not nodes:
            # Perhaps the node has just come up: before saying that there is none, look at the store once more.
            self._membership.refresh(_FRESH)
            nodes = self._membership.snapshot.candidates(entry.name, entry.contract, here)
        return nodes

    def on(self, node: ClusterNode, message: Any, timeout: float) -> CatgaResult[Any]:
        """Run a message on one node, as the current call."""
        call = current_call() or nested_call(timeout)
        if node.node_id == self._this.node_id:
            return self._here(message, call)
        token = enter_call(self._leaving(call))
        try:
            return self._invoker.invoke(node, message, timeout=timeout, request_id=call.request_id)
        except Exception:
            _log.exception("the invoker failed: request_id=%s node=%s", call.request_id, node.node_id)
            return CatgaResult.failure("the invoker failed; see the log", ErrorCode.INTERNAL, delivery=Delivery.UNKNOWN)
        finally:
            leave_call(token)

    def on_each(self, nodes: Sequence[ClusterNode], message: Any, call: CallContext) -> dict[str, CatgaResult[Any]]:
        """Run a message on each of these other nodes at the same time."""

        def one(node: ClusterNode) -> CatgaResult[Any]:
            left = call.remaining()
            return self.on(node, message, self._timeout if left is None else left)

        return dict(zip([node.node_id for node in nodes], at_once(one, nodes, call), strict=True))

    def batch(self, requests: list[Any], call: CallContext) -> list[CatgaResult[Any]]:
        """
        Run requests with one round trip a node. An item that failed in a way that allows it is sent again alone.

        Nodes that take no batches, and items that run here, are served one by one.
        """
        results: list[CatgaResult[Any] | None] = [None] * len(requests)
        groups: dict[str, tuple[ClusterNode, list[int]]] = {}
        alone: list[int] = []
        carry = getattr(self._invoker, "invoke_batch", None)
        for index, request in enumerate(requests):
            node = None if carry is None else self._batch_node(request, call)
            if node is None:
                alone.append(index)
            else:
                groups.setdefault(node.node_id, (node, []))[1].append(index)

        def send(group: tuple[ClusterNode, list[int]]) -> None:
            node, indexes = group
            token = enter_call(self._leaving(call))
            try:
                ids = [new_request_id() for _ in indexes]
                items = [requests[index] for index in indexes]
                answers = carry(node, items, timeout=call.remaining() or self._timeout, request_ids=ids)  # type: ignore[misc]
            finally:
                leave_call(token)
            for index, answer in zip(indexes, answers, strict=True):
                again = answer.delivery is Delivery.NOT_EXECUTED and answer.code in _PASSING
                again = again or (answer.delivery is Delivery.UNKNOWN and self._repeatable(requests[index]))
                results[index] = self._one(requests[index], call) if again else answer

        def send_alone() -> None:
            for index in alone:
                results[index] = self._one(requests[index], call)

        # What runs here runs in the caller's thread, while the round trips are under way.
        at_once(send, list(groups.values()), call, meanwhile=send_alone)
        return [result for result in results if result is not None]

    def explain(self, request: Any, call: CallContext) -> Explanation:
        """Return what ``forward`` would do; nothing is sent, and no router's turn is used up but by its choice."""
        entry = self._local.registry.ensure(type(request))
        here = self._local.handles(entry.cls)
        nodes = self.candidates(entry, here)
        full = full_nodes(call.chain)
        usable = tuple(node for node in self._ejection.usable(nodes) if node.node_id not in full) if nodes else ()
        excluded = []
        for node in self._membership.snapshot.nodes:
            reason = reason_against(node, entry.name, entry.contract)
            if reason is None and node not in usable:
                reason = self._ejection.state(node) or f"it is {node.status.name}, and there are better ones"
                reason = "it waits for this very call and has no free thread" if node.node_id in full else reason
            if reason is not None:
                excluded.append(Verdict(node, reason))
        if not here:
            excluded.append(Verdict(self._this, "this process has no handler for it"))
        router = self._router_of(entry)
        left = call.remaining()
        return Explanation(
            type_name=entry.name,
            router=entry.route or type(router).__name__,
            candidates=usable,
            excluded=tuple(excluded),
            chosen=_look_up(router, request, usable) if usable else None,
            repeatable=entry.idempotent,
            timeout=self._timeout if left is None else left,
            budget=self._budget.left,
        )

    def forget(self) -> None:
        """In a forked child: the routers drop the locks and the counts of the parent."""
        for each in (self._router, self._routers):
            forget = getattr(each, "forget", None)
            if forget is not None:
                forget()

    # -- parts ----------------------------------------------------------------------------------------------------

    def _here(self, message: Any, call: CallContext) -> CatgaResult[Any]:
        return self._local.dispatch(message, call, self._this.node_id)

    def _one(self, request: Any, call: CallContext) -> CatgaResult[Any]:
        token = enter_call(call.nested(new_request_id(), self._timeout))
        try:
            return self.forward(request)
        finally:
            leave_call(token)

    def _leaving(self, call: CallContext) -> CallContext:
        """Return the call as it is when it leaves this node: with this node at the end of its chain."""
        if self._this.endpoint is None:
            return call
        room = self._room()
        if room is not None and call.source_node_id is None and not call.chain and room > 0:
            # A view of the app itself sends: its thread is one of the server's, too, and counted nowhere else.
            room -= 1
        return replace(call, chain=(*call.chain, (self._this.node_id, room)))

    def _router_of(self, entry: MessageType) -> Router:
        return self._router if entry.route is None else self._routers(entry.route)

    def _repeatable(self, request: Any) -> bool:
        return self._local.registry.ensure(type(request)).idempotent

    def _batch_node(self, request: Any, call: CallContext) -> ClusterNode | None:
        entry = self._local.registry.ensure(type(request))
        here = self._local.handles(entry.cls)
        nodes = self.candidates(entry, here) if entry.remote and not call.chain else ()
        if not nodes:
            return None
        node = _look_up(self._router_of(entry), request, self._ejection.usable(nodes))
        return node if node.node_id != self._this.node_id and "batch" in node.features else None

    def _would_wait_for_itself(self, entry: MessageType, call: CallContext) -> CatgaResult[Any]:
        way = " -> ".join(name for name, _ in call.chain)
        return CatgaResult.failure(
            f"{entry.name} would wait for itself: the call has come over {way} -> {self._this.node_id}, and the nodes "
            f"that handle it have no free thread left; break the loop, or give them more threads",
            ErrorCode.FAILED_PRECONDITION,
            delivery=Delivery.NOT_EXECUTED,
        )

    def _nobody(self, entry: MessageType) -> CatgaResult[Any]:
        others = self._membership.snapshot.nodes
        if not others:
            return CatgaResult.failure(
                f"no handler for {entry.name} here, and no other node is in the cluster: start one that has it, with "
                f"the same cluster_name and discovery",
                ErrorCode.UNAVAILABLE,
                delivery=Delivery.NOT_EXECUTED,
            )
        unfit = [node for node in others if node.may_handle(entry.name)]
        if unfit:
            reasons = "; ".join(
                f"{node.node_id}: {reason_against(node, entry.name, entry.contract)}" for node in unfit[:5]
            )
            return CatgaResult.failure(
                f"no node can take {entry.name} now: {reasons}", ErrorCode.UNAVAILABLE, delivery=Delivery.NOT_EXECUTED
            )
        names = ", ".join(node.node_id for node in others[:5]) + (", ..." if len(others) > 5 else "")
        return CatgaResult.failure(
            f"no node handles {entry.name}: register a handler with @mediator.handler here or on one of {names}",
            ErrorCode.UNIMPLEMENTED,
            delivery=Delivery.NOT_EXECUTED,
        )


_PASSING = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.RESOURCE_EXHAUSTED, ErrorCode.UNIMPLEMENTED})


def _look_up(router: Router, request: Any, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
    """Return whom a router would take, and tell it that the attempt was not made."""
    node = router.route(request, nodes)
    completed = getattr(router, "completed", None)
    if completed is not None:
        completed(node, request, None, 0.0)
    return node


def _share_a_store(nodes: Sequence[ClusterNode]) -> bool:
    """Return whether all of these remember request ids in one and the same store."""
    store = next((each for each in nodes[0].features if each.startswith(SHARED_IDEMPOTENCY)), None)
    return store is not None and all(store in node.features for node in nodes)


def at_once(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    call: CallContext,
    *,
    meanwhile: Callable[[], None] | None = None,
) -> list[Any]:
    """
    Call ``function`` with each item at the same time, as the given call; return what it returned, in order.

    Args:
        function: Called in threads of its own, unless there is but one item and nothing else to do.
        items: What it is called with.
        call: The call that it is part of.
        meanwhile: Called in this thread while the others run.
    """
    token = enter_call(call)
    try:
        if len(items) <= 1:
            # One after the other: nothing is won by a thread that this one would have to wait for.
            done = [function(item) for item in items]
            if meanwhile is not None:
                meanwhile()
            return done
        with ThreadPoolExecutor(min(len(items), _FAN_OUT), thread_name_prefix="catga-fan-out") as pool:
            running = [pool.submit(copy_context().run, function, item) for item in items]
            if meanwhile is not None:
                meanwhile()
            return [each.result() for each in running]
    finally:
        leave_call(token)
