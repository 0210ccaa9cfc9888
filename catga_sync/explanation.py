"""What ``send`` would do with a request, and why, as readable text."""

from __future__ import annotations

from dataclasses import dataclass

from catga_sync.nodes import ClusterNode

__all__ = ["Explanation", "Verdict"]


@dataclass(frozen=True)
class Verdict:
    """Whether one node is a candidate. Immutable."""

    node: ClusterNode
    #: Why the node is excluded; None if it is a candidate.
    reason: str | None = None


@dataclass(frozen=True)
class Explanation:
    """
    The result of ``mediator.explain(request)``; ``str()`` makes a readable text of it. Immutable.

    .. versionadded:: 0.1
    """

    #: The type name of the request on the wire.
    type_name: str
    #: The name of the router.
    router: str
    #: The nodes that can handle the request.
    candidates: tuple[ClusterNode, ...]
    #: The nodes that cannot, and why.
    excluded: tuple[Verdict, ...]
    #: The node that would be chosen now, or None.
    chosen: ClusterNode | None
    #: Whether the request may be sent to a second node if the first one does not respond.
    repeatable: bool
    #: Seconds until the deadline of the call; None means no deadline.
    timeout: float | None
    #: Further attempts that the retry budget would allow now.
    budget: float
    #: The problems of this node and of others that were noticed in this process, one sentence each.
    troubles: tuple[str, ...] = ()
    #: Why there is no candidate and what to do; None if there is one.
    note: str | None = None
    #: How the call would travel to the chosen node, as the end of a sentence; None if that is not known.
    way: str | None = None

    def __str__(self) -> str:
        known = len(self.candidates) + len(self.excluded)
        lines = [f"{self.type_name}: {len(self.candidates)} of {known} nodes can handle it"]
        for node in self.candidates:
            mark = "->" if self.chosen is not None and node.node_id == self.chosen.node_id else "  "
            where = node.endpoint or "this process"
            lines.append(f" {mark} {node.node_id:24} {where:32} {node.status.name} load {node.load:g}")
        lines.extend(f"  x {verdict.node.node_id:24} {verdict.reason}" for verdict in self.excluded)
        if self.chosen is None:
            lines.append(f"    the call would fail at once: {self.note or 'the router chooses none of them'}")
        elif self.way is not None:
            lines.append(f"    the call would go {self.way}")
        again = "may be sent again without a response" if self.repeatable else "is never sent again if it may have run"
        time = "no deadline" if self.timeout is None else f"{self.timeout:.1f} s"
        lines.append(f"    router {self.router}; {time}; {again}; {self.budget:.0f} attempts in the budget")
        lines.extend(f"  ! {trouble}" for trouble in self.troubles)
        return "\n".join(lines)
