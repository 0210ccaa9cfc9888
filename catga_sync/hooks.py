"""What can be watched: sends, attempts at nodes, handlers that run here, and events of the cluster.

    class Times:
        def on_send(self, details: SendDetails) -> Told:
            began = time.monotonic()
            return lambda result: print(details.type_name, result.code, time.monotonic() - began)

    mediator.add_hook(Times())

Each method is called before, in the thread of the call, and may return a function that is told the result after. A hook
that fails is logged and reaches no call.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from catga_sync import _fork
from catga_sync.context import CallContext
from catga_sync.errors import Delivery, ErrorCode, RegistrationError, ends_process
from catga_sync.nodes import ClusterNode
from catga_sync.results import CatgaResult

if TYPE_CHECKING:
    from catga_sync.cluster.events import ClusterEvent

__all__ = [
    "AttemptDetails",
    "HandleDetails",
    "Hook",
    "Hooks",
    "SendDetails",
    "Told",
    "begin",
    "end",
    "watched",
]

#: What a hook returns: a function that is told the result, or None.
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
    Watches calls. Every one of these methods may be missing. Called by many threads at once.

    .. versionadded:: 0.1
    """

    def on_send(self, details: SendDetails) -> Told | None:
        """Take note of a message that is sent; its result is what the caller gets."""

    def on_attempt(self, details: AttemptDetails) -> Told | None:
        """Take note of an attempt at a node; a call that fails over has several."""

    def on_handle(self, details: HandleDetails) -> Told | None:
        """Take note of a handler that is about to run here, behaviours and all."""

    def on_event(self, event: ClusterEvent) -> object:
        """Take note of what happened to a node of the cluster."""


class Hooks:
    """
    The hooks of one mediator. Thread-safe; a call reads a tuple and takes no lock.

    Args:
        hooks: The first ones.

    Raises:
        RegistrationError: One of them has no method of a hook.
    """

    def __init__(self, hooks: Sequence[object] = ()) -> None:
        self._lock = threading.Lock()
        # Swapped whole.
        self.send: tuple[Callable[[SendDetails], Told | None], ...] = ()
        self.attempt: tuple[Callable[[AttemptDetails], Told | None], ...] = ()
        self.handle: tuple[Callable[[HandleDetails], Told | None], ...] = ()
        self.event: tuple[Callable[[ClusterEvent], object], ...] = ()
        for hook in hooks:
            self.add(hook)
        _fork.watch(self)

    def add(self, hook: object) -> None:
        """Add a hook; it watches what begins from now on."""
        kinds = [kind for kind in ("send", "attempt", "handle", "event") if callable(getattr(hook, f"on_{kind}", None))]
        if not kinds or isinstance(hook, type):
            raise RegistrationError(
                f"hook: give an object with on_send, on_attempt, on_handle or on_event, not {hook!r}"
            )
        with self._lock:
            for kind in kinds:
                setattr(self, kind, (*getattr(self, kind), getattr(hook, f"on_{kind}")))

    def tell(self, event: ClusterEvent) -> None:
        """Tell of an event."""
        for watch in self.event:
            _quietly(watch, event)

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self._lock = threading.Lock()


def begin(watching: Sequence[Callable[[Any], Told | None]], details: Any) -> list[Told]:
    """Tell hooks of what begins; return what is to be told its result."""
    told = [_quietly(watch, details) for watch in watching]
    return [each for each in reversed(told) if each is not None]


def end(told: Sequence[Told], result: CatgaResult[Any]) -> None:
    """Tell hooks the result of what they were told has begun; the last one first."""
    for each in told:
        _quietly(each, result)


def watched(
    watching: Sequence[Callable[[Any], Told | None]], details: Any, run: Callable[[], CatgaResult[Any]]
) -> CatgaResult[Any]:
    """Run something while hooks watch. One that the end of the process cuts short is told as CANCELLED."""
    told = begin(watching, details)
    result = _CUT_SHORT
    try:
        result = run()
    finally:
        end(told, result)
    return result


_CUT_SHORT: CatgaResult[Any] = CatgaResult.failure(
    "cut short by the end of the process", ErrorCode.CANCELLED, delivery=Delivery.UNKNOWN
)


def _quietly(function: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return function(argument)
    except BaseException as exc:
        if ends_process(exc):
            raise
        _log.exception("a hook failed: %r", function)
        return None
