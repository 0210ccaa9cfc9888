"""The messages of ``catga.proto`` say what the JSON envelope says, and whatever arrives is checked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import require_module

require_module("grpc")

from catga_sync.errors import ErrorCode  # noqa: E402
from catga_sync.messages import MAX_NAME  # noqa: E402
from catga_sync.wire import protobuf  # noqa: E402
from catga_sync.wire.catga_pb2 import InvokeBatchRequest, InvokeBatchResponse, InvokeRequest, InvokeResponse  # noqa: E402
from catga_sync.wire.envelope import MAX_BATCH, EnvelopeError, RequestEnvelope, ResponseEnvelope  # noqa: E402
from catga_sync.wire.form import JSON  # noqa: E402
from catga_sync.wire.protobuf import PROTOBUF  # noqa: E402
from tests.tables import every_row  # noqa: E402
from tests.thorough import thorough  # noqa: E402

FORMS = pytest.mark.parametrize("form", [JSON, PROTOBUF], ids=["JSON", "protobuf"])

TEXTS = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
RESPONSES = st.builds(
    ResponseEnvelope,
    request_id=st.just("r1"),
    is_success=st.booleans(),
    payload=st.one_of(st.none(), st.binary(max_size=50)),
    error_message=TEXTS,
    error_code=st.one_of(st.none(), st.just(ErrorCode.ABORTED), st.just("SOLD_OUT")),
    processed_by_node_id=st.one_of(st.none(), st.just("users")),
    processing_time_ms=st.integers(0, 2**63 - 1),
    final=st.booleans(),
)


@FORMS
@thorough(800)
@given(payload=st.binary(max_size=200), now=st.floats(0, 4e9), source=st.one_of(st.none(), st.just("web")))
def test_a_request_is_read_as_it_was_written(form, payload: bytes, now: float, source: str | None) -> None:  # type: ignore[no-untyped-def]
    head = form.head("shop.Order", "shop.Receipt", source)
    unstamped = head.unstamped(payload, "r1")
    body = form.stamped(unstamped, now)
    assert len(body) <= len(unstamped) + form.added
    read = form.read_request(body)
    assert read.timestamp == pytest.approx(now, abs=2e-6, rel=1e-15)
    assert read == RequestEnvelope("shop.Order", "shop.Receipt", payload, "r1", source, read.timestamp)
    assert form.read_batch(form.write_batch([body, body])) == [read, read]
    assert len(form.write_batch([body] * 3)) <= 32 + 3 * (len(unstamped) + form.added)


@FORMS
@thorough(800)
@given(responses=st.lists(RESPONSES, min_size=1, max_size=3))
def test_a_response_is_read_as_it_was_written(form, responses: list[ResponseEnvelope]) -> None:  # type: ignore[no-untyped-def]
    for response in responses:
        assert form.read_response(form.write_response(response)) == response
    body = form.write_batch_response([form.batch_item(each, "unknown") for each in responses])
    assert form.read_batch_response(body) == [(each, "unknown") for each in responses]


@thorough(800)
@given(body=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for read in (PROTOBUF.read_request, PROTOBUF.read_batch, PROTOBUF.read_response, PROTOBUF.read_batch_response):
        with contextlib.suppress(EnvelopeError):
            read(body)


GOOD = {"request_type_name": "a", "response_type_name": "b", "request_id": "r1"}


@every_row(
    ("changes", "text"),
    [
        ({"request_id": ""}, "request_id: "),
        ({"request_id": "x y"}, "request_id: "),
        ({"request_id": "x" * 129}, "request_id: "),
        ({"request_type_name": ""}, "request_type_name: "),
        ({"request_type_name": "a\n"}, "request_type_name: "),
        ({"response_type_name": "x" * (MAX_NAME + 1)}, "response_type_name: "),
        ({"timestamp": {"seconds": -62_135_596_801}}, "timestamp: "),
        ({"timestamp": {"seconds": 2**62}}, "timestamp: "),
    ],
)
def test_a_field_that_is_wrong_is_named(changes: dict[str, object], text: str) -> None:
    body = InvokeRequest(**{**GOOD, **changes}).SerializeToString()
    with pytest.raises(EnvelopeError, match=f"^{text}"):
        PROTOBUF.read_request(body)


def test_what_may_be_absent_is_none_and_an_odd_source_is_dropped() -> None:
    read = PROTOBUF.read_request(InvokeRequest(**GOOD, source_node_id="not an id").SerializeToString())
    assert (read.source_node_id, read.timestamp, read.payload) == (None, None, b"")


@pytest.mark.parametrize("read", [PROTOBUF.read_batch, PROTOBUF.read_batch_response], ids=["requests", "responses"])
@pytest.mark.parametrize(
    "body",
    [b"\x0a\x00" * 200_000, b"\x12\x00" * 200_000, b"\x10\x01" * 200_000, b"\x13\x14" * 200_000],
    ids=["items", "unknown fields", "unknown numbers", "groups"],
)
def test_too_many_items_are_refused_before_they_are_parsed(
    read: Callable[[bytes], object], body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("InvokeBatchRequest", "InvokeBatchResponse"):
        monkeypatch.delattr(protobuf, name)  # what parses them is not there
    with pytest.raises(EnvelopeError, match=f"1 to {MAX_BATCH}"):
        read(body)


def test_a_full_batch_is_read_with_fields_of_a_later_version_and_long_items() -> None:
    item = PROTOBUF.head("a.B", "str", None).unstamped(b"x" * 300, "r1")
    body = PROTOBUF.write_batch([item] * MAX_BATCH) + b"\x10\x96\x01" + b"\x19" + bytes(8) + b"\x25" + bytes(4)
    read = PROTOBUF.read_batch(body)
    assert len(read) == MAX_BATCH
    assert all(isinstance(each, RequestEnvelope) for each in read)
    with pytest.raises(EnvelopeError, match="not an InvokeBatchRequest"):
        PROTOBUF.read_batch(body[:-1])
    with pytest.raises(EnvelopeError, match=f"1 to {MAX_BATCH}"):
        PROTOBUF.read_batch(body + PROTOBUF.write_batch([item]))


def test_a_batch_has_at_least_one_item_and_not_too_many() -> None:
    for count in (0, MAX_BATCH + 1):
        requests = InvokeBatchRequest(requests=[InvokeRequest()] * count).SerializeToString()
        with pytest.raises(EnvelopeError, match=r"^requests: "):
            PROTOBUF.read_batch(requests)
    (item,) = PROTOBUF.read_batch(InvokeBatchRequest(requests=[InvokeRequest()]).SerializeToString())
    assert isinstance(item, EnvelopeError)
    unsaid = InvokeBatchResponse(responses=[InvokeResponse(request_id="r1")]).SerializeToString()
    with pytest.raises(EnvelopeError, match=r"^responses: "):
        PROTOBUF.read_batch_response(unsaid)


def test_half_of_a_surrogate_pair_becomes_a_question_mark() -> None:
    written = PROTOBUF.write_response(ResponseEnvelope("r1", False, error_message="a\ud800b", error_code="\udfff"))
    read = PROTOBUF.read_response(written)
    assert (read.error_message, read.error_code) == ("a?b", "?")
