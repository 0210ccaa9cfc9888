"""Ways to other nodes: ``base.py`` defines invokers and channels, ``invoker.py`` is the one invoker."""

from __future__ import annotations

import requests

from catga_sync._clock import Clock
from catga_sync._log_limit import LimitedLog
from catga_sync.serialization import MessageRegistry
from catga_sync.transport.base import Channel, ExchangeFailed, RemoteInvoker, Response
from catga_sync.transport.channels import NodeChannels, NodeProbe
from catga_sync.transport.http.channel import HttpChannel
from catga_sync.transport.invoker import EnvelopeInvoker
from catga_sync.transport.proof import Proof
from catga_sync.transport.signing import Signing
from catga_sync.transport.stream import StreamChannel

__all__ = [
    "Channel",
    "EnvelopeInvoker",
    "ExchangeFailed",
    "HttpChannel",
    "NodeProbe",
    "RemoteInvoker",
    "Response",
    "create_invoker",
]


def create_invoker(
    registry: MessageRegistry,
    channel: Channel | None = None,
    *,
    source_node_id: str | None = None,
    pool_size: int = 64,
    max_body_bytes: int = 4 * 1024 * 1024,
    compresses: bool = True,
    session: requests.Session | None = None,
    verify: bool | str = True,
    cert: str | tuple[str, str] | None = None,
    signing: Signing | None = None,
    stream: str = "off",
    limited_log: LimitedLog | None = None,
    clock: Clock | None = None,
) -> EnvelopeInvoker:
    """
    Return the invoker of envelopes. It opens nothing before it is used.

    Args:
        registry: The message types.
        channel: Carries the bytes; None means HTTP, and gRPC to nodes that are reached so.
        source_node_id: The id of this node, which is sent to the peer.
        pool_size: Connections that are kept for a node.
        max_body_bytes: The longest request that is sent and the longest response that is read, compressed or not.
        compresses: Whether requests are compressed for nodes that offer it, and compressed responses asked for.
        session: A ``requests.Session`` of the user's own, see ``BorrowedSession``; None means one of its own.
        verify: As in ``requests``: True, False, or a path to a bundle of CA certificates.
        cert: As in ``requests``: path to a client certificate, or a pair (certificate, key); None means none.
        signing: Signs requests and checks responses; None means that neither is signed.
        stream: ``auto``, ``on`` or ``off``, see ``ClusterOptions``. Beside a ``channel`` that is given there are none.
        limited_log: Bounds the failures that are logged; None means one of its own.
        clock: None means the system's.

    .. versionadded:: 0.1
    """
    streams = None
    if channel is None:
        if stream == "on" or (stream == "auto" and session is None):
            streams = StreamChannel(max_body_bytes=max_body_bytes, always=stream == "on", clock=clock)
        http = HttpChannel(
            pool_size=pool_size, max_body_bytes=max_body_bytes, session=session, verify=verify, cert=cert
        )
        # A session of the user's own is to see the calls, where there is a choice.
        channel = NodeChannels(
            http, max_body_bytes=max_body_bytes, verify=verify, cert=cert, prefers_grpc=session is None
        )
    proves = signing is not None and not signing.loopback_only
    return EnvelopeInvoker(
        registry,
        channel,
        source_node_id=source_node_id,
        max_body_bytes=max_body_bytes,
        compresses=compresses,
        signing=signing,
        proof=Proof(NodeProbe(verify=verify, cert=cert, signing=signing)) if proves else None,
        streams=streams,
        limited_log=limited_log,
        clock=clock,
    )
