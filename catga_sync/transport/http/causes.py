"""A short text for the cause of a failed exchange, which ``requests`` and urllib3 wrap several times."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import requests

from catga_sync._redaction import escaped

__all__ = ["causes_of", "in_words", "is_refused"]

#: Characters of a cause that are shown.
_LONGEST = 200
#: OpenSSL's reasons for a peer that does not speak TLS.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")


def causes_of(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it wraps, in ``args``, ``reason``, ``__cause__`` or ``__context__``."""
    seen: set[int] = set()
    waiting = [exc]
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        linked = (current.__context__, current.__cause__, *current.args, getattr(current, "reason", None))
        waiting.extend(item for item in linked if isinstance(item, BaseException))


def is_refused(exc: BaseException) -> bool:
    """Return whether a connection was refused."""
    return any(isinstance(cause, ConnectionRefusedError) for cause in causes_of(exc))


def in_words(exc: BaseException, endpoint: str) -> str:
    """
    Return why an exchange with a node brought no response, in printable ASCII.

    Args:
        exc: The exception that ended it.
        endpoint: The node's. Where another host failed (a proxy, or one that the session's ``auth`` asks), it is named.
    """
    elsewhere = _other_place(exc, endpoint)
    # The query of a URL may hold a secret.
    cause = escaped(re.sub(r"\?\S+", "?...", _cause(exc)), _LONGEST)
    return (f"{elsewhere}: " if elsewhere else "") + cause


def _cause(exc: BaseException) -> str:
    causes = list(causes_of(exc))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"certificate verify failed: {cause.verify_message.rstrip('.')}"
        if isinstance(cause, ssl.SSLError) and cause.reason:
            no_tls = ", the server there speaks no TLS" if cause.reason in _NO_TLS else ""
            return f"TLS failed: {cause.reason}{no_tls}"
        if isinstance(cause, socket.gaierror):
            return f"the host name is not found: {cause.strerror}"
        if isinstance(cause, http.client.RemoteDisconnected):
            return "the connection was closed without a response"
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    for cause in causes:
        if isinstance(cause, TimeoutError):
            return "timed out"
    innermost = causes[-1]
    return f"{type(innermost).__name__}: {innermost}" if str(innermost) else type(innermost).__name__


def _other_place(exc: BaseException, endpoint: str) -> str:
    """Return the host and port that failed if it is not the endpoint but, for example, a proxy; "" otherwise."""
    here = _place(endpoint)
    for cause in causes_of(exc):
        conn = getattr(cause, "conn", None)  # of urllib3's errors: the connection that was not made
        host, port = getattr(conn, "host", None), getattr(conn, "port", None)
        if isinstance(host, str) and (_plain(host), port) != here:
            return f"{host}:{port}"
    request = exc.request if isinstance(exc, requests.RequestException) else None
    url = getattr(request, "url", None) or endpoint
    try:
        host, port = _place(url)
    except ValueError:
        return ""
    # The host alone: the rest may hold a token.
    return f"{host}:{port}" if (host, port) != here else ""


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return _plain(parts.hostname or ""), parts.port or (443 if parts.scheme == "https" else 80)


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()
