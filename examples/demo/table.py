"""What the demo shows: the nodes, a row for a request, the totals. Plain lines, unless a terminal is watching."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from questions import utc_offset

from catga_sync import CatgaResult, ClusterNode, ErrorCode

from messages import Meeting, Reading, Report

#: The node that was to answer, the result, seconds.
Row = tuple[str, CatgaResult[Any], float]


def print_nodes(nodes: Iterable[ClusterNode]) -> None:
    for node in nodes:
        types = ", ".join(sorted(name.rpartition(".")[2] for name in node.handles or ()))
        print(f"  {node.node_id:8} {node.endpoint:24} {types}")
    print()


class Rows:
    """The live part. Rows stay; below them, in a terminal, a line that says how far it is."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._live = sys.stdout.isatty()
        self._width = max(100, shutil.get_terminal_size((130, 24)).columns - 1) if self._live else 130
        self._request = (self._width - 24) // 2
        self._line("request", "node", "ms", "result")
        self._line("-" * self._request, "-------", "------", "-" * (self._width - self._request - 19))

    def add(self, request: str, result: CatgaResult[Any], seconds: float) -> None:
        self._line(request, result.node_id or "nobody", f"{seconds * 1000:.1f}", result_text(result))

    def tick(self, done: int) -> None:
        if self._live:
            sys.stdout.write(f"\r\x1b[K{done} of {self._total} answered\r")
            sys.stdout.flush()

    def end(self) -> None:
        if self._live:
            sys.stdout.write("\r\x1b[K")
        print()

    def _line(self, request: str, node: str, milliseconds: str, result: str) -> None:
        clear = "\x1b[K" if self._live else ""
        line = f"{clip(request, self._request):{self._request}}  {node:7}  {milliseconds:>6}  {result}"
        print(f"{clear}{clip(line, self._width)}", flush=True)


def result_text(result: CatgaResult[Any]) -> str:
    """Return what a result says, in a line."""
    if not result.is_success:
        code = result.code.name if isinstance(result.code, ErrorCode) else result.code
        return f"no, {code}: {result.error}"
    value = result.unwrap()
    if isinstance(value, Meeting):
        return f"{value.begin:%H:%M} UTC: " + ", ".join(f"{r.time:%H:%M} {city}" for city, r in value.clocks.items())
    if isinstance(value, Reading):
        return f"{value.time:%Y-%m-%d %H:%M} {value.abbreviation} ({utc_offset(value.offset)})"
    return f"{len(value)}: {', '.join(name.partition('/')[2] for name in value)}"


def print_totals(rows: Sequence[Row], took: float, wrong: int) -> None:
    print("answered by   requests   p50 ms   p95 ms   business errors   other errors")
    for node in sorted({row[0] for row in rows}):
        _print_total(node, [row for row in rows if row[0] == node])
    _print_total("all", rows)
    verdict = "each by the right node with the right value" if not wrong else f"{wrong} of them WRONG"
    print(f"\n{len(rows)} requests in {took:.1f} s, {verdict}")


def print_sends(asked: int, reports: Mapping[str, Report]) -> None:
    """Say who sent to whom: this program, and the nodes while they were answering."""
    nested = Counter({(node, to): n for node, report in reports.items() for to, n in report.sends.items()})
    local = sum(n for (node, to), n in nested.items() if node == to)
    every = asked + nested.total()
    for (node, to), n in sorted(nested.items()):
        print(f"while answering, {node} sent {n} to {to if to != node else 'itself'}")
    print(f"{every} sends in all: {every - local} remote ({(every - local) / every:.0%}), {local} local")


def _print_total(name: str, rows: Sequence[Row]) -> None:
    times = sorted(row[2] * 1000 for row in rows)
    p50, p95 = (times[min(len(times) - 1, int(len(times) * part))] for part in (0.50, 0.95))
    failures = [row[1] for row in rows if not row[1]]
    business = sum(is_business_error(result) for result in failures)
    print(f"{name:11}   {len(rows):8}   {p50:6.1f}   {p95:6.1f}   {business:15}   {len(failures) - business:12}")


def is_business_error(result: CatgaResult[Any]) -> bool:
    """Return whether a handler ran and said no, in words of its own choice."""
    return result.delivery.name == "EXECUTED" and result.code not in (ErrorCode.UNKNOWN, ErrorCode.INTERNAL)


def clip(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
