"""What a cluster of 3 to 1,000 nodes costs, in the simulator: ``python benchmarks/scale.py``.

The store's operations are counted, not timed. Times are this machine's: ``route`` is that of ``p2c-ewma``. Keys that
move when a node joins are computed from the rings of ``consistent-hash``.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections import Counter
from dataclasses import dataclass

import routing

from catga_sync import Mediator, Request
from catga_sync.nodes import NodeRecord
from catga_sync.testing import Simulation

SIZES = (3, 30, 300, 1000)
TYPES = 20


@dataclass(frozen=True)
class Order(Request[str]):
    """The request that is sent."""

    text: str = "x"


def handlers(mediator: Mediator) -> None:
    """Register ``TYPES`` handlers, as a service of some size has."""
    mediator.register(Order, lambda request: request.text)
    for n in range(TYPES - 1):
        kind = dataclass(frozen=True)(
            type(f"Order{n}", (Request,), {"__annotations__": {"text": str}, "__module__": "shop"})
        )
        mediator.register(kind, lambda request: request.text)


def main() -> None:
    """Print the table."""
    logging.disable(logging.CRITICAL)
    print(
        " nodes  store ops/s  writes/s  snapshot KiB  refresh ms  route us  keys moved (ideal)  calls a node, % of even"
    )
    for size in SIZES:
        with Simulation(seed=1) as sim:
            for n in range(size):
                sim.add_node(f"node-{n:04}", handlers, observes=False)
            client = sim.add_client()
            sim.run(2)
            sim.store.operations.clear()
            began = sim.clock.monotonic()
            sim.run(20)
            seconds = sim.clock.monotonic() - began
            writes = sim.store.operations["register"] / seconds
            # One node looks in the simulation; in a cluster each does.
            looks = sim.store.operations["nodes"] / seconds * (size + 1)
            records = [NodeRecord(node) for node in client.nodes()]
            kib = sum(len(record.to_text()) for record in records) / 1024
            times = []
            for _ in range(5):
                started = time.perf_counter()
                client.membership.refresh()
                times.append((time.perf_counter() - started) * 1000)
            calls = 4 * size
            shares = Counter(client.send(Order()).node_id for _ in range(calls))
            low, high = (100 * f(shares.values()) * size / calls for f in (min, max))
            source = routing.batches("p2c-ewma", size)
            route = statistics.median(next(source) for _ in range(20))
            moved = routing.shares([f"node-{n}" for n in range(size + 1)])[f"node-{size}"]
            print(
                f"{size:>6} {writes + looks:>12.1f} {writes:>9.1f} {kib:>13.1f} {statistics.median(times):>11.2f} "
                f"{route:>9.2f} {moved:>11.2%} ({1 / (size + 1):.2%}) {low:>12.0f}..{high:.0f}"
            )


if __name__ == "__main__":
    main()
