"""The bodies of batches, for whatever there is: read in one pass or by a JSON parser, they are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catga_sync.wire.envelope import (
    EnvelopeError,
    RequestEnvelope,
    ResponseEnvelope,
    read_batch,
    read_batch_response,
    write_batch_response,
)
from catga_sync.wire.form import JSON
from catga_sync.wire.plain_batch import MAX_BATCH, plain_requests, plain_responses
from tests.property.test_envelope import IDS, ODD, REPLIES, REQUESTS
from tests.thorough import thorough

PLAIN_REPLIES = st.builds(
    ResponseEnvelope,
    IDS,
    st.just(True),
    st.none() | st.binary(max_size=30),
    processed_by_node_id=IDS,
    processing_time_ms=st.integers(0, 10**12 - 1),
)
TOLD = st.sampled_from(["0", "1", "unknown"])

REQUEST = RequestEnvelope("users.Get", "User", b"{}", "r-1", "n-1", 1769860800.5)
ITEMS = [REQUEST, REQUEST._replace(request_id="r-2", traceparent="00-ab-cd-01", source_node_id=None)]
BATCH = JSON.write_batch(each.encode() for each in ITEMS)
ANSWERS = [
    (ResponseEnvelope("r-1", True, b"{}", processed_by_node_id="n-1", processing_time_ms=12), "1"),
    (ResponseEnvelope("r-2", True, None, processed_by_node_id="n-1", processing_time_ms=0), "unknown"),
]
ANSWER = write_batch_response(each.encode(told) for each, told in ANSWERS)


def outcome(read_all: Callable[[bytes], Sequence[Any]], raw: bytes) -> object:
    try:
        read = read_all(raw)
    except EnvelopeError as exc:
        return str(exc).partition(" at ")[0]  # the place is one off where there is a space
    return [(str(each), each.request_id) if isinstance(each, EnvelopeError) else each for each in read]


def assert_read_as_any_other_json(raw: bytes) -> None:
    # With a space in front it is the same JSON, and not as our nodes write it.
    for read_all in (read_batch, read_batch_response):
        assert outcome(read_all, raw) == outcome(read_all, b" " + raw)


@thorough(2000)
@given(st.lists(REQUESTS, max_size=3) | st.lists(st.tuples(REPLIES | PLAIN_REPLIES, TOLD), max_size=3), st.data())
def test_a_batch_as_a_node_of_ours_writes_it_is_read_as_any_other_json(items: list[Any], data: st.DataObject) -> None:
    if items and isinstance(items[0], RequestEnvelope):
        raw = bytearray(JSON.write_batch(each.encode() for each in items))
    else:
        raw = bytearray(write_batch_response(each.encode(told) for each, told in items))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 2))] = data.draw(st.sampled_from([*ODD, b",", b"}", b"]"]))
    assert_read_as_any_other_json(bytes(raw))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"2026-01-31", b"2026-02-30"), (b"2026-01-31", b"0001-01-01"), (b"2026-01-31", b"0000-01-01"),
        (b"T12:", b"T24:"), (b":00:00.", b":00:60."), (b":00.", b":0\xd9\xa0."), (b".500000", b".5000001"),
        (b"e30=", b"e30"), (b"e30=", b"e30=e30="), (b"e30=", b"e3\\u0030="), (b"e30=", b""), (b"e30=", b"===="),
        (b"e30=", b"e31="), (b"e30=", b"e==="),
        (b'"n-1"', b"null"), (b'"n-1"', b'""'), (b'"n-1"', b'"n 1"'), (b'"r-1"', b'""'), (b'"r-1"', b'"r 1"'),
        (b"users.Get", b"users\\Get"), (b"users.Get", b"users\x7fGet"), (b"users.Get", b"u" * 1025),
        (b"00-ab", b"00" * 200), (b"00-ab", b"00\\u0020ab"), (b"00-ab", b"00\x00ab"), (b'"00-ab-cd-01"', b"7"),
        (b":12,", b":012,"), (b":12,", b":-12,"), (b":12,", b":1.2,"), (b":12,", b":" + b"9" * 30 + b","),
        (b'"1"}', b'"2"}'), (b'"1"}', b"null}"), (b'"1"}', b'"1","final":true}'), (b"true", b"false"),
        (b'"e30="', b"null"), (b'"e30="', b'null"'), (b'"e30="', b'"e30=""'), (b'"e30=",', b'"e30="'),
        (b"},{", b"}{"), (b"},{", b"},,{"), (b"},{", b"}, {"), (b"}]}", b"},]}"), (b"}]}", b"}]},"), (b"}]}", b"}}]"),
        (b"}]}", b"}]}\n"), (b"}]}", b"}]}]}"), (b"}]}", b"}]"), (b"}]}", b"}"), (b"[{", b"["), (b":[{", b":[],[{"),
        (b'"r-2"', b'"r-1"'), (b'{"re', b'{"x":1,"re'),
    ],
)  # fmt: skip
def test_a_batch_that_is_nearly_as_a_node_of_ours_writes_it_is_read_as_any_other_json(
    before: bytes, after: bytes
) -> None:
    assert before in BATCH or before in ANSWER
    for raw in (BATCH, ANSWER):
        assert_read_as_any_other_json(raw.replace(before, after))


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"requests":[', b'{"requests":[]}', b'{"responses":[]}', b"[]", b"]}"])
def test_a_body_without_items_is_read_as_any_other_json(raw: bytes) -> None:
    assert_read_as_any_other_json(raw)


def test_a_batch_as_a_node_of_ours_writes_it_is_read_without_a_json_parser() -> None:
    assert plain_requests(BATCH) == ITEMS
    assert plain_responses(ANSWER) == [(each[:-1], told) for each, told in ANSWERS]  # all but "final"
    assert plain_requests(b" " + BATCH) is plain_responses(b" " + ANSWER) is None


def test_the_names_of_types_and_nodes_are_one_object_in_all_items_of_a_batch() -> None:
    first, second = read_batch(BATCH)
    assert isinstance(first, RequestEnvelope)
    assert isinstance(second, RequestEnvelope)
    assert first.request_type_name is second.request_type_name
    (one, _), (other, _) = read_batch_response(ANSWER)
    assert one.processed_by_node_id is other.processed_by_node_id


def test_a_body_with_too_many_items_is_left_to_the_other_reader() -> None:
    item = REQUEST.encode()
    assert plain_requests(JSON.write_batch([item] * MAX_BATCH)) is not None
    assert plain_requests(JSON.write_batch([item] * (MAX_BATCH + 1))) is None
