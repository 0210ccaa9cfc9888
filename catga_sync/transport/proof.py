"""Checks, before the first call to a peer, that the peer signs its responses. For clusters with a secret.

A node that is listed by address only has to describe itself first, with a signature. A peer that cannot sign, such as a
.NET node, would run the call, and the caller would reject the unsigned response.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from catga_sync import _fork
from catga_sync.errors import Delivery, ErrorCode
from catga_sync.nodes import ClusterNode
from catga_sync.results import OTHER_NODE, CatgaResult
from catga_sync.transport.channels import NodeProbe
from catga_sync.transport.http.probe import Probe, ProbeOutcome
from catga_sync.transport.outcome import Outcome

__all__ = ["Proof", "judge_unproven"]

#: Seconds for which the description of a peer is waited for.
_TIMEOUT = 1.0


class Proof:
    """
    Keeps the peers that have signed their description. Thread-safe.

    Args:
        probe: Asks them; a description without a valid signature counts as none.
    """

    def __init__(self, probe: NodeProbe) -> None:
        self._probe = probe
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._signing: set[tuple[str, str]] = set()
        _fork.watch(self)

    def missing(self, node: ClusterNode, timeout: float) -> Probe | None:
        """
        Return None if no proof is missing, else the probe that failed.

        Args:
            node: The node. If it has described itself (``handles``), the description was signed.
            timeout: Seconds that the call has left.
        """
        key = (node.node_id, node.endpoint or "")
        if node.signed is not None or node.handles is not None or key in self._signing:
            return None
        probe = self._probe.ask(*key, min(timeout, _TIMEOUT))
        if probe.outcome is not ProbeOutcome.DESCRIBED:
            return probe
        with self._lock:
            self._signing.add(key)
        return None

    def keep_only(self, nodes: Iterable[ClusterNode]) -> None:
        """Forget the nodes that are gone."""
        present = {(node.node_id, node.endpoint or "") for node in nodes}
        with self._lock:
            self._signing &= present

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self._lock = threading.Lock()


def judge_unproven(outcome: Outcome, probe: Probe) -> CatgaResult[Any]:
    """Judge a call that is not made, since its node has not shown that it signs."""
    node = outcome.node
    # With a passing error of a server or a proxy, the node has said nothing of signatures.
    broken = probe.status in (500, 502, 503, 504)
    if broken or probe.outcome is not ProbeOutcome.OTHER:
        what = "cannot be reached" if probe.outcome is ProbeOutcome.REFUSED else "does not describe itself in time"
        if broken:
            what = f"does not describe itself (HTTP status {probe.status})"
        elif probe.outcome is ProbeOutcome.SILENT and probe.error:
            what = f"does not describe itself ({probe.error})"
        text = f"{outcome.where} {what}; where a secret is in use, it is called once it has signed its description"
        return outcome.failed("network", text, ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED)
    came = "" if probe.status is None else f" (HTTP status {probe.status})"
    hint = "; are secret and cluster_name the same there, and both clocks right?" if probe.status == 401 else ""
    text = (
        f"{outcome.where} was not called: a secret is in use, and it has not signed its description{came}{hint}; if it "
        f'cannot sign, declare it: peers={{"{node.node_id}": {{"url": "{node.endpoint}", "signed": False}}}}'
    )
    return outcome.failed("network", text, ErrorCode.UNAUTHENTICATED, Delivery.NOT_EXECUTED, retry=OTHER_NODE)
