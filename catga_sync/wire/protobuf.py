"""Requests and responses as protobuf messages: the form in which they travel over gRPC. ``catga.proto`` describes it.

A message is read only after its signature was checked, which covers the bytes as they came.

The bytes of two messages of one type, one after the other, are one message with the fields of both
(https://protobuf.dev/programming-guides/encoding/#last-one-wins): so the fields that all requests of a type share are
written once.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from catga_sync.errors import parse_code
from catga_sync.messages import MAX_NAME
from catga_sync.wire.catga_pb2 import (
    InvokeBatchRequest,
    InvokeBatchResponse,
    InvokeRequest,
    InvokeResponse,
    NodeDescription,
)
from catga_sync.wire.envelope import (
    MAX_BATCH,
    EnvelopeError,
    RequestEnvelope,
    ResponseEnvelope,
    printable,
    well_formed_id,
)

__all__ = ["PROTOBUF", "ProtobufForm", "ProtobufHead"]

#: The tag of field 1 with a length, as both batches begin each of their items.
_ITEM = b"\x0a"
#: Fields of a batch beside its items, from a later version.
_OTHERS = 100
#: The bytes of a value by the kind in its tag (https://protobuf.dev/programming-guides/encoding/#structure).
_FIXED = {1: 8, 5: 4}


class ProtobufHead:
    """
    What the requests of one type from one node have in common, as bytes. Immutable.

    Args:
        request_type_name: The type of the request.
        response_type_name: The type of its response.
        source_node_id: The id of the node; None where it has none.
    """

    __slots__ = ("_common",)

    def __init__(self, request_type_name: str, response_type_name: str, source_node_id: str | None) -> None:
        common = InvokeRequest(
            request_type_name=request_type_name, response_type_name=response_type_name, source_node_id=source_node_id
        )
        self._common = common.SerializeToString()

    def unstamped(self, payload: bytes, request_id: str, traceparent: str | None = None) -> bytes:
        """See ``Head``."""
        own = InvokeRequest(payload=payload, request_id=request_id, traceparent=traceparent)
        return self._common + own.SerializeToString()


class ProtobufForm:
    """The messages of ``catga.proto``. Immutable, thread-safe."""

    #: Signed, though it does not travel: gRPC has a media type of its own.
    content_type = "application/x-protobuf"
    #: A timestamp has 15 bytes at most, and the tag and length of an item 6.
    added = 24

    head = staticmethod(ProtobufHead)

    def stamped(self, unstamped: bytes, now: float) -> bytes:
        """See ``WireForm``."""
        seconds = int(now)
        sent = Timestamp(seconds=seconds, nanos=int((now - seconds) * 1e6) * 1000)
        return unstamped + InvokeRequest(timestamp=sent).SerializeToString()

    def write_batch(self, requests: Iterable[bytes]) -> bytes:
        """See ``WireForm``."""
        return b"".join(_ITEM + _length(each) + each for each in requests)

    def read_request(self, body: bytes) -> RequestEnvelope:
        """See ``WireForm``."""
        try:
            message = InvokeRequest.FromString(body)
        except DecodeError as exc:
            raise EnvelopeError("envelope: not an InvokeRequest of catga.proto") from exc
        return _request(message)

    def read_batch(self, body: bytes) -> list[RequestEnvelope | EnvelopeError]:
        """See ``WireForm``."""
        if not _within_limit(body):
            raise EnvelopeError(f"requests: 1 to {MAX_BATCH} requests are expected")
        try:
            messages = InvokeBatchRequest.FromString(body).requests
        except DecodeError as exc:
            raise EnvelopeError("envelope: not an InvokeBatchRequest of catga.proto") from exc
        if not 1 <= len(messages) <= MAX_BATCH:
            raise EnvelopeError(f"requests: 1 to {MAX_BATCH} requests are expected")
        read: list[RequestEnvelope | EnvelopeError] = []
        for message in messages:
            try:
                read.append(_request(message))
            except EnvelopeError as exc:
                read.append(exc)
        return read

    def read_response(self, body: bytes) -> ResponseEnvelope:
        """See ``WireForm``."""
        try:
            message = InvokeResponse.FromString(body)
        except DecodeError as exc:
            raise EnvelopeError("envelope: not an InvokeResponse of catga.proto") from exc
        return _response(message)

    def read_batch_response(self, body: bytes) -> list[tuple[ResponseEnvelope, str | None]]:
        """See ``WireForm``."""
        if not _within_limit(body):
            raise EnvelopeError(f"responses: 1 to {MAX_BATCH} responses, each with executed, are expected")
        try:
            messages = InvokeBatchResponse.FromString(body).responses
        except DecodeError as exc:
            raise EnvelopeError("envelope: not an InvokeBatchResponse of catga.proto") from exc
        if not 1 <= len(messages) <= MAX_BATCH or not all(each.executed for each in messages):
            raise EnvelopeError(f"responses: 1 to {MAX_BATCH} responses, each with executed, are expected")
        return [(_response(each), each.executed) for each in messages]

    def write_response(self, response: ResponseEnvelope) -> bytes:
        """See ``WireForm``."""
        return _written(response, "")

    def batch_item(self, response: ResponseEnvelope, executed: str) -> bytes:
        """See ``WireForm``."""
        message = _written(response, executed)
        return _ITEM + _length(message) + message

    def write_batch_response(self, items: Iterable[bytes]) -> bytes:
        """See ``WireForm``."""
        return b"".join(items)

    def write_description(self, description: str) -> bytes:
        """See ``WireForm``."""
        return NodeDescription(json=description).SerializeToString()


PROTOBUF = ProtobufForm()


def _within_limit(body: bytes) -> bool:
    """
    Return whether a batch has MAX_BATCH items at most, by its top-level tags alone.

    An item that is empty has two bytes on the wire and over a hundred once it is parsed. Where the bytes are no
    message, the parser finds out.
    """
    if len(body) <= 2 * MAX_BATCH:
        return True
    at = items = others = 0
    while at < len(body):
        tag, at = _varint(body, at)
        if tag == _ITEM[0]:
            items += 1
        else:
            others += 1
        if items > MAX_BATCH or others > _OTHERS:
            return False
        kind = tag & 7
        if kind == 2:
            size, at = _varint(body, at)
            at += size
        elif kind == 0:
            _, at = _varint(body, at)
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            return False  # a group, which catga.proto has not
    return True


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """Return the varint at a position, and the position behind it: that of the end where it is cut off."""
    value, shift = 0, 0
    while at < len(body):
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80 or shift > 63:
            break
        shift += 7
    return value, at


def _request(message: InvokeRequest) -> RequestEnvelope:
    request_id = message.request_id
    if not well_formed_id(request_id):
        raise EnvelopeError("request_id: give 1 to 128 characters of A-Z a-z 0-9 . _ : -")
    for name in ("request_type_name", "response_type_name"):
        value: str = getattr(message, name)
        if not 1 <= len(value) <= MAX_NAME or not value.isprintable():
            raise EnvelopeError(f"{name}: give 1 to {MAX_NAME} printable characters", request_id=request_id)
    sent = None
    if message.HasField("timestamp"):
        seconds = message.timestamp.seconds
        if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
            raise EnvelopeError("timestamp: no such date or time", request_id=request_id)
        sent = None if seconds == _FIRST_SECOND else seconds + message.timestamp.nanos / 1e9
    return RequestEnvelope(
        message.request_type_name,
        message.response_type_name,
        message.payload,
        request_id,
        message.source_node_id if well_formed_id(message.source_node_id) else None,
        sent,
        message.traceparent if message.traceparent.isascii() and 0 < len(message.traceparent) <= 256 else None,
    )


#: The years 1 to 9999, which protobuf's Timestamp and Python's datetime have. A .NET program that gives no time sends
#: the first second, which so means none.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799


def _response(message: InvokeResponse) -> ResponseEnvelope:
    if not message.request_id or message.processing_time_ms < 0:
        raise EnvelopeError("request_id, processing_time_ms: an id and milliseconds are expected")
    has = message.HasField
    return ResponseEnvelope(
        message.request_id,
        message.is_success,
        message.payload if has("payload") else None,
        message.error_message if has("error_message") else None,
        parse_code(printable(message.error_code)) if has("error_code") else None,
        printable(message.processed_by_node_id) if has("processed_by_node_id") else None,
        message.processing_time_ms,
        message.final,
    )


def _written(response: ResponseEnvelope, executed: str) -> bytes:
    message = InvokeResponse(
        request_id=response.request_id,
        is_success=response.is_success,
        payload=response.payload,
        error_message=_sound(response.error_message),
        error_code=_sound(response.error_code),
        processed_by_node_id=response.processed_by_node_id,
        processing_time_ms=response.processing_time_ms,
        final=response.final,
        executed=executed,
    )
    return message.SerializeToString()


def _sound(text: str | None) -> str | None:
    """Return a text that UTF-8 can hold: an application's may have half of a surrogate pair."""
    if text is None or text.isascii():
        return None if text is None else str(text)
    return text.encode("utf-8", "replace").decode("utf-8")


def _length(message: bytes) -> bytes:
    """Return the length of a message as protobuf writes it (a varint)."""
    size, made = len(message), bytearray()
    while size > 0x7F:
        made.append(size & 0x7F | 0x80)
        size >>= 7
    made.append(size)
    return bytes(made)
