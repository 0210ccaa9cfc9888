"""What several routers need: a cache by candidates, tables without departed nodes, weights, and a random source.

Rules of this file:
1. A tuple of nodes is compared by its identity: to compare a thousand nodes takes longer than routing.
2. The size of each table is bounded by the message types and the size of the cluster, and does not grow with time.
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
    """A random source that a forked child seeds again: otherwise all workers would make the same choices."""

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self.seed()


#: Shared by the routers that are given no random source.
LOTS = _Lots()
_fork.watch(LOTS)

#: The highest ``metadata["weight"]`` that counts; one divided by it is the lowest.
_MOST_WEIGHT = 1000.0

#: Entries of departed nodes that a table keeps, beside as many as there are present nodes.
_SPARE = 64


class PerType(Generic[T]):
    """
    A cache of one value per message type, made from its candidates and kept while they are the same tuple. Thread-safe.

    Each type has its own tuple of candidates, and older tuples are not used again. Two threads that miss the cache at
    once both make the value; the last one stays.

    Args:
        make: Makes the value; called without a lock.
    """

    def __init__(self, make: Callable[[tuple[ClusterNode, ...]], T]) -> None:
        self._make = make
        self._made: dict[type, tuple[tuple[ClusterNode, ...], T]] = {}

    def of(self, message: Any, nodes: tuple[ClusterNode, ...]) -> T:
        """Return the value for ``nodes``."""
        found = self._made.get(type(message))
        if found is not None and found[0] is nodes:
            return found[1]
        made = self._make(nodes)
        self._made[type(message)] = (nodes, made)
        return made


class Present:
    """
    Keeps the candidates of all message types, to remove departed nodes from tables by node id. Not thread-safe.

    Routers get no event when a node leaves, and a node that is missing from one tuple may still be present: another
    message type has other candidates, and the second attempt of a call has the remaining nodes only. So a table first
    grows to twice the size that it needs.
    """

    def __init__(self) -> None:
        self._last: dict[type, tuple[ClusterNode, ...]] = {}
        self._bound = _SPARE

    def note(self, kind: type, nodes: tuple[ClusterNode, ...]) -> None:
        """Record the candidates of a message type."""
        if self._last.get(kind) is not nodes:
            self._last[kind] = nodes

    def tidy(self, table: dict[str, Any]) -> None:
        """Remove nodes that are candidates of no type from a table, if it has grown enough."""
        if len(table) <= self._bound:
            return
        here = {node.node_id for nodes in self._last.values() for node in nodes}
        for node_id in [node_id for node_id in table if node_id not in here]:
            del table[node_id]
        self._bound = 2 * len(table) + _SPARE


def weight_of(node: ClusterNode) -> float:
    """Return ``metadata["weight"]``, from 0.001 to 1000; 1 if it is not a positive number."""
    weight = node.metadata.get("weight", 1.0)
    if is_number(weight) and weight > 0:
        return min(max(float(weight), 1.0 / _MOST_WEIGHT), _MOST_WEIGHT)
    return 1.0


def reported_load(node: ClusterNode) -> float:
    """Return the load that the node reports, from 0 to 100; 100 if it is not a number."""
    return 100.0 if math.isnan(node.load) else min(max(node.load, 0.0), 100.0)
