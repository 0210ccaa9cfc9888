"""The frames of a stream: exactly what is written, and all that is refused."""

import hmac
import json
import re
import struct
from pathlib import Path

import pytest

from catga_sync.context import CallContext
from catga_sync.errors import ErrorCode
from catga_sync.transport.request_headers import write_headers
from catga_sync.wire.envelope import RequestEnvelope, ResponseEnvelope
from catga_sync.wire.frames import (
    CALL,
    GOING,
    MAX_HEAD,
    RESPONSE,
    CallHead,
    Frame,
    FrameError,
    FrameReader,
    FrameTooLong,
    UnsignedFrame,
    read_call,
    read_response,
    write_frame,
    write_going,
    write_response,
)
from catga_sync.wire.keys import KeyRing
from catga_sync.wire.mac import MacKey
from catga_sync.wire.stream_keys import stream_keys
from tests.tables import every_row

KEY = MacKey(b"k" * 32)
PARENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
#: What has nothing to do with a stream.
HTTP = {"content-type", "accept-encoding", "user-agent"}
#: What the envelope of a POST says.
ENVELOPE = {"catga-request-type", "catga-response-type", "catga-source-node", "catga-timestamp-ms"}


def read(raw: bytes, key: MacKey | None = None, limit: int = 1000) -> Frame | None:
    return FrameReader(key, limit).feed(raw)


def call(**changes: str | int | None) -> bytes:
    head = json.loads(CallHead("t.Ask", "t.Answer", "web").write(CallContext("r-1", traceparent=PARENT), 5.0, 12.5))
    head.update(changes)
    return json.dumps({name: value for name, value in head.items() if value is not None}).encode()


def test_the_bytes_are_those_that_the_documents_name() -> None:
    raw = write_frame(CALL, 7, b"{}", b"[1]", None)
    page = Path(__file__).parents[3] / "docs" / "wire.md"
    example = re.search(r"A CALL `7`.*?```\n(.*?)\n```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    assert raw == bytes.fromhex(example[1])
    signed = write_frame(CALL, 7, b"{}", b"[1]", KEY)
    assert signed[:4] == (14 + 32).to_bytes(4, "big")
    assert signed[-32:] == hmac.digest(b"k" * 32, signed[:-32], "sha256")


def test_the_keys_of_a_stream_are_those_of_hkdf() -> None:
    secret, first, second = "s" * 40, "0a" * 16, "0b" * 16
    ring = KeyRing(secret)
    made = stream_keys(ring, ring.key_ids[0], caller_nonce=first, node_nonce=second, cluster="c", node_id="n")

    def mac(key: bytes, text: bytes) -> bytes:
        return hmac.digest(key, text, "sha256")

    extracted = mac(bytes.fromhex(first + second), mac(secret.encode(), b"catga-stream-v1"))  # RFC 5869, 2.2
    for hashed, direction in ((made.calls, b"calls"), (made.responses, b"responses")):
        expanded = mac(extracted, direction + b"\nc\nn" + b"\x01")  # RFC 5869, 2.3
        assert hashed.mac(b"") == mac(expanded, b"")
    with pytest.raises(ValueError, match="no such key"):
        stream_keys(ring, "0" * 16, caller_nonce=first, node_nonce=second, cluster="c", node_id="n")


@pytest.mark.parametrize("size", [0, 1, 32, 63, 64, 65, 200])
def test_a_mac_is_an_hmac(size: int) -> None:
    key = bytes(range(7, 7 + size))
    made = MacKey(key)
    for length in (0, 1, 55, 56, 63, 64, 65, 450, 100_000):
        data = bytes(each % 251 for each in range(length))
        assert made.mac(data) == hmac.digest(key, data, "sha256")


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "signed"])
def test_frames_come_out_as_they_went_in_however_they_are_cut(key: MacKey | None) -> None:
    frames = [Frame(CALL, 1, b'{"a":1}', b"[]"), Frame(RESPONSE, 1, b"{}", b""), Frame(GOING, 1, b"", b"x" * 900)]
    raw = b"".join(write_frame(*frame, key) for frame in frames)
    for size in (1, 2, 3, 5, 13, 100, len(raw)):
        reader, found = FrameReader(key, 1000), []
        for start in range(0, len(raw), size):
            frame = reader.feed(raw[start : start + size])
            while frame is not None:
                found.append(frame)
                frame = reader.feed(b"")
        assert found == frames
        assert not reader.has_part


def test_what_came_with_the_upgrade_is_read_first() -> None:
    raw = write_going(0, "no room", None)
    assert FrameReader(None, 10, raw).feed(b"") == read(raw)
    assert FrameReader(None, 10, raw[:5]).feed(raw[5:]) == read(raw)


def test_a_frame_that_is_too_long_is_refused_before_it_is_there() -> None:
    reader = FrameReader(KEY, 1000)
    with pytest.raises(FrameTooLong):
        reader.feed((2**31).to_bytes(4, "big"))


@every_row(
    "raw",
    [
        struct.pack(">I", 0),
        struct.pack(">I", 8) + b"x" * 8,
        struct.pack(">IBII", 9, CALL, 1, 1),
        struct.pack(">IBII", 9, CALL, 1, 2**32 - 1),
        struct.pack(">IBII", 9 + MAX_HEAD + 1, CALL, 1, MAX_HEAD + 1) + b" " * (MAX_HEAD + 1),
    ],
    ids=["empty", "short", "head longer than the frame", "head of 4 GB", "head longer than allowed"],
)
def test_what_is_no_frame_is_refused(raw: bytes) -> None:
    with pytest.raises(FrameError):
        read(raw, limit=MAX_HEAD * 2)


