"""Routes to the better of two random nodes, by the duration of their last calls and the number in flight.

Power of two choices with Finagle's peak EWMA (``PeakEwma.scala``). For each node: ``cost``, the seconds that a call
takes, and ``pending``, the calls in flight.

    observe(rtt):  cost = rtt                            if rtt > cost: one slow response counts at once
                   cost = rtt * (1 - w) + cost * w       else, with w = exp(-(time since the last one) / decay)
    load:          observe(0)                            so that a node without calls is tried again later
                   PENALTY + pending                     if cost == 0 and pending: unknown, so one call at a time
                   cost * (pending + 1)                  else

Our addition: a failure counts as ``failure_penalty`` seconds at least. Otherwise a node that fails at once would look
like the fastest of all and attract every call.
"""

from __future__ import annotations

import math
import random
import threading
from typing import Any

from catga_sync import _fork
from catga_sync._checks import check_seconds
from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync.errors import Delivery, ErrorCode
from catga_sync.nodes import ClusterNode
from catga_sync.routing.base import check_method
from catga_sync.routing.candidates import LOTS, Present

__all__ = ["P2cEwmaRouter"]

#: Seconds for a node that has not yet responded to its first calls: more than any cost. The value is Finagle's.
_PENALTY = 2.0**47 / 1e9

#: Codes of a handler's response that count against its node. All others are regular responses of the application.
_FAULTS = frozenset({ErrorCode.UNKNOWN, ErrorCode.INTERNAL, ErrorCode.UNAVAILABLE, ErrorCode.DATA_LOSS})


class P2cEwmaRouter:
    """
    Picks the less loaded of two random nodes. Thread-safe; as fast for a thousand nodes as for two.

    Args:
        decay: Seconds in which an observation loses two thirds of its weight. With a lower value a slow response counts
            for a shorter time.
        failure_penalty: The least seconds that a failed call counts as. It should be well above the duration of a call:
            a failing node is avoided until the penalty has decayed to the cost of the others, for ``decay *
            ln(failure_penalty / cost)`` seconds, which is 53 s for calls of 5 ms.
        rng: The random source. None means one that all routers share and that a forked child seeds again.
        clock: The clock. None means the system's.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        *,
        decay: float = 10.0,
        failure_penalty: float = 1.0,
        rng: random.Random | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._decay = check_seconds("decay", decay)
        self._failure_penalty = check_seconds("failure_penalty", failure_penalty)
        check_method("rng", rng, "random", "a random.Random")
        check_method("clock", clock, "monotonic", "an object with monotonic()")
        self._draw = (LOTS if rng is None else rng).random
        self._monotonic = (SYSTEM_CLOCK if clock is None else clock).monotonic
        self.after_fork_in_child()
        _fork.watch(self)

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self._lock = threading.Lock()
        # Guarded by _lock: node id -> its statistics; ids of the present nodes.
        self._peaks: dict[str, _Peak] = {}
        self._present = Present()

    def route(self, message: Any, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
        """See ``Router``."""
        count = len(nodes)
        one = two = 0
        if count > 1:
            one, two = int(self._draw() * count), int(self._draw() * (count - 1))
            two += two >= one
        node, other = nodes[one], nodes[two]
        now = self._monotonic()
        with self._lock:
            self._present.note(type(message), nodes)
            peak, rival = self._peak_locked(node, now), self._peak_locked(other, now)
            if rival.load(now, self._decay) < peak.load(now, self._decay):
                node, peak = other, rival
            peak.pending += 1
        return node

    def completed(self, node: ClusterNode, message: Any, result: Any, elapsed: float) -> None:
        """See ``Router``: records the duration, or the penalty if the call failed."""
        took = max(0.0, elapsed)
        if _speaks_against_node(result):
            took = max(took, self._failure_penalty)
        now = self._monotonic()
        with self._lock:
            peak = self._end_locked(node)
            if peak is not None:
                peak.observe(took, now, self._decay)

    def withdraw(self, node: ClusterNode, message: Any) -> None:
        """See ``Router``."""
        with self._lock:
            self._end_locked(node)

    def _end_locked(self, node: ClusterNode) -> _Peak | None:
        peak = self._peaks.get(node.node_id)
        if peak is None or peak.incarnation != node.incarnation:
            return None  # a call to an earlier run of the node does not count
        if peak.pending:
            peak.pending -= 1
        return peak

    def _peak_locked(self, node: ClusterNode, now: float) -> _Peak:
        peak = self._peaks.get(node.node_id)
        if peak is None or peak.incarnation != node.incarnation:
            peak = self._peaks[node.node_id] = _Peak(node.incarnation, now)
            self._present.tidy(self._peaks)
        return peak


class _Peak:
    """The statistics of one node. Not thread-safe."""

    __slots__ = ("cost", "incarnation", "pending", "stamp")

    def __init__(self, incarnation: str, now: float) -> None:
        self.incarnation = incarnation
        self.pending = 0
        self.cost = 0.0
        self.stamp = now

    def observe(self, rtt: float, now: float, decay: float) -> None:
        since = max(now - self.stamp, 0.0)  # a thread may read the clock before another one and get here after it
        if rtt > self.cost:
            self.cost = rtt
        else:
            kept = math.exp(-since / decay)
            self.cost = rtt * (1.0 - kept) + self.cost * kept
        self.stamp += since

    def load(self, now: float, decay: float) -> float:
        self.observe(0.0, now, decay)
        if self.cost == 0.0 and self.pending:
            return _PENALTY + self.pending
        return self.cost * (self.pending + 1)


def _speaks_against_node(result: Any) -> bool:
    if result.is_success:
        return False
    return result.delivery is not Delivery.EXECUTED or result.code in _FAULTS
