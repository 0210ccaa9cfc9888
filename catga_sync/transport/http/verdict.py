"""What a failed exchange over HTTP proves: whether the request was sent, and what went wrong.

The evidence of ``Exchange`` decides: a request that the kernel did not take whole did not run, since a receiver checks
the length before it runs anything; after that only a complete response proves something. The exception class decides
only where the request went over connections of another kind, which give no evidence.
"""

from __future__ import annotations

import time

import requests
from urllib3.exceptions import ConnectTimeoutError, EmptyPoolError, NewConnectionError

from catga_sync.errors import ErrorCode
from catga_sync.transport.base import ExchangeFailed
from catga_sync.transport.http.causes import causes_of, in_words
from catga_sync.transport.http.connection import Exchange
from catga_sync.transport.http.user_session import ResponseEncoded, ResponseTooLong

__all__ = ["judge_broken"]


def judge_broken(exc: BaseException, exchange: Exchange, endpoint: str) -> ExchangeFailed:
    """Return the error to raise for an exchange that ended with ``exc``."""
    sent = exchange.request_complete if exchange.has_evidence else not _never_connected(exc)
    if isinstance(exc, ResponseTooLong):
        text = "gave a response that is longer than max_body_bytes allows"
        return ExchangeFailed(text, sent=sent, code=ErrorCode.RESOURCE_EXHAUSTED)
    if isinstance(exc, ResponseEncoded):
        text = f"gave a response that is encoded ({str(exc)[:40]!r}), which it was asked not to be"
        return ExchangeFailed(text, sent=sent, code=ErrorCode.INTERNAL, layer="serialization")
    if time.monotonic() >= exchange.expires:
        return ExchangeFailed("", sent=sent, code=ErrorCode.DEADLINE_EXCEEDED)
    what = "gave no complete response" if sent else "cannot be reached"
    return ExchangeFailed(f"{what} ({in_words(exc, endpoint)})", sent=sent)


def _never_connected(exc: BaseException) -> bool:
    """Return whether the connection was never made, as far as urllib3 shows through ``requests``."""
    never = (NewConnectionError, ConnectTimeoutError, EmptyPoolError, requests.ConnectTimeout)
    return any(isinstance(cause, never) for cause in causes_of(exc))
