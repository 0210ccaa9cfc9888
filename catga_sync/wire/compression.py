"""Compression of bodies: gzip, and brotli where its package is installed. Thread-safe.

    a request    in a coding that the node has offered in its features     Content-Encoding
    a response   in a coding that the caller has asked for                 Catga-Accept-Encoding, or Accept-Encoding

Our callers ask in a header of their own, and send ``Accept-Encoding: identity``: a proxy that compresses (``gzip on``
in nginx) would otherwise change a body that is signed.

Rules of this file:
1. A decompressed body is bounded while it is made, and so is the memory that this takes.
2. A body is one complete stream with nothing behind it (RFC 1952, RFC 7932). Whatever else comes is an error.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Container, Iterator
from typing import Any

from catga_sync.errors import SerializationError

__all__ = [
    "THRESHOLD",
    "CompressionError",
    "DecompressedTooLong",
    "accepted",
    "coding_named",
    "codings",
    "compress",
    "decompress",
    "longest",
    "shared",
]

#: Bytes of a body below which compression takes more time than it saves; see docs/compression.md.
THRESHOLD = 1024

# The fastest levels: the higher ones take twice the time for a tenth of the length. See docs/compression.md.
_GZIP_LEVEL = 1
_BROTLI_QUALITY = 1
#: zlib's number for the format of gzip, and for its largest window, 32 KiB.
_GZIP_FORMAT = 31
#: Bytes of one byte of gzip at most: what DEFLATE can reach.
_GZIP_RATIO = 1032
#: log2 of the largest window of brotli that is read: 4 MiB, what encoders take by default. The format allows 16 MiB,
#: and a decoder fills the whole window before it returns anything.
_MAX_WINDOW_BITS = 22
#: Bytes that are read, and made, in one step.
_STEP = 64 * 1024


class CompressionError(SerializationError):
    """
    A body is not what its ``Content-Encoding`` says.

    .. versionadded:: 0.1
    """


class DecompressedTooLong(CompressionError):
    """
    A body is longer than allowed once it is decompressed.

    .. versionadded:: 0.1
    """


@functools.cache
def codings() -> tuple[str, ...]:
    """Return the codings that this process reads and writes, as ``Content-Encoding`` names them, the best first."""
    return ("gzip",) if _brotli() is None else ("br", "gzip")


def shared(offered: Container[str]) -> str | None:
    """Return the best coding that is also offered by the other side; None if there is none."""
    return next((coding for coding in codings() if coding in offered), None)


def accepted(value: str) -> str | None:
    """Return the best coding that an ``Accept-Encoding`` (RFC 9110, 12.5.3) accepts by name; None if there is none."""
    names = set()
    for item in value.lower().split(","):
        name, _, weight = item.partition(";")
        # A weight of zero means "not acceptable".
        if weight.strip().rstrip("0") not in ("q=", "q=0."):
            names.add(coding_named(name) or "identity")
    return shared(names)


def coding_named(value: str) -> str | None:
    """Return the coding of a ``Content-Encoding``, in lower case; None means that the body is not encoded."""
    name = value.strip().lower()
    if name in ("", "identity"):
        return None
    # Another name of it (RFC 9110, 8.4.1.3).
    return "gzip" if name == "x-gzip" else name


def compress(coding: str, body: bytes) -> bytes:
    """Return the body in one of ``codings()``."""
    if coding == "gzip":
        stream = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_FORMAT)
        return stream.compress(body) + stream.flush()
    window = max(10, min(_MAX_WINDOW_BITS, len(body).bit_length()))
    compressed: bytes = _brotli().compress(body, quality=_BROTLI_QUALITY, lgwin=window)
    return compressed


def decompress(coding: str, body: bytes, limit: int) -> bytes:
    """
    Return what a body was before it was compressed.

    Args:
        coding: One of ``codings()``.
        body: As it came.
        limit: Bytes that the result may have.

    Raises:
        DecompressedTooLong: The result would be longer.
        CompressionError: The body is damaged, ends early, or something follows it.
    """
    # Not one buffer that grows: while it is moved, it takes the memory twice.
    pieces: list[bytes] = []
    size = 0
    for piece in _READERS[coding](body):
        size += len(piece)
        if size > limit:
            raise DecompressedTooLong(f"the decompressed body is longer than {limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def longest(coding: str, body: bytes, limit: int) -> int:
    """Return the bytes that a body has at most once it is decompressed, up to a limit."""
    return min(limit, _GZIP_RATIO * len(body)) if coding == "gzip" else limit


def _read_gzip(body: bytes) -> Iterator[bytes]:
    stream = zlib.decompressobj(_GZIP_FORMAT)
    try:
        for start in range(0, len(body), _STEP):
            if stream.eof:
                raise CompressionError("gzip: something follows the end of the body")
            piece = body[start : start + _STEP]
            while piece and not stream.eof:
                yield stream.decompress(piece, _STEP)
                piece = stream.unconsumed_tail
        while not stream.eof:
            # All was read, and not all was returned.
            rest = stream.decompress(b"", _STEP)
            if not rest:
                break
            yield rest
    except zlib.error:
        raise CompressionError("gzip: the body is damaged, or it is no gzip") from None
    if not stream.eof:
        raise CompressionError("gzip: the body ends early")
    if stream.unused_data:
        raise CompressionError("gzip: something follows the end of the body")


def _read_brotli(body: bytes) -> Iterator[bytes]:
    if _window_bits(body) > _MAX_WINDOW_BITS:
        raise CompressionError(f"br: the window is larger than 2**{_MAX_WINDOW_BITS} bytes")
    library = _brotli()
    stream = library.Decompressor()
    try:
        for start in range(0, len(body), _STEP):
            if stream.is_finished():
                raise CompressionError("br: something follows the end of the body")
            piece = stream.process(body[start : start + _STEP], output_buffer_limit=_STEP)
            # Some of what was made may be left even where the next bytes could be taken.
            while piece or not stream.can_accept_more_data():
                yield piece
                piece = stream.process(b"", output_buffer_limit=_STEP)
    except library.error:
        raise CompressionError("br: the body is damaged, something follows it, or it is no brotli") from None
    if not stream.is_finished():
        raise CompressionError("br: the body ends early")


_READERS: dict[str, Callable[[bytes], Iterator[bytes]]] = {"gzip": _read_gzip, "br": _read_brotli}


def _window_bits(body: bytes) -> int:
    """Return log2 of the window of a brotli stream, which its first byte has (RFC 7932, 9.1)."""
    first = body[0] if body else 0
    if not first & 1:
        return 16
    high, low = (first >> 1) & 7, (first >> 4) & 7
    if high:
        return 17 + high
    # 1 is an extension to windows of up to 1 GiB.
    return {0: 17, 1: 30}.get(low, 8 + low)


@functools.cache
def _brotli() -> Any:
    """Return the package brotli; None where it is missing, or older than 1.2, which cannot bound what it returns."""
    try:
        import brotli
    except ImportError:
        return None
    return brotli if hasattr(brotli.Decompressor, "can_accept_more_data") else None
