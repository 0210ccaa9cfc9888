"""Discovery stores: ``base.py`` has the interface, each kind of store has one file, ``create.py`` makes them.

Stores never import each other. Those that need more than the core are loaded when they are asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from catga_sync.discovery.base import Discovery
from catga_sync.discovery.create import create_discovery
from catga_sync.discovery.memory import MemoryDiscovery
from catga_sync.discovery.sqlite import SqliteDiscovery
from catga_sync.discovery.static import StaticDiscovery

if TYPE_CHECKING:
    from catga_sync.discovery.kubernetes import KubernetesDiscovery
    from catga_sync.discovery.redis import RedisDiscovery

__all__ = [
    "Discovery",
    "KubernetesDiscovery",
    "MemoryDiscovery",
    "RedisDiscovery",
    "SqliteDiscovery",
    "StaticDiscovery",
    "create_discovery",
]

_LAZY = {"KubernetesDiscovery": "kubernetes", "RedisDiscovery": "redis"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
