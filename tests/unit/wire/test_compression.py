"""What is compressed comes back as it was, and nothing else is taken for it; a bomb stays as small as it may be."""

from __future__ import annotations

import gzip
import os
import random
import sys
import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from catga_sync.wire import compression
from catga_sync.wire.compression import (
    CompressionError,
    DecompressedTooLong,
    accepted,
    coding_named,
    codings,
    compress,
    decompress,
    longest,
    shared,
)
from tests.conftest import require_module
from tests.tables import every_row

MIB = 1024 * 1024
BODIES = {
    "nothing": b"",
    "a byte": b"x",
    "a step": b"ab" * 32768,
    "a byte more than a step": b"ab" * 32768 + b"x",
    "long and plain": b'{"orderId": 7, "lines": []}' * 50_000,
    "long and random": os.urandom(300_000),
}

with_each_coding = pytest.mark.parametrize("coding", ["gzip", "br"])


@pytest.fixture(autouse=True)
def _has_coding(request: pytest.FixtureRequest) -> None:
    params = getattr(request.node, "callspec", None)
    if params is not None and params.params.get("coding") == "br":
        require_module("brotli")


@with_each_coding
@every_row("body", BODIES.values(), ids=BODIES)
def test_a_body_comes_back_as_it_was(coding: str, body: bytes) -> None:
    made = compress(coding, body)
    assert decompress(coding, made, len(body)) == body
    assert len(body) <= longest(coding, made, 100 * MIB)


@with_each_coding
@every_row("body", [body for body in BODIES.values() if body], ids=[name for name in BODIES if BODIES[name]])
def test_a_body_may_be_as_long_as_the_limit_and_not_a_byte_longer(coding: str, body: bytes) -> None:
    with pytest.raises(DecompressedTooLong, match=f"longer than {len(body) - 1} bytes"):
        decompress(coding, compress(coding, body), len(body) - 1)


@with_each_coding
@every_row("body", BODIES.values(), ids=BODIES)
@every_row(
    "change",
    [
        lambda made: b"",
        lambda made: made[:-1],
        lambda made: made[: len(made) // 2],
        lambda made: made + b"x",
        lambda made: made + made,
        lambda made: made + bytes(100_000),
        lambda made: b'{"requestId": "r-1"}',
    ],
    ids=["nothing", "a byte missing", "half", "a byte more", "twice", "zeros behind it", "not compressed"],
)
def test_a_body_that_is_not_one_whole_stream_is_an_error(
    coding: str, body: bytes, change: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(CompressionError, match=f"^{coding}: ") as caught:
        decompress(coding, change(compress(coding, body)), 100 * MIB)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("header", [b"\x1f\x8b\x08\x08\0\0\0\0\0\xffname\0", b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x02\0ab"])
def test_a_header_of_gzip_may_have_a_name_and_extra_fields(header: bytes) -> None:
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    content = raw.compress(b"tea") + raw.flush()
    end = zlib.crc32(b"tea").to_bytes(4, "little") + (3).to_bytes(4, "little")
    assert decompress("gzip", header + content + end, 3) == b"tea"


@pytest.mark.parametrize("place", [-1, -5])
def test_a_wrong_checksum_or_length_is_an_error(place: int) -> None:
    made = bytearray(gzip.compress(b"tea"))
    made[place] ^= 1
    with pytest.raises(CompressionError):
        decompress("gzip", bytes(made), 100)


def test_a_large_window_of_brotli_is_an_error() -> None:
    brotli = require_module("brotli")
    body = b"tea" * 1000
    assert decompress("br", brotli.compress(body, lgwin=22), 3000) == body
    for bits in (23, 24):
        with pytest.raises(CompressionError, match=r"window is larger than 2\*\*22"):
            decompress("br", brotli.compress(body, lgwin=bits), 3000)
    for bits in range(10, 23):
        assert decompress("br", brotli.compress(body, lgwin=bits), 3000) == body
    with pytest.raises(CompressionError, match="window"):
        decompress("br", b"\x11\x1e" + bytes(10), 3000)  # the extension with windows of up to 1 GiB


@with_each_coding
def test_a_bomb_takes_no_more_memory_than_its_limit_allows(coding: str) -> None:
    bomb = compress(coding, bytes(200 * MIB))
    assert len(bomb) < MIB
    tracemalloc.start()
    try:
        with pytest.raises(DecompressedTooLong):
            decompress(coding, bomb, 4 * MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # BytesIO grows by an eighth, and takes the new piece of memory before it gives the old one back.
    assert peak < 12 * MIB


@with_each_coding
def test_damaged_streams_are_errors_or_bodies_within_the_limit_and_nothing_else(coding: str) -> None:
    dice = random.Random(7)
    made = compress(coding, b'{"orderId": 7, "lines": [1, 2, 3]}' * 3000)
    errors = 0
    for _ in range(2000):
        damaged = bytearray(made)
        for _ in range(dice.randint(1, 3)):
            damaged[dice.randrange(len(damaged))] = dice.getrandbits(8)
        try:
            assert len(decompress(coding, bytes(damaged), 200_000)) <= 200_000
        except CompressionError:
            errors += 1
    assert errors > 100


@pytest.mark.parametrize(
    ("value", "coding"),
    [
        ("gzip", "gzip"), ("GZip", "gzip"), (" x-gzip ", "gzip"), ("gzip, deflate", "gzip"), ("gzip;q=0.1", "gzip"),
        ("identity, gzip ; q=1.000", "gzip"), ("gzip;q=0", None), ("gzip; q=0.000", None), ("gzip;Q=0", None),
        ("identity", None), ("", None), ("*", None), ("deflate", None), ("gzipped", None), (",;=,", None),
    ],
)  # fmt: skip
def test_the_best_coding_is_taken_of_those_that_a_caller_accepts_by_name(value: str, coding: str | None) -> None:
    assert accepted(value) == coding


def test_brotli_is_taken_before_gzip_where_it_is_installed() -> None:
    require_module("brotli")
    assert codings() == ("br", "gzip")
    assert accepted("gzip, deflate, br") == "br"
    assert shared({"batch", "br", "gzip"}) == "br"
    assert shared({"batch", "gzip"}) == "gzip"
    assert shared({"batch"}) is None


def test_without_brotli_there_is_gzip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "brotli", None)
    compression.codings.cache_clear()
    compression._brotli.cache_clear()
    try:
        assert codings() == ("gzip",)
        assert accepted("br, gzip") == "gzip"
        assert shared({"br"}) is None
    finally:
        monkeypatch.undo()
        compression.codings.cache_clear()
        compression._brotli.cache_clear()


@pytest.mark.parametrize(("value", "coding"), [("", None), (" Identity ", None), ("BR", "br"), ("a, b", "a, b")])
def test_a_coding_has_its_name_in_lower_case(value: str, coding: str | None) -> None:
    assert coding_named(value) == coding
