"""Fifty thousand calls under faults, each checked against a ledger of what ran: ``python -m tests.faults.battery``.

Three gunicorn nodes and sixteen callers for each scenario: a fault of processes or of the wire, a store of request ids,
signed or not, with behaviours that do what none should or without. The exit code is 1 if a caller was told anything
that is not so. What the documents name as a limit is counted apart.

    --calls N   of all scenarios together, 50,000 if not given
    --seed N    draws the faults of the wire
    --only X    the scenarios with this text in their name
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.external.redis_server import RedisServer
from tests.faults import ledger
from tests.faults.ledger import Execution, Verdict
from tests.faults.load import Load
from tests.faults.misbehaving import conduct
from tests.faults.nodes import Node, Nodes
from tests.faults.proxy import bad_proxy
from tests.processes import until

__all__ = ["SCENARIOS", "Outcome", "Scenario", "judge", "main"]

_SECRET = "a secret of the fault battery, 32 bytes"
#: The share of the requests that the proxy treats badly.
_SHARE = 0.1
#: Seconds for which one step of a scenario is waited for.
_PATIENCE = 120.0


@dataclass(frozen=True)
class Scenario:
    """What is done to the cluster while it is called. Immutable."""

    #: To the processes of one node, again and again: kill, stop, hup, term; or "none".
    fault: str
    #: Where request ids are remembered: memory, sqlite, redis.
    store: str
    signed: bool = False
    #: Whether behaviours on the nodes do what none should.
    badly: bool = False
    #: Whether a proxy in front of each node loses, cuts and repeats what it carries.
    proxy: bool = False

    @property
    def name(self) -> str:
        """As it is printed."""
        marks = [name for name in ("signed", "badly", "proxy") if getattr(self, name)]
        return " ".join([self.fault, self.store, *marks])


#: Each two of (fault, store, signed, behaviours, proxy) come together somewhere.
SCENARIOS = (
    Scenario("kill", "memory"),
    Scenario("kill", "sqlite", signed=True, badly=True),
    Scenario("kill", "redis", badly=True, proxy=True),
    Scenario("kill", "memory", signed=True, proxy=True),
    Scenario("stop", "memory", signed=True, badly=True),
    Scenario("stop", "sqlite", proxy=True),
    Scenario("stop", "redis"),
    Scenario("hup", "memory", badly=True),
    Scenario("hup", "sqlite", signed=True),
    Scenario("hup", "redis", signed=True, proxy=True),
    Scenario("term", "memory", proxy=True),
    Scenario("term", "sqlite", badly=True),
    Scenario("term", "redis", signed=True),
    Scenario("none", "memory", proxy=True),
    Scenario("none", "memory", signed=True, badly=True, proxy=True),
    Scenario("none", "sqlite", signed=True, proxy=True),
    Scenario("none", "redis", badly=True, proxy=True),
)


@dataclass(frozen=True)
class Outcome:
    """What came of a scenario. Immutable."""

    #: Calls by what their callers were told.
    told: Counter[str]
    #: Runs beyond the first that the documents name, by the limit.
    named: Counter[str]
    #: In words, what callers were told and is not so.
    wrong: list[str]


def judge(scenario: Scenario, ran: Iterable[Execution], told: Sequence[Verdict]) -> Outcome:
    """
    Return what the ledgers say.

    Args:
        scenario: What was done.
        ran: What ran.
        told: What callers were told.
    """
    calls = {each.text: each for each in told}
    runs: defaultdict[str, list[Execution]] = defaultdict(list)
    for run in sorted(ran, key=lambda run: run.start):
        runs[run.text].append(run)
    named: Counter[str] = Counter()
    kept: list[Execution] = []
    for text, done in runs.items():
        call = calls.get(text)
        left = list(done)
        if scenario.badly and conduct(text) == "twice":
            left = _without_second_runs(left)
            named["next_ called twice"] += len(done) - len(left)
        if call is not None and call.kind == "plain" and _forgets(scenario) and len({run.pid for run in left}) > 1:
            # Each process knows the ids that it has seen itself: one run in each is what can happen.
            first = {run.pid: run for run in reversed(left)}
            if len(first) == len(left):
                answered = [run for run in left if run.execution == call.execution] or left[:1]
                named["memory store, restarted"] += len(left) - 1
                left = answered
        kept += left
    outcomes = Counter("success" if each.success else each.delivery for each in told)
    return Outcome(outcomes, named, ledger.check(kept, told, repeated=scenario.proxy))


def _forgets(scenario: Scenario) -> bool:
    """Whether a request that the wire repeats may reach a process that has never seen it."""
    return scenario.store == "memory" and scenario.proxy and not scenario.signed and scenario.fault != "none"


def _without_second_runs(runs: list[Execution]) -> list[Execution]:
    """Return the last of each two runs that one call of a behaviour has made, one after the other."""
    kept: list[Execution] = []
    by_process: defaultdict[int, list[Execution]] = defaultdict(list)
    for run in runs:
        by_process[run.pid].append(run)
    for done in by_process.values():
        # From the end: a process that was killed in between leaves a first run without a second.
        kept += done[1::2] if len(done) % 2 == 0 else [*done[1::2], done[-1]]
    return kept


def _restart(load: Load, node: Node, *, end: Callable[[], object]) -> None:
    end()
    before = len(load.told)
    until(lambda: len(load.told) > before + 40, "calls go on without it", _PATIENCE)
    listening = node.start()
    until(load.answered(10, by=node.name, after=listening), "it serves again", _PATIENCE)


def _kill(load: Load, node: Node) -> None:
    _restart(load, node, end=node.kill)


def _term(load: Load, node: Node) -> None:
    _restart(load, node, end=node.stop)


def _stop(load: Load, node: Node) -> None:
    before = time.monotonic()
    with node.paused():
        # Longer than the time of a call: what waits at it has lost its caller by then.
        until(lambda: time.monotonic() > before + 3.0, "")
    resumed = time.monotonic()
    until(load.answered(10, by=node.name, after=resumed), "it serves again", _PATIENCE)


def _hup(load: Load, node: Node) -> None:
    os.kill(node.process.pid, signal.SIGHUP)
    asked = time.monotonic()
    until(load.answered(30, by=node.name, after=asked), "it serves on", _PATIENCE)


_FAULTS: dict[str, Callable[[Load, Node], None]] = {"kill": _kill, "term": _term, "stop": _stop, "hup": _hup}


@contextlib.contextmanager
def _store(name: str, folder: Path) -> Iterator[str]:
    if name == "redis":
        with RedisServer() as server:
            yield server.url
    else:
        yield "memory" if name == "memory" else f"sqlite:///{folder / 'ids.sqlite3'}"


def run(scenario: Scenario, calls: int, seed: int) -> Outcome:
    """
    Make calls while the fault is done to one node, at least once, and return what came of it.

    Args:
        scenario: What is done.
        calls: At least so many.
        seed: Draws the faults of the wire.
    """
    options = {"secret": _SECRET} if scenario.signed else {}
    with contextlib.ExitStack() as around:
        folder = Path(around.enter_context(tempfile.TemporaryDirectory(prefix="catga-battery-")))
        store = around.enter_context(_store(scenario.store, folder))
        environment = {"CATGA_IDEMPOTENCY": store, "BEHAVES": "badly" if scenario.badly else ""}
        if scenario.signed:
            environment["CATGA_SECRET"] = _SECRET
        nodes = around.enter_context(Nodes(folder, **environment))
        rng = random.Random(seed)
        proxies = contextlib.ExitStack()
        around.enter_context(proxies)

        def through(port: int) -> str:
            return proxies.enter_context(bad_proxy(port, rng, share=_SHARE)).endpoint

        _, victim, _ = nodes.start("a", "b", "c", endpoint=through if scenario.proxy else None)
        client = around.enter_context(nodes.client(**options))
        nodes.see(client, "a", "b", "c")
        with Load(client, nodes.told, seconds=0.002) as load:
            until(load.answered(10), "it serves", _PATIENCE)
            fault = _FAULTS.get(scenario.fault)
            while fault is not None:
                fault(load, victim)
                if len(load.told) >= calls:
                    break
            until(lambda: len(load.told) >= calls, "all calls are made", 10 * _PATIENCE)
        # What the wire repeats later is to have come before the ledgers are read.
        proxies.close()
        return judge(scenario, ledger.executions(nodes.ran), ledger.verdicts(nodes.told))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scenarios, print what came of them, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.battery", description="Calls under faults.")
    parser.add_argument("--calls", type=int, default=50_000, help="of all scenarios together (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="draws the faults of the wire (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="the scenarios with this text in their name")
    given = parser.parse_args(arguments)
    logging.getLogger("catga_sync").addHandler(logging.NullHandler())
    chosen = [each for each in SCENARIOS if given.only in each.name]
    if shutil.which("redis-server") is None:
        if os.environ.get("CI"):
            raise SystemExit("redis-server is not installed")
        print("without Redis: redis-server is not installed (apt install redis-server, or alike)")
        chosen = [each for each in chosen if each.store != "redis"]
    heads = ("calls", "success", "EXECUTED", "NOT_EXECUTED", "UNKNOWN", "named", "wrong", "s")
    print(f"{'scenario':30}" + "".join(f"{head:>14}" for head in heads))
    total: Counter[str] = Counter()
    named: Counter[str] = Counter()
    for scenario in chosen:
        begun = time.monotonic()
        logs = io.StringIO()
        try:
            with contextlib.redirect_stdout(logs):  # what the servers have printed
                outcome = run(scenario, -(-given.calls // len(chosen)), given.seed)
        except BaseException:
            print(logs.getvalue())
            raise
        row = Counter(outcome.told)
        row["calls"], row["named"], row["wrong"] = row.total(), outcome.named.total(), len(outcome.wrong)
        row["s"] = round(time.monotonic() - begun)
        print(f"{scenario.name:30}" + "".join(f"{row[head]:>14,}" for head in heads), flush=True)
        for line in outcome.wrong[:5]:
            print(f"    {line}")
        total.update(row)
        named.update(outcome.named)
    print(f"{'all':30}" + "".join(f"{total[head]:>14,}" for head in heads))
    for limit, count in named.items():
        print(f"named in docs/reliability.md: {limit}: {count} runs more")
    return 1 if total["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
