"""What servers do with calls when they end, replace a worker or are reloaded: the table of ``docs/servers.md``."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from catga_sync import CatgaResult, ClusterMediator, Delivery, ErrorCode
from tests.conftest import require_module
from tests.process.messages import Answer, Crowd, Do, Hold
from tests.process.nodes import wait_for
from tests.process.servers import SERVERS, Server
from tests.processes import Process, free_port, until

psutil = require_module("psutil")

pytestmark = [pytest.mark.process, pytest.mark.slow]

RELOADED = [name for name, server in SERVERS.items() if server.reload is not None]
RECYCLED = [name for name, server in SERVERS.items() if server.recycling]


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Server:
    return SERVERS[request.param]


@pytest.fixture
def process(server: Server, cluster_name: str, request: pytest.FixtureRequest) -> Iterator[Process]:
    options = server.recycling if "replaced" in request.node.name else ()
    with server.serve(free_port(), *options, NODE="n", CLUSTER=cluster_name, HEARTBEAT="0.5") as process:
        yield process


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_a_call_that_runs_at_sigterm_ends_as_the_page_says(
    server: Server, process: Process, client: ClusterMediator, tmp_path: Path
) -> None:
    wait_for(client, "n")
    started = tmp_path / "started"

    def end_it() -> None:
        until(started.exists, "the call runs")
        process.signal(signal.SIGTERM)

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(end_it)
        result = client.send(Hold(str(started), 2.0), timeout=30.0)
        ended.result()
    process.popen.wait(45)
    if server.ends_calls:
        assert result.is_success, (result, process.output())
    else:
        assert (result.delivery, result.code) == (Delivery.UNKNOWN, ErrorCode.UNAVAILABLE), result
    wait_for(client)


@pytest.mark.parametrize("server", RECYCLED, indirect=True)
def test_the_node_goes_on_while_its_workers_are_replaced(
    server: Server, process: Process, client: ClusterMediator
) -> None:
    wait_for(client, "n")
    seen: set[int] = set()
    told: list[CatgaResult[Answer]] = []

    def has_seen_six() -> bool:
        told.append(client.send(Do("x"), timeout=20.0))
        if (value := told[-1].value) is not None:
            seen.add(value.pid)
        return len(seen) >= 6

    until(has_seen_six, "six workers have served", 60.0)
    print(f"{len(told)} calls: {kinds(told)}")
    check(told, len(seen))
    wait_for(client, "n")


@pytest.mark.parametrize("server", RELOADED, indirect=True)
def test_a_reload_is_a_new_run_of_the_node_at_most_and_no_call_is_told_falsely(
    server: Server, process: Process, client: ClusterMediator
) -> None:
    wait_for(client, "n")
    before = {each.pid for each in psutil.Process(process.pid).children(recursive=True)}
    assert server.reload is not None
    process.signal(server.reload)
    told: list[CatgaResult[Answer]] = []

    def is_new() -> bool:
        told.append(client.send(Do("x"), timeout=20.0))
        value = told[-1].value
        return value is not None and value.pid not in before

    until(is_new, "a new worker serves", 60.0)
    until(lambda: not before & serving(process), "the old workers are gone", 60.0)
    wait_for(client, "n")
    print(f"{len(told)} calls: {kinds(told)}")
    check(told, len(before))


@pytest.mark.parametrize("server", ["gunicorn gevent"], indirect=True)
def test_calls_of_a_worker_with_greenlets_run_at_once(process: Process, client: ClusterMediator) -> None:
    wait_for(client, "n")
    with ThreadPoolExecutor(8) as pool:
        crowds = [each.unwrap() for each in pool.map(lambda _: client.send(Crowd(), timeout=30.0), range(8))]
    assert max(int(crowd.text) for crowd in crowds) > 1, process.output()


def serving(process: Process) -> set[int]:
    return {each.pid for each in psutil.Process(process.pid).children(recursive=True)}


def kinds(told: list[CatgaResult[Answer]]) -> dict[str, int]:
    return dict(Counter("ok" if each else f"{each.delivery.name} {each.code}" for each in told))


def check(told: list[CatgaResult[Answer]], workers: int) -> None:
    """Check that calls fail for want of a server only, and that no more end as UNKNOWN than workers have ended."""
    for each in told:
        assert each.is_success or each.code in (ErrorCode.UNAVAILABLE, ErrorCode.UNIMPLEMENTED), each
    assert sum(each.delivery is Delivery.UNKNOWN for each in told) <= workers
