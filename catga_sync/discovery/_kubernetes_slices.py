"""Which Service is meant, and what its EndpointSlices say about nodes.

Rules of this file:
1. Pure: no I/O, no clock, no state.
2. What is not an EndpointSlice of the service is an error: the answer it came in cannot be believed. An endpoint that
   no node can have is left out, with the reason, and takes none of the others along.
3. One record for each node, however many slices name it: the control plane moves endpoints between slices, and for
   a moment they are in two (https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#duplicate-endpoints).
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from catga_sync.errors import ConfigurationError
from catga_sync.nodes import ClusterNode, NodeRecord, NodeStatus, check_endpoint, check_node_id
from catga_sync.redaction import shown

__all__ = ["Service", "Sighting", "Slice", "merge", "parse_url", "read_slice"]

#: Namespaces, services and ports are DNS labels.
_LABEL = re.compile(r"[a-z0-9]([a-z0-9\-]{0,61}[a-z0-9])?")
_SERVICE_NAME = "kubernetes.io/service-name"
#: Characters in a name of Kubernetes.
_LONGEST_NAME = 253
#: By the order of preference where a node has both. Of FQDN, the third type, Kubernetes says that it has no meaning.
_FAMILIES = {"IPv4": 0, "IPv6": 1}


@dataclass(frozen=True, slots=True)
class Service:
    """What a ``kubernetes://`` URL names. Immutable."""

    #: "" means the namespace of the service account.
    namespace: str
    name: str
    #: Name or number of the port; None means the first one.
    port: str | None = None
    scheme: str = "http"


@dataclass(frozen=True, slots=True)
class Sighting:
    """One endpoint of one slice that is fit to be a node. Immutable."""

    node_id: str
    endpoint: str
    #: Of the pod; "" when there is none.
    uid: str
    draining: bool
    #: Place of its address family in the order of preference.
    family: int


@dataclass(frozen=True, slots=True)
class Slice:
    """What there is to know of one EndpointSlice. Immutable."""

    name: str
    sightings: tuple[Sighting, ...]
    #: Why endpoints were left out; empty when none was.
    problems: tuple[str, ...] = ()


def parse_url(url: str, port_name: str | None = None) -> Service:
    """
    Read ``kubernetes://namespace/service[:port][?scheme=https]``.

    Args:
        url: The URL.
        port_name: The port, if the URL has none.

    Raises:
        ConfigurationError: It is no such URL; the text says what to write.
    """
    wanted = "write kubernetes://namespace/service or kubernetes://namespace/service:port"
    if not isinstance(url, str):
        raise ConfigurationError(f"discovery: {wanted}, not {shown(url)}")
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), max_num_fields=10)
    except ValueError:
        # The text of this error would show a part of the URL.
        parts, query = urlsplit(""), []
    if parts.scheme != "kubernetes" or parts.fragment or not parts.path.strip("/"):
        raise ConfigurationError(f"discovery: {wanted}, not {shown(url)}")
    name, colon, port = parts.path[1:].partition(":")
    for what, label in (("namespace", parts.netloc or "x"), ("service", name), ("port", port if colon else "x")):
        if not _LABEL.fullmatch(label):
            raise ConfigurationError(f"discovery: the {what} in {shown(url)} is no name of one; {wanted}")
    scheme = "http"
    for key, value in query:
        if key != "scheme" or value not in ("http", "https"):
            raise ConfigurationError(
                f"discovery: only ?scheme=http or ?scheme=https may follow, and not {shown(key)}, in {shown(url)}"
            )
        scheme = value
    if port_name is not None:
        if not isinstance(port_name, str) or not _LABEL.fullmatch(port_name):
            raise ConfigurationError(f"port_name: give the name or number of a port as text, not {shown(port_name)}")
        if colon and port != port_name:
            raise ConfigurationError(f"port_name: {shown(port_name)} is not the port in {shown(url)}; name it once")
    return Service(parts.netloc, name, port if colon else port_name, scheme)


def read_slice(item: object, service: Service) -> Slice:
    """
    Read an EndpointSlice as parsed JSON.

    Raises:
        ValueError: It is none, or one of another service.
    """
    if not isinstance(item, Mapping):
        raise ValueError("an EndpointSlice is expected")  # noqa: TRY004 - one kind of error for whatever was sent
    # A list leaves kind and version of its items out; an event does not.
    if item.get("kind", "EndpointSlice") != "EndpointSlice":
        raise ValueError(f"an EndpointSlice is expected, not {_short(item.get('kind'))}")
    metadata = _mapping(item, "metadata")
    name, labels = metadata.get("name"), _mapping(metadata, "labels")
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        raise ValueError("metadata.name: a name of Kubernetes is expected")
    if labels.get(_SERVICE_NAME) != service.name:
        raise ValueError(f"EndpointSlice {_short(name)} belongs to {_short(labels.get(_SERVICE_NAME))}")
    # Go writes a list that was never filled as null.
    endpoints, ports = _list(item, "endpoints"), _list(item, "ports")
    if not endpoints:
        return Slice(name, ())
    family = _FAMILIES.get(str(item.get("addressType")))
    if family is None:
        return Slice(name, (), (f"EndpointSlice {name}: address type {_short(item.get('addressType'))} is left out",))
    port = _choose_port(ports, service.port)
    if port is None:
        return Slice(name, (), (f"EndpointSlice {name}: {_no_port(ports, service)}",))
    sightings, problems = [], []
    for endpoint in endpoints:
        try:
            sighting = _read_endpoint(endpoint, service.scheme, port, family)
        except ValueError as exc:
            problems.append(f"EndpointSlice {name}: an endpoint is left out: {exc}")
        else:
            if sighting is not None:
                sightings.append(sighting)
    return Slice(name, tuple(sightings), tuple(problems))


