"""Runs one accepted envelope: type -> handler -> payload -> seen before? -> handler -> response.

Rules of this file:
1. What cannot be run is ``Refused``, and nothing of it has run.
2. An error text is one of this package's, or one that the application chose.
3. Nothing here depends on HTTP: the metadata of the request is in ``CallMeta``.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, Protocol

from catga_sync.context import CallContext, call_of, enter_call, leave_call
from catga_sync.errors import Delivery, ErrorCode, SerializationError
from catga_sync.messages import Event
from catga_sync.pipeline import WriteResponse, limit_text, unwritable_answer
from catga_sync.receiver.call import CallMeta, Progress
from catga_sync.receiver.deduplication import Deduplication, Turn, other_store
from catga_sync.receiver.memory_budget import SMALL, MemoryBudget
from catga_sync.receiver.refusal import Reason, Refused
from catga_sync.receiver.surroundings import Surroundings
from catga_sync.results import NEVER, RETRY, CatgaResult
from catga_sync.serialization import MessageKind, MessageRegistry, MessageType
from catga_sync.wire.envelope import RequestEnvelope, ResponseEnvelope

__all__ = ["Executor", "Handlers"]

#: Most cached pairs of type names. A .NET peer may write one type in many ways.
_MOST_KNOWN = 1_000
#: To look up the member of an Enum takes as long as a call.
_EXECUTED, _UNKNOWN, _NOT_EXECUTED = Delivery.EXECUTED, Delivery.UNKNOWN, Delivery.NOT_EXECUTED

_log = logging.getLogger("catga_sync.receiver.receiver")


class Handlers(Protocol):
    """What the receiver needs of a local mediator."""

    registry: MessageRegistry

    def handles(self, request_type: type) -> bool:
        """Return whether there is a handler."""

    def dispatch(
        self, request: Any, call: CallContext, node_id: str | None = None, write: WriteResponse | None = None
    ) -> CatgaResult[Any]:
        """Run the handler, and write its response; see ``Mediator.dispatch``."""

    def deliver(self, event: Event, *, received: bool = False) -> CatgaResult[None]:
        """Call the subscribers."""


class Executor:
    """
    Runs accepted requests. Thread-safe.

    Args:
        local: Where the handlers are.
        node_id: The id of this node.
        deduplication: Keeps a request id from running twice; None lets every request run.
        surroundings: What the framework puts around each call.
        memory: What large requests take of it.
        max_body_bytes: The longest response.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        local: Handlers,
        node_id: str,
        deduplication: Deduplication | None,
        surroundings: Surroundings,
        memory: MemoryBudget,
        *,
        max_body_bytes: int,
    ) -> None:
        self._local = local
        self._node_id = node_id
        self._deduplication = deduplication
        self._surroundings = surroundings
        self._memory = memory
        self._max_body_bytes = max_body_bytes
        #: Names of request and response -> the type, where a request of these names can be run. It stays so: types and
        #: handlers are only ever added.
        self._known: dict[tuple[str, str], MessageType] = {}

    def run(self, envelope: RequestEnvelope, meta: CallMeta, progress: Progress) -> ResponseEnvelope:
        """
        Run one request, or return the response that it was given before.

        Args:
            envelope: The request.
            meta: What came with it.
            progress: Of the request; what is done is noted in it.

        Raises:
            Refused: It is not run; ``progress`` has whether it may have run before.
        """
        names = (envelope.request_type_name, envelope.response_type_name)
        entry = self._known.get(names) or self._find(*names)
        if len(envelope.payload) < SMALL:
            return self._run(entry, envelope, meta, progress)
        with self._memory.share(envelope.payload, meta.deadline.remaining):
            return self._run(entry, envelope, meta, progress)

    def refusal(self, exc: Refused, progress: Progress) -> ResponseEnvelope:
        """Return the response to a request that is not run; note the reason in its progress."""
        progress.refusals = (*progress.refusals, exc.reason.name.lower())
        return ResponseEnvelope(
            request_id=progress.request_id,
            is_success=False,
            error_message=limit_text(str(exc)),
            error_code=exc.reason.code,
            processed_by_node_id=self._node_id,
            processing_time_ms=progress.elapsed,
        )

    def _run(
        self, entry: MessageType, envelope: RequestEnvelope, meta: CallMeta, progress: Progress
    ) -> ResponseEnvelope:
        try:
            request = entry.codec.decode(envelope.payload)
        except SerializationError as exc:
            _log.debug("payload of %s", envelope.request_id, exc_info=exc)
            raise Refused(Reason.WRONG_PAYLOAD, str(exc)) from exc
        deduplication = self._deduplication
        if deduplication is None:
            if meta.store is not None:
                raise other_store("it has none")
            return self._dispatch(entry, request, meta, progress)
        turn = deduplication.begin(entry.name, envelope, meta, progress, repeatable=entry.idempotent)
        if not isinstance(turn, Turn):
            return turn
        try:
            response = self._dispatch(entry, request, meta, progress)
        except Exception:
            deduplication.finish(turn, None, progress)
            raise
        deduplication.finish(turn, response, progress)
        return response

    def _dispatch(self, entry: MessageType, request: Any, meta: CallMeta, progress: Progress) -> ResponseEnvelope:
        if meta.deadline.at <= meta.deadline.monotonic():
            raise Refused(Reason.EXPIRED, "the time of the call was up before it was started")
        if meta.hung_up is not None and meta.hung_up():
            # The last moment: a call may have waited for a paused process, or for the response to a duplicate.
            text = "the caller has closed its side of the connection before the call was started"
            raise Refused(Reason.HUNG_UP, text)
        progress.uncertain = True
        call = call_of(
            {
                "request_id": meta.request_id,
                "deadline": meta.deadline,
                "source_node_id": meta.source_node_id,
                "traceparent": meta.traceparent,
                "tracestate": meta.tracestate,
                "chain": meta.chain,
                "sent": meta.sent,
                "baggage": meta.baggage,
                "node_id": self._node_id,
                "context_text": meta.context_text,
            }
        )
        payload: bytes | None = None

        def write(result: CatgaResult[Any]) -> CatgaResult[Any]:
            nonlocal payload
            codec = entry.response_codec
            if codec is None or not result.is_success:
                return result
            try:
                written = codec.encode(result.value)
            except SerializationError as exc:
                return unwritable_answer(entry.name, exc, call)
            if len(written) * 4 // 3 + 1024 > self._max_body_bytes:
                text = f"the response of the handler of {entry.name} is longer than max_body_bytes allows"
                return CatgaResult.failure(text, ErrorCode.RESOURCE_EXHAUSTED)
            payload = written
            return result

        if entry.kind is MessageKind.EVENT:
            handle = partial(self._deliver, request, call)
        else:
            # Within the surroundings: a response may still read from a session that ends with them.
            handle = partial(self._local.dispatch, request, call, self._node_id, write=write)
        result = self._surroundings.run_received(handle, entry.name)
        delivery = result.delivery
        progress.executed = delivery is _EXECUTED
        progress.uncertain = delivery is _UNKNOWN
        return ResponseEnvelope(
            meta.request_id,
            result.is_success,
            payload if result.is_success else None,
            result.error,
            result.code,
            self._node_id,
            progress.elapsed,
            delivery is _NOT_EXECUTED and result.metadata.get(RETRY) == NEVER,
        )

    def _deliver(self, event: Event, call: CallContext) -> CatgaResult[Any]:
        token = enter_call(call)
        try:
            return self._local.deliver(event, received=True)
        finally:
            leave_call(token)

    def _find(self, request_name: str, response_name: str) -> MessageType:
        """Return the type of a request that can be run here; refuse any other."""
        entry = self._local.registry.find(request_name)
        if entry is None or entry.kind is MessageKind.DATA:
            text = f"node {self._node_id} knows no request type {request_name!r}"
            raise Refused(Reason.UNKNOWN_TYPE, text)
        if not entry.remote:
            raise Refused(Reason.NOT_ALLOWED, f"{entry.name} is not served to other nodes")
        if entry.kind is not MessageKind.EVENT:
            if not self._local.handles(entry.cls):
                text = f"no handler for {entry.name}: register one with @mediator.handler"
                raise Refused(Reason.NO_HANDLER, text)
            if not entry.accepts_response(response_name):
                text = (
                    f"responseTypeName: {entry.name} has the response type {entry.response_name}, not {response_name}; "
                    "see @message(response_name=...)"
                )
                raise Refused(Reason.WRONG_RESPONSE_TYPE, text)
        if len(self._known) < _MOST_KNOWN:
            self._known[request_name, response_name] = entry
        return entry
