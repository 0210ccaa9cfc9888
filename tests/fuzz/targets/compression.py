"""Compressed bodies: damaged ones are refused, whole ones come back, and none is longer than it may be."""

from __future__ import annotations

import zlib

from catga_sync.wire.compression import (
    CompressionError,
    DecompressedTooLong,
    accepted,
    codings,
    compress,
    decompress,
    longest,
)
from tests.fuzz.target import Check, Finding, Target, pure

__all__ = ["TARGETS"]

_LIMIT = 256 * 1024
_BODIES = (b"", b"x", b'{"requestId":"r-1"}' * 500, bytes(range(256)) * 300, bytes(_LIMIT), bytes(_LIMIT + 1))


def _check_with(coding: str) -> Check:
    def check(data: bytes) -> bool:
        try:
            body = decompress(coding, data, _LIMIT)
        except DecompressedTooLong:
            if longest(coding, data, _LIMIT + 1) <= _LIMIT:
                raise Finding("a body is longer than was foretold") from None
            return False
        except CompressionError as exc:
            if not str(exc).isprintable() or not str(exc).startswith(coding):
                raise Finding(f"the text of an error: {str(exc)!a}") from exc
            return False
        if len(body) > longest(coding, data, _LIMIT):
            raise Finding(f"{len(body)} bytes, and at most {longest(coding, data, _LIMIT)} were foretold")
        if coding == "gzip" and zlib.decompress(data, 31) != body:
            raise Finding("zlib reads another body")
        if decompress(coding, compress(coding, body), len(body)) != body:
            raise Finding("the body is another one when it is compressed again")
        return True

    return check


def _seeds_of(coding: str) -> list[bytes]:
    made = [compress(coding, body) for body in _BODIES]
    return [*made, made[2] + b"x", made[2] * 2, made[3][:-1]]


def _accepted(data: bytes) -> bool:
    coding = accepted(data.decode("latin-1"))
    if coding is not None and (coding not in codings() or coding.encode() not in data.lower()):
        raise Finding(f"{coding} was not asked for")
    return coding is not None


TARGETS = (
    Target("gzip", pure(_check_with("gzip")), lambda: _seeds_of("gzip"), ("\x1f\x8b\x08",)),
    Target("brotli", pure(_check_with("br")), lambda: _seeds_of("br"), packages=("brotli",)),
    Target(
        "accept-encoding",
        pure(_accepted),
        lambda: [b"gzip, deflate", b"br;q=0, gzip;q=0.5", b"x-gzip", b"*;q=0", b"identity"],
        ("gzip", "br", ";q=0", ";q=0.000", "identity", ","),
    ),
)
