"""The receiving side of a node: a raw request in, a raw reply out. No framework, no socket, no thread of its own.

The order is fixed; nothing is parsed before the caller is let in, and nothing runs before everything was read:

    path, method -> who calls -> draining? -> length, type -> body -> envelope -> time left -> type, handler
    -> payload -> handler -> answer

Rules of this file:
1. Every answer is a response envelope with ``Catga-Executed``: "0" proves that the handler did not start.
2. A received request runs here or is refused. It is never forwarded.
3. An error text is one of this file's, or one that the application chose.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from catga_sync.chain import LONGEST, read_chain
from catga_sync.context import CallContext
from catga_sync.deadline import Deadline
from catga_sync.envelope import MAX_TIME_MS, EnvelopeError, ReplyEnvelope, RequestEnvelope, valid_id
from catga_sync.errors import ErrorCode, SerializationError
from catga_sync.messages import Event
from catga_sync.pipeline import limit_text
from catga_sync.results import CatgaResult
from catga_sync.serialization import MessageKind, MessageRegistry, MessageType

__all__ = ["BATCH_PATH", "DRAIN_PATH", "INVOKE_PATH", "NODE_PATH", "Handlers", "RawReply", "RawRequest", "Receiver"]

INVOKE_PATH = "/catga/cluster/invoke"
NODE_PATH = "/catga/cluster/node"
DRAIN_PATH = "/catga/cluster/drain"
BATCH_PATH = "/catga/cluster/batch"

#: Seconds by which two machines' clocks may differ when the age of a request is judged.
CLOCK_SKEW = 2.0
_PIECE = 64 * 1024

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A request as any server can hand it over. Immutable, but for the body that is read off it."""

    method: str
    path: str
    #: Names in lower case.
    headers: Mapping[str, str]
    #: Reads up to so many bytes of the body; b"" at its end.
    read: Callable[[int], bytes]
    #: None when the sender gave no length.
    content_length: int | None
    #: Whether ``read`` ends where the body ends even without a length (a server that has undone "chunked").
    terminated: bool = False
    remote_address: str | None = None


