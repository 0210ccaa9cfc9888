"""The interface for observers (metrics, tracing) of sends, attempts, handlers and events of the cluster.

    class Times:
        def on_send(self, details: SendDetails) -> Told:
            began = time.monotonic()
            return lambda result: print(details.type_name, result.code, time.monotonic() - began)

    mediator.add_hook(Times())

Give it with ``create_cluster(local, hooks=[Times()])`` or ``mediator.add_hook(Times())``. Each method is called before,
in the thread of the call, and may return a function that is called with the result after. What a hook raises is logged,
at most ten times a second for one cause, and reaches no call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from catga_sync._log_limit import LimitedLog
from catga_sync._redaction import shown
from catga_sync.context import CallContext, within_call
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
    "Told",
    "Watcher",
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


@dataclass(frozen=True, slots=True)
class AttemptDetails:
    """An attempt to have a message run at a node. Immutable."""

    #: Wire name of the message type.
    type_name: str
    call: CallContext
    node: ClusterNode
    #: How it gets there: ``local`` or ``post``.
    way: str


@dataclass(frozen=True, slots=True)
class HandleDetails:
    """A message whose handler runs here. Immutable."""

    #: Wire name of the message type.
    type_name: str
    call: CallContext
    #: Whether another node has sent it.
    received: bool


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

    def on_event(self, event: ClusterEvent) -> object:
        """Called with what happened to a node of the cluster."""


_KINDS = ("send", "attempt", "handle", "event")


class Watcher(NamedTuple):
    """One method of one hook."""

    #: What it is called in the log.
    name: str
    method: Callable[[Any], Any]


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
        self.event: list[Watcher] = []
        for hook in hooks:
            self.add(hook)

    def add(self, hook: object) -> None:
        """Add a hook; it watches what begins from now on. To add the same one again changes nothing."""
        kinds = [kind for kind in _KINDS if callable(getattr(hook, f"on_{kind}", None))]
        if not kinds or isinstance(hook, type):
            text = f"hooks: give objects with on_send, on_attempt, on_handle or on_event, not {shown(hook)}"
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

    def watch(self, watchers: Sequence[Watcher], details: object, run: Callable[[], CatgaResult[T]]) -> CatgaResult[T]:
        """Run something while hooks watch. What the end of the process cuts short has the result CANCELLED."""
        told = self.begin(watchers, details)
        result: CatgaResult[Any] = CUT_SHORT
        try:
            result = run()
        finally:
            self.end(told, result)
        return result

    def tell(self, event: ClusterEvent) -> None:
        """Call hooks with an event."""
        for watcher in self.event:
            self._call(watcher, event)

    def _call(self, watcher: Watcher, argument: object) -> Any:
        try:
            return watcher.method(argument)
        except BaseException as exc:
            if ends_process(exc):
                raise
            reason = f"the hook {watcher.name} failed: {type(exc).__qualname__}"
            self._limited_log.log(_log, logging.ERROR, reason, "%s", reason, exc_info=exc)
            return None


#: The result, for hooks, of what the end of the process has cut short.
CUT_SHORT: CatgaResult[Any] = CatgaResult.failure(
    "cut short by the end of the process", ErrorCode.CANCELLED, delivery=Delivery.UNKNOWN
)


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
        details = HandleDetails(name, call, received)
        return hooks.watch(hooks.handle, details, lambda: chain(message)._with(request_id=call.request_id))

    return run
