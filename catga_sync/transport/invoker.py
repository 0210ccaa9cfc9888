"""Requests over HTTP: one POST of one envelope to one node. ``verdict.py`` says what came of it.

Rules of this file:
1. One call, one attempt. Trying again is for ``cluster/failover.py``, which knows the other nodes.
2. Nothing here raises; whatever happens becomes a result.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import requests
import urllib3
from requests.adapters import BaseAdapter

from catga_sync._clock import Clock
from catga_sync._log_limit import LimitedLog
from catga_sync.context import current_call
from catga_sync.errors import Delivery, SerializationError, ends_process
from catga_sync.messages import Request
from catga_sync.nodes import ClusterNode
from catga_sync.resilience.concurrency import NoPlace, Places
from catga_sync.results import OTHER_NODE, RETRY, CatgaResult
from catga_sync.serialization import MessageRegistry
from catga_sync.transport.batch import FRAME, Item, judge_batch, parts, write_batch
from catga_sync.transport.http.adapter import abandon, close_stale, drop
from catga_sync.transport.http.connection import Exchange
from catga_sync.transport.http.probe import HttpProbe
from catga_sync.transport.http.user_session import BorrowedSession, is_stock, new_session, post_directly, post_through
from catga_sync.transport.outcome import Call, Judge, judge_one
from catga_sync.transport.proof import Proof, judge_unproven
from catga_sync.transport.signing import MISDIRECTED, Signing
from catga_sync.wire.call_path import write_chain
from catga_sync.wire.envelope import MAX_TIME_MS, STAMP_LENGTH, RequestEnvelope, stamped

__all__ = ["BATCH_PATH", "INVOKE_PATH", "HttpInvoker"]

T = TypeVar("T")

INVOKE_PATH = "/catga/cluster/invoke"
BATCH_PATH = "/catga/cluster/batch"

#: Seconds for making a connection, within the call's deadline.
CONNECT_TIMEOUT = 1.0

#: Makes the body of a request at the moment in which it is sent: when that was stands in it.
_Write = Callable[[], bytes]


class HttpInvoker:
    """
    Carry requests to other nodes over HTTP. Thread-safe, and safe after a fork: a child opens its own connections.

    Args:
        registry:
            The message types.

        source_node_id:
            The id of this node, told to the peer.

        pool_size:
            Connections per node, and so calls at once to one node. More callers wait for a free one, within
            their deadlines.

        max_body_bytes:
            The longest request that is sent and the longest answer that is read.

        session:
            A ``requests.Session`` of the user's own, see ``BorrowedSession``; None means one of its own.

        verify:
            As in ``requests``: True, False, or a path to a bundle of CA certificates.

        cert:
            As in ``requests``: path to a client certificate, or a pair (certificate, key); None means none.

        signing:
            Signs requests and checks answers; None means that neither is signed.

        on_stall:
            Called with a node at which a call has waited for a place in vain while no other call ended there.

        clock:
            Tells how many failures a second are logged; None means the system's.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        registry: MessageRegistry,
        *,
        source_node_id: str | None = None,
        pool_size: int = 64,
        max_body_bytes: int = 4 * 1024 * 1024,
        session: requests.Session | None = None,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        signing: Signing | None = None,
        on_stall: Callable[[ClusterNode], None] = lambda node: None,
        clock: Clock | None = None,
    ) -> None:
        self._registry = registry
        self._source_node_id = source_node_id
        self._pool_size = pool_size
        self._max_body_bytes = max_body_bytes
        self._given = session
        self._verify = verify
        self._cert = cert
        self._signing = signing
        proves = signing is not None and not signing.loopback_only
        self._proof = Proof(HttpProbe(verify=verify, cert=cert, signing=signing)) if proves else None
        self._on_stall = on_stall
        self._failures = LimitedLog(logging.getLogger(__name__), clock)
        self._lock = threading.Lock()
        # Guarded by _lock; read without it: the session of process _pid, and per endpoint its pool and free places.
        self._pid = -1
        self._session: requests.Session | BorrowedSession | None = None
        self._places: dict[str, Places] = {}
        self._pools: dict[str, Any] = {}

    def invoke(self, node: ClusterNode, request: Request[T], *, timeout: float, request_id: str) -> CatgaResult[T]:
        """See ``RemoteInvoker``."""
        expires = time.monotonic() + timeout
        call = Call(node, self._registry.ensure(type(request)), request_id, self._failures)
        envelope = self._envelope(call, request)
        return envelope if isinstance(envelope, CatgaResult) else self._post_one(call, envelope, expires)

    def invoke_batch(
        self, node: ClusterNode, requests: Sequence[Request[Any]], *, timeout: float, request_ids: Sequence[str]
    ) -> list[CatgaResult[Any]]:
        """
        Send several requests to one node in one round trip; return their results in the same order.

        Args:
            node: Where to; it must have said that it takes batches.
            requests: The messages.
            timeout: Seconds for all of them together.
            request_ids: One for each message.
        """
        expires = time.monotonic() + timeout
        results: dict[int, CatgaResult[Any]] = {}
        ready: list[Item] = []
        for index, (request, request_id) in enumerate(zip(requests, request_ids, strict=True)):
            call = Call(node, self._registry.ensure(type(request)), request_id, self._failures)
            envelope = self._envelope(call, request)
            if isinstance(envelope, CatgaResult):
                results[index] = envelope
                continue
            item = Item(index, call, envelope.unstamped())
            if item.length + FRAME > self._max_body_bytes:
                results[index] = call.too_long(item.length, self._max_body_bytes)
            else:
                ready.append(item)
        waiting = list(parts(ready, self._max_body_bytes))
        while waiting:
            part = waiting.pop(0)
            calls = [item.call for item in part]
            answers = self._post(calls, BATCH_PATH, partial(write_batch, part, time.time), expires, judge_batch)
            if len(part) > 1 and all(_too_much(answer) for answer in answers):
                # The node takes less at once than this one sends: what is too long together may fit alone.
                waiting[:0] = [part[: len(part) // 2], part[len(part) // 2 :]]
            else:
                results.update(zip([item.number for item in part], answers, strict=True))
        return [results[index] for index in range(len(results))]

    def close(self) -> None:
        """See ``RemoteInvoker``."""
        with self._lock:
            session, self._session = self._session, None
            self._pools = {}
        if session is not None:
            session.close()

    def tidy(self, nodes: Iterable[ClusterNode]) -> None:
        """See ``UpkeptInvoker``."""
        self._failures.tell_left_out()
        present = list(nodes)
        if self._proof is not None:
            self._proof.keep_only(present)
        endpoints = {node.endpoint for node in present}
        with self._lock:
            gone = [each for each, places in self._places.items() if each not in endpoints and not places.in_use]
            dropped = [self._pools.pop(endpoint, None) for endpoint in gone]
            for endpoint in gone:
                # A call that has just got hold of it shares it with nobody: for a node that is gone that is no harm.
                del self._places[endpoint]
        if self._pid != os.getpid():
            return
        for adapter in _adapters(self._session):
            for pool in dropped:
                if pool is not None:
                    drop(adapter, pool)
            close_stale(adapter)

    def silent(self, nodes: Iterable[ClusterNode], seconds: float) -> list[ClusterNode]:
        """See ``UpkeptInvoker``."""
        looked_at = [(node, self._places.get(node.endpoint or "")) for node in nodes]
        return [node for node, places in looked_at if places is not None and places.silence >= seconds]

    def release(self, node: ClusterNode) -> None:
        """See ``UpkeptInvoker``."""
        places = self._places.get(node.endpoint or "")
        if places is not None:
            places.release()

    def forget(self) -> None:
        """In a forked child: drop the parent's connections. Their descriptors are closed, nothing is sent."""
        self._lock = threading.Lock()
        if self._proof is not None:
            self._proof.forget()
        self._abandon()

    # -- one exchange ---------------------------------------------------------------------------------------------

    def _envelope(self, call: Call, request: Request[Any]) -> RequestEnvelope | CatgaResult[Any]:
        entry = call.entry
        try:
            payload = entry.codec.encode(request)
        except SerializationError as exc:
            return call.unwritable(exc)
        answer = entry.response_name or "none"
        return RequestEnvelope(entry.name, answer, payload, call.request_id, self._source_node_id)

    def _post_one(self, call: Call, envelope: RequestEnvelope, expires: float) -> CatgaResult[Any]:
        unstamped = envelope.unstamped()
        length = len(unstamped) + STAMP_LENGTH
        if length > self._max_body_bytes:
            return call.too_long(length, self._max_body_bytes)
        return self._post([call], INVOKE_PATH, lambda: stamped(unstamped, time.time()), expires, judge_one)[0]

    def _post(
        self, calls: list[Call], path: str, write: _Write, expires: float, judge: Judge
    ) -> list[CatgaResult[Any]]:
        """Make one exchange that carries all ``calls``, which go to one node; return a result for each."""
        node = calls[0].node
        left = expires - time.monotonic()
        if left <= 0:
            return [call.expired(Delivery.NOT_EXECUTED, "before it was sent") for call in calls]
        unproven = None if self._proof is None else self._proof.missing(node, left)
        if unproven is not None:
            return [judge_unproven(call, unproven) for call in calls]
        session = self._open_session()
        places = self._places_of(node)
        since = places.take(expires - time.monotonic())
        if isinstance(since, NoPlace):
            if since is NoPlace.STALLED:
                self._on_stall(node)
            return [call.no_place(since) for call in calls]
        try:
            return self._exchange(session, calls, path, write, expires, judge)
        finally:
            places.give_back(since)

    def _exchange(
        self,
        opened: requests.Session | BorrowedSession,
        calls: list[Call],
        path: str,
        write: _Write,
        expires: float,
        judge: Judge,
        *,
        again: bool = False,
    ) -> list[CatgaResult[Any]]:
        node = calls[0].node
        signing = self._signing
        if signing is not None and (node.signed is False or not signing.covers(node.endpoint)):
            signing = None
        exchange = Exchange(expires, None if node.keep_alive is None else max(0.0, node.keep_alive - 0.5))
        try:
            session = opened.twin() if isinstance(opened, BorrowedSession) else opened
            url = f"{node.endpoint}{path}"
            adapter = session.get_adapter(url)
            with exchange.run():
                left = exchange.left()
                connect = min(CONNECT_TIMEOUT, left)
                body = write()
                headers = _headers(calls[0].request_id, left)
                if signing is not None:
                    meant = signing.meant(node.node_id, node.incarnation)
                    signed = signing.sign("POST", path, node.node_id, meant, headers, body)
                    exchange.finish = signed.renew
                if session is opened and is_stock(adapter):
                    timeout = urllib3.Timeout(connect=connect, read=left)
                    pool = self._pool_of(node, session, adapter)
                    answer = post_directly(pool, path, body, headers, timeout, self._max_body_bytes)
                else:
                    answer = post_through(
                        session,
                        url,
                        body,
                        headers,
                        exchange,
                        connect=connect,
                        verify=self._verify,
                        cert=self._cert,
                        limit=self._max_body_bytes,
                    )
            if signing is not None:
                present = signing.signer(signed.nonce, node.node_id, *answer)
                if present is None and signing.needs_proof(node):
                    exchange.retire()
                    return [call.not_authentic(answer.status) for call in calls]
                misdirected = answer.status == MISDIRECTED and answer.headers.get("Catga-Executed") == "0"
                if present is not None and misdirected and not again:
                    # The node was restarted, and has not run this: once more, signed for the run that it names.
                    signing.named(node.node_id, node.incarnation, present)
                    return self._exchange(opened, calls, path, write, expires, judge, again=True)
            return judge(calls, answer, exchange)
        except BaseException as exc:  # a session of the user's own runs any code
            if ends_process(exc):
                raise
            return [call.broken(exc, exchange) for call in calls]

    # -- connections ----------------------------------------------------------------------------------------------

    def _open_session(self) -> requests.Session | BorrowedSession:
        session = self._session
        if session is not None and self._pid == os.getpid():
            return session
        with self._lock:
            if self._pid != os.getpid():
                self._abandon()
            if self._session is None:
                given, size = self._given, self._pool_size
                self._session = new_session(size) if given is None else BorrowedSession(given, size)
                self._pools = {}
                self._pid = os.getpid()
            return self._session

    def _abandon(self) -> None:
        for adapter in _adapters(self._session):
            abandon(adapter)
        self._session = None
        self._places = {}
        self._pools = {}

    def _places_of(self, node: ClusterNode) -> Places:
        endpoint = node.endpoint or ""
        # No more at once than the node takes: a call waits here for its turn rather than being refused there.
        at_once = self._pool_size if node.concurrency is None else min(self._pool_size, node.concurrency)
        places = self._places.get(endpoint)
        if places is not None and places.count == at_once:
            return places
        with self._lock:
            places = self._places.get(endpoint)
            if places is None or places.count != at_once:  # restarted with another number of threads
                places = self._places[endpoint] = Places(at_once)
            return places

    def _pool_of(self, node: ClusterNode, session: requests.Session, adapter: Any) -> Any:
        endpoint = node.endpoint or ""
        pool = self._pools.get(endpoint)
        if pool is None:
            prepared = session.prepare_request(requests.Request("POST", f"{endpoint}{INVOKE_PATH}"))
            pool = adapter.get_connection_with_tls_context(prepared, self._verify, cert=self._cert)
            adapter.cert_verify(pool, prepared.url, self._verify, self._cert)
            with self._lock:
                if self._session is session:  # else it was closed meanwhile, and a later call wants another pool
                    self._pools[endpoint] = pool
        return pool


def _headers(request_id: str, left: float) -> dict[str, str]:
    headers = {
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": "catga-sync",
        "Catga-Request-Id": request_id,
        "Catga-Timeout-Ms": str(max(1, min(MAX_TIME_MS, int(left * 1000)))),
    }
    call = current_call()
    if call is not None:
        if call.chain:
            headers["Catga-Chain"] = write_chain(call.chain)
        if call.store is not None:
            headers["Catga-Store"] = call.store
        headers["traceparent"], state = call.trace()
        if state is not None:
            headers["tracestate"] = state
    return headers


def _too_much(answer: CatgaResult[Any]) -> bool:
    """Return whether a node has refused a request since the body was too long for it."""
    refused = answer.delivery is Delivery.NOT_EXECUTED and answer.node_id is not None
    return refused and answer.metadata.get(RETRY) == OTHER_NODE


def _adapters(session: requests.Session | BorrowedSession | None) -> list[BaseAdapter]:
    if session is None:
        return []
    return session.adapters if isinstance(session, BorrowedSession) else list(session.adapters.values())
