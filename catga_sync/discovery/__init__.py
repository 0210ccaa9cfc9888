"""Discovery stores: ``base.py`` says what one does, one file each holds a kind of store.

Siblings never import each other.
"""

from catga_sync.discovery.base import Discovery
from catga_sync.discovery.memory import MemoryDiscovery
from catga_sync.discovery.sqlite import SqliteDiscovery
from catga_sync.discovery.static import StaticDiscovery

__all__ = ["Discovery", "MemoryDiscovery", "SqliteDiscovery", "StaticDiscovery"]
