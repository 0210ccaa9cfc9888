"""The keys of one stream, from a key of the cluster and the nonces of both sides.

HKDF-SHA256 (RFC 5869): the input is HMAC-SHA256 of the key of the cluster and "catga-stream-v1", so that no MAC that is
used elsewhere leads to a key of a stream; the salt is both nonces, that of the caller first; the info is the direction,
the name of the cluster and the id of the node.
"""

from __future__ import annotations

import hmac
import re
from typing import NamedTuple

from catga_sync.wire.keys import Keys
from catga_sync.wire.mac import MacKey

__all__ = ["StreamKeys", "is_nonce", "stream_keys"]

_PURPOSE = b"catga-stream-v1"
_NONCE = re.compile(r"[0-9a-f]{32}")


class StreamKeys(NamedTuple):
    """What makes the MACs of one stream."""

    #: Of what the caller sends.
    calls: MacKey
    #: Of what the node sends.
    responses: MacKey


def is_nonce(value: object) -> bool:
    """Return whether that is a nonce: 32 hex digits in lower case."""
    return isinstance(value, str) and _NONCE.fullmatch(value) is not None


def stream_keys(
    ring: Keys, key_id: str, *, caller_nonce: str, node_nonce: str, cluster: str, node_id: str
) -> StreamKeys:
    """
    Return the keys of a stream.

    Args:
        ring: The keys of the cluster.
        key_id: The key with which the request for the stream was signed.
        caller_nonce: That of the request, in hex digits.
        node_nonce: That of the response, in hex digits.
        cluster: The name of the cluster.
        node_id: The node that serves the stream.

    Raises:
        ValueError: There is no such key.
    """
    made = ring.mac(key_id, _PURPOSE)
    if made is None:
        raise ValueError("key_id: there is no such key in the ring")
    extracted = hmac.digest(bytes.fromhex(caller_nonce + node_nonce), bytes.fromhex(made), "sha256")

    def expand(direction: str) -> MacKey:
        info = f"{direction}\n{cluster}\n{node_id}".encode("ascii")
        # One block is as long as the key that is needed.
        return MacKey(hmac.digest(extracted, info + b"\x01", "sha256"))

    return StreamKeys(expand("calls"), expand("responses"))
