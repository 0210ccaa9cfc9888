"""The stores that options name: where nodes find each other, and where request ids are remembered."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable
from pathlib import Path

from catga_sync import _fork
from catga_sync._redaction import shown
from catga_sync._runtime_dir import meeting_folder
from catga_sync._sqlite import sqlite_path
from catga_sync.cluster.worker_group import any_process_of, group_key
from catga_sync.discovery.base import Discovery
from catga_sync.errors import ConfigurationError
from catga_sync.idempotency import IdempotencyStore, MemoryIdempotency, RedisIdempotency, SqliteIdempotency
from catga_sync.nodes import ClusterNode
from catga_sync.options import ClusterOptions, pytest_runs_here
from catga_sync.transport.http.probe import nobody_listens

__all__ = ["discovery_of", "idempotency_of"]

#: Schemes that are meant for SQLite; one with a driver, as SQLAlchemy has them, is told what to write.
_SQLITE = ("sqlite", "sqlite+pysqlite", "sqlite+aiosqlite", "file")


def discovery_of(options: ClusterOptions, under_test: Callable[[], bool] = lambda: False) -> Discovery:
    """
    Return the store in which nodes find each other. It opens nothing before it is asked.

    Args:
        options: The options.
        under_test: Tells whether the app is being tested; pytest is noticed without it.

    Raises:
        ConfigurationError: The option names none.
    """
    given = options.discovery
    if given is None:
        from catga_sync.discovery.default import DefaultDiscovery

        return DefaultDiscovery(
            _sqlite(lambda: meeting_folder() / f"{options.cluster_name}.sqlite3", options.cluster_name),
            _shared_memory("memory://", options.cluster_name),
            lambda: pytest_runs_here() or under_test(),
        )
    if not isinstance(given, str):
        missing = [
            name for name in ("register", "deregister", "nodes", "close") if not callable(getattr(given, name, None))
        ]
        if missing:
            raise ConfigurationError(
                f"discovery: {shown(given)} has no method {missing[0]}(); see catga_sync.discovery.Discovery"
            )
        _fork.watch_given(given)
        found: Discovery = given
        return found
    if given == "static":
        from catga_sync.discovery.static import StaticDiscovery

        return StaticDiscovery(options.peers or {})
    scheme = given.partition(":")[0]
    if scheme == "memory" and re.fullmatch(r"memory://[A-Za-z0-9._\-]*", given):
        return _shared_memory(given, options.cluster_name)
    if scheme in _SQLITE:
        path = sqlite_path(given, "discovery", "memory:// for the nodes of this process")
        return _sqlite(path, options.cluster_name)
    if scheme in ("redis", "rediss"):
        from catga_sync.discovery.redis import RedisDiscovery

        return RedisDiscovery(given, cluster_name=options.cluster_name)
    if scheme == "kubernetes":
        from catga_sync.discovery.kubernetes import KubernetesDiscovery

        return KubernetesDiscovery(given)
    raise ConfigurationError(
        f"discovery: {shown(given)} is none of memory://, sqlite:///path, redis://, rediss://, "
        f"kubernetes://namespace/service, 'static', or an object"
    )


def idempotency_of(options: ClusterOptions) -> IdempotencyStore | None:
    """
    Return the store that remembers request ids; None when none is wanted. It opens nothing before it is asked.

    Raises:
        ConfigurationError: The option names none.
    """
    given = options.idempotency
    if given is False or given == "off":
        return None
    if given == "memory":
        return MemoryIdempotency()
    if not isinstance(given, str):
        if not callable(getattr(given, "claim", None)):
            raise ConfigurationError(f"idempotency: {shown(given)} has no method claim(); see catga_sync.idempotency")
        _fork.watch_given(given)
        found: IdempotencyStore = given
        return found
    scheme = given.partition(":")[0]
    if scheme in _SQLITE:
        return SqliteIdempotency(sqlite_path(given, "idempotency", "'memory' for this process"))
    if scheme in ("redis", "rediss"):
        return RedisIdempotency(given, cluster_name=options.cluster_name)
    raise ConfigurationError(
        f"idempotency: {shown(given)} is none of 'memory', 'off', sqlite:///path, redis://, rediss://, or an object"
    )


def _sqlite(path: Path | Callable[[], Path], cluster_name: str) -> Discovery:
    from catga_sync.discovery.sqlite import SqliteDiscovery

    def is_alive(node: ClusterNode) -> bool | None:
        try:
            folder = meeting_folder()
        except OSError:
            return None
        alive = any_process_of(folder, group_key(cluster_name, node.node_id, node.endpoint or ""))
        if alive is False and not nobody_listens(node.endpoint or ""):
            # Its workers have died, but somebody keeps the port for the next ones: gunicorn's master, say.
            return None
        return alive

    return SqliteDiscovery(path, cluster_name=cluster_name, is_alive=is_alive)


# Weak: the store is there as long as one of the mediators that meet in it.
_memories: weakref.WeakValueDictionary[tuple[str, str], Discovery] = weakref.WeakValueDictionary()


def _shared_memory(url: str, cluster_name: str) -> Discovery:
    """Return the store of this process for that URL: what ``memory://`` means is "the mediators of this process"."""
    from catga_sync.discovery.memory import MemoryDiscovery

    return _memories.setdefault((url, cluster_name), MemoryDiscovery())
