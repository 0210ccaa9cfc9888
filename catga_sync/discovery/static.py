"""A fixed list of peers, written in the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from catga_sync.errors import ConfigurationError
from catga_sync.nodes import ClusterNode, NodeRecord, check_endpoint, check_node_id

__all__ = ["StaticDiscovery"]


class StaticDiscovery:
    """
    Hand out the given peers. Immutable, thread-safe.

    A peer counts as a node that may handle any type until it has described itself.

    Args:
        peers: Node id -> endpoint.

    Raises:
        ConfigurationError: A node id or an endpoint is wrong.

    .. versionadded:: 0.1
    """

    refresh_interval = 1.0

    def __init__(self, peers: Mapping[str, str]) -> None:
        if not isinstance(peers, Mapping):
            raise ConfigurationError(f'peers: give a mapping such as {{"node-2": "http://host:port"}}, not {peers!r}')
        self._records = tuple(
            NodeRecord(ClusterNode(check_node_id(node_id, "peers"), check_endpoint(endpoint, f"peers[{node_id!r}]")))
            for node_id, endpoint in peers.items()
        )

    @property
    def where(self) -> str:
        """See ``Discovery``."""
        named = ", ".join(record.node.node_id for record in self._records[:5])
        more = ", ..." if len(self._records) > 5 else ""
        return f"the option peers, which names {named or 'no node'}{more}"

    def register(self, record: NodeRecord, ttl: float) -> None:
        """See ``Discovery``. There is nowhere to write to: the others have their own lists."""

    def deregister(self, node_id: str, incarnation: str) -> None:
        """See ``Discovery``."""

    def nodes(self) -> Sequence[NodeRecord]:
        """See ``Discovery``."""
        return self._records

    def close(self) -> None:
        """See ``Discovery``."""
