"""The client of the command line: it lists, probes, calls and drains nodes, and is never registered itself.

Rules of this file:
1. Nothing is printed here, see ``output.py``.
2. A call is sent once.
3. The descriptions of nodes are checked before they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from catga_sync._redaction import cause_of
from catga_sync.cli.drain import PROBE_TIMEOUT, Drain
from catga_sync.cluster.absence import unreadable
from catga_sync.cluster.peers import liveness
from catga_sync.cluster.snapshot import Snapshot, not_preferred, reason_against
from catga_sync.cluster.trust import trust_of
from catga_sync.context import CallContext, new_request_id
from catga_sync.discovery import create_discovery
from catga_sync.discovery.base import place_of
from catga_sync.errors import CatgaError, ConfigurationError
from catga_sync.messages import MAX_NAME
from catga_sync.nodes import ClusterNode, NodeRecord, NodeStatus
from catga_sync.options import ClusterOptions
from catga_sync.results import CatgaResult
from catga_sync.serialization import MessageRegistry
from catga_sync.transport import NodeProbe, create_invoker
from catga_sync.transport.http.diagnosis import trouble_of
from catga_sync.transport.http.probe import Probe, ProbeOutcome

__all__ = ["OperatorClient", "Seen", "StoreDown", "Verdicts", "judge"]

#: Nodes that are probed at the same time.
_AT_ONCE = 32


class StoreDown(CatgaError):
    """The discovery store cannot be read."""


@dataclass(frozen=True)
class Seen:
    """One node as it is seen from here. Immutable."""

    node: ClusterNode
    #: Seconds since its last heartbeat, by the store's clock; None when the store does not know.
    age: float | None = None
    #: Type name -> name of the response's type, by the node's description; empty without one.
    responses: Mapping[str, str] = field(default_factory=dict)
    #: What is wrong with it, as a text; None when nothing is.
    trouble: str | None = None


@dataclass(frozen=True)
class Verdicts:
    """Which nodes may take a message. Immutable."""

    candidates: tuple[Seen, ...]
    #: The other nodes, and why they may not.
    excluded: tuple[tuple[Seen, str], ...]


def judge(seen: Sequence[Seen], type_name: str, contract: str | None) -> Verdicts:
    """
    Return which nodes may take a request of this type, by the rules of every sender.

    Args:
        seen: The nodes.
        type_name: Wire name of the request type.
        contract: The sender's contract of the type; None when it is unknown, and not compared.
    """
    nodes = [each.node if contract is not None else replace(each.node, contracts={}) for each in seen]
    there = tuple(node for node in nodes if node.status is not NodeStatus.OFFLINE)
    chosen = Snapshot(there, ClusterNode("-", None)).candidates(type_name, contract or "", here=False)
    ids = {node.node_id for node in chosen}
    candidates, excluded = [], []
    for each, node in zip(seen, nodes, strict=True):
        if node.node_id in ids:
            candidates.append(each)
        elif node.status is NodeStatus.OFFLINE:
            excluded.append((each, each.trouble or "it is gone"))
        else:
            excluded.append((each, reason_against(node, type_name, contract or "") or not_preferred(node)))
    return Verdicts(tuple(candidates), tuple(excluded))


class OperatorClient:
    """
    Look at a cluster from outside. Belongs to one thread; a context manager that closes itself.

    Args:
        options: The options of the cluster.
    """

    def __init__(self, options: ClusterOptions) -> None:
        signing = trust_of(options).signing()
        self._options = options
        self._discovery = create_discovery(
            options.discovery,
            cluster_name=options.cluster_name,
            peers=options.peers,
            is_alive=liveness(options.cluster_name),
        )
        self._probe = NodeProbe(verify=options.verify, cert=options.cert, signing=signing)
        self._invoker = create_invoker(
            MessageRegistry(),
            source_node_id=options.node_id,
            pool_size=1,
            max_body_bytes=options.max_body_bytes,
            compresses=options.compression != "off",
            session=options.session,
            verify=options.verify,
            cert=options.cert,
            signing=signing,
        )

    def __enter__(self) -> OperatorClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._invoker.close()
        self._discovery.close()

    @property
    def where(self) -> str:
        """Where nodes are looked for, as a text."""
        return place_of(self._discovery)

    def nodes(self, *, ask_all: bool = False) -> list[Seen]:
        """
        Return the nodes of the cluster, ordered by id.

        Args:
            ask_all: Whether every node is probed, or only those of which the store has no more than the endpoint, or no
                recent heartbeat.

        Raises:
            StoreDown: The store cannot be read.
        """
        seen = [self._seen(record) for record in self._records()]
        doubtful = (NodeStatus.SUSPECT, NodeStatus.FAULTED)
        asked = [each for each in seen if ask_all or each.node.handles is None or each.node.status in doubtful]
        if not asked:
            return seen
        with ThreadPoolExecutor(min(len(asked), _AT_ONCE), thread_name_prefix="catga-cli") as pool:
            probed = {each.node.node_id: each for each in pool.map(self._ask, asked)}
        return [probed.get(each.node.node_id, each) for each in seen]

    def look(self, endpoint: str, node_id: str | None, listed: Sequence[Seen]) -> Seen:
        """
        Probe an endpoint, and return why it is not one of the listed nodes.

        Args:
            endpoint: The endpoint.
            node_id: The id of the node that is expected there; None means any. Without it a node that requires signed
                calls does not describe itself.
            listed: The result of ``nodes``.
        """
        expected = ClusterNode("?" if node_id is None else node_id, endpoint)
        probe = self._probe.ask(expected.node_id, endpoint, min(PROBE_TIMEOUT, self._options.request_timeout))
        trouble = trouble_of(probe, own_id=node_id)
        if trouble is not None:
            return Seen(replace(expected, status=NodeStatus.OFFLINE), trouble=str(trouble))
        seen = self._described(Seen(replace(expected, node_id=probe.node_id or "?")), probe)
        if seen.trouble is None and seen.node.node_id not in [each.node.node_id for each in listed]:
            text = "it responds, and is not among the nodes: has it the discovery and cluster_name of this command?"
            return replace(seen, trouble=text)
        return seen

    def call(self, node: ClusterNode, type_name: str, payload: bytes, response_name: str) -> CatgaResult[bytes]:
        """Send a payload to a node, once."""
        return self._invoker.invoke_raw(
            node,
            type_name,
            payload,
            response_name=response_name,
            timeout=self._options.request_timeout,
            call=CallContext(new_request_id()),
        )

    def drain(self, node: ClusterNode, tell: Callable[[str], None]) -> str | None:
        """Have a node go offline, and wait until nothing runs there; see ``Drain``."""
        return Drain(node, self._probe, self._is_listed, tell).run(self._options.request_timeout)

    def _records(self) -> list[NodeRecord]:
        try:
            records = self._discovery.nodes()
        except Exception as exc:
            raise StoreDown(unreadable(self.where, cause_of(exc))) from exc
        return sorted((each for each in records if each.node.endpoint is not None), key=lambda each: each.node.node_id)

    def _is_listed(self, node_id: str, incarnation: str) -> bool:
        try:
            found = [each.node for each in self._records() if each.node.node_id == node_id]
        except StoreDown:
            return True
        return any(not node.incarnation or node.incarnation == incarnation for node in found)

    def _seen(self, record: NodeRecord) -> Seen:
        node = record.node
        missed = record.age is not None and record.age > 3 * self._options.heartbeat_interval
        if missed and node.status is NodeStatus.ONLINE:
            node = replace(node, status=NodeStatus.SUSPECT)
        return Seen(node, record.age)

    def _ask(self, seen: Seen) -> Seen:
        node = seen.node
        probe = self._probe.ask(node.node_id, node.endpoint or "", min(PROBE_TIMEOUT, self._options.request_timeout))
        trouble = trouble_of(probe)
        if trouble is None:
            return self._described(seen, probe)
        if probe.outcome is ProbeOutcome.REFUSED:
            node = replace(node, status=NodeStatus.OFFLINE)
        elif probe.outcome is ProbeOutcome.SILENT and node.status is NodeStatus.ONLINE:
            node = replace(node, status=NodeStatus.SUSPECT)
        return replace(seen, node=node, trouble=str(trouble))

    def _described(self, seen: Seen, probe: Probe) -> Seen:
        node = seen.node
        data = {**probe.description, "nodeId": node.node_id, "endpoint": node.endpoint}
        try:
            described = NodeRecord.from_mapping(data).node
        except ConfigurationError as exc:
            return replace(seen, trouble=f"its description is invalid: {exc}")
        described = described if described.incarnation else replace(described, incarnation=node.incarnation)
        trouble = probe.description.get("trouble")
        own = f"it is not visible to other nodes: {trouble[:1000]}" if isinstance(trouble, str) and trouble else None
        return replace(seen, node=described, responses=_responses(probe.description), trouble=own)


def _responses(description: Mapping[str, object]) -> Mapping[str, str]:
    described = description.get("responses")
    if not isinstance(described, dict):
        return {}
    return {
        name: response
        for name, response in described.items()
        if isinstance(name, str) and isinstance(response, str) and len(response) <= MAX_NAME
    }
