"""The envelopes: a request, a response, and batches of them."""

from __future__ import annotations

from collections.abc import Iterable

from catga_sync.errors import ErrorCode
from catga_sync.messages import MAX_NAME
from catga_sync.wire.envelope import (
    EnvelopeError,
    RequestEnvelope,
    ResponseEnvelope,
    read_batch,
    read_batch_response,
    well_formed_id,
    write_batch_response,
)
from tests.fuzz.target import Finding, Target, pure

__all__ = ["TARGETS", "requests", "responses"]

_WORDS = (
    "requestTypeName", "responseTypeName", "payloadData", "sourceNodeId", "requestId", "timestamp", "isSuccess",
    "errorMessage", "processedByNodeId", "processingTimeMs", "errorCode", "final", "executed", "requests", "responses",
    "null", "true", '"INTERNAL"', "eyJ9", "0001-01-01T00:00:00+01:00", ".1234567", "Z", "\\u0022", "\\ud800", "{", "}",
)  # fmt: skip

#: What an envelope writes when it does not know the time.
_NO_TIME = 0.0


def requests() -> list[RequestEnvelope]:
    """Return requests that are as they should be."""
    dotnet = "Acme.Users.GetUser, Acme.Users, Version=1.0.0.0, Culture=neutral, PublicKeyToken=null"
    return [
        RequestEnvelope("Ask", "none", b'{"number":1}', "r-1", "node-2", 1_769_860_800.5),
        RequestEnvelope(dotnet, "Acme.Users.User, Acme.Users", b"", "0" * 32, None, _NO_TIME),
    ]


def responses() -> list[ResponseEnvelope]:
    """Return responses that are as they should be."""
    return [
        ResponseEnvelope("r-1", True, b'{"name":"Ada"}', processed_by_node_id="node-1", processing_time_ms=3),
        ResponseEnvelope("unknown", False, error_message="größer als \U0001f600", error_code=ErrorCode.INTERNAL),
        ResponseEnvelope("r-2", False, error_message="no", error_code="OUT_OF_STOCK", final=True),
    ]


def _request(data: bytes) -> bool:
    try:
        read = RequestEnvelope.decode(data)
    except EnvelopeError as exc:
        _refused(exc)
        return False
    _same(RequestEnvelope.decode(read._replace(timestamp=_NO_TIME).encode()), read._replace(timestamp=_NO_TIME))
    if not well_formed_id(read.request_id) or not (read.source_node_id is None or well_formed_id(read.source_node_id)):
        raise Finding("an id was accepted that is none")
    for name in (read.request_type_name, read.response_type_name):
        if not name.isprintable() or not 1 <= len(name) <= MAX_NAME:
            raise Finding(f"a name was accepted that is none: {name!a}")
    return True


def _response(data: bytes) -> bool:
    try:
        read = ResponseEnvelope.decode(data)
    except EnvelopeError as exc:
        _refused(exc)
        return False
    _same(ResponseEnvelope.decode(read.encode()), read)
    for word in (read.error_code, read.processed_by_node_id):
        text = word.name if isinstance(word, ErrorCode) else word or ""
        if not text.isprintable() or len(text) > 128:
            raise Finding(f"a word of a peer is not fit for a line of a log: {text!a}")
    return True


def _batch(data: bytes) -> bool:
    try:
        read = read_batch(data)
    except EnvelopeError as exc:
        _refused(exc)
        return False
    good = [each._replace(timestamp=_NO_TIME) for each in read if isinstance(each, RequestEnvelope)]
    for each in read:
        if isinstance(each, EnvelopeError):
            _refused(each)
    if good:
        _same(read_batch(_written(good)), good)
    return bool(good)


def _batch_response(data: bytes) -> bool:
    try:
        read = read_batch_response(data)
    except EnvelopeError as exc:
        _refused(exc)
        return False
    _same(read_batch_response(write_batch_response(each.encode(ran) for each, ran in read)), read)
    return True


def _refused(exc: EnvelopeError) -> None:
    if exc.request_id is not None and not well_formed_id(exc.request_id):
        raise Finding("a refusal echoes an id that is none")
    if not str(exc).isprintable() or len(str(exc)) > 300:
        raise Finding(f"a refusal repeats what it refuses: {str(exc)!a}")


def _same(found: object, expected: object) -> None:
    if found != expected:
        raise Finding(f"read again it is another: {found!a} and not {expected!a}")


def _written(envelopes: Iterable[RequestEnvelope]) -> bytes:
    return b'{"requests":[%b]}' % b",".join(each.encode() for each in envelopes)


def _request_seeds() -> list[bytes]:
    dotnet = (
        b'{ "RequestTypeName": "Ask", "ResponseTypeName": "none", "PayloadData": "eyJ9", "SourceNodeId": null,'
        b' "RequestId": "r\\u002D1", "Timestamp": "2026-01-31T12:00:00.1234567\\u002B01:00", "Unknown": [1.5, {}] }'
    )
    unfit = requests()[0].encode().replace(b'"Ask"', b'"Ask\\u000a"')
    return [*(each.encode() for each in requests()), dotnet, unfit, b"{}"]


def _response_seeds() -> list[bytes]:
    good = [each.encode() for each in responses()]
    return [*good, good[2].replace(b"OUT_OF_STOCK", b"\\u001b[31m"), good[0].replace(b"node-1", b"node\\u2028")]


def _batch_seeds() -> list[bytes]:
    bad = b'{"requests":[{"requestId":"r-1"},%b,7]}' % requests()[0].encode()
    return [_written(requests()), bad]


TARGETS = (
    Target("envelope-request", pure(_request), _request_seeds, _WORDS),
    Target("envelope-response", pure(_response), _response_seeds, _WORDS),
    Target("batch-request", pure(_batch), _batch_seeds, _WORDS),
    Target(
        "batch-response",
        pure(_batch_response),
        lambda: [write_batch_response(each.encode(told) for each in responses()) for told in ("1", "0", "unknown")],
        _WORDS,
    ),
)
