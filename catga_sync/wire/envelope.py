"""The envelope of Catga.Cluster (.NET): the form of a request and its response on the wire. Bytes in, bytes out.

Rules of this file:
1. What is read may come from any program: every property is checked before it is used.
2. Property names are read in any letter case, unknown ones are ignored, nulls are as good as absent.
3. What is written is ASCII, so that it needs no further thought in any header, log or terminal.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quote
from typing import Any, NamedTuple

from catga_sync.errors import ErrorCode, SerializationError, parse_code
from catga_sync.messages import MAX_NAME
from catga_sync.serialization import check_values, jsontext
from catga_sync.wire.plain_batch import MAX_BATCH, plain_requests, plain_responses
from catga_sync.wire.plain_envelope import ID, plain_request, plain_response, read_base64

__all__ = [
    "MAX_BATCH", "MAX_TIME_MS", "STAMP_LENGTH", "EnvelopeError", "RequestEnvelope", "RequestHead", "ResponseEnvelope",
    "printable", "read_batch", "read_batch_response", "stamped", "well_formed_id", "write_batch_response",
]  # fmt: skip

#: JSON values in one envelope. It has six to eight properties; what else is in it, and is ignored, has the rest.
_MAX_VALUES = 1_000
#: JSON values of an envelope in a batch, on average: an envelope from this package has 15.
_MAX_VALUES_IN_BATCH = 20

#: The longest time that a caller may ask for, in milliseconds.
MAX_TIME_MS = 300_000

_ID = re.compile(ID)
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{0,7})\d{0,2})?(Z|z|[+-]\d\d:?\d\d)?", re.ASCII
)
_MAX_MS = 2**63 - 1


class EnvelopeError(SerializationError):
    """The envelope cannot be read. ``request_id`` is the id as far as it could be read, else None."""

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild_error, (str(self), self.request_id))


def _rebuild_error(message: str, request_id: str | None) -> EnvelopeError:
    return EnvelopeError(message, request_id=request_id)


def well_formed_id(value: object) -> bool:
    """Return whether ``value`` may be a request or node id: 1 to 128 of ``A-Z a-z 0-9 . _ : -``."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


class RequestHead:
    """
    What the envelopes of all requests of one type from one node have in common, as bytes. Immutable.

    Args:
        request_type_name: The type of the request.
        response_type_name: The type of its response.
        source_node_id: The id of the node; None where it has none.
    """

    __slots__ = ("_after", "_before")

    def __init__(self, request_type_name: str, response_type_name: str, source_node_id: str | None) -> None:
        types = (_text(request_type_name), _text(response_type_name))
        self._before = b'{"requestTypeName":%b,"responseTypeName":%b,"payloadData":"' % types
        self._after = b'","sourceNodeId":%b,"requestId":' % _text(source_node_id)

    def unstamped(self, payload: bytes, request_id: str, traceparent: str | None = None) -> bytes:
        """
        Return the JSON of an envelope up to its timestamp, for ``stamped``: it may wait before it is sent.

        Args:
            payload: The request.
            request_id: Its id.
            traceparent: That of an item of a batch; None where it is that of the headers.
        """
        quoted = quote(request_id).encode("ascii")
        if traceparent is not None:
            quoted += b',"traceparent":%b' % _text(traceparent)
        return b'%b%b%b%b,"timestamp":"' % (self._before, b2a_base64(payload, newline=False), self._after, quoted)


class RequestEnvelope(NamedTuple):
    """One request on its way. Immutable."""

    request_type_name: str
    response_type_name: str
    payload: bytes
    request_id: str
    source_node_id: str | None = None
    #: Seconds since the epoch; None when the sender's text is no time.
    timestamp: float | None = None
    #: W3C trace context of an item of a batch; None where it is that of the headers.
    traceparent: str | None = None

    def encode(self) -> bytes:
        """Return the JSON of the envelope."""
        head = RequestHead(self.request_type_name, self.response_type_name, self.source_node_id)
        return stamped(head.unstamped(self.payload, self.request_id, self.traceparent), self.timestamp or 0.0)

    @classmethod
    def decode(cls, raw: bytes) -> RequestEnvelope:
        """
        Read an envelope.

        Raises:
            EnvelopeError: It cannot be read; the text names the property.
        """
        plain = plain_request(raw)
        return cls.of_fields(_read(raw)) if plain is None else cls(*plain)

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> RequestEnvelope:
        """Read an envelope from its properties, names in lower case; raises as ``decode`` does."""
        given = fields.get("requestid")
        request_id = given if well_formed_id(given) else None
        try:
            if request_id is None:
                raise EnvelopeError("requestId: give 1 to 128 characters of A-Z a-z 0-9 . _ : -")
            source, request_type, response_type, payload, sent = _values(fields, _OF_REQUEST)
            if source is not None and not well_formed_id(source):
                # Any text is allowed to be there; one that is no id goes neither into a log nor to a handler.
                source = None
            traceparent = fields.get("traceparent")
            if not (isinstance(traceparent, str) and len(traceparent) <= 256 and traceparent.isascii()):
                traceparent = None  # none, or a property of this name that is none of ours
            return cls(
                request_type_name=_name("requestTypeName", request_type),
                response_type_name=_name("responseTypeName", response_type),
                payload=_payload(payload),
                request_id=request_id,
                source_node_id=source,
                timestamp=_timestamp(sent),
                traceparent=traceparent,
            )
        except EnvelopeError as exc:
            raise EnvelopeError(str(exc), request_id=request_id) from exc


