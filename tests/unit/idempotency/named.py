"""A store that says which one it is, as a test tells it."""

from __future__ import annotations

from typing import Any

from catga_sync.idempotency import MemoryIdempotency

__all__ = ["Named"]


class Named(MemoryIdempotency):
    """
    A store of the user's own that other nodes have, too.

    Args:
        told: What it says when it is asked which one it is; an exception is raised.
    """

    def __init__(self, told: Any = "one") -> None:
        super().__init__()
        self.told = told

    def identity(self) -> Any:
        if isinstance(self.told, Exception):
            raise self.told
        return self.told
