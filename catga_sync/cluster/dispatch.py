"""From a message to the nodes: which may take it, which one gets it, and the failure when none can.

Rules of this file:
1. A call touches no store; candidates come from the snapshot.
2. What runs here runs in the caller's thread, and never over a socket.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from catga_sync.cluster.absence import absence
from catga_sync.cluster.batch import Batch, at_once
from catga_sync.cluster.failover import Failover, Plan
from catga_sync.cluster.local_node import SHARED_IDEMPOTENCY
from catga_sync.cluster.membership import Membership
from catga_sync.cluster.routers import Routers
from catga_sync.cluster.sender import Sender
from catga_sync.cluster.snapshot import Snapshot, not_preferred, reason_against
from catga_sync.context import CallContext, enter_call, leave_call
from catga_sync.errors import ConfigurationError, Delivery, ErrorCode, ends_process
from catga_sync.explanation import Explanation, Verdict
from catga_sync.mediator import Mediator
from catga_sync.messages import Event
from catga_sync.nodes import ClusterNode
from catga_sync.receiver.surroundings import Surroundings
from catga_sync.resilience.budget import RetryBudget
from catga_sync.resilience.ejection import Ejection
from catga_sync.results import INSIDE, CatgaResult, expired_before_start
from catga_sync.serialization import MessageType
from catga_sync.wire.call_path import LONGEST, full_nodes

__all__ = ["Dispatcher"]

#: Nodes, and the store in which all of them remember request ids, where that decides whether a request may run twice.
_Candidates = tuple[tuple[ClusterNode, ...], "str | None"]

_log = logging.getLogger(__name__)


class Dispatcher:
    """
    Brings messages to nodes. Thread-safe.

    Args:
        local: The handlers of this process.
        this: This node.
        membership: The other nodes.
        ejection: Those that are left out for their failures.
        budget: Shown by ``explain``.
        failover: Tries one node after the other.
        sender: Makes an attempt at a node.
        routers: Pick one of the candidates.
        surroundings: What the framework puts around a call that runs here.
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
        sender: Sender,
        routers: Routers,
        *,
        surroundings: Surroundings,
        timeout: float,
    ) -> None:
        self._local = local
        self._this = this
        self._membership = membership
        self._ejection = ejection
        self._budget = budget
        self._failover = failover
        self._sender = sender
        self._routers = routers
        self._surroundings = surroundings
        self._timeout = timeout
        # A cache, read and filled without a lock: the snapshot that was looked at, and the candidates in it by the
        # type, and whether it is handled here.
        self._found: tuple[Snapshot | None, dict[tuple[type, bool], _Candidates]] = (None, {})

    def send(self, request: Any, entry: MessageType, call: CallContext) -> CatgaResult[Any]:
        """Run a request of a type on whichever node may take it."""
        plan = self._plan(request, entry, call)
        if isinstance(plan, CatgaResult):
            return plan._with(request_id=call.request_id)
        result = self._failover.run(plan)
        return result if plan.store is None and result._request_id is not None else _for_caller(plan, result)

    def number_without_store(self, entry: MessageType, snapshot: Snapshot) -> int:
        """
        Return the number of candidates in a snapshot for a request that has a handler here.

        It is 0 where they are candidates with a common store: a request that may run twice only because of that names
        the store in its attempts.
        """
        if not entry.remote:
            return 1
        nodes = snapshot.candidates(entry.name, entry.contract, True)
        return len(nodes) if entry.idempotent or self._store_of(nodes) is None else 0

    def go_on(self, request: Any, call: CallContext, result: CatgaResult[Any]) -> CatgaResult[Any]:
        """Return the result of a call after a failed attempt here, with this result, in which no store was named."""
        entry = self._local.registry.ensure(type(request))
        plan = self._plan(request, entry, call)
        if isinstance(plan, CatgaResult):
            return result
        plan.store, plan.repeatable = None, entry.idempotent
        self._failover.note(plan, self._this, result, result.attempts[0].elapsed)
        return _for_caller(plan, self._failover.go_on(plan, result))

    def deliver_here(self, event: Event, call: CallContext) -> CatgaResult[None] | None:
        """Call the subscribers of this process, as the given call; None when there is none."""
        if not self._local.subscribes(type(event)):
            return None
        token = enter_call(call)
        try:
            return self._surroundings.run_here(lambda: self._local.deliver(event), type(event).__qualname__)
        finally:
            leave_call(token)

    def on_each(self, nodes: Sequence[ClusterNode], message: Any, call: CallContext) -> dict[str, CatgaResult[Any]]:
        """Run a message on each of these other nodes at the same time."""

        def one(node: ClusterNode) -> CatgaResult[Any]:
            left = call.remaining()
            return self._sender.send(node, message, self._timeout if left is None else left, call)

        return dict(zip([node.node_id for node in nodes], at_once(one, nodes), strict=True))

    def broadcast(self, entry: MessageType, request: Any, call: CallContext) -> dict[str, CatgaResult[Any]]:
        """Run a request on every other node that handles its type; a node that cannot take it has a failure."""
        self._membership.candidates(entry, here=False, call=call)  # one that has just come up is to be among them
        nodes = self._membership.look(call).addressees(entry.name, here=self._local.handles(entry.cls))
        reasons = {node.node_id: reason_against(node, entry.name, entry.contract) for node in nodes}
        results = self.on_each([node for node in nodes if reasons[node.node_id] is None], request, call)
        for node_id, reason in reasons.items():
            if reason is not None:
                results[node_id] = CatgaResult.failure(
                    f"node {node_id} cannot take {entry.name}: {reason}",
                    ErrorCode.UNAVAILABLE,
                    delivery=Delivery.NOT_EXECUTED,
                    metadata={INSIDE: True},
                )
        return results

    def batch(
        self, requests: Sequence[Any], entries: Sequence[MessageType], calls: Sequence[CallContext]
    ) -> list[CatgaResult[Any]]:
        """
        Run requests with one round trip a node; see ``batch.py``.

        Nodes that take no batches, and items that run here, are served one by one.
        """
        plans: dict[int, Plan] = {}
        results: dict[int, CatgaResult[Any]] = {}
        alike: dict[str, Plan | CatgaResult[Any]] = {}
        for index, (request, entry, call) in enumerate(zip(requests, entries, calls, strict=True)):
            # The calls have one path and one deadline, so those of one type have the same nodes to choose from.
            plan = alike.get(entry.name)
            if plan is None:
                plan = alike[entry.name] = self._plan(request, entry, call)
            elif isinstance(plan, Plan):
                plan = plan.of_another(request, call)
            if isinstance(plan, CatgaResult):
                results[index] = plan._with(request_id=call.request_id)
            else:
                plans[index] = plan
        done = Batch(plans, self._failover, self._sender).run()
        results.update((index, _for_caller(plans[index], result)) for index, result in done.items())
        return [results[index] for index in range(len(requests))]

    def explain(self, request: Any, call: CallContext) -> Explanation:
        """Return what ``send`` would do; nothing is sent, and no router's turn is used up but by its choice."""
        entry = self._local.registry.ensure(type(request))
        here = self._local.handles(entry.cls)
        full = full_nodes(call.chain)
        alone = (self._this,) if here else ()
        nodes = self._membership.candidates(entry, here, call) if entry.remote else alone
        usable = tuple(node for node in self._ejection.usable(nodes) if node.node_id not in full) if nodes else ()
        excluded = []
        for node in self._membership.look(call).nodes:
            reason = reason_against(node, entry.name, entry.contract) if entry.remote else "the type is local-only"
            if reason is None and node not in usable:
                reason = self._ejection.state(node) or not_preferred(node)
                reason = "it is on the path of this call and has no free thread" if node.node_id in full else reason
            if reason is not None:
                excluded.append(Verdict(node, reason))
        rival = self._membership.around.rival_of(self._this)
        if rival is not None:
            excluded.append(Verdict(rival, f"it has the id of this node and another endpoint, {rival.endpoint}"))
        if not here:
            excluded.append(Verdict(self._this, "this process has no handler for it"))
        left = call.remaining()
        chosen = self._look_up(entry, request, usable) if usable else None
        return Explanation(
            type_name=entry.name,
            router=entry.route or type(self._routers.default).__name__,
            candidates=usable,
            excluded=tuple(excluded),
            chosen=chosen,
            repeatable=entry.idempotent,
            timeout=self._timeout if left is None else left,
            budget=self._budget.left,
            note=None if usable else self._why_none(entry, call, bool(nodes)),
            way=None if chosen is None else self._sender.way_in_words(chosen),
        )

    def _why_none(self, entry: MessageType, call: CallContext, waiting: bool) -> str:
        if waiting:
            return "every node that handles it is on the path of this call and has no free thread"
        return self._absence(entry, call)[1] if entry.remote else (self._local.no_handler(entry.cls).error or "")

    def _plan(self, request: Any, entry: MessageType, call: CallContext) -> Plan | CatgaResult[Any]:
        """Return the plan of a request, or the failure of one that no node may take."""
        here = entry.cls in self._local.chains
        if entry.remote:
            snapshot, known = self._membership.known, self._found
            found = known[1].get((entry.cls, here)) if known[0] is snapshot else None
            nodes, store = self._candidates(entry, here, call, snapshot) if found is None else found
        elif here:
            nodes, store = (self._this,), None
        else:
            return self._local.no_handler(entry.cls)
        if call.chain and nodes:
            full = full_nodes(call.chain) - {self._this.node_id}
            if len(call.chain) >= LONGEST or (full and full.issuperset(node.node_id for node in nodes)):
                return self._would_wait_for_itself(entry, call)
            if full:
                nodes = tuple(node for node in nodes if node.node_id not in full)
                store = None if entry.idempotent else self._store_of(nodes)
        if not nodes:
            return self._no_candidate(entry, call)
        try:
            router = self._routers.default if entry.route is None else self._routers.of(entry)
        except ConfigurationError as exc:
            return CatgaResult.failure(
                f"the route of {entry.name} is wrong: {exc}", ErrorCode.INTERNAL, delivery=Delivery.NOT_EXECUTED
            )
        plan = Plan(request, nodes, call, router, entry.idempotent or store is not None, store)
        deadline = call.deadline
        return plan if deadline is None or deadline.at > deadline.monotonic() else expired_before_start()

    def _candidates(self, entry: MessageType, here: bool, call: CallContext, snapshot: Snapshot | None) -> _Candidates:
        """Find the candidates for a request, and the store because of which it may run twice; None for no store."""
        known = self._found
        if known[0] is not snapshot:
            known = self._found = (snapshot, {})
        nodes = self._membership.candidates(entry, here, call)
        found = (nodes, None if entry.idempotent else self._store_of(nodes))
        if nodes and snapshot is not None:
            known[1][entry.cls, here] = found
        return found

    def _store_of(self, nodes: Sequence[ClusterNode]) -> str | None:
        """Return the identity of the store in which all of these remember request ids; None where there is none."""
        if len(nodes) < 2 or not self._failover.repeats:
            return None
        store = next((each for each in nodes[0].features if each.startswith(SHARED_IDEMPOTENCY)), None)
        if store is None or not all(store in node.features for node in nodes):
            return None
        return store.removeprefix(SHARED_IDEMPOTENCY)

    def _look_up(self, entry: MessageType, request: Any, nodes: tuple[ClusterNode, ...]) -> ClusterNode | None:
        """Return the node that the router would take, and withdraw the choice; None when it takes none."""
        try:
            router = self._routers.of(entry)
            node = router.route(request, nodes)
            withdraw = getattr(router, "withdraw", None)
            if withdraw is not None:
                withdraw(node, request)
            return node if node in nodes else None
        except BaseException as exc:
            if ends_process(exc):
                raise
            _log.exception("the router failed")
            return None

    def _would_wait_for_itself(self, entry: MessageType, call: CallContext) -> CatgaResult[Any]:
        way = " -> ".join(name for name, _ in call.chain)
        return CatgaResult.failure(
            f"{entry.name} would wait for itself: the call has come over {way} -> {self._this.node_id}, and the nodes "
            f"that handle it have no free thread left; break the loop, or give them more threads",
            ErrorCode.FAILED_PRECONDITION,
            delivery=Delivery.NOT_EXECUTED,
        )

    def _no_candidate(self, entry: MessageType, call: CallContext) -> CatgaResult[Any]:
        code, text = self._absence(entry, call)
        return CatgaResult.failure(text, code, delivery=Delivery.NOT_EXECUTED, metadata={INSIDE: True})

    def _absence(self, entry: MessageType, call: CallContext) -> tuple[ErrorCode, str]:
        """Return the code and the text for a type that no node can take now."""
        others = self._membership.look(call).nodes
        able = [node for node in others if node.may_handle(entry.name)]
        reasons = {node.node_id: reason_against(node, entry.name, entry.contract) or "not now" for node in able}
        here = [each.name for each in self._local.handled if each.remote]
        return absence(entry.name, others, reasons, self._membership.around, self._this, here)


def _for_caller(plan: Plan, result: CatgaResult[Any]) -> CatgaResult[Any]:
    """Return the result for the caller: with the call's id, and a note where a shared store allowed further tries."""
    if result._request_id is None:
        result = result._with(request_id=plan.call.request_id)
    if plan.store is None:
        return result
    return result._with(metadata=MappingProxyType({**result.metadata, "idempotency": "shared"}))
