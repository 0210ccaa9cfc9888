"""The channel over gRPC: one unary call to one node."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from catga_sync import _fork
from catga_sync._redaction import escaped
from catga_sync.errors import ErrorCode
from catga_sync.nodes import ClusterNode
from catga_sync.transport.base import ExchangeFailed, Response
from catga_sync.transport.grpc.link import Link, NotConnected
from catga_sync.transport.http.resolver import addresses_of
from catga_sync.wire.envelope import ResponseEnvelope
from catga_sync.wire.headers import EXECUTED, REPLAYED, REQUEST_ID, SIGNATURE
from catga_sync.wire.protobuf import PROTOBUF

__all__ = ["RESPONSE", "STATUS", "GrpcChannel"]

#: Trailing metadata: the HTTP status, and the response that belongs to a refusal.
STATUS, RESPONSE = "catga-status", "catga-response-bin"

#: Seconds for making a connection to one address, within the call's deadline.
_CONNECT_TIMEOUT = 2.0
#: Characters of grpcio's texts that are shown.
_LONGEST = 200
#: Headers that gRPC has in another way, or not at all.
_NOT_SENT = frozenset({"Content-Type", "Accept-Encoding", "User-Agent"})
_NAMES = {name.lower(): name for name in (EXECUTED, REPLAYED, SIGNATURE)}
#: What grpcio itself ends a call with, and the status of a foreign server's refusal.
_STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}

#: Channels of the parent, in a child: never used, and never closed, which would wait for threads that are not here.
_abandoned: list[Link] = []


class GrpcChannel:
    """
    Carry bytes to other nodes over gRPC. Thread-safe, and safe after a fork: a child makes its own connections.

    Args:
        max_body_bytes: The length of the longest response that is read.
        verify: As in ``requests``, but that it cannot be False: gRPC always checks the certificate.
        cert: As in ``requests``: path to a client certificate with its key, or a pair (certificate, key).

    .. versionadded:: 0.1
    """

    form = PROTOBUF

    def __init__(
        self,
        *,
        max_body_bytes: int = 4 * 1024 * 1024,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
    ) -> None:
        self._max_body_bytes = max_body_bytes
        self._verify = verify
        self._cert = cert
        self._lock = threading.Lock()
        # Written with _lock held, read without it.
        self._links: dict[str, Link] = {}
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
        """See ``Channel``. No library adds headers here, so ``renew`` is not needed."""
        if os.getpid() != _fork.pid:
            _fork.check_process()
        endpoint = node.grpc_address or ""
        link = self._links.get(endpoint)
        if link is None or not link.is_ready:
            try:
                link = self._connected(endpoint, link, expires)
            except NotConnected as exc:
                late = exc.late and time.monotonic() >= expires
                code = ErrorCode.DEADLINE_EXCEEDED if late else ErrorCode.UNAVAILABLE
                what = f"cannot be reached over gRPC ({escaped(exc.reason, _LONGEST)})"
                raise ExchangeFailed(what, sent=False, code=code) from exc
        metadata = tuple((name.lower(), value) for name, value in headers.items() if name not in _NOT_SENT)
        left = expires - time.monotonic()
        if left <= 0:
            raise ExchangeFailed("", sent=False, code=ErrorCode.DEADLINE_EXCEEDED)
        retire = _Retire(self, endpoint, link)
        try:
            came, call = link.call(path, body, left, metadata)
        except grpc.RpcError as exc:
            return _refused(exc, headers.get(REQUEST_ID, ""), retire)
        except ValueError as exc:  # closed by another thread before the call began
            raise ExchangeFailed("cannot be reached over gRPC (the channel was closed)", sent=False) from exc
        return Response(200, _headers(call), came, retire)

    def tidy(self, nodes: Iterable[ClusterNode]) -> None:
        """See ``Channel``."""
        _fork.check_process()
        endpoints = {node.grpc_address for node in nodes}
        with self._lock:
            dropped = [self._links.pop(endpoint) for endpoint in list(self._links) if endpoint not in endpoints]
        for link in dropped:
            link.retire()

    def close(self) -> None:
        """See ``Channel``."""
        with self._lock:
            links, self._links = self._links, {}
        for link in links.values():
            link.close()

    def drop(self, endpoint: str, link: Link) -> None:
        """Make no further call over a link; those under way there go on."""
        with self._lock:
            if self._links.get(endpoint) is link:
                del self._links[endpoint]
        link.retire()

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``. The parent's channels are neither used nor closed here."""
        self._lock = threading.Lock()
        _abandoned.extend(self._links.values())
        self._links = {}

    def _connected(self, endpoint: str, known: Link | None, expires: float) -> Link:
        """Return a link that is READY; raises ``NotConnected``."""
        if known is not None:
            try:
                known.connect(min(_CONNECT_TIMEOUT, expires - time.monotonic()))
                return known
            except NotConnected:
                # grpcio waits longer and longer before it tries again; a new channel tries at once, and looks up the
                # name anew.
                self.drop(endpoint, known)
        failure = NotConnected("no address", late=True)
        for link in self._new_links(endpoint, expires):
            left = expires - time.monotonic()
            if left <= 0:
                break
            with self._lock:
                # One connection to a node, however many threads have found none.
                shared = self._links.setdefault(endpoint, link)
            if shared is not link:
                link.close()
            try:
                shared.connect(min(_CONNECT_TIMEOUT, left))
            except NotConnected as exc:
                failure = exc
                self.drop(endpoint, shared)
                continue
            return shared
        raise failure

    def _new_links(self, endpoint: str, expires: float) -> Iterator[Link]:
        parts = urlsplit(endpoint)
        tls = parts.scheme == "grpcs"
        port = parts.port or (443 if tls else 80)
        host = parts.hostname or ""
        try:
            credentials = self._credentials() if tls else None
            addresses = addresses_of(host, port, max(0.0, expires - time.monotonic()))
        except (OSError, ValueError) as exc:
            raise NotConnected(str(exc), late=isinstance(exc, TimeoutError)) from exc
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        for is_v6, group in groupby(addresses, lambda each: ":" in each):
            kind = "ipv6" if is_v6 else "ipv4"
            targets = ",".join(f"[{each}]:{port}" if is_v6 else f"{each}:{port}" for each in group)
            yield Link(f"{kind}:{targets}", authority, credentials, self._max_body_bytes)

    def _credentials(self) -> grpc.ChannelCredentials:
        if self._verify is False:
            raise ValueError("verify: gRPC always checks certificates; give verify='/path/to/ca.pem'")
        roots = Path(DEFAULT_CA_BUNDLE_PATH if self._verify is True else self._verify).read_bytes()
        if self._cert is None:
            return grpc.ssl_channel_credentials(roots)
        chain, key = (self._cert, self._cert) if isinstance(self._cert, str) else self._cert
        return grpc.ssl_channel_credentials(roots, Path(key).read_bytes(), Path(chain).read_bytes())


