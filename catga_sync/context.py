"""What a call knows about itself while its handler runs: id, deadline, where it came from.

    from catga_sync.context import current_call

    def handler(request):
        call = current_call()          # None outside a call
        call.request_id, call.remaining()

The context is a ``contextvars.ContextVar``: it follows the thread of the handler. A thread that a handler starts
begins without one, unless it is run with ``contextvars.copy_context().run``.
"""

from __future__ import annotations

import uuid
from contextvars import ContextVar, Token
from dataclasses import dataclass, replace

from catga_sync.chain import Hop
from catga_sync.deadline import Deadline

__all__ = ["CallContext", "current_call", "enter_call", "leave_call", "new_request_id"]


def new_request_id() -> str:
    """Return a new id for a call: 32 hex digits, 122 random bits."""
    return uuid.uuid4().hex


@dataclass(frozen=True)
class CallContext:
    """
    One call as its handler sees it. Immutable.

    .. versionadded:: 0.1
    """

    request_id: str
    deadline: Deadline | None = None
    #: The node that sent the call, by its own account; None for a local call.
    source_node_id: str | None = None
    #: W3C trace context, carried on to nested calls as it came.
    traceparent: str | None = None
    tracestate: str | None = None
    #: The nodes through which this call came, the first caller first, and the room that each had left.
    chain: tuple[Hop, ...] = ()
    #: How many handlers of this process stand around the call: 1 for what a handler sends.
    depth: int = 0

    def nested(self, request_id: str, timeout: float, *, depth: int = 0) -> CallContext:
        """
        Return the context of a call made inside this one: its own id and time, within this one's deadline.

        Args:
            request_id: Its id.
            timeout: Seconds that it may take.
            depth: How much deeper it is: 1 for what a handler sends, 0 for a part of the call itself.
        """
        deadline = Deadline.after(timeout) if self.deadline is None else self.deadline.nested(timeout)
        return replace(self, request_id=request_id, deadline=deadline, source_node_id=None, depth=self.depth + depth)

    def remaining(self) -> float | None:
        """Return the seconds left for this call, or None when it has no deadline."""
        return None if self.deadline is None else self.deadline.remaining()


_current: ContextVar[CallContext | None] = ContextVar("catga_sync_call", default=None)

#: The call that is being handled in this thread, or None. Nearly free; safe to call from anywhere.
current_call = _current.get


def enter_call(call: CallContext) -> Token[CallContext | None]:
    """Make ``call`` the current one; give the token to ``leave_call`` in a ``finally``."""
    return _current.set(call)


def leave_call(token: Token[CallContext | None]) -> None:
    """Restore what was current before ``enter_call``."""
    _current.reset(token)
