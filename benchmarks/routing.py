"""What routing costs, how evenly keys and calls are spread, and how many keys move.

    python benchmarks/routing.py [--json]

Costs are medians of several runs over an unchanged snapshot, taken in turns, so that a busy machine is busy for all
sizes. Shares of keys are computed from the rings themselves, not sampled.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catga_sync import CatgaResult, ClusterNode, Query, message
from catga_sync.routing import create_router, router_names
from catga_sync.routing.ring import Ring, points_for

sys.path.append(str(Path(__file__).parent.parent))
from tests.ring_shares import ring_shares

SIZES = (3, 30, 300, 1000)
#: These must cost at 1,000 nodes at most three times what they cost at 3.
BOUND = ("round-robin", "weighted-round-robin", "consistent-hash", "p2c-ewma", "random")
#: Calls that are measured at once, and are under way at once.
CALLS = 200
BATCHES = 40
RUNS = 7


@message(key="user_id")
@dataclass(frozen=True)
class GetUser(Query[None]):
    user_id: str


MESSAGES = [GetUser(f"user-{number}") for number in range(CALLS)]


def cluster(size: int) -> tuple[ClusterNode, ...]:
    loads = random.Random(size)
    return tuple(ClusterNode(f"node-{n}", f"http://host-{n}:5000", load=loads.uniform(0, 90)) for n in range(size))


# -- costs ------------------------------------------------------------------------------------------------------------


def batches(name: str, size: int) -> Iterator[float]:
    """Yield microseconds for one ``route``, a batch a time. What is under way is ended between batches, unmeasured."""
    # All of local-first that takes time: this node has no room, and round robin chooses among the others.
    options: dict[str, Any] = {"node_id": "node-1", "has_room": lambda: False} if name == "local-first" else {}
    router = create_router(name, **options)
    completed: Callable[..., None] | None = getattr(router, "completed", None)
    nodes = cluster(size)
    done: CatgaResult[None] = CatgaResult.success()
    while True:
        taken: list[ClusterNode] = []
        route, keep, clock = router.route, taken.append, time.perf_counter
        started = clock()
        for each in MESSAGES:
            keep(route(each, nodes))
        elapsed = clock() - started
        if completed is not None:
            for each, node in zip(MESSAGES, taken, strict=True):
                completed(node, each, done, 0.005)
        yield elapsed / CALLS * 1e6


def costs() -> dict[str, dict[str, float]]:
    runs: dict[tuple[str, int], list[float]] = {}
    for _ in range(RUNS):
        for name in router_names():
            sources = {size: batches(name, size) for size in SIZES}
            samples: dict[int, list[float]] = {size: [] for size in SIZES}
            for source in sources.values():
                next(source)  # makes what is made once for a snapshot
            for _ in range(BATCHES):
                for size, source in sources.items():
                    samples[size].append(next(source))
            for size in SIZES:
                runs.setdefault((name, size), []).append(statistics.median(samples[size]))
    table = {}
    for name in router_names():
        row = {str(size): statistics.median(runs[name, size]) for size in SIZES}
        row["ratio"] = row[str(SIZES[-1])] / row[str(SIZES[0])]
        table[name] = row
    return table


def first_calls() -> dict[str, dict[str, float]]:
    """Milliseconds of the first call after every node has changed: where a thing is made for a snapshot."""
    table = {}
    for name in ("weighted-round-robin", "consistent-hash", "least-load"):
        row = {}
        for size in SIZES:
            samples = []
            for _ in range(RUNS):
                source = batches(name, size)
                samples.append(next(source) * CALLS / 1e3)
            row[str(size)] = statistics.median(samples)
        table[name] = row
    return table


# -- keys -------------------------------------------------------------------------------------------------------------


def shares(ids: list[str]) -> dict[str, float]:
    return ring_shares(Ring(dict.fromkeys(ids, points_for(1.0))))


def moved_keys() -> dict[str, Any]:
    """
    Compare the share of keys that move with the ideal one, for 3 to 100 nodes.

    What joins takes its share from the others, and what leaves gives its share to them: nothing else moves. So the
    share of a node is the share of the keys that move when it comes or goes, and every node is tried for both.
    """
    rows: dict[str, Any] = {}
    worst = 0.0
    for size in range(3, 101):
        joins = shares([f"node-{n}" for n in range(size + 1)])
        leaves = shares([f"node-{n}" for n in range(size)])
        off = [share * len(those) - 1 for those in (joins, leaves) for share in those.values()]
        worst = max(worst, *map(abs, off))
        if size in (3, 5, 10, 30, 100):
            rows[str(size)] = {
                "ideal_join": 1 / (size + 1),
                "join": joins[f"node-{size}"],
                "ideal_leave": 1 / size,
                "leave": leaves["node-0"],
                "worst_off": max(map(abs, off)),
            }
    return {"sizes": rows, "worst_off_3_to_100": worst}


def balance() -> dict[str, dict[str, float]]:
    table = {}
    for size in (3, 10, 30, 100, 300, 1000):
        even = [share * size for share in shares([f"node-{n}" for n in range(size)]).values()]
        table[str(size)] = {"least": min(even), "most": max(even), "deviation": statistics.pstdev(even)}
    return table


# -- weights ----------------------------------------------------------------------------------------------------------


def weighted_shares() -> dict[str, Any]:
    """Loads 10, 50, 80: percentages over 16,000 calls, and how far off any 160 in a row are, in points."""
    nodes = tuple(ClusterNode(f"load-{load}", "http://127.0.0.1:5000", load=load) for load in (10, 50, 80))
    router = create_router("weighted-round-robin")
    taken = [router.route(MESSAGES[0], nodes).node_id for _ in range(16_000)]
    ideal = {"load-10": 90 / 1.6, "load-50": 50 / 1.6, "load-80": 20 / 1.6}
    window = Counter(taken[:160])
    off = 0.0
    for at in range(160, len(taken) + 1):
        off = max(off, *(abs(window[node] / 1.6 - share) for node, share in ideal.items()))
        if at < len(taken):
            window[taken[at]] += 1
            window[taken[at - 160]] -= 1
    total = Counter(taken)
    return {
        "shares": {node: {"ideal": share, "got": total[node] / 160} for node, share in ideal.items()},
        "worst_off_any_160": off,
    }


# -- the report -------------------------------------------------------------------------------------------------------


def measure() -> dict[str, Any]:
    gc.disable()
    try:
        return {
            "python": platform.python_version(),
            "route_us": costs(),
            "first_calls_ms": first_calls(),
            "moved_keys": moved_keys(),
            "key_balance": balance(),
            "weighted": weighted_shares(),
        }
    finally:
        gc.enable()


def show(report: dict[str, Any]) -> None:
    heads = "".join(f"{size:>9,}" for size in SIZES)
    print(f"Python {report['python']}\n")
    print(f"us for one route()    {heads}  1000:3  wanted")
    for name, row in report["route_us"].items():
        cells = "".join(f"{row[str(size)]:9.2f}" for size in SIZES)
        print(f"{name:<22}{cells}{row['ratio']:8.2f}  {'<= 3' if name in BOUND else ''}".rstrip())
    print(f"\nms for the first {CALLS} calls after a change")
    for name, row in report["first_calls_ms"].items():
        print(f"{name:<22}" + "".join(f"{row[str(size)]:9.2f}" for size in SIZES))
    print("\nkeys that move (%)    join ideal   leave ideal   most off, any node")
    for size, row in report["moved_keys"]["sizes"].items():
        join, leave = f"{row['join']:9.2%}{row['ideal_join']:7.2%}", f"{row['leave']:7.2%}{row['ideal_leave']:7.2%}"
        print(f"{size:>5} nodes     {join}{leave}{row['worst_off']:15.1%}")
    print(f"most off for any node, 3 to 100 nodes: {report['moved_keys']['worst_off_3_to_100']:.1%}")
    print("\nkeys of a node / even share    least   most   standard deviation")
    for size, row in report["key_balance"].items():
        print(f"{size:>10} nodes{row['least']:20.3f}{row['most']:8.3f}{row['deviation']:12.3f}")
    print("\nweighted: share of calls (%)   ideal     got")
    for node, row in report["weighted"]["shares"].items():
        print(f"{node:<22}{row['ideal']:14.2f}{row['got']:8.2f}")
    print(f"most off in any 160 calls: {report['weighted']['worst_off_any_160']:.2f} points")


def main() -> None:
    parser = argparse.ArgumentParser(description="What routing costs, and how evenly it spreads.")
    parser.add_argument("--json", action="store_true", help="print figures for a program to read")
    as_json = parser.parse_args().json
    report = measure()
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        show(report)


if __name__ == "__main__":
    main()
