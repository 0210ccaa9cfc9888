"""The receiver behind a gRPC server, for calls from other nodes and from programs in any language (``catga.proto``)."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote, urlsplit

from catga_sync._endpoint import is_loopback
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.errors import ConfigurationError
from catga_sync.integrations._grpc_extra import grpc, health, health_pb2, health_pb2_grpc, reflection
from catga_sync.integrations._grpc_messages import MessagesInTime
from catga_sync.nodes import NodeStatus
from catga_sync.receiver.receiver import RawRequest, Receiver
from catga_sync.wire.envelope import MAX_TIME_MS
from catga_sync.wire.protobuf import PROTOBUF
from catga_sync.wire.routes import BATCH_PATH, DRAIN_PATH, INVOKE_PATH, NODE_PATH

__all__ = ["GrpcServer", "serve_grpc"]

#: The name of the service in ``catga.proto``.
SERVICE = "catga.cluster.v1.Cluster"

#: Calls that run at once where nothing else is given.
_WORKERS = 32
#: Streams of the reflection service at once, and the seconds that each gets: it holds a thread.
_REFLECTIONS, _REFLECTION_SECONDS = 2, 5.0
#: Threads beside those for calls, so that descriptions, health checks and refusals always get through.
_SPARE = 2
#: Calls of one connection that wait or run; further ones wait at their caller.
_STREAMS = 128
#: Calls that wait for a thread, of all connections; further ones are refused.
_QUEUE = 128
#: Seconds between two looks at the calls whose message is overdue, and at the state of the node.
_TICK = 0.5
#: Seconds from which on a call has no deadline: grpcio then says that some 10**18 are left. It gets the default time.
_NO_DEADLINE = 1e12
#: Bytes of metadata: a refusal travels in it.
_MAX_METADATA = 64 * 1024
#: Characters of the text of a gRPC status.
_MAX_DETAILS = 512

_ROUTES = {
    "Invoke": ("POST", INVOKE_PATH),
    "InvokeBatch": ("POST", BATCH_PATH),
    "Describe": ("GET", NODE_PATH),
    "Drain": ("POST", DRAIN_PATH),
}


def serve_grpc(
    mediator: ClusterMediator,
    *,
    address: str | None = None,
    max_workers: int | None = None,
    credentials: grpc.ServerCredentials | None = None,
    shared_port: bool = False,
) -> GrpcServer:
    """
    Serve the calls of other nodes over gRPC, beside whatever else this process serves.

        server = serve_grpc(mediator)
        server.wait()

    Args:
        mediator:
            The mediator of this process's node.

        address:
            Where to listen, as in ``127.0.0.1:7001``; port 0 takes a free one. None means the port of the node's gRPC
            endpoint: on loopback if the endpoint is on loopback, else on all interfaces.

        max_workers:
            Calls that run at once. None means 32.

        credentials:
            What ``grpc.ssl_server_credentials`` returns; needed for ``grpcs://``. None means without TLS.

        shared_port:
            Whether other processes of this node may listen on the same port, as the workers of gunicorn do
            (``SO_REUSEPORT``). Otherwise a port that is taken is an error.

    Returns:
        The server, which has started.

    Raises:
        ConfigurationError: The mediator has no gRPC endpoint, an argument is wrong, or the address is taken.
        ImportError: grpcio is not installed.

    .. versionadded:: 0.1
    """
    if not isinstance(mediator, ClusterMediator):
        raise ConfigurationError(f"mediator: give what create_cluster() returns, not {type(mediator).__name__}")
    workers = _WORKERS if max_workers is None else max_workers
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ConfigurationError(f"max_workers: give a whole number of at least 1, or None, not {max_workers!r}")
    endpoint = mediator.node.grpc_address
    if endpoint is None:
        raise ConfigurationError(
            "grpc_endpoint: the mediator has no endpoint for gRPC, so no node would call it; give create_cluster "
            'endpoint="grpc://host:port", or grpc_endpoint="grpc://host:port" beside an http:// endpoint'
        )
    if endpoint.startswith("grpcs://") and credentials is None:
        raise ConfigurationError(f"credentials: {endpoint} is TLS; give what grpc.ssl_server_credentials() returns")
    if endpoint.startswith("grpc://") and credentials is not None:
        raise ConfigurationError(f"credentials: {endpoint} is without TLS; write grpcs:// in the endpoint")
    return GrpcServer(mediator, address or _address_of(endpoint), workers, credentials, shared_port=shared_port)


def _address_of(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "grpcs" else 80)
    if not is_loopback(endpoint):
        return f"[::]:{port}"
    host = parts.hostname or ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class GrpcServer:
    """
    A gRPC server of a node; ``serve_grpc`` makes it. Thread-safe.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        mediator: ClusterMediator,
        address: str,
        max_workers: int,
        credentials: grpc.ServerCredentials | None,
        *,
        shared_port: bool,
    ) -> None:
        self._mediator = mediator
        limit = mediator.options.max_body_bytes
        self._pool = ThreadPoolExecutor(max_workers + _SPARE + _REFLECTIONS, thread_name_prefix="grpc-node")
        self._messages = MessagesInTime()
        self._health = _Health(mediator)
        self._ended = threading.Event()
        self._server = grpc.server(
            self._pool,
            interceptors=[self._messages],
            maximum_concurrent_rpcs=max_workers + _SPARE + _REFLECTIONS + _QUEUE,
            options=[
                ("grpc.so_reuseport", int(shared_port)),
                # Not decompressed: grpcio would do so before the caller is known, and beyond the limit of a message.
                ("grpc.compression_enabled_algorithms_bitset", 1),
                ("grpc.internal.per_message_decompression", 0),
                # Up to twice the limit it is the receiver that refuses, with the proof that nothing has run.
                ("grpc.max_receive_message_length", 2 * limit),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", _MAX_METADATA),
                ("grpc.max_concurrent_streams", _STREAMS),
            ],
        )
        calls = _Calls(mediator.receiver, limit, self._health.refresh)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, calls.handlers()),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        _add_reflection(names, self._server)
        try:
            if credentials is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, credentials)
        except RuntimeError as exc:
            self._close_pool()
            raise ConfigurationError(f"address: {address} cannot be listened on, or is taken ({exc})") from exc
        if self.port == 0:
            self._close_pool()
            raise ConfigurationError(f"address: {address} cannot be listened on, or is taken")
        try:
            # Beside an HTTP server its threads count.
            mediator.attach(threads=max_workers if self._is_alone else None)
        except ConfigurationError:
            self._server.stop(None)
            self._close_pool()
            raise
        self._server.start()
        threading.Thread(target=self._look_after, name="grpc-node-ticks", daemon=True).start()

    def wait(self, timeout: float | None = None) -> bool:
        """
        Wait until the server is stopped.

        Args:
            timeout: Seconds; None means without end.

        Returns:
            Whether it is stopped.
        """
        return not self._server.wait_for_termination(timeout)

    def stop(self, grace: float | None = None) -> None:
        """
        Stop serving; a node whose only endpoint is this one goes offline first. Safe to call twice.

        New calls are refused from then on, in a way that sends them elsewhere.

        Args:
            grace: Seconds for calls that run, and for other nodes to notice. None: none.
        """
        began = time.monotonic()
        if grace is not None and self._is_alone:
            self._mediator.drain(grace)
        self._health.enter_graceful_shutdown()
        left = None if grace is None else max(0.0, grace - (time.monotonic() - began))
        self._server.stop(left).wait()
        self._close_pool()

    @property
    def _is_alone(self) -> bool:
        """Whether the node has no other endpoint."""
        return self._mediator.node.grpc_address == self._mediator.node.endpoint

    def __enter__(self) -> GrpcServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _look_after(self) -> None:
        while not self._ended.wait(_TICK):
            self._messages.end_overdue()
            self._health.refresh()

    def _close_pool(self) -> None:
        self._ended.set()
        self._pool.shutdown(wait=False)


