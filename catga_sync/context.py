"""The current call, for its handler: id, deadline, source, trace.

    from catga_sync.context import current_call

    def handler(request):
        call = current_call()          # None outside a call
        call.request_id, call.trace_id, call.remaining()
        call.context                   # what the caller gave with context=; see CallContext.context

The context is a ``contextvars.ContextVar``: it follows the thread of the handler. A thread that a handler starts
begins without one, unless it is run with ``contextvars.copy_context().run``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from catga_sync import _fork
from catga_sync._clock import SYSTEM_CLOCK
from catga_sync._context_text import read_context, write_context
from catga_sync._request_id import new_request_id
from catga_sync.deadline import Deadline, DeadlineCells, check_timeout, deadline_at

__all__ = [
    "MAX_BAGGAGE",
    "CallContext",
    "Hop",
    "call_of",
    "call_within",
    "current_call",
    "enter_call",
    "leave_call",
    "local_call",
    "nested_call",
    "new_request_id",
    "usable_baggage",
    "within_call",
]

T = TypeVar("T")

#: A node, and how many more calls it could have taken when it sent a call on; None if unknown.
Hop = tuple[str, "int | None"]

#: An id that can be the id of a trace, and its second half that of a span: no id of nothing but zeros is valid.
_TRACE_ID = re.compile(r"[0-9a-f]{16}(?!0{16})[0-9a-f]{16}")
#: https://www.w3.org/TR/trace-context/: version ff and ids of nothing but zeros are invalid, later versions have more.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
#: What a header may hold of baggage or trace state: printable ASCII.
_PRINTABLE = re.compile(r"[\x20-\x7e]+")
#: Characters of the baggage that a call carries. https://www.w3.org/TR/baggage/ wants 8192 bytes; gunicorn and nginx
#: refuse a request with a line that is longer than 8190 with its name, so these are what is left of them.
MAX_BAGGAGE = 8_160
#: Characters of the trace state. https://www.w3.org/TR/trace-context/ wants 512 at least.
_MAX_TRACESTATE = 2_048


class _OpenCall:
    """A call while its attributes are set: ``CallContext`` refuses assignment, and to go round it is slow."""

    #: Of its deadline, which is made when it is read.
    _at: float
    node_id: str | None


@dataclass(frozen=True)
class CallContext(_OpenCall):
    """
    One call as its handler sees it. Immutable.

    .. versionadded:: 0.1
    """

    #: 32 hex digits; made on first use for a call that is not known outside this process.
    request_id: str
    deadline: Deadline | None = None
    #: The node that sent the call, self-reported; None for a local call.
    source_node_id: str | None = None
    #: W3C trace context as it came, carried on as it is; None where none came.
    traceparent: str | None = None
    tracestate: str | None = None
    #: The nodes through which this call came, the first caller first, and the room that each had left.
    chain: tuple[Hop, ...] = ()
    #: How many handlers of this process stand around the call: 1 for what a handler sends.
    depth: int = 0
    #: The identity of the idempotency store that the node must have to which the call is sent; None where any will do.
    store: str | None = None
    #: When the caller has sent it, as it came with the call (``Catga-Sent``); None where nothing came.
    sent: str | None = None
    #: W3C baggage as it came, carried on as it is; None where none came.
    baggage: str | None = None
    #: The node of this process that runs or sends the call; None for a call of a local mediator.
    node_id: str | None = None
    #: ``context`` as it travels; None where it is empty. Not shown: it may be personal data.
    context_text: str | None = field(default=None, repr=False)

    @property
    def context(self) -> Mapping[str, str]:
        """
        The application's own context, read-only: what was given with ``context=``, here or further up; often empty.

        What a handler sends inherits it. It is not logged by this package. Read from its text at each use.
        """
        return read_context(self.context_text)

    if not TYPE_CHECKING:  # else any attribute would be right

        def __getattr__(self, name: str) -> Any:
            # In one step: of two threads that read it first, both get the same one.
            if name == "request_id":
                return self.__dict__.setdefault("request_id", new_request_id())
            if name == "deadline":
                at = self.__dict__.get("_at")
                return self.__dict__.setdefault("deadline", None if at is None else deadline_at(at))
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes, for a copy: it has the same id."""
        return {**self.__dict__, "request_id": self.request_id}

    @property
    def trace_id(self) -> str:
        """32 hex digits that all calls that come of one first call share, on all nodes."""
        return self.trace()[0][3:35]

    @property
    def span_id(self) -> str:
        """16 hex digits: the span of this call if a hook for tracing has made one, else that of its caller."""
        return self.trace()[0][36:52]

    @property
    def ids(self) -> str:
        """``request_id=... trace_id=...``, for a line of a log."""
        return f"request_id={self.request_id} trace_id={self.trace_id}"

    def trace(self) -> tuple[str, str | None]:
        """Return the ``traceparent`` and ``tracestate`` to carry on: those that came, or a trace that begins here."""
        given = self.traceparent
        if given is not None and _TRACEPARENT.fullmatch(given):
            # Unchanged, without a span of this call: no tracing system would have such a span.
            return given, self.tracestate
        # The id of the first call is unique enough for all that comes of it, and costs nothing.
        trace_id = self.request_id
        if _TRACE_ID.fullmatch(trace_id) is None:
            trace_id = hashlib.sha256(trace_id.encode()).hexdigest()[:32]
        # "Sampled": the other flag would have a tracing peer leave out the spans of its own.
        return f"00-{trace_id}-{trace_id[16:]}-01", None

    def nested(self, request_id: str, timeout: float | None, *, depth: int = 0) -> CallContext:
        """
        Return the context of a call made inside this one: its own id and time, within this one's deadline and trace.

        Args:
            request_id: Of the nested call.
            timeout: Seconds that it has. None means all that is left of this one.
            depth: How much deeper it is: 1 for what a handler sends, 0 for a part of the call itself.
        """
        deadline = self.deadline
        if timeout is not None:
            deadline = Deadline.after(timeout) if deadline is None else deadline.nested(timeout)
        traceparent, tracestate = self.trace()
        return self.with_changes(
            request_id=request_id,
            deadline=deadline,
            source_node_id=None,
            traceparent=traceparent,
            tracestate=tracestate,
            depth=self.depth + depth,
            store=None,
            sent=None,
        )

    def parts(self, number: int, timeout: float | None) -> list[CallContext]:
        """
        Return the contexts of so many calls made inside this one: each has an id of its own, and all have one deadline.

        Args:
            number: How many.
            timeout: Seconds for all of them together, as for ``nested``.
        """
        alike = self.nested("", timeout).__dict__
        return [call_of({**alike, "request_id": new_request_id()}) for _ in range(number)]

    def carrying(self, carrier: Mapping[str, str]) -> CallContext:
        """
        Return the call with the trace context that a hook has given; see ``AttemptDetails.carrier``.

        Args:
            carrier: ``traceparent``, ``tracestate`` and ``baggage`` are taken of it, each if it is well-formed. A
                trace state counts with its traceparent only, and an empty baggage takes the call's away.
        """
        traceparent, tracestate = self.traceparent, self.tracestate
        given = carrier.get("traceparent")
        if isinstance(given, str) and _TRACEPARENT.fullmatch(given) and _PRINTABLE.fullmatch(given):
            traceparent, tracestate = given, carrier.get("tracestate")
            if not _fits(tracestate, _MAX_TRACESTATE):
                tracestate = None
        baggage = usable_baggage(carrier["baggage"]) if "baggage" in carrier else self.baggage
        return self.with_changes(traceparent=traceparent, tracestate=tracestate, baggage=baggage)

    def with_context(self, given: Mapping[str, str]) -> CallContext:
        """
        Return the call with these entries in its context, beside and before those that it has.

        Raises:
            TypeError: ``given`` is no mapping of text to text.
            ValueError: It is more than a call carries; the text names the entry.
        """
        return self.with_changes(context_text=write_context(given, self.context_text))

    def with_changes(self, **changes: Any) -> CallContext:
        """Return a copy with the given attributes changed; as ``dataclasses.replace``, in a tenth of the time."""
        if "request_id" not in changes:
            changes["request_id"] = self.request_id
        return call_of({**self.__dict__, **changes})

    def remaining(self) -> float | None:
        """Return the seconds left for this call, or None when it has no deadline."""
        return None if self.deadline is None else self.deadline.remaining()


