"""Any Python value as data that ``json.dumps`` takes: for responses of web views and for output."""

from __future__ import annotations

import base64
import dataclasses
import enum
import math
from collections.abc import Mapping, Set
from datetime import date, time, timedelta
from typing import Any

__all__ = ["json_data"]


def json_data(value: object) -> Any:
    """
    Return a value as None, bool, int, float, str, and lists and dicts of them.

    Names of fields and keys stay as they are. A Decimal is a text with all its digits, a date or time ISO 8601, a
    timedelta its seconds, bytes base64, an enum's member its value; of any other object the public attributes, or, if
    it has none, its text.
    """
    if isinstance(value, enum.Enum):
        return json_data(value.value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {_key(key): json_data(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, Set)):
        return [json_data(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: json_data(getattr(value, each.name)) for each in dataclasses.fields(value)}
    public = {} if isinstance(value, type) else getattr(value, "__dict__", {})
    found = {name: json_data(item) for name, item in public.items() if not name.startswith("_")}
    return found or str(value)


def _key(key: object) -> str:
    data = json_data(key)
    return data if isinstance(data, str) else str(data)
