"""The codec of any annotation, for tests."""

from __future__ import annotations

from dataclasses import make_dataclass
from typing import Any

import pytest

from catga_sync.errors import SerializationError
from catga_sync.messages import Query
from catga_sync.serialization import Codec, MessageRegistry

__all__ = ["codec_of", "refusals"]


def codec_of(annotation: Any) -> Codec:
    """Return what writes and reads a response of this type."""
    get = make_dataclass("Get", [], bases=(Query[annotation],), frozen=True)
    codec = MessageRegistry().register(get, name="Get").response_codec
    assert codec is not None
    return codec


def refusals(codec: Codec, value: Any) -> list[str]:
    """Return what is said of a value locally and remotely; the first is empty where it passes here unseen."""
    with pytest.raises(SerializationError) as caught:
        codec.decode(codec.encode(value))
    return ["" if codec.round_trips(value) else str(caught.value), str(caught.value)]
