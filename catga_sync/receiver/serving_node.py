"""The node that a receiver serves, as far as the receiver knows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from catga_sync.context import Hop

__all__ = ["ServingNode"]


class ServingNode(Protocol):
    """What the receiver needs of the node that it serves."""

    node_id: str

    def count_in(self, patience: float | None = None, chain: Iterable[Hop] = ()) -> bool:
        """Count a call in; raises ``Refused`` for one that the node does not take. See ``LocalNode``."""

    def count_out(self, bounded: bool) -> None:
        """Note that a call has ended; ``bounded`` is what ``count_in`` has returned."""

    def to_wire(self) -> Mapping[str, Any]:
        """Return the description of the node, as a JSON object."""
