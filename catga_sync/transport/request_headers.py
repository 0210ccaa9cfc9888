"""The headers of a request; their names are in ``wire/headers.py``."""

from __future__ import annotations

from catga_sync.context import CallContext
from catga_sync.wire.call_path import write_chain
from catga_sync.wire.envelope import MAX_TIME_MS
from catga_sync.wire.form import JSON
from catga_sync.wire.headers import BAGGAGE, CHAIN, CONTEXT, REQUEST_ID, SENT, STORE, TIMEOUT, TRACEPARENT, TRACESTATE

__all__ = ["write_headers"]


def write_headers(
    call: CallContext, left: float, content_type: str = JSON.content_type, sent: float | None = None
) -> dict[str, str]:
    """
    Return the headers of a request.

    Args:
        call: The call, or the first of those that travel together.
        left: Seconds that it has left.
        content_type: Of its body.
        sent: Now, in seconds since the epoch by the clock of the node; None where that is not known.
    """
    headers = {
        "Content-Type": content_type,
        "Accept-Encoding": "identity",
        "User-Agent": "catga-sync",
        REQUEST_ID: call.request_id,
        TIMEOUT: str(max(1, min(MAX_TIME_MS, int(left * 1000)))),
    }
    if call.chain:
        headers[CHAIN] = write_chain(call.chain)
    if call.store is not None:
        headers[STORE] = call.store
    headers[TRACEPARENT], state = call.trace()
    if state is not None:
        headers[TRACESTATE] = state
    if call.baggage is not None:
        headers[BAGGAGE] = call.baggage
    if call.context_text is not None:
        headers[CONTEXT] = call.context_text
    if sent is not None:
        headers[SENT] = str(int(sent * 1e6))
    return headers
