"""What an API server keeps: objects, the version of them all, and a history until it is compacted."""

from __future__ import annotations

import base64
import copy
import json
import queue
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kubernetes.client import V1EndpointSlice

from tests.external.kubernetes_objects import judged, written

__all__ = ["Change", "Expired", "Store"]

#: What the control plane leaves in every object, and the deepest part of it.
_MANAGED = {
    "manager": "kube-controller-manager",
    "operation": "Update",
    "apiVersion": "discovery.k8s.io/v1",
    "fieldsType": "FieldsV1",
    "fieldsV1": {"f:metadata": {"f:ownerReferences": {".": {}, 'k:{"uid":"0"}': {}}}, "f:endpoints": {}, "f:ports": {}},
}


class Expired(Exception):
    """The version is not kept any more."""


@dataclass(frozen=True)
class Change:
    """One change of one object. Immutable."""

    version: int
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    def seen_by(self, namespace: str, selector: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the event that it is to a watch: an object may come into what is watched, or leave it."""
        was, is_ = (
            item is not None and item["metadata"]["namespace"] == namespace and _selects(selector, item)
            for item in (self.before, self.after)
        )
        if is_ and self.after is not None:
            yield "MODIFIED" if was else "ADDED", _wire(self.after)
        elif was and self.before is not None:
            last = copy.deepcopy(self.before)
            last["metadata"]["resourceVersion"] = str(self.version)
            yield "DELETED", _wire(last)


class Store:
    """Objects by namespace and name. Thread-safe."""

    def __init__(self) -> None:
        #: Whether watches are told of anything.
        self.is_mute = False
        self._lock = threading.Lock()
        # Guarded by _lock:
        self._version = 100
        self._compacted = 0
        self._objects: dict[tuple[str, str], dict[str, Any]] = {}
        self._history: list[Change] = []
        self._watches: list[queue.Queue[Any]] = []

    @property
    def version(self) -> int:
        return self._version

    @property
    def watches(self) -> list[queue.Queue[Any]]:
        with self._lock:
            return list(self._watches)

    def put(self, item: V1EndpointSlice | dict[str, Any], namespace: str) -> None:
        """Create or replace a slice, if the official client can read it."""
        read = judged(item if isinstance(item, dict) else written(item), "V1EndpointSlice")
        read["metadata"]["namespace"] = namespace
        self._change(namespace, read["metadata"]["name"], read)

    def delete(self, name: str, namespace: str) -> None:
        self._change(namespace, name, None)

    def _change(self, namespace: str, name: str, after: dict[str, Any] | None) -> None:
        with self._lock:
            before = self._objects.pop((namespace, name), None)
            self._version += 1
            if after is not None:
                meta = after["metadata"]
                meta["uid"] = str(uuid.uuid4()) if before is None else before["metadata"]["uid"]
                meta["resourceVersion"] = str(self._version)
                meta["managedFields"] = [_MANAGED]
                self._objects[namespace, name] = after
            change = Change(self._version, before, after)
            self._history.append(change)
            for watch in [] if self.is_mute else self._watches:
                watch.put(change)

    def bookmark(self) -> None:
        """Tell the watches the present version: a number."""
        with self._lock:
            for watch in self._watches:
                watch.put(self._version)

    def compact(self) -> None:
        """Forget all changes up to now, as etcd does every five minutes."""
        with self._lock:
            self._compacted = self._version
            self._history.clear()

    def page(self, namespace: str, selector: str, limit: int, more: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """
        Return the items of a page, and the metadata of the list.

        Raises:
            Expired: The version of the first page is not kept any more.
        """
        with self._lock:
            version, start = self._version, ""
            if more:
                token = json.loads(base64.urlsafe_b64decode(more))
                version, start = token["rv"], token["start"]
                if version < self._compacted:
                    raise Expired("The provided continue parameter is too old to display a consistent list result.")
            found = sorted(
                (name, item)
                for (space, name), item in self._at_locked(version).items()
                if space == namespace and _selects(selector, item) and name > start
            )
        metadata = {"resourceVersion": str(version)}
        if 0 < limit < len(found):
            after = {"v": "meta.k8s.io/v1", "rv": version, "start": found[limit - 1][0]}
            metadata["continue"] = base64.urlsafe_b64encode(json.dumps(after).encode()).decode()
            found = found[:limit]
        # A real server leaves these two out of the items of a list.
        items = [{k: v for k, v in _wire(item).items() if k not in ("kind", "apiVersion")} for _, item in found]
        return items, metadata

    def subscribe(self, since: int) -> queue.Queue[Any]:
        """
        Return a queue that gets every change after a version; 0 means the present objects first.

        Raises:
            Expired: The version is not kept any more.
        """
        events: queue.Queue[Any] = queue.Queue()
        with self._lock:
            if 0 < since < self._compacted:
                raise Expired(f"too old resource version: {since} ({self._compacted})")
            if since == 0:
                for item in self._objects.values():
                    events.put(Change(self._version, None, item))
            for change in [] if self.is_mute or since == 0 else self._history:
                if change.version > since:
                    events.put(change)
            self._watches.append(events)
        return events

    def unsubscribe(self, events: queue.Queue[Any]) -> None:
        with self._lock:
            self._watches.remove(events)

    def _at_locked(self, version: int) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the objects as they were at a version."""
        objects = dict(self._objects)
        for change in reversed(self._history):
            if change.version > version:
                meta = (change.after or change.before or {})["metadata"]
                key = (meta["namespace"], meta["name"])
                objects.pop(key, None)
                if change.before is not None:
                    objects[key] = change.before
        return objects


def _selects(selector: str, item: dict[str, Any]) -> bool:
    labels = item["metadata"].get("labels") or {}
    wanted = (part.partition("=") for part in selector.split(",") if part)
    return all(labels.get(name) == value for name, _, value in wanted)


def _wire(item: dict[str, Any]) -> dict[str, Any]:
    """Return an object as a server in Go writes it: a list that was never made is null."""
    return {**item, "endpoints": item.get("endpoints") or None, "ports": item.get("ports") or None}
