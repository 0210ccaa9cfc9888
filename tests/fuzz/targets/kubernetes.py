"""What a Kubernetes API server says: slices as parsed JSON, and lists and watches as they come over HTTP."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from catga_sync._clock import SYSTEM_CLOCK
from catga_sync.discovery._kubernetes_api import ApiServer, Settings
from catga_sync.discovery._kubernetes_responses import KubernetesApiError
from catga_sync.discovery._kubernetes_slices import Service, merge, read_slice
from catga_sync.errors import SerializationError
from catga_sync.nodes import NodeRecord
from catga_sync.serialization import jsontext
from tests.fuzz.peer import Peer
from tests.fuzz.target import Check, Finding, Target, pure

__all__ = ["TARGETS"]

_SERVICES = tuple(Service("shop", "orders", port) for port in (None, "http", "5001"))


def _judge(items: Iterable[Any]) -> bool:
    """Read slices; return whether there was a node in any of them."""
    items = list(items)
    nodes = False
    for service in _SERVICES:
        slices = []
        for item in items:
            try:
                slices.append(read_slice(item, service))
            except ValueError as exc:
                if not str(exc).isprintable():
                    raise Finding(f"a refusal is not one printable line: {str(exc)!a}") from exc
        for problem in (problem for each in slices for problem in each.problems):
            if not problem.isprintable():
                raise Finding(f"a problem is not one printable line: {problem!a}")
        records = merge(slices)
        if len({each.node.node_id for each in records}) != len(records):
            raise Finding("a node has two records")
        for record in records:
            if NodeRecord.from_text(record.to_text()) != record:
                raise Finding(f"a record that no node can have: {record!a}")
        nodes = nodes or bool(records)
    return nodes


def _slices(data: bytes) -> bool:
    try:
        items = jsontext.loads(data)
    except SerializationError:
        return False
    return _judge(items if isinstance(items, list) else [items])


def _slice(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "EndpointSlice",
        "metadata": {
            "name": "orders-x7",
            "labels": {"kubernetes.io/service-name": "orders"},
            "resourceVersion": "7",
        },
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": ["10.0.0.7"],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "targetRef": {"kind": "Pod", "name": "orders-0", "uid": "1f0c"},
            },
            {"addresses": ["10.0.0.8"], "conditions": {"terminating": True}},
        ],
        "ports": [{"name": "http", "port": 5001, "protocol": "TCP"}],
        **changes,
    }


def _slice_seeds() -> list[bytes]:
    six = _slice(
        addressType="IPv6", endpoints=[{"addresses": ["fd00::7"]}, {"addresses": ["fe80::1%eth0"]}], ports=None
    )
    other = _slice(metadata={"name": "x", "labels": {"kubernetes.io/service-name": "users"}})
    return [json.dumps(each).encode() for each in (_slice(), [_slice(), six], [six, other, _slice(endpoints=None)])]


# -- over HTTP --------------------------------------------------------------------------------------------------------


def _prepare_list(place: str) -> Check:
    peer = Peer()

    def check(data: bytes) -> bool:
        try:
            with peer.sending(data):
                version, items = _server(peer).list()
        except KubernetesApiError as exc:
            _is_told(exc)
            return False
        if not isinstance(version, str) or not 0 < len(version) <= 128:
            raise Finding(f"a list of version {version!a}")
        _judge(items)
        return True

    return check


def _prepare_watch(place: str) -> Check:
    peer = Peer()

    def check(data: bytes) -> bool:
        seen: list[Any] = []
        try:
            with peer.sending(data), _server(peer).watch("1", 5) as events:
                for kind, item, version in events:
                    if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK") or not 0 < len(version) <= 128:
                        raise Finding(f"an event {kind!a} of version {version!a}")
                    seen.append(item)
        except KubernetesApiError as exc:
            _is_told(exc)
        _judge(seen)
        return bool(seen)

    return check


def _server(peer: Peer) -> ApiServer:
    return ApiServer(
        Settings(
            Service("shop", "orders"),
            peer.url,
            token_file=None,
            ca_file=None,
            namespace_file=Path("namespace"),
            timeout=3.0,
            watch_timeout=5.0,
            idle_timeout=5.0,
            clock=SYSTEM_CLOCK,
            pause=threading.Event.wait,
            rng=random.Random(0),
        )
    )


def _is_told(exc: KubernetesApiError) -> None:
    if exc.retry_after is not None and not 0 < exc.retry_after <= 300.0:
        raise Finding(f"the server may ask for {exc.retry_after} s") from exc
    if not str(exc).isprintable() or len(str(exc)) > 2000:
        raise Finding(f"an error is not one printable line: {str(exc)!a}") from exc


def _http(body: str, status: str = "200 OK", *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", body]).encode()


def _list_seeds() -> list[bytes]:
    listed = {"kind": "EndpointSliceList", "metadata": {"resourceVersion": "7"}, "items": [_slice()]}
    refusal = {"kind": "Status", "message": "too many", "details": {"retryAfterSeconds": 3}}
    return [
        _http(json.dumps(listed)),
        _http(json.dumps(listed | {"metadata": {"resourceVersion": "7", "continue": "more"}})),
        _http(json.dumps(refusal), "429 Too Many Requests", "Retry-After: 2"),
        _http("", "302 Found", "Location: http://127.0.0.1:1/"),
        _http("\x1f", "200 OK", "Content-Encoding: gzip"),
    ]


def _watch_seeds() -> list[bytes]:
    events = [
        {"type": "ADDED", "object": _slice()},
        {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}},
        {"type": "DELETED", "object": _slice()},
        {"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}},
    ]
    lines = [json.dumps(each) + "\n" for each in events]
    chunks = "".join(f"{len(line):x}\r\n{line}\r\n" for line in lines)
    return [
        _http("".join(lines)),
        _http("".join(lines[:3])),
        _http(f"{chunks}0\r\n\r\n", "200 OK", "Transfer-Encoding: chunked"),
        _http(lines[0] + lines[1][:20]),
    ]


_WORDS = (
    "kind", "metadata", "name", "labels", "kubernetes.io/service-name", "endpoints", "addresses", "conditions", "ready",
    "serving", "terminating", "targetRef", "uid", "addressType", "IPv6", "ports", "port", "protocol", "type", "object",
    "resourceVersion", "continue", "code", "message", "retryAfterSeconds", "1e999", "\\ud800", "\\u000a", "fe80::1%",
    "\n", "null", "true", "Retry-After: ", "Transfer-Encoding: chunked\r\n", "Content-Length: ", "HTTP/1.1 410 \r\n",
)  # fmt: skip

TARGETS = (
    Target("kubernetes-slices", pure(_slices), _slice_seeds, _WORDS),
    Target("kubernetes-list", _prepare_list, _list_seeds, _WORDS),
    Target("kubernetes-watch", _prepare_watch, _watch_seeds, _WORDS),
)
