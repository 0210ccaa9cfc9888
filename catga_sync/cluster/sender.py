"""One attempt at one node: here in the caller's thread, or there over the invoker.

Rules of this file:
1. A call to this node uses no socket and no queue.
2. A node gets no more concurrent calls of this process than it accepts; further calls wait here instead of being
   refused there.
3. Whatever an invoker does becomes a result.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from types import MappingProxyType
from typing import Any

from catga_sync import _fork
from catga_sync._log_limit import LimitedLog
from catga_sync._server_info import server_info
from catga_sync.cluster.local_node import LocalNode
from catga_sync.context import CallContext
from catga_sync.errors import Delivery, ErrorCode, ends_process
from catga_sync.hooks import CUT_SHORT, AttemptDetails, Hooks, Watcher, carried, made
from catga_sync.mediator import Mediator
from catga_sync.nodes import ClusterNode
from catga_sync.receiver.surroundings import Surroundings
from catga_sync.resilience.concurrency import ConcurrencyLimiter, Rejection
from catga_sync.resilience.ejection import Ejection
from catga_sync.results import INSIDE, CatgaResult, expired_before_start
from catga_sync.transport.base import RemoteInvoker

__all__ = ["Sender"]

_log = logging.getLogger(__name__)

_REJECTED = {
    Rejection.CROWDED: "has more to do than it gets done; there was no place for this call in half of its time",
    Rejection.STALLED: "has ended none of its calls in half of this call's time; there was no place for it",
    Rejection.ABANDONED: "does not respond; this call no longer waits for a place there",
}
_INVOKER_FAILED: CatgaResult[Any] = CatgaResult.failure(
    "the invoker failed; see the log", ErrorCode.INTERNAL, delivery=Delivery.UNKNOWN
)


class Sender:
    """
    Makes attempts at nodes. Thread-safe.

    Args:
        local_node: This node.
        local: The handlers of this process.
        invoker: Carries requests to other nodes.
        ejection: Avoids a node at which no call ends any more.
        surroundings: What the framework puts around a call that runs here.
        hooks: Watch each attempt; None means that there are none.
        pool_size: Calls at once to one node; a node that takes fewer gets fewer.
        limited_log: Bounds the rejected calls that are logged; None means one of its own.
        monotonic: The clock; None means the system's.
    """

    def __init__(
        self,
        local_node: LocalNode,
        local: Mediator,
        invoker: RemoteInvoker,
        ejection: Ejection,
        surroundings: Surroundings,
        *,
        hooks: Hooks | None = None,
        pool_size: int = 64,
        limited_log: LimitedLog | None = None,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self._local_node = local_node
        self._this = local_node.this
        self._local = local
        self._invoker = invoker
        self._way_to: Callable[[ClusterNode], str] = getattr(invoker, "way_to", _by_post)
        self._ejection = ejection
        self._surroundings = surroundings
        self._hooks = Hooks() if hooks is None else hooks
        self._pool_size = pool_size
        self._limited_log = LimitedLog() if limited_log is None else limited_log
        self._has_warned = False
        self._monotonic = time.monotonic if monotonic is None else monotonic
        self._lock = threading.Lock()
        # Endpoint, and the calls at once that the node there takes -> limiter. Guarded by _lock; read without it.
        self._limiters: dict[tuple[str | None, int | None], ConcurrencyLimiter] = {}
        _fork.watch(self)

    def takes_batches(self, node: ClusterNode) -> bool:
        """Return whether several requests for this node can travel together."""
        return (
            node.node_id != self._this.node_id and "batch" in node.features and hasattr(self._invoker, "invoke_batch")
        )

    def send(self, node: ClusterNode, message: Any, timeout: float, call: CallContext) -> CatgaResult[Any]:
        """Run a message on a node, within so many seconds."""
        told: Sequence[Watcher] = ()
        if self._hooks.attempt:
            details = self._details(node, message, call)
            told = self._hooks.begin(self._hooks.attempt, details)
            if details.carrier:
                call = carried(details)
        result: CatgaResult[Any] = CUT_SHORT
        try:
            if node.node_id == self._this.node_id:
                result = self.run_here(message, call)
                return result
            began = self._monotonic()
            limiter = self._limiters.get((node.endpoint, node.concurrency)) or self._add_limiter(node)
            since = limiter.acquire(timeout)
            if isinstance(since, Rejection):
                result = _named(self._rejected(node, since, timeout, call), call)
                return result
            try:
                left = timeout - (since - began)
                leaving = call if self._this.endpoint is None else self._leaving(call)
                given: Any = self._invoker.invoke(node, message, timeout=left, call=leaving)
                if not isinstance(given, CatgaResult):
                    raise TypeError(f"the invoker returned {type(given).__name__}")
                # As ``_measured``, written out: on the way of every call to another node.
                metadata = MappingProxyType(given.metadata | {"place_ms": (since - began) * 1e3})
                request_id = call.request_id if given._request_id is None else given._request_id
                result = given._of_send(request_id, given.delivery, given._attempts, metadata)
            except BaseException as exc:
                result = _named(_invoker_failed(exc, node, call), call)
            finally:
                limiter.release(since)
            return result
        finally:
            if told:
                self._hooks.end(told, result)

    def send_batch(
        self, node: ClusterNode, messages: Sequence[Any], timeout: float, calls: Sequence[CallContext]
    ) -> Sequence[CatgaResult[Any]]:
        """Run messages on another node in one exchange, within so many seconds; ``calls`` has the call of each."""
        if not self._hooks.attempt:
            return self._send_batch(node, messages, timeout, calls)
        details: list[AttemptDetails] = []
        for message, call in zip(messages, calls, strict=True):
            leader = details[0] if details else None
            details.append(self._details(node, message, call, leader, in_batch=True))
        told = [self._hooks.begin(self._hooks.attempt, each) for each in details]
        calls = [carried(each) for each in details]
        results: Sequence[CatgaResult[Any]] = [CUT_SHORT] * len(messages)
        try:
            results = self._send_batch(node, messages, timeout, calls)
        finally:
            for each, result in zip(told, results, strict=True):
                self._hooks.end(each, result)
        return results

    def _send_batch(
        self, node: ClusterNode, messages: Sequence[Any], timeout: float, calls: Sequence[CallContext]
    ) -> Sequence[CatgaResult[Any]]:
        began = self._monotonic()
        limiter = self._limiters.get((node.endpoint, node.concurrency)) or self._add_limiter(node)
        since = limiter.acquire(timeout)
        if isinstance(since, Rejection):
            rejected = self._rejected(node, since, timeout, calls[0])
            return [_named(rejected, call) for call in calls]
        try:
            left = timeout - (since - began)
            invoke_batch: Any = getattr(self._invoker, "invoke_batch")  # noqa: B009 - not every invoker has it
            # All of it travels by the way of its first call.
            first = calls[0] if self._this.endpoint is None else self._leaving(calls[0])
            leaving = (first, *calls[1:])
            results: Sequence[CatgaResult[Any]] = invoke_batch(node, messages, timeout=left, calls=leaving)
            if len(results) != len(messages) or not all(isinstance(each, CatgaResult) for each in results):
                raise TypeError(f"the invoker returned {len(results)} results for {len(messages)} requests")
            return [_measured(each, call, since - began) for each, call in zip(results, calls, strict=True)]
        except BaseException as exc:
            failed = _invoker_failed(exc, node, calls[0])
            return [_named(failed, call) for call in calls]
        finally:
            limiter.release(since)

    def run_here(self, message: Any, call: CallContext) -> CatgaResult[Any]:
        """Run a message in this process."""

        def run() -> CatgaResult[Any]:
            return self._local.dispatch(message, call, self._this.node_id)

        return self._surroundings.run_here(run, type(message).__qualname__)

    def tidy(self, nodes: Sequence[ClusterNode]) -> None:
        """Drop the state of all other nodes, and close idle connections. Called about once a second."""
        present = {(node.endpoint, node.concurrency) for node in nodes}
        with self._lock:
            # A call that has just got hold of a limiter shares it with no other: for a node that is gone, no harm.
            for gone in [each for each, it in self._limiters.items() if each not in present and not it.in_use]:
                del self._limiters[gone]
        tidy = getattr(self._invoker, "tidy", None)
        if tidy is not None:
            tidy(nodes)

    def silent(self, nodes: Iterable[ClusterNode], seconds: float) -> list[ClusterNode]:
        """Return those at which calls are under way and none has ended for so many seconds."""
        return [
            node
            for node in nodes
            if (limiter := self._limiters.get((node.endpoint, node.concurrency))) is not None
            and limiter.silence >= seconds
        ]

    def abandon(self, node: ClusterNode) -> None:
        """Reject the calls that wait for a slot at this node, which does not respond."""
        limiter = self._limiters.get((node.endpoint, node.concurrency))
        if limiter is not None:
            limiter.abandon()

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``: none of the parent's calls are under way here."""
        self._lock = threading.Lock()
        self._limiters = {}

    def close(self) -> None:
        """Close connections."""
        self._invoker.close()

    def _details(
        self,
        node: ClusterNode,
        message: Any,
        call: CallContext,
        leader: AttemptDetails | None = None,
        *,
        in_batch: bool = False,
    ) -> AttemptDetails:
        way = "local" if node.node_id == self._this.node_id else str(self._way_to(node))
        name = self._local.registry.ensure(type(message)).name
        return made(AttemptDetails, (name, call, node, way, leader, in_batch, {}))

    def way_in_words(self, node: ClusterNode) -> str | None:
        """Return how the next call to a node travels, as the end of a sentence; None if only its invoker knows."""
        if node.node_id == self._this.node_id:
            return "to the handler in this process"
        why_not_stream = getattr(self._invoker, "why_not_stream", None)
        if why_not_stream is None:
            return None
        if self._way_to(node) == "grpc":
            return "over gRPC"
        why = why_not_stream(node)
        return "over a stream" if why is None else f"by POST ({why})"

    def _add_limiter(self, node: ClusterNode) -> ConcurrencyLimiter:
        limit = self._pool_size if node.concurrency is None else min(self._pool_size, node.concurrency)
        with self._lock:
            return self._limiters.setdefault(
                (node.endpoint, node.concurrency), ConcurrencyLimiter(limit, monotonic=self._monotonic)
            )

    def _rejected(self, node: ClusterNode, why: Rejection, timeout: float, call: CallContext) -> CatgaResult[Any]:
        if timeout <= 0:
            return expired_before_start()
        if why is Rejection.STALLED:
            self._ejection.avoid(node)
        text = f"node {node.node_id} at {node.endpoint} {_REJECTED[why]}"
        reason = f"not sent: node={node.node_id} code=RESOURCE_EXHAUSTED"
        line = "not sent: %s node=%s code=RESOURCE_EXHAUSTED: %s"
        self._limited_log.log(_log, logging.WARNING, reason, line, call.ids, node.node_id, text)
        code, delivery = ErrorCode.RESOURCE_EXHAUSTED, Delivery.NOT_EXECUTED
        return CatgaResult.failure(text, code, delivery=delivery, metadata={INSIDE: True})

    def _leaving(self, call: CallContext) -> CallContext:
        """Return the call as it is when it leaves this node: with this node at the end of its path."""
        if call.depth and not self._has_warned and server_info().one_thread:
            self._has_warned = True
            _log.warning(
                "a handler of node %s sends a request, and its server has one thread: what comes in meanwhile waits, "
                "and a call that comes back here fails; start the server with more threads (gunicorn --threads 8)",
                self._this.node_id,
            )
        room = self._local_node.room_for_a_return
        if room is not None and call.source_node_id is None and not call.chain and room > 0:
            # A view of the app itself sends: its thread is one of the server's, too, and counted nowhere else.
            room -= 1
        return call.with_changes(chain=(*call.chain, (self._this.node_id, room)))


def _by_post(node: ClusterNode) -> str:
    return "post"


def _named(result: CatgaResult[Any], call: CallContext) -> CatgaResult[Any]:
    """Return a result with the id of its call, before a hook reads it: without one an id is made up then."""
    return result if result._request_id is not None else result._with(request_id=call.request_id)


def _measured(result: CatgaResult[Any], call: CallContext, waited: float) -> CatgaResult[Any]:
    """Return a result of the invoker with the id of its call, and the seconds that it has waited for a slot."""
    metadata = MappingProxyType(result.metadata | {"place_ms": waited * 1e3})
    request_id = call.request_id if result._request_id is None else result._request_id
    return result._of_send(request_id, result.delivery, result._attempts, metadata)


def _invoker_failed(exc: BaseException, node: ClusterNode, call: CallContext) -> CatgaResult[Any]:
    if ends_process(exc):
        raise exc
    _log.error("the invoker failed: %s node=%s", call.ids, node.node_id, exc_info=exc)
    return _INVOKER_FAILED