# The class has the default of each attribute that was not given, but for this one: ``__getattr__`` may have to make it.
del CallContext.deadline


def call_of(attributes: dict[str, Any]) -> CallContext:
    """
    Return ``CallContext(**attributes)``, in a seventh of the time; without ``request_id``, it is made on first use.

    Args:
        attributes: They become those of the call, so nobody else may have this dictionary.
    """
    # ``CallContext(...)`` would set all of them, each by ``object.__setattr__``.
    call = _OpenCall()
    call.__dict__ = attributes
    call.__class__ = CallContext
    return call  # type: ignore[return-value] # by the line above


def call_within(at: float, node_id: str) -> CallContext:
    """
    Return what ``nested_call`` returns where no call is around; its id and deadline are made when they are read.

    Args:
        at: When its time is up, in seconds on the monotonic clock.
        node_id: As for ``nested_call``.
    """
    # On the way of every local call of a cluster: in two thirds of the time of ``call_of``.
    call = _OpenCall()
    call._at = at
    call.node_id = node_id
    call.__class__ = CallContext
    return call  # type: ignore[return-value] # by the line above


class _IdsBeforeForks:
    """Has the id of the current call read before a fork: a child reads the same one then."""

    def before_fork(self) -> None:
        """See ``Forkable``."""
        call = current_call()
        if call is not None:
            call.__dict__.setdefault("request_id", call.request_id)

    def after_fork_in_parent(self) -> None:
        """See ``Forkable``."""

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""


