"""Requests as envelopes over a channel: written, signed, sent once, and the response judged.

Rules of this file:
1. One call, one attempt. Trying again is for ``cluster/failover.py``, which knows the other nodes.
2. Whatever happens on the way becomes a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync._log_limit import LimitedLog
from catga_sync.context import CallContext
from catga_sync.errors import ConfigurationError, Delivery, SerializationError
from catga_sync.messages import Request
from catga_sync.nodes import ClusterNode
from catga_sync.results import OTHER_NODE, RETRY, CatgaResult
from catga_sync.serialization import MessageRegistry, jsontext
from catga_sync.transport.base import Channel, ExchangeFailed
from catga_sync.transport.batch import FRAME, Item, judge_batch, parts, write_batch
from catga_sync.transport.outcome import Judge, Outcome, judge_one
from catga_sync.transport.proof import Proof, judge_unproven
from catga_sync.transport.signing import MISDIRECTED, Signing
from catga_sync.wire.call_path import write_chain
from catga_sync.wire.envelope import MAX_TIME_MS, STAMP_LENGTH, RequestEnvelope, stamped
from catga_sync.wire.headers import CHAIN, EXECUTED, REQUEST_ID, STORE, TIMEOUT, TRACEPARENT, TRACESTATE
from catga_sync.wire.routes import BATCH_PATH, INVOKE_PATH

__all__ = ["EnvelopeInvoker"]

T = TypeVar("T")


#: Makes the body of a request that is sent at that time, in seconds since the epoch: the time stands in it.
_Write = Callable[[float], bytes]


class EnvelopeInvoker:
    """
    Sends requests to other nodes as envelopes. Thread-safe, and safe after a fork as far as its channel is.

    Args:
        registry: The message types.
        channel: Carries the bytes.
        source_node_id: The id of this node, told to the peer.
        max_body_bytes: The longest request that is sent.
        signing: Signs requests and checks responses; None means that neither is signed.
        proof: Knows which peers sign; None means that none has to show it before it is called.
        limited_log: Bounds the failures that are logged; None means one of its own.
        clock: None means the system's.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        registry: MessageRegistry,
        channel: Channel,
        *,
        source_node_id: str | None = None,
        max_body_bytes: int = 4 * 1024 * 1024,
        signing: Signing | None = None,
        proof: Proof | None = None,
        limited_log: LimitedLog | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._registry = registry
        self._channel = channel
        self._source_node_id = source_node_id
        self._max_body_bytes = max_body_bytes
        self._signing = signing
        self._proof = proof
        self._clock = SYSTEM_CLOCK if clock is None else clock
        self._limited_log = LimitedLog(self._clock) if limited_log is None else limited_log

    def invoke(self, node: ClusterNode, request: Request[T], *, timeout: float, call: CallContext) -> CatgaResult[T]:
        """See ``RemoteInvoker``."""
        expires = self._clock.monotonic() + timeout
        outcome, envelope = self._prepare(node, request, call)
        return envelope if isinstance(envelope, CatgaResult) else self._send(outcome, envelope, expires)

    def invoke_raw(
        self,
        node: ClusterNode,
        type_name: str,
        payload: bytes,
        *,
        response_name: str,
        timeout: float,
        call: CallContext,
    ) -> CatgaResult[bytes]:
        """
        Send a request whose class this process does not have; once, and to no other node.

        Args:
            node: Where to.
            type_name: What the node calls the request type.
            payload: JSON in UTF-8; it is sent as it is.
            response_name: What the node calls the type of the response; "" where there is none.
            timeout: Seconds in which it must return.
            call: The call.

        Returns:
            The JSON of the response, checked but not read, or a failure. It raises nothing.
        """
        expires = self._clock.monotonic() + timeout
        outcome = Outcome(node, type_name, _checked_json, call, self._limited_log)
        envelope = RequestEnvelope(type_name, response_name or "none", payload, call.request_id, self._source_node_id)
        return self._send(outcome, envelope, expires)

    def invoke_batch(
        self, node: ClusterNode, requests: Sequence[Request[Any]], *, timeout: float, calls: Sequence[CallContext]
    ) -> list[CatgaResult[Any]]:
        """
        Send several requests to one node in one round trip; return their results in the same order.

        Args:
            node: Where to; it must have said that it takes batches.
            requests: The messages.
            timeout: Seconds for all of them together.
            calls: One for each message.
        """
        expires = self._clock.monotonic() + timeout
        results: dict[int, CatgaResult[Any]] = {}
        ready: list[Item] = []
        for index, (request, call) in enumerate(zip(requests, calls, strict=True)):
            outcome, envelope = self._prepare(node, request, call)
            if isinstance(envelope, CatgaResult):
                results[index] = envelope
                continue
            item = Item(index, outcome, envelope.unstamped())
            if item.length + FRAME > self._max_body_bytes:
                results[index] = outcome.too_long(item.length, self._max_body_bytes)
            else:
                ready.append(item)
        waiting = list(parts(ready, self._max_body_bytes))
        while waiting:
            part = waiting.pop(0)
            outcomes = [item.outcome for item in part]
            told = self._exchange(node, BATCH_PATH, outcomes, partial(write_batch, part), expires, judge_batch)
            if len(part) > 1 and all(_too_much(result) for result in told):
                # The node takes less at once than this one sends: what is too long together may fit alone.
                waiting[:0] = [part[: len(part) // 2], part[len(part) // 2 :]]
            else:
                results.update(zip([item.number for item in part], told, strict=True))
        return [results[index] for index in range(len(results))]

    def close(self) -> None:
        """See ``RemoteInvoker``."""
        self._channel.close()

    def tidy(self, nodes: Iterable[ClusterNode]) -> None:
        """See ``UpkeptInvoker``."""
        present = list(nodes)
        if self._proof is not None:
            self._proof.keep_only(present)
        self._channel.tidy(present)

    def forget(self) -> None:
        """See ``UpkeptInvoker``."""
        if self._proof is not None:
            self._proof.forget()
        self._channel.forget()

    def _prepare(
        self, node: ClusterNode, request: Request[Any], call: CallContext
    ) -> tuple[Outcome, RequestEnvelope | CatgaResult[Any]]:
        entry = self._registry.ensure(type(request))
        response_codec = entry.response_codec
        decode = None if response_codec is None else response_codec.decode
        outcome = Outcome(node, entry.name, decode, call, self._limited_log)
        try:
            payload = entry.codec.encode(request)
        except SerializationError as exc:
            return outcome, outcome.unwritable(exc)
        response_name = entry.response_name or "none"
        return outcome, RequestEnvelope(entry.name, response_name, payload, call.request_id, self._source_node_id)

    def _send(self, outcome: Outcome, envelope: RequestEnvelope, expires: float) -> CatgaResult[Any]:
        unstamped = envelope.unstamped()
        length = len(unstamped) + STAMP_LENGTH
        if length > self._max_body_bytes:
            return outcome.too_long(length, self._max_body_bytes)
        return self._exchange(
            outcome.node, INVOKE_PATH, [outcome], lambda now: stamped(unstamped, now), expires, judge_one
        )[0]

    def _exchange(
        self,
        node: ClusterNode,
        path: str,
        outcomes: list[Outcome],
        write: _Write,
        expires: float,
        judge: Judge,
        *,
        again: bool = False,
    ) -> list[CatgaResult[Any]]:
        """Make one exchange that carries all these attempts; return a result for each."""
        left = expires - self._clock.monotonic()
        if left <= 0:
            return [outcome.expired(Delivery.NOT_EXECUTED, "before it was sent") for outcome in outcomes]
        unproven = None if self._proof is None else self._proof.missing(node, left)
        if unproven is not None:
            return [judge_unproven(outcome, unproven) for outcome in outcomes]
        signing = self._signing
        if signing is not None and (node.signed is False or not signing.covers(node.endpoint)):
            signing = None
        body = write(self._clock.time())
        headers = write_headers(outcomes[0].call, expires - self._clock.monotonic())
        renew = None
        try:
            if signing is not None:
                meant = signing.meant(node.node_id, node.incarnation)
                signed = signing.sign("POST", path, node.node_id, meant, headers, body)
                renew = signed.renew
            response = self._channel.exchange(node, path, headers, body, expires, renew)
        except ExchangeFailed as exc:
            return [outcome.broken(exc) for outcome in outcomes]
        except ConfigurationError as exc:
            return [outcome.unsigned(exc) for outcome in outcomes]
        if signing is not None:
            run = signing.signer(signed.nonce, node.node_id, response.status, response.headers, response.body)
            if run is None and signing.needs_proof(node):
                response.retire()
                return [outcome.not_authentic(response.status) for outcome in outcomes]
            misdirected = response.status == MISDIRECTED and response.headers.get(EXECUTED) == "0"
            if run is not None and misdirected and not again:
                # The node was restarted, and has not run this: once more, signed for the run that it names.
                signing.named(node.node_id, node.incarnation, run)
                return self._exchange(node, path, outcomes, write, expires, judge, again=True)
        return judge(outcomes, response)


def write_headers(call: CallContext, left: float) -> dict[str, str]:
    """Return the headers of a request that has so many seconds left."""
    headers = {
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": "catga-sync",
        REQUEST_ID: call.request_id,
        TIMEOUT: str(max(1, min(MAX_TIME_MS, int(left * 1000)))),
    }
    if call.chain:
        headers[CHAIN] = write_chain(call.chain)
    if call.store is not None:
        headers[STORE] = call.store
    headers[TRACEPARENT], state = call.trace()
    if state is not None:
        headers[TRACESTATE] = state
    return headers


def _too_much(result: CatgaResult[Any]) -> bool:
    """Return whether a node has refused a request since the body was too long for it."""
    refused = result.delivery is Delivery.NOT_EXECUTED and result.node_id is not None
    return refused and result.metadata.get(RETRY) == OTHER_NODE


def _checked_json(raw: bytes) -> bytes:
    jsontext.loads(raw)
    return raw
