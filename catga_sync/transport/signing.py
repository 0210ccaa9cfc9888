"""The caller's side of signing: a signature on each request, and none but signed answers believed."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from catga_sync.security import HEADER, KeyRing, NotAuthentic, sign_request, verify_reply

__all__ = ["Signing"]


class Signing:
    """
    Sign requests, check answers. Immutable, thread-safe.

    Args:
        ring: The keys.
    """

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def sign(self, method: str, path: str, node_id: str, headers: dict[str, str], body: bytes) -> str:
        """Add the signature to ``headers``; return the nonce, to which the answer is bound."""
        nonce = os.urandom(16).hex()
        headers[HEADER] = sign_request(
            self._ring,
            method=method,
            path=path,
            audience=node_id,
            content_type=headers.get("Content-Type"),
            content_encoding=headers.get("Content-Encoding"),
            body=body,
            timeout_ms=headers.get("Catga-Timeout-Ms"),
            request_id=headers.get("Catga-Request-Id"),
            now=time.time(),
            nonce=nonce,
        )
        return nonce

    def is_authentic(self, nonce: str, node_id: str, status: int, headers: Mapping[str, str], body: bytes) -> bool:
        """Return whether that very node has given this answer to the request with that nonce."""
        try:
            signer = verify_reply(
                self._ring,
                headers.get(HEADER),
                nonce=nonce,
                status=status,
                executed=headers.get("Catga-Executed"),
                content_type=headers.get("Content-Type"),
                content_encoding=headers.get("Content-Encoding"),
                body=body,
            )
        except NotAuthentic:
            return False
        return signer == node_id
