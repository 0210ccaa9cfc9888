"""The headers of a request: time left, chain, trace and id, and what a nested call carries on of them."""

from __future__ import annotations

import time

from requests.utils import check_header_validity

from catga_sync.context import CallContext
from catga_sync.receiver.call import Progress
from catga_sync.receiver.refusal import Reason, Refused
from catga_sync.receiver.request import RawRequest, call_meta, timeout_of
from catga_sync.transport.request_headers import write_headers
from catga_sync.wire.call_path import LONGEST, full_nodes, read_chain, write_chain
from catga_sync.wire.envelope import EnvelopeError, RequestEnvelope, well_formed_id
from tests.fuzz.target import Finding, Target, join, pure, split

__all__ = ["TARGETS", "as_header"]


def as_header(part: bytes) -> str | None:
    """Return a part of an input as a server would hand it over as the value of a header; None where it is empty."""
    value = part.decode("latin-1").translate({10: None, 13: None}).strip()
    return value or None


#: The headers in the order of the parts of an input.
_NAMES = ("catga-timeout-ms", "catga-chain", "traceparent", "tracestate")


def _check(data: bytes) -> bool:
    *head, stamp = split(data, 6)
    *values, request_id = map(as_header, head)
    headers = {name: value for name, value in zip(_NAMES, values, strict=True) if value is not None}
    raw = RawRequest("POST", "/catga/cluster/invoke", headers, lambda size: b"", 0)
    seconds = timeout_of(headers)
    if seconds is not None and seconds > 300.0:
        raise Finding("a call has more time than the longest one may have")
    text = b'{"requestTypeName":"a","responseTypeName":"b","payloadData":"","requestId":"r","timestamp":"%b"}'
    try:
        envelope = RequestEnvelope.decode(text % stamp)
    except EnvelopeError:
        envelope = RequestEnvelope("a", "b", b"", "r")
    try:
        meta = call_meta(raw, envelope, Progress(timeout=seconds), 30.0)
    except Refused as exc:
        if exc.reason not in (Reason.UNREADABLE, Reason.EXPIRED) or not str(exc).isprintable():
            raise Finding(f"refused as {exc.reason.name}: {str(exc)!a}") from exc
        return False
    if meta.deadline.remaining() > 300.0:
        raise Finding("a call has more time than the longest one may have")
    hops = meta.chain
    if len(hops) > LONGEST or read_chain(write_chain(hops)) != hops or full_nodes(hops) - {name for name, _ in hops}:
        raise Finding(f"the chain is another when it is carried on: {hops!a}")
    named = request_id if well_formed_id(request_id) else None
    _carries_on(
        CallContext(
            named or "unknown",
            meta.deadline,
            chain=hops,
            traceparent=meta.traceparent,
            tracestate=meta.tracestate,
        )
    )
    return True


def _carries_on(call: CallContext) -> None:
    trace_id = call.trace_id
    if len(trace_id) != 32 or set(trace_id) - set("0123456789abcdef") or not call.ids.isprintable():
        raise Finding(f"no trace id: {call.ids!a}")
    nested = call.nested("r-2", 1.0, depth=1)
    if nested.trace_id != trace_id:
        raise Finding("a nested call is of another trace")
    for header in write_headers(nested, 1.0).items():
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
