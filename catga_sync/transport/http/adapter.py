"""Adapters of ``requests`` whose pools are filled with our connections (``connection.py``).

    DeadlineAdapter    ours: for a session of our own, and in the place of a stock adapter of the user's
    adopt(adapter)     one that the user mounted: its ``send`` and its settings stay, its pools become ours

Rules of this file:
1. No ``send`` is overridden: whatever replaces ``HTTPAdapter.send``, as the ``responses`` package does, goes on
   working.
2. What is changed about an adapter of the user's shows only in a thread that runs an exchange.
"""

from __future__ import annotations

import contextlib
import os
import queue
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import prepend_scheme_if_needed
from urllib3.util import Retry

from catga_sync.transport.http.connection import Connection, TlsConnection, current_exchange

__all__ = ["DeadlineAdapter", "abandon", "adopt", "close_stale", "drop"]

#: A request is sent once. Trying again is for those who know the other nodes, and what has been delivered.
_ONCE = Retry(0, read=False)


class _Pool(urllib3.HTTPConnectionPool):
    """A pool of plain connections of ours, and what it has in common with the one for TLS."""

    ConnectionCls: type[Any] = Connection

    def urlopen(  # type: ignore[override]
        self,
        method: str,
        url: str,
        body: Any = None,
        headers: Any = None,
        retries: Any = None,
        *more: Any,
        **options: Any,
    ) -> Any:
        """Send a request; see urllib3. An exchange is not sent twice, and waits for a connection until its deadline."""
        exchange = current_exchange()
        if exchange is not None:
            retries = _ONCE
            options["pool_timeout"] = exchange.left()
        if more:
            return super().urlopen(method, url, body, headers, retries, *more, **options)
        # By their names: what traces an application takes the place of this function, and adds to ``headers``.
        return super().urlopen(method, url, body=body, headers=headers, retries=retries, **options)

    def close_stale(self) -> None:
        """Close the connections that wait in the pool and will not be used again; urllib3 would keep them for ever."""
        waiting = self.pool
        if waiting is None or not any(conn is not None and conn.sock and conn.is_stale for conn in list(waiting.queue)):
            return
        taken = []
        with contextlib.suppress(queue.Empty):
            while True:
                taken.append(waiting.get(block=False))
        for conn in reversed(taken):
            if conn is not None and conn.is_stale:
                conn.close()
            with contextlib.suppress(queue.Full):
                waiting.put(conn, block=False)
                continue
            if conn is not None:
                conn.close()


class _TlsPool(_Pool, urllib3.HTTPSConnectionPool):
    ConnectionCls = TlsConnection


#: Only these are replaced: pools of another kind (SOCKS, a Unix socket) lead where ours do not.
_OURS: dict[type, type] = {urllib3.HTTPConnectionPool: _Pool, urllib3.HTTPSConnectionPool: _TlsPool}


class DeadlineAdapter(HTTPAdapter):
    """The adapter of ``requests`` over connections that keep the deadline. Thread-safe, as urllib3's pools are."""

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        """Make the pools; see ``HTTPAdapter``."""
        super().init_poolmanager(connections, maxsize, block, **options)
        _make_ours(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Return the pools behind a proxy; see ``HTTPAdapter``."""
        manager = super().proxy_manager_for(proxy, **options)
        _make_ours(manager)
        return manager

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        """Return the pool for a request; see ``HTTPAdapter``."""
        pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
        if isinstance(pool, _TlsPool) and "ssl_context" not in pool.conn_kw:
            # One for all its connections: urllib3 would make one for each.
            needed = ssl.CERT_NONE if verify is False else ssl.CERT_REQUIRED
            pool.conn_kw["ssl_context"] = urllib3.util.ssl_.create_urllib3_context(cert_reqs=needed)
        return pool


def adopt(adapter: object, proxy: str | None) -> None:
    """
    Have an adapter of the user's own make connections of ours from now on; one that has no pools is left alone.

    Args:
        adapter: The user's.
        proxy: The proxy that the next call goes through, or None; its pools would be made in the course of that call.
    """
    if proxy is not None and isinstance(adapter, HTTPAdapter):
        adapter.proxy_manager_for(prepend_scheme_if_needed(proxy, "http"))  # type: ignore[no-untyped-call]
    for manager in _managers(adapter):
        _make_ours(manager)


def close_stale(adapter: object) -> None:
    """Close the connections that will not be used again."""
    for pool in _pools(adapter):
        if isinstance(pool, _Pool):
            pool.close_stale()


def drop(adapter: object, pool: Any) -> None:
    """Let go of a pool, and of its connections when nobody uses them any more."""
    for manager in _managers(adapter):
        for key in manager.pools.keys():  # noqa: SIM118 - urllib3's container cannot be iterated
            if manager.pools.get(key) is pool:
                del manager.pools[key]


def abandon(adapter: object) -> None:
    """
    In a forked child: forget the parent's connections. Their descriptors are closed, nothing is said on them.

    Locks are replaced before they are taken: a thread that the child does not have may have held them.
    """
    for manager in _managers(adapter):
        manager.pools.lock = threading.RLock()
    for pool in _pools(adapter):
        waiting = pool.pool
        if waiting is None:
            continue
        connections = list(waiting.queue)
        # As new, locks and all: urllib3 empties it when the pool is collected.
        waiting.__init__(waiting.maxsize)
        for connection in connections:
            sock = getattr(connection, "sock", None)
            if sock is not None:
                with contextlib.suppress(OSError):
                    os.close(sock.detach())
    for manager in _managers(adapter):
        manager.clear()


def _make_ours(manager: Any) -> None:
    classes = manager.pool_classes_by_scheme
    if any(each in _OURS for each in classes.values()):
        # Its own from now on; urllib3 gives all managers one and the same. The pools that it has hold connections
        # that give no evidence; who uses one just now keeps it for as long as he does.
        manager.pool_classes_by_scheme = {scheme: _OURS.get(each, each) for scheme, each in classes.items()}
        manager.clear()


def _managers(adapter: object) -> list[Any]:
    found = [getattr(adapter, "poolmanager", None), *list(getattr(adapter, "proxy_manager", {}).values())]
    return [each for each in found if isinstance(each, urllib3.PoolManager)]


def _pools(adapter: object) -> Iterator[Any]:
    for manager in _managers(adapter):
        for key in manager.pools.keys():  # noqa: SIM118 - see above
            pool = manager.pools.get(key)
            if pool is not None:
                yield pool
