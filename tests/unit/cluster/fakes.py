"""Stand-ins for what the cluster is made of: a clock, a store, a probe and an invoker that do as they are told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from catga_sync.context import CallContext
from catga_sync.errors import NodeIdTaken
from catga_sync.nodes import ClusterNode, NodeRecord
from catga_sync.results import CatgaResult
from catga_sync.transport.http.probe import Probe, ProbeOutcome

__all__ = ["FakeClock", "FakeInvoker", "FakeProbe", "FakeStore", "node", "record"]


def node(node_id: str, *handles: str, port: int = 1, **said: Any) -> ClusterNode:
    """Return a node that handles those types; one that has not said so if there are none."""
    return ClusterNode(node_id, f"http://{node_id}:{port}", handles=frozenset(handles) if handles else None, **said)


def record(node_id: str, *handles: str, seq: int = 1, age: float | None = None, **said: Any) -> NodeRecord:
    return NodeRecord(node(node_id, *handles, **said), seq, age)


class FakeClock:
    """Goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_700_000_000.0 + self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class FakeStore:
    """Returns the records that it was given, fails or hangs when told to, and notes what was written."""

    refresh_interval = 0.1

    def __init__(self, *records: NodeRecord) -> None:
        self.records = list(records)
        self.error: Exception | None = None
        self.taken_by: str | None = None
        self.registered: list[NodeRecord] = []
        self.deregistered: list[tuple[str, str]] = []
        self.reads = 0
        self.closed = 0
        #: Cleared, it makes a reading hang until it is set.
        self.answers = threading.Event()
        self.answers.set()

    def register(self, record: NodeRecord, ttl: float) -> None:
        if self.taken_by is not None:
            raise NodeIdTaken(record.node.node_id, self.taken_by)
        if self.error is not None:
            raise self.error
        self.registered.append(record)

    def deregister(self, node_id: str, incarnation: str) -> None:
        if self.error is not None:
            raise self.error
        self.deregistered.append((node_id, incarnation))

    def nodes(self) -> list[NodeRecord]:
        self.reads += 1
        self.answers.wait(30)
        if self.error is not None:
            raise self.error
        return list(self.records)

    def close(self) -> None:
        self.closed += 1


class FakeProbe:
    """Answers as it is told to."""

    def __init__(self, node_id: str = "me") -> None:
        self.asked: list[str] = []
        self.outcome = ProbeOutcome.DESCRIBED
        self.said: dict[str, Any] = {"nodeId": node_id}

    def ask(self, node_id: str, endpoint: str, timeout: float) -> Probe:
        self.asked.append(endpoint)
        answered = self.outcome is ProbeOutcome.DESCRIBED
        return Probe(
            self.outcome,
            self.said if answered else {},
            200 if answered else None,
            f"{endpoint}/catga/cluster/node",
            node_id=self.said.get("nodeId") if answered else None,
        )


class FakeInvoker:
    """Answers for each node with a value, a result, or what a function returns; notes every call."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[tuple[str, Any]] = []
        self.timeouts: list[float] = []
        self.contexts: list[Any] = []
        self.ids: list[str] = []
        self.closed = 0

    def invoke(self, node: ClusterNode, request: Any, *, timeout: float, call: CallContext) -> CatgaResult[Any]:
        self.calls.append((node.node_id, request))
        self.timeouts.append(timeout)
        self.contexts.append(call)
        self.ids.append(call.request_id)
        answer = self.answers[node.node_id.replace("-", "_")]
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Callable):  # type: ignore[arg-type]
            answer = answer(request)
        made = answer if isinstance(answer, CatgaResult) else CatgaResult.success(answer)
        return made._with(node_id=node.node_id, request_id=call.request_id)

    @property
    def asked(self) -> list[str]:
        """The nodes that were called, in order."""
        return [node_id for node_id, _ in self.calls]

    def close(self) -> None:
        self.closed += 1


def ids(nodes: Iterable[ClusterNode]) -> list[str]:
    return [each.node_id for each in nodes]
