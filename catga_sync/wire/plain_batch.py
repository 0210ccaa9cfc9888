"""Batches as a node of ours writes them: as ``plain_envelope.py``, for all items of a body in one pass.

Rules of this file:
1. What is read here means what it means to ``envelope.py``. A body with an item that is written otherwise, or is wrong,
   is left to it as a whole.
2. A text that stands in many items, such as the name of a type, is one object.
"""

from __future__ import annotations

import re
from typing import Any

from catga_sync.wire.plain_envelope import ID, NAME, STAMP, read_base64, seconds_of

__all__ = ["MAX_BATCH", "plain_requests", "plain_responses"]

#: Requests in one batch.
MAX_BATCH = 10_000

_REQUESTS, _RESPONSES, _END = '{"requests":[', '{"responses":[', "]}"
_BASE64 = "[A-Za-z0-9+/]*={0,2}"
_REQUEST = re.compile(
    rf'\{{"requestTypeName":"({NAME})","responseTypeName":"({NAME})","payloadData":"({_BASE64})",'
    rf'"sourceNodeId":(?:null|"({ID})"),"requestId":"({ID})"(?:,"traceparent":"([ !#-\[\]-~]{{0,256}})")?,'
    rf'"timestamp":"({STAMP})Z"\}}(?:,|(?=\]\}}\Z))',
    re.ASCII,
)
#: Of a request that has succeeded.
_RESPONSE = re.compile(
    rf'\{{"requestId":"({ID})","isSuccess":true,"payloadData":(?:null|"({_BASE64})"),"errorMessage":null,'
    rf'"processedByNodeId":"({ID})","processingTimeMs":(0|[1-9][0-9]{{0,11}}),"executed":"([01]|unknown)"\}}'
    r"(?:,|(?=\]\}\Z))"
)

_Request = tuple[str, str, bytes, str, "str | None", float, "str | None"]
_Response = tuple[str, bool, "bytes | None", None, None, str, int]


def plain_requests(raw: bytes) -> list[_Request] | None:
    """
    Read the requests of a batch.

    Returns:
        Of each the names of request and response, payload, id, source, time of sending and traceparent; None if the
        body is not so written.
    """
    found = _groups(raw, _REQUESTS, _REQUEST)
    if found is None:
        return None
    read = []
    same: dict[Any, Any] = {}
    times: dict[str, float] = {}
    try:
        for name, response_name, payload, source, request_id, traceparent, stamp in found:
            sent = times.get(stamp)
            if sent is None:
                sent = times[stamp] = seconds_of(stamp)
            read.append(
                (
                    same.setdefault(name, name),
                    same.setdefault(response_name, response_name),
                    read_base64(payload),
                    request_id,
                    same.setdefault(source, source),
                    sent,
                    traceparent,
                )
            )
    except ValueError:
        return None
    return read


def plain_responses(raw: bytes) -> list[tuple[_Response, str]] | None:
    """
    Read the responses to a batch in which all have succeeded.

    Returns:
        Of each request id, success, payload, error, code, node and milliseconds, and whether it was executed as
        ``Catga-Executed`` has it; None if the body is not so written.
    """
    found = _groups(raw, _RESPONSES, _RESPONSE)
    if found is None:
        return None
    same: dict[str, str] = {}
    try:
        return [
            (
                (
                    request_id,
                    True,
                    None if payload is None else read_base64(payload),
                    None,
                    None,
                    same.setdefault(node, node),
                    int(elapsed),
                ),
                same.setdefault(ran, ran),
            )
            for request_id, payload, node, elapsed, ran in found
        ]
    except ValueError:
        return None


def _groups(raw: bytes, begin: str, item: re.Pattern[str]) -> list[tuple[Any, ...]] | None:
    """Return the groups of each item; None if there are too many, or anything else is between ``begin`` and the end."""
    try:
        text = str(raw, "ascii")
    except UnicodeDecodeError:
        return None
    if not text.startswith(begin):
        return None
    groups: list[tuple[Any, ...]] = []
    at, end = len(begin), len(text) - len(_END)
    match = item.match
    while at < end:
        found = match(text, at)
        if found is None or len(groups) == MAX_BATCH:
            return None
        groups.append(found.groups())
        at = found.end()
    # A comma after the last item would have been taken for its end.
    return groups if at == end and groups and text[end - 1] == "}" else None
