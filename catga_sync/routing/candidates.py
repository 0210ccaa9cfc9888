"""What several routers do with the candidates: remember what was made of them, forget who has left, weigh, draw lots.

Rules of this file:
1. A tuple of nodes is known by its identity: comparing a thousand nodes takes longer than routing.
2. What is remembered has a bound that depends on the message types and on the size of the cluster, never on time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from catga_sync import _fork
from catga_sync._checks import is_number
from catga_sync.nodes import ClusterNode

__all__ = ["LOTS", "PerType", "Present", "reported_load", "weight_of"]

T = TypeVar("T")


class _Lots(random.Random):
    """Chance that a forked child seeds anew: workers with one sequence would all make the same choices at once."""

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self.seed()


#: For the routers that are given none of their own: one for all.
LOTS = _Lots()
_fork.watch(LOTS)

#: The highest ``metadata["weight"]`` that counts; one divided by it is the lowest.
_MOST_WEIGHT = 1000.0

#: What is kept of nodes that have left, beside as many as there are present.
_SPARE = 64


class PerType(Generic[T]):
    """
    What was made of the candidates of each message type, kept as long as they are the same tuple. Thread-safe.

    One place a type: every type has a tuple of its own, and an older one is of no more use. Two threads that find
    their tuple missing both make it; the last one stays.

    Args:
        make: Makes it; called without a lock.
    """

    def __init__(self, make: Callable[[tuple[ClusterNode, ...]], T]) -> None:
        self._make = make
        self._made: dict[type, tuple[tuple[ClusterNode, ...], T]] = {}

    def of(self, message: Any, nodes: tuple[ClusterNode, ...]) -> T:
        """Return what is made of ``nodes``."""
        found = self._made.get(type(message))
        if found is not None and found[0] is nodes:
            return found[1]
        made = self._make(nodes)
        self._made[type(message)] = (nodes, made)
        return made


class Present:
    """
    Who is a candidate of any message type, so that tables by node id can be rid of who has left. Not thread-safe.

    Nobody tells a router that a node has left, and one that a single tuple lacks need not have: another message type
    has other candidates, and the second try of a call has those that are left. So a table may first grow to twice the
    size that it needs.
    """

    def __init__(self) -> None:
        self._last: dict[type, tuple[ClusterNode, ...]] = {}
        self._bound = _SPARE

    def note(self, kind: type, nodes: tuple[ClusterNode, ...]) -> None:
        """Take note of the candidates of a message type."""
        if self._last.get(kind) is not nodes:
            self._last[kind] = nodes

    def tidy(self, table: dict[str, Any]) -> None:
        """Take out of a table those who are candidates of nothing, if it has grown that much."""
        if len(table) <= self._bound:
            return
        here = {node.node_id for nodes in self._last.values() for node in nodes}
        for node_id in [node_id for node_id in table if node_id not in here]:
            del table[node_id]
        self._bound = 2 * len(table) + _SPARE


def weight_of(node: ClusterNode) -> float:
    """Return ``metadata["weight"]``, from 0.001 to 1000; 1 when it is no positive number."""
    weight = node.metadata.get("weight", 1.0)
    if is_number(weight) and weight > 0:
        return min(max(float(weight), 1.0 / _MOST_WEIGHT), _MOST_WEIGHT)
    return 1.0


def reported_load(node: ClusterNode) -> float:
    """Return the load that the node reports, from 0 to 100; 100 when it is no number."""
    return 100.0 if math.isnan(node.load) else min(max(node.load, 0.0), 100.0)
