"""The receiving side of a node: a raw request in, a raw reply out. No framework, no socket, no thread of its own.

The order is fixed; nothing is parsed before the caller is let in, and nothing runs before everything was read:

    path, method -> who calls -> type, length, body -> signature -> draining, busy? -> envelope -> time left
    -> type, handler -> payload -> seen before? -> handler -> answer

Rules of this file:
1. Every answer is a response envelope with ``Catga-Executed``: "0" proves that the handler did not start.
2. A received request runs here (see ``runner.py``) or is refused. It is never forwarded.
3. Who is not verified takes no place among the calls that run, and keeps a thread no longer than its body may take.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from catga_sync._log_limit import LimitedLog
from catga_sync._redaction import escaped
from catga_sync.context import CallContext
from catga_sync.errors import ErrorCode, ends_process
from catga_sync.pipeline import limit_text
from catga_sync.receiver.authentication import Guard
from catga_sync.receiver.deduplication import Once
from catga_sync.receiver.executor import Handlers, Run, Runner
from catga_sync.receiver.memory import BUDGET, MemoryBudget
from catga_sync.receiver.refusal import FAULT_TEXT, OK, Reason, Refused
from catga_sync.receiver.request import (
    RawRequest,
    check_media_type,
    deadline_of,
    in_memory,
    read_body,
    time_of,
)
from catga_sync.receiver.surroundings import Surroundings
from catga_sync.wire.envelope import (
    EnvelopeError,
    RequestEnvelope,
    ResponseEnvelope,
    batch_item,
    read_batch,
    valid_id,
    write_batch_response,
)
from catga_sync.wire.routes import BATCH_PATH, DRAIN_PATH, INVOKE_PATH, NODE_PATH

__all__ = ["RawResponse", "RawRequest", "Receiver"]


#: Bytes of a request to go offline, which has nothing to say.
_DRAIN_LIMIT = 1024
#: Seconds for writing a response whose call has no time left.
_LAST_WORD = 1.0
#: Bytes that are kept for a response in a batch, beside its ids, its payload and its text.
_LEAST = 200

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RawResponse:
    """What to answer. Immutable."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    #: For which it may be written; a caller that has not read it by then has given up.
    seconds: float = 30.0


class ServingNode(Protocol):
    """What the receiver needs of the node that it serves."""

    node_id: str

    def admit(self) -> AbstractContextManager[None]:
        """Count a call in while it runs; raises ``Refused`` for one that the node does not take."""

    def to_wire(self) -> Mapping[str, Any]:
        """Return what the node says of itself, as a JSON object."""


