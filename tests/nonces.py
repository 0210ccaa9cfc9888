"""A store of nonces for tests of what asks one."""

from __future__ import annotations

__all__ = ["MemoryNonces"]


class MemoryNonces:
    """Remembers every nonce in this object. See ``NonceStore``."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, nonce: str, expires_in: float) -> bool:
        """See ``NonceStore``."""
        new = nonce not in self._seen
        self._seen.add(nonce)
        return new

    def close(self) -> None:
        """See ``NonceStore``."""
