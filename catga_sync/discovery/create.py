"""Making a discovery store from the option ``discovery``. The stores are loaded when they are named."""

from __future__ import annotations

import os
import re
import sys
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from catga_sync import _fork
from catga_sync._redaction import shown
from catga_sync._runtime_dir import meeting_folder
from catga_sync._sqlite import SQLITE_SCHEMES, sqlite_path
from catga_sync.discovery.base import Discovery
from catga_sync.errors import ConfigurationError
from catga_sync.nodes import ClusterNode

__all__ = ["create_discovery"]

_METHODS = ("register", "deregister", "nodes", "close")


def create_discovery(
    given: object = None,
    *,
    cluster_name: str = "default",
    peers: Mapping[str, str | Mapping[str, Any]] | None = None,
    is_alive: Callable[[ClusterNode], bool | None] | None = None,
    under_test: Callable[[], bool] = lambda: False,
) -> Discovery:
    """
    Return the store in which nodes find each other. It opens nothing before it is used.

    Args:
        given:
            The option: a URL, ``"static"``, or an object. None means an SQLite file of this user, and during a test run
            the memory of this process.

        cluster_name:
            Clusters of different names do not see each other.

        peers:
            The nodes of a static list.

        is_alive:
            Tells an SQLite store whether a node of this machine runs; see ``SqliteDiscovery``.

        under_test:
            Tells whether the app is being tested. A run of pytest, or of Django's tests, is noticed without it.

    Raises:
        ConfigurationError: The option is neither the name of a store nor a store.

    .. versionadded:: 0.1
    """

    def sqlite(path: Path | Callable[[], Path]) -> Discovery:
        from catga_sync.discovery.sqlite import SqliteDiscovery

        return SqliteDiscovery(path, cluster_name=cluster_name, is_alive=is_alive)

    if given is None:
        from catga_sync.discovery.default import DefaultDiscovery

        return DefaultDiscovery(
            sqlite(lambda: meeting_folder() / f"{cluster_name}.sqlite3"),
            _shared_memory("memory://", cluster_name),
            lambda: pytest_runs_here() or django_tests_run_here() or under_test(),
        )
    if not isinstance(given, str):
        return _checked(given)
    if given == "static":
        from catga_sync.discovery.static import StaticDiscovery

        return StaticDiscovery(peers or {})
    scheme = given.partition(":")[0]
    if re.fullmatch(r"memory://[A-Za-z0-9._\-]*", given):
        return _shared_memory(given, cluster_name)
    if scheme in SQLITE_SCHEMES:
        return sqlite(sqlite_path(given, "discovery", "memory:// for the nodes of this process"))
    if scheme in ("redis", "rediss"):
        from catga_sync.discovery.redis import RedisDiscovery

        return RedisDiscovery(given, cluster_name=cluster_name)
    if scheme == "kubernetes":
        from catga_sync.discovery.kubernetes import KubernetesDiscovery

        return KubernetesDiscovery(given)
    raise ConfigurationError(
        f"discovery: {shown(given)} is none of memory://, sqlite:///path, redis://, rediss://, "
        f"kubernetes://namespace/service, 'static', or an object"
    )


def _checked(given: Any) -> Discovery:
    for name in _METHODS:
        if not callable(getattr(given, name, None)):
            text = f"discovery: {shown(given)} has no method {name}(); see catga_sync.discovery.Discovery"
            raise ConfigurationError(text)
    _fork.watch_given(given)
    store: Discovery = given
    return store


# Weak: a store is there as long as one of the mediators that meet in it.
_memories: weakref.WeakValueDictionary[tuple[str, str], Discovery] = weakref.WeakValueDictionary()


def _shared_memory(url: str, cluster_name: str) -> Discovery:
    """Return the store of this process for a URL: the mediators of the process share it."""
    from catga_sync.discovery.memory import MemoryDiscovery

    return _memories.setdefault((url, cluster_name), MemoryDiscovery())


def pytest_runs_here() -> bool:
    """Return whether this very process runs tests with pytest; a server that a test has started does not."""
    # pytest's variables are inherited by child processes, its modules are not.
    names = {"PYTEST_VERSION", "PYTEST_CURRENT_TEST"}
    return "_pytest" in sys.modules and not names.isdisjoint(os.environ)  # noqa: TID251 - of pytest, and no options


def django_tests_run_here() -> bool:
    """Return whether Django's test environment is set up in this process, which replaces its mailbox."""
    return hasattr(sys.modules.get("django.core.mail"), "outbox")