class Receiver:
    """
    Answer the requests of other nodes. Thread-safe.

    Args:
        local:
            Where the handlers are.

        node:
            This node.

        guard:
            Says who is let in; see ``catga_sync.receiver.authentication``.

        once:
            Keeps a request id from running twice; None lets every request run.

        surroundings:
            What the framework puts around each call; None means nothing.

        on_request:
            Called at the start of every request, in its thread; must be quick.

        on_drain:
            Called when the node is asked to go offline.

        max_body_bytes:
            The longest body that is read. Large requests take 48 times as much memory at once; see ``memory.py``.

        default_timeout:
            Seconds for a call whose sender gave no time.

        limited_log:
            Bounds the refusals that are logged; None means one of its own.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        local: Handlers,
        node: ServingNode,
        *,
        guard: Guard,
        once: Once | None = None,
        surroundings: Surroundings | None = None,
        on_request: Callable[[], None] = lambda: None,
        on_drain: Callable[[], None] = lambda: None,
        max_body_bytes: int = 4 * 1024 * 1024,
        default_timeout: float = 30.0,
        limited_log: LimitedLog | None = None,
    ) -> None:
        around = Surroundings() if surroundings is None else surroundings
        self._memory = MemoryBudget(BUDGET * max_body_bytes)
        self._runner = Runner(
            local,
            node.node_id,
            once,
            around,
            self._memory,
            max_body_bytes=max_body_bytes,
            default_timeout=default_timeout,
        )
        self._node = node
        self._node_id = node.node_id
        self._guard = guard
        self._on_request = on_request
        self._on_drain = on_drain
        self._max_body_bytes = max_body_bytes
        self._default_timeout = default_timeout
        self._limited_log = LimitedLog() if limited_log is None else limited_log

    # -- one request ----------------------------------------------------------------------------------------------

    def handle(self, raw: RawRequest) -> RawResponse:
        """Answer one request. Raises nothing but what the server raises to end its process."""
        run = Run(valid_id(raw.headers.get("catga-request-id")) or "unknown", arrived=raw.arrived)
        extra: Mapping[str, str] = {}
        self._on_request()
        try:
            serve = self._routes.get(raw.path)
            if serve is None:
                raise Refused(Reason.NO_ROUTE, "no such route of the cluster")
            body = serve(self, raw, run)
            status = OK
        except Refused as exc:
            self._log_refusal(raw, run, exc)
            run.caller = exc.caller or run.caller
            status, body = exc.reason.status, self._runner.refusal(exc, run).encode()
            extra = exc.headers
        except BaseException as exc:
            if ends_process(exc):
                raise
            _log.exception("fault of the receiver: %s", _ids(raw, run))
            fault = Refused(Reason.FAULT, FAULT_TEXT)
            status, body = fault.reason.status, self._runner.refusal(fault, run).encode()
        headers = {"Content-Type": "application/json", "Catga-Executed": run.told, **extra}
        if run.replayed:
            headers["Catga-Replayed"] = "1"
        headers.update(self._guard.seal(run.caller, status, headers["Catga-Executed"], self._node_id, body))
        return RawResponse(status, body, headers, max(_LAST_WORD, self._seconds_left(raw, run)))

    def take_in(self, raw: RawRequest) -> tuple[RawRequest, bytes]:
        """
        Read the body of a request before other code of the app can: hooks, logs and agents read it off the wire, too.

        Returns:
            The request for ``handle``, whose body is in memory now, and that body. It is as short as it was when the
            request was found to be one to refuse; ``handle`` does so.
        """
        body, refused = b"", None
        try:
            if raw.method == "POST":
                body = self._read(raw)
        except Refused as exc:
            refused = exc
        return in_memory(raw, body, refused), body

    def _serve_invoke(self, raw: RawRequest, run: Run) -> bytes:
        body = self._body(raw, run)
        with self._node.admit():
            try:
                with self._memory.share(body, lambda: self._seconds_left(raw, run)):
                    envelope = RequestEnvelope.decode(body)
            except EnvelopeError as exc:
                run.request_id = exc.request_id or run.request_id
                raise Refused(Reason.UNREADABLE, limit_text(str(exc))) from exc
            del body  # it may be long, and the handler may run for long
            run.request_id = envelope.request_id
            return self._runner.run(raw, envelope, run).encode()

    def _serve_batch(self, raw: RawRequest, run: Run) -> bytes:
        body = self._body(raw, run)
        with self._node.admit():
            try:
                with self._memory.share(body, lambda: self._seconds_left(raw, run)):
                    items = read_batch(body)
            except EnvelopeError as exc:
                raise Refused(Reason.UNREADABLE, limit_text(str(exc))) from exc
            del body
            # One deadline for all of them, from when the batch came; each may still be too old by itself.
            shared = deadline_of(raw.headers.get("catga-timeout-ms"), None, self._default_timeout, run.seconds)
            least = _LEAST + len(self._node_id)
            left = sum(least + len(item.request_id or "") for item in items)
            room = self._max_body_bytes - _LEAST
            if left > room:
                text = f"the responses to so many requests are together longer than {self._max_body_bytes} bytes"
                raise Refused(Reason.TOO_LONG, text)
            replies = []
            for item in items:
                each = Run("unknown", run.caller, shared)
                reply = self._run_item(raw, item, each)
                left -= least + len(item.request_id or "")
                replies.append(self._fitting(reply, each, room - left))
                room -= len(replies[-1]) + 1
                run.executed = run.executed or each.executed
            return write_batch_response(replies)

    def _fitting(self, reply: ResponseEnvelope, run: Run, room: int) -> bytes:
        """Return an item of a batch in so many bytes at the most: the others have as much to say."""
        item = batch_item(reply, run.told)
        if len(item) > room and reply.payload is not None:
            text = "the responses of the batch are together longer than max_body_bytes allows"
            reply = self._runner.refusal(Refused(Reason.RESPONSE_TOO_LONG, text), run)
            item = batch_item(reply, run.told)
        if len(item) > room:
            # A text may be cut, what became of the request may not.
            text = reply.error_message or ""
            item = batch_item(replace(reply, error_message=text[: max(0, len(text) - (len(item) - room))]), run.told)
        if len(item) > room:  # a code of the application's own, of many letters that are not ASCII
            item = batch_item(replace(reply, error_message="", error_code=ErrorCode.RESOURCE_EXHAUSTED), run.told)
        return item

    def _run_item(self, raw: RawRequest, item: RequestEnvelope | EnvelopeError, run: Run) -> ResponseEnvelope:
        try:
            if isinstance(item, EnvelopeError):
                run.request_id = item.request_id or run.request_id
                raise Refused(Reason.UNREADABLE, limit_text(str(item)))
            run.request_id = item.request_id
            return self._runner.run(raw, item, run)
        except Refused as exc:
            self._log_refusal(raw, run, exc)
            return self._runner.refusal(exc, run)
        except BaseException as exc:
            if ends_process(exc):
                raise
            _log.exception("fault of the receiver: %s", _ids(raw, run))
            fault = Refused(Reason.FAULT, FAULT_TEXT)
            return self._runner.refusal(fault, run)

    def _serve_description(self, raw: RawRequest, run: Run) -> bytes:
        if raw.method in ("GET", "HEAD") and raw.refused is None and self._guard.is_stranger(raw):
            return json.dumps({"status": self._node.to_wire()["status"]}).encode("ascii")
        self._let_in(raw, "GET", "HEAD")
        run.caller = self._guard.verify(raw, b"", self._node_id)
        return json.dumps(dict(self._node.to_wire())).encode("ascii")

    def _serve_drain(self, raw: RawRequest, run: Run) -> bytes:
        self._body(raw, run)
        self._on_drain()
        return json.dumps(dict(self._node.to_wire())).encode("ascii")

    _routes: Mapping[str, Callable[[Receiver, RawRequest, Run], bytes]] = {
        INVOKE_PATH: _serve_invoke,
        BATCH_PATH: _serve_batch,
        NODE_PATH: _serve_description,
        DRAIN_PATH: _serve_drain,
    }

    # -- steps ----------------------------------------------------------------------------------------------------

    def _let_in(self, raw: RawRequest, *methods: str) -> None:
        if raw.refused is not None:
            raise raw.refused
        try:
            if raw.method not in methods:
                allow = {"Allow": ", ".join(methods)}
                raise Refused(Reason.WRONG_METHOD, f"this route takes {methods[0]}", headers=allow)
            self._guard.admit(raw)
        except Refused:
            # A server reads what is left of a body before it goes on, at a stranger's own pace.
            raw.cut()
            raise

    def _read(self, raw: RawRequest) -> bytes:
        self._let_in(raw, "POST")
        # A page in a browser may send a form or plain text to any site, and JSON only to one that lets it.
        check_media_type(raw)
        return read_body(raw, _DRAIN_LIMIT if raw.path == DRAIN_PATH else self._max_body_bytes)

    def _body(self, raw: RawRequest, run: Run) -> bytes:
        """Return the body of a request whose caller is verified."""
        body = self._read(raw)
        run.caller = self._guard.verify(raw, body, self._node_id)
        return body

    def _seconds_left(self, raw: RawRequest, run: Run) -> float:
        return time_of(raw, self._default_timeout) - run.seconds

    def _log_refusal(self, raw: RawRequest, run: Run, exc: Refused) -> None:
        text = escaped(exc.cause or str(exc))
        # What is wrong with a call is its caller's; what keeps this node from checking one is its own.
        level = logging.ERROR if exc.cause and exc.reason.status >= Reason.FAULT.status else logging.WARNING
        kind = f"status={exc.reason.status} code={exc.reason.code.name}"
        self._limited_log.log(_log, level, f"refused: {kind}", "refused: %s %s: %s", _ids(raw, run), kind, text)


def _ids(raw: RawRequest, run: Run) -> str:
    return CallContext(run.request_id, traceparent=raw.headers.get("traceparent")).ids
