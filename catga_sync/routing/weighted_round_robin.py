"""Routes to each node in turn, more often to nodes with less load.

Earliest deadline first, as in gRPC's and Envoy's weighted round robin (gRFC A58): a node of weight w is due every
1/w of a virtual time; the node that is due first is picked, and is due again 1/w later. So within any period of that
time a node of weight w gets its share of the calls, plus or minus one.

Rules of this file:
1. The lock is held for one step of the heap, and to build it when the candidates have changed; no foreign code runs
   under it.
2. A node keeps, by its id, the part of its turn that it has waited for: with another snapshot, with another weight, and
   while it is not a candidate. It does not catch up on the turns that it misses meanwhile.
"""

from __future__ import annotations

import random
import threading
from heapq import heapify, heapreplace
from itertools import islice
from typing import Any

from catga_sync import _fork
from catga_sync.nodes import ClusterNode
from catga_sync.routing.base import check_method
from catga_sync.routing.candidates import LOTS, reported_load, weight_of

__all__ = ["WeightedRoundRobinRouter"]

#: New nodes start at points of their turn that are this far apart, modulo 1: no sequence is more even.
_GOLDEN = 0.6180339887498949


class WeightedRoundRobinRouter:
    """
    Picks the nodes in turn, each in proportion to ``100 - load`` (at least 1), evenly spread. Thread-safe.

    A node whose ``metadata["weight"]`` is a positive number gets that many times as many calls. Every message type has
    its own turns.

    Args:
        rng: The random source of where the turns of a message type start, so that not all processes start with the same
            node. None means one that all routers share.

    .. versionadded:: 0.1
    """

    def __init__(self, *, rng: random.Random | None = None) -> None:
        check_method("rng", rng, "random", "a random.Random")
        self._draw = (LOTS if rng is None else rng).random
        self._turns: dict[type, _Turns] = {}
        _fork.watch(self)

    def route(self, message: Any, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
        """See ``Router``."""
        turns = self._turns.get(type(message))
        if turns is None:
            turns = self._turns.setdefault(type(message), _Turns(self._draw()))
        return turns.next(nodes)

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self._turns = {}


class _Turns:
    """
    The turns of one message type. Thread-safe.

    Args:
        start: The part of its turn that the first node has to wait for, from 0 to 1.
    """

    def __init__(self, start: float) -> None:
        self._lock = threading.Lock()
        # Guarded by _lock: the candidates; their heap of (due, place, step, node); the virtual time of the last pick;
        # and the part of a turn that nodes outside the heap still have to wait for.
        self._nodes: tuple[ClusterNode, ...] = ()
        self._heap: list[tuple[float, int, float, ClusterNode]] = []
        self._now = 0.0
        self._waits: dict[str, float] = {}
        self._start = start

    def next(self, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
        """Return the node that is due."""
        with self._lock:
            if nodes is not self._nodes:
                self._change_locked(nodes)
            heap = self._heap
            due, place, step, node = heap[0]
            self._now = due
            heapreplace(heap, (due + step, place, step, node))
        return node

    def _change_locked(self, nodes: tuple[ClusterNode, ...]) -> None:
        waits = self._waits
        for due, _, step, node in self._heap:
            waits[node.node_id] = (due - self._now) / step
        heap = []
        for place, node in enumerate(nodes):
            step = 1.0 / (max(1.0, 100.0 - reported_load(node)) * weight_of(node))
            wait = waits.pop(node.node_id, None)
            if wait is None:
                wait = self._start
                self._start = (wait + _GOLDEN) % 1.0
            heap.append((wait * step, place, step, node))
        heapify(heap)
        self._nodes, self._heap, self._now = nodes, heap, 0.0
        if len(waits) > 2 * len(nodes) + 64:  # most of them have left
            for node_id in list(islice(waits, len(waits) // 2)):
                del waits[node_id]
