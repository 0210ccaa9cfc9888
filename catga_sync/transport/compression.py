"""The caller's side of compression: requests in a coding that the node offers, responses in one that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from catga_sync._endpoint import is_loopback
from catga_sync.errors import ErrorCode
from catga_sync.nodes import ClusterNode
from catga_sync.results import CatgaResult
from catga_sync.transport.base import Response
from catga_sync.transport.outcome import Outcome
from catga_sync.wire.compression import (
    THRESHOLD,
    CompressionError,
    DecompressedTooLong,
    coding_named,
    codings,
    compress,
    decompress,
    shared,
)
from catga_sync.wire.headers import ACCEPT_ENCODING, EXECUTED

__all__ = ["coding_for", "compressed", "decompressed", "is_refusal"]


def coding_for(node: ClusterNode) -> str | None:
    """Return the coding for requests to a node; None for one that offers none, and for one on this machine."""
    if is_loopback(node.endpoint) or not (node.endpoint or "").startswith("http"):
        return None
    return shared(node.features)


def compressed(coding: str, headers: dict[str, str], body: bytes) -> bytes:
    """
    Return the body of a request as it travels, and add to its headers what the node has to know.

    Args:
        coding: From ``coding_for``.
        headers: The request's.
        body: The request's.
    """
    headers[ACCEPT_ENCODING] = ", ".join(codings())
    if len(body) >= THRESHOLD:
        shorter = compress(coding, body)
        if len(shorter) < len(body):
            headers["Content-Encoding"] = coding
            return shorter
    return body


def is_refusal(response: Response) -> bool:
    """Return whether a node has refused the coding of a request: it offered more before it was started anew."""
    return response.status == 415 and response.headers.get(EXECUTED) == "0"


def decompressed(response: Response, limit: int, *, signed: bool) -> Response | Callable[[Outcome], CatgaResult[Any]]:
    """
    Return a response as it was before it was compressed, or what makes a failure of the outcome of an attempt.

    Args:
        response: As it came, with the signature checked where there has to be one.
        limit: Bytes that its body may have.
        signed: Whether the node has signed it: then the header alone proves that the handler was not started.
    """
    coding = coding_named(response.headers.get("Content-Encoding", ""))
    if coding is None:
        return response
    try:
        if coding not in codings():
            raise CompressionError("it was not asked for that coding")
        return response._replace(body=decompress(coding, response.body, limit))
    except CompressionError as exc:
        response.retire()
        too_long = isinstance(exc, DecompressedTooLong)
        return partial(
            Outcome.broken,
            what=(
                "gave a response that is longer than max_body_bytes allows"
                if too_long
                else f"gave a response that cannot be decompressed ({exc})"
            ),
            sent=not (signed and response.headers.get(EXECUTED) == "0"),
            code=ErrorCode.RESOURCE_EXHAUSTED if too_long else ErrorCode.INTERNAL,
            layer="serialization",
        )
