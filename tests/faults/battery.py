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
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.external.redis_server import RedisServer
from tests.faults import judge, ledger
from tests.faults.barrage import Barrage
from tests.faults.judge import Outcome, Scenario
from tests.faults.nodes import Node, Nodes
from tests.faults.wire import BARE, CUTS, DOUBLES, Wire, wired

SECRET = "the key of the battery of faults, of 32 bytes or more"
STORES = ("memory", "sqlite", "redis")
_WIRE = {"cut": CUTS, "double": DOUBLES, "bare": BARE}
_ROW = "{:<20}{:>8}{:>9}{:>10}{:>10}{:>9}{:>6}{:>8}{:>7}{:>11}{:>9}"


def _kill(node: Node) -> None:
    node.kill()
    node.start()


def _pause(node: Node) -> None:
    with node.paused():
        time.sleep(1.5)


def _reload(node: Node) -> None:
    node.process.signal(signal.SIGHUP)
    time.sleep(1.0)


def _term(node: Node) -> None:
    node.stop()
    node.start()


_NODE: dict[str, Callable[[Node], None]] = {"kill": _kill, "stop": _pause, "hup": _reload, "term": _term}
FAULTS = (*_NODE, *_WIRE)


@contextlib.contextmanager
def cluster(store: str, signed: bool, seed: int) -> Iterator[tuple[Nodes, list[Node], Wire]]:
    """Run three nodes; the third one is behind a wire, the other two are returned, to be killed and so on."""
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
        third = nodes.add("c", options=("-w", "2"))
        wire = stack.enter_context(wired(third.port, random.Random(seed)))
        third.front = wire.endpoint
        third.start()
        yield nodes, nodes.start("a", "b", options=("-w", "2")), wire


def play(scenario: Scenario, nodes: Nodes, direct: list[Node], wire: Wire, calls: int, seed: int) -> Outcome:
    """Make so many calls while one kind of fault goes on; return what came of them."""
    begin, rng = time.monotonic(), random.Random(f"{seed} {scenario}")
    started = {path: len(ledger.executions(path)) for path in (nodes.ran, nodes.begun)}
    met = sum(wire.met.values()) - wire.met[""]
    faults = 0
    secret = {"secret": SECRET} if scenario.signed else {}
    with nodes.client(**secret) as client, nodes.client(node_id="wrapped", **secret) as wrapped:
        for each in (client, wrapped):
            nodes.see(each, "a", "b", "c")
        with Barrage(client, wrapped, calls, rng.random()) as barrage:
            wire.faults = _WIRE.get(scenario.fault, ())
            while not barrage.over(rng.uniform(0.1, 0.6)) or not (faults or wire.faults):
                if not wire.faults:
                    faults += 1
                    _NODE[scenario.fault](rng.choice(direct))
        wire.faults = ()
        # What a caller has given up may still run; what comes later yet is found by the next scenario.
        threading.Event().wait(0.5)
    runs = {each.execution: each for path, old in started.items() for each in ledger.executions(path)[old:]}
    outcome = judge.judge(scenario, runs.values(), barrage.told)
    outcome.violations += barrage.raised
    outcome.faults = faults or sum(wire.met.values()) - wire.met[""] - met
    outcome.seconds = time.monotonic() - begin
    if not outcome.faults:
        outcome.violations.append("no fault has come: the scenario shows nothing")
    return outcome


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
        with contextlib.redirect_stdout(None), cluster(store, signed, given.seed) as (nodes, direct, wire):
            for fault in FAULTS:
                scenario = Scenario(fault, store, signed)
                try:
                    outcome = play(scenario, nodes, direct, wire, each, given.seed)
                except Exception:
                    outcome = Outcome(str(scenario), violations=[traceback.format_exc()])
                outcomes.append(outcome)
                say(row(outcome))
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
