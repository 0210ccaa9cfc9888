"""The local mediator: finds the handler of a request in this process and runs it.

Rules of this file:
1. The hot path is one dictionary look-up, the chain, a result. It takes no lock.
2. Registration takes the lock and swaps whole dictionaries, so that a running send never sees half of one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

from catga_sync import _fork
from catga_sync._suggestion import nearest
from catga_sync.async_sends import AsyncSends
from catga_sync.context import (
    CallContext,
    current_call,
    enter_call,
    leave_call,
    local_call,
    new_request_id,
    within_call,
)
from catga_sync.errors import Delivery, ErrorCode, RegistrationError
from catga_sync.explanation import Explanation, Verdict
from catga_sync.handlers import (
    NO_FUNCTION,
    RequestHandler,
    check_message_class,
    check_return_annotation,
    first_parameter,
    handler_function,
)
from catga_sync.hooks import Hooks, SendDetails, made
from catga_sync.local_steps import handle_step, local_step, sent_step
from catga_sync.messages import Event, Request, require_event, require_request
from catga_sync.nodes import ClusterNode
from catga_sync.pipeline import (
    Behavior,
    Handler,
    Step,
    WriteResponse,
    handler_step,
    run_subscribers,
    run_watched,
)
from catga_sync.results import CatgaResult, expired_before_start, succeeded
from catga_sync.serialization import MessageRegistry, MessageType

__all__ = ["Mediator"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Mediator(AsyncSends):
    """
    Run handlers and subscribers of this process. Thread-safe.

    Args:
        registry: The message types. None means a registry of its own.

    .. versionadded:: 0.1
    """

    #: Makes the outermost step of a local call; ``catga_sync.testing.transparent`` puts another one in its place.
    _local_step = staticmethod(local_step)

    def __init__(self, registry: MessageRegistry | None = None) -> None:
        super().__init__()
        self.registry = MessageRegistry() if registry is None else registry
        # Re-entrant: a behaviour that is put around handlers may add a hook.
        self._lock = threading.RLock()
        # Guarded by _lock for writing, swapped whole; read without it. The user's handler, and inside its behaviours.
        self._steps: dict[type, tuple[MessageType, Callable[[Any], Any], Handler]] = {}
        #: For a request that is sent here; a success may be the response itself, see ``pipeline.Step``.
        self.chains: dict[type, Step] = {}
        self._subscribers: dict[type, tuple[Handler, ...]] = {}
        self._behaviors: tuple[Behavior, ...] = ()
        self._hooks = Hooks()
        self._send_watchers = self._hooks.send
        self._handle_watchers = self._hooks.handle
        _fork.watch(self)

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self._lock = threading.RLock()

    def handler(self, function: F = NO_FUNCTION) -> F:
        """
        Register a function as the handler of the request type that its first parameter is annotated with.

        Returns:
            The function itself, so that this can be a decorator.

        Raises:
            RegistrationError: The annotation is missing or no ``Request``, the type has a handler already, or the
                function cannot be called with the request alone.
        """
        self.register_by_annotation(function, depth=1)
        return function

    def register_by_annotation(self, function: Callable[..., Any], depth: int = 0) -> None:
        """Do what ``handler`` does; ``depth`` frames up from the caller the annotation's local names are looked up."""
        found = first_parameter(function, Request, "mediator.register(TheRequest, function)", depth + 1)
        self.register(found, function)

    def register(self, request_type: type[Request[T]], handler: RequestHandler[T]) -> None:
        """
        Register the handler of a request type.

        Args:
            request_type: The class of the request.
            handler: A function ``(request)``, or an object with ``handle(request)``. It returns the response or a
                ``CatgaResult``, or raises.

        Raises:
            RegistrationError: The type has a handler already, cannot be written as JSON, or the handler is neither.
        """
        check_message_class(request_type, Request, "request_type")
        function = handler_function(handler)
        entry = self.registry.ensure(request_type)
        check_return_annotation(function, entry)
        with self._lock:
            if request_type in self._steps:
                raise RegistrationError(f"{entry.name} has a handler already; a request type has exactly one")
            handle = handle_step(entry, function, self._behaviors)
            self._steps = {**self._steps, request_type: (entry, function, handle)}
            self.chains = {**self.chains, request_type: self._chain_of(entry, function, handle)}

    def subscriber(self, function: F = NO_FUNCTION) -> F:
        """Register a function as a subscriber of the event type that its first parameter is annotated with."""
        self.subscribe_by_annotation(function, depth=1)
        return function

    def subscribe_by_annotation(self, function: Callable[..., Any], depth: int = 0) -> None:
        """Do what ``subscriber`` does; ``depth`` as for ``register_by_annotation``."""
        found = first_parameter(function, Event, "mediator.subscribe(TheEvent, function)", depth + 1)
        self.subscribe(found, function)

    def subscribe(self, event_type: type[Event], function: Callable[[Any], Any]) -> None:
        """
        Have ``function`` called with every event of this type. A type may have any number of subscribers.

        Raises:
            RegistrationError: ``event_type`` is no subclass of ``Event``, or ``function`` cannot be called.
        """
        check_message_class(event_type, Event, "event_type")
        entry = self.registry.ensure(event_type)
        step = handler_step(handler_function(function), entry.name, None, True)
        with self._lock:
            others = self._subscribers.get(event_type, ())
            self._subscribers = {**self._subscribers, event_type: (*others, step)}

    def add_behavior(self, behavior: Behavior) -> None:
        """
        Put a behaviour around every handler. The first one added is the outermost.

        Args:
            behavior: ``behavior(next_)`` returns a handler ``(request) -> result`` that may call ``next_(request)``. It
                is called once per request type, when the chain is built.
        """
        if not callable(behavior):
            raise RegistrationError(f"behavior: give a callable behavior(next_) -> handler, not {behavior!r}")
        with self._lock:
            self._rebuild_locked((*self._behaviors, behavior))

    def add_hook(self, hook: object) -> None:
        """
        Add a hook; it watches each send that starts here and each handler and subscriber that runs here.

        Args:
            hook: An object with some methods of ``catga_sync.hooks.Hook``. To add the same one again changes nothing.

        Raises:
            RegistrationError: It has none of the methods of a hook.
        """
        with self._lock:
            self._hooks.add(hook)
            self._watch_handlers_locked()

    def watch_handlers(self, hooks: Hooks, watching: bool = True) -> None:
        """Have the hooks of a cluster mediator watch the handlers and subscribers that run here, or no longer."""
        with self._lock:
            self._hooks.follow(hooks, watching)
            self._watch_handlers_locked()

    def _rebuild_locked(self, behaviors: tuple[Behavior, ...]) -> None:
        steps = self._steps.items()
        self._steps = {kind: (entry, inner, handle_step(entry, inner, behaviors)) for kind, (entry, inner, _) in steps}
        self._behaviors = behaviors
        self._watch_handlers_locked()

    def _watch_handlers_locked(self) -> None:
        self.chains = {kind: self._chain_of(*step) for kind, step in self._steps.items()}

    def _chain_of(self, entry: MessageType, function: Callable[[Any], Any], handle: Handler) -> Step:
        return sent_step(entry, function, handle, self._hooks, self._local_step, bare=not self._behaviors)

    def handles(self, request_type: type) -> bool:
        """Return whether a request of this type has a handler here."""
        return request_type in self.chains

    @property
    def handled(self) -> tuple[MessageType, ...]:
        """The request types that have a handler here."""
        return tuple(entry for entry, _, _ in self._steps.values())

    @property
    def subscribed(self) -> tuple[MessageType, ...]:
        """The event types that have a subscriber here."""
        return tuple(self.registry.by_type(kind) for kind in self._subscribers)

    def send(
        self, request: Request[T], *, timeout: float | None = None, context: Mapping[str, str] | None = None
    ) -> CatgaResult[T]:
        """
        Run the handler of a request and return its result.

        Args:
            request: The request.
            timeout: Seconds for the call and all that it sends in turn. None means: what is left of the call in which
                this one is made. A running handler is never interrupted; work whose time is up is not started.
            context: Entries of text for the handler and all that it sends in turn, read as ``current_call().context``;
                they are added to those of the call in which this one is made. None adds nothing.

        Returns:
            The result; whatever happens at run time is in it.

        Raises:
            TypeError: ``request`` is no ``Request``, ``timeout`` no number, or ``context`` no mapping of text to text.
            ValueError: ``context`` is more than a call carries.
        """
        chain = self.chains.get(type(request))
        if chain is None or self._send_watchers or self._handle_watchers:
            return self._dispatch_watched(require_request(request), local_call(timeout, context))
        if timeout is not None or context is not None or current_call() is not None:
            return self.dispatch(request, local_call(timeout, context))
        # No part of another call: its id is made when it is read.
        started = perf_counter()
        found = chain(request)
        took = (perf_counter() - started) * 1e3
        return found._with(processing_time_ms=took) if type(found) is CatgaResult else succeeded(found, took)

    def _dispatch_watched(self, request: Request[T], call: CallContext) -> CatgaResult[T]:
        details = made(SendDetails, (self.registry.ensure(type(request)).name, call, False, {}))
        return self._hooks.watch(self._send_watchers, details, self.dispatch, request)

    def dispatch(
        self, request: Request[T], call: CallContext, node_id: str | None = None, write: WriteResponse | None = None
    ) -> CatgaResult[T]:
        """
        Run the handler of ``request`` as the given call: within its deadline, under its id, as that node.

        Args:
            request: The request.
            call: The call.
            node_id: Of the node that the result names; a success that was written names none.
            write: Writes the response for the node that has sent the request, and returns the result that it gets,
                which hooks are told. None means that the request is sent here.
        """
        chain = self.chains.get(type(request))
        if chain is None:
            return self.no_handler(type(request))._with(request_id=call.request_id)
        deadline = call.deadline
        if deadline is not None and deadline.at <= deadline.monotonic():
            return expired_before_start()._with(request_id=call.request_id)
        token = enter_call(call)
        try:
            started = perf_counter()
            if write is None:
                result = chain(request)
                if type(result) is not CatgaResult:
                    return succeeded(result, (perf_counter() - started) * 1e3, call, node_id)
            else:
                entry, _, run = self._steps[type(request)]
                if self._handle_watchers:
                    hooks, name = self._hooks, entry.name
                    result = run_watched(hooks, name, lambda it: write(run(it)), request, call, received=True)
                elif (result := write(run(request))).is_success:
                    return result  # nothing but its payload is sent
            if result._request_id is call and result.node_id == node_id:
                return result  # as hooks were told it
            return result._of_call(call, node_id, (perf_counter() - started) * 1e3)
        finally:
            leave_call(token)

    def send_batch(
        self,
        requests: Iterable[Request[Any]],
        *,
        timeout: float | None = None,
        context: Mapping[str, str] | None = None,
    ) -> list[CatgaResult[Any]]:
        """
        Send each request; return the results in the same order. Each succeeds or fails alone.

        Args:
            requests: The requests.
            timeout: Seconds for all of them together; None as for ``send``.
            context: Of each of them, as for ``send``.
        """
        items = [require_request(request) for request in requests]
        if timeout is None:
            return [self.send(request, context=context) for request in items]
        call = local_call(timeout, context)
        return [self._dispatch_watched(request, call.with_changes(request_id=new_request_id())) for request in items]

    def send_stream(
        self, requests: Iterable[Request[Any]], *, context: Mapping[str, str] | None = None
    ) -> Iterator[CatgaResult[Any]]:
        """Send each request when its result is asked for; yield the results in order. Holds one at a time."""
        return (self.send(request, context=context) for request in requests)

    def publish(self, event: Event, *, context: Mapping[str, str] | None = None) -> dict[str, CatgaResult[None]]:
        """
        Call every subscriber of the event here. One that raises is logged and does not keep the others from it.

        Returns:
            ``{"local": result}``, a failure when a subscriber failed; empty when there is no subscriber.

        Raises:
            TypeError: ``event`` is no ``Event``, or ``context``, as in ``send``, is wrong.
            ValueError: ``context`` is more than a call carries.
        """
        subscribed = self.subscribes(type(require_event(event)))
        if context is None:
            return {"local": self.deliver(event)} if subscribed else {}
        token = enter_call(local_call(None, context))
        try:
            return {"local": self.deliver(event)} if subscribed else {}
        finally:
            leave_call(token)

    def publish_batch(
        self, events: Iterable[Event], *, context: Mapping[str, str] | None = None
    ) -> list[dict[str, CatgaResult[None]]]:
        """Publish each event in order; return what ``publish`` returns for each."""
        return [self.publish(event, context=context) for event in events]

    def broadcast(
        self, request: Request[T], *, timeout: float | None = None, context: Mapping[str, str] | None = None
    ) -> dict[str, CatgaResult[T]]:
        """Run the request on every node that handles its type: ``{"local": result}``, or ``{}`` without a handler."""
        require_request(request)
        return {"local": self.send(request, timeout=timeout, context=context)} if self.handles(type(request)) else {}

    def explain(self, request: Request[Any], *, timeout: float | None = None) -> Explanation:
        """Return what ``send`` would do with the request: run it here, or fail for want of a handler."""
        entry = self.registry.ensure(type(require_request(request)))
        here, handled = ClusterNode("local", None), self.handles(entry.cls)
        return Explanation(
            type_name=entry.name,
            router="local",
            candidates=(here,) if handled else (),
            excluded=() if handled else (Verdict(here, "this process has no handler for it"),),
            chosen=here if handled else None,
            repeatable=entry.idempotent,
            timeout=timeout,
            budget=0.0,
            note=None if handled else self.no_handler(entry.cls).error,
        )

    def subscribes(self, event_type: type) -> bool:
        """Return whether an event of this type has a subscriber here."""
        return event_type in self._subscribers

    def deliver(self, event: Event, *, received: bool = False) -> CatgaResult[None]:
        """Call every subscriber here; return one result for all of them, a success when there is none."""
        steps = self._subscribers.get(type(event), ())
        run = partial(run_subscribers, steps, call=current_call())
        if not steps or not self._handle_watchers:
            return run(event)
        name = self.registry.by_type(type(event)).name
        return within_call(lambda call: run_watched(self._hooks, name, run, event, call, received=received))

    def no_handler(self, request_type: type) -> CatgaResult[Any]:
        """Return the failure for a request type that has no handler here."""
        entry = self.registry.ensure(request_type)
        near = nearest(entry.name, frozenset(each.name for each in self.handled))
        meant = f" (did you mean {' or '.join(near)}?)" if near else ""
        return CatgaResult.failure(
            f"no handler for {entry.name}{meant}: register one with @mediator.handler",
            ErrorCode.UNIMPLEMENTED,
            delivery=Delivery.NOT_EXECUTED,
        )
