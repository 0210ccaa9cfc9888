"""A Redis server that is killed, emptied, hung, loading, full, read-only, or has lost what it was told last."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from catga_sync.discovery.redis import RedisDiscovery
from tests import processes
from tests.contracts.discovery import LONG, ids, record
from tests.external.redis_server import RedisServer, be_patient, require_redis

redis = require_redis()

pytestmark = [pytest.mark.redis, pytest.mark.process]


@pytest.fixture(autouse=True)
def _patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_waits" not in request.fixturenames:
        be_patient(monkeypatch)


@pytest.fixture
def real_waits() -> None:
    """The test is about the time that calls take: they wait as they do for users, and may give up on a busy machine."""


KEYS = ["records", "expiry", "late", "changes"]
#: Seconds: it is to take half of one, but machines may be busy. redis-py by itself would try ten times for five.
BOUND = 15.0


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as found:
        yield found


@pytest.fixture
def node(server: RedisServer) -> Iterator[RedisDiscovery]:
    with contextlib.closing(RedisDiscovery(server.url)) as found:
        yield found


@pytest.fixture
def other(server: RedisServer) -> Iterator[RedisDiscovery]:
    with contextlib.closing(RedisDiscovery(server.url)) as found:
        yield found


def beat(store: RedisDiscovery, node_id: str = "node-1", seq: int = 1) -> None:
    store.register(record(node_id, f"http://{node_id}:5000", seq=seq), LONG)


def every_call(store: RedisDiscovery) -> list[Callable[[], Any]]:
    return [store.nodes, lambda: beat(store), lambda: store.deregister("node-9", "first")]


def fails_soon(call: Callable[[], Any]) -> None:
    begun = time.monotonic()
    with pytest.raises((redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)):
        call()
    assert time.monotonic() - begun < BOUND


def does(call: Callable[[], Any]) -> Any:
    """Call until it does not time out; return what it returns."""

    def tried() -> list[Any] | None:
        with contextlib.suppress(redis.exceptions.TimeoutError):
            return [call()]
        return None

    return processes.until(tried, "the server answers")[0]


# -- gone and back --------------------------------------------------------------------------------------------------


def test_a_server_that_was_killed_fails_every_call_and_one_that_comes_back_empty_is_soon_complete(
    server: RedisServer, node: RedisDiscovery, other: RedisDiscovery
) -> None:
    for name in ("node-1", "node-2", "node-3"):
        beat(node, name)
    assert ids(other) == ["node-1", "node-2", "node-3"]
    server.kill()
    for store in (node, other):
        for call in every_call(store):
            fails_soon(call)
    server.start()
    assert ids(other) == []
    beat(node, "node-1", 2)
    beat(node, "node-3", 2)
    assert ids(other) == ids(node) == ["node-1", "node-3"], "node-2 did not come back, so it is not there"


@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB ASYNC"])
def test_an_emptied_server_is_complete_again_one_heartbeat_later(
    server: RedisServer, node: RedisDiscovery, other: RedisDiscovery, command: str
) -> None:
    for name in ("node-1", "node-2", "node-3"):
        beat(node, name)
    assert ids(other) == ["node-1", "node-2", "node-3"]
    server.command(*command.split())
    beat(node, "node-1", 2)
    assert ids(other) == ["node-1"]
    beat(node, "node-3", 2)
    assert ids(other) == ids(node) == ["node-1", "node-3"]


def test_flushed_scripts_are_loaded_again_by_the_call_that_misses_them(
    server: RedisServer, node: RedisDiscovery
) -> None:
    for seq in range(3):
        for call in (partial(beat, node, seq=seq), node.nodes, lambda: node.deregister("node-9", "first")):
            server.command("SCRIPT FLUSH")
            call()
    assert ids(node) == ["node-1"]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_the_server_threw_away_is_complete_again_one_heartbeat_later(
    server: RedisServer, node: RedisDiscovery, other: RedisDiscovery, key: str
) -> None:
    for name in ("node-1", "node-2"):
        beat(node, name)
    assert ids(other) == ["node-1", "node-2"]
    server.command("DEL", f"{{catga:default}}:{key}")
    for name in ("node-1", "node-2"):
        beat(node, name, 2)
    with contextlib.closing(RedisDiscovery(server.url)) as newcomer:
        assert ids(other) == ids(node) == ids(newcomer) == ["node-1", "node-2"]
    node.deregister("node-2", "first")
    assert ids(other) == ids(node) == ["node-1"]


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_server_that_took_over_without_the_last_writes_leaves_no_phantom(
    server: RedisServer, node: RedisDiscovery, other: RedisDiscovery, goes_on: bool
) -> None:
    beat(node)
    with contextlib.closing(server.client()) as admin:
        keys = [f"{{catga:default}}:{key}" for key in KEYS]
        replica = {key: admin.dump(key) for key in keys}
        beat(node, "node-2")
        assert ids(other) == ["node-1", "node-2"]
        for key, value in replica.items():
            admin.restore(key, 60_000, value, replace=True)
    if goes_on:
        beat(node, "node-3")
    expected = ["node-1", "node-3"] if goes_on else ["node-1"]
    assert ids(other) == ids(node) == expected


def test_an_idle_connection_that_the_server_closed_is_replaced_without_an_error(
    server: RedisServer, node: RedisDiscovery
) -> None:
    beat(node)
    assert server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") >= 1
    beat(node, seq=2)
    assert ids(node) == ["node-1"]


# -- hung -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("real_waits")
def test_a_hung_server_fails_every_call_soon_and_serves_again_afterwards(
    server: RedisServer, node: RedisDiscovery, other: RedisDiscovery
) -> None:
    does(lambda: beat(node))
    with server.paused():
        for store in (node, other):
            for call in every_call(store):
                fails_soon(call)
    assert does(lambda: ids(other)) == ["node-1"]
    does(lambda: beat(node, seq=3))
    does(lambda: beat(node, "node-2"))
    assert does(lambda: ids(node)) == does(lambda: ids(other)) == ["node-1", "node-2"]


@pytest.mark.usefixtures("real_waits")
def test_a_registration_that_timed_out_and_was_carried_out_may_be_repeated(
    server: RedisServer, node: RedisDiscovery, other: RedisDiscovery
) -> None:
    does(lambda: beat(node))  # so that the server knows the script
    does(lambda: node.deregister("node-1", "first"))
    assert does(lambda: ids(node)) == does(lambda: ids(other)) == []
    with server.paused():
        fails_soon(lambda: beat(node))
    processes.until(lambda: does(lambda: ids(other)) == ["node-1"], "the server has carried out what it had been sent")
    does(lambda: beat(node))
    does(lambda: beat(node, seq=2))
    assert does(lambda: ids(node)) == does(lambda: ids(other)) == ["node-1"]


@pytest.mark.usefixtures("real_waits")
def test_an_answer_that_comes_too_late_is_not_taken_for_that_of_the_next_call(
    server: RedisServer, node: RedisDiscovery
) -> None:
    does(lambda: beat(node))
    assert does(lambda: ids(node)) == ["node-1"]
    with server.paused():
        fails_soon(node.nodes)
    for seq in range(2, 12):
        does(partial(beat, node, f"node-{seq}", seq))
        assert f"node-{seq}" in does(lambda: ids(node))


# -- not able to ----------------------------------------------------------------------------------------------------


def test_a_full_server_refuses_heartbeats_and_takes_them_when_there_is_room(
    server: RedisServer, node: RedisDiscovery
) -> None:
    beat(node)
    server.command("CONFIG", "SET", "maxmemory", 1)
    for name in ("node-1", "node-2"):
        with pytest.raises(redis.exceptions.ResponseError, match=r"OOM|maxmemory"):
            beat(node, name, 2)
    server.command("CONFIG", "SET", "maxmemory", 0)
    assert ids(node) == ["node-1"], "a refused registration leaves nothing behind"
    beat(node, "node-2", 2)
    assert ids(node) == ["node-1", "node-2"]


def test_a_read_only_replica_refuses_heartbeats_and_can_be_read(
    server: RedisServer, node: RedisDiscovery, free_port: int
) -> None:
    beat(node)
    server.command("REPLICAOF", "127.0.0.1", free_port)
    calls: list[Callable[[], None]] = [lambda: beat(node, seq=2), lambda: node.deregister("node-1", "first")]
    for call in calls:
        with pytest.raises(redis.exceptions.RedisError, match=r"(?i)read.only"):
            call()
    assert ids(node) == ["node-1"]
    server.command("REPLICAOF", "NO", "ONE")
    beat(node, seq=3)


def test_a_key_of_somebody_elses_raises_and_is_left_alone(server: RedisServer, node: RedisDiscovery) -> None:
    server.command("SET", "{catga:default}:expiry", "mine")
    for call in (lambda: beat(node), node.nodes):
        with contextlib.suppress(redis.exceptions.ResponseError):
            call()
    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        beat(node)
    assert server.command("GET", "{catga:default}:expiry") == b"mine"


@pytest.mark.slow
def test_a_server_that_is_still_loading_fails_the_calls() -> None:
    with RedisServer(loading_process_events_interval_bytes="1024", key_load_delay="0") as server:
        with contextlib.closing(server.client()) as admin:
            pipeline = admin.pipeline()
            for number in range(2000):
                pipeline.set(f"key-{number}", "x" * 1000)
            pipeline.execute()
            admin.save()
        server.kill()
        server.start(key_load_delay="2000")
        with contextlib.closing(RedisDiscovery(server.url)) as store:
            for call in every_call(store):
                with pytest.raises((redis.exceptions.BusyLoadingError, redis.exceptions.TimeoutError)):
                    call()
            server.command("CONFIG", "SET", "key-load-delay", 0)

            def loaded() -> bool:
                with contextlib.suppress(redis.exceptions.RedisError):
                    beat(store)
                    return True
                return False

            processes.until(loaded, "the server has loaded its data")
            assert ids(store) == ["node-1"]