class ResponseEnvelope(NamedTuple):
    """The response to one request. Immutable."""

    request_id: str
    is_success: bool
    #: UTF-8 JSON of the response; None when there is none.
    payload: bytes | None = None
    error_message: str | None = None
    error_code: ErrorCode | str | None = None
    processed_by_node_id: str | None = None
    processing_time_ms: int = 0
    #: Whether this is the response, though the handler was not run: no other node is to be asked.
    final: bool = False

    def encode(self, executed: str | None = None) -> bytes:
        """Return the JSON of the envelope; in a batch with the value that ``Catga-Executed`` would have."""
        request_id, success, payload, error, code, node, took, final = self
        after = (
            f',"errorMessage":{"null" if error is None else quote(error)}'
            f',"processedByNodeId":{"null" if node is None else quote(node)},"processingTimeMs":{took}'
            + ("" if code is None else f',"errorCode":{quote(code)}')
            + (',"final":true' if final else "")
            + ("}" if executed is None else f',"executed":{quote(executed)}}}')
        )
        return b'{"requestId":%b,"isSuccess":%b,"payloadData":%b%b' % (
            quote(request_id).encode("ascii"),
            b"true" if success else b"false",
            b"null" if payload is None else b'"%b"' % b2a_base64(payload, newline=False),
            after.encode("ascii"),
        )

    @classmethod
    def decode(cls, raw: bytes) -> ResponseEnvelope:
        """
        Read an envelope. What a peer sends back is as untrusted as what a client sends in.

        Raises:
            EnvelopeError: It cannot be read; the text names the property.
        """
        plain = plain_response(raw)
        if plain is None:
            return cls.of_fields(_read(raw))
        request_id, payload, node, elapsed = plain
        return cls(request_id, True, payload, None, None, node, elapsed)

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> ResponseEnvelope:
        """Read an envelope from its properties, names in lower case; raises as ``decode`` does."""
        request_id, success, payload, error, code, node, elapsed, final = _values(fields, _OF_RESPONSE)
        if elapsed is not None and not 0 <= elapsed <= _MAX_MS:
            raise EnvelopeError("processingTimeMs: a whole number of milliseconds is expected")
        return cls(
            request_id=request_id,
            is_success=success,
            payload=None if payload is None else _payload(payload),
            error_message=error,
            error_code=parse_code(printable(code)),
            processed_by_node_id=printable(node),
            processing_time_ms=0 if elapsed is None else elapsed,
            final=final is True,
        )


#: In UTC.
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a zone would be written
#: Bytes that ``stamped`` adds.
STAMP_LENGTH = len('2026-01-31T12:00:00.000000Z"}')


def stamped(unstamped: bytes, now: float) -> bytes:
    """Return the JSON of an envelope that is sent now, in seconds since the epoch."""
    return unstamped + _stamp(now)


@lru_cache(maxsize=16)  # the items of a batch have one time
def _stamp(now: float) -> bytes:
    # Not by fromtimestamp and strftime, which take several times as long.
    time = _EPOCH + timedelta(seconds=now)
    return f'{time.isoformat(timespec="microseconds")}Z"}}'.encode("ascii")


def read_batch(raw: bytes) -> list[RequestEnvelope | EnvelopeError]:
    """
    Read ``{"requests": [envelope, ...]}``: between our own nodes only, so names are as we write them.

    Returns:
        For each item the envelope, or the error that made it unreadable.

    Raises:
        EnvelopeError: The whole cannot be read.
    """
    plain = plain_requests(raw)
    if plain is not None:
        return [RequestEnvelope(*item) for item in plain]
    items = _items(raw, "requests")
    read: list[RequestEnvelope | EnvelopeError] = []
    for item in items:
        try:
            read.append(RequestEnvelope.of_fields(_lower(item)))
        except EnvelopeError as exc:
            read.append(exc)
    return read


def write_batch_response(items: Iterable[bytes]) -> bytes:
    """Return ``{"responses": [...]}`` with responses that are encoded for a batch."""
    return b'{"responses":[%b]}' % b",".join(items)


def read_batch_response(raw: bytes) -> list[tuple[ResponseEnvelope, str | None]]:
    """Return the responses of a batch, each with what ``Catga-Executed`` would be; raises as ``read_batch``."""
    plain = plain_responses(raw)
    if plain is not None:
        return [(ResponseEnvelope(*item), ran) for item, ran in plain]
    responses = []
    for item in _items(raw, "responses"):
        fields = _lower(item)
        responses.append((ResponseEnvelope.of_fields(fields), *_values(fields, _OF_BATCH_ITEM)))
    return responses