class _Retire:
    """Drops a link after a response that cannot be trusted."""

    __slots__ = ("_channel", "_endpoint", "_link")

    def __init__(self, channel: GrpcChannel, endpoint: str, link: Link) -> None:
        self._channel = channel
        self._endpoint = endpoint
        self._link = link

    def __call__(self) -> None:
        self._channel.drop(self._endpoint, self._link)


def _headers(call: grpc.Call) -> dict[str, str]:
    """Return the headers of a response, under the names that they have over HTTP."""
    found = {"Content-Type": PROTOBUF.content_type}
    for name, value in call.trailing_metadata() or ():
        if isinstance(value, str):
            found[_NAMES.get(name, name)] = value
    return found


def _refused(call: Any, request_id: str, retire: Callable[[], None]) -> Response:
    """Return the response that came with a gRPC status; raise ``ExchangeFailed`` where the node gave none."""
    code: grpc.StatusCode = call.code()
    details = escaped(call.details() or "", _LONGEST)
    headers = _headers(call)
    binary = dict(call.trailing_metadata() or ()).get(RESPONSE)
    status = headers.get(STATUS, "")
    if isinstance(binary, bytes) and status.isdecimal() and len(status) == 3:
        return Response(int(status), headers, binary, retire)
    if EXECUTED in headers:
        # A node that is not ours: the metadata alone say what became of the request.
        envelope = ResponseEnvelope(request_id, False, error_message=details, error_code=ErrorCode[code.name])
        return Response(_STATUSES.get(code, 503), headers, PROTOBUF.write_response(envelope), retire)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        raise ExchangeFailed("", sent=True, code=ErrorCode.DEADLINE_EXCEEDED) from call
    what = f"gave no complete response over gRPC ({code.name}: {details})"
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        raise ExchangeFailed(what, sent=True, code=ErrorCode.RESOURCE_EXHAUSTED) from call
    if code is grpc.StatusCode.UNIMPLEMENTED:
        what = f"has no such method of gRPC ({details}); is it served by serve_grpc?"
        raise ExchangeFailed(what, sent=True, code=ErrorCode.UNIMPLEMENTED) from call
    # grpcio may take a moment to see that the connection is gone: the next call is not to begin over it.
    retire()
    raise ExchangeFailed(what, sent=True) from call
