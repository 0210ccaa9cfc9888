"""The ``kubernetes://`` URL, and the nodes in the EndpointSlices of a Service.

Rules of this file:
1. Pure: no I/O, no clock, no state.
2. An object that is not an EndpointSlice of the Service is an error: the whole response is wrong then. An endpoint that
   cannot be a node is left out with a reason, and the others stay.
3. One record for each node, however many slices list it: the control plane moves endpoints between slices, and for
   a moment they are in two (https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#duplicate-endpoints).
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from catga_sync._endpoint import check_endpoint
from catga_sync._redaction import shown
from catga_sync.errors import ConfigurationError
from catga_sync.nodes import ClusterNode, NodeRecord, NodeStatus, check_node_id

__all__ = ["LABEL", "Service", "Slice", "merge", "parse_url", "read_slice"]

#: Names of namespaces, services and ports are DNS labels.
LABEL = re.compile(r"[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?")
_URL = re.compile("(?i:kubernetes)://(L|)/(L)(?::(L))?(?:[?]scheme=(https?))?".replace("L", LABEL.pattern))
_SERVICE_NAME = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a ``kubernetes://`` URL. Immutable."""

    #: "" means the namespace of the service account.
    namespace: str
    name: str
    #: Name or number of the port; None means the first one.
    port: str | None = None
    scheme: str = "http"


@dataclass(frozen=True, slots=True)
class Slice:
    """The nodes of one EndpointSlice, and why endpoints were left out. Immutable."""

    name: str
    nodes: tuple[ClusterNode, ...]
    problems: tuple[str, ...]


def parse_url(url: str) -> Service:
    """
    Read ``kubernetes://namespace/service[:port][?scheme=https]``.

    Raises:
        ConfigurationError: It is another URL; the text says what to write.
    """
    found = _URL.fullmatch(url) if isinstance(url, str) else None
    if found is None:
        raise ConfigurationError(
            "discovery: write kubernetes://namespace/service or kubernetes://namespace/service:port, and ?scheme=https "
            f"after it for nodes that serve TLS; a name is 1 to 63 of a-z, 0-9 and -; not {shown(url)}"
        )
    namespace, name, port, scheme = found.groups()
    return Service(namespace, name, port, scheme or "http")


def read_slice(item: object, service: Service) -> Slice:
    """
    Read an EndpointSlice as parsed JSON.

    Raises:
        ValueError: It is something else, or belongs to another Service.
    """
    fields = _of(dict, item, "an EndpointSlice")
    # The items of a list have no kind; the object of an event has.
    if fields.get("kind", "EndpointSlice") != "EndpointSlice":
        raise ValueError(f"an EndpointSlice is expected, not {_short(fields['kind'])}")
    metadata = _of(dict, fields.get("metadata"), "metadata")
    name, owner = metadata.get("name"), _of(dict, metadata.get("labels"), "labels").get(_SERVICE_NAME)
    if not name or not _is_name(name):
        raise ValueError("metadata.name: a name of Kubernetes is expected")
    if owner != service.name:
        raise ValueError(f"EndpointSlice {_short(name)} belongs to {_short(owner)}")
    ports, family = _tcp_ports(_of(list, fields.get("ports"), "ports")), fields.get("addressType")
    port = _choose_port(ports, service.port, lists_none=not fields.get("ports"))
    endpoints, nodes, problems = _of(list, fields.get("endpoints"), "endpoints"), [], []
    # The third type is FQDN, which Kubernetes gives no meaning.
    if endpoints and family not in ("IPv4", "IPv6"):
        problems.append(f"address type {_short(family)} is left out")
    elif endpoints and port is None:
        problems.append(_no_port(ports, service))
    else:
        for endpoint in endpoints:
            try:
                node = _read_endpoint(_of(dict, endpoint, "an endpoint"), f"{service.scheme}://{{}}:{port}", family)
                nodes += [] if node is None else [node]
            except ValueError as exc:
                problems.append(f"an endpoint is left out: {exc}")
    return Slice(name, tuple(nodes), tuple(f"EndpointSlice {name}: {problem}" for problem in problems))


