"""What the commands print: JSON, tables and lines, with nothing in them that a terminal would obey.

Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Any

from catga_sync.cli.client import Seen

__all__ = ["node_json", "print_json", "print_line", "print_table", "say", "warn"]


def node_json(seen: Seen) -> dict[str, Any]:
    """Return a node as JSON."""
    node = seen.node
    return {
        "id": node.node_id,
        "endpoint": node.endpoint,
        "status": node.status.name,
        "load": node.load,
        "incarnation": node.incarnation,
        "heartbeatAge": None if seen.age is None else round(seen.age, 3),
        "types": None if node.handles is None else sorted(node.handles),
        "trouble": seen.trouble,
    }


def print_json(document: dict[str, Any]) -> None:
    """Print a document to stdout."""
    print(json.dumps(document, indent=2))


def print_line(text: str) -> None:
    """Print a line to stdout."""
    print(_printable(text))


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns to stdout."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        print_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def say(text: str) -> None:
    """Print a line to stderr."""
    with contextlib.suppress(OSError):
        print(_printable(text), file=sys.stderr, flush=True)


def warn(seen: Sequence[Seen]) -> None:
    """Print what is wrong with nodes to stderr."""
    for each in seen:
        if each.trouble is not None:
            say(f"{each.node.node_id}: {each.trouble}")


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
