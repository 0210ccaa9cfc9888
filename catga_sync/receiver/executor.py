"""Running one envelope that was let in: type -> handler -> payload -> seen before? -> handler -> answer.

Rules of this file:
1. What cannot be run is ``Refused``, and nothing of it has run.
2. An error text is one of this package's, or one that the application chose.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Protocol

from catga_sync.context import CallContext, enter_call, leave_call
from catga_sync.deadline import Deadline
from catga_sync.errors import Delivery, ErrorCode, SerializationError
from catga_sync.messages import Event
from catga_sync.pipeline import limit_text, unwritable_answer
from catga_sync.receiver.deduplication import Once, other_store
from catga_sync.receiver.memory import MemoryBudget
from catga_sync.receiver.refusal import Reason, Refused
from catga_sync.receiver.request import RawRequest, chain_of, deadline_of
from catga_sync.receiver.surroundings import Surroundings
from catga_sync.results import NEVER, RETRY, CatgaResult
from catga_sync.serialization import MessageKind, MessageRegistry, MessageType
from catga_sync.wire.envelope import RequestEnvelope, ResponseEnvelope

__all__ = ["Handlers", "Run", "Runner"]

_log = logging.getLogger("catga_sync.receiver.receiver")


class Handlers(Protocol):
    """What the receiver needs of a local mediator."""

    registry: MessageRegistry

    def handles(self, request_type: type) -> bool:
        """Return whether there is a handler."""

    def dispatch(
        self, request: Any, call: CallContext, node_id: str | None = None, *, received: bool = False
    ) -> CatgaResult[Any]:
        """Run the handler."""

    def deliver(self, event: Event) -> CatgaResult[None]:
        """Call the subscribers."""


class Run:
    """What is known of one request while it is served."""

    __slots__ = ("caller", "deadline", "executed", "replayed", "request_id", "started", "uncertain")

    def __init__(
        self,
        request_id: str,
        caller: Any = None,
        deadline: Deadline | None = None,
        *,
        arrived: float | None = None,
    ) -> None:
        self.request_id = request_id
        #: That of the batch of which it is a part; None for a request that came alone.
        self.deadline = deadline
        #: What the guard knows of the caller.
        self.caller = caller
        #: Whether the handler was started.
        self.executed = False
        #: Whether the answer is a stored one.
        self.replayed = False
        #: Whether the same request, received before, may have started its handler; nobody here can tell.
        self.uncertain = False
        #: When it came, on the clock of ``time.perf_counter``.
        self.started = time.perf_counter() if arrived is None else arrived

    @property
    def told(self) -> str:
        """What ``Catga-Executed`` says of it."""
        return "1" if self.executed else "unknown" if self.uncertain else "0"

    @property
    def seconds(self) -> float:
        """Since it came."""
        return time.perf_counter() - self.started

    @property
    def elapsed(self) -> int:
        """Milliseconds since it came."""
        return int(self.seconds * 1000.0)


class Runner:
    """
    Run requests that were let in. Thread-safe.

    Args:
        local: Where the handlers are.
        node_id: The id of this node.
        once: Keeps a request id from running twice; None lets every request run.
        surroundings: What the framework puts around each call.
        memory: What large requests take of it.
        max_body_bytes: The longest answer.
        default_timeout: Seconds for a call whose sender gave no time.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        local: Handlers,
        node_id: str,
        once: Once | None,
        surroundings: Surroundings,
        memory: MemoryBudget,
        *,
        max_body_bytes: int,
        default_timeout: float,
    ) -> None:
        self._local = local
        self._node_id = node_id
        self._once = once
        self._surroundings = surroundings
        self._memory = memory
        self._max_body_bytes = max_body_bytes
        self._default_timeout = default_timeout

    def run(self, raw: RawRequest, envelope: RequestEnvelope, run: Run) -> ResponseEnvelope:
        """
        Run one request, or answer with what it was answered with before.

        Raises:
            Refused: It is not run; ``run`` tells whether it may have run before.
        """
        header = raw.headers.get("catga-timeout-ms")
        deadline = deadline_of(header, envelope.timestamp, self._default_timeout, run.seconds)
        if run.deadline is not None:
            deadline = run.deadline
        entry = self._entry(envelope)
        with self._memory.share(envelope.payload, deadline.remaining):
            return self._run(raw, envelope, entry, deadline, run)

    def _run(
        self, raw: RawRequest, envelope: RequestEnvelope, entry: MessageType, deadline: Deadline, run: Run
    ) -> ResponseEnvelope:
        request = self._request(entry, envelope)
        call = CallContext(
            envelope.request_id,
            deadline,
            chain=chain_of(raw.headers.get("catga-chain")),
            source_node_id=envelope.source_node_id,
            traceparent=raw.headers.get("traceparent"),
            tracestate=raw.headers.get("tracestate"),
        )
        relied_on = raw.headers.get("catga-store")
        if self._once is None:
            if relied_on is not None:
                raise other_store("it has none")
            return self._dispatch(entry, request, call, deadline, run, raw)
        return self._once.run(
            entry.name,
            envelope,
            deadline,
            run,
            lambda: self._dispatch(entry, request, call, deadline, run, raw),
            entry.idempotent,
            relied_on,
        )

    def _dispatch(
        self, entry: MessageType, request: Any, call: CallContext, deadline: Deadline, run: Run, raw: RawRequest
    ) -> ResponseEnvelope:
        if deadline.expired:
            raise Refused(Reason.EXPIRED, "the time of the call was up before it was started")
        if raw.hung_up():
            # The last moment: a call may have waited for a paused process, or for the response to a duplicate.
            text = "the caller has closed its side of the connection before the call was started"
            raise Refused(Reason.HUNG_UP, text)
        run.uncertain = True
        payload: bytes | None = None

        def handle() -> CatgaResult[Any]:
            nonlocal payload
            if entry.kind is MessageKind.EVENT:
                result = self._deliver(request, call)
            else:
                result = self._local.dispatch(request, call, self._node_id, received=True)
            # Within the surroundings: a response may still read from a session that ends with them.
            payload, result = self._encode(entry, result, call)
            return result

        result = self._surroundings.run_received(handle, entry.name)
        run.executed = result.delivery is Delivery.EXECUTED
        run.uncertain = result.delivery is Delivery.UNKNOWN
        return ResponseEnvelope(
            request_id=run.request_id,
            is_success=result.is_success,
            payload=payload if result.is_success else None,
            error_message=result.error,
            error_code=result.code,
            processed_by_node_id=self._node_id,
            processing_time_ms=run.elapsed,
            final=result.delivery is Delivery.NOT_EXECUTED and result.metadata.get(RETRY) == NEVER,
        )

    def _deliver(self, event: Event, call: CallContext) -> CatgaResult[Any]:
        token = enter_call(call)
        try:
            return self._local.deliver(event)
        finally:
            leave_call(token)

    def _entry(self, envelope: RequestEnvelope) -> MessageType:
        entry = self._local.registry.find(envelope.request_type_name)
        if entry is None or entry.kind is MessageKind.DATA:
            name = envelope.request_type_name
            raise Refused(Reason.UNKNOWN_TYPE, f"node {self._node_id} knows no request type {name!r}")
        if not entry.remote:
            raise Refused(Reason.NOT_ALLOWED, f"{entry.name} is not served to other nodes")
        if entry.kind is MessageKind.EVENT:
            return entry
        if not self._local.handles(entry.cls):
            text = f"no handler for {entry.name}: register one with @mediator.handler"
            raise Refused(Reason.NO_HANDLER, text)
        if not entry.accepts_response(envelope.response_type_name):
            text = (
                f"responseTypeName: {entry.name} is answered with {entry.response_name}, not "
                f"{envelope.response_type_name}; see @message(response_name=...)"
            )
            raise Refused(Reason.WRONG_RESPONSE_TYPE, text)
        return entry

    def _request(self, entry: MessageType, envelope: RequestEnvelope) -> Any:
        try:
            return entry.codec.decode(envelope.payload)
        except SerializationError as exc:
            _log.debug("payload of %s", envelope.request_id, exc_info=exc)
            raise Refused(Reason.WRONG_PAYLOAD, str(exc)) from exc

    def _encode(
        self, entry: MessageType, result: CatgaResult[Any], call: CallContext
    ) -> tuple[bytes | None, CatgaResult[Any]]:
        if not result.is_success or entry.response_codec is None:
            return None, result
        try:
            payload = entry.response_codec.encode(result.value)
        except SerializationError as exc:
            return None, unwritable_answer(entry.name, exc, call)
        if len(payload) * 4 // 3 + 1024 > self._max_body_bytes:
            text = f"the answer of the handler of {entry.name} is longer than max_body_bytes allows"
            return None, CatgaResult.failure(text, ErrorCode.RESOURCE_EXHAUSTED)
        return payload, result

    def refusal(self, exc: Refused, run: Run) -> ResponseEnvelope:
        """Return the answer to a request that is not run."""
        return ResponseEnvelope(
            request_id=run.request_id,
            is_success=False,
            error_message=limit_text(str(exc)),
            error_code=exc.reason.code,
            processed_by_node_id=self._node_id,
            processing_time_ms=run.elapsed,
        )
