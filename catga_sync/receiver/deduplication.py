"""A request id runs once: the second time it gets the stored response.

    new                     run it, keep the response
    has a response          that response again
    running now             wait for its response, a second at most; then ABORTED
    left behind unfinished  ABORTED: the process died while it ran, so it may have run; it is not run again
    refused, not run        released: it may run the next time
    another payload         INVALID_ARGUMENT
    in another store        FAILED_PRECONDITION, not run: the caller relies on a store that is not the one here

A store that is down is no store: a plain request is refused then, since nothing can tell whether it ran before; one
that may run twice goes on.
"""

from __future__ import annotations

import hashlib
import logging
from typing import NamedTuple

from catga_sync._log_limit import LimitedLog
from catga_sync._redaction import shown
from catga_sync.errors import ends_process
from catga_sync.idempotency.base import Claim, ClaimState, IdempotencyStore
from catga_sync.idempotency.identity import StoreIdentity
from catga_sync.idempotency.memory import MemoryIdempotency
from catga_sync.receiver.call import CallMeta, Progress
from catga_sync.receiver.refusal import Reason, Refused
from catga_sync.wire.envelope import EnvelopeError, RequestEnvelope, ResponseEnvelope

__all__ = ["Deduplication", "Turn", "other_store"]

#: Seconds for which a duplicate waits for the response of the first.
_LONGEST_WAIT = 1.0
#: Seconds on top of the deadline after which a claim counts as left behind.
_LEASE_MARGIN = 30.0
#: Bytes of a written response beside its payload and its text, roughly.
_REST = 200

#: To look up the member of an Enum takes as long as a call.
_NEW, _RUNNING = ClaimState.NEW, ClaimState.RUNNING

_DOWN = "the idempotency store is down"

_log = logging.getLogger(__name__)


def other_store(why: str, cause: str | None = None) -> Refused:
    """Return the refusal of a request whose caller relies on a store that the node does not have."""
    text = f"the node does not keep request ids in the store on which the caller relies: {why}"
    return Refused(Reason.OTHER_STORE, text, cause=cause)


class Turn(NamedTuple):
    """The right to run a request now. Immutable."""

    key: str
    #: That of the claim; "" where the store is down and the request may run twice.
    token: str


