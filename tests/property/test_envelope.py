"""The envelope, for whatever there is."""

from __future__ import annotations

import base64
import contextlib
import json
import random
from datetime import datetime, timezone

from hypothesis import example, given
from hypothesis import strategies as st

from catga_sync.errors import ErrorCode
from catga_sync.wire.envelope import EnvelopeError, RequestEnvelope, ResponseEnvelope, well_formed_id
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
    assert [getattr(back, name) for name in RequestEnvelope.__slots__ if name != "timestamp"] == [
        getattr(envelope, name) for name in RequestEnvelope.__slots__ if name != "timestamp"
    ]


@thorough(300)
@given(REPLIES)
def test_an_answer_comes_back_as_it_went(reply: ResponseEnvelope) -> None:
    assert ResponseEnvelope.decode(reply.encode()) == reply


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
