"""What a node tells of itself when it has become visible: a line for machines, and a few for a person at a terminal.

    INFO catga_sync.cluster.startup: node started: node=users endpoint=http://localhost:5001 cluster=default ...

Once for each run of a node, by one of its workers, under every server: ``presence.py`` decides when. Neither has a key,
or the password of a store.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys

from catga_sync.nodes import STREAM, ClusterNode

__all__ = ["tell_start"]

_log = logging.getLogger(__name__)

#: What needs no quotes as the value of a pair.
_PLAIN = re.compile(r"[^\s\"'=\\]+")


def tell_start(node: ClusterNode, cluster_name: str, store: str, router: object) -> None:
    """
    Log that a node has started; where stderr is a terminal, write it there for people, too. Raises nothing.

    Args:
        node: The node as other nodes see it.
        cluster_name: The name of its cluster.
        store: Where nodes find each other, without credentials.
        router: The option: a name, or an object, which is told by its class.
    """
    facts = {
        "node": node.node_id,
        "endpoint": node.endpoint or "",
        "cluster": cluster_name,
        "store": store,
        "router": router if isinstance(router, str) else type(router).__name__,
        "ways": ",".join(_ways(node)),
    }
    _log.info("node started: %s", " ".join(f"{name}={_quoted(value)}" for name, value in facts.items()))
    # None under pythonw, and where a daemon has closed it.
    if sys.stderr is not None:
        lines = [f"  {name:<10}{value if value.isprintable() else _quoted(value)}\n" for name, value in facts.items()]
        # AttributeError: what an application has put in its place may be no file.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if sys.stderr.isatty():
                # In one piece: workers and threads write there as well.
                sys.stderr.write("".join(["\ncatga-sync: node started\n", *lines, "\n"]))
                sys.stderr.flush()


def _ways(node: ClusterNode) -> list[str]:
    """Return the ways in which other nodes may call this one."""
    found = [] if node.grpc_address == node.endpoint else ["post"]
    if STREAM in node.features and found:
        found.append("stream")
    return [*found, "grpc"] if node.grpc_address is not None else found


def _quoted(value: str) -> str:
    return value if _PLAIN.fullmatch(value) and value.isprintable() else json.dumps(value)
