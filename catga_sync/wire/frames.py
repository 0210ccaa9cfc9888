"""The frames of a stream: calls and responses without HTTP around them. Bytes in, bytes out.

    length   4 bytes    of all that follows, big-endian as every number here
    kind     1 byte     1 CALL, 2 RESPONSE, 3 GOING
    number   4 bytes    of the call in its stream, from 1; in GOING that of the last call that the node has taken, or 0
    head     4 bytes    its length; then so many bytes: a JSON object
    payload             the JSON of the request or of the response, as it is; nothing where there is none
    mac      32 bytes   where the stream is signed: HMAC-SHA256 (RFC 2104) of all bytes before it

The head of a CALL has texts only: the headers of a POST, names in lower case, and what the envelope would say. The head
of a RESPONSE has the properties of the envelope but for the payload, the HTTP status, and headers in lower case. The
head of GOING has the reason. A reader ignores names that it does not know.

HMAC and not keyed BLAKE2b: 1.1 us against 0.9 us for 450 bytes, and half of its time for 100 kB on a processor with
instructions for SHA-256.

Rules of this file:
1. The MAC is judged before anything but the length. Each direction has a key of its own, and a number never comes
   again, so no frame can be replayed, left out, moved or sent back.
2. All that can be wrong with a frame is ``FrameError``: then the stream is of no more use.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from struct import Struct
from typing import Any, NamedTuple

from catga_sync.context import CallContext
from catga_sync.errors import parse_code
from catga_sync.messages import MAX_NAME
from catga_sync.wire.call_path import write_chain
from catga_sync.wire.envelope import MAX_TIME_MS, RequestEnvelope, ResponseEnvelope, well_formed_id
from catga_sync.wire.headers import (
    BAGGAGE,
    CHAIN,
    CONTEXT,
    EXECUTED,
    REPLAYED,
    REQUEST_ID,
    SENT,
    STORE,
    TIMEOUT,
    TIMES,
    TRACEPARENT,
    TRACESTATE,
)
from catga_sync.wire.mac import MacKey

__all__ = [
    "CALL", "GOING", "MAX_HEAD", "OVERHEAD", "PROTOCOL", "RESPONSE",
    "CallHead", "Frame", "FrameError", "FrameReader", "FrameTooLong", "Response", "UnsignedFrame",
    "read_call", "read_response", "write_frame", "write_going", "write_response",
]  # fmt: skip

#: The name of the protocol in the header ``Upgrade``.
PROTOCOL = "catga-stream/1"

CALL, RESPONSE, GOING = 1, 2, 3

#: The longest head in bytes.
MAX_HEAD = 64 * 1024

_START = Struct(">IBII")
_MAC_LENGTH = 32
_AFTER_LENGTH = _START.size - 4

#: Bytes of a frame beside its payload, at most.
OVERHEAD = _START.size + MAX_HEAD + _MAC_LENGTH

_TYPE, _RESPONSE_TYPE, _SOURCE = "catga-request-type", "catga-response-type", "catga-source-node"
_TIMESTAMP = "catga-timestamp-ms"
_REQUEST_ID, _TIMEOUT, _SENT = REQUEST_ID.lower(), TIMEOUT.lower(), SENT.lower()
_CHAIN, _STORE, _CONTEXT = CHAIN.lower(), STORE.lower(), CONTEXT.lower()
_EXECUTED, _REPLAYED, _TIMES = EXECUTED.lower(), REPLAYED.lower(), TIMES.lower()

_MAX_MS = 2**53
#: Characters of a code and of the id of a node.
_MOST_SHOWN = 128

# The standard library's alone: a head is short, and all that is used of it is checked.
_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.scanner.make_scanner(json.JSONDecoder())  # type: ignore[arg-type]  # what its raw_decode calls
_quote = json.encoder.encode_basestring_ascii


#: ``_made(Frame, (...))`` is ``Frame(...)`` in half the time.
_made = tuple.__new__


class FrameError(Exception):
    """A frame, or what stands in it, is not as this file describes it."""


class FrameTooLong(FrameError):
    """A frame is longer than its reader allows."""


class UnsignedFrame(FrameError):
    """A frame does not have the MAC that it needs."""


class Frame(NamedTuple):
    """One frame, as it came."""

    kind: int
    number: int
    head: bytes
    payload: bytes


def write_frame(kind: int, number: int, head: bytes, payload: bytes, key: MacKey | None) -> bytes:
    """Return a frame; ``key`` makes its MAC, and None means that the stream is not signed."""
    size = _AFTER_LENGTH + len(head) + len(payload)
    if key is None:
        return b"".join((_START.pack(size, kind, number, len(head)), head, payload))
    raw = b"".join((_START.pack(size + _MAC_LENGTH, kind, number, len(head)), head, payload))
    return raw + key.mac(raw)


class FrameReader:
    """
    Cuts what comes into frames. Not thread-safe.

    Args:
        key: Makes the MAC of the other side; None means that the stream is not signed.
        limit: The longest payload in bytes.
        begun: Bytes that have come already.
    """

    __slots__ = ("_key", "_least", "_most", "waiting")

    def __init__(self, key: MacKey | None, limit: int, begun: bytes = b"") -> None:
        self._key = key
        self._least = _AFTER_LENGTH + (0 if key is None else _MAC_LENGTH)
        self._most = limit + OVERHEAD
        #: What has come of the frames that were not read yet.
        self.waiting = bytearray(begun)

    @property
    def has_part(self) -> bool:
        """Whether the beginning of a frame has come, and not yet its end."""
        return bool(self.waiting)

    def feed(self, data: bytes) -> Frame | None:
        """
        Take in what has come; return the frame that it completes, or None. ``b""`` looks for a further frame.

        Raises:
            FrameTooLong: A frame announces more bytes than are allowed.
            UnsignedFrame: Its MAC is wrong.
            FrameError: It is no frame.
        """
        waiting = self.waiting
        # Nearly always: all of a frame, and no more.
        is_whole = not waiting and len(data) >= 4 and len(data) == 4 + int.from_bytes(data[:4], "big")
        if not is_whole:
            waiting += data
            if len(waiting) < 4:
                return None
        size = len(data) - 4 if is_whole else int.from_bytes(waiting[:4], "big")
        if size > self._most:
            raise FrameTooLong(f"a frame of {size} bytes is longer than the {self._most} that are allowed")
        if size < self._least:
            raise FrameError(f"a frame of {size} bytes is too short")
        end = 4 + size
        raw = data
        if not is_whole:
            if len(waiting) < end:
                return None
            raw = bytes(waiting[:end])
            del waiting[:end]
        key = self._key
        if key is not None:
            end -= _MAC_LENGTH
            if not hmac.compare_digest(key.mac(raw[:end]), raw[end:]):
                raise UnsignedFrame("the MAC of a frame is wrong")
        _, kind, number, length = _START.unpack_from(raw)
        cut = _START.size + length
        if length > MAX_HEAD or cut > end:
            raise FrameError("the head of a frame is longer than the frame, or than is allowed")
        return _made(Frame, (kind, number, raw[_START.size : cut], raw[cut:end]))


class CallHead:
    """
    What the calls of one type from one node have in common. Immutable.

    Args:
        request_type_name: The type of the request.
        response_type_name: The type of its response.
        source_node_id: The id of the node; None where it has none.
    """

    __slots__ = ("_begin",)

    def __init__(self, request_type_name: str, response_type_name: str, source_node_id: str | None) -> None:
        fields = {_TYPE: request_type_name, _RESPONSE_TYPE: response_type_name}
        if source_node_id is not None:
            fields[_SOURCE] = source_node_id
        self._begin = _encode(fields)[:-1]

    def write(self, call: CallContext, left: float, now: float, there: float | None = None) -> bytes:
        """
        Return the head of a call: what ``write_headers`` writes for a POST, as members.

        Args:
            call: The call.
            left: Seconds that it has left.
            now: Seconds since the epoch.
            there: The same by the clock of the node; None where that is not known.
        """
        traceparent, tracestate = call.trace()
        text = (
            f'{self._begin},"{_TIMESTAMP}":"{int(now * 1000)}","{_REQUEST_ID}":{_quote(call.request_id)},'
            f'"{_TIMEOUT}":"{max(1, min(MAX_TIME_MS, int(left * 1000)))}","{TRACEPARENT}":{_quote(traceparent)}'
        )
        if there is not None:
            text = f'{text},"{_SENT}":"{int(there * 1e6)}"'
        if call.chain:
            text = f'{text},"{_CHAIN}":{_quote(write_chain(call.chain))}'
        if call.store is not None:
            text = f'{text},"{_STORE}":{_quote(call.store)}'
        if tracestate is not None:
            text = f'{text},"{TRACESTATE}":{_quote(tracestate)}'
        if call.baggage is not None:
            text = f'{text},"{BAGGAGE}":{_quote(call.baggage)}'
        if call.context_text is not None:
            text = f'{text},"{_CONTEXT}":{_quote(call.context_text)}'
        return f"{text}}}".encode("ascii")


def read_call(frame: Frame) -> tuple[Mapping[str, str], RequestEnvelope]:
    """
    Return the headers of a call, names in lower case, and the call.

    Raises:
        FrameError: It cannot be read.
    """
    headers = _object(frame.head)
    try:
        texts = "".join(headers.values())  # one look at all of them
    except TypeError as exc:
        raise FrameError("the head of a call has a value that is no text") from exc
    if not texts.isprintable():
        raise FrameError("the head of a call has a value that is not printable")
    if not texts.isascii():
        for name, value in headers.items():
            if not value.isascii() and name not in (_TYPE, _RESPONSE_TYPE):
                raise FrameError("a header of a call is not ASCII")
    request_id, source, sent = headers.get(_REQUEST_ID), headers.get(_SOURCE), headers.get(_TIMESTAMP, "")
    if request_id is None or not well_formed_id(request_id):
        raise FrameError(f"{_REQUEST_ID}: give 1 to 128 characters of A-Z a-z 0-9 . _ : -")
    request_type, response_type = headers.get(_TYPE, ""), headers.get(_RESPONSE_TYPE, "")
    if not (1 <= len(request_type) <= MAX_NAME and 1 <= len(response_type) <= MAX_NAME):
        raise FrameError(f"{_TYPE}, {_RESPONSE_TYPE}: give 1 to {MAX_NAME} characters")
    if not (sent.isdecimal() and len(sent) <= 15):
        raise FrameError(f"{_TIMESTAMP}: give milliseconds since the epoch")
    if not well_formed_id(source):
        source = None
    return headers, _made(
        RequestEnvelope,
        (request_type, response_type, frame.payload, request_id, source, int(sent) / 1000.0, None),
    )


class Response(NamedTuple):
    """A response that has come in a frame."""

    envelope: ResponseEnvelope
    #: The HTTP status that it would have.
    status: int
    #: Names in lower case.
    headers: Mapping[str, Any]
    #: What ``Catga-Executed`` says.
    executed: str | None


def write_response(
    number: int,
    envelope: ResponseEnvelope,
    status: int,
    executed: str,
    key: MacKey | None,
    *,
    replayed: bool = False,
    times: str | None = None,
) -> bytes:
    """Return the frame of a response; arguments as in ``Response`` and ``write_frame``, and ``Catga-Times``."""
    if envelope.is_success and not replayed and not envelope.final and status == 200:
        # Nearly always: written without looking for what is not there.
        node = envelope.processed_by_node_id
        stamps = "" if times is None else f',"{_TIMES}":"{times}"'
        text = (
            f'{{"requestId":{_quote(envelope.request_id)},"isSuccess":true,"processedByNodeId":'
            f'{"null" if node is None else _quote(node)},"processingTimeMs":{envelope.processing_time_ms},"status":200,'
            f'"{_EXECUTED}":"{executed}"{stamps}}}'
        )
        return write_frame(RESPONSE, number, text.encode("ascii"), envelope.payload or b"", key)
    head: dict[str, Any] = {
        "requestId": envelope.request_id,
        "isSuccess": envelope.is_success,
        "processedByNodeId": envelope.processed_by_node_id,
        "processingTimeMs": envelope.processing_time_ms,
        "status": status,
        _EXECUTED: executed,
    }
    if envelope.error_message is not None:
        head["errorMessage"] = envelope.error_message
    if envelope.error_code is not None:
        head["errorCode"] = str(envelope.error_code)
    if envelope.final:
        head["final"] = True
    if replayed:
        head[_REPLAYED] = "1"
    if times is not None:
        head[_TIMES] = times
    return write_frame(RESPONSE, number, _encode(head).encode("ascii"), envelope.payload or b"", key)


def read_response(frame: Frame) -> Response:
    """
    Return the response in a frame. What a peer sends back is as untrusted as what a client sends in.

    Raises:
        FrameError: It cannot be read.
    """
    fields = _object(frame.head)
    elapsed, status = fields.get("processingTimeMs", 0), fields.get("status")
    request_id, success = fields.get("requestId"), fields.get("isSuccess")
    message, code, node = fields.get("errorMessage"), fields.get("errorCode"), fields.get("processedByNodeId")
    if type(request_id) is not str or type(success) is not bool:
        raise FrameError("requestId, isSuccess: a text, and true or false are expected")
    if type(elapsed) is not int or not 0 <= elapsed <= _MAX_MS or type(status) is not int or not 100 <= status <= 599:
        raise FrameError("processingTimeMs, status: whole numbers are expected")
    if (
        (message is not None and type(message) is not str)
        or (code is not None and type(code) is not str)
        or (node is not None and type(node) is not str)
    ):
        raise FrameError("errorMessage, errorCode, processedByNodeId: texts are expected")
    executed = fields.get(_EXECUTED)
    envelope = ResponseEnvelope(
        request_id,
        success,
        frame.payload or None,
        message,
        None if code is None else parse_code(_printable(code)),
        node if node is None or (len(node) <= _MOST_SHOWN and node.isprintable()) else _printable(node),
        elapsed,
        fields.get("final") is True,
    )
    return _made(Response, (envelope, status, fields, executed if type(executed) is str else None))


def write_going(last: int, reason: str, key: MacKey | None) -> bytes:
    """Return the frame that ends a stream; ``last`` is the number of the last call that the node has taken, or 0."""
    return write_frame(GOING, last, _encode({"reason": reason}).encode("ascii"), b"", key)


def _object(head: bytes) -> dict[str, Any]:
    try:
        text = str(head, "utf-8")
        fields, end = _decode(text, 0)
    except StopIteration as exc:
        raise FrameError("the head of a frame is no JSON") from exc
    except Exception as exc:
        raise FrameError(f"the head of a frame cannot be read ({type(exc).__name__})") from exc
    if type(fields) is not dict or end != len(text):
        raise FrameError("the head of a frame is no JSON object, or has something around it")
    return fields


def _printable(value: str) -> str:
    cut = value[:_MOST_SHOWN]
    return cut if cut.isprintable() else "".join(char if char.isprintable() else "?" for char in cut)
