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
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from catga_sync._log_limit import LimitedLog
from catga_sync._redaction import shown
from catga_sync.context import CallContext
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
    "made",
    "queue_ms",
]

T = TypeVar("T")

#: What a hook returns: a function that is called with the result, or None.
Told = Callable[[CatgaResult[Any]], object]

_log = logging.getLogger(__name__)


class SendDetails(NamedTuple):
    """A message that is sent from here. Immutable."""

    #: Wire name of the message type.
    type_name: str
    call: CallContext
    #: Whether it is one of a batch, so that others begin before it ends.
    in_batch: bool
    #: What the call takes with it from here on; for hooks to fill.
    carrier: dict[str, str]


class AttemptDetails(NamedTuple):
    """An attempt to have a message run at a node. Immutable."""

    #: Wire name of the message type.
    type_name: str
    call: CallContext
    node: ClusterNode
    #: How it gets there: ``local``, ``post``, ``grpc`` or ``stream``. A call that no stream has taken after all goes by
    #: POST.
    way: str
    #: The attempt of the first call of the batch with which it travels; None for the first, and for one alone.
    leader: AttemptDetails | None
    #: Whether it is one of a batch, so that others begin before it ends.
    in_batch: bool
    #: What travels with the attempt; for hooks to fill.
    carrier: dict[str, str]


class HandleDetails(NamedTuple):
    """A message whose handler runs here. Immutable."""

    #: Wire name of the message type.
    type_name: str
    call: CallContext
    #: Whether another node has sent it.
    received: bool
    #: Milliseconds from the sending at the caller to now, as far as the caller knows the clock of this node; None where
    #: it does not, and for a message that was sent here.
    queue_ms: float | None
    #: What the handler finds in its call, and its own sends take with them; for hooks to fill.
    carrier: dict[str, str]


class ServedDetails(NamedTuple):
    """An exchange with this node that is over but for the writing of its response. Immutable."""

    #: ``invoke``, ``batch``, ``node`` (the description), ``drain``, ``stream`` (its beginning), or ``other`` for a path
    #: that is no route.
    route: str
    #: How it came: ``post``, ``grpc`` or ``stream``.
    way: str
    #: The HTTP status of the response; 499 in place of 200 where the caller had hung up before it.
    status: int
    #: Names of ``receiver.refusal.Reason`` in lower case: one for an exchange that was refused, one for each item of a
    #: batch that was.
    refusals: tuple[str, ...]
    #: How many of its responses are stored ones.
    replayed: int
    #: Bytes of the body that came; 0 where it was refused before its end.
    bytes_in: int
    #: Bytes of the body that goes back; 0 where the caller has hung up.
    bytes_out: int
    #: From its arrival in a thread of this process to its response.
    seconds: float


#: ``made(SendDetails, (...))`` is ``SendDetails(...)`` in half the time; all values are given, in their order.
made = tuple.__new__


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
        """
        Called before a handler runs here, with its behaviours, or the subscribers of an event.

        A request that is refused before, such as one that does not fit its class, has none. A response that does
        not fit its type is told as the failure that the caller gets.
        """

    def on_served(self, details: ServedDetails) -> object:
        """
        Called at the end of each exchange, refused ones too, before the bytes go out.

        A caller that hangs up while they do is not seen: it counts as one that has its response.
        """

    def on_event(self, event: ClusterEvent) -> object:
        """Called with what happened to a node of the cluster."""

    def on_budget_exhausted(self) -> object:
        """Called when a further attempt was not made, since the retry budget of this process was used up."""

    def on_added(self, mediator: Any) -> object:
        """Called with the ``ClusterMediator`` to which the hook is added; it should be referred to weakly."""


_KINDS = ("send", "attempt", "handle", "served", "event", "budget_exhausted")


#: One method of one hook, after what it is called in the log.
Watcher = tuple[str, Callable[..., Any]]


