"""The keys of one stream, from a key of the cluster and the nonces of both sides.

HKDF-SHA256 (RFC 5869): the input is HMAC-SHA256 of the key of the cluster and "catga-stream-v1", so that no MAC that is
used elsewhere leads to a key of a stream; the salt is both nonces, that of the caller first; the info is the direction,
the name of the cluster and the id of the node.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import NamedTuple

from catga_sync.wire.keys import Keys

__all__ = ["FrameKey", "StreamKeys", "is_nonce", "stream_keys"]

_PURPOSE = b"catga-stream-v1"
_NONCE = re.compile(r"[0-9a-f]{32}")
#: Bytes of a block of SHA-256, and what a key is masked with (RFC 2104).
_BLOCK = 64
_INNER, _OUTER = (bytes(byte ^ mask for byte in range(256)) for mask in (0x36, 0x5C))


class FrameKey:
    """
    Makes the MACs of one direction of a stream: HMAC-SHA256 (RFC 2104). Immutable, thread-safe.

    A key makes many MACs, so both hashes that begin with it are kept and copied. ``hmac.HMAC`` does so, too, in four
    functions of Python a MAC: 1.7 us against 1.1 us for 450 bytes.

    Args:
        key: 64 bytes at most.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        if len(key) > _BLOCK:
            raise ValueError(f"key: give {_BLOCK} bytes at most")
        padded = key.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(padded.translate(_INNER))
        self._outer = hashlib.sha256(padded.translate(_OUTER))

    def mac(self, data: bytes) -> bytes:
        """Return the MAC of the data, 32 bytes."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(data)
        outer.update(inner.digest())
        return outer.digest()


class StreamKeys(NamedTuple):
    """What makes the MACs of one stream."""

    #: Of what the caller sends.
    calls: FrameKey
    #: Of what the node sends.
    responses: FrameKey


def is_nonce(value: object) -> bool:
    """Return whether that is a nonce: 32 hex digits in lower case."""
    return isinstance(value, str) and _NONCE.fullmatch(value) is not None


def stream_keys(
    ring: Keys, key_id: str, *, caller_nonce: str, node_nonce: str, cluster: str, node_id: str
) -> StreamKeys:
    """
    Return the keys of a stream.

    Args:
        ring: The keys of the cluster.
        key_id: The key with which the request for the stream was signed.
        caller_nonce: That of the request, in hex digits.
        node_nonce: That of the response, in hex digits.
        cluster: The name of the cluster.
        node_id: The node that serves the stream.

    Raises:
        ValueError: There is no such key.
    """
    made = ring.mac(key_id, _PURPOSE)
    if made is None:
        raise ValueError("key_id: there is no such key in the ring")
    extracted = hmac.digest(bytes.fromhex(caller_nonce + node_nonce), bytes.fromhex(made), "sha256")

    def expand(direction: str) -> FrameKey:
        info = f"{direction}\n{cluster}\n{node_id}".encode("ascii")
        # One block is as long as the key that is needed.
        return FrameKey(hmac.digest(extracted, info + b"\x01", "sha256"))

    return StreamKeys(expand("calls"), expand("responses"))
