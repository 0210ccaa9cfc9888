# ruff: noqa: PT017  # both ways to end are looked at
"""Signatures, for whatever there is."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from catga_sync.wire.signatures import (
    REFUSAL,
    SIGNED_HEADERS,
    KeyRing,
    NotAuthentic,
    Verified,
    sign_request,
    sign_response,
    signature_fields,
    verify_request,
    verify_response,
)
from tests.thorough import thorough

KEYS = ["k" * 32, b"\x00\xff" * 20, "ä" * 16]
RING = KeyRing(KEYS)
NOW = 1_700_000_000.0
NONCE = "0123456789abcdef" * 2

TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=200)
MAYBE = st.none() | TEXT
HEX = st.text("0123456789abcdef", min_size=32, max_size=32)
NODE_IDS = st.from_regex(r"[A-Za-z0-9._:\-]{1,128}", fullmatch=True)

RUNS = st.from_regex(r"[A-Za-z0-9._:\-]{0,64}", fullmatch=True)
#: None stands for a header that is not there.
REQUEST: dict[str, st.SearchStrategy[Any]] = {
    "method": TEXT,
    "path": TEXT,
    "cluster": TEXT,
    "audience": TEXT,
    "body": st.binary(),
    **dict.fromkeys(SIGNED_HEADERS, MAYBE),
}
REQUESTS = st.fixed_dictionaries(REQUEST)
REPLIES = st.fixed_dictionaries(
    {
        "nonce": HEX,
        "status": st.integers(100, 999),
        "executed": MAYBE,
        "content_type": MAYBE,
        "content_encoding": MAYBE,
        "body": st.binary(),
    }
)

ANYTHING: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.text(st.characters(categories=["Cs", "Cc", "Zl"])),
    st.binary(),
    st.lists(st.text()),
    st.dictionaries(st.text(), st.text()),
    st.just(10**400),
    st.complex_numbers(),
)
#: A header that is almost one: the parts are well formed, or nearly so, or anything.
HEADERS = (
    ANYTHING
    | st.from_regex(
        r"catga-hmac-v1(-r)? key=[0-9a-fA-F]{16};(ts=[0-9]{1,20};nonce|node)=[\w.:-]*;"
        r"incarnation=[\w.:-]{0,66};mac=[0-9a-f]{60,68}"
    )
    | st.builds(
        "catga-hmac-v1 key={};ts={};nonce={};incarnation={};mac={}".format,
        st.sampled_from(RING.key_ids) | st.text(),
        st.integers() | st.text(),
        HEX,
        RUNS | st.text(),
        HEX.map(lambda half: half * 2),
    )
)


def sign(fields: dict[str, Any], ring: KeyRing = RING, run: str = "run", **others: Any) -> str:
    return sign_request(ring, **_arguments(fields), incarnation=run, **{"now": NOW, **others})


def verify(header: Any, fields: dict[str, Any], **others: Any) -> Verified:
    return verify_request(RING, signature_fields(header), **_arguments(fields), **{"now": NOW, **others})


@given(REQUESTS, st.sampled_from(RING.key_ids), HEX, RUNS, st.floats(1.0, 1e11), st.floats(-59.9, 59.9))
def test_what_any_key_signed_is_let_in_within_the_window(fields, key_id, nonce, run, now, skew):
    signer = KeyRing(KEYS[RING.key_ids.index(key_id)])
    header = sign(fields, signer, run, now=now, nonce=nonce)
    assert len(header) < 320
    verified = verify(header, fields, now=now + skew)
    assert (verified.nonce, verified.key_id, verified.incarnation) == (nonce, key_id, run)
    assert verified.age == pytest.approx(skew, abs=0.002)


@thorough(400)
@given(REPLIES, st.sampled_from(RING.key_ids), NODE_IDS, RUNS)
def test_what_any_key_signed_as_a_reply_is_believed(fields, key_id, node_id, run):
    header = sign_response(RING, **fields, node_id=node_id, incarnation=run, key_id=key_id)
    assert len(header) < 320
    assert verify_response(RING, header, **fields) == (node_id, run)


@thorough(400)
@given(REQUESTS, st.data())
def test_no_other_request_goes_with_a_signature(fields, data):
    header = sign(fields)
    other = {**fields, **data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(fields, ANYTHING)))}
    assume(any(_wire(other[name]) != _wire(fields[name]) for name in fields))
    with pytest.raises(NotAuthentic):
        verify(header, other)


@given(REQUESTS, st.permutations(range(len(REQUEST))), st.data())
def test_values_cannot_be_moved_from_one_line_to_another(fields, order, data):
    header = sign(fields)
    names = list(fields)
    moved = {**fields, **{names[to]: fields[names[place]] for to, place in enumerate(order)}}
    assume(any(_wire(moved[name]) != _wire(fields[name]) for name in names))
    with pytest.raises(NotAuthentic):
        verify(header, moved)


@thorough(400)
@given(REPLIES, st.data())
def test_no_other_reply_goes_with_a_signature(fields, data):
    header = sign_response(RING, **fields, node_id="n", incarnation="run")
    other = {**fields, **data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(fields, ANYTHING)))}
    assume(any((type(other[name]), other[name]) != (type(fields[name]), fields[name]) for name in fields))
    with pytest.raises(NotAuthentic):
        verify_response(RING, header, **other)


@thorough(300)
@given(HEADERS, st.fixed_dictionaries({}, optional=dict.fromkeys([*REQUEST, "now", "window"], ANYTHING)))
def test_whatever_comes_there_is_one_way_to_be_refused(header, junk):
    fields = {**dict.fromkeys(REQUEST), "body": b"", **junk}
    others = {name: fields.pop(name) for name in ("now", "window") if name in junk}
    with pytest.raises(NotAuthentic) as caught:
        verify(header, fields, **others)
    assert str(caught.value) == REFUSAL
    assert caught.value.cause.isprintable()
    with pytest.raises(NotAuthentic):
        verify_response(
            RING, header, nonce=NONCE, status=200, executed="0", content_type=None, content_encoding=None, body=b""
        )


@given(REQUESTS, st.fixed_dictionaries({"now": ANYTHING, "window": ANYTHING}))
def test_a_good_signature_at_whatever_time_is_let_in_or_refused(fields, when):
    header = sign(fields)
    try:
        verified = verify(header, fields, **when)
    except NotAuthentic:
        return
    assert abs(float(when["now"]) - NOW) <= float(when["window"])
    assert math.isfinite(verified.age)


@given(REQUESTS, st.integers(0), st.integers(1, 255))
def test_no_character_of_a_signature_can_be_changed(fields, place, change):
    header = sign(fields)
    place %= len(header)
    changed = header[:place] + chr(ord(header[place]) ^ change) + header[place + 1 :]
    with pytest.raises(NotAuthentic):
        verify(changed, fields)


@given(REQUESTS, ANYTHING, st.sampled_from([*REQUEST, "nonce", "run"]))
def test_signing_is_done_or_is_a_value_error(fields, junk, name):
    others = {"nonce": None, "run": "", **({name: junk} if name in ("nonce", "run") else {})}
    values = {**fields, **({} if name in others else {name: junk})}
    try:
        header = sign(values, **others)
    except ValueError:
        return
    assert verify(header, values)


@given(st.text() | st.binary() | st.lists(st.text() | st.binary()) | ANYTHING)
def test_a_secret_is_taken_or_is_a_configuration_error_that_does_not_show_it(secret):
    try:
        ring = KeyRing(secret)
    except ValueError as exc:
        assert str(exc).startswith("secret: ")
        assert exc.__context__ is None
    else:
        assert 1 <= len(ring.key_ids) == len(set(ring.key_ids))


def _arguments(fields: dict[str, Any]) -> dict[str, Any]:
    headers = {name: fields[name] for name in SIGNED_HEADERS if fields[name] is not None}
    return {**{name: value for name, value in fields.items() if name not in SIGNED_HEADERS}, "headers": headers}


def _wire(value: object) -> object:
    """Return what tells a value from others."""
    return value if isinstance(value, str) else (type(value), value)
