"""What to say of one attempt: the judgement of every way in which it can end, as a result and as a line in the log.

    the time was up, no connection, cut off   network error        UNAVAILABLE, DEADLINE_EXCEEDED
    an answer that is no envelope             serialization error  INTERNAL (or what its HTTP status says)
    an envelope that says no                  business error       the code in it

Whether the handler ran is judged by evidence (``Exchange``): a request that the kernel never took whole did not
run, since a receiver checks the length before it runs anything; after that only a complete answer proves
anything. No exception class decides it, except where a request went over connections that are not ours, which give no
evidence.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import requests
from urllib3.exceptions import ConnectTimeoutError, EmptyPoolError, NewConnectionError

from catga_sync._log_limit import LimitedLog
from catga_sync._redaction import escaped, shown
from catga_sync.context import CallContext, current_call
from catga_sync.errors import Delivery, ErrorCode, SerializationError
from catga_sync.nodes import ClusterNode
from catga_sync.pipeline import error_text, limit_text, unreadable_answer
from catga_sync.resilience.concurrency import NoPlace
from catga_sync.results import INSIDE, NEVER, OTHER_NODE, RETRY, CatgaResult
from catga_sync.serialization import MessageType
from catga_sync.transport.http.causes import causes_of, in_words
from catga_sync.transport.http.connection import Exchange
from catga_sync.wire.envelope import EnvelopeError, ReplyEnvelope

__all__ = ["Answer", "AnswerTooLong", "Call", "Judge", "check_encoding", "judge_one"]

_log = logging.getLogger("catga_sync.transport.invoker")

_STATUS_CODES = {
    400: ErrorCode.INTERNAL,
    401: ErrorCode.UNAUTHENTICATED,
    403: ErrorCode.PERMISSION_DENIED,
    404: ErrorCode.UNIMPLEMENTED,
    405: ErrorCode.UNIMPLEMENTED,
    413: ErrorCode.RESOURCE_EXHAUSTED,
    429: ErrorCode.UNAVAILABLE,
    502: ErrorCode.UNAVAILABLE,
    503: ErrorCode.UNAVAILABLE,
    504: ErrorCode.UNAVAILABLE,
}


#: Ids in the answer of a peer that failed before it had read which request it was, or that forgets it when it fails.
_NO_ID = ("unknown", "")

_NO_PLACE = {
    NoPlace.CROWDED: "has more to do than it gets done; there was no place for this call in half of its time",
    NoPlace.STALLED: "has ended none of its calls in half of this call's time; there was no place for it",
    NoPlace.RELEASED: "does not answer; this call no longer waits for a place there",
}


class Answer(NamedTuple):
    """What came back, read to its end."""

    status: int
    #: Names in any letter case.
    headers: Mapping[str, str]
    body: bytes


class AnswerTooLong(Exception):
    """The answer is longer than ``max_body_bytes``."""


class AnswerEncoded(Exception):
    """The answer has a ``Content-Encoding``, though identity was asked for. It is not read: it may be a bomb."""


def check_encoding(headers: Mapping[str, str]) -> None:
    """Raise ``AnswerEncoded`` if the headers say so."""
    encoding = headers.get("Content-Encoding")
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        raise AnswerEncoded(encoding)


class Call:
    """One attempt: it knows what to say of every way in which it can end."""

    def __init__(self, node: ClusterNode, entry: MessageType, request_id: str, failures: LimitedLog) -> None:
        self.node = node
        self.entry = entry
        self.request_id = request_id
        self.where = f"node {node.node_id} at {node.endpoint}"
        self._failures = failures
        self._started = time.monotonic()

    @property
    def context(self) -> CallContext:
        """The call that this is an attempt of; in a batch it is a part of the current one."""
        around = current_call()
        return CallContext(self.request_id) if around is None else around.nested(self.request_id, None)

    def answered(self, reply: ReplyEnvelope, status: int, executed: str | None) -> CatgaResult[Any]:
        """Judge an answer that could be read."""
        if reply.request_id != self.request_id:
            return self.crossed(reply, status)
        if reply.is_success:
            if status != 200 or executed == "0":
                text = f"{self.where} answered success with HTTP status {status}"
                return self.failed("network", text, ErrorCode.INTERNAL, Delivery.UNKNOWN)
            return self.succeeded(reply)
        if executed == "0":
            # A body that is too long for a node stays too long for it; another may have been told to take more.
            return self.refused(reply, Delivery.NOT_EXECUTED, retry=NEVER if reply.final else _retry_after(status))
        ran = executed == "1" or (executed is None and status == 200)
        return self.refused(reply, Delivery.EXECUTED if ran else Delivery.UNKNOWN)

    def refused_whole(
        self, reply: ReplyEnvelope, status: int, executed: str | None, request_id: str
    ) -> CatgaResult[Any]:
        """Judge the refusal of a batch as a whole, which names the first item's id."""
        if reply.request_id != request_id or reply.is_success:
            return self.crossed(reply, status)
        if executed == "0":
            return self.refused(reply, Delivery.NOT_EXECUTED, retry=_retry_after(status))
        return self.refused(reply, Delivery.UNKNOWN)

    def not_authentic(self, status: int) -> CatgaResult[Any]:
        """Judge an answer that nobody who has the secret is known to have given."""
        if status == 401:
            same = (
                "are secret and cluster_name the same there, and both clocks right? Without a secret both have to be "
                "of one user on one machine; else set the same secret= on both sides, or insecure=True"
            )
            text = f"{self.where} does not let this caller in: {same}"
        else:
            text = (
                f"{self.where} gave an answer that is not signed with the secret (HTTP status {status}); set the same "
                f"secret= on both sides"
            )
        # It may be of something in front of the node.
        return self.failed("network", text, ErrorCode.UNAUTHENTICATED, Delivery.UNKNOWN, retry=OTHER_NODE)

    def crossed(self, reply: ReplyEnvelope | None = None, status: int = 200) -> CatgaResult[Any]:
        """Judge an answer that does not have the id of this request, if there is one."""
        if reply is None or reply.is_success or reply.request_id not in _NO_ID:
            text = f"{self.where} answered another request than was asked"
            return self.failed("network", text, ErrorCode.INTERNAL, Delivery.UNKNOWN)
        said = "".join(char if char.isprintable() else " " for char in error_text(reply.error_message or ""))
        text = f"{self.where} failed without saying on which request (HTTP status {status}): {said}"
        return self._foreign(text, status)

    def too_long(self, size: int, limit: int) -> CatgaResult[Any]:
        text = f"the request has {size} bytes; max_body_bytes allows {limit}"
        code, delivery = ErrorCode.RESOURCE_EXHAUSTED, Delivery.NOT_EXECUTED
        return self.failed("serialization", text, code, delivery, retry=NEVER, inside=False)

    def unwritable(self, exc: SerializationError) -> CatgaResult[Any]:
        """Judge a request that cannot be written, and so was not sent."""
        code, delivery = ErrorCode.INVALID_ARGUMENT, Delivery.NOT_EXECUTED
        return self.failed("serialization", str(exc), code, delivery, inside=False)

    def succeeded(self, reply: ReplyEnvelope) -> CatgaResult[Any]:
        value = None
        if self.entry.response_codec is not None:
            try:
                value = self.entry.response_codec.decode(b"null" if reply.payload is None else reply.payload)
            except SerializationError as exc:
                return unreadable_answer(self.entry.name, exc, self.context)._with(
                    request_id=self.request_id,
                    node_id=reply.processed_by_node_id or self.node.node_id,
                    processing_time_ms=float(reply.processing_time_ms),
                )
        return CatgaResult(
            True,
            value,
            request_id=self.request_id,
            node_id=reply.processed_by_node_id or self.node.node_id,
            processing_time_ms=float(reply.processing_time_ms),
        )

    def refused(self, reply: ReplyEnvelope, delivery: Delivery, *, retry: str | None = None) -> CatgaResult[Any]:
        error = error_text(reply.error_message or "")
        self._log("business" if delivery is Delivery.EXECUTED else "network", error, reply.error_code, delivery)
        return CatgaResult(
            False,
            None,
            error,
            reply.error_code,
            delivery,
            request_id=self.request_id,
            node_id=reply.processed_by_node_id or self.node.node_id,
            processing_time_ms=float(reply.processing_time_ms),
            metadata=None if retry is None else {RETRY: retry},
        )

    def failed(
        self,
        layer: str,
        text: str,
        code: ErrorCode,
        delivery: Delivery,
        *,
        retry: str | None = None,
        inside: bool = True,
    ) -> CatgaResult[Any]:
        """Return a failure of the attempt; ``inside`` where its text names the node (``results.INSIDE``)."""
        text = limit_text(text)
        self._log(layer, text, code, delivery)
        metadata: dict[str, Any] = {} if retry is None else {RETRY: retry}
        if inside:
            metadata[INSIDE] = True
        return CatgaResult(False, None, text, code, delivery, request_id=self.request_id, metadata=metadata)

    def expired(self, delivery: Delivery, when: str) -> CatgaResult[Any]:
        text = f"the time of the call to {self.where} was up {when}"
        return self.failed("network", text, ErrorCode.DEADLINE_EXCEEDED, delivery)

    def no_place(self, why: NoPlace) -> CatgaResult[Any]:
        text = f"{self.where} {_NO_PLACE[why]}"
        return self.failed("network", text, ErrorCode.RESOURCE_EXHAUSTED, Delivery.NOT_EXECUTED)

    def no_envelope(self, status: int, exc: EnvelopeError) -> CatgaResult[Any]:
        if 300 <= status < 400:
            text = f"{self.where} answered with a redirect ({status}), which is not followed; check its endpoint"
            return self.failed("network", text, ErrorCode.UNAVAILABLE, Delivery.UNKNOWN)
        if status == 200:
            text = f"{self.where} answered with something that is no envelope ({exc})"
            return self.failed("serialization", text, ErrorCode.INTERNAL, Delivery.UNKNOWN)
        hint = "; is the receiver registered there?" if status in (404, 405) else ""
        text = f"{self.where} answered HTTP status {status} without an envelope{hint}"
        return self._foreign(text, status)

    def _foreign(self, text: str, status: int) -> CatgaResult[Any]:
        """Judge an answer of which only the HTTP status says anything; it may be of something in front of the node."""
        code = _STATUS_CODES.get(status, ErrorCode.INTERNAL)
        # These two say by themselves that another node is worth a try.
        retry = None if code in (ErrorCode.UNAVAILABLE, ErrorCode.INTERNAL) else OTHER_NODE
        return self.failed("network", text, code, Delivery.UNKNOWN, retry=retry)

    def broken(self, exc: BaseException, exchange: Exchange) -> CatgaResult[Any]:
        """Judge an exchange that ended without an answer."""
        sent = exchange.request_complete if exchange.is_evident else not _never_connected(exc)
        delivery = Delivery.UNKNOWN if sent else Delivery.NOT_EXECUTED
        _log.debug("%s: %s", self.context.ids, shown(exc))
        if isinstance(exc, AnswerTooLong):
            text = f"the answer of {self.where} is longer than max_body_bytes allows"
            return self.failed("network", text, ErrorCode.RESOURCE_EXHAUSTED, delivery)
        if isinstance(exc, AnswerEncoded):
            text = f"the answer of {self.where} is encoded ({str(exc)[:40]!r}), which it was asked not to be"
            return self.failed("serialization", text, ErrorCode.INTERNAL, delivery)
        if time.monotonic() >= exchange.expires:
            when = "while waiting for its answer" if sent else "before the request was handed over"
            return self.expired(delivery, when)
        what = "gave no complete answer" if sent else "cannot be reached"
        why = in_words(exc, self.node.endpoint or "")
        return self.failed("network", f"{self.where} {what} ({why})", ErrorCode.UNAVAILABLE, delivery)

    def _log(self, layer: str, text: str, code: object, delivery: Delivery) -> None:
        # A peer may make up any number of codes of its own.
        kind = code.name if isinstance(code, ErrorCode) else "of its own"
        self._failures.log(
            logging.WARNING,
            f"failed: node={self.node.node_id} layer={layer} code={kind} delivery={delivery.name}",
            "%s failed: %s node=%s layer=%s code=%s delivery=%s: %s",
            self.entry.name,
            self.context.ids,
            self.node.node_id,
            layer,
            getattr(code, "name", code),
            delivery.name,
            escaped(text),
        )


#: Says what came of each of these calls, which went in one exchange.
Judge = Callable[[list[Call], Answer, Exchange], list[CatgaResult[Any]]]


def judge_one(calls: list[Call], answer: Answer, exchange: Exchange) -> list[CatgaResult[Any]]:
    """Judge what came back for a single request: a ``Judge``."""
    (call,) = calls
    try:
        reply = ReplyEnvelope.decode(answer.body)
    except EnvelopeError as exc:
        exchange.retire()
        return [call.no_envelope(answer.status, exc)]
    if reply.request_id != call.request_id:
        exchange.retire()
    return [call.answered(reply, answer.status, answer.headers.get("Catga-Executed"))]


def _retry_after(status: int) -> str | None:
    """Return what the status of a refusal says of another try: a body that is too long for a node stays so."""
    return OTHER_NODE if status == 413 else None


def _never_connected(exc: BaseException) -> bool:
    """Return whether the connection was never made, as far as urllib3 tells through ``requests``."""
    never = (NewConnectionError, ConnectTimeoutError, EmptyPoolError, requests.ConnectTimeout)
    return any(isinstance(cause, never) for cause in causes_of(exc))
