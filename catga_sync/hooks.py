"""The interface for observers (metrics, tracing) of sends, attempts, handlers, exchanges and events of the cluster.

    class Times:
        def on_send(self, details: SendDetails) -> Told:
            began = time.monotonic()
            return lambda result: print(details.type_name, result.code, time.monotonic() - began)

    mediator.add_hook(Times())

Give it with ``create_cluster(local, hooks=[Times()])`` or ``mediator.add_hook(Times())``. Each method is called before,
in the thread of the call, and may return a function that is called with the result after. What a hook raises is logged,
at most ten times a second for one cause, and reaches no call.

A hook for tracing puts the trace context of its span into the ``carrier`` of the details. The call goes on with it: its
attempts, its handler and what that sends in turn. Of the carrier, ``traceparent``, ``tracestate`` and ``baggage`` are
taken, each if it is well-formed; see ``CallContext.carrying``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from catga_sync._log_limit import LimitedLog
from catga_sync._redaction import shown
from catga_sync.context import CallContext, enter_call, leave_call, within_call
from catga_sync.errors import Delivery, ErrorCode, RegistrationError, ends_process
from catga_sync.nodes import ClusterNode
from catga_sync.results import CatgaResult

if TYPE_CHECKING:
    from catga_sync.cluster.events import ClusterEvent

__all__ = [
    "CUT_SHORT",
    "AttemptDetails",
    "HandleDetails",
    "Hook",
    "Hooks",
    "SendDetails",
    "ServedDetails",
    "Told",
    "Watcher",
    "carried",
    "watched_step",
]

T = TypeVar("T")

#: What a hook returns: a function that is called with the result, or None.
Told = Callable[[CatgaResult[Any]], object]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SendDetails:
    """A message that is sent from here. Immutable."""

    #: Wire name of the message type.
    type_name: str
    call: CallContext
    #: Whether it is one of a batch, so that others begin before it ends.
    in_batch: bool = False
    #: What the call takes with it from here on; for hooks to fill.
    carrier: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AttemptDetails:
    """An attempt to have a message run at a node. Immutable."""

    #: Wire name of the message type.
    type_name: str
    call: CallContext
    node: ClusterNode
    #: How it gets there: ``local``, ``post``, ``grpc`` or ``stream``. A call that no stream has taken after all goes by
    #: POST.
    way: str
    #: The attempt of the first call of the batch with which it travels; None for the first, and for one alone.
    leader: AttemptDetails | None = None
    #: Whether it is one of a batch, so that others begin before it ends.
    in_batch: bool = False
    #: What travels with the attempt; for hooks to fill.
    carrier: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HandleDetails:
    """A message whose handler runs here. Immutable."""

    #: Wire name of the message type.
    type_name: str
    call: CallContext
    #: Whether another node has sent it.
    received: bool
    #: Milliseconds from the sending at the caller to now, as far as the caller knows the clock of this node; None where
    #: it does not, and for a message that was sent here.
    queue_ms: float | None = None
    #: What the handler finds in its call, and its own sends take with them; for hooks to fill.
    carrier: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServedDetails:
    """An exchange to which this node has responded. Immutable."""

    #: ``invoke``, ``batch``, ``node`` (the description), ``drain``, ``stream`` (its beginning), or ``other`` for a path
    #: that is no route.
    route: str
    #: How it came: ``post``, ``grpc`` or ``stream``.
    way: str
    #: The HTTP status of the response.
    status: int
    #: Names of ``receiver.refusal.Reason`` in lower case: one for an exchange that was refused, one for each item of a
    #: batch that was.
    refusals: tuple[str, ...]
    #: How many of its responses are stored ones.
    replayed: int
    #: Bytes of the body that came; 0 where it was refused before its end.
    bytes_in: int
    #: Bytes of the body that goes back.
    bytes_out: int
    #: From its arrival in a thread of this process to its response.
    seconds: float


class Hook(Protocol):
    """
    Watches calls. Each of these methods may be missing. Called by many threads at once.

    .. versionadded:: 0.1
    """

    def on_send(self, details: SendDetails) -> Told | None:
        """Called before a message is sent; the result is what the caller gets."""

    def on_attempt(self, details: AttemptDetails) -> Told | None:
        """Called before an attempt at a node; a call that fails over has several."""

    def on_handle(self, details: HandleDetails) -> Told | None:
        """Called before a handler runs here, with its behaviours, or the subscribers of an event."""

    def on_served(self, details: ServedDetails) -> object:
        """Called after each exchange to which this node has responded, refused ones too, before the bytes go out."""

    def on_event(self, event: ClusterEvent) -> object:
        """Called with what happened to a node of the cluster."""

    def on_budget_exhausted(self) -> object:
        """Called when a further attempt was not made, since the retry budget of this process was used up."""

    def on_added(self, mediator: Any) -> object:
        """Called with the ``ClusterMediator`` to which the hook is added; it should be referred to weakly."""


_KINDS = ("send", "attempt", "handle", "served", "event", "budget_exhausted")


class Watcher(NamedTuple):
    """One method of one hook."""

    #: What it is called in the log.
    name: str
    method: Callable[..., Any]


class Hooks:
    """
    The hooks of one mediator. Thread-safe, and safe after a fork: lists that only grow need no lock.

    Args:
        hooks: The first ones.
        limited_log: Bounds the failures that are logged; None means one of its own.

    Raises:
        RegistrationError: One of them has no method of a hook.
    """

    def __init__(self, hooks: Sequence[object] = (), limited_log: LimitedLog | None = None) -> None:
        self._limited_log = LimitedLog() if limited_log is None else limited_log
        self._known: list[tuple[str, object]] = []
        self.send: list[Watcher] = []
        self.attempt: list[Watcher] = []
        self.handle: list[Watcher] = []
        self.served: list[Watcher] = []
        self.event: list[Watcher] = []
        self.budget_exhausted: list[Watcher] = []
        for hook in hooks:
            self.add(hook)

    def add(self, hook: object) -> None:
        """Add a hook; it watches what begins from now on. To add the same one again changes nothing."""
        kinds = [kind for kind in _KINDS if callable(getattr(hook, f"on_{kind}", None))]
        if not kinds or isinstance(hook, type):
            text = f"hooks: give objects with on_send, on_attempt, on_handle, on_served or on_event, not {shown(hook)}"
            raise RegistrationError(text)
        for kind in kinds:
            self._add(hook, kind)

    def add_handle(self, hook: object) -> None:
        """Add a hook for the handlers alone, if it watches them."""
        if callable(getattr(hook, "on_handle", None)):
            self._add(hook, "handle")

    def _add(self, hook: object, kind: str) -> None:
        if any(known == kind and each is hook for known, each in self._known):
            return
        self._known.append((kind, hook))
        name = f"{type(hook).__qualname__}.on_{kind}"
        getattr(self, kind).append(Watcher(name, getattr(hook, f"on_{kind}")))

    def begin(self, watchers: Sequence[Watcher], details: object) -> list[Watcher]:
        """Call hooks with the details of what begins; return what ``end`` calls with the result."""
        asked = [(watcher.name, self._call(watcher, details)) for watcher in watchers]
        return [Watcher(name, told) for name, told in reversed(asked) if told is not None]

    def end(self, told: Sequence[Watcher], result: CatgaResult[Any]) -> None:
        """Call what ``begin`` has returned with the result; the last hook first."""
        for each in told:
            self._call(each, result)

    def watch(
        self,
        watchers: Sequence[Watcher],
        details: SendDetails | HandleDetails,
        run: Callable[[CallContext], CatgaResult[T]],
    ) -> CatgaResult[T]:
        """
        Run something while hooks watch. What the end of the process cuts short has the result CANCELLED.

        Args:
            watchers: The hooks.
            details: What they are told.
            run: Runs it, as the call with what hooks have put into the carrier.
        """
        told = self.begin(watchers, details)
        result: CatgaResult[Any] = CUT_SHORT
        try:
            result = run(carried(details))
        finally:
            self.end(told, result)
        return result

    def tell(self, event: ClusterEvent) -> None:
        """Call hooks with an event."""
        for watcher in self.event:
            self._call(watcher, event)

    def tell_served(self, details: ServedDetails) -> None:
        """Call hooks with an exchange to which this node has responded."""
        for watcher in self.served:
            self._call(watcher, details)

    def tell_budget_exhausted(self) -> None:
        """Call hooks when the retry budget is used up."""
        for watcher in self.budget_exhausted:
            self._call(watcher)

    def tell_added(self, hook: object, mediator: Any) -> None:
        """Tell a hook, if it wants to know, to which mediator it was added."""
        method = getattr(hook, "on_added", None)
        if callable(method):
            self._call(Watcher(f"{type(hook).__qualname__}.on_added", method), mediator)

    def _call(self, watcher: Watcher, *arguments: object) -> Any:
        try:
            return watcher.method(*arguments)
        except BaseException as exc:
            if ends_process(exc):
                raise
            reason = f"the hook {watcher.name} failed: {type(exc).__qualname__}"
            self._limited_log.log(_log, logging.ERROR, reason, "%s", reason, exc_info=exc)
            return None


def carried(details: SendDetails | AttemptDetails | HandleDetails) -> CallContext:
    """Return the call of these details with what hooks have put into their carrier."""
    return details.call.carrying(details.carrier) if details.carrier else details.call


#: The result, for hooks, of what the end of the process has cut short.
CUT_SHORT: CatgaResult[Any] = CatgaResult.failure(
    "cut short by the end of the process", ErrorCode.CANCELLED, delivery=Delivery.UNKNOWN
)


#: Milliseconds beyond which a time in the queue is not believed: a clock is wrong, or the text.
_LONGEST_QUEUE_MS = 3_600_000.0


def queue_ms(sent: str | None, now: float) -> float | None:
    """
    Return the milliseconds since a call was sent, at least 0; None where that is not known.

    Args:
        sent: What came with it: microseconds since the epoch by the clock here.
        now: Seconds since the epoch.
    """
    if sent is None or not (sent.isdecimal() and sent.isascii() and len(sent) <= 16):
        return None
    waited = now * 1e3 - int(sent) / 1e3
    return max(0.0, waited) if abs(waited) <= _LONGEST_QUEUE_MS else None


def watched_step(
    chain: Callable[[Any], CatgaResult[Any]], hooks: Hooks, name: str, *, received: bool
) -> Callable[[Any], CatgaResult[Any]]:
    """
    Return the outermost step where hooks watch what runs here.

    Args:
        chain: Runs the message.
        hooks: The hooks.
        name: Wire name of the message type.
        received: Whether another node has sent the message.
    """

    def run(message: Any) -> CatgaResult[Any]:
        return within_call(lambda call: watched(message, call))

    def watched(message: Any, call: CallContext) -> CatgaResult[Any]:
        details = HandleDetails(name, call, received, queue_ms(call.sent, time.time()))
        return hooks.watch(hooks.handle, details, lambda now: as_call(message, now, now is not call))

    def as_call(message: Any, call: CallContext, changed: bool) -> CatgaResult[Any]:
        if not changed:
            return chain(message)._with(request_id=call.request_id)
        token = enter_call(call)
        try:
            return chain(message)._with(request_id=call.request_id)
        finally:
            leave_call(token)

    return run