def _items(raw: bytes, name: str) -> list[Any]:
    items = _read(raw, MAX_BATCH * _MAX_VALUES_IN_BATCH).get(name)
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_BATCH:
        raise EnvelopeError(f"{name}: a list of 1 to {MAX_BATCH} envelopes is expected")
    return items


def _lower(item: object) -> Mapping[str, Any]:
    if not isinstance(item, dict):
        raise EnvelopeError("envelope: a JSON object is expected")
    return dict(zip(map(str.lower, item), item.values(), strict=True))


def printable(value: str | None) -> str | None:
    """Return a text of a peer's, cut and fit for a line of a log."""
    if value is None:
        return None
    cut = value[:128]
    return cut if cut.isprintable() else "".join(char if char.isprintable() else "?" for char in cut)


def _text(value: str | None) -> bytes:
    # As json.dumps, which takes several times as long for a text.
    return b"null" if value is None else quote(value).encode("ascii")


def _read(raw: bytes, max_values: int = _MAX_VALUES) -> Mapping[str, Any]:
    try:
        if len(raw) > max_values:  # what is shorter has fewer
            check_values(raw, max_values)
        parsed = jsontext.loads(raw, unique_keys=True)
    except SerializationError as exc:
        raise EnvelopeError(f"envelope: {exc}") from exc
    fields = _lower(parsed)
    if len(fields) != len(parsed):
        raise EnvelopeError("envelope: a property stands twice in it")
    return fields


#: Name, name in lower case, type, and whether it has to be there; in the order in which they are read.
_Properties = tuple[tuple[str, str, type, bool], ...]
_OF_REQUEST: _Properties = (
    ("sourceNodeId", "sourcenodeid", str, False),
    ("requestTypeName", "requesttypename", str, True),
    ("responseTypeName", "responsetypename", str, True),
    ("payloadData", "payloaddata", str, True),
    ("timestamp", "timestamp", str, True),
)
_OF_RESPONSE: _Properties = (
    ("requestId", "requestid", str, True),
    ("isSuccess", "issuccess", bool, True),
    ("payloadData", "payloaddata", str, False),
    ("errorMessage", "errormessage", str, False),
    ("errorCode", "errorcode", str, False),
    ("processedByNodeId", "processedbynodeid", str, False),
    ("processingTimeMs", "processingtimems", int, False),
    ("final", "final", bool, False),
)
_OF_BATCH_ITEM: _Properties = (("executed", "executed", str, True),)


def _values(fields: Mapping[str, Any], properties: _Properties) -> list[Any]:
    """Return the values of properties, None for one that is not there; raise for one that is missing or wrong."""
    values = []
    for name, low, kind, required in properties:
        value = fields.get(low)
        if value is None:
            if required:
                raise EnvelopeError(f"{name}: missing")
        elif type(value) is not kind:
            raise EnvelopeError(f"{name}: {_KIND_NAMES[kind]} is expected")
        values.append(value)
    return values


_KIND_NAMES = {str: "a string", int: "a whole number", bool: "true or false"}


def _name(name: str, value: str) -> str:
    if not 1 <= len(value) <= MAX_NAME or not value.isprintable():
        raise EnvelopeError(f"{name}: give 1 to {MAX_NAME} printable characters")
    return value


def _payload(text: str) -> bytes:
    try:
        return read_base64(text.encode("ascii"))
    except ValueError as exc:
        raise EnvelopeError("payloadData: not base64") from exc


#: What a .NET program sends that gives no time.
_NO_TIME = datetime(1, 1, 1, tzinfo=timezone.utc)


@lru_cache(maxsize=16)  # as ``_stamp``
def _timestamp(text: str) -> float | None:
    match = _TIMESTAMP.fullmatch(text) if len(text) <= 40 else None
    if match is None:
        raise EnvelopeError("timestamp: give an ISO 8601 time, such as 2026-01-31T12:00:00Z")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=timezone.utc)
    except ValueError as exc:
        raise EnvelopeError("timestamp: no such date or time") from exc
    if zone and zone not in "Zz":
        digits = zone.replace(":", "")
        hours, minutes = int(digits[1:3]), int(digits[3:5])
        if hours > 23 or minutes > 59:
            raise EnvelopeError("timestamp: no such offset from UTC")
        offset = timedelta(hours=hours, minutes=minutes)
        try:
            moment += -offset if zone[0] == "+" else offset
        except OverflowError as exc:  # before the year 1 or after 9999 in UTC: nothing could show such a time
            raise EnvelopeError("timestamp: no such date or time") from exc
    elif moment == _NO_TIME:
        return None
    return moment.timestamp() + (float(f"0.{fraction}") if fraction else 0.0)
