"""Making an idempotency store from the option ``idempotency``."""

from __future__ import annotations

from catga_sync import _fork
from catga_sync._clock import Clock
from catga_sync._redaction import shown
from catga_sync._sqlite import SQLITE_SCHEMES, sqlite_path
from catga_sync.errors import ConfigurationError
from catga_sync.idempotency.base import IdempotencyStore
from catga_sync.idempotency.memory import MemoryIdempotency
from catga_sync.idempotency.redis import RedisIdempotency
from catga_sync.idempotency.sqlite import SqliteIdempotency

__all__ = ["create_idempotency"]


def create_idempotency(
    given: object = "memory", *, cluster_name: str = "default", clock: Clock | None = None
) -> IdempotencyStore | None:
    """
    Return the store of request ids; None without one. It opens nothing before it is used.

    Args:
        given: The option: ``"memory"``, ``"off"`` or False, a URL, or an object.
        cluster_name: Clusters of different names that use one Redis server share no request ids.
        clock: Tells a store in memory when a request id has expired; None means the system's.

    Raises:
        ConfigurationError: The option is neither the name of a store nor a store.

    .. versionadded:: 0.1
    """
    if given is False or given == "off":
        return None
    if given == "memory":
        return MemoryIdempotency(clock=clock)
    if not isinstance(given, str):
        if not callable(getattr(given, "claim", None)):
            raise ConfigurationError(f"idempotency: {shown(given)} has no method claim(); see catga_sync.idempotency")
        _fork.watch_given(given)
        store: IdempotencyStore = given  # type: ignore[assignment]  # that it has claim() was looked at
        return store
    scheme = given.partition(":")[0]
    if scheme in SQLITE_SCHEMES:
        return SqliteIdempotency(sqlite_path(given, "idempotency", "'memory' for this process"))
    if scheme in ("redis", "rediss"):
        return RedisIdempotency(given, cluster_name=cluster_name)
    raise ConfigurationError(
        f"idempotency: {shown(given)} is none of 'memory', 'off', sqlite:///path, redis://, rediss://, or an object"
    )
