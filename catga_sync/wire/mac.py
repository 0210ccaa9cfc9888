"""HMAC-SHA256 (RFC 2104) with a key that makes many MACs: of signatures, and of the frames of a stream."""

from __future__ import annotations

import hashlib

__all__ = ["MacKey"]

#: Bytes of a block of SHA-256, and what a key is masked with.
_BLOCK = 64
_INNER, _OUTER = (bytes(byte ^ mask for byte in range(256)) for mask in (0x36, 0x5C))


class MacKey:
    """
    Makes MACs with one key, which it does not keep. Immutable, thread-safe.

    Both hashes that begin with the key are kept and copied. ``hmac.HMAC`` does so, too, in four functions of Python a
    MAC: 1.7 us against 1.1 us for 450 bytes.

    Args:
        key: Any number of bytes.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        padded = (hashlib.sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(padded.translate(_INNER))
        self._outer = hashlib.sha256(padded.translate(_OUTER))

    def mac(self, data: bytes) -> bytes:
        """Return the MAC of the data, 32 bytes."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(data)
        outer.update(inner.digest())
        return outer.digest()
