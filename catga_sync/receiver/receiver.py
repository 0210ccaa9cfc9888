"""The receiving side of a node: a raw request in, a raw response out. No framework, no socket, no thread of its own.

The order is fixed; nothing is parsed before the caller is let in, and nothing runs before everything was read:

    path, method -> caller -> type, length, body -> signature -> draining, busy? -> decompression -> envelope
    -> time left, chain -> type, handler -> payload -> seen before? -> handler -> response

Rules of this file:
1. Every response is an envelope with ``Catga-Executed``: "0" proves that the handler did not start.
2. A received request runs here (see ``executor.py``) or is refused. It is never forwarded.
3. A caller that is not verified takes no place among the calls that run, and keeps a thread no longer than its body
   may take.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from catga_sync._log_limit import LimitedLog
from catga_sync._redaction import escaped
from catga_sync.context import CallContext
from catga_sync.errors import ends_process
from catga_sync.hooks import Hooks
from catga_sync.pipeline import limit_text
from catga_sync.receiver.authentication import Guard
from catga_sync.receiver.call import UNKNOWN, CallMeta, Progress, StreamOpening
from catga_sync.receiver.compression import Compression
from catga_sync.receiver.deduplication import Deduplication
from catga_sync.receiver.executor import Executor, Handlers
from catga_sync.receiver.memory_budget import BUDGET, SMALL, MemoryBudget
from catga_sync.receiver.refusal import FAULT_TEXT, OK, Reason, Refused
from catga_sync.receiver.request import RawRequest, call_meta, in_memory, item_meta, read_body, timeout_of
from catga_sync.receiver.response import RawResponse, fitting, name_request, served_details, times_of
from catga_sync.receiver.serving_node import ServingNode
from catga_sync.receiver.stream import ServedCall
from catga_sync.receiver.streams import Streams
from catga_sync.receiver.surroundings import Surroundings
from catga_sync.wire.compression import THRESHOLD
from catga_sync.wire.envelope import EnvelopeError, RequestEnvelope, ResponseEnvelope
from catga_sync.wire.form import JSON
from catga_sync.wire.frames import PROTOCOL
from catga_sync.wire.headers import EXECUTED, REPLAYED, TIMES, TRACEPARENT
from catga_sync.wire.routes import BATCH_PATH, DRAIN_PATH, INVOKE_PATH, NODE_PATH, STREAM_PATH

__all__ = ["RawRequest", "RawResponse", "Receiver"]

#: Bytes of a request to go offline, which has no content.
_DRAIN_LIMIT = 1024
#: Seconds for writing a response whose call has no time left.
_LAST_WORD = 1.0
#: The HTTP status of a response after which a stream begins.
SWITCHING = 101
#: Bytes that are kept for a response in a batch, beside its ids, its payload and its text.
_LEAST = 200

_TOO_LONG = "the responses of the batch are together longer than max_body_bytes allows"

_log = logging.getLogger(__name__)


class Receiver:
    """
    Serves the requests of other nodes. Thread-safe.

    Args:
        local:
            Where the handlers are.
        node:
            This node.
        guard:
            Decides which callers are accepted; see ``catga_sync.receiver.authentication``.
        deduplication:
            Keeps a request id from running twice; None lets every request run.
        surroundings:
            What the framework puts around each call; None means nothing.
        on_request:
            Called at the start of every request, in its thread; must be quick.
        on_drain:
            Called when the node is asked to go offline.
        max_body_bytes:
            The longest body that is read, compressed or not. Large requests may take 48 times as much memory at once;
            see ``memory_budget.py``.
        compresses:
            Whether compressed requests are taken, and responses compressed for callers that ask for it.
        default_timeout:
            Seconds for a call whose caller gives none.
        limited_log:
            Bounds the refusals that are logged; None means one of its own.
        hooks:
            Told of each exchange; None means that there are none.
        max_streams:
            Streams that may be open at once; 0 offers none.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        local: Handlers,
        node: ServingNode,
        *,
        guard: Guard,
        deduplication: Deduplication | None = None,
        surroundings: Surroundings | None = None,
        on_request: Callable[[], None] = lambda: None,
        on_drain: Callable[[], None] = lambda: None,
        max_body_bytes: int = 4 * 1024 * 1024,
        compresses: bool = True,
        default_timeout: float = 30.0,
        limited_log: LimitedLog | None = None,
        hooks: Hooks | None = None,
        max_streams: int = 0,
    ) -> None:
        around = Surroundings() if surroundings is None else surroundings
        self._memory = MemoryBudget(BUDGET * max_body_bytes)
        self._compression = Compression(self._memory, max_body_bytes, enabled=compresses)
        self._executor = Executor(
            local, node.node_id, deduplication, around, self._memory, max_body_bytes=max_body_bytes
        )
        self._node = node
        self._node_id = node.node_id
        self._guard = guard
        self._on_request = on_request
        self._on_drain = on_drain
        self._max_body_bytes = max_body_bytes
        #: Bytes of a body that are read, where a route has a limit of its own.
        self._limits = {DRAIN_PATH: _DRAIN_LIMIT}
        self._default_timeout = default_timeout
        self._limited_log = LimitedLog() if limited_log is None else limited_log
        self._hooks = Hooks() if hooks is None else hooks
        #: The open streams; whoever takes a connection over hands it to them.
        self.streams = Streams(max_streams, max_body_bytes=max_body_bytes, limited_log=self._limited_log)

    def handle(self, raw: RawRequest) -> RawResponse:
        """Serve one request. Raises nothing but what the server raises to end its process."""
        timeout = timeout_of(raw.headers)
        if raw.seconds_left is not None and (timeout is None or raw.seconds_left < timeout):
            timeout = raw.seconds_left
        progress = Progress(timeout=timeout, arrived=raw.arrived or time.monotonic())
        extra: Mapping[str, str] = {}
        status = OK
        self._on_request()
        try:
            serve = self._routes.get(raw.path)
            if serve is None:
                raise Refused(Reason.NO_ROUTE, "no such route of the cluster")
            body = serve(self, raw, progress)
            if progress.stream is not None:
                status, extra = SWITCHING, progress.stream.headers
        except Refused as exc:
            name_request(raw, progress)
            self._log_refusal(raw, progress, exc)
            progress.caller = exc.caller or progress.caller
            status, extra = exc.reason.status, exc.headers
            body = raw.form.write_response(self._executor.refusal(exc, progress))
        except BaseException as exc:
            if ends_process(exc):
                raise
            status = Reason.FAULT.status
            name_request(raw, progress)
            body = raw.form.write_response(self._fault(raw, progress))
        executed = progress.executed_header
        content_type = raw.form.content_type
        made = {"Content-Type": content_type, EXECUTED: executed, **extra}
        coding = None
        if len(body) >= THRESHOLD and raw.form is JSON:  # gRPC has a compression of its own
            body, coding = self._compression.encoded(raw, body, signed=progress.caller is not None)
            if coding is not None:
                made["Content-Encoding"] = coding
        if progress.replayed:
            made[REPLAYED] = "1"
        made.update(self._guard.seal(progress.caller, status, executed, self._node_id, body, content_type, coding))
        if progress.timeout is not None:
            made[TIMES] = times_of(progress)
        if self._hooks.served:
            size = len(body) if progress.stream is None else 0  # nothing but a head travels
            self._hooks.tell_served(served_details(raw, progress, status, size))
        return RawResponse(status, body, made, max(_LAST_WORD, self._seconds_left(progress)), progress.stream)

    def serve_call(self, raw: RawRequest, envelope: RequestEnvelope) -> ServedCall:
        """
        Serve one call of a stream, whose caller was verified when it was opened. Raises as ``handle`` does.

        Args:
            raw: The headers that came with the call; it has no body.
            envelope: The call.
        """
        progress = Progress(envelope.request_id, timeout_of(raw.headers), raw.arrived or time.monotonic())
        status, going = OK, False
        self._on_request()
        try:
            meta = call_meta(raw, envelope, progress, self._default_timeout)
            # After half of its time another node may still run it.
            bounded = self._node.count_in((meta.deadline.at - time.monotonic()) / 2.0, meta.chain)
            try:
                response = self._executor.run(envelope, meta, progress)
            finally:
                self._node.count_out(bounded)
        except Refused as exc:
            self._log_refusal(raw, progress, exc)
            status, going = exc.reason.status, exc.reason is Reason.DRAINING
            response = self._executor.refusal(exc, progress)
        except BaseException as exc:
            if ends_process(exc):
                raise
            status, response = Reason.FAULT.status, self._fault(raw, progress)
        if self._hooks.served:
            progress.body_bytes = len(envelope.payload)
            self._hooks.tell_served(served_details(raw, progress, status, len(response.payload or b"")))
        left, times = self._seconds_left(progress), times_of(progress)
        return ServedCall(response, status, progress.executed_header, progress.replayed, times, left, going)

    def read_body(self, raw: RawRequest) -> tuple[RawRequest, bytes]:
        """
        Read the body of a request before other code of the app can: hooks, logs and agents read it off the wire, too.

        Returns:
            The request for ``handle``, whose body is in memory now, and that body. It is as short as it was when the
            request was found to be one to refuse; ``handle`` does so.
        """
        body, refused, let_in = b"", None, raw.let_in
        try:
            if raw.method == "POST":
                admitted = self._let_in(raw, "POST")
                limit = self._limits.get(raw.path, self._max_body_bytes)
                body = read_body(raw, limit, timeout_of(raw.headers))
                let_in = (self._guard, admitted)
        except Refused as exc:
            refused = exc
        return in_memory(raw, body, refused, let_in), body

    def _serve_invoke(self, raw: RawRequest, progress: Progress) -> bytes:
        body = self._body(raw, progress)
        bounded = self._node.count_in()
        try:
            if raw.headers.get("content-encoding") is not None:
                body = self._compression.decoded(raw, body, lambda: self._seconds_left(progress))
            try:
                if len(body) < SMALL:
                    envelope = raw.form.read_request(body)
                else:
                    with self._memory.share(body, lambda: self._seconds_left(progress)):
                        envelope = raw.form.read_request(body)
            except EnvelopeError as exc:
                progress.request_id = exc.request_id or progress.request_id
                raise Refused(Reason.UNREADABLE, limit_text(str(exc))) from exc
            del body  # it may be long, and the handler may run for long
            progress.request_id = envelope.request_id
            meta = call_meta(raw, envelope, progress, self._default_timeout)
            return raw.form.write_response(self._executor.run(envelope, meta, progress))
        finally:
            self._node.count_out(bounded)

    def _serve_batch(self, raw: RawRequest, progress: Progress) -> bytes:
        body = self._body(raw, progress)
        bounded = self._node.count_in()
        try:
            if raw.headers.get("content-encoding") is not None:
                body = self._compression.decoded(raw, body, lambda: self._seconds_left(progress))
            try:
                with self._memory.share(body, lambda: self._seconds_left(progress)):
                    items = raw.form.read_batch(body)
            except EnvelopeError as exc:
                raise Refused(Reason.UNREADABLE, limit_text(str(exc))) from exc
            del body
            # One deadline for all items, from the arrival of the batch; each item may still be too old.
            meta = call_meta(raw, None, progress, self._default_timeout)
            least = _LEAST + len(self._node_id)
            left = sum(least + len(item.request_id or "") for item in items)
            room = self._max_body_bytes - _LEAST
            if left > room:
                text = f"the responses to so many requests are together longer than {self._max_body_bytes} bytes"
                raise Refused(Reason.TOO_LONG, text)
            responses, write = [], raw.form.batch_item
            for item in items:
                each = Progress(item.request_id or UNKNOWN, progress.timeout)
                response = self._run_item(raw, item, each, meta)
                left -= least + len(item.request_id or "")
                written = write(response, each.executed_header)
                if len(written) > room - left:
                    too_long = partial(self._too_long, each)
                    written = fitting(raw.form, response, each.executed_header, room - left, too_long)
                responses.append(written)
                room -= len(written) + 1
                progress.executed = progress.executed or each.executed
                progress.replayed_items += each.replayed and not each.refusals
                progress.refusals += each.refusals
            return raw.form.write_batch_response(responses)
        finally:
            self._node.count_out(bounded)

    def _too_long(self, progress: Progress) -> ResponseEnvelope:
        return self._executor.refusal(Refused(Reason.RESPONSE_TOO_LONG, _TOO_LONG), progress)

    def _run_item(
        self, raw: RawRequest, item: RequestEnvelope | EnvelopeError, progress: Progress, batch: CallMeta
    ) -> ResponseEnvelope:
        try:
            if isinstance(item, EnvelopeError):
                raise Refused(Reason.UNREADABLE, limit_text(str(item)))
            return self._executor.run(item, item_meta(batch, item, progress), progress)
        except Refused as exc:
            self._log_refusal(raw, progress, exc)
            return self._executor.refusal(exc, progress)
        except BaseException as exc:
            if ends_process(exc):
                raise
            return self._fault(raw, progress)

    def _serve_description(self, raw: RawRequest, progress: Progress) -> bytes:
        if raw.method in ("GET", "HEAD") and raw.refused is None and self._guard.lacks_signature(raw):
            return raw.form.write_description(json.dumps({"status": self._node.to_wire()["status"]}))
        admitted = self._let_in(raw, "GET", "HEAD")
        progress.caller = self._guard.verify(raw, b"", self._node_id, admitted)
        return raw.form.write_description(json.dumps(dict(self._node.to_wire())))

    def _serve_drain(self, raw: RawRequest, progress: Progress) -> bytes:
        self._body(raw, progress)
        self._on_drain()
        return raw.form.write_description(json.dumps(dict(self._node.to_wire())))

    def _serve_stream(self, raw: RawRequest, progress: Progress) -> bytes:
        admitted = self._let_in(raw, "GET")
        if self.streams.most == 0 or not raw.takes_over:
            raise Refused(Reason.NO_ROUTE, "this node offers no streams")
        headers = raw.headers
        if headers.get("upgrade", "").strip().lower() != PROTOCOL or raw.protocol != "HTTP/1.1":
            raise Refused(Reason.NO_UPGRADE, f"Upgrade: {PROTOCOL} is expected", headers={"Upgrade": PROTOCOL})
        caller = progress.caller = self._guard.verify(raw, b"", self._node_id, admitted)
        self._node.count_out(self._node.count_in())  # a node that takes no call opens no stream
        if self.streams.has_ended:
            # Another worker may take it at once.
            text = f"this worker of node {self._node_id} ends; send by POST"
            raise Refused(Reason.BUSY, text, headers={"Retry-After": "0"})
        if not self.streams.has_room:
            raise Refused(Reason.BUSY, f"node {self._node_id} has as many streams as it may; send by POST")
        nonce = os.urandom(16).hex()
        progress.stream = StreamOpening(nonce, self._guard.stream_keys(caller, nonce, self._node_id))
        return nonce.encode("ascii")

    _routes: Mapping[str, Callable[[Receiver, RawRequest, Progress], bytes]] = {
        INVOKE_PATH: _serve_invoke,
        BATCH_PATH: _serve_batch,
        NODE_PATH: _serve_description,
        DRAIN_PATH: _serve_drain,
        STREAM_PATH: _serve_stream,
    }

    def _let_in(self, raw: RawRequest, *methods: str) -> Any:
        """Return what the guard needs to verify the caller; refuse a request that its head alone shows to be wrong."""
        if raw.refused is not None:
            raise raw.refused
        try:
            if raw.method not in methods:
                allow = {"Allow": ", ".join(methods)}
                raise Refused(Reason.WRONG_METHOD, f"this route takes {methods[0]}", headers=allow)
            return self._guard.admit(raw)
        except Refused:
            # A server would read the rest of the body first, at the pace of its caller.
            if raw.cut is not None:
                raw.cut()
            raise

    def _body(self, raw: RawRequest, progress: Progress) -> bytes:
        """Return the body of a request whose caller is verified."""
        guard, admitted = raw.let_in
        if guard is not self._guard:  # it was not read first, or not by this receiver, or was refused then
            admitted = self._let_in(raw, "POST")
        body = read_body(raw, self._limits.get(raw.path, self._max_body_bytes), progress.timeout)
        progress.body_bytes = len(body)
        progress.caller = self._guard.verify(raw, body, self._node_id, admitted)
        return body

    def _seconds_left(self, progress: Progress) -> float:
        seconds = self._default_timeout if progress.timeout is None else progress.timeout
        return progress.arrived + seconds - time.monotonic()

    def _fault(self, raw: RawRequest, progress: Progress) -> ResponseEnvelope:
        """Log the exception that is being handled, and return the response to the request that met it."""
        _log.exception("fault of the receiver: %s", _ids(raw, progress))
        return self._executor.refusal(Refused(Reason.FAULT, FAULT_TEXT), progress)

    def _log_refusal(self, raw: RawRequest, progress: Progress, exc: Refused) -> None:
        text = escaped(exc.cause or str(exc))
        reason = exc.reason
        # What is wrong with a call is its caller's; what keeps this node from checking one is its own.
        level = logging.ERROR if exc.cause and reason.status >= Reason.FAULT.status else logging.WARNING
        kind = f"status={reason.status} code={reason.code.name}"
        self._limited_log.log(_log, level, f"refused: {kind}", "refused: %s %s: %s", _ids(raw, progress), kind, text)


def _ids(raw: RawRequest, progress: Progress) -> str:
    return CallContext(progress.request_id, traceparent=raw.headers.get(TRACEPARENT)).ids
