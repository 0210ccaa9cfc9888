"""Requests as envelopes over a channel: written, signed, sent once, and the response judged.

Rules of this file:
1. One call is one attempt at one node. It is sent again only if the node refuses the incarnation in the signature (421)
   or the coding of the body (415), so has not run it. Further attempts are made by ``cluster/failover.py``.
2. Whatever happens on the way becomes a result.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync._log_limit import LimitedLog
from catga_sync._redaction import shown
from catga_sync.context import CallContext
from catga_sync.errors import ConfigurationError, Delivery, ErrorCode, SerializationError
from catga_sync.messages import Request
from catga_sync.nodes import STREAM, ClusterNode
from catga_sync.results import CatgaResult
from catga_sync.serialization import MessageRegistry, jsontext
from catga_sync.transport.base import Channel, ExchangeFailed, Response
from catga_sync.transport.batch import FRAME, Item, judge_batch, parts, share_out, was_too_long, write_part
from catga_sync.transport.compression import compressed, decompressed, is_refusal
from catga_sync.transport.outcome import Outcome, judge_one
from catga_sync.transport.proof import Proof, judge_unproven
from catga_sync.transport.request_headers import write_headers
from catga_sync.transport.signing import MISDIRECTED, Signing
from catga_sync.transport.stream import StreamChannel
from catga_sync.transport.stream_attempt import send_over_stream
from catga_sync.transport.way import Way, Ways
from catga_sync.wire.form import JSON, Head, WireForm
from catga_sync.wire.frames import CallHead
from catga_sync.wire.headers import (
    EXECUTED,
    TIMES,
)
from catga_sync.wire.routes import BATCH_PATH, INVOKE_PATH

__all__ = ["EnvelopeInvoker"]

T = TypeVar("T")

_log = logging.getLogger(__name__)


#: Makes a failure of the outcome of an attempt.
_Failure = Callable[[Outcome], CatgaResult[Any]]


class _Kind(NamedTuple):
    """What the requests of one type have in common."""

    name: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any] | None
    response_name: str
    #: The head of its envelopes in JSON, and in the forms that were needed.
    head: Head
    heads: dict[WireForm, Head]
    #: What its calls over streams have in common.
    call_head: CallHead


class EnvelopeInvoker:
    """
    Sends requests to other nodes as envelopes. Thread-safe, and safe after a fork as far as its channel is.

    Args:
        registry: The message types.
        channel: Carries the bytes.
        source_node_id: The id of this node, which is sent to the peer.
        max_body_bytes: The longest request that is sent, and the longest response once it is decompressed.
        compresses: Whether requests are compressed for nodes that offer it, and compressed responses asked for.
        signing: Signs requests and checks responses; None means that neither is signed.
        proof: Checks that a peer signs before the first call; None means no check.
        streams: Carries single calls to nodes that offer streams; None means that all go over ``channel``.
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
        compresses: bool = True,
        signing: Signing | None = None,
        proof: Proof | None = None,
        streams: StreamChannel | None = None,
        limited_log: LimitedLog | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._registry = registry
        self._channel = channel
        self._streams = streams
        self._source_node_id = source_node_id
        self._max_body_bytes = max_body_bytes
        self._proof = proof
        self._clock = SYSTEM_CLOCK if clock is None else clock
        self._limited_log = LimitedLog(self._clock) if limited_log is None else limited_log
        # Caches; two threads that fill the same place at once put the same there.
        self._kinds: dict[type, _Kind] = {}
        self._ways = Ways(channel, signing, shows_first=proof is not None, compresses=compresses)

    def invoke(self, node: ClusterNode, request: Request[T], *, timeout: float, call: CallContext) -> CatgaResult[T]:
        """See ``RemoteInvoker``."""
        expires = self._clock.monotonic() + timeout
        kind = self._kinds.get(type(request)) or self._kind_of(type(request))
        measured: dict[str, Any] = {}
        outcome = Outcome(node, kind.name, kind.decode, call, self._limited_log, measured)
        try:
            payload = kind.encode(request)
        except SerializationError as exc:
            return outcome.unwritable(exc)
        way = self._ways.last.get(node.node_id)  # as Ways.to, with one call less
        if way is None or way.node is not node or way.has_choice:
            way = self._ways.to(node)
        form = way.form
        if self._streams is not None and STREAM in node.features and form is JSON:
            result = send_over_stream(
                self._streams,
                way,
                kind.call_head,
                payload,
                outcome,
                measured,
                expires,
                self._clock,
                self._max_body_bytes,
            )
            if result is not None:
                return result
        head = kind.head if form is JSON else kind.heads.get(form) or self._head_of(kind, form)
        write = partial(form.stamped, head.unstamped(payload, call.request_id))
        came = self._exchange(way, INVOKE_PATH, call, write, expires, measured)
        if came is _other_way:
            return self.invoke(node, request, timeout=expires - self._clock.monotonic(), call=call)
        return judge_one(outcome, came, form) if isinstance(came, Response) else came(outcome)

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
        measured: dict[str, Any] = {}
        outcome = Outcome(node, type_name, _checked_json, call, self._limited_log, measured)
        for _ in range(2):
            way = self._ways.to(node)
            head = way.form.head(type_name, response_name or "none", self._source_node_id)
            write = partial(way.form.stamped, head.unstamped(payload, call.request_id))
            came = self._exchange(way, INVOKE_PATH, call, write, expires, measured)
            if came is not _other_way:
                break
        return judge_one(outcome, came, way.form) if isinstance(came, Response) else came(outcome)

    def invoke_batch(
        self, node: ClusterNode, requests: Sequence[Request[Any]], *, timeout: float, calls: Sequence[CallContext]
    ) -> list[CatgaResult[Any]]:
        """
        Send several requests to one node in one round trip; return their results in the same order.

        Args:
            node: Where to; it must have declared that it accepts batches.
            requests: The messages.
            timeout: Seconds for all of them together.
            calls: One for each message. The path, the store, the trace state and the baggage
                of the first one count for all of them; each has a traceparent of its own.
        """
        expires = self._clock.monotonic() + timeout
        way = self._ways.to(node)
        form = way.form
        results: dict[int, CatgaResult[Any]] = {}
        ready: list[Item] = []
        for index, (request, item_call) in enumerate(zip(requests, calls, strict=True)):
            kind = self._kinds.get(type(request)) or self._kind_of(type(request))
            outcome = Outcome(node, kind.name, kind.decode, item_call, self._limited_log)
            head = kind.heads.get(form) or self._head_of(kind, form)
            parent = item_call.traceparent  # the headers have that of the first call
            own = None if parent == calls[0].traceparent else parent
            try:
                unstamped = head.unstamped(kind.encode(request), item_call.request_id, own)
            except SerializationError as exc:
                results[index] = outcome.unwritable(exc)
                continue
            length = len(unstamped) + form.added
            if length + FRAME > self._max_body_bytes:
                results[index] = outcome.too_long(length, self._max_body_bytes)
            else:
                ready.append(Item(index, outcome, unstamped, length))
        waiting = list(parts(ready, self._max_body_bytes))
        while waiting:
            part = waiting.pop(0)
            # Under the id of its first request, and in each part by the way and with the store of the whole batch.
            call = replace(calls[0], request_id=part[0].outcome.call.request_id)
            measured: dict[str, Any] = {}
            came = self._exchange(way, BATCH_PATH, call, partial(write_part, form, part), expires, measured)
            share_out(part, measured)
            outcomes = [item.outcome for item in part]
            if isinstance(came, Response):
                judged = judge_batch(outcomes, came, form)
            elif came is _other_way:
                numbers = [item.number for item in part]
                left = expires - self._clock.monotonic()
                judged = self.invoke_batch(
                    node, [requests[each] for each in numbers], timeout=left, calls=[calls[each] for each in numbers]
                )
            else:
                judged = [came(each) for each in outcomes]
            if len(part) > 1 and all(was_too_long(result) for result in judged):
                # The body limit of the node is lower: smaller parts may fit.
                waiting[:0] = [part[: len(part) // 2], part[len(part) // 2 :]]
            else:
                results.update(zip([item.number for item in part], judged, strict=True))
        return [results[index] for index in range(len(results))]

    def close(self) -> None:
        """See ``RemoteInvoker``."""
        self._channel.close()
        if self._streams is not None:
            self._streams.close()

    def tidy(self, nodes: Iterable[ClusterNode]) -> None:
        """See ``UpkeptInvoker``."""
        self._limited_log.tell_left_out()
        present = list(nodes)
        self._ways.tidy(present)
        if self._proof is not None:
            self._proof.keep_only(present)
        self._channel.tidy(present)
        if self._streams is not None:
            self._streams.tidy(present)

    def way_to(self, node: ClusterNode) -> str:
        """Return how the next call to a node travels: ``post``, ``stream`` or ``grpc``."""
        way = self._ways.last.get(node.node_id)  # as in ``invoke``
        if way is None or way.node is not node or way.has_choice:
            way = self._ways.to(node)
        streams = self._streams
        if streams is not None and way.form is JSON and streams.why_not(node) is None:
            return "stream"
        return way.name

    def why_not_stream(self, node: ClusterNode) -> str | None:
        """Return why the next call to a node that is called over HTTP does not go over a stream; None if it does."""
        if self._streams is None:
            return "streams are off"
        return self._streams.why_not(node)

    def _exchange(
        self,
        way: Way,
        path: str,
        call: CallContext,
        write: Callable[[float], bytes],
        expires: float,
        measured: dict[str, Any],
    ) -> Response | _Failure:
        """
        Make one exchange.

        Args:
            way: The way to the node.
            path: The route there.
            call: The call, or the first of those that travel together: its headers are sent.
            write: Makes the body of a request that is sent at that time, in seconds since the epoch.
            expires: The monotonic time at which it ends.
            measured: Gets the times and the bytes of the exchange, as the metadata of a result has them.

        Returns:
            The response, or what makes a failure of the outcome of each attempt that is part of the exchange; or
            ``_other_way`` if nothing was sent, and there is another channel to the node.
        """
        node = way.node
        left = expires - self._clock.monotonic()
        if left <= 0:
            return _expired
        if way.shows_first and self._proof is not None:
            probe = self._proof.missing(node, left)
            if probe is not None:
                return partial(judge_unproven, probe=probe)
            way.shows_first = False
        again = False
        while True:
            sent = self._clock.time()
            body = write(sent)
            if len(body) > self._max_body_bytes:
                return partial(Outcome.too_long, size=len(body), limit=self._max_body_bytes)
            offset = way.clock.offset
            there = None if offset is None else sent + offset
            headers = write_headers(call, expires - self._clock.monotonic(), way.form.content_type, there)
            coding, signing, signed, run = way.coding, way.signing, None, None
            if coding is not None:
                body = compressed(coding, headers, body)
            try:
                if signing is not None:
                    signed = signing.sign("POST", path, node.node_id, way.incarnation, headers, body)
                renew = None if signed is None else signed.renew
                response = way.channel.exchange(node, path, headers, body, expires, renew)
            except ExchangeFailed as exc:
                if way.has_choice and not exc.sent and way.form is not JSON:
                    self._avoid(node)
                    return _other_way
                _log.debug("%s: %s", call.ids, shown(exc.__cause__))
                if exc.sent:
                    measured["sent_bytes"] = len(body)
                # Without the exception: by its traceback it would keep the connection.
                return partial(Outcome.broken, what=exc.what, sent=exc.sent, code=exc.code, layer=exc.layer)
            except ConfigurationError as exc:
                return partial(Outcome.unsigned, reason=str(exc))
            measured["sent_bytes"] = measured.get("sent_bytes", 0) + len(body)
            measured["received_bytes"] = measured.get("received_bytes", 0) + len(response.body)
            times = response.headers.get(TIMES)
            found = None if times is None else way.clock.sample(sent, self._clock.time(), times)
            if found is not None:
                measured["wire_ms"], measured["backlog_ms"] = found[0] * 1e3, found[1] * 1e3
            if signing is not None and signed is not None:
                run = signing.signer(signed.nonce, node.node_id, response.status, response.headers, response.body)
                if run is None and signing.needs_proof(node):
                    response.retire()
                    return partial(Outcome.not_authentic, status=response.status)
                misdirected = response.status == MISDIRECTED and response.headers.get(EXECUTED) == "0"
                if run is not None and misdirected and not again:
                    # The node was restarted, and has not run this: sent once more, signed for its new incarnation.
                    signing.note_incarnation(node.node_id, node.incarnation, run)
                    way.incarnation = run
                    again = True
                    continue
            if coding is None:
                return response
            if not is_refusal(response):
                return decompressed(response, self._max_body_bytes, signed=run is not None)
            # Sent once more, and from now on, as it is.
            way.coding = None

    def _kind_of(self, cls: type) -> _Kind:
        entry = self._registry.ensure(cls)
        decode = None if entry.response_codec is None else entry.response_codec.decode
        response_name = entry.response_name or "none"
        head = JSON.head(entry.name, response_name, self._source_node_id)
        call_head = CallHead(entry.name, response_name, self._source_node_id)
        kind = self._kinds[cls] = _Kind(
            entry.name, entry.codec.encode, decode, response_name, head, {JSON: head}, call_head
        )
        return kind

    def _head_of(self, kind: _Kind, form: WireForm) -> Head:
        head = kind.heads[form] = form.head(kind.name, kind.response_name, self._source_node_id)
        return head

    def _avoid(self, node: ClusterNode) -> None:
        avoid: Any = getattr(self._channel, "avoid")  # noqa: B009 - a channel that chooses has it
        avoid(node)


def _expired(outcome: Outcome) -> CatgaResult[Any]:
    return outcome.expired(Delivery.NOT_EXECUTED, "before it was sent")


def _other_way(outcome: Outcome) -> CatgaResult[Any]:
    """Stand for an exchange in which nothing was sent, where there is another channel to the node."""
    return outcome.broken(what="cannot be reached", sent=False, code=ErrorCode.UNAVAILABLE, layer="network")


def _checked_json(raw: bytes) -> bytes:
    jsontext.loads(raw)
    return raw