@dataclass(frozen=True, slots=True)
class RawReply:
    """What to answer. Immutable."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Handlers(Protocol):
    """What the receiver needs of a local mediator."""

    registry: MessageRegistry

    def handles(self, request_type: type) -> bool:
        """Return whether there is a handler."""

    def dispatch(self, request: Any, call: CallContext, node_id: str | None = None) -> CatgaResult[Any]:
        """Run the handler."""

    def deliver(self, event: Event) -> CatgaResult[None] | None:
        """Call the subscribers."""


class _Refused(Exception):
    """The request is refused before its handler starts."""

    def __init__(self, status: int, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code


class Receiver:
    """
    Answer the requests of other nodes. Thread-safe.

    Args:
        local:
            Where the handlers are.

        node_id:
            The id of this node.

        describe:
            Returns what this node says of itself, as a JSON object.

        refuse:
            ``refuse(remote_address, headers)`` returns why a caller is not let in, or None.

        on_request:
            Called at the start of every request, in its thread; must be quick.

        on_drain:
            Called when the node is asked to go offline.

        max_body_bytes:
            The longest body that is read.

        max_concurrency:
            Returns how many calls run at once in this process; one more is refused. None means any number.

        default_timeout:
            Seconds for a call whose sender gave no time.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        local: Handlers,
        *,
        node_id: str,
        describe: Callable[[], Mapping[str, Any]],
        refuse: Callable[[str | None, Mapping[str, str]], str | None],
        on_request: Callable[[], None] = lambda: None,
        on_drain: Callable[[], None] = lambda: None,
        max_body_bytes: int = 4 * 1024 * 1024,
        max_concurrency: Callable[[], int | None] = lambda: None,
        default_timeout: float = 30.0,
    ) -> None:
        self._local = local
        self._node_id = node_id
        self._describe = describe
        self._refuse = refuse
        self._on_request = on_request
        self._on_drain = on_drain
        self._max_body_bytes = max_body_bytes
        self._max_concurrency = max_concurrency
        self._default_timeout = default_timeout
        self._idle = threading.Condition()
        # Guarded by _idle: how many handlers run, and whether new work is refused.
        self._running = 0
        self._draining = False

    # -- draining -------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """How many received requests are running."""
        return self._running

    @property
    def room(self) -> int | None:
        """How many more calls this process takes; None when there is no limit."""
        most = self._max_concurrency()
        return None if most is None else max(0, most - self._running)

    @property
    def draining(self) -> bool:
        """Whether new requests are refused."""
        return self._draining

    def drain(self) -> None:
        """Refuse new requests from now on; what runs goes on."""
        with self._idle:
            self._draining = True

    def wait_idle(self, timeout: float) -> bool:
        """Wait until no request is running; return False when ``timeout`` seconds were not enough."""
        with self._idle:
            return self._idle.wait_for(lambda: self._running == 0, timeout)

    def forget(self) -> None:
        """In a forked child: none of the parent's requests run here."""
        self._idle = threading.Condition()
        self._running = 0

    # -- one request ----------------------------------------------------------------------------------------------

    def handle(self, raw: RawRequest) -> RawReply:
        """Answer one request. Raises nothing but what ends the process (``SystemExit`` and the like)."""
        started = time.perf_counter()
        self._on_request()
        request_id = valid_id(raw.headers.get("catga-request-id"))
        run = _Run(request_id or "unknown")
        try:
            if raw.path == NODE_PATH:
                return self._answer_description(raw, ("GET", "HEAD"))
            if raw.path == DRAIN_PATH:
                return self._answer_description(raw, ("POST",), self._on_drain)
            reply = self._invoke(raw, run)
        except _Refused as exc:
            _log.warning(
                "refused: request_id=%s status=%d code=%s: %s",
                run.request_id,
                exc.status,
                exc.code.name,
                str(exc).encode("unicode_escape").decode("ascii"),
            )
            return self._reply(exc.status, run, False, None, str(exc), exc.code, started)
        except Exception:
            _log.exception("fault of the receiver: request_id=%s", run.request_id)
            text = "the node failed on this request; its log has the details"
            return self._reply(500, run, False, None, text, ErrorCode.INTERNAL, started)
        payload, result = reply
        return self._reply(200, run, result.is_success, payload, result.error, result.code, started)

    def _invoke(self, raw: RawRequest, run: _Run) -> tuple[bytes | None, CatgaResult[Any]]:
        if raw.path != INVOKE_PATH:
            raise _Refused(404, ErrorCode.UNIMPLEMENTED, "no such route of the cluster")
        if raw.method != "POST":
            raise _Refused(405, ErrorCode.UNIMPLEMENTED, "this route takes POST")
        self._let_in(raw)
        with self._admitted():
            envelope = self._read_envelope(raw, run)
            run.request_id = envelope.request_id
            deadline = self._deadline(raw.headers.get("catga-timeout-ms"), envelope)
            entry = self._entry(envelope)
            request = self._request(entry, envelope)
            if deadline.expired:
                raise _Refused(504, ErrorCode.DEADLINE_EXCEEDED, "the time of the call was up before it was started")
            chain = read_chain(raw.headers.get("catga-chain"))
            if chain is None:
                text = f"Catga-Chain: it cannot be read, or the call has come over more than {LONGEST} nodes in a loop"
                raise _Refused(400, ErrorCode.INVALID_ARGUMENT, text)
            call = CallContext(
                envelope.request_id,
                deadline,
                chain=chain,
                source_node_id=envelope.source_node_id,
                traceparent=raw.headers.get("traceparent"),
                tracestate=raw.headers.get("tracestate"),
            )
            run.executed = True
            if entry.kind is MessageKind.EVENT:
                result: CatgaResult[Any] = self._local.deliver(request) or CatgaResult(True)
            else:
                result = self._local.dispatch(request, call, self._node_id)
            return self._encode(entry, result)

    def _let_in(self, raw: RawRequest) -> None:
        reason = self._refuse(raw.remote_address, raw.headers)
        if reason is not None:
            raise _Refused(403, ErrorCode.PERMISSION_DENIED, reason)

    @contextlib.contextmanager
    def _admitted(self) -> Iterator[None]:
        with self._idle:
            if self._draining:
                raise _Refused(503, ErrorCode.UNAVAILABLE, f"node {self._node_id} is going offline; ask another node")
            if self.room == 0:
                raise _Refused(503, ErrorCode.RESOURCE_EXHAUSTED, f"node {self._node_id} is busy; ask another node")
            self._running += 1
        try:
            yield
        finally:
            with self._idle:
                self._running -= 1
                if self._running == 0:
                    self._idle.notify_all()

    def _read_envelope(self, raw: RawRequest, run: _Run) -> RequestEnvelope:
        media_type = raw.headers.get("content-type", "").split(";")[0].strip().lower()
        if media_type != "application/json":
            raise _Refused(415, ErrorCode.INVALID_ARGUMENT, "Content-Type: application/json is expected")
        if raw.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise _Refused(415, ErrorCode.INVALID_ARGUMENT, "Content-Encoding: none is accepted here")
        try:
            return RequestEnvelope.decode(self._read_body(raw))
        except EnvelopeError as exc:
            if exc.request_id is not None:
                run.request_id = exc.request_id
            raise _Refused(400, ErrorCode.INVALID_ARGUMENT, limit_text(str(exc))) from exc

    def _read_body(self, raw: RawRequest) -> bytes:
        limit = self._max_body_bytes
        length = raw.content_length
        if length is None and not raw.terminated:
            raise _Refused(400, ErrorCode.INVALID_ARGUMENT, "Content-Length: missing")
        if length is not None and length > limit:
            raise _Refused(413, ErrorCode.RESOURCE_EXHAUSTED, f"the body is longer than {limit} bytes")
        wanted = limit + 1 if length is None else length
        pieces: list[bytes] = []
        size = 0
        try:
            while size < wanted:
                piece = raw.read(min(_PIECE, wanted - size))
                if not piece:
                    break
                pieces.append(piece)
                size += len(piece)
        except Exception as exc:
            raise _Refused(400, ErrorCode.INVALID_ARGUMENT, "the body broke off") from exc
        if length is None and size > limit:
            raise _Refused(413, ErrorCode.RESOURCE_EXHAUSTED, f"the body is longer than {limit} bytes")
        # gunicorn hands a body on that was cut off as if it were whole; a caller that could not hand everything
        # over relies on it that nothing runs then.
        if length is not None and size != length:
            raise _Refused(400, ErrorCode.INVALID_ARGUMENT, f"the body has {size} of the {length} bytes announced")
        return b"".join(pieces)

    def _deadline(self, header: str | None, envelope: RequestEnvelope) -> Deadline:
        if header is None:
            return Deadline.after(self._default_timeout)
        text = header.strip()
        digits = text.removeprefix("-")
        if not digits.isdecimal() or not digits.isascii() or len(digits) > 20:
            raise _Refused(
                400, ErrorCode.INVALID_ARGUMENT, "Catga-Timeout-Ms: a whole number of milliseconds is expected"
            )
        timeout = min(int(text), MAX_TIME_MS) / 1000.0
        # The time that is left is relative, which no clock can spoil; but a node that was paused cannot see how long
        # the request has waited for it. The time of sending can tell, give or take two clocks' difference.
        stale = envelope.timestamp is not None and time.time() > envelope.timestamp + timeout + CLOCK_SKEW
        if timeout <= 0 or stale:
            raise _Refused(504, ErrorCode.DEADLINE_EXCEEDED, "the time of the call was up before it was started")
        return Deadline.after(timeout)

    def _entry(self, envelope: RequestEnvelope) -> MessageType:
        entry = self._local.registry.find(envelope.request_type_name)
        if entry is None or entry.kind is MessageKind.DATA:
            name = envelope.request_type_name
            raise _Refused(200, ErrorCode.UNIMPLEMENTED, f"node {self._node_id} knows no request type {name!r}")
        if not entry.remote:
            raise _Refused(403, ErrorCode.PERMISSION_DENIED, f"{entry.name} is not served to other nodes")
        if entry.kind is MessageKind.EVENT:
            return entry
        if not self._local.handles(entry.cls):
            text = f"no handler for {entry.name}: register one with @mediator.handler"
            raise _Refused(200, ErrorCode.UNIMPLEMENTED, text)
        if not entry.accepts_response(envelope.response_type_name):
            text = f"responseTypeName: {entry.name} is answered with {entry.response_name}"
            raise _Refused(200, ErrorCode.INVALID_ARGUMENT, text)
        return entry

    def _request(self, entry: MessageType, envelope: RequestEnvelope) -> Any:
        try:
            return entry.codec.decode(envelope.payload)
        except SerializationError as exc:
            _log.debug("payload of %s", envelope.request_id, exc_info=exc)
            raise _Refused(200, ErrorCode.INVALID_ARGUMENT, limit_text(str(exc))) from exc

    def _encode(self, entry: MessageType, result: CatgaResult[Any]) -> tuple[bytes | None, CatgaResult[Any]]:
        if not result.is_success or entry.response_codec is None:
            return None, result
        try:
            payload = entry.response_codec.encode(result.value)
        except SerializationError as exc:
            text = limit_text(f"the answer of the handler of {entry.name} cannot be written: {exc}")
            _log.error("%s: request_id=%s layer=serialization", text, result.request_id)
            return None, CatgaResult.failure(text, ErrorCode.INTERNAL)
        if len(payload) * 4 // 3 + 1024 > self._max_body_bytes:
            text = f"the answer of the handler of {entry.name} is longer than max_body_bytes allows"
            return None, CatgaResult.failure(text, ErrorCode.RESOURCE_EXHAUSTED)
        return payload, result

    # -- answers --------------------------------------------------------------------------------------------------

    def _answer_description(
        self, raw: RawRequest, methods: tuple[str, ...], first: Callable[[], None] = lambda: None
    ) -> RawReply:
        if raw.method not in methods:
            raise _Refused(405, ErrorCode.UNIMPLEMENTED, f"this route takes {methods[0]}")
        self._let_in(raw)
        first()
        body = json.dumps(dict(self._describe())).encode("ascii")
        return RawReply(200, body, {"Content-Type": "application/json", "Cache-Control": "no-store"})

    def _reply(
        self,
        status: int,
        run: _Run,
        is_success: bool,
        payload: bytes | None,
        error: str | None,
        code: ErrorCode | str | None,
        started: float,
    ) -> RawReply:
        body = ReplyEnvelope(
            request_id=run.request_id,
            is_success=is_success,
            payload=payload,
            error_message=error,
            error_code=code,
            processed_by_node_id=self._node_id,
            processing_time_ms=int((time.perf_counter() - started) * 1000.0),
        ).encode()
        headers = {"Content-Type": "application/json", "Catga-Executed": "1" if run.executed else "0"}
        return RawReply(status, body, headers)


class _Run:
    """What is known of one request while it is served."""

    __slots__ = ("executed", "request_id")

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        #: Whether the handler was started.
        self.executed = False
