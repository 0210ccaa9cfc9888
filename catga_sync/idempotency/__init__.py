"""Idempotency stores: ``base.py`` has the interface, each kind of store has one file, ``create.py`` makes them.

Stores never import each other.
"""

from catga_sync.idempotency.base import Claim, ClaimState, IdempotencyStore, SharedIdempotencyStore
from catga_sync.idempotency.create import create_idempotency
from catga_sync.idempotency.memory import MemoryIdempotency
from catga_sync.idempotency.redis import RedisIdempotency
from catga_sync.idempotency.sqlite import SqliteIdempotency

__all__ = [
    # What a store does
    "Claim",
    "ClaimState",
    "IdempotencyStore",
    "SharedIdempotencyStore",
    # Stores
    "create_idempotency",
    "MemoryIdempotency",
    "RedisIdempotency",
    "SqliteIdempotency",
]