class Hooks:
    """
    The hooks of one mediator. Thread-safe, and safe after a fork: lists that only grow need no lock.

    ``handle`` alone may shrink, by ``follow``, so it is copied where it is gone through.

    Args:
        hooks: The first ones.
        limited_log: Bounds the failures that are logged; None means one of its own.

    Raises:
        RegistrationError: One of them has no method of a hook.
    """

    def __init__(self, hooks: Sequence[object] = (), limited_log: LimitedLog | None = None) -> None:
        self._limited_log = LimitedLog() if limited_log is None else limited_log
        self._known: list[tuple[str, object]] = []
        self._followed: list[weakref.ref[Hooks]] = []
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

    def follow(self, others: Hooks, watching: bool) -> None:
        """
        Have the hooks of a cluster mediator watch the handlers here, or have them watch no more.

        A hook that is here as well is told once. What has begun is still told. The mediator has a lock for this. Those
        of a mediator that is gone and was not closed are dropped at the next change.
        """
        followed = [each for each in self._followed if each() not in (None, others)]
        self._followed = [*followed, weakref.ref(others)] if watching else followed
        self._gather_handle()

    def _add(self, hook: object, kind: str) -> None:
        if any(known == kind and each is hook for known, each in self._known):
            return
        self._known.append((kind, hook))
        if kind == "handle" and self._followed:
            self._gather_handle()
        else:
            getattr(self, kind).append(_watcher(hook, kind))

    def _gather_handle(self) -> None:
        known = [each for hooks in (self, *(ref() for ref in self._followed)) if hooks for each in hooks._known]
        watching = {id(hook): hook for kind, hook in known if kind == "handle"}
        # In place: others have this list.
        self.handle[:] = [_watcher(hook, "handle") for hook in watching.values()]

    def begin(self, watchers: Sequence[Watcher], details: object) -> list[Watcher]:
        """Call hooks with the details of what begins; return what ``end`` calls with the result."""
        told = []
        # Each loop here has its own ``try``: a function a hook would cost a call as much as all the rest.
        for name, method in watchers:
            try:
                if (after := method(details)) is not None:
                    told.append((name, after))
            except BaseException as exc:
                self._failed(name, exc)
        return told

    def end(self, told: Sequence[Watcher], result: CatgaResult[Any]) -> None:
        """Call what ``begin`` has returned with the result; the last hook first."""
        for name, method in told[::-1]:
            try:
                method(result)
            except BaseException as exc:
                self._failed(name, exc)

    def watch(
        self, watchers: Sequence[Watcher], details: SendDetails, send: Callable[..., CatgaResult[T]], *given: Any
    ) -> CatgaResult[T]:
        """
        Send a message while hooks watch. What the end of the process cuts short has the result CANCELLED.

        Args:
            watchers: The hooks.
            details: What they are told.
            send: Sends it; called with what is given and the call, which has what hooks have put into the carrier.
            given: The message, and what else ``send`` needs of it.
        """
        told = self.begin(watchers, details)
        result: CatgaResult[Any] = CUT_SHORT
        try:
            result = send(*given, carried(details) if details.carrier else details.call)
        finally:
            if result is CUT_SHORT:
                result = result._with(request_id=details.call.request_id)
            self.end(told, result)
        return result

    def watch_batch(
        self,
        watchers: Sequence[Watcher],
        details: Sequence[SendDetails],
        run: Callable[[list[CallContext]], list[CatgaResult[Any]]],
    ) -> list[CatgaResult[Any]]:
        """
        Send a batch while hooks watch each of its messages; the end of the process is as in ``watch``.

        Args:
            watchers: The hooks.
            details: What they are told, for each message.
            run: Sends them; called with their calls, which have what hooks have put into the carriers.
        """
        told = [self.begin(watchers, each) for each in details]
        results: list[CatgaResult[Any]] = [CUT_SHORT] * len(details)
        try:
            results = run([carried(each) for each in details])
        finally:
            for each, watchers_told, result in zip(details, told, results, strict=True):
                cut = result is CUT_SHORT
                self.end(watchers_told, result._with(request_id=each.call.request_id) if cut else result)
        return results

    def tell(self, event: ClusterEvent) -> None:
        """Call hooks with an event."""
        for watcher in self.event:
            self._call(watcher, event)

    def tell_served(self, details: ServedDetails) -> None:
        """Call hooks with an exchange to which this node has responded."""
        for name, method in self.served:
            try:
                method(details)
            except BaseException as exc:
                self._failed(name, exc)

    def tell_budget_exhausted(self) -> None:
        """Call hooks when the retry budget is used up."""
        for watcher in self.budget_exhausted:
            self._call(watcher)

    def tell_added(self, hook: object, mediator: Any) -> None:
        """Tell a hook, if it wants to know, to which mediator it was added."""
        method = getattr(hook, "on_added", None)
        if callable(method):
            self._call((f"{type(hook).__qualname__}.on_added", method), mediator)

    def _call(self, watcher: Watcher, *arguments: object) -> None:
        name, method = watcher
        try:
            method(*arguments)
        except BaseException as exc:
            self._failed(name, exc)

    def _failed(self, name: str, exc: BaseException) -> None:
        if ends_process(exc):
            raise exc
        reason = f"the hook {name} failed: {type(exc).__qualname__}"
        self._limited_log.log(_log, logging.ERROR, reason, "%s", reason, exc_info=exc)


def _watcher(hook: object, kind: str) -> Watcher:
    return f"{type(hook).__qualname__}.on_{kind}", getattr(hook, f"on_{kind}")


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
    if waited < 0.0:  # the clocks differ
        return 0.0 if waited >= -_LONGEST_QUEUE_MS else None
    return waited if waited <= _LONGEST_QUEUE_MS else None
