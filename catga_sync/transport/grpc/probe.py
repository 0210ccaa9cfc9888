"""Asks a node over gRPC to describe itself, or to go offline."""

from __future__ import annotations

import time
from typing import Any

from google.protobuf.message import DecodeError

from catga_sync.errors import CatgaError, ConfigurationError, SerializationError
from catga_sync.nodes import ClusterNode
from catga_sync.serialization import jsontext
from catga_sync.transport.base import ExchangeFailed
from catga_sync.transport.grpc.channel import GrpcChannel
from catga_sync.transport.grpc.link import METHODS, NotConnected
from catga_sync.transport.http.probe import STRANGER, Probe, ProbeOutcome
from catga_sync.transport.signing import MISDIRECTED, Signing
from catga_sync.wire.catga_pb2 import NodeDescription
from catga_sync.wire.protobuf import PROTOBUF
from catga_sync.wire.routes import DRAIN_PATH, NODE_PATH

__all__ = ["GrpcProbe"]

#: Bytes of a description.
_LIMIT = 1024 * 1024


class GrpcProbe:
    """
    Ask nodes over gRPC to describe themselves. Thread-safe; each probe opens a connection of its own.

    Args:
        verify: As for ``GrpcChannel``.
        cert: As for ``GrpcChannel``.
        signing: Signs requests and verifies responses; None means that neither is signed.
    """

    def __init__(self, *, verify: bool | str, cert: str | tuple[str, str] | None, signing: Signing | None) -> None:
        self._verify = verify
        self._cert = cert
        self._signing = signing

    def ask(self, node_id: str, endpoint: str, timeout: float) -> Probe:
        """See ``HttpProbe.ask``."""
        return self._exchange("GET", NODE_PATH, node_id, endpoint, time.monotonic() + timeout)

    def drain(self, node_id: str, endpoint: str, timeout: float) -> Probe:
        """See ``HttpProbe.drain``."""
        return self._exchange("POST", DRAIN_PATH, node_id, endpoint, time.monotonic() + timeout)

    def _exchange(
        self, method: str, path: str, node_id: str, endpoint: str, expires: float, *, again: bool = False
    ) -> Probe:
        signing = self._signing if self._signing is not None and self._signing.covers(endpoint) else None
        url = endpoint + METHODS[path]
        headers = {"Content-Type": PROTOBUF.content_type}
        channel = GrpcChannel(max_body_bytes=_LIMIT, verify=self._verify, cert=self._cert)
        authentic = True
        try:
            nonce = ""
            if signing is not None:
                known = signing.incarnation_for(node_id, "")
                nonce = signing.sign(method, path, node_id, known, headers, b"").nonce
            came = channel.exchange(ClusterNode(node_id, endpoint), path, headers, b"", expires)
            if signing is not None:
                present = signing.signer(nonce, node_id, came.status, came.headers, came.body)
                authentic = present is not None or (signing.loopback_only and came.status != 200)
                if present is not None and came.status == MISDIRECTED and not again:
                    signing.note_incarnation(node_id, "", present)
                    return self._exchange(method, path, node_id, endpoint, expires, again=True)
        except ExchangeFailed as exc:
            refused = isinstance(exc.__cause__, NotConnected) and exc.__cause__.refused
            outcome = ProbeOutcome.REFUSED if refused else ProbeOutcome.SILENT
            return Probe(outcome, url=url, method="gRPC", error=exc.what or "timed out")
        except (CatgaError, OSError) as exc:
            error = str(exc) if isinstance(exc, ConfigurationError) else f"{type(exc).__name__}: {exc}"
            return Probe(ProbeOutcome.SILENT, url=url, method="gRPC", error=error)
        finally:
            channel.close()
        if came.status != 200:
            return _other(came.status, came.body, url, authentic)
        description = _parsed(came.body)
        stranger = description.keys() == {"status"}
        described = authentic and bool(description) and not stranger
        return Probe(
            ProbeOutcome.DESCRIBED if described else ProbeOutcome.OTHER,
            description if described else {},
            200,
            url,
            "gRPC",
            node_id=description.get("nodeId"),
            refusal=STRANGER if stranger else None,
            authentic=authentic,
        )


def _other(status: int, body: bytes, url: str, authentic: bool) -> Probe:
    try:
        refusal = PROTOBUF.read_response(body)
    except SerializationError:
        return Probe(ProbeOutcome.OTHER, {}, status, url, "gRPC", authentic=authentic)
    return Probe(
        ProbeOutcome.OTHER,
        {},
        status,
        url,
        "gRPC",
        node_id=refusal.processed_by_node_id,
        refusal=refusal.error_message,
        authentic=authentic,
    )


def _parsed(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a description; empty where there is none."""
    try:
        parsed = jsontext.loads(NodeDescription.FromString(body).json.encode("utf-8"))
    except (DecodeError, SerializationError):
        return {}
    return parsed if isinstance(parsed, dict) else {}
