"""One attempt over a stream: as an envelope over a channel, without the envelope."""

from __future__ import annotations

import logging
from typing import Any

from catga_sync._clock import Clock
from catga_sync._redaction import shown
from catga_sync.results import CatgaResult
from catga_sync.transport.base import ExchangeFailed
from catga_sync.transport.outcome import Outcome
from catga_sync.transport.stream import StreamChannel
from catga_sync.transport.way import Way
from catga_sync.wire.frames import CallHead
from catga_sync.wire.headers import TIMES

__all__ = ["send_over_stream"]

#: Bytes of an envelope beside its payload, roughly.
_ENVELOPE = 4096

_TIMES = TIMES.lower()

_log = logging.getLogger(__name__)


def send_over_stream(
    streams: StreamChannel,
    way: Way,
    call_head: CallHead,
    payload: bytes,
    outcome: Outcome,
    measured: dict[str, Any],
    expires: float,
    clock: Clock,
    max_body_bytes: int,
) -> CatgaResult[Any] | None:
    """
    Make one attempt.

    Args:
        streams: Carry the call.
        way: What the calls to the node have in common.
        call_head: What the calls of the type have in common.
        payload: The JSON of the request.
        outcome: Of the attempt.
        measured: Gets the times and the bytes of the exchange, as the metadata of a result has them.
        expires: Monotonic time at which it ends.
        clock: The clock.
        max_body_bytes: The longest request by POST.

    Returns:
        The result; None if nothing of the call was taken, and it is to go by POST.
    """
    node, call = outcome.node, outcome.call
    if node.handles is None or len(payload) * 4 // 3 + _ENVELOPE > max_body_bytes:
        # It has yet to prove that it signs; or it may be too long, which the other way judges to the byte.
        return None
    try:
        came = streams.call(way, call_head, call, payload, expires)
    except ExchangeFailed as exc:
        _log.debug("%s: %s", call.ids, shown(exc.__cause__))
        if exc.sent:
            measured["sent_bytes"] = len(payload)
        return outcome.broken(what=exc.what, sent=exc.sent, code=exc.code, layer=exc.layer)
    if came is None:
        return None
    response, sent = came
    measured["sent_bytes"], measured["received_bytes"] = len(payload), len(response.envelope.payload or b"")
    times = response.headers.get(_TIMES)
    found = way.clock.sample(sent, clock.time(), times) if isinstance(times, str) else None
    if found is not None:
        measured["wire_ms"], measured["backlog_ms"] = found[0] * 1e3, found[1] * 1e3
    return outcome.responded(response.envelope, response.status, response.executed)
