"""The cluster mediator: the same calls as the local one, answered by whichever node has the handler.

Rules of this file:
1. Constructing one starts nothing. The background thread starts with the first call, or when a receiver is attached.
   It holds the mediator weakly: one that is dropped leaves the cluster, and its thread ends.
2. The way of a call touches no store: candidates come from the snapshot.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from catga_sync.cluster.background import Background
from catga_sync.cluster.dispatch import Dispatcher
from catga_sync.cluster.events import ClusterEvent, EventBoard
from catga_sync.cluster.exits import close_at_exit, warn_of_unclosed
from catga_sync.cluster.housekeeping import Upkeep
from catga_sync.cluster.membership import Membership
from catga_sync.cluster.presence import Presence
from catga_sync.context import CallContext, enter_call, leave_call, new_request_id
from catga_sync.deadline import check_timeout
from catga_sync.errors import RegistrationError
from catga_sync.explanation import Explanation
from catga_sync.handlers import NO_FUNCTION
from catga_sync.mediator import Mediator, nested_call, require_event
from catga_sync.messages import Event, Request
from catga_sync.nodes import ClusterNode, NodeStatus
from catga_sync.options import ClusterOptions
from catga_sync.pipeline import Behavior, Handler, build_chain
from catga_sync.receiver.receiver import Receiver
from catga_sync.receiver.surroundings import Surroundings
from catga_sync.resilience.ejection import Ejection
from catga_sync.results import CatgaResult
from catga_sync.serialization import MessageRegistry

__all__ = ["ClusterMediator"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


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
        dispatcher: Dispatcher,
        membership: Membership,
        presence: Presence | None,
        ejection: Ejection,
        events: EventBoard,
        receiver: Receiver,
        upkeep: Upkeep,
        surroundings: Surroundings,
        describe: Callable[[], ClusterNode],
        let_go: Callable[[], object],
        tell_of_tests: list[Callable[[], bool]],
        check_keys: Callable[[], object],
        options: ClusterOptions,
    ) -> None:
        self.local = local
        self.options = options
        #: Answers the requests of other nodes; what the integrations hand their requests to.
        self.receiver = receiver
        #: What the framework puts around the handlers that run here; the integrations add to it.
        self.surroundings = surroundings
        self._this = this
        self._dispatcher = dispatcher
        self._membership = membership
        self._presence = presence
        self._ejection = ejection
        self._events = events
        self._upkeep = upkeep
        self._describe = describe
        self._check_keys = check_keys
        self._timeout = options.request_timeout
        self._behaviors: tuple[Behavior, ...] = ()
        self._chain = self._chain_of(())
        self._lock = threading.Lock()
        self.closed = False  # an app that gets it opens it again
        self._tell_of_tests = tell_of_tests
        #: Whether an app has it, and it ends with the app.
        self._has_app = False
        self._background = Background(
            f"catga-cluster-{this.node_id}",
            upkeep.step,
            in_child=self._in_child,
            in_parent=self._in_parent,
            at_end=let_go,
        )

    # -- registration goes to the local mediator ------------------------------------------------------------------

    @property
    def registry(self) -> MessageRegistry:
        """The message types."""
        return self.local.registry

    def handler(self, function: F = NO_FUNCTION) -> F:
        """See ``Mediator.handler``."""
        self.local.register_by_annotation(function, depth=1)
        return function

    def register(self, request_type: type[Request[Any]], handler: Any) -> None:
        """See ``Mediator.register``."""
        self.local.register(request_type, handler)

    def subscriber(self, function: F = NO_FUNCTION) -> F:
        """See ``Mediator.subscriber``."""
        self.local.subscribe_by_annotation(function, depth=1)
        return function

    def subscribe(self, event_type: type[Event], function: Callable[[Any], Any]) -> None:
        """See ``Mediator.subscribe``."""
        self.local.subscribe(event_type, function)

    def add_behavior(self, behavior: Behavior) -> None:
        """Put a behaviour around every send that starts here, whichever node runs it. The first one is outermost."""
        if not callable(behavior):
            raise RegistrationError(f"behavior: give a callable behavior(next_) -> handler, not {behavior!r}")
        with self._lock:
            behaviors = (*self._behaviors, behavior)
            self._behaviors, self._chain = behaviors, self._chain_of(behaviors)

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
        # A class that cannot be registered is a mistake of the caller: told before a behaviour can take it for another.
        self.registry.ensure(type(self.local.require_request(request)))
        return self._send(request, nested_call(self._timeout if timeout is None else check_timeout(timeout)))

    def send_batch(self, requests: Iterable[Request[Any]], *, timeout: float | None = None) -> list[CatgaResult[Any]]:
        """
        Send each request; return the results in the same order. Each succeeds, fails and fails over alone.

        Args:
            requests: The requests.
            timeout: Seconds for all of them together; None as for ``send``.
        """
        items = [self.local.require_request(request) for request in requests]
        call = nested_call(self._timeout if timeout is None else check_timeout(timeout))
        token = enter_call(call)
        try:
            self._look_after_cluster()
            if not self._behaviors:
                return self._dispatcher.batch(items, call)
            # Behaviours are written for one call in its caller's thread, so with them every item is one.
            return [self._send(item, call.nested(new_request_id(), self._timeout)) for item in items]
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
        token = enter_call(call)
        try:
            self._look_after_cluster()
            nodes = self._membership.snapshot.subscribers(entry.name) if entry.remote else []
            results = self._dispatcher.on_each(nodes, event, call)
            here = self._dispatcher.deliver_here(event, call)
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
            Node id -> result; empty when no node handles it. A node that handles it and cannot take it now, since it
            is going offline, say, is in it as a failure that gives the reason.

        Raises:
            TypeError: ``request`` is no ``Request``, or ``timeout`` no number.
        """
        entry = self.registry.ensure(type(self.local.require_request(request)))
        call = nested_call(self._timeout if timeout is None else check_timeout(timeout))
        token = enter_call(call)
        try:
            self._look_after_cluster()
            results = self._dispatcher.broadcast(entry, request, call) if entry.remote else {}
        finally:
            leave_call(token)
        if self.local.handles(entry.cls):
            results[self._this.node_id] = self._dispatcher.here(request, call)
        return results

    def explain(self, request: Request[Any], *, timeout: float | None = None) -> Explanation:
        """
        Return what ``send`` would do with the request and why: candidates, those left out with the reason, the choice.

        Sends nothing. ``str()`` of the answer is readable.

        Raises:
            TypeError: ``request`` is no ``Request``, or ``timeout`` no number.
        """
        self.local.require_request(request)
        self._look_after_cluster()
        call = nested_call(self._timeout if timeout is None else check_timeout(timeout))
        return replace(self._dispatcher.explain(request, call), troubles=self._troubles())

    # -- the cluster ----------------------------------------------------------------------------------------------

    @property
    def node(self) -> ClusterNode:
        """This node as it is now."""
        return self._describe()

    @property
    def trouble(self) -> str | None:
        """
        Why this node is not visible to others, though it means to be: what was asked, what came back, and the cure.

        None when it is visible, when it is a pure client, and when this process has not meant to serve so far.
        """
        return None if self._presence is None else self._presence.trouble

    def nodes(self) -> tuple[ClusterNode, ...]:
        """
        Return the nodes that are not offline, ordered by id, this one too when it serves.

        The first call fetches the first snapshot, which takes as long as the store takes.
        """
        self._look_after_cluster()
        found = [
            replace(
                node,
                last_heartbeat=self._membership.last_heartbeat(node.node_id),
                status=NodeStatus.FAULTED if self._ejection.is_ejected(node) else node.status,
            )
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

    def attach(self, under_test: Callable[[], bool] | None = None) -> None:
        """
        Make this process one that means to serve. The integrations call it when the receiver is added to an app.

        Args:
            under_test: Tells whether the app is being tested; asked again and again. None means that it cannot tell.
        """
        if under_test is not None:
            self._tell_of_tests.append(under_test)
        self._has_app = True
        self.start()

    def start(self) -> ClusterMediator:
        """Start the background thread now, not with the first call; a node with an endpoint means to serve."""
        self._check_keys()
        self.closed = False
        if self._presence is not None:
            self._presence.attach()
            close_at_exit(self)
        self._background.reopen()
        self._background.ensure()
        return self

    def drain(self, timeout: float | None = None) -> bool:
        """
        Go offline without losing a call; afterwards the process can be ended.

        The other nodes are told first and get time to notice, while calls still run here; then new ones are refused
        in a way that sends them elsewhere, and those that run are waited for.

        Args:
            timeout: Seconds for all of it; None means ``request_timeout``.

        Returns:
            Whether nothing was running any more at the end.
        """
        self._background.ensure()
        seconds = self._timeout if timeout is None else check_timeout(timeout)
        return self._upkeep.drain(seconds)

    def close(self) -> None:
        """Leave the cluster and let go of the thread and the connections. Safe to call twice."""
        self.closed = True
        self._background.stop()
        self._upkeep.close()

    def __enter__(self) -> ClusterMediator:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        background = getattr(self, "_background", None)
        if background is not None and background.running and not self._has_app:
            warn_of_unclosed(self._this.node_id, self)

    def notice_request(self) -> None:
        """Take note that this process serves: the receiver calls it at the start of every request."""
        # First: in a process that was forked in C, this is where that is noticed.
        if not self._background.running:
            self._background.ensure()
        presence = self._presence
        if presence is not None and presence.serves_first():
            close_at_exit(self)

    def _look_after_cluster(self) -> None:
        """Have the background thread do it; where there is none, look who is there, as the current call."""
        if self._background.running or self._background.ensure() or self.closed:
            return
        self._membership.refresh(self._membership.refresh_interval)

    # -- one send -------------------------------------------------------------------------------------------------

    def _chain_of(self, behaviors: tuple[Behavior, ...]) -> Handler:
        def answers_none(request: Any) -> bool:
            return self.local.registry.ensure(type(request)).answers_none

        return build_chain(self._dispatcher.forward, behaviors, "the call", answers_none, sends=True)

    def _send(self, request: Request[T], call: CallContext) -> CatgaResult[T]:
        token = enter_call(call)
        try:
            if not self._background.running:
                self._look_after_cluster()
            result: CatgaResult[T] = self._chain(request)
        finally:
            leave_call(token)
        return result if result._request_id is not None else result._with(request_id=call.request_id)

    def _troubles(self) -> tuple[str, ...]:
        own = () if self.trouble is None else (f"this node is not visible to other nodes: {self.trouble}",)
        return (*own, *(f"{node_id} does not describe itself: {text}" for node_id, text in self._membership.troubles))

    # -- the background thread ------------------------------------------------------------------------------------

    def _in_parent(self) -> bool:
        return self._presence is None or self._presence.goes_on_after_fork()

    def _in_child(self) -> bool:
        self._lock = threading.Lock()
        self._upkeep.forget()
        self._dispatcher.forget()
        return self._presence is not None and self._presence.attached
