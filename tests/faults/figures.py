"""What faults cost, measured on real gunicorn nodes: ``python -m tests.faults.figures [NAME ...]``.

Three nodes (``gunicorn -k gthread --threads 8``), heartbeats of 5 s as they come, on this machine. Every run is
checked against the ledger of executions, as in the tests. Names: kill, hang, redis, overload, loop. Redis needs
``redis-server``. All of it takes about six minutes.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from catga_sync import ClusterEvent
from catga_sync.routing import create_router
from tests.external.redis_server import RedisServer
from tests.faults import ledger
from tests.faults.load import Load, Watched
from tests.faults.messages import Go
from tests.faults.nodes import Nodes
from tests.processes import until

#: Calls that two nodes of 8 threads run at once, and seconds that each takes in the overload.
_PLACES, _SECONDS = 12, 0.05


@contextlib.contextmanager
def cluster(**environment: str) -> Iterator[Nodes]:
    """The nodes of a cluster with the standard heartbeats."""
    with tempfile.TemporaryDirectory(prefix="catga-figures-") as folder:
        standard = {"CATGA_HEARTBEAT_INTERVAL": "5", "CATGA_HEARTBEAT_TIMEOUT": "30"}
        with Nodes(Path(folder), **standard, **environment) as nodes:
            yield nodes


def say(text: str) -> None:
    """Print to where figures go."""
    print(text, file=sys.__stdout__, flush=True)


def share(seconds: list[float], part: float) -> float:
    """Return the quantile of some seconds, in ms."""
    return 1000 * sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * part))]


def ledger_of(nodes: Nodes) -> str:
    """Return in words whether what ran fits what callers were told."""
    wrong = nodes.wrong()
    return f"NOT as in the ledger: {wrong[:3]}" if wrong else "as in the ledger"


def kill() -> None:
    """``kill -9`` of one of three nodes under 200 calls a second, and its restart."""
    for _ in range(3):
        router = Watched(create_router("round-robin"))
        with cluster() as nodes:
            _, b, _ = nodes.start("a", "b", "c")
            with nodes.client(router=router) as client:
                nodes.see(client, "a", "b", "c")
                with Load(client, nodes.told, rate=200.0) as load:
                    until(load.answered(200, by="b"), "node b serves", 60.0)
                    killed = b.kill()
                    until(load.answered(1000, after=killed), "calls are answered without it", 60.0)
                    starting = time.monotonic()
                    listening = b.start()
                    until(load.answered(20, by="b", after=listening), "it serves again", 60.0)
            back = min(each.returned for each in load.told if each.node == "b" and each.sent > listening) - listening
            knocks = [at - killed for at, node in router.choices if node == "b" and at < starting]
            after = [each.seconds for each in load.told if killed <= each.sent < killed + 2.0]
            kinds = Counter((each.kind, each.delivery) for each in load.failed)
            say(
                f"kill      {len(load.told)} calls; failed: {dict(kinds) or 'none'}; {ledger_of(nodes)}; "
                f"last try there {max([0.0, *knocks]):.3f} s after the kill; "
                f"p99 of the 2 s after it {share(after, 0.99):.0f} ms; back {back:.2f} s after it listens"
            )


def hang() -> None:
    """SIGSTOP of one of three nodes for 10 s, 32 callers with ``timeout=2``."""
    for queries in (1.0, 0.0):
        with cluster() as nodes:
            _, b, _ = nodes.start("a", "b", "c")
            with nodes.client() as client:
                nodes.see(client, "a", "b", "c")
                with Load(client, nodes.told, callers=32, queries=queries, timeout=2.0) as load:
                    until(load.answered(100, by="b"), "node b serves")
                    with b.paused():
                        hung = time.monotonic()
                        until(lambda began=hung: time.monotonic() > began + 10.0, "ten seconds")
                    went_on = time.monotonic()
                    until(load.answered(50, by="b", after=went_on), "it serves again", 60.0)
                events = [event for event in client.events() if event.node.node_id == "b"]
            touched = [each for each in load.told if any(n == "b" and ran != "EXECUTED" for n, ran, _ in each.attempts)]
            faulted = [event.kind for event in events].count(ClusterEvent.NODE_FAULTED)
            kinds = Counter((each.kind, each.delivery) for each in load.failed)
            say(
                f"hang      {len(load.told)} calls, {'queries' if queries else 'plain requests'}; "
                f"touched: {len(touched)}; failed: {dict(kinds) or 'none'}; "
                f"longest {max(each.seconds for each in load.told):.2f} s; {ledger_of(nodes)}; "
                f"told as faulted {faulted} times"
            )


def redis() -> None:
    """The Redis server is killed for 20 s, flushed, and stopped for 20 s, under 100 calls a second."""
    if shutil.which("redis-server") is None:
        say("redis     left out: there is no redis-server here")
        return
    faults: dict[str, Callable[[RedisServer], None]] = {"killed": _kill, "flushed": _flush, "stopped": _stop}
    for name, fault in faults.items():
        with RedisServer() as server, cluster(CATGA_DISCOVERY=server.url) as nodes:
            nodes.start("a", "b", "c")
            with nodes.client() as client:
                nodes.see(client, "a", "b", "c")
                with Load(client, nodes.told, rate=100.0) as load:
                    until(load.answered(50), "calls are answered")
                    fault(server)
                    healed = time.monotonic()
                    until(lambda nodes=nodes: _registered(nodes), "all nodes are in the store", 60.0)
                    complete = time.monotonic() - healed
                    until(load.answered(50, after=time.monotonic()), "calls are answered")
            say(
                f"redis     {name}: {len(load.told)} calls, {len(load.failed)} failed; longest "
                f"{1000 * max(each.seconds for each in load.told):.0f} ms; complete {complete:.1f} s after it was back"
            )


def _kill(server: RedisServer) -> None:
    server.kill()
    _wait(20.0)
    server.start()


def _flush(server: RedisServer) -> None:
    server.command("FLUSHALL")


def _stop(server: RedisServer) -> None:
    with server.paused():
        _wait(20.0)


def _wait(seconds: float) -> None:
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() > end, f"{seconds} s", seconds + 5.0)


def _registered(nodes: Nodes) -> bool:
    with nodes.client(node_id="newcomer") as newcomer:
        return [each.node_id for each in newcomer.nodes()] == ["a", "b", "c"]


def overload() -> None:
    """Two nodes of 8 threads, calls of 50 ms: first 32 callers, then four times what was got done, for 10 s."""
    with cluster() as nodes:
        nodes.start("a", "b")
        with nodes.client() as client:
            nodes.see(client, "a", "b")
            with Load(client, nodes.told, callers=32, queries=0.5, seconds=_SECONDS, timeout=10.0) as closed:
                began = time.monotonic()
                _wait(6.0)
            peak = sum(each.success and 1.0 < each.returned - began < 6.0 for each in closed.told) / 5.0
            with Load(
                client, nodes.told, callers=600, rate=4 * peak, queries=0.5, seconds=_SECONDS, timeout=1.0
            ) as load:
                began = time.monotonic()
                _wait(10.0)
            good = sum(each.success and 1.0 < each.returned - began < 10.0 for each in load.told) / 9.0
            with Load(client, nodes.told, callers=8, queries=0.5, seconds=0.004, timeout=2.0) as after:
                _wait(3.0)
        refused = [each.seconds for each in load.failed if each.code == "RESOURCE_EXHAUSTED"]
        others = Counter(each.code for each in load.failed if each.code != "RESOURCE_EXHAUSTED")
        sent = {each.text: each for each in load.told}
        late = sum(run.start > sent[run.text].sent + 1.0 for run in ledger.executions(nodes.ran) if run.text in sent)
        say(
            f"overload  32 callers: {peak:.0f} calls/s of {_PLACES / _SECONDS:.0f} possible, "
            f"{len(closed.failed)} refused; at four times that: "
            f"{good:.0f} calls/s answered ({100 * good / peak:.0f} %); "
            f"{len(refused)} refusals, p50 {share(refused, 0.5):.0f} ms, p90 {share(refused, 0.9):.0f} ms, "
            f"p99 {share(refused, 0.99):.0f} ms; "
            f"other failures {dict(others) or 'none'}; started after their time: {late}; {ledger_of(nodes)}; "
            f"failed in the 3 s after: {len(after.failed)}"
        )


def loop() -> None:
    """A handler on A asks B, whose handler asks A; both have one free thread."""
    with cluster() as nodes:
        nodes.start("a", HANDLES="Go", options=("--threads", "2"))
        nodes.start("b", HANDLES="Come", options=("--threads", "2"))
        with nodes.client() as client:
            nodes.see(client, "a", "b")
            until(lambda: client.send(Go("there", 1)).is_success or None, "a finds b")
            took, code = [], None
            for _ in range(20):
                began = time.monotonic()
                result = client.send(Go("there and back", 2), timeout=20.0)
                took.append(1000 * (time.monotonic() - began))
                code = result.code
        say(f"loop      {code}; {statistics.median(took):.1f} ms (median of 20), {max(took):.1f} ms at the most")


_ALL: dict[str, Callable[[], None]] = {"kill": kill, "hang": hang, "redis": redis, "overload": overload, "loop": loop}


def main() -> None:
    """Measure what was named, or everything."""
    logging.disable(logging.CRITICAL)
    names = sys.argv[1:] or list(_ALL)
    unknown = [name for name in names if name not in _ALL]
    if unknown:
        sys.exit(f"no figures are called {unknown[0]!r}; there are {', '.join(_ALL)}")
    # What servers have said is shown with a test that fails, and goes nowhere here.
    with contextlib.redirect_stdout(None):
        for name in names:
            _ALL[name]()


if __name__ == "__main__":
    main()
