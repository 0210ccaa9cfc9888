"""Requests over HTTP: one POST of one envelope to one node, and the judgement of what came back.

    the time was up, no connection, cut off   network error        UNAVAILABLE, DEADLINE_EXCEEDED
    an answer that is no envelope             serialization error  INTERNAL (or what its HTTP status says)
    an envelope that says no                  business error       the code in it

Whether the handler ran is judged by evidence (``Exchange``): a request that the kernel never took whole did not
run, since a receiver checks the length before it runs anything; after that only a complete answer proves
anything. No exception class decides it, except under an adapter of the user's own, which gives no evidence.

Rules of this file:
1. One call, one attempt. Trying again is for ``cluster/failover.py``, which knows the other nodes.
2. Nothing here raises; whatever happens becomes a result.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import Any, TypeVar

import requests
import urllib3
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from catga_sync.chain import write_chain
from catga_sync.context import current_call
from catga_sync.envelope import MAX_TIME_MS, EnvelopeError, ReplyEnvelope, RequestEnvelope
from catga_sync.errors import Delivery, ErrorCode, SerializationError
from catga_sync.messages import Request
from catga_sync.nodes import ClusterNode
from catga_sync.pipeline import limit_text
from catga_sync.results import CatgaResult
from catga_sync.serialization import MessageRegistry, MessageType
from catga_sync.transport.connection import DeadlineAdapter, Exchange
from catga_sync.transport.session import adopt_session, is_stock, new_session

__all__ = ["INVOKE_PATH", "HttpInvoker"]

T = TypeVar("T")

INVOKE_PATH = "/catga/cluster/invoke"

#: Seconds for making a connection, within the call's deadline.
CONNECT_TIMEOUT = 1.0
_CHUNK = 64 * 1024

_log = logging.getLogger(__name__)

_STATUS_CODES = {
    400: ErrorCode.INTERNAL,
    401: ErrorCode.UNAUTHENTICATED,
    403: ErrorCode.PERMISSION_DENIED,
    404: ErrorCode.UNIMPLEMENTED,
    405: ErrorCode.UNIMPLEMENTED,
    413: ErrorCode.RESOURCE_EXHAUSTED,
    429: ErrorCode.UNAVAILABLE,
    502: ErrorCode.UNAVAILABLE,
    503: ErrorCode.UNAVAILABLE,
    504: ErrorCode.UNAVAILABLE,
}


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
            A ``requests.Session`` of the user's own, see ``adopt_session``; None means one of its own.

        verify:
            As in ``requests``: True, False, or a path to a bundle of CA certificates.

        cert:
            As in ``requests``: path to a client certificate, or a pair (certificate, key); None means none.

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
    ) -> None:
        self._registry = registry
        self._source_node_id = source_node_id
        self._pool_size = pool_size
        self._max_body_bytes = max_body_bytes
        self._given = session
        self._verify = verify
        self._cert = cert
        self._lock = threading.Lock()
        # Guarded by _lock; read without it: the session of process _pid, and per endpoint its pool and free places.
        self._pid = -1
        self._session: requests.Session | None = None
        self._places: dict[str, threading.BoundedSemaphore] = {}
        self._pools: dict[str, Any] = {}

    def invoke(self, node: ClusterNode, request: Request[T], *, timeout: float, request_id: str) -> CatgaResult[T]:
        """See ``RemoteInvoker``."""
        expires = time.monotonic() + timeout
        entry = self._registry.ensure(type(request))
        call = _Call(node, entry, request_id)
        if timeout <= 0:
            return call.expired(Delivery.NOT_EXECUTED, "before it was sent")
        try:
            payload = entry.codec.encode(request)
        except SerializationError as exc:
            return call.failed("serialization", str(exc), ErrorCode.INVALID_ARGUMENT, Delivery.NOT_EXECUTED)
        body = RequestEnvelope(
            entry.name, entry.response_name or "none", payload, request_id, self._source_node_id, time.time()
        ).encode()
        if len(body) > self._max_body_bytes:
            text = f"the request has {len(body)} bytes; max_body_bytes allows {self._max_body_bytes}"
            return call.failed("serialization", text, ErrorCode.RESOURCE_EXHAUSTED, Delivery.NOT_EXECUTED)
        session = self._open_session()
        places = self._places_of(node)
        if not places.acquire(timeout=max(0.0, expires - time.monotonic())):
            return call.expired(Delivery.NOT_EXECUTED, "while waiting for its turn there")
        try:
            return self._exchange(session, call, body, expires)
        finally:
            places.release()

    def close(self) -> None:
        """See ``RemoteInvoker``."""
        with self._lock:
            session, self._session = self._session, None
            self._pools = {}
        if session is not None and self._given is None:
            session.close()

    def close_stale(self) -> None:
        """Close the connections that have been idle for too long; to be called now and then."""
        session = self._session
        if session is not None and self._pid == os.getpid():
            for adapter in session.adapters.values():
                if isinstance(adapter, DeadlineAdapter):
                    adapter.close_stale()

    def forget(self) -> None:
        """In a forked child: drop the parent's connections. Their descriptors are closed, nothing is sent."""
        self._lock = threading.Lock()
        self._session = None
        self._places = {}
        self._pools = {}

    # -- one exchange ---------------------------------------------------------------------------------------------

    def _exchange(self, session: requests.Session, call: _Call, body: bytes, expires: float) -> CatgaResult[Any]:
        keep_alive = call.node.keep_alive
        exchange = Exchange(expires, None if keep_alive is None else max(0.0, keep_alive - 0.5))
        url = f"{call.node.endpoint}{INVOKE_PATH}"
        adapter = session.get_adapter(url)
        evident = is_stock(adapter)
        response: urllib3.BaseHTTPResponse | None = None
        try:
            with exchange.run():
                left = exchange.left()
                connect = min(CONNECT_TIMEOUT, left)
                headers = self._headers(call.request_id, left)
                if evident and self._given is None:
                    response = self._pool_of(call.node, session, adapter).urlopen(
                        "POST",
                        INVOKE_PATH,
                        body=body,
                        headers=headers,
                        retries=False,
                        redirect=False,
                        assert_same_host=False,
                        preload_content=False,
                        decode_content=False,
                        timeout=urllib3.Timeout(connect=connect, read=left),
                    )
                    raw = _read(response, self._max_body_bytes)
                else:
                    response, raw = self._through_session(session, url, headers, body, (connect, left), exchange)
            return self._judge(call, response, raw, exchange)
        except Exception as exc:
            return call.broken(exc, exchange, evident)
        finally:
            if response is not None and not getattr(response, "closed", True):
                # Not read to its end: what is left of it must never be taken for the next answer.
                response.close()

    def _through_session(
        self,
        session: requests.Session,
        url: str,
        headers: dict[str, str],
        body: bytes,
        timeout: tuple[float, float],
        exchange: Exchange,
    ) -> tuple[Any, bytes]:
        """The long way, for sessions and adapters of the user's own, and for ``responses``."""
        prepared = session.prepare_request(requests.Request("POST", url, headers=headers, data=body))
        verify = session.verify if self._verify is True else self._verify
        answer = session.send(
            prepared,
            timeout=timeout,
            verify=verify,
            cert=self._cert if self._cert is not None else session.cert,
            proxies=session.proxies,
            stream=True,
            allow_redirects=False,
        )
        with answer:
            parts, size = [], 0
            for part in answer.iter_content(_CHUNK):
                size += len(part)
                exchange.left()
                if size > self._max_body_bytes:
                    raise _TooLong
                parts.append(part)
        return _Answer(answer.status_code, answer.headers), b"".join(parts)

    def _headers(self, request_id: str, left: float) -> dict[str, str]:
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
            if call.traceparent is not None:
                headers["traceparent"] = call.traceparent
                if call.tracestate is not None:
                    headers["tracestate"] = call.tracestate
        return headers

    def _judge(self, call: _Call, response: Any, raw: bytes, exchange: Exchange) -> CatgaResult[Any]:
        status = response.status
        try:
            reply = ReplyEnvelope.decode(raw)
        except EnvelopeError as exc:
            exchange.retire()
            return call.no_envelope(status, exc)
        if reply.request_id != call.request_id:
            exchange.retire()
            text = f"{call.where} answered another request than was asked"
            return call.failed("network", text, ErrorCode.INTERNAL, Delivery.UNKNOWN)
        executed = response.headers.get("Catga-Executed")
        if reply.is_success:
            if status != 200 or executed == "0":
                text = f"{call.where} answered success with HTTP status {status}"
                return call.failed("network", text, ErrorCode.INTERNAL, Delivery.UNKNOWN)
            return call.succeeded(reply)
        if executed == "0":
            delivery = Delivery.NOT_EXECUTED
        elif status == 200 or executed == "1":
            delivery = Delivery.EXECUTED
        else:
            delivery = Delivery.UNKNOWN
        return call.refused(reply, delivery)

    # -- connections ----------------------------------------------------------------------------------------------

    def _open_session(self) -> requests.Session:
        session = self._session
        if session is not None and self._pid == os.getpid():
            return session
        with self._lock:
            if self._session is None or self._pid != os.getpid():
                if self._given is None:
                    self._session = new_session(self._pool_size)
                else:
                    adopt_session(self._given, self._pool_size)
                    self._session = self._given
                self._pools = {}
                self._pid = os.getpid()
            return self._session

    def _places_of(self, node: ClusterNode) -> threading.BoundedSemaphore:
        endpoint = node.endpoint or ""
        places = self._places.get(endpoint)
        if places is None:
            # No more at once than the node takes: a call waits here for its turn rather than being refused there.
            at_once = self._pool_size if node.concurrency is None else min(self._pool_size, node.concurrency)
            places = self._places.setdefault(endpoint, threading.BoundedSemaphore(at_once))
        return places

    def _pool_of(self, node: ClusterNode, session: requests.Session, adapter: Any) -> Any:
        endpoint = node.endpoint or ""
        pool = self._pools.get(endpoint)
        if pool is None:
            prepared = session.prepare_request(requests.Request("POST", f"{endpoint}{INVOKE_PATH}"))
            pool = adapter.get_connection_with_tls_context(prepared, self._verify, cert=self._cert)
            adapter.cert_verify(pool, prepared.url, self._verify, self._cert)
            self._pools[endpoint] = pool
        return pool


