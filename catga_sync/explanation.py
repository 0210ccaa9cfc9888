"""What ``send`` would do with a request, and why: for people."""

from __future__ import annotations

from dataclasses import dataclass

from catga_sync.nodes import ClusterNode

__all__ = ["Explanation", "Verdict"]


@dataclass(frozen=True)
class Verdict:
    """What becomes of one node. Immutable."""

    node: ClusterNode
    #: Why it is left out; None when it is a candidate.
    reason: str | None = None


@dataclass(frozen=True)
class Explanation:
    """
    The answer of ``mediator.explain(request)``; ``str()`` of it is readable. Immutable.

    .. versionadded:: 0.1
    """

    #: Wire name of the request type.
    type_name: str
    #: Name of the router.
    router: str
    #: Those that may take it.
    candidates: tuple[ClusterNode, ...]
    #: Those that may not, and why.
    excluded: tuple[Verdict, ...]
    #: The one that would be taken now; None when there is none.
    chosen: ClusterNode | None
    #: Whether it may be sent to a second node after the first gave no answer.
    repeatable: bool
    #: Seconds that the call would have; None means that nothing bounds it.
    timeout: float | None
    #: Further tries that the budget would grant now.
    budget: float
    #: What is wrong with this node and with others, as far as this process knows: a sentence each.
    troubles: tuple[str, ...] = ()
    #: Why there is no candidate, and what to do; None when there is one.
    note: str | None = None

    def __str__(self) -> str:
        known = len(self.candidates) + len(self.excluded)
        lines = [f"{self.type_name}: {len(self.candidates)} of {known} nodes may take it"]
        for node in self.candidates:
            mark = "->" if self.chosen is not None and node.node_id == self.chosen.node_id else "  "
            where = node.endpoint or "this process"
            lines.append(f" {mark} {node.node_id:24} {where:32} {node.status.name} load {node.load:g}")
        lines.extend(f"  x {verdict.node.node_id:24} {verdict.reason}" for verdict in self.excluded)
        if self.chosen is None:
            lines.append(f"    the call would fail at once: {self.note or 'the router takes none of them'}")
        again = "may be sent again after no answer" if self.repeatable else "is never sent again when it may have run"
        time = "no deadline" if self.timeout is None else f"{self.timeout:.1f} s"
        lines.append(f"    router {self.router}; {time}; {again}; {self.budget:.0f} tries in the budget")
        lines.extend(f"  ! {trouble}" for trouble in self.troubles)
        return "\n".join(lines)
