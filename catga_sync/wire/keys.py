"""The keys of a cluster, and the MAC that they make. What is signed with them stands in ``signatures.py``.

Rules of this file:
1. No error shows a key or any part of one, nor leads to an exception that does.
2. Nothing keeps a key: only what HMAC makes of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NoReturn, Protocol

from catga_sync._redaction import Secret
from catga_sync.errors import ConfigurationError
from catga_sync.wire.mac import MacKey

__all__ = ["KeyRing", "Keys"]

#: As long as the digest: a shorter key would be the weakest part (RFC 2104, section 3).
_KEY_BYTES = 32
_HOW_TO = 'make one with: python -c "import secrets; print(secrets.token_hex(32))"'


class Keys(Protocol):
    """Keys, by their names. Thread-safe."""

    @property
    def key_ids(self) -> tuple[str, ...]:
        """A name for each key, the one that signs first."""

    def present(self) -> KeyRing:
        """Return the keys as they are now."""

    def knows(self, key_id: str) -> bool:
        """Return whether there is a key of that name."""

    def mac(self, key_id: str, text: bytes) -> str | None:
        """Return the MAC of a text in hex digits, or None when there is no such key."""


class KeyRing:
    """
    The keys of a cluster: the first one signs, all are accepted. Immutable, thread-safe.

    The keys themselves are not kept, only what HMAC makes of them: there is nothing to show by accident, or to pickle.

    Args:
        secret: One key, or several while one takes the place of another. Text counts as its UTF-8 bytes.

    Raises:
        ConfigurationError: A key is shorter than 32 bytes, stands twice, or is none; the text starts with "secret:".

    .. versionadded:: 0.1
    """

    __slots__ = ("_keys", "_unknown", "key_ids")

    #: A name for each key, the signing one first. Derived from the key, without revealing it.
    key_ids: tuple[str, ...]
    _keys: Mapping[str, MacKey]
    _unknown: MacKey

    def __init__(self, secret: Secret | str | bytes | Sequence[str | bytes]) -> None:
        held = secret.reveal() if isinstance(secret, Secret) else secret
        given = [held] if isinstance(held, (str, bytes)) else held
        if not isinstance(given, Sequence) or not given:
            raise ConfigurationError(f"secret: give a key, or a list of one or more; {_HOW_TO}")
        keys = {}
        for each in given:
            key = MacKey(_key_bytes(each))
            keys[key.mac(b"catga-key-id").hex()[:16]] = key
        if len(keys) < len(given):
            raise ConfigurationError("secret: the same key stands in it twice; a rotation needs two different ones")
        fill = object.__setattr__
        fill(self, "key_ids", tuple(keys))
        fill(self, "_keys", MappingProxyType(keys))
        fill(self, "_unknown", MacKey(os.urandom(_KEY_BYTES)))

    def present(self) -> KeyRing:
        """See ``Keys``."""
        return self

    def knows(self, key_id: str) -> bool:
        """See ``Keys``."""
        return key_id in self._keys

    def mac(self, key_id: str, text: bytes) -> str | None:
        """Return the MAC of a text in 64 hex digits, or None, after the same work, when there is no such key."""
        key = self._keys.get(key_id)
        digits = (self._unknown if key is None else key).mac(text).hex()
        return None if key is None else digits

    def __setattr__(self, name: str, value: object = None) -> NoReturn:
        raise AttributeError(f"{name}: a KeyRing is immutable; make another one")

    __delattr__ = __setattr__

    def __copy__(self, memo: object = None) -> KeyRing:
        return self

    __deepcopy__ = __copy__

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a KeyRing is not pickled; give the other process the secret the way this one got it")

    def __repr__(self) -> str:
        return f"<KeyRing {', '.join(self.key_ids)}>"


def _key_bytes(key: object) -> bytes:
    """Return the bytes of a key. No error shows any of it, nor leads to an exception that does."""
    if isinstance(key, str):
        if key != key.strip():
            raise ConfigurationError("secret: a key starts or ends with white space; cut off the end of its line")
        # "surrogatepass" never fails: a UnicodeEncodeError would hold the whole key.
        key = key.encode("utf-8", "surrogatepass")
    if not isinstance(key, bytes):
        raise ConfigurationError(f"secret: a key is text or bytes, and not {type(key).__name__}; {_HOW_TO}")
    if len(key) < _KEY_BYTES:
        raise ConfigurationError(f"secret: a key needs {_KEY_BYTES} bytes or more, and one has {len(key)}; {_HOW_TO}")
    return key
