"""Compressed requests in, compressed responses out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from catga_sync.receiver.memory_budget import SMALL, MemoryBudget
from catga_sync.receiver.refusal import Reason, Refused
from catga_sync.receiver.request import RawRequest
from catga_sync.wire.compression import (
    THRESHOLD,
    CompressionError,
    DecompressedTooLong,
    accepted,
    coding_named,
    codings,
    compress,
    decompress,
    longest,
)
from catga_sync.wire.headers import ACCEPT_ENCODING

__all__ = ["Compression"]

_ACCEPT_ENCODING = ACCEPT_ENCODING.lower()
#: Bytes of memory for a byte of the result: its pieces, and the window or the whole.
_PER_BYTE = 2


class Compression:
    """
    Decompresses requests and compresses responses. Thread-safe.

    Args:
        memory: What decompression takes is taken of it.
        max_body_bytes: The longest body, compressed or not.
        enabled: False refuses compressed requests, and compresses nothing.

    .. versionadded:: 0.1
    """

    def __init__(self, memory: MemoryBudget, max_body_bytes: int, *, enabled: bool = True) -> None:
        self._memory = memory
        self._max_body_bytes = max_body_bytes
        self._enabled = enabled

    def decoded(self, raw: RawRequest, body: bytes, seconds: Callable[[], float]) -> bytes:
        """
        Return the body of a request as it was before it was compressed.

        Args:
            raw: The request.
            body: As it came; the caller is verified.
            seconds: Returns those that the call still has.

        Raises:
            Refused: The coding is none that is taken here, the body is damaged or too long, or there is no memory.
        """
        coding = coding_named(raw.headers.get("content-encoding", ""))
        if coding is None:
            return body
        taken = codings() if self._enabled else ()
        if coding not in taken:
            names = ", ".join(taken) or "identity"
            text = f"Content-Encoding: this node takes {names}"
            raise Refused(Reason.MEDIA_TYPE, text, headers={"Accept-Encoding": names})
        limit = self._max_body_bytes
        try:
            # What becomes small waits for no memory, as a small request that was not compressed. How long a body
            # becomes is seen only when it is decompressed.
            with contextlib.suppress(DecompressedTooLong):
                return decompress(coding, body, min(SMALL, limit))
            with self._memory.room(_PER_BYTE * longest(coding, body, limit), seconds):
                return decompress(coding, body, limit)
        except DecompressedTooLong as exc:
            raise Refused(Reason.TOO_LONG, str(exc)) from exc
        except CompressionError as exc:
            raise Refused(Reason.UNREADABLE, f"Content-Encoding: {exc}") from exc

    def encoded(self, raw: RawRequest, body: bytes, *, signed: bool) -> tuple[bytes, str | None]:
        """
        Compress the body of a response, if the caller has asked for it and the body gets shorter.

        Args:
            raw: The request.
            body: Of the response.
            signed: Whether the response is signed. Then only ``Catga-Accept-Encoding`` counts: a proxy may write an
                ``Accept-Encoding`` of its own, and undo what it brings about.

        Returns:
            The body, and its coding; None for a body that is as it was.
        """
        if len(body) < THRESHOLD or not self._enabled:
            return body, None
        asked = raw.headers.get(_ACCEPT_ENCODING)
        if asked is None and not signed:
            asked = raw.headers.get("accept-encoding")
        coding = None if asked is None else accepted(asked)
        if coding is None:
            return body, None
        shorter = compress(coding, body)
        return (shorter, coding) if len(shorter) < len(body) else (body, None)
