"""A node of the cluster, and the record with which it describes itself to others."""

from __future__ import annotations

import enum
import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn

from catga_sync._checks import is_id, is_number
from catga_sync._endpoint import GRPC_SCHEMES, check_endpoint, check_grpc_endpoint
from catga_sync._redaction import shown
from catga_sync._text_enum import TextEnum
from catga_sync.errors import ConfigurationError
from catga_sync.messages import MAX_NAME

__all__ = [
    "STREAM",
    "UNSIGNED",
    "ClusterNode",
    "NodeRecord",
    "NodeStatus",
    "check_node_id",
    "check_peer",
    "is_plain_json",
]

#: Characters of a record as text; a longer one is refused without parsing it.
MAX_RECORD = 256 * 1024
#: Levels of objects and arrays in metadata; with the record around it, the depth that our JSON reader allows.
MAX_LEVELS = 31
#: The feature of a node that neither signs nor checks signatures.
UNSIGNED = "unsigned"
#: The feature of a node that serves streams, with their version; see ``wire/frames.py``.
STREAM = "stream/1"
#: Seconds, one day: no server keeps an idle connection for longer.
_LONGEST_KEEP_ALIVE = 86_400


@enum.unique
class NodeStatus(TextEnum):
    """The state of a node, as the other nodes see it."""

    #: It responds and accepts calls.
    ONLINE = "ONLINE"
    #: It has missed heartbeats, and is used only if no node is online.
    SUSPECT = "SUSPECT"
    #: Its calls failed, and it gets none for a while.
    FAULTED = "FAULTED"
    #: It finishes its calls and accepts no new ones.
    DRAINING = "DRAINING"
    #: It has left.
    OFFLINE = "OFFLINE"


def check_node_id(value: object, option: str = "node_id") -> str:
    """
    Return a valid node id.

    Raises:
        ConfigurationError: The id is not 1 to 128 characters of ``A-Z a-z 0-9 . _ : -``.
    """
    if is_id(value):
        return value
    raise ConfigurationError(f"{option}: give 1 to 128 characters of A-Z a-z 0-9 . _ : -, not {shown(value)}")


@dataclass(frozen=True)
class ClusterNode:
    """
    One node of the cluster. Immutable; only ``node_id`` and ``endpoint`` are needed to make one.

    .. versionadded:: 0.1
    """

    node_id: str
    #: ``http://host:port``; None if this process is a pure client.
    endpoint: str | None
    status: NodeStatus = NodeStatus.ONLINE
    #: 0 to 100, reported by the node.
    load: float = 0.0
    #: Seconds since the epoch of the last heartbeat that this process has seen; None if it has seen none.
    last_heartbeat: float | None = field(default=None, compare=False)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    #: The names of the request types that the node handles; None if unknown, which means any type.
    handles: frozenset[str] | None = None
    #: Identifies one run of the node, from its first worker to its last; changes with a restart. "" if unknown.
    incarnation: str = ""
    #: The names of the event types that the node has subscribers for; None if unknown.
    subscribes: frozenset[str] | None = None
    #: Type name -> contract, for the types that the node has described; see ``serialization/contract.py``.
    contracts: Mapping[str, str] = field(default_factory=dict)
    #: Seconds that the node keeps an idle connection open; None if unknown.
    keep_alive: float | None = None
    #: Concurrent calls that the node accepts, all its workers together; None if unknown.
    concurrency: int | None = None
    #: Optional parts of the protocol that the node supports: "batch", "gzip" and "br" (compressed requests); and
    #: "unsigned" if it neither signs nor verifies.
    features: frozenset[str] = frozenset()
    #: Whether ``peers`` declares that the node signs its responses; None if not given. If False, requests to the
    #: node are not signed and its unsigned responses are accepted.
    signed: bool | None = None
    #: ``grpc://host:port`` or ``grpcs://host:port``, at which the node is called over gRPC as well; None if it is not.
    grpc_endpoint: str | None = None

    @property
    def grpc_address(self) -> str | None:
        """The endpoint for calls over gRPC: ``endpoint`` if it is one, else ``grpc_endpoint``."""
        endpoint = self.endpoint
        return endpoint if endpoint is not None and endpoint.startswith(GRPC_SCHEMES) else self.grpc_endpoint

    def __post_init__(self) -> None:
        fill = object.__setattr__
        if type(self.status) is not NodeStatus:
            fill(self, "status", NodeStatus(self.status))
        for name in ("handles", "subscribes", "features"):
            types = getattr(self, name)
            if types is not None and not isinstance(types, frozenset):
                fill(self, name, frozenset(types))
        for name in ("metadata", "contracts"):
            fill(self, name, MappingProxyType(dict(getattr(self, name))))

    def may_handle(self, type_name: str) -> bool:
        """Return whether the node handles this type, or has not described what it handles."""
        return self.handles is None or type_name in self.handles

    def __hash__(self) -> int:
        return hash((self.node_id, self.incarnation))

    def __reduce__(self) -> tuple[Any, ...]:
        values = dict(self.__dict__, metadata=dict(self.metadata), contracts=dict(self.contracts))
        return (functools.partial(ClusterNode, **values), ())


