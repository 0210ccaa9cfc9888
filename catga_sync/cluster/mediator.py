"""The cluster mediator: the same calls as the local one, run by whichever node has the handler.

Rules of this file:
1. Constructing one starts nothing. The background thread starts with the first call, or when a receiver is attached.
   It holds the mediator weakly: one that is dropped leaves the cluster, and its thread ends.
2. The way of a call touches no store: candidates come from the snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from catga_sync.async_sends import AsyncSends
from catga_sync.cluster.dispatch import Dispatcher
from catga_sync.cluster.events import ClusterEvent, EventBoard
from catga_sync.cluster.exits import warn_of_unclosed
from catga_sync.cluster.lifecycle import Lifecycle
from catga_sync.cluster.local_node import LocalNode
from catga_sync.cluster.membership import Membership
from catga_sync.cluster.presence import Presence
from catga_sync.cluster.send_behaviors import SendBehaviors
from catga_sync.cluster.sender import Sender
from catga_sync.cluster.short_way import ShortWay
from catga_sync.context import CallContext, nested_call
from catga_sync.deadline import check_timeout
from catga_sync.explanation import Explanation
from catga_sync.handlers import NO_FUNCTION, RequestHandler
from catga_sync.hooks import Hooks, SendDetails, made
from catga_sync.mediator import Mediator
from catga_sync.messages import Event, Request, require_event, require_request
from catga_sync.nodes import ClusterNode, NodeStatus
from catga_sync.options import ClusterOptions
from catga_sync.pipeline import Behavior
from catga_sync.receiver.receiver import Receiver
from catga_sync.receiver.surroundings import Surroundings
from catga_sync.resilience.ejection import Ejection
from catga_sync.results import CatgaResult
from catga_sync.serialization import MessageRegistry, MessageType

__all__ = ["ClusterMediator"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class ClusterMediator(AsyncSends):
    """
    Send requests to the handler, here or on another node. Thread-safe; a context manager that closes itself.

    Made by ``create_cluster``, which documents the options. Every call that a ``Mediator`` has, this has too, with
    the same meaning; ``handler``, ``register`` and the like go to the local one.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        local: Mediator,
        options: ClusterOptions,
        *,
        local_node: LocalNode,
        surroundings: Surroundings,
        hooks: Hooks,
        events: EventBoard,
        membership: Membership,
        ejection: Ejection,
        presence: Presence | None,
        dispatcher: Dispatcher,
        short_way: ShortWay,
        sender: Sender,
        receiver: Receiver,
        lifecycle: Lifecycle,
    ) -> None:
        super().__init__(options.request_timeout)
        self.local = local
        #: The message types.
        self.registry: MessageRegistry = local.registry
        self.options = options
        #: Responds to the requests of other nodes; what the integrations hand their requests to.
        self.receiver = receiver
        #: What the framework puts around the handlers that run here; the integrations add to it.
        self.surroundings = surroundings
        self._local_node = local_node
        self._hooks = hooks
        self._send_watchers = hooks.send
        self._events = events
        self._membership = membership
        self._ejection = ejection
        self._presence = presence
        self._dispatcher = dispatcher
        self._short_way = short_way
        self._sender = sender
        self._lifecycle = lifecycle
        self._timeout = options.request_timeout
        self._behaviors = SendBehaviors(
            self.registry, dispatcher.send, partial(nested_call, self._timeout, self._local_node.node_id)
        )
        events.listen(hooks.tell)
        local.watch_handlers(hooks)
        for hook in options.hooks:
            hooks.tell_added(hook, self)

    def handler(self, function: F = NO_FUNCTION) -> F:
        """See ``Mediator.handler``."""
        self.local.register_by_annotation(function, depth=1)
        return function

    def register(self, request_type: type[Request[T]], handler: RequestHandler[T]) -> None:
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
        self._behaviors.add(behavior)

    def add_hook(self, hook: object) -> None:
        """
        Add a hook; it watches what begins from now on, as if it had been given with ``hooks=``.

        It watches the sends that start here, the attempts of each send, publish and broadcast, the handlers
        and subscribers that run here, for messages from other nodes as well, the exchanges to which this node has
        responded, and the events of the cluster.

        Args:
            hook: Has some of the methods of ``catga_sync.hooks.Hook``. To add the same one again changes nothing.

        Raises:
            RegistrationError: It has none of the methods of a hook.
        """
        self._hooks.add(hook)
        self.local.watch_handlers(self._hooks, watching=True)
        if self.closed:  # or meanwhile
            self.local.watch_handlers(self._hooks, watching=False)
        self._hooks.tell_added(hook, self)

    def send(
        self, request: Request[T], *, timeout: float | None = None, context: Mapping[str, str] | None = None
    ) -> CatgaResult[T]:
        """
        Run the handler of a request, on whichever node has it, and return its result.

        Args:
            request: The request.
            timeout: Seconds for the whole call, all attempts included. None means ``request_timeout``, or the rest of
                the time of the call in which this one is made. A handler that runs in this process is never
                interrupted.

            context:
                Entries of text for the handler and all that it sends in turn; see ``Mediator.send``.

        Returns:
            The result; whatever happens at run time is in it.

        Raises:
            TypeError: ``request`` is no ``Request``, ``timeout`` no number, or ``context`` no mapping of text to text.
            ValueError: ``context`` is more than a call carries.
        """
        behaves = self._behaviors.added
        if not behaves and context is None and (result := self._short_way.send(request, timeout)) is not None:
            return result
        # On the way of every call: what would be functions elsewhere is written out here.
        is_request = isinstance(request, Request)
        if not is_request:
            require_request(request)
        # A class that cannot be registered is a mistake of the caller: raised before a behaviour can see it.
        entry = self.registry.ensure(type(request))
        call = nested_call(
            self._timeout if timeout is None else check_timeout(timeout), self._local_node.node_id, context
        )
        if not self._lifecycle.is_running():
            self._lifecycle.ensure_membership(call)
        watched = behaves or self._send_watchers
        return (self._send_watched if watched else self._dispatcher.send)(request, entry, call)

    def send_batch(
        self,
        requests: Iterable[Request[Any]],
        *,
        timeout: float | None = None,
        context: Mapping[str, str] | None = None,
    ) -> list[CatgaResult[Any]]:
        """
        Send each request; return the results in the same order. Each succeeds, fails and fails over alone.

        Args:
            requests: The requests.
            timeout: Seconds for all of them together; None as for ``send``.
            context: Of each of them, as for ``send``.
        """
        items = [require_request(request) for request in requests]
        entries = [self.registry.ensure(type(item)) for item in items]
        call = self._begin(timeout, context)
        calls = call.parts(len(items), self._timeout)
        if self._behaviors.added:
            # Behaviours are written for one call in its caller's thread, so with them every item is one.
            return [self._send_watched(*item) for item in zip(items, entries, calls, strict=True)]
        if not self._send_watchers:
            return self._dispatcher.batch(items, entries, calls)
        details = [SendDetails(entry.name, item, True, {}) for entry, item in zip(entries, calls, strict=True)]
        send = self._dispatcher.batch
        return self._hooks.watch_batch(self._send_watchers, details, lambda calls: send(items, entries, calls))

    def send_stream(
        self, requests: Iterable[Request[Any]], *, context: Mapping[str, str] | None = None
    ) -> Iterator[CatgaResult[Any]]:
        """Send each request when its result is asked for; yield the results in order. Holds one at a time."""
        return (self.send(request, context=context) for request in requests)

    def publish(self, event: Event, *, context: Mapping[str, str] | None = None) -> dict[str, CatgaResult[None]]:
        """
        Call every subscriber of the event, on every node that has one.

        Returns:
            Node id -> result, one for each node with subscribers. A node that could not be reached is in it
            as a failure whose ``delivery`` says whether its subscribers may have run all the same.

        Raises:
            TypeError: ``event`` is no ``Event``, or ``context``, as in ``send``, is wrong.
            ValueError: ``context`` is more than a call carries.
        """
        entry = self.registry.ensure(type(require_event(event)))
        call = self._begin(None, context)
        nodes = self._membership.look(call).subscribers(entry.name) if entry.remote else []
        results = self._dispatcher.on_each(nodes, event, call)
        if (here := self._dispatcher.deliver_here(event, call)) is not None:
            results[self._local_node.node_id] = here
        return results

    def publish_batch(
        self, events: Iterable[Event], *, context: Mapping[str, str] | None = None
    ) -> list[dict[str, CatgaResult[None]]]:
        """Publish each event in order; return what ``publish`` returns for each."""
        return [self.publish(event, context=context) for event in events]

    def broadcast(
        self, request: Request[T], *, timeout: float | None = None, context: Mapping[str, str] | None = None
    ) -> dict[str, CatgaResult[T]]:
        """
        Run the request on every node that handles its type.

        Returns:
            Node id -> result; empty when no node handles it. A node that handles it and cannot take it now, since it
            is going offline, say, is in it as a failure that gives the reason.

        Raises:
            TypeError, ValueError: See ``send``.
        """
        entry = self.registry.ensure(type(require_request(request)))
        call = self._begin(timeout, context)
        results = self._dispatcher.broadcast(entry, request, call) if entry.remote else {}
        if self.local.handles(entry.cls):
            left = call.remaining()
            left = self._timeout if left is None else left
            results[self._local_node.node_id] = self._sender.send(self._local_node.this, request, left, call)
        return results

    def explain(self, request: Request[Any], *, timeout: float | None = None) -> Explanation:
        """
        Return what ``send`` would do with the request and why: candidates, those left out with the reason, the choice.

        Sends nothing. ``str()`` of the result is readable.

        Raises:
            TypeError: ``request`` is no ``Request``, or ``timeout`` no number.
        """
        explained = self._dispatcher.explain(require_request(request), self._begin(timeout, None))
        return replace(explained, troubles=self._troubles())

    @property
    def node(self) -> ClusterNode:
        """This node as it is now."""
        return self._local_node.describe()

    @property
    def trouble(self) -> str | None:
        """
        Why this node is not visible to others, though it is to serve: the request, its outcome, and the cure.

        None when it is visible, when it is a pure client, and before this process is marked as a server.
        """
        return None if self._presence is None else self._presence.trouble

    def nodes(self) -> tuple[ClusterNode, ...]:
        """
        Return the nodes that are not offline, ordered by id, this one too when it serves.

        The first call fetches the first snapshot, which takes as long as the store takes.
        """
        self._lifecycle.ensure_membership()
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

    def attach(self, under_test: Callable[[], bool] | None = None, *, threads: int | None = None) -> None:
        """
        Mark this process as a server. The integrations call it when the receiver is added to an app.

        Args:
            under_test: Returns whether the app is being tested; called repeatedly. None: unknown.
            threads: Received calls that its server runs at once. None: unknown.
        """
        if threads is not None:
            self._local_node.serve_with(threads)
        self._lifecycle.attach(under_test)
        self.start()

    def start(self) -> ClusterMediator:
        """Start the background thread now, not with the first call; a node with an endpoint is to serve."""
        self._lifecycle.start()
        self.local.watch_handlers(self._hooks)
        return self

    def drain(self, timeout: float | None = None) -> bool:
        """
        Go offline without losing a call; afterwards the process can be ended.

        The other nodes are notified first and get time to notice, while calls still run here; then new ones are refused
        in a way that sends them elsewhere, and those that run are waited for.

        Args:
            timeout: Seconds for all of it; None means ``request_timeout``.

        Returns:
            Whether nothing was running any more at the end.
        """
        return self._lifecycle.drain(self._timeout if timeout is None else check_timeout(timeout))

    def close(self) -> None:
        """
        Leave the cluster and let go of the thread and the connections. Safe to call twice.

        Its hooks no longer watch the handlers of the local mediator, which other mediators may share. Of what is still
        sent to them from here, hooks are told ``on_send`` and ``on_attempt`` alone.
        """
        try:
            super().close()
            self._lifecycle.close()
        finally:
            self.local.watch_handlers(self._hooks, watching=False)

    def __enter__(self) -> ClusterMediator:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        lifecycle = getattr(self, "_lifecycle", None)
        if lifecycle is not None and lifecycle.is_running() and not lifecycle.has_app:
            warn_of_unclosed(self._local_node.node_id, self)

    @property
    def closed(self) -> bool:
        """Whether it has left the cluster; an app that gets it opens it again."""
        return self._local_node.closed

    def _begin(self, timeout: float | None, context: Mapping[str, str] | None) -> CallContext:
        """Return the call that begins now, once the nodes of the cluster are known."""
        seconds = self._timeout if timeout is None else check_timeout(timeout)
        call = nested_call(seconds, self._local_node.node_id, context)
        self._lifecycle.ensure_membership(call)
        return call

    def _send_watched(self, request: Request[T], entry: MessageType, call: CallContext) -> CatgaResult[T]:
        """Send a request with hooks and behaviours around it."""
        send = self._behaviors.send if self._behaviors.added else self._dispatcher.send
        details = made(SendDetails, (entry.name, call, False, {}))
        return self._hooks.watch(self._send_watchers, details, send, request, entry)

    def _troubles(self) -> tuple[str, ...]:
        own = () if self.trouble is None else (f"this node is not visible to other nodes: {self.trouble}",)
        return (*own, *(f"{node_id} does not describe itself: {text}" for node_id, text in self._membership.troubles))
