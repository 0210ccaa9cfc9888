"""Removes a node from the discovery store after its mediator was dropped without ``close``."""

from __future__ import annotations

import logging
from typing import Protocol

from catga_sync._redaction import shown
from catga_sync.cluster.worker_group import WorkerGroup
from catga_sync.discovery.base import Discovery

__all__ = ["Parting"]

_log = logging.getLogger(__name__)


class Store(Protocol):
    """An object with files or connections."""

    def close(self) -> None:
        """Close them."""


class Parting:
    """
    Leaves the cluster when the mediator was dropped. It refers to nothing that refers to the mediator.

    Connections to other nodes are not closed here: they end with the invoker.
    """

    def __init__(
        self,
        node_id: str,
        group: WorkerGroup,
        discovery: Discovery,
        *others: Store | None,
    ) -> None:
        self._node_id = node_id
        self._group = group
        self._discovery = discovery
        self._stores = [store for store in (discovery, *others) if store is not None]

    def __call__(self) -> None:
        incarnation = self._group.incarnation
        try:
            if self._group.leave():
                self._discovery.deregister(self._node_id, incarnation)
            for store in self._stores:
                store.close()
        except Exception as exc:
            _log.warning("a mediator that was dropped could not leave the cluster cleanly: %s", shown(exc))