class _TooLong(Exception):
    """The answer is longer than ``max_body_bytes``."""


class _Answer:
    """Status and headers of an answer that has been read."""

    closed = True

    def __init__(self, status: int, headers: Any) -> None:
        self.status = status
        self.headers = headers


def _read(response: Any, limit: int) -> bytes:
    raw: bytes = response.read(_CHUNK)
    if len(raw) < _CHUNK and response.closed:
        return raw
    parts, size = [raw], len(raw)
    while raw:
        raw = response.read(_CHUNK)
        size += len(raw)
        if size > limit:
            raise _TooLong
        parts.append(raw)
    return b"".join(parts)


class _Call:
    """One attempt: it knows what to say of every way in which it can end."""

    def __init__(self, node: ClusterNode, entry: MessageType, request_id: str) -> None:
        self.node = node
        self.entry = entry
        self.request_id = request_id
        self.where = f"node {node.node_id} at {node.endpoint}"
        self._started = time.monotonic()

    def succeeded(self, reply: ReplyEnvelope) -> CatgaResult[Any]:
        value = None
        if reply.payload is not None and self.entry.response_codec is not None:
            try:
                value = self.entry.response_codec.decode(reply.payload)
            except SerializationError as exc:
                text = f"the answer of {self.where} cannot be read: {exc}"
                return self.failed("serialization", text, ErrorCode.INTERNAL, Delivery.EXECUTED)
        return CatgaResult(
            True,
            value,
            request_id=self.request_id,
            node_id=reply.processed_by_node_id or self.node.node_id,
            processing_time_ms=float(reply.processing_time_ms),
        )

    def refused(self, reply: ReplyEnvelope, delivery: Delivery) -> CatgaResult[Any]:
        error = limit_text(reply.error_message or "the node gave no reason")
        self._log("business" if delivery is Delivery.EXECUTED else "network", error, reply.error_code, delivery)
        return CatgaResult(
            False,
            None,
            error,
            reply.error_code,
            delivery,
            request_id=self.request_id,
            node_id=reply.processed_by_node_id or self.node.node_id,
            processing_time_ms=float(reply.processing_time_ms),
        )

    def failed(self, layer: str, text: str, code: ErrorCode, delivery: Delivery) -> CatgaResult[Any]:
        text = limit_text(text)
        self._log(layer, text, code, delivery)
        return CatgaResult(False, None, text, code, delivery, request_id=self.request_id)

    def expired(self, delivery: Delivery, when: str) -> CatgaResult[Any]:
        text = f"the time of the call to {self.where} was up {when}"
        return self.failed("network", text, ErrorCode.DEADLINE_EXCEEDED, delivery)

    def no_envelope(self, status: int, exc: EnvelopeError) -> CatgaResult[Any]:
        if 300 <= status < 400:
            text = f"{self.where} answered with a redirect ({status}), which is not followed; check its endpoint"
            return self.failed("network", text, ErrorCode.UNAVAILABLE, Delivery.UNKNOWN)
        if status == 200:
            text = f"{self.where} answered with something that is no envelope ({exc})"
            return self.failed("serialization", text, ErrorCode.INTERNAL, Delivery.UNKNOWN)
        hint = "; is the receiver registered there?" if status in (404, 405) else ""
        text = f"{self.where} answered HTTP status {status} without an envelope{hint}"
        return self.failed("network", text, _STATUS_CODES.get(status, ErrorCode.INTERNAL), Delivery.UNKNOWN)

    def broken(self, exc: Exception, exchange: Exchange, evident: bool) -> CatgaResult[Any]:
        """Judge an exchange that ended without an answer."""
        sent = exchange.request_complete if evident else not _never_connected(exc)
        delivery = Delivery.UNKNOWN if sent else Delivery.NOT_EXECUTED
        _log.debug("request_id=%s: %r", self.request_id, exc)
        if isinstance(exc, _TooLong):
            text = f"the answer of {self.where} is longer than max_body_bytes allows"
            return self.failed("network", text, ErrorCode.RESOURCE_EXHAUSTED, delivery)
        if time.monotonic() >= exchange.expires:
            when = "while waiting for its answer" if sent else "before the request was handed over"
            return self.expired(delivery, when)
        what = "gave no complete answer" if sent else "cannot be reached"
        return self.failed("network", f"{self.where} {what} ({_reason(exc)})", ErrorCode.UNAVAILABLE, delivery)

    def _log(self, layer: str, text: str, code: object, delivery: Delivery) -> None:
        _log.warning(
            "%s failed: request_id=%s node=%s layer=%s code=%s delivery=%s: %s",
            self.entry.name,
            self.request_id,
            self.node.node_id,
            layer,
            getattr(code, "name", code),
            delivery.name,
            text.encode("unicode_escape").decode("ascii"),
        )


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield the exception and what it wraps, the way requests and urllib3 wrap: in ``args`` and ``reason``."""
    waiting = [exc]
    while waiting:
        current = waiting.pop()
        yield current
        inner = (*getattr(current, "args", ()), getattr(current, "reason", None))
        waiting.extend(item for item in inner if isinstance(item, BaseException))


def _never_connected(exc: BaseException) -> bool:
    """Return whether the connection was never made, as far as urllib3 tells through ``requests``."""
    never = (NewConnectionError, ConnectTimeoutError, requests.ConnectTimeout)
    return any(isinstance(cause, never) for cause in _causes(exc))


def _reason(exc: BaseException) -> str:
    """Return the innermost cause in a few words."""
    *_, innermost = _causes(exc)
    if isinstance(innermost, OSError) and innermost.strerror:
        return innermost.strerror
    return type(innermost).__name__
