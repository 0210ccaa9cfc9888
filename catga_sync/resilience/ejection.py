"""Ejects a node whose calls fail, and readmits it once it responds again.

    in  --5 failures in a row, or half of 20 calls in 10 s-->   ejected  --ejection time over, probe successful-->  in
    in  --connection refused, or calls that get no slot-->      avoided  --it responds, or a short time passes-->   in

The ejection time doubles with each ejection: 5 s * 2^n up to 300 s, plus or minus half of it, so that callers do not
all return at once. The figures are those of Envoy and Finagle, scaled to small clusters.

A single node is never ejected. Ejections are ignored if less than half of the nodes would be left: the caller's own
network is then the likely fault, or all nodes are overloaded, and fewer nodes would make it worse.

Rules of this file:
1. For a node without recorded failures a success costs one dictionary look-up.
2. No I/O: the probing thread asks ``due_for_probe`` and reports to ``probed``.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from catga_sync import _fork
from catga_sync._clock import SYSTEM_CLOCK
from catga_sync.nodes import ClusterNode

__all__ = ["Ejection"]

#: Failures in a row that eject a node.
IN_A_ROW = 5
#: Calls within ``RATE_WINDOW`` below which the share of failures ejects no node.
RATE_CALLS = 20
#: The share of failures that ejects a node.
RATE_SHARE = 0.5
#: Seconds for which calls count for that share.
RATE_WINDOW = 10.0
#: Seconds of the first ejection, and of the longest.
FIRST_OUT, LONGEST_OUT = 5.0, 300.0
#: Seconds for which a node that refused a call is avoided: longer than the time until the next check.
AVOIDED = 1.5
#: Seconds for which a node that did not respond to a check is avoided: longer than the time between two checks.
STILL_AVOIDED = 4.0
#: The share of nodes that must be left for an ejection to count.
PANIC_SHARE = 0.5
#: Tuples in the cache, one for each set of candidates in use.
_KEPT = 64
#: Seconds without a failure after which earlier ejections no longer count.
FORGIVEN = 60.0


@dataclass
class _Record:
    incarnation: str
    row: int = 0
    #: (time, failed) of calls since the first failure
    calls: list[tuple[float, bool]] = field(default_factory=list)
    refused_at: float = float("-inf")
    #: Whether the node did not respond to the last check.
    silent: bool = False
    avoided_until: float = float("-inf")
    out_until: float | None = None
    times_out: int = 0
    failed_at: float = float("-inf")


class Ejection:
    """
    Keeps the records of failing nodes. Thread-safe.

    Args:
        on_change: Called with (node, True) when a node is ejected and (node, False) when it is readmitted, outside the
            lock, in the thread that caused the change.
        monotonic: The clock, in seconds. None means the system's.
        rng: The source of the jitter. None makes one.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        on_change: Callable[[ClusterNode, bool], None] = lambda node, ejected: None,
        *,
        monotonic: Callable[[], float] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._on_change = on_change
        self._monotonic = SYSTEM_CLOCK.monotonic if monotonic is None else monotonic
        self._rng = random.Random() if rng is None else rng  # noqa: S311 - spreads load, guards nothing
        self._lock = threading.Lock()
        #: Node id -> its recorded failures. Guarded by _lock for writing; read without it where it may be old.
        self.records: dict[str, _Record] = {}
        #: id of a tuple of nodes -> that tuple, and its usable nodes
        self._handed_out: dict[int, tuple[tuple[ClusterNode, ...], tuple[ClusterNode, ...]]] = {}
        _fork.watch(self)

    def usable(self, nodes: tuple[ClusterNode, ...]) -> tuple[ClusterNode, ...]:
        """Return the nodes that are neither ejected nor avoided; all nodes if none would be left."""
        if not self.records or len(nodes) < 2:
            return nodes
        now = self._monotonic()
        with self._lock:
            left = tuple(node for node in nodes if not self._is_out_locked(node, now))
            if len(left) == len(nodes):
                return nodes
            # An ejection is a guess from failures, and counts only while most other nodes work. An avoided node has
            # refused a call moments ago: it is left out as long as any other node is left.
            if len(left) < len(nodes) * PANIC_SHARE:
                left = tuple(node for node in nodes if not self._is_avoided_locked(node, now))
            if not left:
                left = tuple(node for node in nodes if not self._is_silent_locked(node))
            # Routers cache by tuple: return the same one while nothing has changed.
            known = self._handed_out.get(id(nodes))
            if known is not None and known[0] is nodes and known[1] == left:
                left = known[1]
            else:
                if len(self._handed_out) >= _KEPT:
                    self._handed_out.clear()
                self._handed_out[id(nodes)] = (nodes, left)
        return left or nodes

    def state(self, node: ClusterNode) -> str | None:
        """Return why a node is ejected or avoided, or None."""
        now = self._monotonic()
        with self._lock:
            record = self._of_locked(node)
            if record is None:
                return None
            if record.out_until is not None:
                return f"ejected for its failures: {max(0.0, record.out_until - now):.1f} s more, and until it responds"
            if record.avoided_until > now:
                return "it does not respond" if record.silent else "it refused a call, or gave one no slot, moments ago"
        return None

    def is_ejected(self, node: ClusterNode) -> bool:
        """Return whether a node is ejected."""
        record = self.records.get(node.node_id)
        return record is not None and record.out_until is not None and record.incarnation == node.incarnation

    def succeeded(self, node: ClusterNode) -> None:
        """Record a call to which the node responded."""
        if node.node_id not in self.records:
            return
        with self._lock:
            record = self._of_locked(node)
            # A late response to a call from before the ejection does not readmit the node; see ``probed``.
            if record is None or record.out_until is not None:
                return
            record.row = 0
            record.silent = False
            record.avoided_until = float("-inf")
            self._count_locked(record, failed=False)
            clean = not any(failed for _, failed in record.calls)
            if clean and (not record.times_out or self._monotonic() - record.failed_at > FORGIVEN):
                del self.records[node.node_id]

    def failed(self, node: ClusterNode) -> None:
        """Record a call to which the node did not respond."""
        with self._lock:
            record = self._ensure_locked(node)
            record.row += 1
            record.failed_at = self._monotonic()
            self._count_locked(record, failed=True)
            bad = sum(failed for _, failed in record.calls)
            many = len(record.calls) >= RATE_CALLS and bad >= len(record.calls) * RATE_SHARE
            if record.out_until is not None or not (record.row >= IN_A_ROW or many):
                return
            self._eject_locked(record)
        self._on_change(node, True)

    def avoid(self, node: ClusterNode) -> None:
        """Record that nothing listens at the node's address, that it is leaving, or that calls get no slot there."""
        with self._lock:
            record = self._ensure_locked(node)
            record.refused_at = self._monotonic()
            record.avoided_until = max(record.avoided_until, record.refused_at + AVOIDED)

    def due_for_probe(self, nodes: Iterable[ClusterNode]) -> list[ClusterNode]:
        """Return the ejected nodes whose time is over. Only one thread calls it, so a node gets one probe at a time."""
        now = self._monotonic()
        with self._lock:
            return [
                node
                for node in nodes
                if (record := self._of_locked(node)) is not None
                and record.out_until is not None
                and record.out_until <= now
            ]

    def due_for_check(self, nodes: Iterable[ClusterNode]) -> list[ClusterNode]:
        """Return the nodes to check: the avoided ones."""
        now = self._monotonic()
        with self._lock:
            return [node for node in nodes if self._is_avoided_locked(node, now)]

    def checked(self, node: ClusterNode, *, responded: bool) -> bool:
        """
        Record a check of a node that is avoided or suspected: if it did not respond, it is avoided further.

        Returns:
            Whether the node has stopped responding since the last check.
        """
        with self._lock:
            record = self._of_locked(node) if responded else self._ensure_locked(node)
            if record is None:
                return False
            news = not responded and not record.silent
            record.silent = not responded
            if not responded:
                record.avoided_until = self._monotonic() + STILL_AVOIDED
            else:
                # A node that responds but refuses calls, because it is leaving, is still avoided for a short time.
                record.avoided_until = min(record.avoided_until, record.refused_at + AVOIDED)
            return news

    def probed(self, node: ClusterNode, *, responded: bool) -> None:
        """Record a probe: readmit the node, or eject it for twice the last time."""
        with self._lock:
            record = self._of_locked(node)
            if record is None or record.out_until is None:
                return
            if not responded:
                self._eject_locked(record)
                return
            # The count of ejections stays: a node that fails again at once is ejected for longer.
            record.out_until = None
            record.row = 0
            record.calls.clear()
        self._on_change(node, False)

    def keep_only(self, nodes: Iterable[ClusterNode]) -> None:
        """Remove the records of all other nodes, and of nodes that were restarted."""
        if not self.records:
            return
        present = {node.node_id: node for node in nodes}
        recovered = []
        with self._lock:
            for node_id, record in list(self.records.items()):
                node = present.get(node_id)
                if node is not None and node.incarnation == record.incarnation:
                    continue
                del self.records[node_id]
                if node is not None and record.out_until is not None:
                    recovered.append(node)
        for node in recovered:
            self._on_change(node, False)

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self._lock = threading.Lock()

    def _of_locked(self, node: ClusterNode) -> _Record | None:
        record = self.records.get(node.node_id)
        return record if record is not None and record.incarnation == node.incarnation else None

    def _ensure_locked(self, node: ClusterNode) -> _Record:
        record = self._of_locked(node)
        if record is None:
            record = self.records[node.node_id] = _Record(node.incarnation)
        return record

    def _count_locked(self, record: _Record, *, failed: bool) -> None:
        now = self._monotonic()
        record.calls.append((now, failed))
        if len(record.calls) > 4 * RATE_CALLS or record.calls[0][0] < now - RATE_WINDOW:
            record.calls = [call for call in record.calls[-2 * RATE_CALLS :] if call[0] >= now - RATE_WINDOW]

    def _eject_locked(self, record: _Record) -> None:
        out = min(LONGEST_OUT, FIRST_OUT * 2**record.times_out)
        record.out_until = self._monotonic() + out * self._rng.uniform(0.5, 1.5)
        record.times_out = min(record.times_out + 1, 16)

    def _is_avoided_locked(self, node: ClusterNode, now: float) -> bool:
        record = self._of_locked(node)
        return record is not None and record.avoided_until > now

    def _is_silent_locked(self, node: ClusterNode) -> bool:
        record = self._of_locked(node)
        return record is not None and record.silent

    def _is_out_locked(self, node: ClusterNode, now: float) -> bool:
        record = self._of_locked(node)
        return record is not None and (record.out_until is not None or record.avoided_until > now)