_ids_before_forks = _IdsBeforeForks()
_fork.watch(_ids_before_forks)


def usable_baggage(given: object) -> str | None:
    """
    Return W3C baggage as a call may carry it, or None where nothing of it is usable.

    Of one that is too long, the members that do not fit are left out, from its end.
    """
    if isinstance(given, str) and len(given) > MAX_BAGGAGE:
        given = given[: MAX_BAGGAGE + 1].rpartition(",")[0]
    return given if _fits(given, MAX_BAGGAGE) else None


def _fits(text: object, most: int) -> TypeGuard[str]:
    # What a hook of the user's gives may be anything.
    return isinstance(text, str) and len(text) <= most and _PRINTABLE.fullmatch(text) is not None


_current: ContextVar[CallContext | None] = ContextVar("catga_sync_call", default=None)

#: The call that is being handled in this thread, or None. Nearly free; safe to call from anywhere.
current_call = _current.get


#: Makes a call the current one; give the token to ``leave_call`` in a ``finally``.
enter_call = _current.set

#: Restores what was current before ``enter_call``.
leave_call = _current.reset


def nested_call(timeout: float, node_id: str | None = None, context: Mapping[str, str] | None = None) -> CallContext:
    """
    Return the context of a call made now: a deadline of its own, but within that of the call around it.

    Args:
        timeout: Seconds that it has.
        node_id: The node that makes it; None for a local mediator. A call around it has its own.
        context: What it adds to the context of a call around it; None adds nothing.
    """
    outer = current_call()
    if outer is None:
        # As ``deadline_at`` and ``call_of``, written out: on the way of every call.
        deadline = DeadlineCells()
        # The system's own clock, whatever a test has put in its place: the other deadlines have it, too.
        deadline.monotonic = clock = SYSTEM_CLOCK.monotonic
        deadline.at = clock() + timeout
        deadline.__class__ = Deadline  # type: ignore[assignment] # of the same layout
        made = _OpenCall()
        made.__dict__ = {"request_id": new_request_id(), "deadline": deadline, "node_id": node_id}
        made.__class__ = CallContext
        call: CallContext = made  # type: ignore[assignment] # by the line above
    else:
        call = outer.nested(new_request_id(), timeout, depth=1)
    return call if context is None else call.with_context(context)


def local_call(timeout: float | None, context: Mapping[str, str] | None) -> CallContext:
    """Return the call of a send that is made now, and has no deadline of its own if ``timeout`` is None."""
    if timeout is not None:
        return nested_call(check_timeout(timeout), context=context)
    around = current_call()
    call = call_of({"deadline": None}) if around is None else around.nested(new_request_id(), None)
    return call if context is None else call.with_context(context)


def within_call(run: Callable[[CallContext], T]) -> T:
    """
    Run a function with the current call.

    A local send that is no part of another call makes no id. Where one is needed, here, the function runs inside a new
    call, so that all that it sends has the same trace.
    """
    call = current_call()
    if call is not None:
        return run(call)
    call = CallContext(new_request_id())
    token = enter_call(call)
    try:
        return run(call)
    finally:
        leave_call(token)
