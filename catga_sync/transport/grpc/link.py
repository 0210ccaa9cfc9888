"""One grpcio channel to one node, and what is known of whether anything was sent over it.

grpcio does not tell whether a call that failed had reached the other side. What is certain: a channel that is not READY
has sent nothing. So no call is started before the channel is READY, and a failure up to there proves that the request
was not sent. After that only trailing metadata of the node proves something.

Rules of this file:
1. grpcio sends nothing twice: its own retries are off, and it never waits for a connection within a call.
2. What the other side sends is bounded: messages, metadata; compressed messages are not accepted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import grpc

from catga_sync.wire.routes import BATCH_PATH, DRAIN_PATH, INVOKE_PATH, NODE_PATH

__all__ = ["METHODS", "Link", "NotConnected"]

#: The methods of ``catga.proto``, and the routes for which they stand.
METHODS = {
    INVOKE_PATH: "/catga.cluster.v1.Cluster/Invoke",
    BATCH_PATH: "/catga.cluster.v1.Cluster/InvokeBatch",
    NODE_PATH: "/catga.cluster.v1.Cluster/Describe",
    DRAIN_PATH: "/catga.cluster.v1.Cluster/Drain",
}
#: Bytes of metadata: a refusal travels in it.
_MAX_METADATA = 64 * 1024
#: Seconds for the call that asks a channel why it has no connection. It is answered by this process.
_REASON_TIMEOUT = 0.5
_NO_REASON = "no connection"

_READY = grpc.ChannelConnectivity.READY.value[0]
_SHUTDOWN = grpc.ChannelConnectivity.SHUTDOWN.value[0]
_FAILED = (grpc.ChannelConnectivity.TRANSIENT_FAILURE.value[0], _SHUTDOWN)
#: Seconds between two looks at a connection that is being made: at first, and at most.
_FIRST_PAUSE, _LAST_PAUSE = 0.0005, 0.02


class NotConnected(Exception):
    """There is no connection, so nothing was sent. ``refused`` where nothing listens; ``late`` if the time was up."""

    def __init__(self, reason: str, *, late: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.late = late
        self.refused = "Connection refused" in reason


class Link:
    """
    A channel of grpcio. Thread-safe; belongs to the process that made it.

    Args:
        target: The addresses, as grpcio names them: ``ipv4:127.0.0.1:7001``.
        authority: Host and port, as in the endpoint.
        credentials: Of TLS; None means without.
        max_body_bytes: The longest message that is read.
    """

    def __init__(
        self, target: str, authority: str, credentials: grpc.ChannelCredentials | None, max_body_bytes: int
    ) -> None:
        options: Sequence[tuple[str, Any]] = [
            ("grpc.default_authority", authority),
            ("grpc.enable_http_proxy", 0),
            ("grpc.enable_retries", 0),
            ("grpc.internal.per_message_decompression", 0),
            ("grpc.max_metadata_size", _MAX_METADATA),
            ("grpc.max_receive_message_length", max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.service_config_disable_resolution", 1),
            # Else a connection would be shared with other channels of the process, and so would its failures.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self.channel = (
            grpc.insecure_channel(target, options)
            if credentials is None
            else grpc.secure_channel(target, credentials, options)
        )
        calls: dict[str, grpc.UnaryUnaryMultiCallable[bytes, bytes]] = {}
        for path, method in METHODS.items():
            calls[path] = self.channel.unary_unary(method)
        self._calls = calls
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._under_way = 0
        self._is_retired = False

    @property
    def is_ready(self) -> bool:
        """Whether there is a connection now, as far as this process knows."""
        return self._state() == _READY

    def connect(self, seconds: float) -> None:
        """
        Wait for the connection.

        Raises:
            NotConnected: There is none.
        """
        end = time.monotonic() + seconds
        pause = _FIRST_PAUSE
        while (state := self._state(connect=True)) != _READY:
            if state in _FAILED:
                raise NotConnected(self._reason())
            if time.monotonic() >= end:
                raise NotConnected("no connection in time", late=True)
            time.sleep(pause)
            pause = min(pause * 1.5, _LAST_PAUSE)

    def _state(self, *, connect: bool = False) -> int:
        # grpcio tells it publicly only to a callback, for which the channel polls in a thread of its own; and a process
        # that ends within 0.2 s of it waits for that thread for good.
        try:
            state: int = self.channel._channel.check_connectivity_state(connect)  # type: ignore[attr-defined]
        except ValueError:  # another thread has closed the channel
            return _SHUTDOWN
        return state

    def call(
        self, path: str, body: bytes, seconds: float, metadata: tuple[tuple[str, str | bytes], ...]
    ) -> tuple[bytes, grpc.Call]:
        """Make one call; return the message of the response, and the call. Raises what grpcio raises."""
        with self._lock:
            self._under_way += 1
        try:
            came: tuple[bytes, grpc.Call] = self._calls[path].with_call(body, timeout=seconds, metadata=metadata)
            return came
        finally:
            with self._lock:
                self._under_way -= 1
                is_last = self._is_retired and self._under_way == 0
            if is_last:
                self.close()

    def retire(self) -> None:
        """Close the connection when no call is under way any more. A later call raises ``ValueError``."""
        with self._lock:
            self._is_retired = True
            is_idle = self._under_way == 0
        if is_idle:
            self.close()

    def close(self) -> None:
        """Close the connection; calls under way end with an error."""
        self.channel.close()

    def _reason(self) -> str:
        """Return why there is no connection: only a call that fails says it. This one changes nothing anywhere."""
        try:
            self._calls[NODE_PATH](b"", timeout=_REASON_TIMEOUT)
        except grpc.RpcError as exc:
            reason: str | None = getattr(exc, "details", lambda: None)()
            return reason or _NO_REASON
        except ValueError:  # another thread has closed the channel
            return _NO_REASON
        return _NO_REASON
