"""The objects of Kubernetes that discovery meets, made and judged by the official client."""

from __future__ import annotations

import json
from typing import Any

from kubernetes.client import (
    ApiClient,
    DiscoveryV1EndpointPort,
    V1Endpoint,
    V1EndpointConditions,
    V1EndpointSlice,
    V1ObjectMeta,
    V1ObjectReference,
)

__all__ = ["endpoint_slice", "judged", "pod", "port", "status", "written"]


def written(model: Any) -> dict[str, Any]:
    """Return a model of the official client as JSON."""
    as_json: dict[str, Any] = ApiClient().sanitize_for_serialization(model)  # type: ignore[no-untyped-call]  # theirs
    return as_json


def judged(item: dict[str, Any], kind: str) -> dict[str, Any]:
    """
    Return an object as the official client writes it after having read it.

    Raises:
        ValueError: It does not read it, or does not read all of it.
    """
    again = written(ApiClient().deserialize(json.dumps(item), kind, "application/json"))
    if _without_nulls(item) != again:
        raise ValueError(f"of {item} the official client reads {again}")
    return again


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def pod(
    name: str | None,
    *addresses: str,
    ready: bool | None = True,
    serving: bool | None = None,
    terminating: bool | None = None,
    uid: str | None = None,
    kind: str = "Pod",
) -> V1Endpoint:
    """Return the endpoint of a pod; without a name, one that nothing stands behind."""
    target = None
    if name is not None:
        target = V1ObjectReference(kind=kind, namespace="shop", name=name, uid=f"uid-{name}" if uid is None else uid)
    conditions = V1EndpointConditions(ready=ready, serving=serving, terminating=terminating)
    return V1Endpoint(addresses=list(addresses), conditions=conditions, target_ref=target, node_name="worker-1")


def port(number: int | None, name: str | None = "http", protocol: str | None = "TCP") -> DiscoveryV1EndpointPort:
    """Return a port of a slice."""
    return DiscoveryV1EndpointPort(name=name, port=number, protocol=protocol)


def endpoint_slice(
    name: str,
    *endpoints: V1Endpoint,
    service: str = "users",
    ports: list[DiscoveryV1EndpointPort] | None = None,
    address_type: str = "IPv4",
) -> V1EndpointSlice:
    """Return an EndpointSlice as the control plane writes them."""
    labels = {
        "kubernetes.io/service-name": service,
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    return V1EndpointSlice(
        api_version="discovery.k8s.io/v1",
        kind="EndpointSlice",
        metadata=V1ObjectMeta(name=name, generate_name=f"{service}-", labels=labels),
        address_type=address_type,
        endpoints=list(endpoints),
        ports=[port(8000)] if ports is None else ports,
    )


def status(code: int, reason: str, message: str, **details: Any) -> dict[str, Any]:
    """Return the Status object of a failure."""
    item = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
        **({"details": details} if details else {}),
    }
    return judged(item, "V1Status")
