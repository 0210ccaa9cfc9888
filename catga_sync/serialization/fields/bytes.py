"""Bytes: base64 text in JSON."""

from __future__ import annotations

import base64

from catga_sync.serialization.fields.base import TextualField

__all__ = ["BytesField"]


def _write(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _read(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii"), validate=True)


class BytesField(TextualField):
    """Bytes as base64."""

    kind = "bytes"
    safe_hashes = True
    cls = bytes
    write = staticmethod(_write)
    read = staticmethod(_read)
    form = expected = "base64 text"
    round_trips_if = TextualField.is_exact_class
    write_code = TextualField.write_exact_class
    read_code = TextualField.read_text