class Deduplication:
    """
    Keeps request ids from running twice. Thread-safe.

    Args:
        store: Remembers ids and responses.
        limited_log: Bounds the lines that are logged; None means one of its own.

    .. versionadded:: 0.1
    """

    def __init__(self, store: IdempotencyStore, limited_log: LimitedLog | None = None) -> None:
        self.store = store
        #: A store of this process keeps the response itself: nearly none is ever written. A class of the application's
        #: own may see to its responses in ``complete``.
        self._memory = store if type(store) is MemoryIdempotency else None
        self.identity = StoreIdentity(store)
        self._limited_log = LimitedLog() if limited_log is None else limited_log

    def begin(
        self, type_name: str, envelope: RequestEnvelope, meta: CallMeta, progress: Progress, *, repeatable: bool
    ) -> ResponseEnvelope | Turn:
        """
        Return the right to run a request, or the response that it was given before.

        Args:
            type_name: What the type of the request is called here; the envelope may have any of its names.
            envelope: The request.
            meta: What came with it.
            progress: Of the request; a request that ran, or may have run, before is noted in it.
            repeatable: Whether the request may run twice.

        Returns:
            A ``Turn``, which ``finish`` wants when the request has run; or the stored response.

        Raises:
            Refused: The request may not run, and there is no response to give again.
        """
        key = "\n".join((envelope.source_node_id or "-", type_name, envelope.request_id))
        fingerprint = hashlib.sha256(envelope.payload).hexdigest()
        deadline = meta.deadline
        try:
            claim = self.store.claim(key, fingerprint, max(0.0, deadline.at - deadline.monotonic()) + _LEASE_MARGIN)
            if claim.state is _RUNNING:
                claim = self.store.wait(key, max(0.0, min(deadline.remaining(), _LONGEST_WAIT)))
                if claim.state is _NEW:
                    # The first one did not start after all: this one may.
                    claim = self.store.claim(key, fingerprint, max(0.0, deadline.remaining()) + _LEASE_MARGIN)
        except BaseException as exc:  # a store of the application's own
            if ends_process(exc):
                raise
            cause = f"{_DOWN}: {shown(exc)}"
            if repeatable:
                self._limited_log.log(_log, logging.ERROR, _DOWN, "%s", cause)
                return Turn(key, "")
            text = "it is unknown whether this request ran before: the idempotency store of the node is down"
            raise Refused(Reason.STORE_DOWN, text, cause=cause) from exc
        if claim.state is _NEW and claim.token:
            turn = Turn(key, claim.token)
            if meta.store is not None:
                self._check_store(meta.store, turn, progress)
            return turn
        return _again(claim, envelope.request_id, progress)

    def finish(self, turn: Turn, response: ResponseEnvelope | None, progress: Progress) -> None:
        """
        Keep the response of a request that ran, or release the id of one that did not.

        Args:
            turn: What ``begin`` has returned.
            response: None where there is none, since the request was refused or the receiver failed.
            progress: Says whether it ran.
        """
        if not turn.token:
            return
        # The response goes out whatever happens here: the claim counts as left behind later.
        try:
            if progress.executed:
                if response is not None:
                    self._complete(turn, response)
            elif not progress.uncertain:
                # The handler was not started, for example because a behaviour refused: the same id may run later.
                self.store.release(turn.key, turn.token)
            # Else it may have run, and it counts as left behind when its lease is up.
        except BaseException as exc:  # a store of the application's own
            if ends_process(exc):
                raise
            self._limited_log.log(_log, logging.ERROR, _DOWN, f"{_DOWN}: %s", shown(exc))

    def _complete(self, turn: Turn, response: ResponseEnvelope) -> None:
        if self._memory is None:
            self.store.complete(turn.key, turn.token, response.encode())
            return
        size = _REST + len(response.payload or b"") * 4 // 3 + len(response.error_message or "")
        self._memory.keep(turn.key, turn.token, response.encode, size)

    def close(self) -> None:
        """Let go of the store."""
        self.store.close()

    def _check_store(self, relied_on: str, turn: Turn, progress: Progress) -> None:
        """Give a claim back, and refuse the request, if it was made in another store than the caller relies on."""
        present, why, cause = None, "it has another one", None
        try:
            # After the claim: one that was emptied or replaced before it has another identity by now.
            present = self.identity.read()
        except BaseException as exc:  # a store of the application's own
            if ends_process(exc):
                raise
            why, cause = "the identity of its own store cannot be read", f"{_DOWN}: {shown(exc)}"
        if present != relied_on:
            self.finish(turn, None, progress)
            raise other_store(why, cause)


def _again(claim: Claim, request_id: str, progress: Progress) -> ResponseEnvelope:
    """Return the stored response of a request that was seen before; refuse it where there is none to give again."""
    if claim.state is ClaimState.MISMATCH:
        text = "this request id was used before with another payload; make a new id for a new request"
        raise Refused(Reason.OTHER_PAYLOAD, text)
    if claim.state is ClaimState.DONE:
        progress.executed = progress.replayed = True
        if claim.body is None:
            raise Refused(Reason.RESPONSE_NOT_KEPT, "the request ran before; its response was too long to be kept")
        try:
            return ResponseEnvelope.decode(claim.body)
        except EnvelopeError as exc:
            raise Refused(Reason.RESPONSE_SPOILT, "the request ran before; its stored response is spoilt") from exc
    progress.uncertain = True
    if claim.state is ClaimState.LOST:
        text = "the request was left behind unfinished when its process died; it may have run once"
        raise Refused(Reason.LEFT_BEHIND, text)
    raise Refused(Reason.STILL_RUNNING, f"request {request_id} is running already; wait for its response")
