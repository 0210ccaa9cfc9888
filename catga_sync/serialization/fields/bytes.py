"""Bytes: base64 in JSON."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from marshmallow import ValidationError

from catga_sync.serialization.fielderrors import fail
from catga_sync.serialization.fields.base import StrictField
from catga_sync.serialization.roundtrip import Code

__all__ = ["BytesField"]


class BytesField(StrictField):
    """Bytes as base64."""

    kind = "bytes"
    safe_hashes = True

    def to_wire(self, value: Any) -> Any:
        if not isinstance(value, bytes):
            fail("bytes", value)
        return base64.b64encode(value).decode("ascii")

    def from_wire(self, raw: Any) -> Any:
        if type(raw) is not str:
            fail("base64 text", raw)
        try:
            return base64.b64decode(raw.encode("ascii"), validate=True)
        except (binascii.Error, ValueError) as exc:
            raise ValidationError("expected base64 text") from exc

    def round_trips_if(self, code: Code, v: str) -> str:
        return f"type({v}) is {code.name(bytes)}"
