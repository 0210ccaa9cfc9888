"""The channel over HTTP: one POST to one node, through the pools of a ``requests.Session``."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import requests
from requests.adapters import BaseAdapter, HTTPAdapter

from catga_sync import _fork
from catga_sync.errors import ends_process
from catga_sync.nodes import ClusterNode
from catga_sync.transport.base import Response
from catga_sync.transport.http.adapter import abandon, close_stale, drop
from catga_sync.transport.http.connection import IDLE_LIMIT, Exchange
from catga_sync.transport.http.lean import Lane
from catga_sync.transport.http.user_session import (
    STOCK_GET_ADAPTER,
    STOCK_SEND,
    BorrowedSession,
    is_stock,
    new_session,
    post_directly,
    post_through,
)
from catga_sync.transport.http.verdict import judge_broken

__all__ = ["HttpChannel"]

#: Statuses of a node that has not read the body: it ends the connection, perhaps a moment after its response.
_ENDING = frozenset({401, 403, 405, 408, 413})


class HttpChannel:
    """
    Carry bytes to other nodes over HTTP. Thread-safe, and safe after a fork: a child opens its own connections.

    Args:
        pool_size: Connections that are kept open to a node.
        max_body_bytes: The length of the longest response that is read.
        session: A ``requests.Session`` of the user's own, see ``BorrowedSession``; None means that one is made.
        verify: As in ``requests``: True, False, or a path to a bundle of CA certificates.
        cert: As in ``requests``: path to a client certificate, or a pair (certificate, key); None means none.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        *,
        pool_size: int = 64,
        max_body_bytes: int = 4 * 1024 * 1024,
        session: requests.Session | None = None,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
    ) -> None:
        self._pool_size = pool_size
        self._max_body_bytes = max_body_bytes
        self._given = session
        self._verify = verify
        self._cert = cert
        self._lock = threading.Lock()
        # Written with _lock held, read without it: the session, and the way to each endpoint.
        self._session: requests.Session | BorrowedSession | None = None
        self._lanes: dict[str, Lane] = {}
        _fork.watch(self)

    def exchange(
        self,
        node: ClusterNode,
        path: str,
        headers: dict[str, str],
        body: bytes,
        expires: float,
        renew: Callable[[Mapping[str, str]], Mapping[str, str]] | None = None,
    ) -> Response:
        """See ``Channel``."""
        idle_limit = IDLE_LIMIT if node.keep_alive is None else max(0.0, node.keep_alive - 0.5)
        exchange = Exchange(expires, idle_limit, renew)
        try:
            if os.getpid() != _fork.pid:
                _fork.check_process()
            lane = self._lanes.get(node.endpoint or "")
            replaced = HTTPAdapter.send is not STOCK_SEND or requests.Session.get_adapter is not STOCK_GET_ADAPTER
            if lane is None or replaced:
                came = self._exchange_through_session(node, path, headers, body, exchange)
            else:
                short = lane.post(path, body, headers, exchange, self._max_body_bytes)
                if short is None:
                    with exchange.run():
                        short = post_directly(lane.pool, path, body, headers, exchange, self._max_body_bytes)
                came = short
        except BaseException as exc:  # a session of the user's own may raise anything
            if ends_process(exc):
                raise
            raise judge_broken(exc, exchange, node.endpoint or "") from exc
        if came[0] in _ENDING:
            exchange.retire()
        return Response(*came, exchange.retire)

    def close(self) -> None:
        """See ``Channel``."""
        with self._lock:
            session, self._session = self._session, None
            self._lanes = {}
        if session is not None:
            session.close()

    def tidy(self, nodes: Iterable[ClusterNode]) -> None:
        """See ``Channel``."""
        _fork.check_process()
        endpoints = {node.endpoint for node in nodes}
        with self._lock:
            dropped = [self._lanes.pop(endpoint).pool for endpoint in list(self._lanes) if endpoint not in endpoints]
        for adapter in _adapters(self._session):
            for pool in dropped:
                drop(adapter, pool)
            close_stale(adapter)

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``. The parent's descriptors are closed without a TLS or protocol shutdown."""
        self._lock = threading.Lock()
        for adapter in _adapters(self._session):
            abandon(adapter)
        self._session = None
        self._lanes = {}

    def _exchange_through_session(
        self, node: ClusterNode, path: str, headers: dict[str, str], body: bytes, exchange: Exchange
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Exchange through the session: for the first exchange with a node, or where code of the user's takes part."""
        opened = self._open_session()
        session = opened.twin() if isinstance(opened, BorrowedSession) else opened
        url = f"{node.endpoint}{path}"
        adapter = session.get_adapter(url)
        with exchange.run():
            if session is opened and is_stock(adapter):
                pool = self._pool_of(node, session, adapter)
                return post_directly(pool, path, body, headers, exchange, self._max_body_bytes)
            return post_through(
                session,
                url,
                body,
                headers,
                exchange,
                verify=self._verify,
                cert=self._cert,
                limit=self._max_body_bytes,
            )

    def _open_session(self) -> requests.Session | BorrowedSession:
        session = self._session
        if session is not None:
            return session
        with self._lock:
            if self._session is None:
                given, size = self._given, self._pool_size
                self._session = new_session(size) if given is None else BorrowedSession(given, size)
                self._lanes = {}
            return self._session

    def _pool_of(self, node: ClusterNode, session: requests.Session, adapter: Any) -> Any:
        endpoint = node.endpoint or ""
        lane = self._lanes.get(endpoint)
        if lane is not None:
            return lane.pool
        prepared = session.prepare_request(requests.Request("POST", f"{endpoint}/"))
        pool = adapter.get_connection_with_tls_context(prepared, self._verify, cert=self._cert)
        adapter.cert_verify(pool, prepared.url, self._verify, self._cert)
        with self._lock:
            if self._session is session:  # else it was closed meanwhile, and the next call makes another pool
                self._lanes[endpoint] = Lane(pool)
        return pool


def _adapters(session: requests.Session | BorrowedSession | None) -> list[BaseAdapter]:
    if session is None:
        return []
    return session.adapters if isinstance(session, BorrowedSession) else list(session.adapters.values())
