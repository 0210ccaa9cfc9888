"""The stores that options name: where nodes find each other, and where request ids are remembered."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from catga_sync.cluster.workers import any_process_of, group_key
from catga_sync.discovery.base import Discovery
from catga_sync.errors import ConfigurationError
from catga_sync.folders import meeting_folder
from catga_sync.idempotency import IdempotencyStore, MemoryIdempotency, RedisIdempotency, SqliteIdempotency
from catga_sync.nodes import ClusterNode
from catga_sync.options import ClusterOptions
from catga_sync.transport.probe import nobody_listens

__all__ = ["discovery_of", "idempotency_of"]


def discovery_of(options: ClusterOptions) -> Discovery:
    """
    Return the store in which nodes find each other. It opens nothing before it is asked.

    Raises:
        ConfigurationError: The option names none.
    """
    given = options.discovery
    if given is None:
        return _sqlite(meeting_folder() / f"{options.cluster_name}.sqlite3", options.cluster_name)
    if not isinstance(given, str):
        missing = [
            name for name in ("register", "deregister", "nodes", "close") if not callable(getattr(given, name, None))
        ]
        if missing:
            raise ConfigurationError(
                f"discovery: {given!r} has no method {missing[0]}(); see catga_sync.discovery.Discovery"
            )
        found: Discovery = given
        return found
    if given == "static":
        from catga_sync.discovery.static import StaticDiscovery

        return StaticDiscovery(options.peers or {})
    scheme = given.partition(":")[0]
    if scheme == "memory" and re.fullmatch(r"memory://[A-Za-z0-9._\-]*", given):
        return _shared_memory(given, options.cluster_name)
    if scheme == "sqlite":
        return _sqlite(_path_of(given, "discovery"), options.cluster_name)
    if scheme in ("redis", "rediss"):
        from catga_sync.discovery.redis import RedisDiscovery

        return RedisDiscovery(given, cluster_name=options.cluster_name)
    if scheme == "kubernetes":
        from catga_sync.discovery.kubernetes import KubernetesDiscovery

        return KubernetesDiscovery(given)
    raise ConfigurationError(
        f"discovery: {_without_password(given)!r} is none of memory://, sqlite:///path, redis://, rediss://, "
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
            raise ConfigurationError(f"idempotency: {given!r} has no method claim(); see catga_sync.idempotency")
        found: IdempotencyStore = given
        return found
    scheme = given.partition(":")[0]
    if scheme == "sqlite":
        return SqliteIdempotency(_path_of(given, "idempotency"))
    if scheme in ("redis", "rediss"):
        return RedisIdempotency(given, cluster_name=options.cluster_name)
    raise ConfigurationError(
        f"idempotency: {_without_password(given)!r} is none of 'memory', 'off', sqlite:///path, redis://, rediss://, "
        f"or an object"
    )


def _path_of(url: str, option: str) -> Path:
    path = unquote(url[len("sqlite:///") :]) if url.startswith("sqlite:///") else ""
    if not path:
        raise ConfigurationError(f"{option}: write sqlite:///relative/path or sqlite:////absolute/path, not {url!r}")
    return Path(path)


def _sqlite(path: Path, cluster_name: str) -> Discovery:
    from catga_sync.discovery.sqlite import SqliteDiscovery

    def is_alive(node: ClusterNode) -> bool | None:
        alive = any_process_of(meeting_folder(), group_key(cluster_name, node.node_id, node.endpoint or ""))
        if alive is False and not nobody_listens(node.endpoint or ""):
            # Its workers have died, but somebody keeps the port for the next ones: gunicorn's master, say.
            return None
        return alive

    return SqliteDiscovery(path, cluster_name=cluster_name, is_alive=is_alive)


_memories: dict[tuple[str, str], Discovery] = {}


def _shared_memory(url: str, cluster_name: str) -> Discovery:
    """Return the store of this process for that URL: what ``memory://`` means is "the mediators of this process"."""
    from catga_sync.discovery.memory import MemoryDiscovery

    return _memories.setdefault((url, cluster_name), MemoryDiscovery())


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.partition('//')[0]}//***@{tail}" if at else url
