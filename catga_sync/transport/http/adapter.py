"""Adapters of ``requests`` whose pools make the connections of ``connection.py``.

    DeadlineAdapter    for a session of our own, and in the place of a stock adapter of the user's
    adopt(adapter)     for an adapter that the user mounted: its ``send`` and settings stay, its pools are replaced

Rules of this file:
1. No ``send`` is overridden, so that what replaces ``HTTPAdapter.send`` (the ``responses`` package) still works.
2. A change to the user's adapter has an effect only in a thread that runs an exchange.
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

from catga_sync.transport.http.connection import Connection, TlsConnection, current

__all__ = ["DeadlineAdapter", "DeadlinePool", "abandon", "adopt", "close_stale", "drop"]

#: The queue whose inside ``take`` and ``give_back`` know, which takes half the time of its methods. It is not that of
#: gevent, which may have taken its name, nor one of the user's own.
_STOCK_QUEUE = queue.LifoQueue if queue.LifoQueue.__module__ == queue.Queue.__module__ == "queue" else None

#: A request is sent once. Another attempt is decided by the failover, which has the other nodes and the delivery.
_ONCE = Retry(0, read=False)


class DeadlinePool(urllib3.HTTPConnectionPool):
    """A pool of connections without TLS, and what it has in common with the one for TLS."""

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
        """Send a request; one of an exchange is sent once, and waits for a connection until its deadline."""
        exchange = current.exchange
        if exchange is not None:
            retries = _ONCE
            options["pool_timeout"] = exchange.left()
        if more:
            return super().urlopen(method, url, body, headers, retries, *more, **options)
        # As keywords: tracing libraries replace this method, and add to ``headers``.
        return super().urlopen(method, url, body=body, headers=headers, retries=retries, **options)

    def take(self) -> Any:
        """Take the connection that was used last; None where none is idle."""
        waiting = self.pool
        if waiting is None:
            return None
        if type(waiting) is not _STOCK_QUEUE:
            with contextlib.suppress(queue.Empty):
                return waiting.get(block=False)
            return None
        with waiting.mutex:
            return waiting.queue.pop() if waiting.queue else None

    def give_back(self, connection: Any) -> None:
        """Give back what ``take`` has given."""
        waiting = self.pool
        if type(waiting) is _STOCK_QUEUE and not self.block:  # else a thread may wait for it
            with waiting.mutex:
                # Whoever closes the pool takes it away before the queue is emptied.
                if self.pool is waiting and len(waiting.queue) < waiting.maxsize:
                    waiting.queue.append(connection)
                    return
        self._put_conn(connection)

    def close_stale(self) -> None:
        """Close the idle connections that are stale; urllib3 keeps them for ever."""
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


class _TlsPool(DeadlinePool, urllib3.HTTPSConnectionPool):
    ConnectionCls = TlsConnection


#: The pools that are replaced; other pools (SOCKS, Unix sockets) are left as they are.
_OURS: dict[type, type] = {urllib3.HTTPConnectionPool: DeadlinePool, urllib3.HTTPSConnectionPool: _TlsPool}


class DeadlineAdapter(HTTPAdapter):
    """An adapter of ``requests`` whose connections keep the deadline. Thread-safe, as urllib3's pools are."""

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
            # One context for all connections: urllib3 makes one for each.
            needed = ssl.CERT_NONE if verify is False else ssl.CERT_REQUIRED
            pool.conn_kw["ssl_context"] = urllib3.util.ssl_.create_urllib3_context(cert_reqs=needed)
        return pool


def adopt(adapter: object, proxy: str | None) -> None:
    """
    Replace the pools of an adapter of the user's own; an adapter without pools is left alone.

    Args:
        adapter: The user's.
        proxy: The proxy of the next call, whose pools are made here; None means no proxy.
    """
    if proxy is not None and isinstance(adapter, HTTPAdapter):
        adapter.proxy_manager_for(prepend_scheme_if_needed(proxy, "http"))  # type: ignore[no-untyped-call]
    for manager in _managers(adapter):
        _make_ours(manager)


def close_stale(adapter: object) -> None:
    """Close the idle connections of an adapter that are stale."""
    for pool in _pools(adapter):
        if isinstance(pool, DeadlinePool):
            pool.close_stale()


def drop(adapter: object, pool: Any) -> None:
    """Remove a pool from an adapter; its connections are closed once no thread uses them."""
    for manager in _managers(adapter):
        for key in manager.pools.keys():  # noqa: SIM118 - urllib3's container cannot be iterated
            if manager.pools.get(key) is pool:
                del manager.pools[key]


def abandon(adapter: object) -> None:
    """
    Close the descriptors of the parent's connections in a forked child, without a TLS or protocol shutdown.

    Locks are replaced before they are used: a thread of the parent may have held them.
    """
    for manager in _managers(adapter):
        manager.pools.lock = threading.RLock()
    for pool in _pools(adapter):
        waiting = pool.pool
        if waiting is None:
            continue
        connections = list(waiting.queue)
        # Re-initialized together with its locks: urllib3 empties the queue when the pool is collected.
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
        # A mapping of its own: urllib3 gives all managers the same one. The pools so far are dropped, as their
        # connections give no evidence; a call that uses one goes on with it.
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