def test_no_bit_of_a_signed_frame_can_be_changed() -> None:
    raw = write_frame(CALL, 1, b'{"a":"b"}', b'{"c":1}', KEY)
    for place in range(4 * 8, len(raw) * 8):  # a changed length is a frame that is not complete, or too short
        changed = bytearray(raw)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(UnsignedFrame):
            read(bytes(changed), KEY)
    assert read(raw, KEY) == Frame(CALL, 1, b'{"a":"b"}', b'{"c":1}')
    for other in (write_frame(CALL, 1, b"{}", b"", None), raw[:-1]):
        resized = (len(other) - 4).to_bytes(4, "big") + other[4:]
        with pytest.raises(FrameError):
            read(resized, KEY)


@every_row(
    "context",
    [
        CallContext("r-1"),
        CallContext("a" * 32, traceparent=PARENT),
        CallContext(
            "r-1",
            traceparent=PARENT,
            tracestate='a="b",c=\\d',
            chain=(("web", 5), ("users", None)),
            store="redis-1",
            baggage='user="a"',
            context_text="tenant=a%22b",
        ),
    ],
)
def test_a_call_has_what_a_post_has(context: CallContext) -> None:
    for left, there in ((5.0, None), (1e9, 1234.5), (-1.0, 1234.5)):
        head = CallHead("t.Ask", "t.Änswer", "web").write(context, left, 12.5, there)
        headers, envelope = read_call(Frame(CALL, 1, head, b"{}"))
        assert envelope == RequestEnvelope("t.Ask", "t.Änswer", b"{}", context.request_id, "web", 12.5)
        posted = {name.lower(): value for name, value in write_headers(context, left, sent=there).items()}
        carried = {name: value for name, value in headers.items() if name not in ENVELOPE}
        assert carried == {name: value for name, value in posted.items() if name not in HTTP}


def test_a_node_without_an_id_sends_none() -> None:
    _, envelope = read_call(Frame(CALL, 1, CallHead("a", "b", None).write(CallContext("r-1"), 5.0, 1.0), b"{}"))
    assert envelope.source_node_id is None


@every_row(
    "changes",
    [
        {"catga-request-id": None},
        {"catga-request-id": "no id"},
        {"catga-request-id": 7},
        {"catga-request-type": ""},
        {"catga-request-type": "x" * 1025},
        {"catga-response-type": "a\nb"},
        {"catga-timestamp-ms": "-1"},
        {"catga-timestamp-ms": "1" * 16},
        {"catga-timestamp-ms": None},
        {"tracestate": "a\r\nb: c"},
        {"tracestate": "ü"},
        {"catga-timestamp-ms": "\u0661"},
    ],
)
def test_a_call_that_cannot_be_read_is_refused(changes: dict[str, str | int | None]) -> None:
    with pytest.raises(FrameError):
        read_call(Frame(CALL, 1, call(**changes), b"{}"))


@every_row(
    "head", [b"", b"{} ", b" {}", b"{}{}", b"[]", b"null", b"{", b"\xff", b"[" * 1000, b'{"a":' * 1000, b"1" * 5000]
)
def test_a_head_that_is_no_object_is_refused(head: bytes) -> None:
    for reads in (read_call, read_response):
        with pytest.raises(FrameError):
            reads(Frame(CALL, 1, head, b"{}"))


@every_row(
    "envelope",
    [
        ResponseEnvelope("r-1", True, b'"tea"', None, None, "n1", 3),
        ResponseEnvelope("r-1", True, None, None, None, "n1", 3),
        ResponseEnvelope('r "1" \\ \u00fc', True, b"1", None, None, None, 0),
        ResponseEnvelope("r-1", True, b"1", None, None, "n1", 0, True),
        ResponseEnvelope("r-1", False, None, "no ü", ErrorCode.NOT_FOUND, "n1", 3, True),
        ResponseEnvelope("r-1", False, None, "no", "CLOSED", None, 0),
    ],
)
@every_row("replayed", [False, True])
@every_row("status", [200, 503])
def test_a_response_comes_out_as_it_went_in(envelope: ResponseEnvelope, status: int, *, replayed: bool) -> None:
    frame = read(write_response(4, envelope, status, "unknown", None, replayed=replayed))
    assert frame is not None
    assert (frame.kind, frame.number) == (RESPONSE, 4)
    found = read_response(frame)
    assert (found.envelope, found.status, found.executed) == (envelope, status, "unknown")
    assert found.headers.get("catga-replayed") == ("1" if replayed else None)


@every_row(
    "changes",
    [
        {"requestId": 1},
        {"isSuccess": "true"},
        {"processingTimeMs": -1},
        {"processingTimeMs": 1.5},
        {"processingTimeMs": 10**30},
        {"status": True},
        {"status": 99},
        {"errorMessage": []},
        {"errorCode": 5},
        {"processedByNodeId": {}},
    ],
)
def test_a_response_that_cannot_be_read_is_refused(changes: dict[str, object]) -> None:
    good = {"requestId": "r", "isSuccess": True, "processingTimeMs": 1, "status": 200}
    read_response(Frame(RESPONSE, 1, json.dumps(good).encode(), b""))
    with pytest.raises(FrameError):
        read_response(Frame(RESPONSE, 1, json.dumps({**good, **changes}).encode(), b""))


def test_texts_of_a_peer_are_cut_and_printable() -> None:
    head = {"requestId": "r", "isSuccess": False, "status": 200, "errorCode": "A\nB" * 100, "processedByNodeId": "n\t"}
    found = read_response(Frame(RESPONSE, 1, json.dumps(head).encode(), b"")).envelope
    assert found.error_code == ("A?B" * 100)[:128]
    assert found.processed_by_node_id == "n?"
