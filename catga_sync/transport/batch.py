"""Batches: several requests to one node in one exchange, and an answer for each of them.

A batch is cut where the node would refuse it as a whole: where it has more requests, or more bytes, than one may have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from catga_sync.results import CatgaResult
from catga_sync.transport.http.connection import Exchange
from catga_sync.transport.outcome import Answer, Call
from catga_sync.wire.envelope import MAX_BATCH, STAMP_LENGTH, EnvelopeError, ReplyEnvelope, read_batch_reply, stamped

__all__ = ["FRAME", "Item", "judge_batch", "parts", "write_batch"]

#: Bytes of a batch around its items.
FRAME = 32


class Item(NamedTuple):
    """One request of a batch."""

    #: Which of all the requests it is.
    number: int
    call: Call
    #: Its envelope, but for the time of sending.
    unstamped: bytes

    @property
    def length(self) -> int:
        """Bytes that it adds to a batch."""
        return len(self.unstamped) + STAMP_LENGTH + 1


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
        if part and (len(part) == MAX_BATCH or length + item.length > max_bytes):
            yield part
            part, length = [], FRAME
        part.append(item)
        length += item.length
    if part:
        yield part


def write_batch(part: list[Item], clock: Callable[[], float]) -> bytes:
    """Return the body of a batch that is sent now, by a clock that tells seconds since the epoch."""
    now = clock()
    return b'{"requests":[%b]}' % b",".join(stamped(item.unstamped, now) for item in part)


def judge_batch(calls: list[Call], answer: Answer, exchange: Exchange) -> list[CatgaResult[Any]]:
    """Judge what came back for a batch: a ``Judge``."""
    status, executed = answer.status, answer.headers.get("Catga-Executed")
    try:
        replies = read_batch_reply(answer.body) if status == 200 else [(ReplyEnvelope.decode(answer.body), executed)]
    except EnvelopeError as exc:
        exchange.retire()
        return [call.no_envelope(status, exc) for call in calls]
    if status != 200:
        # The batch as a whole was refused, under the id of its first item.
        ((refusal, _),) = replies
        if refusal.request_id != calls[0].request_id:
            exchange.retire()
        return [call.refused_whole(refusal, status, executed, calls[0].request_id) for call in calls]
    answers = {reply.request_id: (reply, ran) for reply, ran in replies}
    if len(answers) != len(calls) or any(call.request_id not in answers for call in calls):
        exchange.retire()
        return [call.crossed() for call in calls]
    return [call.answered(answers[call.request_id][0], 200, answers[call.request_id][1]) for call in calls]
