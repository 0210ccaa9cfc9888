"""The envelope, for whatever there is."""

from __future__ import annotations

import base64
import contextlib
import json
import random
from datetime import datetime, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from catga_sync.errors import ErrorCode
from catga_sync.wire.envelope import EnvelopeError, RequestEnvelope, ResponseEnvelope, well_formed_id
from catga_sync.wire.plain_envelope import plain_request, plain_response
from tests.thorough import thorough

KINDS = (RequestEnvelope, ResponseEnvelope)

IDS = st.from_regex(r"[A-Za-z0-9._:\-]{1,128}", fullmatch=True)
NAMES = st.text(min_size=1, max_size=1024).filter(str.isprintable)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(timezone.utc))  # noqa: DTZ001
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)
PROPERTIES = st.sampled_from(
    [
        "requestTypeName", "responseTypeName", "payloadData", "sourceNodeId", "requestId", "timestamp", "isSuccess",
        "errorMessage", "errorCode", "processedByNodeId", "processingTimeMs",
    ]
)  # fmt: skip
PLAUSIBLE = st.sampled_from(["r-1", "users.Get", "eyJ9", "2026-01-31T12:00:00Z", True, 3, None])

CODES = st.text(max_size=128).filter(lambda text: text not in ErrorCode.__members__ and text.isprintable())

REQUESTS = st.builds(
    RequestEnvelope,
    NAMES,
    NAMES,
    st.binary(max_size=300),
    IDS,
    st.none() | IDS,
    TIMES.map(datetime.timestamp),
    traceparent=st.none() | st.text(st.characters(codec="ascii"), max_size=256),
)
REPLIES = st.builds(
    ResponseEnvelope,
    st.text(max_size=200),
    st.booleans(),
    st.none() | st.binary(max_size=300),
    st.none() | st.text(),
    st.none() | st.sampled_from(ErrorCode) | CODES,
    st.none() | st.text(max_size=128).filter(str.isprintable),
    st.integers(0, 2**63 - 1),
    final=st.booleans(),
)


def read(raw: bytes) -> None:
    for kind in KINDS:
        with contextlib.suppress(EnvelopeError):
            kind.decode(raw)


@thorough(400)
@given(st.binary(max_size=2000))
def test_whatever_the_bytes_are_only_an_envelope_error_comes_out(raw: bytes) -> None:
    read(raw)


@thorough(300)
@given(st.text(max_size=2000))
def test_whatever_the_text_is_only_an_envelope_error_comes_out(text: str) -> None:
    read(text.encode("utf-8", "surrogatepass"))


@thorough(400)
@given(JSON)
def test_whatever_the_json_is_only_an_envelope_error_comes_out(value: object) -> None:
    read(json.dumps(value).encode())


@thorough(800)
@given(st.dictionaries(PROPERTIES, PLAUSIBLE | JSON))
def test_whatever_the_properties_are_only_an_envelope_error_comes_out(fields: dict[str, object]) -> None:
    read(json.dumps(fields).encode())