def merge(slices: Iterable[Slice]) -> tuple[NodeRecord, ...]:
    """Return one record for each node, by node id."""
    sightings = [sighting for each in slices for sighting in each.sightings]
    # Termination is never taken back: of two slices that disagree about one pod, the one that tells of it is newer.
    ending = {(each.node_id, each.uid) for each in sightings if each.draining and each.uid}
    best: dict[str, tuple[tuple[bool, int, str, str], NodeRecord]] = {}
    for each in sightings:
        draining = each.draining or (each.node_id, each.uid) in ending
        # A pod of a StatefulSet comes back under its name while its predecessor still drains: the new one is it.
        rank = (draining, each.family, each.endpoint, each.uid)
        held = best.get(each.node_id)
        if held is None or rank < held[0]:
            status = NodeStatus.DRAINING if draining else NodeStatus.ONLINE
            node = ClusterNode(each.node_id, each.endpoint, status=status, incarnation=each.uid)
            best[each.node_id] = (rank, NodeRecord(node))
    return tuple(record for _, (_, record) in sorted(best.items()))


def _read_endpoint(endpoint: object, scheme: str, port: int, family: int) -> Sighting | None:
    """Return the endpoint, or None when it takes no calls; ValueError when no node can be there."""
    if not isinstance(endpoint, Mapping):
        raise ValueError("an object is expected")  # noqa: TRY004 - as above
    draining = _is_draining(_mapping(endpoint, "conditions"))
    if draining is None:
        return None
    # What further addresses would mean is not defined, and kube-proxy does not look at them either.
    addresses = _list(endpoint, "addresses")
    host = _host(addresses[0] if addresses else None, family)
    url = check_endpoint(f"{scheme}://{host}:{port}")
    target = _mapping(endpoint, "targetRef")
    name, uid = target.get("name"), target.get("uid")
    node_id = host.strip("[]").replace(".", "-").replace(":", "-")
    if target.get("kind", "Pod") == "Pod" and isinstance(name, str):
        # A pod's name may have 253 characters, a node's id 128: no node goes by such a one.
        with contextlib.suppress(ConfigurationError):
            node_id = check_node_id(name)
    return Sighting(node_id, url, uid if isinstance(uid, str) and len(uid) <= 64 else "", draining, family)


def _is_draining(conditions: Mapping[str, Any]) -> bool | None:
    """Return False for a node that takes calls, True for one that finishes what it has, None for neither."""
    given = {name: conditions.get(name) for name in ("ready", "serving", "terminating")}
    for name, value in given.items():
        if value is not None and not isinstance(value, bool):
            raise ValueError(f"conditions.{name}: true or false is expected")
    # Unset means true, true and false. A Service that publishes pods that are not ready calls every pod ready, ending
    # ones too, so "terminating" is looked at first.
    if given["terminating"]:
        return None if given["serving"] is False else True
    return None if given["ready"] is False else False


def _host(address: object, family: int) -> str:
    if not isinstance(address, str) or len(address) > 64:
        raise ValueError("addresses: an address is expected")
    if family == _FAMILIES["IPv4"]:
        return str(ipaddress.IPv4Address(address))
    parsed = ipaddress.IPv6Address(address)
    if parsed.scope_id is not None or parsed.ipv4_mapped is not None:
        raise ValueError(f"{address!a}: an IPv6 address without zone, and no IPv4 one in disguise, is expected")
    return f"[{parsed}]"


def _choose_port(ports: list[Any], wanted: str | None) -> int | None:
    """Return the number of the port that is asked for by name or number, or else of the first one."""
    open_ports = _tcp_ports(ports)
    if wanted is None:
        return open_ports[0][1] if open_ports else None
    for name, number in open_ports:
        if wanted in (name, str(number)):
            return number
    # A headless Service need not list its ports.
    number = int(wanted) if wanted.isdecimal() else 0
    return number if not ports and 0 < number < 65536 else None


def _tcp_ports(ports: list[Any]) -> list[tuple[str, int]]:
    found = []
    for port in ports:
        if not isinstance(port, Mapping):
            raise ValueError("ports: objects are expected")  # noqa: TRY004 - as above
        number, name = port.get("port"), port.get("name")
        if isinstance(number, int) and 0 < number < 65536 and port.get("protocol") in (None, "TCP"):
            # It is shown in the log where the port that is asked for is not among them.
            shown_as_it_is = isinstance(name, str) and len(name) <= _LONGEST_NAME and name.isprintable()
            found.append((str(name) if shown_as_it_is else "", number))
    return found


def _no_port(ports: list[Any], service: Service) -> str:
    names = ", ".join(f"{name or '(no name)'} = {number}" for name, number in _tcp_ports(ports)[:10])
    if service.port is None:
        return f"no TCP port; give the Service one, or write kubernetes://{service.namespace}/{service.name}:NUMBER"
    return f"no TCP port {service.port!r}; there are: {names or 'none'}"


def _mapping(item: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = item.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: an object is expected")  # noqa: TRY004 - as above
    return value


def _list(item: Mapping[str, Any], name: str) -> list[Any]:
    value = item.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{name}: a list is expected")  # noqa: TRY004 - as above
    return value


def _short(value: object) -> str:
    return repr(value)[:80]
