"""Taking a request in: its head and body, before anything of it is parsed. What is wrong with it is ``Refused``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from io import BytesIO
from typing import Any, NamedTuple

from catga_sync._context_text import read_context
from catga_sync.context import usable_baggage
from catga_sync.deadline import Deadline
from catga_sync.receiver.call import CallMeta, Progress
from catga_sync.receiver.refusal import Reason, Refused
from catga_sync.wire.call_path import LONGEST, read_chain
from catga_sync.wire.envelope import MAX_TIME_MS, RequestEnvelope
from catga_sync.wire.form import JSON, WireForm
from catga_sync.wire.headers import BAGGAGE, CHAIN, CONTEXT, SENT, STORE, TIMEOUT, TRACEPARENT, TRACESTATE

__all__ = ["RawRequest", "call_meta", "in_memory", "item_meta", "read_body", "timeout_of"]

#: Seconds by which two machines' clocks may differ when the age of a request is judged.
CLOCK_SKEW = 60.0
#: Seconds for which the rest of a body is waited for.
BODY_TIME = 5.0
_PIECE = 64 * 1024

# As a ``RawRequest`` has them.
_TIMEOUT, _CHAIN, _STORE, _SENT = TIMEOUT.lower(), CHAIN.lower(), STORE.lower(), SENT.lower()
_CONTEXT = CONTEXT.lower()


class RawRequest(NamedTuple):
    """A request as any server can hand it over. Immutable, but for the body that is read off it."""

    method: str
    path: str
    #: Names in lower case.
    headers: Mapping[str, str]
    #: Reads up to so many bytes of the body; b"" at its end.
    read: Callable[[int], bytes]
    #: What the sender gave as the length, a number or the text as it came; None when it gave none.
    content_length: int | str | None
    #: Whether ``read`` ends where the body ends even without a length (a server that has undone "chunked").
    terminated: bool = False
    remote_address: str | None = None
    #: The version of HTTP in which the request came.
    protocol: str = "HTTP/1.1"
    #: Has ``read`` come to its end at that monotonic time or earlier, whatever is still to come. Returns what calls
    #: that off, and returns whether it came too late. None, here and below, where the server lends no socket.
    end_at: Callable[[float], Callable[[], bool]] | None = None
    #: Has it come to its end now: what is left of the body keeps no thread waiting.
    cut: Callable[[], None] | None = None
    #: Returns whether the caller has closed its side of the connection.
    hung_up: Callable[[], bool] | None = None
    #: When it came, on the clock of ``time.monotonic``; None means when it is handled.
    arrived: float | None = None
    #: The whole body, where it was read when the request was taken in.
    body: bytes | None = None
    #: Why it is refused, if ``Receiver.read_body`` found a reason.
    refused: Refused | None = None
    #: The guard of the receiver whose ``read_body`` has read it, and what that guard needs to verify the caller. None
    #: and None for one that was not read, or was refused.
    let_in: tuple[object, Any] = (None, None)
    #: The form of its body, and of that of the response.
    form: WireForm = JSON
    #: Seconds that its transport gives it; None where the transport has no deadline of its own.
    seconds_left: float | None = None
    #: How it came, for hooks.
    way: str = "post"
    #: Whether the server lends its socket, so that a stream may take it over.
    takes_over: bool = False


def in_memory(raw: RawRequest, body: bytes, refused: Refused | None, let_in: tuple[object, Any]) -> RawRequest:
    """Return a request whose body was read, or that was refused instead."""
    return raw._replace(body=body, end_at=None, cut=None, refused=refused, let_in=let_in)


def timeout_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the caller gives the call; None where it gives none, or none that can be read."""
    text = headers.get(_TIMEOUT, "").strip()
    digits = text.removeprefix("-")
    if not (digits.isdecimal() and digits.isascii() and len(digits) <= 20):
        return None
    return min(int(text), MAX_TIME_MS) / 1000.0


def read_body(raw: RawRequest, limit: int, timeout: float | None) -> bytes:
    """
    Return the whole body; refuse one that is no JSON, too long, not as long as announced, or slow to come.

    Args:
        raw: The request.
        limit: Bytes that the body may have.
        timeout: Seconds that the call has; None if unknown.
    """
    if raw.body is not None:
        return raw.body
    # A page in a browser may send a form or plain text to any site, and JSON only to one that lets it.
    if raw.headers.get("content-type", "").split(";")[0].strip().lower() != raw.form.content_type:
        raise Refused(Reason.MEDIA_TYPE, f"Content-Type: {raw.form.content_type} is expected")
    length = _length(raw.content_length)
    if length is None and not raw.terminated:
        # Many servers hand a chunked body on with its end unmarked (uWSGI, wsgiref): it cannot be read safely.
        text = (
            "Content-Length: missing, and this server does not pass on where a body ends without it; send the length "
            "(not Transfer-Encoding: chunked), or run the node on a server that reads chunked bodies, such as gunicorn"
        )
        raise Refused(Reason.NO_LENGTH, text)
    if length is not None and length > limit:
        raise Refused(Reason.TOO_LONG, f"the body is longer than {limit} bytes")
    wanted = limit + 1 if length is None else length
    body = BytesIO()  # which needs no second copy of it at its end, as a list of pieces does
    size = 0
    # A time that is up, or that cannot be read, is refused when the body is there.
    end = time.monotonic() + (BODY_TIME if timeout is None or timeout <= 0 else min(BODY_TIME, timeout))
    call_off = None if raw.end_at is None else raw.end_at(end)
    broken: Exception | None = None
    try:
        while size < wanted and (size == 0 or time.monotonic() < end):
            piece = raw.read(min(_PIECE, wanted - size))
            if not piece:
                break
            body.write(piece)
            size += len(piece)
    except Exception as exc:
        broken = exc
    finally:
        late = (call_off is not None and call_off()) or time.monotonic() >= end
    if broken is not None:
        raise _incomplete(late, "the body broke off") from broken
    if length is None and size > limit:
        raise Refused(Reason.TOO_LONG, f"the body is longer than {limit} bytes")
    # gunicorn passes on a body that was cut off as if it were complete. Nothing may run then: the caller reports
    # NOT_EXECUTED. Without a length, a late body may have been cut off, too.
    if size != length and (length is not None or late):
        hint = "" if size else "; a WSGI middleware in front of the receiver may have read it"
        raise _incomplete(late, f"the body has {size} of the {length} bytes announced{hint}")
    return body.getvalue()


