"""The caller's side of signing: a signature on each request, and only signed responses accepted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from catga_sync._endpoint import is_loopback
from catga_sync.nodes import UNSIGNED, ClusterNode
from catga_sync.wire.headers import EXECUTED, SIGNATURE
from catga_sync.wire.keys import Keys
from catga_sync.wire.signatures import (
    SIGNED_AS_WRITTEN,
    SIGNED_HEADERS,
    NotAuthentic,
    is_incarnation,
    sign_request,
    signature_fields,
    verify_response,
)
from catga_sync.wire.stream_keys import StreamKeys, stream_keys

__all__ = ["MISDIRECTED", "Signed", "Signing"]

#: The HTTP status with which a node refuses a request that is signed for another run of it.
MISDIRECTED = 421
#: Most remembered incarnations; cleared when full.
_MOST_NOTED = 10_000


@dataclass(frozen=True, slots=True)
class Signed:
    """A request that was signed. Immutable."""

    nonce: str
    #: As they were signed, with the signature.
    headers: Mapping[str, str]
    #: Returns the signature for headers whose names are in lower case.
    sign: Callable[..., str]

    def renew(self, travelling: Mapping[str, str]) -> Mapping[str, str]:
        """
        Return headers that are about to leave, with a new signature if a signed header has changed.

        Tracing libraries add ``traceparent`` after the request was signed.
        """
        if travelling == self.headers:
            return travelling
        before, after = _lowered(self.headers), _lowered(travelling)
        # Requests of session hooks to other servers have no signature, and are left as they are.
        ours = SIGNATURE.lower() in after
        if not ours or all(after.get(name) == before.get(name) for name in SIGNED_HEADERS):
            return travelling
        return {**travelling, SIGNATURE: self.sign(headers=after, now=time.time())}


class Signing:
    """
    Sign requests, check responses. Thread-safe.

    Args:
        ring: The keys.
        cluster: The name of the cluster.
        loopback_only: Whether the keys are this machine's; only peers on it have them, and those may be unsigned.
    """

    def __init__(self, ring: Keys, cluster: str, *, loopback_only: bool = False) -> None:
        self.loopback_only = loopback_only
        self._ring = ring
        self._cluster = cluster
        #: Node id -> the incarnation in the store, and the one in the last signed response of the node.
        self._noted: dict[str, tuple[str, str]] = {}

    def covers(self, endpoint: str | None) -> bool:
        """Return whether calls to an endpoint are signed."""
        return not self.loopback_only or is_loopback(endpoint)

    def needs_proof(self, node: ClusterNode) -> bool:
        """
        Return whether a node to which signed requests go must sign its responses.

        With the key of this machine, a node that has not described itself is trusted without, and so is one that
        declares that it does not sign (``insecure=True``). With a secret, only the options of a peer count.
        """
        return not self.loopback_only or (node.handles is not None and UNSIGNED not in node.features)

    def incarnation_for(self, node_id: str, known: str) -> str:
        """Return the incarnation to sign for: the one in the store, or a newer one that the node has responded with."""
        before, noted = self._noted.get(node_id, (None, ""))
        if before == known:
            return noted
        # Malformed incarnations from a store are ignored.
        return known if is_incarnation(known) else ""

    def note_incarnation(self, node_id: str, known: str, incarnation: str) -> None:
        """Record that a node has responded with another incarnation than the one in the store."""
        if len(self._noted) >= _MOST_NOTED:
            self._noted.clear()
        self._noted[node_id] = (known, incarnation)

    def sign(
        self, method: str, path: str, node_id: str, incarnation: str, headers: dict[str, str], body: bytes
    ) -> Signed:
        """
        Add the signature to the headers of a request.

        Args:
            method: As it travels.
            path: The cluster's route.
            node_id: The node that is to run it.
            incarnation: That of the node; "" means unknown.
            headers: The request's, named as in ``SIGNED_AS_WRITTEN``.
            body: As it travels.
        """
        nonce = os.urandom(16).hex()
        sign = partial(
            sign_request,
            self._ring.present(),
            method=method,
            path=path,
            cluster=self._cluster,
            audience=node_id,
            incarnation=incarnation,
            body=body,
            nonce=nonce,
        )
        headers[SIGNATURE] = sign(headers=headers, now=time.time(), names=SIGNED_AS_WRITTEN)
        # A copy: what traces an application may add to the headers in place.
        return Signed(nonce, dict(headers), sign)

    def signer(self, nonce: str, node_id: str, status: int, headers: Mapping[str, str], body: bytes) -> str | None:
        """
        Return the incarnation of the node that signed this response; None when another node, or none, signed it.

        Args:
            nonce: That of the request to which it responds.
            node_id: The node that was asked.
            status: The response's, and so are the others.
            headers: Names in any letter case.
            body: As it came.
        """
        try:
            signer = verify_response(
                self._ring,
                headers.get(SIGNATURE),
                nonce=nonce,
                status=status,
                executed=headers.get(EXECUTED),
                content_type=headers.get("Content-Type"),
                content_encoding=headers.get("Content-Encoding"),
                body=body,
            )
        except NotAuthentic:
            return None
        return signer.incarnation if signer.node_id == node_id else None

    def stream_keys(self, signature: str, nonce: str, node_nonce: str, node_id: str) -> StreamKeys:
        """
        Return the keys of a stream.

        Args:
            signature: That of the request for it.
            nonce: That of the request.
            node_nonce: That of the response.
            node_id: The node that serves it.
        """
        key_id = signature_fields(signature)[0]
        return stream_keys(
            self._ring, key_id, caller_nonce=nonce, node_nonce=node_nonce, cluster=self._cluster, node_id=node_id
        )


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return dict(zip(map(str.lower, headers), headers.values(), strict=True))
