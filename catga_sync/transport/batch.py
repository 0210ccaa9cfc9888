"""Batches: several requests to one node in one exchange, and a response for each of them.

A batch is cut where the node would refuse it as a whole: where it has more requests, or more bytes, than one may have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from catga_sync.errors import Delivery
from catga_sync.results import OTHER_NODE, RETRY, CatgaResult
from catga_sync.transport.base import Response
from catga_sync.transport.outcome import Outcome
from catga_sync.wire.envelope import MAX_BATCH, EnvelopeError
from catga_sync.wire.form import JSON, WireForm
from catga_sync.wire.headers import EXECUTED

__all__ = ["FRAME", "Item", "judge_batch", "parts", "share_out", "was_too_long", "write_part"]

#: Bytes of a batch around its items.
FRAME = 32


class Item(NamedTuple):
    """One request of a batch."""

    #: Which of all the requests it is.
    number: int
    outcome: Outcome
    #: Its envelope, but for the time of sending.
    unstamped: bytes
    #: Bytes that it adds to a batch, what separates it from the next one included.
    length: int


def parts(items: Iterable[Item], max_bytes: int) -> Iterator[list[Item]]:
    """
    Cut a batch into as many as are needed.

    Args:
        items: The requests, in order; each of them fits.
        max_bytes: The longest body.
    """
    part: list[Item] = []
    length = FRAME
    for item in items:
        added = item.length
        if part and (len(part) == MAX_BATCH or length + added > max_bytes):
            yield part
            part, length = [], FRAME
        part.append(item)
        length += added
    if part:
        yield part


def write_part(form: WireForm, part: Iterable[Item], now: float) -> bytes:
    """Return the body of a part that is sent now, in seconds since the epoch."""
    return form.write_batch(form.stamped(item.unstamped, now) for item in part)


def was_too_long(result: CatgaResult[Any]) -> bool:
    """Return whether a node has refused a request since the body was too long for it."""
    refused = result.delivery is Delivery.NOT_EXECUTED and result.node_id is not None
    return refused and result.metadata.get(RETRY) == OTHER_NODE


def share_out(part: list[Item], measured: Mapping[str, Any]) -> None:
    """
    Give the outcome of each item what was measured in the exchange of the batch.

    Times are those of the exchange. Bytes are shared out, so that their sum over the items is that of the batch: those
    sent by the length of the items, those received in equal parts. Those of an earlier exchange are added.
    """
    sent, received = measured.get("sent_bytes"), measured.get("received_bytes")
    lengths = [item.length for item in part]
    # The first one has what is left over.
    frame = 0 if sent is None else sent - sum(lengths)
    each, rest = (0, 0) if received is None else divmod(received, len(part))
    for item, length in zip(part, lengths, strict=True):
        before = item.outcome.measured
        shares: dict[str, Any] = {**before, **measured}
        if sent is not None:
            shares["sent_bytes"] = before.get("sent_bytes", 0) + length + frame
        if received is not None:
            shares["received_bytes"] = before.get("received_bytes", 0) + each + rest
        frame = rest = 0
        item.outcome.measured = shares


def judge_batch(outcomes: list[Outcome], response: Response, form: WireForm = JSON) -> list[CatgaResult[Any]]:
    """Judge what came back for a batch; return a result for each attempt in it."""
    status, executed = response.status, response.headers.get(EXECUTED)
    try:
        envelopes = (
            form.read_batch_response(response.body)
            if status == 200
            else [(form.read_response(response.body), executed)]
        )
    except EnvelopeError as exc:
        response.retire()
        return [outcome.no_envelope(status, exc) for outcome in outcomes]
    first = outcomes[0].call.request_id
    if status != 200:
        # The batch as a whole was refused, under the id of its first item.
        ((refusal, _),) = envelopes
        if refusal.request_id != first:
            response.retire()
        return [outcome.refused_whole(refusal, status, executed, first) for outcome in outcomes]
    by_id = {envelope.request_id: (envelope, ran) for envelope, ran in envelopes}
    found = [by_id.get(outcome.call.request_id) for outcome in outcomes]
    if len(by_id) != len(outcomes) or None in found:
        response.retire()
        return [outcome.crossed() for outcome in outcomes]
    return [outcome.responded(each[0], 200, each[1]) for outcome, each in zip(outcomes, found, strict=True) if each]
