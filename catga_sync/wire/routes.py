"""The routes of the cluster at a node's endpoint: one list for the callers and for the receiver."""

from __future__ import annotations

__all__ = ["BATCH_PATH", "DRAIN_PATH", "INVOKE_PATH", "NODE_PATH", "STREAM_PATH"]

INVOKE_PATH = "/catga/cluster/invoke"
BATCH_PATH = "/catga/cluster/batch"
NODE_PATH = "/catga/cluster/node"
DRAIN_PATH = "/catga/cluster/drain"
STREAM_PATH = "/catga/cluster/stream"
