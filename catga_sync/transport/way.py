"""What the calls to one node have in common: the channel, the form of the bodies, the signature, the clock there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from catga_sync.nodes import ClusterNode
from catga_sync.transport.base import Channel
from catga_sync.transport.clock_offset import ClockOffset
from catga_sync.transport.compression import coding_for
from catga_sync.transport.signing import Signing
from catga_sync.wire.form import JSON, WireForm

__all__ = ["Way", "Ways"]


class Way:
    """
    What the calls to one node over one channel have in common, until its record changes.

    Args:
        node: The node.
        channel: Carries the bytes there.
        signing: Signs the requests of this process; None where they are not signed.
        shows_first: Whether the node has to prove first that it signs.
        compresses: Whether requests are compressed if the node offers it.
        earlier: The one of its record before; None for the first.
    """

    __slots__ = (
        "channel",
        "clock",
        "coding",
        "form",
        "has_choice",
        "incarnation",
        "name",
        "node",
        "shows_first",
        "signing",
    )

    def __init__(
        self,
        node: ClusterNode,
        channel: Channel,
        signing: Signing | None,
        *,
        shows_first: bool,
        compresses: bool,
        earlier: Way | None,
    ) -> None:
        self.channel = channel
        #: The form in which requests travel there.
        self.form: WireForm = getattr(channel, "form", JSON)
        #: How a hook calls it: ``post`` or ``grpc``.
        self.name = "post" if self.form is JSON else "grpc"
        address = node.endpoint if self.form is JSON else node.grpc_address
        if signing is not None and (node.signed is False or not signing.covers(address)):
            signing = None
        self.node = node
        #: Whether there is more than one channel to the node: then each call looks anew which one it takes.
        self.has_choice = node.grpc_address not in (None, node.endpoint)
        self.signing = signing
        #: The incarnation of the node in the signatures.
        self.incarnation = "" if signing is None else signing.incarnation_for(node.node_id, node.incarnation)
        self.shows_first = shows_first
        #: The clock of the node; that of another run may be the clock of another machine.
        place = (node.endpoint, node.incarnation)
        known = earlier is not None and (earlier.node.endpoint, earlier.node.incarnation) == place
        self.clock: ClockOffset = earlier.clock if earlier is not None and known else ClockOffset()
        #: The coding of compressed requests; None where nothing is compressed in either direction.
        self.coding = coding_for(node) if compresses and self.form is JSON else None


class Ways:
    """
    The ways to all nodes. Thread-safe: two threads that make the same one put the same there.

    Args:
        channel: Carries the bytes, or chooses the channel that does (``channel_to``).
        signing: Signs requests; None means that they are not signed.
        shows_first: Whether a node has to prove first that it signs.
        compresses: Whether requests are compressed for nodes that offer it.
    """

    def __init__(self, channel: Channel, signing: Signing | None, *, shows_first: bool, compresses: bool) -> None:
        self._channel = channel
        self._choose: Any = getattr(channel, "channel_to", None)
        self._signing = signing
        self._shows_first = shows_first
        self._compresses = compresses
        #: The last way to each node.
        self.last: dict[str, Way] = {}
        # The one over its other channel.
        self._other: dict[str, Way] = {}

    def to(self, node: ClusterNode) -> Way:
        """Return the way for the next exchange with a node."""
        last = self.last.get(node.node_id)
        if last is not None and last.node is node and not last.has_choice:
            return last
        return self._chosen(node, last)

    def tidy(self, nodes: Iterable[ClusterNode]) -> None:
        """Drop the ways to all other nodes."""
        ids = {node.node_id for node in nodes}
        for ways in (self.last, self._other):
            for gone in [node_id for node_id in list(ways) if node_id not in ids]:
                ways.pop(gone, None)

    def _chosen(self, node: ClusterNode, last: Way | None) -> Way:
        channel = self._channel if self._choose is None else self._choose(node)
        other = self._other.get(node.node_id)
        for way in (last, other):
            if way is not None and way.node is node and way.channel is channel:
                break
        else:
            way = Way(
                node,
                channel,
                self._signing,
                shows_first=self._shows_first,
                compresses=self._compresses,
                earlier=last,
            )
        if last is not None and last is not way:
            self._other[node.node_id] = last
        self.last[node.node_id] = way
        return way
