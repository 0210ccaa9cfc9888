"""Which channel carries the bytes to a node, and which probe asks it: over HTTP, or over gRPC.

grpcio is imported when a node is called over gRPC first. Without it (extra ``grpc``), a node that has an ``http://``
endpoint as well is called there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from catga_sync import _fork
from catga_sync.nodes import ClusterNode
from catga_sync.transport.base import Channel, ExchangeFailed, Response
from catga_sync.transport.http.probe import HttpProbe, Probe, ProbeOutcome
from catga_sync.transport.signing import Signing

__all__ = ["NodeChannels", "NodeProbe"]

#: Seconds for which a node that could not be reached over gRPC is called over HTTP.
_AVOIDED = 5.0

_MISSING = "is called over gRPC, which needs grpcio: pip install catga-sync[grpc]"


class NodeChannels:
    """
    Carries bytes to each node by the channel that suits it. Thread-safe, and safe after a fork.

    Args:
        http: The channel over HTTP.
        max_body_bytes: The length of the longest response that is read.
        verify: As in ``requests``.
        cert: As in ``requests``.
        prefers_grpc: Whether a node that is reached both ways is called over gRPC.
    """

    def __init__(
        self,
        http: Channel,
        *,
        max_body_bytes: int,
        verify: bool | str,
        cert: str | tuple[str, str] | None,
        prefers_grpc: bool,
    ) -> None:
        self._http = http
        self._max_body_bytes = max_body_bytes
        self._verify = verify
        self._cert = cert
        self._prefers_grpc = prefers_grpc
        self._lock = threading.Lock()
        # Guarded by _lock. The channel over gRPC, once it was needed; None as its value where grpcio is missing.
        self._made: dict[str, Channel | None] = {}
        #: Node id -> the monotonic time until which it is called over HTTP.
        self._avoided: dict[str, float] = {}
        _fork.watch(self)

    def channel_to(self, node: ClusterNode) -> Channel:
        """Return the channel for the next exchange with a node."""
        address = node.grpc_address
        if address is None:
            return self._http
        if address == node.endpoint:
            return self._grpc() or _NO_GRPC
        if not self._prefers_grpc or self._avoided.get(node.node_id, 0.0) > time.monotonic():
            return self._http
        return self._grpc() or self._http

    def avoid(self, node: ClusterNode) -> None:
        """Call a node, which could not be reached over gRPC, over HTTP for a while."""
        self._avoided[node.node_id] = time.monotonic() + _AVOIDED

    def exchange(
        self,
        node: ClusterNode,
        path: str,
        headers: dict[str, str],
        body: bytes,
        expires: float,
        renew: Callable[[Mapping[str, str]], Mapping[str, str]] | None = None,
    ) -> Response:
        """See ``Channel``. The body has the form of the channel that ``channel_to`` returns."""
        return self.channel_to(node).exchange(node, path, headers, body, expires, renew)

    def tidy(self, nodes: Iterable[ClusterNode]) -> None:
        """See ``Channel``."""
        present = list(nodes)
        ids = {node.node_id for node in present}
        for gone in [node_id for node_id in list(self._avoided) if node_id not in ids]:
            self._avoided.pop(gone, None)
        self._http.tidy(present)
        grpc = self._made.get("grpc")
        if grpc is not None:
            grpc.tidy(present)

    def close(self) -> None:
        """See ``Channel``."""
        self._http.close()
        grpc = self._made.get("grpc")
        if grpc is not None:
            grpc.close()

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self._lock = threading.Lock()

    def _grpc(self) -> Channel | None:
        if "grpc" in self._made:
            return self._made["grpc"]
        with self._lock:
            if "grpc" not in self._made:
                try:
                    from catga_sync.transport.grpc.channel import GrpcChannel
                except ImportError:
                    self._made["grpc"] = None
                else:
                    self._made["grpc"] = GrpcChannel(
                        max_body_bytes=self._max_body_bytes, verify=self._verify, cert=self._cert
                    )
            return self._made["grpc"]


class _NoGrpc:
    """Stands for the channel over gRPC where grpcio is missing: it sends nothing. Immutable."""

    def exchange(self, node: ClusterNode, *_: object) -> Response:
        """See ``Channel``."""
        raise ExchangeFailed(_MISSING, sent=False)

    def tidy(self, nodes: Iterable[ClusterNode]) -> None:
        """See ``Channel``."""

    def close(self) -> None:
        """See ``Channel``."""


_NO_GRPC: Channel = _NoGrpc()


class _Asking(Protocol):
    def ask(self, node_id: str, endpoint: str, timeout: float) -> Probe: ...

    def drain(self, node_id: str, endpoint: str, timeout: float) -> Probe: ...


class NodeProbe:
    """
    Ask nodes to describe themselves, over HTTP or gRPC as the endpoint says. Thread-safe.

    Args:
        verify: As in ``requests``.
        cert: As in ``requests``.
        signing: Signs requests and verifies responses; None means that neither is signed.
    """

    def __init__(
        self,
        *,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        signing: Signing | None = None,
    ) -> None:
        self._verify = verify
        self._cert = cert
        self._signing = signing
        self._http = HttpProbe(verify=verify, cert=cert, signing=signing)

    def ask(self, node_id: str, endpoint: str, timeout: float) -> Probe:
        """See ``HttpProbe.ask``."""
        return self._for(endpoint).ask(node_id, endpoint, timeout)

    def drain(self, node_id: str, endpoint: str, timeout: float) -> Probe:
        """See ``HttpProbe.drain``."""
        return self._for(endpoint).drain(node_id, endpoint, timeout)

    def _for(self, endpoint: str) -> _Asking:
        if not endpoint.startswith(("grpc://", "grpcs://")):
            return self._http
        try:
            from catga_sync.transport.grpc.probe import GrpcProbe
        except ImportError:
            return _NO_PROBE
        return GrpcProbe(verify=self._verify, cert=self._cert, signing=self._signing)


class _NoProbe:
    """Stands for the probe over gRPC where grpcio is missing. Immutable."""

    def ask(self, node_id: str, endpoint: str, timeout: float) -> Probe:
        """See ``HttpProbe.ask``."""
        return Probe(ProbeOutcome.SILENT, url=endpoint, method="gRPC", error=f"the node {_MISSING}")

    drain = ask


_NO_PROBE: _Asking = _NoProbe()