def merge(slices: Iterable[Slice]) -> tuple[NodeRecord, ...]:
    """Return one record for each node, by node id."""
    nodes = [node for each in slices for node in each.nodes]
    drains = NodeStatus.DRAINING
    # Termination is final: of two slices that disagree about a pod, the one that reports it is newer.
    ending = {(node.node_id, node.incarnation) for node in nodes if node.status is drains and node.incarnation}
    nodes = [replace(node, status=drains) if (node.node_id, node.incarnation) in ending else node for node in nodes]
    # A new pod of a StatefulSet has the name of the one that still drains: the new one counts. IPv4 is preferred to
    # IPv6. The last node of an id stays, so the best comes last.
    nodes.sort(key=lambda n: (n.status is drains, "[" in str(n.endpoint), str(n.endpoint), n.incarnation), reverse=True)
    best = {node.node_id: node for node in nodes}
    return tuple(NodeRecord(best[node_id]) for node_id in sorted(best))


def _read_endpoint(fields: dict[str, Any], url: str, family: str) -> ClusterNode | None:
    """Return the node; None when it takes no calls. Raises ValueError for what cannot be a node."""
    conditions = _of(dict, fields.get("conditions"), "conditions")
    # Unset means true, true and false.
    ready, serving, ending = (conditions.get(name) for name in ("ready", "serving", "terminating"))
    if not {type(ready), type(serving), type(ending)} <= {bool, type(None)}:
        raise ValueError("conditions: true or false is expected")
    # A Service that publishes pods that are not ready reports every pod as ready, terminating ones too.
    if (serving if ending else ready) is False:
        return None
    # Further addresses have no defined meaning, and kube-proxy ignores them too.
    host = _host((_of(list, fields.get("addresses"), "addresses") or [None])[0], family)
    target = _of(dict, fields.get("targetRef"), "targetRef")
    node_id, name, uid = re.sub("[.:]", "-", host.strip("[]")), target.get("name"), target.get("uid")
    if target.get("kind", "Pod") == "Pod":
        # A pod's name may have 253 characters, a node id 128 at most.
        with contextlib.suppress(ConfigurationError):
            node_id = check_node_id(name)
    return ClusterNode(
        node_id,
        check_endpoint(url.format(host)),
        status=NodeStatus.DRAINING if ending else NodeStatus.ONLINE,
        incarnation=uid if isinstance(uid, str) and len(uid) <= 64 else "",
    )


def _host(address: object, family: str) -> str:
    if not isinstance(address, str) or len(address) > 64:
        raise ValueError("addresses: an address is expected")
    if family == "IPv4":
        return str(ipaddress.IPv4Address(address))
    parsed = ipaddress.IPv6Address(address)
    if parsed.scope_id is not None or parsed.ipv4_mapped is not None:
        raise ValueError(f"{address!a}: an IPv6 address without a zone, and not an IPv4 one within IPv6, is expected")
    return f"[{parsed}]"


def _tcp_ports(ports: list[Any]) -> list[tuple[str, int]]:
    """Return name and number of the TCP ports; "" for a name that is not printable, since names are logged."""
    found = []
    for each in ports:
        port = _of(dict, each, "a port")
        number, name = port.get("port"), port.get("name")
        if isinstance(number, int) and 0 < number < 65536 and port.get("protocol") in (None, "TCP"):
            found.append((name if _is_name(name) else "", number))
    return found


def _choose_port(ports: list[tuple[str, int]], wanted: str | None, *, lists_none: bool) -> int | None:
    """Return the number of the port with that name or number, or of the first one; None when there is none."""
    for name, number in ports:
        if wanted in (None, name, str(number)):
            return number
    # A headless Service may list no ports.
    number = int(wanted) if wanted is not None and wanted.isdecimal() and lists_none else 0
    return number if 0 < number < 65536 else None


def _no_port(ports: list[tuple[str, int]], service: Service) -> str:
    if service.port is None:
        return f"no TCP port; give the Service one, or write kubernetes://{service.namespace}/{service.name}:NUMBER"
    names = ", ".join(f"{name or '(no name)'} = {number}" for name, number in ports[:10])
    return f"no TCP port {service.port!r}; there are: {names or 'none'}"


def _of(kind: Any, value: Any, name: str) -> Any:
    """Return a list or an object; null is an empty one, as Go writes a list that was never filled."""
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"{name}: {'a list' if kind is list else 'an object'} is expected")
    return kind() if value is None else value


def _is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 253 and value.isprintable()


def _short(value: object) -> str:
    return repr(value)[:80]
