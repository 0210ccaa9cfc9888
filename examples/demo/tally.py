"""What each node adds to its handlers, so that the demo can show the sends between the nodes too."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from catga_sync import CatgaResult, ClusterMediator
from catga_sync.behaviors import timing_behavior

from messages import AskReport, Report


def keep_tally(mediator: ClusterMediator) -> None:
    """Count every send that starts at this node, and tell when asked."""
    lock = threading.Lock()
    sends: Counter[str] = Counter()

    def count(request: Any, result: CatgaResult[Any], seconds: float) -> None:
        with lock:
            sends[result.node_id or "nobody"] += 1

    # A behaviour of the cluster mediator is around each whole send, whichever node answers it.
    mediator.add_behavior(timing_behavior(count))

    @mediator.handler
    def report(query: AskReport) -> Report:
        with lock:
            return Report([node.node_id for node in mediator.nodes()], dict(sends))
