"""Everything that goes wrong at once, and what callers were told about it: ``python -m tests.faults.battery``.

Clusters of three gunicorn nodes of two workers, one for each store, signed and not. In each, nodes are killed,
stopped, reloaded and ended, and the wire to one of them cuts, doubles, delays and replaces what goes over it. All the
while callers send queries, plain requests, idempotent ones and batches, and one call in three meets a behaviour that
misbehaves. After each scenario the ledgers are compared. Exit code 1: they do not fit.

    python -m tests.faults.battery --calls 50000 --seed 7

The seed settles the calls and the choice of faults, and not how the threads of all processes take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.external.redis_server import RedisServer
from tests.faults import judge, ledger
from tests.faults.barrage import Barrage
from tests.faults.judge import Outcome, Scenario
from tests.faults.ledger import Execution, Verdict
from tests.faults.nodes import Node, Nodes
from tests.faults.wire import BARE, CUTS, DOUBLES, Wire, wired

SECRET = "the key of the battery of faults, of 32 bytes or more"
STORES = ("memory", "sqlite", "redis")
_WIRE = {"cut": CUTS, "double": DOUBLES, "bare": BARE}
_ROW = "{:<28}{:>8}{:>9}{:>10}{:>10}{:>9}{:>6}{:>8}{:>7}{:>11}{:>9}"


def _kill(node: Node, calls: Barrage) -> None:
    node.kill()
    node.start()


def _pause(node: Node, calls: Barrage) -> None:
    with node.paused():
        calls.over(1.5)


def _reload(node: Node, calls: Barrage) -> None:
    node.process.signal(signal.SIGHUP)
    calls.over(1.0)


def _term(node: Node, calls: Barrage) -> None:
    node.stop()
    node.start()


_NODE: dict[str, Callable[[Node, Barrage], None]] = {"kill": _kill, "stop": _pause, "hup": _reload, "term": _term}
#: The last ones restart the node behind the wire that doubles.
FAULTS = (*_NODE, *_WIRE, "double kill", "double term")


@dataclass
class Cluster:
    """Three nodes, the last of them behind a wire."""

    nodes: Nodes
    direct: list[Node]
    behind: Node
    wire: Wire


@contextlib.contextmanager
def cluster(store: str, signed: bool, seed: int) -> Iterator[Cluster]:
    """Run the nodes of a cluster."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="catga-battery-")))
        environment = {"MOODS": "1", "HANDLES": "Ask,Do,Put", "CATGA_IDEMPOTENCY": "memory"}
        if store == "sqlite":
            environment["CATGA_IDEMPOTENCY"] = f"sqlite:///{folder / 'ids.sqlite3'}"
        if store == "redis":
            url = stack.enter_context(RedisServer()).url
            environment |= {"CATGA_IDEMPOTENCY": url, "CATGA_DISCOVERY": url}
        if signed:
            environment["CATGA_SECRET"] = SECRET
        nodes = stack.enter_context(Nodes(folder, **environment))
        behind = nodes.add("c", options=("-w", "2"))
        wire = stack.enter_context(wired(behind.port, random.Random(seed)))
        behind.front = wire.endpoint
        behind.start()
        yield Cluster(nodes, nodes.start("a", "b", options=("-w", "2")), behind, wire)


@dataclass
class Played:
    """What callers were told while one scenario went on."""

    scenario: Scenario
    told: list[Verdict]
    #: What ``send`` has raised, in words.
    raised: list[str]
    faults: int
    seconds: float


def play(scenario: Scenario, around: Cluster, calls: int, seed: int) -> Played:
    """Make so many calls while what the scenario names goes on."""
    begin, rng = time.monotonic(), random.Random(f"{seed} {scenario}")
    wire, names = around.wire, scenario.fault.split()
    node_fault = next((_NODE[name] for name in names if name in _NODE), None)
    wire_faults = next((_WIRE[name] for name in names if name in _WIRE), ())
    victims = [around.behind] if wire_faults else around.direct
    met = wire.met.total() - wire.met[""]
    faults = 0
    secret = {"secret": SECRET} if scenario.signed else {}
    # One calls over streams and the other by POST.
    posting = around.nodes.client(node_id="wrapped", stream="off", **secret)
    with around.nodes.client(**secret) as client, posting as wrapped:
        for each in (client, wrapped):
            around.nodes.see(each, "a", "b", "c")
        with Barrage(client, wrapped, calls, rng.random()) as barrage:
            wire.faults = wire_faults
            while not barrage.over(rng.uniform(0.1, 0.6)) or not (faults or node_fault is None):
                if node_fault is not None:
                    node_fault(rng.choice(victims), barrage)
                    faults += 1
        wire.faults = ()
    faults += wire.met.total() - wire.met[""] - met
    return Played(scenario, barrage.told, barrage.raised, faults, time.monotonic() - begin)


