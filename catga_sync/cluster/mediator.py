"""The cluster mediator: the same calls as the local one, answered by whichever node has the handler.

Rules of this file:
1. Constructing one starts nothing. The background thread starts with the first call, or when a receiver is attached.
2. The way of a call touches no store: candidates come from the snapshot.
"""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

from catga_sync.cluster.background import Background
from catga_sync.cluster.events import ClusterEvent, EventBoard
from catga_sync.cluster.failover import Failover
from catga_sync.cluster.membership import Membership
from catga_sync.cluster.presence import Presence
from catga_sync.context import CallContext, current_call, enter_call, leave_call, new_request_id
from catga_sync.deadline import check_timeout
from catga_sync.errors import Delivery, ErrorCode
from catga_sync.mediator import Mediator, expired_before_start, nested_call, require_event
from catga_sync.messages import Event, Request
from catga_sync.nodes import ClusterNode, NodeRecord
from catga_sync.pipeline import Behavior, build_chain
from catga_sync.receiver import Receiver
from catga_sync.results import CatgaResult
from catga_sync.routing.base import Router
from catga_sync.serialization import MessageRegistry, MessageType
from catga_sync.transport.base import RemoteInvoker

__all__ = ["ClusterMediator"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

#: The oldest snapshot, in seconds, on which "nobody handles this" is answered.
_FRESH = 0.1
#: Calls at once that one ``broadcast`` or ``publish`` makes.
_FAN_OUT = 16

_log = logging.getLogger(__name__)


class ClusterMediator:
    """
    Send requests to the handler, here or on another node. Thread-safe; a context manager that closes itself.

    Made by ``create_cluster``, which documents the options. Every call that a ``Mediator`` has, this has too, with
    the same meaning; ``handler``, ``register`` and the like go to the local one.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        local: Mediator,
        *,
        this: ClusterNode,
        membership: Membership,
        presence: Presence | None,
        events: EventBoard,
        router: Router,
        routers: Callable[[str], Router],
        failover: Failover,
        invoker: RemoteInvoker,
        receiver: Callable[[ClusterMediator], Receiver],
        request_timeout: float,
        close_discovery: Callable[[], None],
    ) -> None:
        self.local = local
        self._this = this
        self._membership = membership
        self._presence = presence
        self._events = events
        self._router = router
        self._routers = routers
        self._failover = failover
        self._invoker = invoker
        self._tidy: Callable[[], None] | None = getattr(invoker, "close_stale", None)
        self._timeout = request_timeout
        self._close_discovery = close_discovery
        self._behaviors: tuple[Behavior, ...] = ()
        self._chain = build_chain(self._forward, (), "the call")
        self._lock = threading.Lock()
        self._exit_is_watched = False
        self._background = Background(
            f"catga-cluster-{this.node_id}", self._step, in_child=self._in_child, in_parent=self._in_parent
        )
        #: Answers the requests of other nodes; what the integrations hand their requests to.
        self.receiver = receiver(self)

    # -- registration goes to the local mediator ------------------------------------------------------------------

    @property
    def registry(self) -> MessageRegistry:
        """The message types."""
        return self.local.registry

    def handler(self, function: F) -> F:
        """See ``Mediator.handler``."""
        self.local.register_by_annotation(function, depth=1)
        return function

    def register(self, request_type: type[Request[Any]], handler: Any) -> None:
        """See ``Mediator.register``."""
        self.local.register(request_type, handler)

    def subscriber(self, function: F) -> F:
        """See ``Mediator.subscriber``."""
        self.local.subscribe_by_annotation(function, depth=1)
        return function

    def subscribe(self, event_type: type[Event], function: Callable[[Any], Any]) -> None:
        """See ``Mediator.subscribe``."""
        self.local.subscribe(event_type, function)

    def add_behavior(self, behavior: Behavior) -> None:
        """Put a behaviour around every send that starts here, whichever node runs it. The first one is outermost."""
        with self._lock:
            self._behaviors = (*self._behaviors, behavior)
            self._chain = build_chain(self._forward, self._behaviors, "the call")

    # -- calls ----------------------------------------------------------------------------------------------------

    def send(self, request: Request[T], *, timeout: float | None = None) -> CatgaResult[T]:
        """
        Run the handler of a request, on whichever node has it, and return its result.

        Args:
            request:
                The request.

            timeout:
                Seconds for the whole call, all tries included. None means ``request_timeout``, or what is left of the
                call in which this one is made. A handler that runs in this process is never interrupted.

        Returns:
            The result; whatever happens at run time is in it.

        Raises:
            TypeError: ``request`` is no ``Request``, or ``timeout`` no number.
        """
        self.local.require_request(request)
        return self._send(request, nested_call(self._timeout if timeout is None else check_timeout(timeout)))

    def send_batch(self, requests: Iterable[Request[Any]], *, timeout: float | None = None) -> list[CatgaResult[Any]]:
        """
        Send each request; return the results in the same order. Each succeeds, fails and fails over alone.

        Args:
            requests: The requests.
            timeout: Seconds for all of them together; None as for ``send``.
        """
        items = [self.local.require_request(request) for request in requests]
        batch = nested_call(self._timeout if timeout is None else check_timeout(timeout))
        token = enter_call(batch)
        try:
            return [self._send(request, batch.nested(new_request_id(), self._timeout)) for request in items]
        finally:
            leave_call(token)

    def send_stream(self, requests: Iterable[Request[Any]]) -> Iterator[CatgaResult[Any]]:
        """Send each request when its result is asked for; yield the results in order. Holds one at a time."""
        return (self.send(request) for request in requests)

    def publish(self, event: Event) -> dict[str, CatgaResult[None]]:
        """
        Call every subscriber of the event, on every node that has one.

        Returns:
            Node id -> result, one for each node with subscribers. A node that could not be told is in it as a
            failure whose ``delivery`` says whether it may have been told all the same.

        Raises:
            TypeError: ``event`` is no ``Event``.
        """
        entry = self.registry.ensure(type(require_event(event)))
        call = nested_call(self._timeout)
        self._background.ensure()
        nodes = [
            node for node in self._membership.snapshot.nodes
            if entry.remote and node.subscribes is not None and entry.name in node.subscribes
        ]  # fmt: skip
        results = self._on_each(nodes, event, call)
        token = enter_call(call)
        try:
            here = self.local.deliver(event)
        finally:
            leave_call(token)
        if here is not None:
            results[self._this.node_id] = here
        return results

    def publish_batch(self, events: Iterable[Event]) -> list[dict[str, CatgaResult[None]]]:
        """Publish each event in order; return what ``publish`` returns for each."""
        return [self.publish(event) for event in events]

    def broadcast(self, request: Request[T], *, timeout: float | None = None) -> dict[str, CatgaResult[T]]:
        """
        Run the request on every node that handles its type.

        Returns:
            Node id -> result; empty when no node handles it.

        Raises:
            TypeError: ``request`` is no ``Request``, or ``timeout`` no number.
        """
        entry = self.registry.ensure(type(self.local.require_request(request)))
        call = nested_call(self._timeout if timeout is None else check_timeout(timeout))
        self._background.ensure()
        here = self.local.handles(entry.cls)
        others = [node for node in self._candidates(entry, here) if node.node_id != self._this.node_id]
        results = self._on_each(others, request, call)
        if here:
            results[self._this.node_id] = self.local.dispatch(request, call, self._this.node_id)
        return results

    # -- the cluster ----------------------------------------------------------------------------------------------

    @property
    def node(self) -> ClusterNode:
        """This node as it is now."""
        return replace(
            self._this,
            handles=frozenset(entry.name for entry in self.local.handled if entry.remote),
            subscribes=frozenset(entry.name for entry in self.local.subscribed if entry.remote),
            contracts={entry.name: entry.fingerprint for entry in self.local.handled if entry.remote},
            incarnation="" if self._presence is None else self._presence.incarnation,
        )

    def nodes(self) -> tuple[ClusterNode, ...]:
        """
        Return the nodes that are not offline, ordered by id; this one is among them when it serves.

        The first call fetches the first snapshot, which takes as long as the store takes.
        """
        self._background.ensure()
        found = [
            replace(node, last_heartbeat=self._membership.last_heartbeat(node.node_id))
            for node in self._membership.snapshot.nodes
        ]
        if self._presence is not None and self._presence.visible:
            found.append(self.node)
        return tuple(sorted(found, key=lambda node: node.node_id))

    def events(self) -> tuple[ClusterEvent, ...]:
        """Return the last events that this process noticed, 256 at most, the newest last."""
        return self._events.past()

    def on_event(self, listener: Callable[[ClusterEvent], object]) -> None:
        """Have ``listener`` called with every event, in the thread that notices it; it must be quick."""
        self._events.listen(listener)

    # -- life -----------------------------------------------------------------------------------------------------

    def attach(self) -> None:
        """Make this process one that means to serve. The integrations call it when the receiver is added to an app."""
        if self._presence is not None:
            self._presence.attached = True
            self._presence.hasten()
            self._watch_exit()
        self._background.reopen()
        self._background.ensure()

    def start(self) -> ClusterMediator:
        """Start the background thread now instead of with the first call; a node with an endpoint means to serve."""
        self.attach()
        return self

    def drain(self, timeout: float | None = None) -> bool:
        """
        Go offline without losing a call: leave the cluster, refuse new requests, wait for those that run.

        Args:
            timeout: Seconds to wait for them; None means ``request_timeout``.

        Returns:
            Whether nothing was running any more at the end.
        """
        self.receiver.drain()
        if self._presence is not None:
            self._presence.leave()
        return self.receiver.wait_idle(self._timeout if timeout is None else check_timeout(timeout))

    def close(self) -> None:
        """Leave the cluster and let go of the thread and the connections. Safe to call twice."""
        self._background.stop()
        if self._presence is not None:
            self._presence.leave()
        self._invoker.close()
        self._close_discovery()

    def __enter__(self) -> ClusterMediator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def describe(self) -> Mapping[str, Any]:
        """Return what this node says of itself at ``GET /catga/cluster/node``, as a JSON object."""
        return NodeRecord(self.node).to_mapping()

    def notice_request(self) -> None:
        """Take note that this process serves: the receiver calls it at the start of every request."""
        presence = self._presence
        if presence is not None and not presence.has_served:
            presence.has_served = True
            self._watch_exit()
        if not self._background.running:
            self._background.ensure()

    # -- one send -------------------------------------------------------------------------------------------------

    def _send(self, request: Request[T], call: CallContext) -> CatgaResult[T]:
        if not self._background.running:
            self._background.ensure()
        token = enter_call(call)
        try:
            result: CatgaResult[T] = self._chain(request)
        finally:
            leave_call(token)
        return result if result._request_id is not None else result._with(request_id=call.request_id)

    def _forward(self, request: Request[Any]) -> CatgaResult[Any]:
        call = current_call()
        if call is None:  # a behaviour has moved the call to a thread of its own, without its context
            call = nested_call(self._timeout)
        entry = self.registry.ensure(type(request))
        here = self.local.handles(entry.cls)
        if not entry.remote:
            return self._here(request, call) if here else self.local.no_handler(entry.cls)
        nodes = self._candidates(entry, here)
        if not nodes:
            return self._nobody(entry)
        if call.deadline is not None and call.deadline.expired:
            return expired_before_start()
        router = self._router if entry.route is None else self._routers(entry.route)
        return self._failover.run(request, entry, nodes, call, router, self._on)

    def _candidates(self, entry: MessageType, here: bool) -> tuple[ClusterNode, ...]:
        nodes = self._membership.snapshot.candidates(entry.name, here)
        if not nodes:
            # Perhaps the node has just come up: before saying that there is none, look at the store once more.
            self._membership.refresh(_FRESH)
            nodes = self._membership.snapshot.candidates(entry.name, here)
        return nodes

    def _on(self, node: ClusterNode, request: Any, timeout: float) -> CatgaResult[Any]:
        call = current_call() or nested_call(timeout)
        if node.node_id == self._this.node_id:
            return self._here(request, call)
        try:
            return self._invoker.invoke(node, request, timeout=timeout, request_id=call.request_id)
        except Exception:
            _log.exception("the invoker failed: request_id=%s node=%s", call.request_id, node.node_id)
            return CatgaResult.failure("the invoker failed; see the log", ErrorCode.INTERNAL, delivery=Delivery.UNKNOWN)

    def _here(self, request: Any, call: CallContext) -> CatgaResult[Any]:
        return self.local.dispatch(request, call, self._this.node_id)

    def _on_each(self, nodes: list[ClusterNode], message: Any, call: CallContext) -> dict[str, CatgaResult[Any]]:
        if not nodes:
            return {}

        def one(node: ClusterNode) -> CatgaResult[Any]:
            left = call.remaining()
            return self._on(node, message, self._timeout if left is None else left)

        token = enter_call(call)
        try:
            with ThreadPoolExecutor(min(len(nodes), _FAN_OUT), thread_name_prefix="catga-fan-out") as pool:
                running = {node.node_id: pool.submit(copy_context().run, one, node) for node in nodes}
                return {node_id: future.result() for node_id, future in running.items()}
        finally:
            leave_call(token)

    def _nobody(self, entry: MessageType) -> CatgaResult[Any]:
        others = self._membership.snapshot.nodes
        if others:
            names = ", ".join(node.node_id for node in others[:5]) + (", ..." if len(others) > 5 else "")
            return CatgaResult.failure(
                f"no node handles {entry.name}: register a handler with @mediator.handler here or on one of {names}",
                ErrorCode.UNIMPLEMENTED,
                delivery=Delivery.NOT_EXECUTED,
            )
        return CatgaResult.failure(
            f"no handler for {entry.name} here, and no other node is in the cluster: start one that has it, with the "
            f"same cluster_name and discovery",
            ErrorCode.UNAVAILABLE,
            delivery=Delivery.NOT_EXECUTED,
        )

    # -- the background thread ------------------------------------------------------------------------------------

    def _step(self) -> float:
        self._membership.refresh(ask=True)
        if self._tidy is not None:
            self._tidy()
        pause = self._membership.refresh_interval
        return pause if self._presence is None else min(pause, self._presence.step())

    def _in_parent(self) -> bool:
        presence = self._presence
        if presence is None or not presence.attached or presence.has_served:
            return True
        # Attached, and forking before any request: the parent of the servers (--preload), not one of them.
        presence.has_forked = True
        return False

    def _in_child(self) -> bool:
        presence = self._presence
        serves = presence is not None and presence.attached and not presence.has_served
        self._lock = threading.Lock()
        self._membership.forget()
        self.receiver.forget()
        if presence is not None:
            presence.forget()
            presence.attached = serves
        forget = getattr(self._invoker, "forget", None)
        if forget is not None:
            forget()
        return serves

    def _watch_exit(self) -> None:
        with self._lock:
            if self._exit_is_watched:
                return
            self._exit_is_watched = True
        # Weak: an interpreter that lives long and makes many mediators must not keep them all.
        mediator = weakref.ref(self)
        atexit.register(lambda: _leave(mediator()))


def _leave(mediator: ClusterMediator | None) -> None:
    if mediator is not None:
        mediator.close()
