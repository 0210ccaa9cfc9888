"""How one attempt ends, as a result and as a line in the log: every way in which it can.

    the time was up, no connection, cut off   network error        UNAVAILABLE, DEADLINE_EXCEEDED
    a response that is no envelope            serialization error  INTERNAL (or that of its HTTP status)
    an envelope with an error                 business error       the code in it

The envelope says whether the handler ran; without one, the evidence of the channel decides (``ExchangeFailed.sent``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from catga_sync._log_limit import LimitedLog
from catga_sync._redaction import escaped
from catga_sync.context import CallContext
from catga_sync.errors import Delivery, ErrorCode, SerializationError
from catga_sync.nodes import ClusterNode
from catga_sync.pipeline import error_text, limit_text, unreadable_answer
from catga_sync.results import INSIDE, NEVER, OTHER_NODE, RETRY, CatgaResult, succeeded
from catga_sync.transport.base import Response
from catga_sync.wire.envelope import EnvelopeError, ResponseEnvelope
from catga_sync.wire.form import JSON, WireForm
from catga_sync.wire.headers import EXECUTED

__all__ = ["Outcome", "judge_one"]

_log = logging.getLogger(__name__)

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


#: Ids in the response of a peer that failed before it had read the request id, or that drops the id when it fails.
_NO_ID = ("unknown", "")


@dataclass(slots=True, eq=False)
class Outcome:
    """
    The outcome of one attempt.

    Args:
        node: Where the request goes.
        type_name: The request type, as it is named on the wire.
        decode: Reads the payload of the response; None where there is none.
        call: The call that it is an attempt of.
        limited_log: Bounds the failures that are logged.
        measured: What was measured in its exchange, for the metadata of the result; it is filled by then, and stays so.
    """

    node: ClusterNode
    type_name: str
    decode: Callable[[bytes], Any] | None
    call: CallContext
    limited_log: LimitedLog
    measured: Mapping[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The node, for texts."""
        return f"node {self.node.node_id} at {self.node.endpoint}"

    def responded(self, response: ResponseEnvelope, status: int, executed: str | None) -> CatgaResult[Any]:
        """Judge a response that could be read."""
        if response.request_id != self.call.request_id:
            return self.crossed(response, status)
        if response.is_success:
            if status != 200 or executed == "0":
                text = f"{self.where} reports success with HTTP status {status}"
                return self.failed("network", text, ErrorCode.INTERNAL, Delivery.UNKNOWN)
            node_id, took = response.processed_by_node_id or self.node.node_id, float(response.processing_time_ms)
            measured = MappingProxyType(self.measured)
            try:
                raw = b"null" if response.payload is None else response.payload
                value = None if self.decode is None else self.decode(raw)
            except SerializationError as exc:
                unreadable = unreadable_answer(self.type_name, exc, self.call)
                return unreadable._with(
                    request_id=self.call.request_id, node_id=node_id, processing_time_ms=took, metadata=measured
                )
            return succeeded(value, took, self.call.request_id, node_id, measured)
        if executed == "0":
            # A body that is too long for a node stays too long for it; another may allow more.
            return self.refused(
                response, Delivery.NOT_EXECUTED, retry=NEVER if response.final else _retry_after(status)
            )
        ran = executed == "1" or (executed is None and status == 200)
        return self.refused(response, Delivery.EXECUTED if ran else Delivery.UNKNOWN)

    def refused_whole(
        self, response: ResponseEnvelope, status: int, executed: str | None, request_id: str
    ) -> CatgaResult[Any]:
        """Judge the refusal of a batch as a whole, which names the first item's id."""
        if response.request_id != request_id or response.is_success:
            return self.crossed(response, status)
        if executed == "0":
            return self.refused(response, Delivery.NOT_EXECUTED, retry=_retry_after(status))
        return self.refused(response, Delivery.UNKNOWN)

    def not_authentic(self, status: int) -> CatgaResult[Any]:
        """Judge a response that is not signed with the secret."""
        if status == 401:
            same = (
                "are secret and cluster_name the same there, and both clocks right? Without a secret both have to be "
                "of one user on one machine; else set the same secret= on both sides, or insecure=True"
            )
            text = f"{self.where} does not let this caller in: {same}"
        else:
            text = (
                f"{self.where} gave a response that is not signed with the secret (HTTP status {status}); set the same "
                f"secret= on both sides"
            )
        # It may come from a proxy in front of the node.
        return self.failed("network", text, ErrorCode.UNAUTHENTICATED, Delivery.UNKNOWN, retry=OTHER_NODE)

    def crossed(self, response: ResponseEnvelope | None = None, status: int = 200) -> CatgaResult[Any]:
        """Judge a response that does not have the id of this request; None where a batch has none for it."""
        if response is None or response.is_success or response.request_id not in _NO_ID:
            text = f"{self.where} responded to another request than was sent"
            return self.failed("network", text, ErrorCode.INTERNAL, Delivery.UNKNOWN)
        said = "".join(char if char.isprintable() else " " for char in error_text(response.error_message or ""))
        text = f"{self.where} reported a failure without the id of the request (HTTP status {status}): {said}"
        return self._foreign(text, status)

    def too_long(self, size: int, limit: int) -> CatgaResult[Any]:
        text = f"the request has {size} bytes; max_body_bytes allows {limit}"
        code, delivery = ErrorCode.RESOURCE_EXHAUSTED, Delivery.NOT_EXECUTED
        return self.failed("serialization", text, code, delivery, retry=NEVER, inside=False)

    def unwritable(self, exc: SerializationError) -> CatgaResult[Any]:
        """Judge a request that cannot be written, and so was not sent."""
        code, delivery = ErrorCode.INVALID_ARGUMENT, Delivery.NOT_EXECUTED
        return self.failed("serialization", str(exc), code, delivery, inside=False)

    def refused(self, response: ResponseEnvelope, delivery: Delivery, *, retry: str | None = None) -> CatgaResult[Any]:
        error = error_text(response.error_message or "")
        self._log("business" if delivery is Delivery.EXECUTED else "network", error, response.error_code, delivery)
        return CatgaResult(
            False,
            None,
            error,
            response.error_code,
            delivery,
            request_id=self.call.request_id,
            node_id=response.processed_by_node_id or self.node.node_id,
            processing_time_ms=float(response.processing_time_ms),
            metadata=self.measured if retry is None else {**self.measured, RETRY: retry},
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
        metadata: dict[str, Any] = {**self.measured} if retry is None else {**self.measured, RETRY: retry}
        if inside:
            metadata[INSIDE] = True
        return CatgaResult(False, None, text, code, delivery, request_id=self.call.request_id, metadata=metadata)

    def expired(self, delivery: Delivery, when: str) -> CatgaResult[Any]:
        text = f"the time of the call to {self.where} was up {when}"
        return self.failed("network", text, ErrorCode.DEADLINE_EXCEEDED, delivery)

    def no_envelope(self, status: int, exc: EnvelopeError) -> CatgaResult[Any]:
        if 300 <= status < 400:
            text = f"{self.where} responded with a redirect ({status}), which is not followed; check its endpoint"
            return self.failed("network", text, ErrorCode.UNAVAILABLE, Delivery.UNKNOWN)
        if status == 200:
            text = f"{self.where} responded with something that is no envelope ({exc})"
            return self.failed("serialization", text, ErrorCode.INTERNAL, Delivery.UNKNOWN)
        hint = "; is the receiver registered there?" if status in (404, 405) else ""
        text = f"{self.where} responded with HTTP status {status} without an envelope{hint}"
        return self._foreign(text, status)

    def _foreign(self, text: str, status: int) -> CatgaResult[Any]:
        """Judge a response that has only an HTTP status; it may come from a proxy in front of the node."""
        code = _STATUS_CODES.get(status, ErrorCode.INTERNAL)
        # For these two codes another node is chosen anyway.
        retry = None if code in (ErrorCode.UNAVAILABLE, ErrorCode.INTERNAL) else OTHER_NODE
        return self.failed("network", text, code, Delivery.UNKNOWN, retry=retry)

    def broken(self, *, what: str, sent: bool, code: ErrorCode, layer: str) -> CatgaResult[Any]:
        """Judge an exchange that ended without a response; arguments as in ``ExchangeFailed``."""
        delivery = Delivery.UNKNOWN if sent else Delivery.NOT_EXECUTED
        if code is ErrorCode.DEADLINE_EXCEEDED:
            return self.expired(
                delivery, "while waiting for its response" if sent else "before the request was handed over"
            )
        return self.failed(layer, f"{self.where} {what}", code, delivery)

    def unsigned(self, reason: str) -> CatgaResult[Any]:
        """Judge a request that was not sent, since there is no key to sign it with."""
        text = f"{self.where} cannot be reached ({reason})"
        return self.failed("network", text, ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED)

    def _log(self, layer: str, text: str, code: object, delivery: Delivery) -> None:
        # A peer may make up any number of codes of its own.
        kind = code if isinstance(code, ErrorCode) else "of its own"
        self.limited_log.log(
            _log,
            logging.WARNING,
            f"failed: node={self.node.node_id} layer={layer} code={kind} delivery={delivery}",
            "%s failed: %s node=%s layer=%s code=%s delivery=%s: %s",
            self.type_name,
            self.call.ids,
            self.node.node_id,
            layer,
            code,
            delivery,
            escaped(text),
        )


def judge_one(outcome: Outcome, response: Response, form: WireForm = JSON) -> CatgaResult[Any]:
    """Judge the response to a single request."""
    try:
        envelope = form.read_response(response.body)
    except EnvelopeError as exc:
        response.retire()
        return outcome.no_envelope(response.status, exc)
    if envelope.request_id != outcome.call.request_id:
        response.retire()
    return outcome.responded(envelope, response.status, response.headers.get(EXECUTED))


def _retry_after(status: int) -> str | None:
    """Return where a refused call may get another attempt; a body too long for one node may suit another node only."""
    return OTHER_NODE if status == 413 else None
