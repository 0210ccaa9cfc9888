"""The behaviours around every send that starts here, whichever node runs it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from catga_sync import _fork
from catga_sync.context import CallContext, current_call, enter_call, leave_call
from catga_sync.errors import RegistrationError
from catga_sync.pipeline import Behavior, Handler, build_chain
from catga_sync.results import CatgaResult
from catga_sync.serialization import MessageRegistry, MessageType

__all__ = ["SendBehaviors"]


class SendBehaviors:
    """
    The behaviours of a cluster mediator, and the sends that go through them. Thread-safe.

    Args:
        registry: The message types.
        send: Sends a request of a type, as a call.
        new_call: Makes a call for a request that comes without one.
    """

    def __init__(
        self,
        registry: MessageRegistry,
        send: Callable[[Any, MessageType, CallContext], CatgaResult[Any]],
        new_call: Callable[[], CallContext],
    ) -> None:
        self._registry = registry
        self._send = send
        self._new_call = new_call
        self._lock = threading.Lock()
        # Guarded by _lock for writing.
        #: The behaviours, the outermost first.
        self.added: tuple[Behavior, ...] = ()
        self._chain: Handler = self._send_current
        _fork.watch(self)

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self._lock = threading.Lock()

    def add(self, behavior: Behavior) -> None:
        """Add one inside those that are there."""
        if not callable(behavior):
            raise RegistrationError(f"behavior: give a callable behavior(next_) -> handler, not {behavior!r}")
        with self._lock:
            behaviors = (*self.added, behavior)
            self.added, self._chain = behaviors, self._chain_of(behaviors)

    def send(self, request: Any, entry: MessageType, call: CallContext) -> CatgaResult[Any]:
        """Send a request through the behaviours."""
        # A behaviour finds its call as a handler does.
        token = enter_call(call)
        try:
            result = self._chain(request)
        finally:
            leave_call(token)
        return result if result._request_id is not None else result._with(request_id=call.request_id)

    def _chain_of(self, behaviors: tuple[Behavior, ...]) -> Handler:
        def answers_none(request: Any) -> bool:
            return self._registry.ensure(type(request)).response_may_be_none

        return build_chain(self._send_current, behaviors, "the call", answers_none, sends=True)

    def _send_current(self, request: Any) -> CatgaResult[Any]:
        """The step below the behaviours: send the request as the current call."""
        call = current_call()
        if call is None:  # a behaviour has moved the call to a thread of its own, without its context
            call = self._new_call()
        return self._send(request, self._registry.ensure(type(request)), call)
