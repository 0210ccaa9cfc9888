"""Envelopes as a node of ours writes them: properties in one order, no white space, no escapes. Bytes in, values out.

Rules of this file:
1. What is read here means what it means to ``envelope.py``. Whatever is written otherwise, or is wrong, is left to it.
2. The payload is searched for its end alone: it may be long.
"""

from __future__ import annotations

import base64
import binascii
import re
import sys
from datetime import datetime

from catga_sync.messages import MAX_NAME

__all__ = ["ID", "NAME", "STAMP", "plain_request", "plain_response", "read_base64", "seconds_of"]

#: A request or node id.
ID = r"[A-Za-z0-9._:\-]{1,128}"

#: A name of a type.
NAME = rf"[ !#-\[\]-~]{{1,{MAX_NAME}}}"
#: A time; ``seconds_of`` reads it.
STAMP = r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d\.\d{6}"
_REQUEST_HEAD = re.compile(rf'\{{"requestTypeName":"({NAME})","responseTypeName":"({NAME})","payloadData":"'.encode())
_REQUEST_TAIL = re.compile(
    rf'","sourceNodeId":(?:null|"({ID})"),"requestId":"({ID})"'
    rf',"timestamp":"({STAMP})Z"\}}'.encode()
)
#: Of a call that has succeeded.
_RESPONSE_HEAD = re.compile(rf'\{{"requestId":"({ID})","isSuccess":true,"payloadData":(null|")'.encode())
_RESPONSE_TAIL = re.compile(
    rf',"errorMessage":null,"processedByNodeId":"({ID})","processingTimeMs":(0|[1-9][0-9]{{0,11}})\}}'.encode()
)


def plain_request(raw: bytes) -> tuple[str, str, bytes, str, str | None, float] | None:
    """Return names of request and response, payload, id, source and time of sending; None if it is not so written."""
    head = _REQUEST_HEAD.match(raw)
    end = -1 if head is None else raw.find(b'"', head.end())
    tail = None if end < 0 else _REQUEST_TAIL.fullmatch(raw, end)
    if head is None or tail is None:
        return None
    source, request_id, stamp = tail.groups()
    try:
        payload, sent = read_base64(raw[head.end() : end]), seconds_of(stamp.decode("ascii"))
    except ValueError:
        return None
    names = head[1].decode("ascii"), head[2].decode("ascii")
    known = None if source is None else source.decode("ascii")
    return (*names, payload, request_id.decode("ascii"), known, sent)


def plain_response(raw: bytes) -> tuple[str, bytes | None, str, int] | None:
    """Return request id, payload, node and milliseconds of a call that has succeeded; None if it is not so written."""
    head = _RESPONSE_HEAD.match(raw)
    if head is None:
        return None
    begin = head.end()
    has_payload = head[2] == b'"'
    end = raw.find(b'"', begin) if has_payload else begin
    tail = None if end < 0 else _RESPONSE_TAIL.fullmatch(raw, end + has_payload)
    if tail is None:
        return None
    try:
        payload = read_base64(raw[begin:end]) if has_payload else None
    except ValueError:
        return None
    return head[1].decode("ascii"), payload, tail[1].decode("ascii"), int(tail[2])


def seconds_of(stamp: str) -> float:
    """Return a time as seconds since the epoch; raise ``ValueError`` if there is no such time, or it is none."""
    # Without the fraction: a timestamp of both at once is not the same float.
    moment = datetime.fromisoformat(stamp[:19] + "+00:00")
    if moment.year == 1:  # what a .NET program sends that gives no time
        raise ValueError("no time")
    return moment.timestamp() + float(stamp[19:])


def read_base64(text: bytes | str) -> bytes:
    """Return what that is the base64 of; raise ``ValueError`` if it is none, or has a byte that does not belong."""
    if len(text) % 4:  # superfluous padding, which Python 3.10 lets through
        raise ValueError("not base64")
    if sys.version_info >= (3, 11):  # what b64decode calls, by way of another function
        return binascii.a2b_base64(text, strict_mode=True)
    return base64.b64decode(text, validate=True)