def _incomplete(late: bool, text: str) -> Refused:
    if not late:
        return Refused(Reason.UNREADABLE, text)
    return Refused(Reason.TOO_SLOW, "the body came too slowly")


def _length(given: int | str | None) -> int | None:
    """Return the length; an unusable one is refused and not ignored, so that no body that was cut off is accepted."""
    if not isinstance(given, str):
        return given
    if not given.isdecimal() or not given.isascii():
        raise Refused(Reason.UNREADABLE, "Content-Length: a whole number of bytes is expected")
    # Of twenty digits and more the number does not matter, and Python reads no more than 4300 of them.
    return int((given.lstrip("0") or "0")[:20])


def call_meta(
    raw: RawRequest, envelope: RequestEnvelope | None, progress: Progress, default_timeout: float
) -> CallMeta:
    """
    Return the metadata of a request; refuse unreadable headers, and a call whose time is up.

    Args:
        raw: The request.
        envelope: What it has; None for a batch, whose items get theirs from ``item_meta``.
        progress: Of the request.
        default_timeout: Seconds for a call whose caller gives none.
    """
    headers = raw.headers
    request_id, source, sent_at, traceparent = progress.request_id, None, None, None
    if envelope is not None:
        request_id, source = envelope.request_id, envelope.source_node_id
        sent_at, traceparent = envelope.timestamp, envelope.traceparent
    deadline = _deadline_of(headers, progress, sent_at, default_timeout)
    way = headers.get(_CHAIN)
    chain = read_chain(way) if way else ()
    if chain is None:
        text = f"{CHAIN}: it cannot be read, or the call has come over more than {LONGEST} nodes in a loop"
        raise Refused(Reason.UNREADABLE, text)
    baggage, context = headers.get(BAGGAGE), headers.get(_CONTEXT)
    if context is not None:
        try:
            read_context(context)
        except ValueError as exc:
            # Refused and not left out: a handler that found no tenant might take the call for nobody's.
            raise Refused(Reason.UNREADABLE, f"{CONTEXT}: it cannot be read: {exc}") from exc
    return CallMeta(
        request_id,
        deadline,
        chain,
        source,
        traceparent or headers.get(TRACEPARENT),
        headers.get(TRACESTATE),
        headers.get(_STORE),
        raw.hung_up,
        headers.get(_SENT),
        None if baggage is None else usable_baggage(baggage),
        context,
    )


def item_meta(batch: CallMeta, envelope: RequestEnvelope, progress: Progress) -> CallMeta:
    """
    Return the metadata of an item of a batch; refuse one whose time is up.

    Args:
        batch: The metadata of the batch: all items share its deadline, which counts from its arrival.
        envelope: The item.
        progress: Of the item.
    """
    if progress.timeout is not None:
        _refuse_old(envelope.timestamp, progress.timeout)
    return CallMeta(
        envelope.request_id,
        batch.deadline,
        batch.chain,
        envelope.source_node_id,
        envelope.traceparent or batch.traceparent,
        batch.tracestate,
        batch.store,
        batch.hung_up,
        batch.sent,
        batch.baggage,
        batch.context_text,
    )


def _deadline_of(headers: Mapping[str, str], progress: Progress, sent_at: float | None, default: float) -> Deadline:
    """
    Return the deadline of a call; refuse one whose time is up.

    Args:
        headers: Of the request, names in lower case.
        progress: Of the request: when it came, and the time that it had left when it was sent.
        sent_at: When that was, in seconds since the epoch by the sender's clock; None if unknown.
        default: Seconds for a call whose caller gives none.
    """
    timeout = progress.timeout
    if timeout is None:
        if _TIMEOUT in headers:
            raise Refused(Reason.UNREADABLE, f"{TIMEOUT}: a whole number of milliseconds is expected")
        return Deadline(progress.arrived + default)
    deadline = Deadline(progress.arrived + timeout)
    if deadline.at <= time.monotonic():
        raise Refused(Reason.EXPIRED, "the time of the call was up before it was started")
    _refuse_old(sent_at, timeout)
    return deadline


def _refuse_old(sent_at: float | None, timeout: float) -> None:
    # The time left is relative, so it depends on no clock. But if this node was paused, it does not include the time
    # that the request has waited here: the time of sending shows that, within the difference of two clocks.
    now = time.time()
    if sent_at is not None and now > sent_at + timeout + CLOCK_SKEW:
        raise Refused(Reason.EXPIRED, _too_old(sent_at, now, timeout))


def _too_old(sent_at: float, now: float, timeout: float) -> str:
    return (
        f"the time of the call was up before it was started: it was sent at {_instant(sent_at)} by the sender's clock "
        f"with {timeout:g} s left, and here it is {_instant(now)}, {now - sent_at:.1f} s later; if the call is not "
        f"that old, set both clocks right (they may differ by {CLOCK_SKEW:g} s)"
    )


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