@thorough(300)
@given(REQUESTS, st.data())
def test_whatever_happens_to_an_envelope_on_its_way_only_an_envelope_error_comes_out(
    envelope: RequestEnvelope, data: st.DataObject
) -> None:
    raw = bytearray(envelope.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    read(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    read(bytes(raw))


@thorough(300)
@given(st.text(max_size=50))
@example("a\n")
@example("\u0661")
def test_an_accepted_id_needs_no_escape_anywhere(text: str) -> None:
    if well_formed_id(text):
        assert text.isascii()
        assert text.isprintable()
        assert not set(text) & set(" /\\'\"<>&+%;,=@#?")


@thorough(300)
@given(REQUESTS)
def test_a_request_comes_back_as_it_went(envelope: RequestEnvelope) -> None:
    back = RequestEnvelope.decode(envelope.encode())
    assert envelope.timestamp is not None
    assert back.timestamp is not None
    assert abs(back.timestamp - envelope.timestamp) < 1e-5
    assert back._replace(timestamp=None) == envelope._replace(timestamp=None)


@thorough(300)
@given(REPLIES)
def test_an_answer_comes_back_as_it_went(reply: ResponseEnvelope) -> None:
    assert ResponseEnvelope.decode(reply.encode()) == reply


def outcome(kind: type[RequestEnvelope | ResponseEnvelope], raw: bytes) -> object:
    try:
        return kind.decode(raw)
    except EnvelopeError as exc:
        return str(exc).partition(" at ")[0], exc.request_id  # the place is one off where there is a space


ODD = (b'"', b"\\", b"0", b"=", b"9", b"x", b"\x7f", b"\xc3\xa9")
PLAIN = RequestEnvelope("users.Get", "User", b"{}", "r-1", "n-1", 1769860800.5).encode()
PLAIN_REPLY = ResponseEnvelope("r-1", True, b"{}", processed_by_node_id="n-1", processing_time_ms=12).encode()


@thorough(2000)
@given(REQUESTS | REPLIES, st.data())
def test_what_a_node_of_ours_writes_is_read_as_any_other_json(
    envelope: RequestEnvelope | ResponseEnvelope, data: st.DataObject
) -> None:
    raw = bytearray(envelope.encode())
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 2))] = data.draw(st.sampled_from(ODD))
    # With a space in front it is the same JSON, and not as our nodes write it.
    assert outcome(type(envelope), bytes(raw)) == outcome(type(envelope), b" " + raw)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"2026-01-31", b"2026-02-30"), (b"2026-01-31", b"0001-01-01"), (b"2026-01-31", b"0000-01-01"),
        (b"T12:", b"T24:"), (b":00:00.", b":00:60."), (b":00.", b":0\xd9\xa0."),
        (b"e30=", b"e30"), (b"e30=", b"e30=e30="), (b"e30=", b"e3\\u0030="), (b"e30=", b""), (b"e30=", b"===="),
        (b'"n-1"', b"null"), (b'"n-1"', b'""'), (b'"n-1"', b'"n 1"'), (b'"r-1"', b'""'), (b'"r-1"', b'"r 1"'),
        (b"users.Get", b"users\\Get"), (b"users.Get", b"users\x7fGet"), (b"users.Get", b"u" * 1025),
        (b":12}", b":012}"), (b":12}", b":-12}"), (b":12}", b":1.2}"), (b":12}", b":" + b"9" * 30 + b"}"),
        (b":12}", b":12}}"), (b":12}", b':12,"final":true}'), (b"true", b"false"), (b'"e30="', b"null"),
        (b'"e30="', b'null"'), (b'"e30="', b'"e30=""'), (b'"e30=",', b'"e30="'),
        (b"}", b"}\n"),
    ],
)  # fmt: skip
def test_what_is_nearly_as_a_node_of_ours_writes_it_is_read_as_any_other_json(before: bytes, after: bytes) -> None:
    assert before in PLAIN or before in PLAIN_REPLY
    for kind, raw in ((RequestEnvelope, PLAIN), (ResponseEnvelope, PLAIN_REPLY)):
        changed = raw.replace(before, after)
        assert outcome(kind, changed) == outcome(kind, b" " + changed)


def test_what_a_node_of_ours_writes_is_read_without_a_json_parser() -> None:
    assert plain_request(PLAIN) == ("users.Get", "User", b"{}", "r-1", "n-1", 1769860800.5)
    assert plain_response(PLAIN_REPLY) == ("r-1", b"{}", "n-1", 12)
    assert plain_response(PLAIN_REPLY.replace(b'"e30="', b"null")) == ("r-1", None, "n-1", 12)
    assert plain_request(b" " + PLAIN) is plain_response(b" " + PLAIN_REPLY) is None


@thorough(200)
@given(REQUESTS | REPLIES)
def test_what_is_written_is_plain_json_that_anybody_reads(envelope: RequestEnvelope | ResponseEnvelope) -> None:
    raw = envelope.encode()
    assert raw.isascii()
    fields = json.loads(raw)
    assert fields["requestId"] == envelope.request_id
    assert fields["payloadData"] in (None, base64.b64encode(envelope.payload or b"").decode())


@thorough(200)
@given(REQUESTS, st.integers(), st.dictionaries(st.text(st.characters(codec="ascii", categories=["Lu"])), JSON))
def test_letter_case_order_spaces_and_unknown_properties_change_nothing(
    envelope: RequestEnvelope, seed: int, unknown: dict[str, object]
) -> None:
    rng = random.Random(seed)
    fields = list(json.loads(envelope.encode()).items())
    known = {name.lower() for name, _ in fields}
    fields += [(name, value) for name, value in unknown.items() if name.lower() not in known]
    rng.shuffle(fields)
    spelt = {"".join(rng.choice((c.lower(), c.upper())) for c in name): value for name, value in fields}
    raw = json.dumps(spelt, indent=rng.choice([None, 1]), ensure_ascii=rng.random() < 0.5)
    try:
        text = raw.encode()
    except UnicodeEncodeError:
        text = json.dumps(spelt).encode()
    if "NaN" in raw or "Infinity" in raw:
        return
    assert RequestEnvelope.decode(text) == RequestEnvelope.decode(envelope.encode())
