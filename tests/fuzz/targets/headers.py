"""The headers of a request: time left, chain, trace and id, and what a nested call carries on of them."""

from __future__ import annotations

import time

from requests.utils import check_header_validity

from catga_sync.context import CallContext, enter_call, leave_call
from catga_sync.receiver.refusal import Refused
from catga_sync.receiver.request import RawRequest, chain_of, deadline_of, time_of
from catga_sync.transport.invoker import _headers
from catga_sync.wire.call_path import LONGEST, full_nodes, read_chain, write_chain
from catga_sync.wire.envelope import EnvelopeError, RequestEnvelope, valid_id
from tests.fuzz.target import Finding, Target, join, pure, split

__all__ = ["TARGETS", "as_header"]


def as_header(part: bytes) -> str | None:
    """Return a part of an input as a server would hand it over as the value of a header; None where it is empty."""
    value = part.decode("latin-1").translate({10: None, 13: None}).strip()
    return value or None


def _check(data: bytes) -> bool:
    parts = split(data, 6)
    timeout, chain, parent, state, request_id = map(as_header, parts[:5])
    headers = {"catga-timeout-ms": timeout} if timeout is not None else {}
    raw = RawRequest("POST", "/catga/cluster/invoke", headers, lambda size: b"", 0)
    if not 0 <= max(0.0, time_of(raw, 30.0)) <= 300.0:
        raise Finding("a call has more time than the longest one may have")
    envelope = b'{"requestTypeName":"a","responseTypeName":"b","payloadData":"","requestId":"r","timestamp":"%b"}'
    try:
        sent_at = RequestEnvelope.decode(envelope % parts[5]).timestamp
    except EnvelopeError:
        sent_at = None
    try:
        deadline = deadline_of(timeout, sent_at, 30.0)
        hops = chain_of(chain)
    except Refused as exc:
        if exc.reason.status not in (400, 504) or not str(exc).isprintable():
            raise Finding(f"refused with status {exc.reason.status}: {str(exc)!a}") from exc
        return False
    if deadline.remaining() > 300.0:
        raise Finding("a call has more time than the longest one may have")
    if len(hops) > LONGEST or read_chain(write_chain(hops)) != hops or full_nodes(hops) - {name for name, _ in hops}:
        raise Finding(f"the chain is another when it is carried on: {hops!a}")
    call = CallContext(valid_id(request_id) or "unknown", deadline, chain=hops, traceparent=parent, tracestate=state)
    _carries_on(call)
    return True


def _carries_on(call: CallContext) -> None:
    trace_id = call.trace_id
    if len(trace_id) != 32 or set(trace_id) - set("0123456789abcdef") or not call.ids.isprintable():
        raise Finding(f"no trace id: {call.ids!a}")
    nested = call.nested("r-2", 1.0, depth=1)
    if nested.trace_id != trace_id:
        raise Finding("a nested call is of another trace")
    token = enter_call(nested)
    try:
        sent = _headers("r-2", 1.0)
    finally:
        leave_call(token)
    for header in sent.items():
        check_header_validity(header)
        header[1].encode("latin-1")


def _seeds() -> list[bytes]:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return [
        join("30000", "web=5,users=0,orders", parent, "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7", "r-1", now),
        join("", "", "", "", "", ""),
        join("1", "a", f"cc{parent[2:]}-what the future holds", "", "r 1", "0001-01-01T00:00:00+01:00"),
        join("-1", ",".join(["a=1"] * 17), "00-0-0-0", "", "x" * 129, "9999-12-31T23:59:59.9999999-01:00"),
        join("30000", "", "", "", "r-1", "0001-01-01T00:00:00"),
    ]


TARGETS = (
    Target(
        "headers",
        pure(_check),
        _seeds,
        ("=0", ",", "00-", "ff-", "-01", "99999999999999999999", "-", "\u0661", "T", "+23:59", "0001-01-01", "."),
    ),
)
