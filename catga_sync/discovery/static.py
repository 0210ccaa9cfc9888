"""A fixed list of peers, given in the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from catga_sync._redaction import shown
from catga_sync.errors import ConfigurationError
from catga_sync.nodes import NodeRecord, check_peer

__all__ = ["StaticDiscovery"]

_WANTED = 'give a mapping such as {"node-2": "http://host:port"}'


class StaticDiscovery:
    """
    Return the given peers as nodes. Immutable, thread-safe.

    Unless ``handles`` is given for it, a peer may handle any type until it has described itself.

    Args:
        peers: Node id -> endpoint, or -> mapping with ``url`` and, if known, ``signed`` (False for a peer that cannot
            sign) and ``handles`` (names of request types).

    Raises:
        ConfigurationError: A node id or an endpoint is wrong.

    .. versionadded:: 0.1
    """

    refresh_interval = 1.0

    def __init__(self, peers: Mapping[str, str | Mapping[str, Any]]) -> None:
        if not isinstance(peers, Mapping):
            raise ConfigurationError(f"peers: {_WANTED}, not {shown(peers)}")
        self._records = tuple(NodeRecord(check_peer(node_id, given)) for node_id, given in peers.items())

    @property
    def where(self) -> str:
        """See ``Discovery``."""
        named = ", ".join(record.node.node_id for record in self._records[:5])
        more = ", ..." if len(self._records) > 5 else ""
        return f"the option peers, which names {named or 'no node'}{more}"

    def register(self, record: NodeRecord, ttl: float) -> None:
        """See ``Discovery``. Does nothing: each node has a list of its own."""

    def deregister(self, node_id: str, incarnation: str) -> None:
        """See ``Discovery``. Does nothing."""

    def nodes(self) -> Sequence[NodeRecord]:
        """See ``Discovery``."""
        return self._records

    def close(self) -> None:
        """See ``Discovery``."""
