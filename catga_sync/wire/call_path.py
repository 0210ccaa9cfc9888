"""The way that a call has come: the nodes whose threads wait for it, and what room each had left.

    Catga-Chain: web=5,users=0

A call that would come back to a node that had no free thread left would wait for itself: every thread of that node,
the one that waits for this call among them, would have to end first. It fails at once instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from catga_sync.context import Hop

__all__ = ["LONGEST", "full_nodes", "read_chain", "write_chain"]

#: Nodes in a chain; a longer one is a loop.
LONGEST = 16

_HOP = re.compile(r"([A-Za-z0-9._:\-]{1,128})(?:=(\d{1,6}))?", re.ASCII)


def write_chain(hops: Iterable[Hop]) -> str:
    """Return the header's value."""
    return ",".join(name if room is None else f"{name}={room}" for name, room in hops)


def read_chain(value: str | None) -> tuple[Hop, ...] | None:
    """Return the chain in a header; () when there is none, None when it cannot be read or is too long."""
    if not value:
        return ()
    if len(value) > LONGEST * 140:
        return None
    hops: list[Hop] = []
    for part in value.split(","):
        match = _HOP.fullmatch(part.strip())
        if match is None:
            return None
        hops.append((match[1], None if match[2] is None else int(match[2])))
    return tuple(hops) if len(hops) <= LONGEST else None


def full_nodes(chain: Iterable[Hop]) -> frozenset[str]:
    """Return the nodes of a chain that had no room left when they passed the call on."""
    return frozenset(name for name, room in chain if room == 0)
