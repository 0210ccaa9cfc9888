"""The text for a request that no node can take: the cause, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from catga_sync._suggestion import nearest
from catga_sync.errors import ErrorCode
from catga_sync.nodes import ClusterNode, NodeRecord, NodeStatus

__all__ = ["StoreView", "absence", "empty", "unreadable"]

#: Nodes and reasons that one text names.
_MOST = 5


@dataclass(frozen=True)
class StoreView:
    """The discovery store as seen by this process. Immutable."""

    #: The place of the store, as text.
    where: str
    #: The records that it returned last.
    records: tuple[NodeRecord, ...] = ()
    #: Why the last read failed; None when it did not.
    failure: str | None = None

    def rival_of(self, this: ClusterNode) -> ClusterNode | None:
        """Return another node under the id of this one, which is never called from here; None when there is none."""
        for record in self.records:
            node = record.node
            # Only a node that registers itself has an incarnation; a list may spell this node's endpoint as it likes.
            if node.node_id == this.node_id and node.incarnation and node.endpoint != this.endpoint:
                return node
        return None


def absence(
    type_name: str,
    nodes: Sequence[ClusterNode],
    reasons: Mapping[str, str],
    around: StoreView,
    this: ClusterNode | None,
    handled_here: Iterable[str] = (),
) -> tuple[ErrorCode, str]:
    """
    Return the code and the text for a request that no node can take.

    Args:
        type_name: Wire name of the request type.
        nodes: The other nodes that are not offline.
        reasons: Node id -> why it cannot take the request, for nodes that may handle the type.
        around: The store.
        this: This node; None outside a node, as in the command line.
        handled_here: The types that this process handles.
    """
    rival = None if this is None else around.rival_of(this)
    if this is not None and rival is not None and (not nodes or rival.may_handle(type_name)):
        return ErrorCode.UNAVAILABLE, (
            f"no handler for {type_name} here; node_id: the node at {rival.endpoint} has the id {this.node_id!r}, too, "
            f"so it is never called from here; give every node an id of its own"
        )
    if reasons:
        told = "; ".join(f"{node_id}: {reason}" for node_id, reason in list(reasons.items())[:_MOST])
        return ErrorCode.UNAVAILABLE, f"no node can take {type_name} now: {told}"
    near = _near(type_name, nodes, handled_here)
    if nodes:
        unread = (
            "" if around.failure is None else f"; others may be missing: {unreadable(around.where, around.failure)}"
        )
        return ErrorCode.UNIMPLEMENTED, (
            f"no node handles {type_name}{near}; register a handler with @mediator.handler "
            f"{'' if this is None else 'here or '}on {'one of ' if len(nodes) > 1 else ''}"
            f"{_listed(node.node_id for node in nodes)}{unread}"
        )
    if around.failure is not None:
        why = unreadable(around.where, around.failure)
    else:
        offline = [each.node.node_id for each in around.records if each.node.status is NodeStatus.OFFLINE]
        why = empty(around.where, offline, other=this is not None)
    return ErrorCode.UNAVAILABLE, f"no handler for {type_name} {'is known' if this is None else 'here'}{near}; {why}"


def unreadable(where: str, failure: str) -> str:
    """Return the text for a store that cannot be read; it starts with the name of the option."""
    # Errors of some stores start with the option, or with the place.
    why = failure.removeprefix("discovery: ").removeprefix(f"{where.removeprefix('the ')}: ")
    return f"discovery: {where} cannot be read: {why}"


def empty(where: str, offline: Sequence[str] = (), *, other: bool = False) -> str:
    """
    Return the text for a store in which there is no node.

    Args:
        where: The place of the store, in words.
        offline: Ids of nodes in it that are offline.
        other: Whether this process is a node itself.
    """
    some = "other node" if other else "node"
    if offline:
        return f"every {some} in {where} is offline: {_listed(offline)}"
    return (
        f"no {some} is in {where}: start one with the same discovery and cluster_name; a node that runs but is missing "
        f"there logs the reason"
    )


def _near(type_name: str, nodes: Sequence[ClusterNode], handled_here: Iterable[str]) -> str:
    here = set(handled_here)
    places: dict[str, list[str]] = {}
    for node in nodes:
        for name in node.handles or ():
            places.setdefault(name, []).append(node.node_id)
    found = [
        f"{name} in this process" if name in here else f"{name} at {_listed(places[name], 3)}"
        for name in nearest(type_name, frozenset(here.union(places)))
    ]
    return f" (did you mean {', or '.join(found)}?)" if found else ""


def _listed(names: Iterable[str], most: int = _MOST) -> str:
    given = list(names)
    return ", ".join(given[:most]) + (", ..." if len(given) > most else "")