class _Calls:
    """The methods of the service: each message goes to the receiver as it came. Thread-safe."""

    def __init__(self, receiver: Receiver, limit: int, refused: Callable[[], None]) -> None:
        self._receiver = receiver
        self._limit = limit
        self._refused = refused

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        """Return the handlers, by the name of their method. They take and return bytes: a signature covers those."""

        def serving(method: str, path: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
            return lambda message, context: self._serve(method, path, message, context)

        return {name: grpc.unary_unary_rpc_method_handler(serving(*route)) for name, route in _ROUTES.items()}

    def _serve(self, method: str, path: str, message: bytes, context: grpc.ServicerContext) -> bytes:
        response = self._receiver.handle(self._raw_request(method, path, message, context))
        trailing: list[tuple[str, str | bytes]] = [
            (name.lower(), value) for name, value in response.headers.items() if name != "Content-Type"
        ]
        trailing.append(("catga-status", str(response.status)))
        status, details = _status_of(path, response.status, response.body, trailing)
        if status is None:
            context.set_trailing_metadata(tuple(trailing))
            return response.body
        if response.status == 503:
            self._refused()
        trailing.append(("catga-response-bin", response.body))
        context.set_trailing_metadata(tuple(trailing))
        context.abort(status, details)
        raise AssertionError  # abort raises

    def _raw_request(self, method: str, path: str, message: bytes, context: grpc.ServicerContext) -> RawRequest:
        headers: dict[str, str] = {}
        for name, value in context.invocation_metadata() or ():
            if isinstance(value, str):
                headers[name] = f"{headers[name]},{value}" if name in headers else value
        headers["content-type"] = PROTOBUF.content_type
        # No page in a browser can make this call (it can neither set the media type of gRPC nor read HTTP/2 without
        # TLS), so there is no name to check against DNS rebinding, and gRPC hands over none.
        headers["host"] = "localhost"
        left = context.time_remaining()
        too_long = len(message) > self._limit
        return RawRequest(
            method,
            path,
            headers,
            _nothing,
            # Refused by its length, as one that was announced too long.
            len(message),
            remote_address=_address(context.peer()),
            protocol="HTTP/2",
            hung_up=lambda: not context.is_active(),
            body=None if too_long else message,
            form=PROTOBUF,
            way="grpc",
            seconds_left=min(left, MAX_TIME_MS / 1000.0) if left is not None and left < _NO_DEADLINE else None,
        )


def _nothing(size: int) -> bytes:
    return b""


def _status_of(
    path: str, status: int, body: bytes, trailing: list[tuple[str, str | bytes]]
) -> tuple[grpc.StatusCode | None, str]:
    """Return the gRPC status of a response and its text, None for OK; add code and node id to the metadata."""
    if status == 200 and path != INVOKE_PATH:
        return None, ""
    response = PROTOBUF.read_response(body)
    if response.processed_by_node_id:
        trailing.append(("catga-node-id", response.processed_by_node_id))
    code = response.error_code
    if code is not None and str(code).isascii() and str(code).isprintable() and str(code).strip():
        trailing.append(("catga-code", str(code).strip()))
    if status == 200:
        return None, ""
    name = str(code)
    known = grpc.StatusCode[name] if name in grpc.StatusCode.__members__ else grpc.StatusCode.INTERNAL
    return known, (response.error_message or "")[:_MAX_DETAILS]


def _address(peer: str) -> str | None:
    """Return the address in grpcio's name of a peer, as in ``ipv4:127.0.0.1:5000`` or ``ipv6:%5B::1%5D:5000``."""
    family, _, rest = unquote(peer).partition(":")
    if family not in ("ipv4", "ipv6"):
        return None
    host = rest.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


class _Health(health.HealthServicer):
    """The standard health service: SERVING, and NOT_SERVING while the node goes offline. Open to every caller."""

    def __init__(self, mediator: ClusterMediator) -> None:
        # Otherwise each caller of Watch would hold a thread of the server.
        super().__init__(experimental_non_blocking=True)
        self._node = mediator
        # Guards _said, and keeps two refreshes in their order.
        self._refreshing = threading.Lock()
        self._said: Any = None
        self.refresh()

    def refresh(self) -> None:
        """Take over the state of the node, and tell the callers of Watch if it is another."""
        with self._refreshing:
            serving = self._node.node.status is NodeStatus.ONLINE
            status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
            if status == self._said:
                return
            self._said = status
            for name in (health.OVERALL_HEALTH, SERVICE):
                self.set(name, status)

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        self.refresh()
        return super().Check(request, context)


def _add_reflection(names: tuple[str, ...], server: grpc.Server) -> None:
    from catga_sync.integrations._grpc_extra import reflection_pb2_grpc

    class Bounded(reflection.ReflectionServicer):
        """The standard reflection service; a caller that keeps its stream open gets a few seconds."""

        def ServerReflectionInfo(self, request_iterator: Any, context: Any) -> Iterator[Any]:  # noqa: N802
            if not room.acquire(blocking=False):
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many callers of the reflection service")
            end = threading.Timer(_REFLECTION_SECONDS, context.cancel)
            end.daemon = True
            end.start()
            try:
                yield from super().ServerReflectionInfo(request_iterator, context)
            finally:
                end.cancel()
                room.release()

    room = threading.BoundedSemaphore(_REFLECTIONS)
    add: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
    add(Bounded(names), server)
