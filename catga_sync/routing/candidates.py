"""What several routers do with the candidates: remember what was made of a tuple, weigh a node, draw lots.

Rules of this file:
1. A tuple of nodes is known by its identity: comparing a thousand nodes takes longer than routing.
2. What is remembered has a bound that depends on the message types and on the size of the cluster, never on time.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from catga_sync.nodes import ClusterNode

__all__ = ["LOTS", "PerType", "most_remembered", "reported_load", "weight_of"]

T = TypeVar("T")

#: Chance for the routers that are given none of their own: one for all, which a forked child seeds anew. Workers that
#: went on with their parent's sequence would all make the same choices at the same time.
LOTS = random.Random()  # noqa: S311 - spreads load, guards nothing
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LOTS.seed)

#: The share of a metadata["weight"] of 1 may be changed by this factor, up and down.
_MOST_WEIGHT = 1000.0


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


def weight_of(node: ClusterNode) -> float:
    """Return ``metadata["weight"]``, from 0.001 to 1000; 1 when it is no positive number."""
    weight = node.metadata.get("weight", 1.0)
    if isinstance(weight, (int, float)) and not isinstance(weight, bool) and math.isfinite(weight) and weight > 0:
        return min(max(float(weight), 1.0 / _MOST_WEIGHT), _MOST_WEIGHT)
    return 1.0


def reported_load(node: ClusterNode) -> float:
    """Return the load that the node reports, from 0 to 100; 100 when it is no number."""
    load = node.load
    return min(max(load, 0.0), 100.0) if load == load else 100.0  # noqa: PLR0124 - only NaN differs from itself


def most_remembered(nodes: int) -> int:
    """Return how many node ids a router remembers that has been given so many nodes at once."""
    return 2 * nodes + 64
