"""The caller's side of signing: a signature on each request, and none but signed responses believed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from catga_sync.nodes import UNSIGNED, ClusterNode, is_loopback
from catga_sync.wire.headers import EXECUTED, SIGNATURE
from catga_sync.wire.keys import Keys
from catga_sync.wire.signatures import (
    SIGNED_HEADERS,
    NotAuthentic,
    is_incarnation,
    sign_request,
    verify_response,
)

__all__ = ["MISDIRECTED", "Signed", "Signing"]

#: The HTTP status with which a node refuses a request that is signed for another run of it.
MISDIRECTED = 421
#: Nodes of which is remembered what they have named; more have come and gone, and what they have named with them.
_MOST_NAMED = 10_000


@dataclass(slots=True)
class Signed:
    """A request that was signed. Immutable."""

    nonce: str
    #: As they were signed, with the signature.
    headers: Mapping[str, str]
    #: Returns the signature for headers whose names are in lower case.
    sign: Callable[..., str]

    def renew(self, travelling: Mapping[str, str]) -> Mapping[str, str]:
        """
        Return headers that are about to leave, signed anew where any of those that are signed has changed.

        What traces an application adds ``traceparent`` below everything that is ours.
        """
        if travelling == self.headers:
            return travelling
        before, after = _lowered(self.headers), _lowered(travelling)
        # Not what a hook of the user's session sends meanwhile, to another server.
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
        loopback_only: Whether peers on this machine alone have the keys, and may do without.
    """

    def __init__(self, ring: Keys, cluster: str, *, loopback_only: bool = False) -> None:
        self.loopback_only = loopback_only
        self._ring = ring
        self._cluster = cluster
        #: Node id -> the incarnation by which others know the node, and the one that it has named itself since.
        self._named: dict[str, tuple[str, str]] = {}

    def covers(self, endpoint: str | None) -> bool:
        """Return whether calls to an endpoint are signed."""
        return not self.loopback_only or is_loopback(endpoint)

    def needs_proof(self, node: ClusterNode) -> bool:
        """
        Return whether a response of a node that is signed to is believed only if it is signed itself.

        With the key of this machine, a node that has said nothing of itself is believed, and so is one that says that
        it does not sign (``insecure=True``). Where there is a secret, only what the options say of a peer counts.
        """
        return not self.loopback_only or (node.handles is not None and UNSIGNED not in node.features)

    def meant(self, node_id: str, known: str) -> str:
        """Return the incarnation to sign for: the one by which a node is known, unless it has named another since."""
        before, named = self._named.get(node_id, (None, ""))
        if before == known:
            return named
        # A store may hold any text; no node of ours has given itself such a name.
        return known if is_incarnation(known) else ""

    def named(self, node_id: str, known: str, incarnation: str) -> None:
        """Take note that the node which is known by one incarnation has named another."""
        if len(self._named) >= _MOST_NAMED:
            self._named.clear()
        self._named[node_id] = (known, incarnation)

    def sign(
        self, method: str, path: str, node_id: str, incarnation: str, headers: dict[str, str], body: bytes
    ) -> Signed:
        """
        Add the signature to the headers of a request.

        Args:
            method: As it travels.
            path: The cluster's route.
            node_id: The node that is meant.
            incarnation: Of its run that is meant; "" means that it is not known.
            headers: The request's.
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
        headers[SIGNATURE] = sign(headers=_lowered(headers), now=time.time())
        return Signed(nonce, headers, sign)

    def signer(self, nonce: str, node_id: str, status: int, headers: Mapping[str, str], body: bytes) -> str | None:
        """
        Return the incarnation of the node that has given this response, or None when it is not that very node's.

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


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return dict(zip(map(str.lower, headers), headers.values(), strict=True))