def outcomes_of(played: Sequence[Played], ran: Sequence[Execution]) -> list[Outcome]:
    """Hold what callers were told in each scenario against what ran, in all of the time that the nodes lived."""
    scenario_of = {told.text: number for number, each in enumerate(played) for told in each.told}
    runs: list[list[Execution]] = [[] for _ in played]
    for run in ran:
        # What no caller knows of fails the last one.
        runs[scenario_of.get(run.text, -1)].append(run)
    outcomes = []
    for each, own in zip(played, runs, strict=True):
        outcome = judge.judge(each.scenario, own, each.told)
        outcome.violations += each.raised
        outcome.faults, outcome.seconds = each.faults, each.seconds
        if not outcome.faults:
            outcome.violations.append("no fault has come: the scenario shows nothing")
        outcomes.append(outcome)
    return outcomes


def usable_stores() -> tuple[str, ...]:
    """Return the stores that this machine has; exits where one is missing in CI."""
    if shutil.which("redis-server") and importlib.util.find_spec("redis"):
        return STORES
    reason = "needs redis-server and the package redis"
    if os.environ.get("CI"):
        sys.exit(f"the scenarios with Redis cannot run: {reason}")
    say(f"The scenarios with Redis are left out: {reason}.")
    return STORES[:-1]


def say(text: str) -> None:
    """Print to where results go."""
    print(text, file=sys.__stdout__, flush=True)


def row(outcome: Outcome) -> str:
    """Return a line of the table."""
    return _ROW.format(
        outcome.scenario,
        outcome.calls,
        outcome.success,
        outcome.not_executed,
        outcome.executed,
        outcome.unknown,
        outcome.late,
        outcome.faults,
        sum(outcome.named.values()),
        len(outcome.violations),
        f"{outcome.seconds:.1f}",
    )


def total(outcomes: list[Outcome]) -> Outcome:
    """Return the sum of outcomes."""
    whole = Outcome("all")
    for each in outcomes:
        for name in ("calls", "success", "not_executed", "executed", "unknown", "late", "faults", "seconds"):
            setattr(whole, name, getattr(whole, name) + getattr(each, name))
        whole.named.update(each.named)
        whole.violations += each.violations
    return whole


def main() -> int:
    """Run the battery; return 1 if what callers were told does not fit what ran."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.battery", description=main.__doc__)
    parser.add_argument("--calls", type=int, default=50_000, help="in total, shared among the scenarios (%(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="settles calls and faults (%(default)s)")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    clusters = [(store, signed) for store in usable_stores() for signed in (False, True)]
    each = -(-given.calls // (len(clusters) * len(FAULTS)))
    outcomes = []
    say(f"seed {given.seed}, {each} calls a scenario")
    heads = ("scenario", "calls", "success", "NOT_EXEC", "EXECUTED", "UNKNOWN", "late", "faults", "twice", "violations")
    say(_ROW.format(*heads, "seconds"))
    for store, signed in clusters:
        # What servers have said goes nowhere.
        with contextlib.redirect_stdout(None), cluster(store, signed, given.seed) as around:
            played = [play(Scenario(fault, store, signed), around, each, given.seed) for fault in FAULTS]
            # What a caller has given up may still run: the ledger is read when no node is left.
            around.nodes.stop()
            found = outcomes_of(played, ledger.executions(around.nodes.ran))
        for outcome in found:
            say(row(outcome))
        outcomes += found
    whole = total(outcomes)
    say(row(whole))
    for place, count in whole.named.items():
        say(f"{count} plain requests ran twice, named in {place}")
    for outcome in outcomes:
        for words in outcome.violations[:5]:
            say(f"VIOLATION, {outcome.scenario}: {words}")
    return 1 if whole.violations else 0


if __name__ == "__main__":
    sys.exit(main())
