"""What goes back to a caller, and what hooks are told of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from catga_sync.hooks import ServedDetails, made
from catga_sync.receiver.call import UNKNOWN, Progress, StreamOpening
from catga_sync.receiver.refusal import OK, Reason
from catga_sync.receiver.request import RawRequest
from catga_sync.wire.envelope import ResponseEnvelope, well_formed_id
from catga_sync.wire.form import WireForm
from catga_sync.wire.headers import REQUEST_ID
from catga_sync.wire.routes import BATCH_PATH, DRAIN_PATH, INVOKE_PATH, NODE_PATH, STREAM_PATH

__all__ = ["RawResponse", "fitting", "name_request", "served_details", "times_of"]

#: What hooks call the routes.
_ROUTE_NAMES = {
    INVOKE_PATH: "invoke",
    BATCH_PATH: "batch",
    NODE_PATH: "node",
    DRAIN_PATH: "drain",
    STREAM_PATH: "stream",
}


_REQUEST_ID = REQUEST_ID.lower()

#: What hooks are told as the status of a response that nobody is there to read; proxies log it so.
_CALLER_GONE = 499


class RawResponse(NamedTuple):
    """What goes back. Immutable."""

    status: int
    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})
    #: For which it may be written; a caller that has not read it by then has given up.
    seconds: float = 30.0
    #: The stream that begins after it; it has the status 101 then, and its body is signed and does not travel.
    stream: StreamOpening | None = None


def fitting(
    form: WireForm, response: ResponseEnvelope, executed: str, room: int, too_long: Callable[[], ResponseEnvelope]
) -> bytes:
    """
    Return an item of a batch in at most ``room`` bytes: the rest is for the other items.

    Args:
        form: Writes it.
        response: The response.
        executed: What ``Catga-Executed`` would be.
        room: Bytes.
        too_long: Returns what is responded instead where there is no room for the payload.
    """
    item = form.batch_item(response, executed)
    if len(item) > room and response.payload is not None:
        response = too_long()
        item = form.batch_item(response, executed)
    if len(item) > room:
        # A text may be cut, what became of the request may not.
        text = response.error_message or ""
        text = text[: max(0, len(text) - (len(item) - room))]
        item = form.batch_item(response._replace(error_message=text), executed)
    if len(item) > room:  # a code of the application's own, of many letters that are not ASCII
        response = response._replace(error_message="", error_code=Reason.RESPONSE_TOO_LONG.code)
        item = form.batch_item(response, executed)
    return item


def name_request(raw: RawRequest, progress: Progress) -> None:
    """Note the id in the head of a request that is refused, unless that in its envelope is noted."""
    given = raw.headers.get(_REQUEST_ID)
    if progress.request_id == UNKNOWN and well_formed_id(given):
        progress.request_id = str(given)


def served_details(raw: RawRequest, progress: Progress, status: int, bytes_out: int) -> ServedDetails:
    """Return what hooks are told of an exchange, whose response is about to be written."""
    # A refusal is told as it is: the end of a body that is too short may be that of a caller who reads on.
    if status == OK and raw.hung_up is not None and raw.hung_up():
        status, bytes_out = _CALLER_GONE, 0
    replayed = progress.replayed_items + (progress.replayed and not progress.refusals)
    route, took = _ROUTE_NAMES.get(raw.path, "other"), time.monotonic() - progress.arrived
    return made(
        ServedDetails,
        (route, raw.way, status, progress.refusals, replayed, progress.body_bytes, bytes_out, took),
    )


def times_of(progress: Progress) -> str:
    """Return when a request came and when its response is made, as ``Catga-Times`` has them."""
    now = time.time()
    came = now - (time.monotonic() - progress.arrived)
    return f"{int(came * 1e6)},{int(now * 1e6)}"