def check_peer(node_id: object, given: object) -> ClusterNode:
    """
    Return the node for an entry of the option ``peers``.

    Args:
        node_id: The id of the node.
        given: Its endpoint, or a mapping with ``url`` and optionally ``signed`` and ``handles``.

    Raises:
        ConfigurationError: The entry is wrong; the text starts with ``peers``.
    """
    option = f"peers[{check_node_id(node_id, 'peers')!r}]"
    known: Mapping[Any, Any] = given if isinstance(given, Mapping) else {"url": given}
    unknown = sorted(str(name) for name in known.keys() - {"url", "signed", "handles"})
    if unknown or "url" not in known:
        wanted = 'give an endpoint, or a mapping such as {"url": "http://host:port", "signed": False}'
        raise ConfigurationError(f"{option}: {wanted}, not one {f'with {unknown[0]}' if unknown else 'without url'}")
    signed, handles = known.get("signed"), known.get("handles")
    if not (signed is None or isinstance(signed, bool)):
        raise ConfigurationError(f"{option}: signed is True or False, not {shown(signed)}")
    if isinstance(handles, (tuple, set, frozenset)):
        handles = list(handles)
    try:
        types = _types({"handles": handles}, "handles")
    except ConfigurationError as exc:
        raise ConfigurationError(f"{option}: {exc}") from exc
    return ClusterNode(check_node_id(node_id), check_endpoint(known["url"], option), handles=types, signed=signed)


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """
    The record of a node in a discovery store. Immutable.

    It has no time of writing. Its age comes from the clock of the store, or from a reader that notes on its own clock
    when ``seq`` has changed. So the clocks of two machines need not agree.
    """

    node: ClusterNode
    #: Increases with every heartbeat of one incarnation.
    seq: int = 0
    #: Seconds since it was written, by the clock of the store that returned it; None if unknown.
    age: float | None = None

    def to_text(self) -> str:
        """Return the record as JSON text."""
        return json.dumps(self.to_mapping())

    def to_mapping(self) -> dict[str, Any]:
        """Return the record as a JSON object, in which a node describes itself to its peers as well."""
        node = self.node
        return {
            "nodeId": node.node_id,
            "endpoint": node.endpoint,
            "grpcEndpoint": node.grpc_endpoint,
            "status": node.status.name,
            "load": node.load,
            "incarnation": node.incarnation,
            "seq": self.seq,
            "handles": None if node.handles is None else sorted(node.handles),
            "subscribes": None if node.subscribes is None else sorted(node.subscribes),
            "contracts": dict(sorted(node.contracts.items())),
            "keepAlive": node.keep_alive,
            "concurrency": node.concurrency,
            "features": sorted(node.features),
            "metadata": dict(node.metadata),
        }

    @classmethod
    def from_text(cls, text: str) -> NodeRecord:
        """
        Read a record.

        Raises:
            ConfigurationError: The text is not a valid record; the error names the property.
        """
        if len(text) > MAX_RECORD:
            raise ConfigurationError(f"record: longer than {MAX_RECORD} characters")
        try:
            data = json.loads(text, parse_constant=_no_number)
        except (ValueError, RecursionError) as exc:
            raise ConfigurationError("record: not JSON") from exc
        return cls.from_mapping(data)

    @classmethod
    def from_mapping(cls, data: object) -> NodeRecord:
        """Read a record from parsed JSON; raises as ``from_text`` does."""
        if not isinstance(data, Mapping):
            raise ConfigurationError("record: a JSON object is expected")
        status = data.get("status", "ONLINE")
        load = data.get("load", 0.0)
        seq = data.get("seq", 0)
        incarnation = data.get("incarnation", "")
        keep_alive = data.get("keepAlive")
        metadata = data.get("metadata", {})
        if not isinstance(status, str) or status not in NodeStatus.__members__:
            raise ConfigurationError(f"status: {shown(status)} is not one of {', '.join(NodeStatus.__members__)}")
        if not is_number(load) or not 0 <= load <= 100:
            raise ConfigurationError("load: a number from 0 to 100 is expected")
        if isinstance(seq, bool) or not isinstance(seq, int) or seq < 0:
            raise ConfigurationError("seq: a whole number is expected")
        if not isinstance(incarnation, str) or len(incarnation) > 64:
            raise ConfigurationError("incarnation: up to 64 characters are expected")
        if keep_alive is not None and not (is_number(keep_alive) and 0 <= keep_alive <= _LONGEST_KEEP_ALIVE):
            raise ConfigurationError("keepAlive: seconds are expected")
        if not isinstance(metadata, dict) or not is_plain_json(metadata):
            wanted = f"an object of at most {MAX_LEVELS} levels, with numbers that a float can hold, is expected"
            raise ConfigurationError(f"metadata: {wanted}")
        concurrency = data.get("concurrency")
        if concurrency is not None and (type(concurrency) is not int or concurrency < 1):
            raise ConfigurationError("concurrency: a whole number of at least 1 is expected")
        contracts = data.get("contracts", {})
        if not isinstance(contracts, dict) or not all(isinstance(value, str) for value in contracts.values()):
            raise ConfigurationError("contracts: an object of texts is expected")
        grpc_endpoint = data.get("grpcEndpoint")
        node = ClusterNode(
            node_id=check_node_id(data.get("nodeId"), "nodeId"),
            endpoint=check_endpoint(data.get("endpoint")),
            grpc_endpoint=None if grpc_endpoint is None else check_grpc_endpoint(grpc_endpoint, "grpcEndpoint"),
            status=NodeStatus[status],
            load=float(load),
            metadata=metadata,
            handles=_types(data, "handles"),
            incarnation=incarnation,
            subscribes=_types(data, "subscribes"),
            contracts=contracts,
            keep_alive=None if keep_alive is None else float(keep_alive),
            concurrency=concurrency,
            features=_types(data, "features") or frozenset(),
        )
        return cls(node, seq)


def is_plain_json(value: object) -> bool:
    """Return whether parsed JSON can be metadata: at most ``MAX_LEVELS`` deep, with finite numbers."""
    level = [value]
    for _ in range(MAX_LEVELS + 1):
        if any(isinstance(each, float) and not math.isfinite(each) for each in level):
            return False
        groups = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, (dict, list))]
        if not groups:
            return True
        level = [each for group in groups for each in group]
    return False


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


def _types(data: Mapping[str, Any], name: str) -> frozenset[str] | None:
    names = data.get(name)
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(item, str) and 0 < len(item) <= MAX_NAME for item in names):
        raise ConfigurationError(f"{name}: a list of type names is expected")
    return frozenset(names)
