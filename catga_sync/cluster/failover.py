"""One call over several nodes: which one is tried, and whether there is another try.

    it succeeded, or the handler said no            -> that is the answer
    provably not run, for a reason that may pass    -> another node
    may have run, and the request is idempotent     -> another node, two nodes at most
    may have run, and it is not                     -> that is the answer; a plain request never runs twice

Rules of this file:
1. A node that was tried is not tried again while there is one that was not.
2. All tries share the call's deadline; the waits between them do, too.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any

from catga_sync.context import CallContext
from catga_sync.errors import Delivery, ErrorCode
from catga_sync.nodes import ClusterNode
from catga_sync.results import Attempt, CatgaResult
from catga_sync.routing.base import Router
from catga_sync.serialization import MessageType

__all__ = ["Failover"]

#: Seconds that must be left for another try to make sense.
_LEAST_LEFT = 0.050
#: The longest wait between two tries, in seconds.
_LONGEST_WAIT = 0.250
#: Nodes on which a request may be left behind without an answer: a request that kills its node must not kill all.
_MOST_UNKNOWN = 2

_PASSING = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.RESOURCE_EXHAUSTED, ErrorCode.UNIMPLEMENTED})
_UNANSWERED = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.DEADLINE_EXCEEDED, ErrorCode.INTERNAL})

_log = logging.getLogger(__name__)

Step = Callable[[ClusterNode, Any, float], CatgaResult[Any]]


class Failover:
    """
    Try nodes until one answers. Thread-safe.

    Args:
        enabled: False makes the first try the only one.
        max_retries: Further tries after the first.
        retry_delay: Seconds; the first wait is drawn from 0 to this, the next from 0 to twice as much.
        sleep: Waits; None means really.
        rng: Source of the jitter; None means one of its own.
    """

    def __init__(
        self,
        *,
        enabled: bool,
        max_retries: int,
        retry_delay: float,
        sleep: Callable[[float], object] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._tries = 1 + max_retries if enabled else 1
        self._retry_delay = retry_delay
        self._sleep = time.sleep if sleep is None else sleep
        self._rng = random.Random() if rng is None else rng  # noqa: S311 - spreads load, guards nothing

    def run(
        self,
        request: Any,
        entry: MessageType,
        nodes: tuple[ClusterNode, ...],
        call: CallContext,
        router: Router,
        step: Step,
    ) -> CatgaResult[Any]:
        """
        Return the result of ``request`` on one of ``nodes``.

        Args:
            request: The message.
            entry: Its type.
            nodes: The candidates; never empty.
            call: The call, with its deadline.
            router: Picks one.
            step: Runs the request on one node within so many seconds.
        """
        attempts: list[Attempt] = []
        tried: set[str] = set()
        unknown = 0
        while True:
            node = self._pick(router, request, nodes, tried)
            if isinstance(node, CatgaResult):
                return node
            tried.add(node.node_id)
            left = call.remaining() or 0.0
            started = time.monotonic()
            result = step(node, request, self._share(left, entry, len(nodes), unknown))
            elapsed = time.monotonic() - started
            attempts.append(Attempt(node.node_id, elapsed, result.delivery, result.code, result.error))
            completed = getattr(router, "completed", None)
            if completed is not None:
                _tell(completed, node, request, result, elapsed)
            unknown += result.delivery is Delivery.UNKNOWN
            wait = self._wait_before_next(result, entry, len(attempts), tried, nodes, unknown)
            if wait is None or (call.remaining() or 0.0) - wait < _LEAST_LEFT:
                return result._with(attempts=tuple(attempts))
            if wait:
                self._sleep(wait)

    def _share(self, left: float, entry: MessageType, candidates: int, unknown: int) -> float:
        """Return the seconds for one try: all that is left, or half if another node can follow a silent one."""
        if entry.idempotent and self._tries > 1 and candidates > 1 and unknown == 0:
            return left / 2
        return left

    def _pick(
        self, router: Router, request: Any, nodes: tuple[ClusterNode, ...], tried: set[str]
    ) -> ClusterNode | CatgaResult[Any]:
        options = nodes
        if tried:
            options = tuple(node for node in nodes if node.node_id not in tried) or nodes
        try:
            node = router.route(request, options)
        except Exception:
            _log.exception("the router failed")
            node = None
        if node not in options:
            return CatgaResult.failure(
                "router: its route() returned none of the nodes that it was given",
                ErrorCode.INTERNAL,
                delivery=Delivery.NOT_EXECUTED,
            )
        return node

    def _wait_before_next(
        self,
        result: CatgaResult[Any],
        entry: MessageType,
        made: int,
        tried: set[str],
        nodes: tuple[ClusterNode, ...],
        unknown: int,
    ) -> float | None:
        """Return the seconds to wait before the next try, or None when there is to be none."""
        if result.is_success or made >= self._tries:
            return None
        untried = len(tried) < len(nodes)
        if result.delivery is Delivery.NOT_EXECUTED:
            if result.code not in _PASSING or (result.code is ErrorCode.UNIMPLEMENTED and (made > 1 or not untried)):
                return None
            if made == 1 and untried:
                return 0.0
        elif result.delivery is Delivery.UNKNOWN:
            if not entry.idempotent or result.code not in _UNANSWERED or unknown >= _MOST_UNKNOWN or not untried:
                return None
        else:
            return None
        return self._rng.uniform(0.0, min(_LONGEST_WAIT, self._retry_delay * 2 ** (made - 1)))


def _tell(completed: Callable[..., object], node: ClusterNode, request: Any, result: Any, elapsed: float) -> None:
    try:
        completed(node, request, result, elapsed)
    except Exception:
        _log.exception("the router's completed() failed")
