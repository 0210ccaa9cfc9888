"""The Redis store on a real server: the contract, what it costs, time, poisoned records."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from catga_sync.discovery.redis import RedisDiscovery
from catga_sync.errors import ConfigurationError
from catga_sync.nodes import MAX_RECORD, NodeRecord
from tests import processes
from tests.contracts.discovery import LONG, SHORT, DiscoveryContract, ids, record
from tests.external.redis_server import RedisServer, ServersClock, be_patient, require_redis

redis = require_redis()

pytestmark = [pytest.mark.redis, pytest.mark.process]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch)


KEYS = [f"{{catga:default}}:{key}".encode() for key in ("changes", "expiry", "late", "records")]


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def server(shared: RedisServer) -> RedisServer:
    shared.command("FLUSHALL")
    return shared


@pytest.fixture
def store(server: RedisServer) -> Iterator[RedisDiscovery]:
    with contextlib.closing(RedisDiscovery(server.url)) as found:
        yield found


@pytest.fixture
def other(server: RedisServer) -> Iterator[RedisDiscovery]:
    with contextlib.closing(RedisDiscovery(server.url)) as found:
        yield found


@pytest.fixture
def admin(server: RedisServer) -> Iterator[Any]:
    with contextlib.closing(server.client()) as found:
        yield found


def many(number: int, **said: Any) -> list[NodeRecord]:
    said = {"handles": [f"shop.messages.Request{kind}" for kind in range(20)], **said}
    return [record(f"node-{each}", f"http://host-{each}:5000", **said) for each in range(number)]


class TestRedis(DiscoveryContract):
    @pytest.fixture
    def store(self, server: RedisServer, store: RedisDiscovery) -> RedisDiscovery:
        self.clock = ServersClock(server)
        return store

    @pytest.fixture
    def other(self, other: RedisDiscovery) -> RedisDiscovery:
        return other


# -- keys -----------------------------------------------------------------------------------------------------------


def test_clusters_and_prefixes_do_not_see_each_other(server: RedisServer, store: RedisDiscovery) -> None:
    store.register(record(), LONG)
    for options in ({"cluster_name": "other"}, {"prefix": "other"}, {"url": f"{server.url}/1"}):
        with contextlib.closing(RedisDiscovery(**{"url": server.url, **options})) as foreign:
            assert ids(foreign) == []
            foreign.register(record(endpoint="http://host-2:5000"), LONG)
    assert [each.node.endpoint for each in store.nodes()] == ["http://host-1:5000"]


def test_it_uses_four_keys_and_they_go_with_the_last_node(store: RedisDiscovery, admin: Any) -> None:
    store.register(record(), LONG)
    store.register(record("node-2"), LONG)
    assert sorted(admin.keys()) == KEYS
    store.deregister("node-1", "first")
    assert sorted(admin.keys()) == KEYS
    store.deregister("node-2", "first")
    assert admin.keys() == []


@pytest.mark.slow
def test_what_dead_nodes_leave_behind_expires_too(store: RedisDiscovery, admin: Any) -> None:
    store.register(record(), SHORT / 2)
    store.register(record("node-2"), SHORT / 2)
    assert sorted(admin.keys()) == KEYS
    processes.until(lambda: not admin.keys(), "the keys of a cluster of which nobody is left are gone")


def test_a_short_ttl_does_not_shorten_the_life_of_the_other_nodes(store: RedisDiscovery, admin: Any) -> None:
    store.register(record(), LONG)
    store.register(record("node-2"), SHORT)
    assert all(admin.pttl(key) > LONG * 1000 for key in KEYS)


# -- what it costs --------------------------------------------------------------------------------------------------


def test_where_nothing_has_changed_nothing_is_sent_and_the_same_records_are_returned(
    server: RedisServer, store: RedisDiscovery, other: RedisDiscovery
) -> None:
    for each in many(200):
        store.register(each, LONG)
    with server.watched() as whole:
        before = other.nodes()
    assert whole["hget"] == 200
    with server.watched() as counts:
        for each in many(200):
            store.register(replace(each, seq=2), LONG)
        for _ in range(10):
            assert other.nodes() is before
    assert counts["evalsha"] == 210
    assert counts["hget"] == 200, "one for each heartbeat, none for those that look"
    assert not {"hset", "hkeys", "eval", "keys", "scan"} & counts.keys()
    assert counts["bytes out"] < whole["bytes out"] / 2


def test_of_what_has_changed_only_that_is_sent(
    server: RedisServer, store: RedisDiscovery, other: RedisDiscovery
) -> None:
    for each in many(100):
        store.register(each, LONG)
    before = {each.node.node_id: each for each in other.nodes()}
    store.register(record("node-7", "http://host-7:5000", load=50.0, seq=2), LONG)
    store.register(record("node-new"), LONG)
    store.deregister("node-8", "first")
    with server.watched() as counts:
        after = {each.node.node_id: each for each in other.nodes()}
    assert counts["hget"] == 2
    assert after["node-7"].node.load == 50.0
    assert after.keys() - before.keys() == {"node-new"}
    assert before.keys() - after.keys() == {"node-8"}
    assert all(after[name] is before[name] for name in before.keys() & after.keys() - {"node-7"})


def test_a_heartbeat_costs_no_more_among_a_thousand_nodes_than_among_ten(
    server: RedisServer, store: RedisDiscovery
) -> None:
    costs = []
    for number in (10, 1000):
        for each in many(number):
            store.register(each, LONG)
        with server.watched() as counts:
            store.register(replace(many(1)[0], seq=2), LONG)
        costs.append(
            {name: calls for name, calls in counts.items() if name not in ("bytes out", "info", "config|resetstat")}
        )
    assert costs[0] == costs[1]
    assert len(store.nodes()) == 1000


def test_nodes_that_are_gone_are_not_remembered_for_ever(
    store: RedisDiscovery, other: RedisDiscovery, admin: Any
) -> None:
    store.register(record(), LONG)
    for number in range(400):
        name = f"pod-{number}"
        store.register(record(name), LONG)
        if number % 7 == 0:
            assert ids(other) == ["node-1", name]
        store.deregister(name, "first")
    store.register(record("node-2"), LONG)
    assert ids(other) == ["node-1", "node-2"]
    assert admin.zcard(KEYS[0]) < 150


# -- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_expired_record_is_hidden_before_anybody_has_removed_it(
    store: RedisDiscovery, other: RedisDiscovery, admin: Any
) -> None:
    store.register(record(), LONG)
    store.register(record("node-2"), SHORT)
    assert ids(other) == ["node-1", "node-2"]
    mark = other._view.mark
    processes.until(lambda: ids(other) == ["node-1"], "node-2 has expired")
    assert admin.hlen(KEYS[3]) == 2
    assert other._view.mark == mark
    store.register(record(seq=2), LONG)
    assert ids(other) == ["node-1"]
    assert admin.hlen(KEYS[3]) == 1
    assert other._view.mark != mark


def test_a_record_that_had_expired_and_was_not_removed_yet_comes_back_by_a_heartbeat(
    store: RedisDiscovery, other: RedisDiscovery
) -> None:
    store.register(record("node-2"), SHORT / 2)
    processes.until(lambda: ids(other) == [], "node-2 has expired")
    store.register(record("node-2", seq=2), LONG)
    assert ids(other) == ["node-2"]


@pytest.mark.slow
def test_a_node_that_takes_an_expired_id_before_anybody_has_removed_its_record_is_seen(
    store: RedisDiscovery, other: RedisDiscovery
) -> None:
    store.register(record(), SHORT)
    assert ids(other) == ["node-1"]
    processes.until(lambda: ids(other) == [], "node-1 has expired")
    store.register(record(endpoint="http://host-2:5000"), LONG)
    assert [each.node.endpoint for each in other.nodes()] == ["http://host-2:5000"]


# -- poisoned records -----------------------------------------------------------------------------------------------

HEAD = '"http://evil:1"\n"x"\nd\n'
GOOD = json.loads(record("node-2").to_text())
POISON: dict[str, bytes | str] = {
    "nothing": "x",
    "no head": record("node-2").to_text(),
    "no JSON": HEAD + "{",
    "no UTF-8": HEAD.encode() + b'{"nodeId": "\xff"}',
    "nothing in it": HEAD + "{}",
    "no object": HEAD + "[1]",
    "deep": HEAD + "[" * 100_000,
    "another id": HEAD + record("node-1").to_text(),
    "another endpoint of this id": HEAD + json.dumps({**GOOD, "endpoint": "http://169.254.169.254:80"}),
    "credentials": HEAD + json.dumps({**GOOD, "endpoint": "http://user@host:80"}),
    "a path": HEAD + json.dumps({**GOOD, "endpoint": "http://host:80/admin"}),
    "a list for a status": HEAD + json.dumps({**GOOD, "status": []}),
    "a huge number": HEAD + json.dumps({**GOOD, "keepAlive": 10**400}),
    "too long": HEAD + json.dumps({**GOOD, "metadata": {"x": "y" * (MAX_RECORD + 2000)}}),
    "as long as may be": HEAD + "x" * MAX_RECORD,
}


def poison(admin: Any, node_id: str | bytes, value: str | bytes) -> None:
    """Write a record as nobody who goes by the rules would."""
    records = KEYS[3]
    admin.hset(records, node_id, value)
    admin.zadd(KEYS[0], {node_id: 2 + float(admin.zrevrange(KEYS[0], 0, 0, withscores=True)[0][1])})
    admin.zadd(KEYS[1], {node_id: 9e12})
    admin.zadd(KEYS[2], {node_id: 9e12})


@pytest.mark.parametrize("value", POISON.values(), ids=list(POISON))
def test_a_poisoned_record_is_left_out_and_said_once(
    store: RedisDiscovery, other: RedisDiscovery, admin: Any, caplog: pytest.LogCaptureFixture, value: str | bytes
) -> None:
    store.register(record(), LONG)
    assert ids(other) == ["node-1"]
    poison(admin, "node-2", value)
    for seq in range(2, 5):
        assert ids(other) == ["node-1"]
        store.register(record(seq=seq, load=seq), LONG)
    (said,) = [each for each in caplog.records if each.name == "catga_sync.discovery.redis"]
    assert said.levelno == logging.WARNING
    assert "'node-2'" in said.getMessage()
    assert len(said.getMessage()) < 500


def test_a_crowd_of_poisoned_records_is_said_in_one_line(
    store: RedisDiscovery, other: RedisDiscovery, admin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store.register(record(), LONG)
    for number in range(500):
        poison(admin, b"bad\xff\n%d" % number, "x")
    assert ids(other) == ["node-1"]
    assert ids(other) == ["node-1"]
    (said,) = [each.getMessage() for each in caplog.records]
    assert said.startswith("500 invalid records ")
    assert said.isprintable()


def test_a_record_that_is_too_long_is_not_even_sent(server: RedisServer, store: RedisDiscovery, admin: Any) -> None:
    store.register(record(), LONG)
    poison(admin, "node-2", "x" * 50_000_000)
    with server.watched() as counts:
        assert ids(store) == ["node-1"]
    assert counts["bytes out"] < 1_000_000


def test_more_records_than_any_cluster_has_are_an_error_and_not_a_part_of_them(
    store: RedisDiscovery, admin: Any
) -> None:
    store.register(record(), LONG)
    for number in range(260):
        poison(admin, f"node-x{number}", "x" * MAX_RECORD)
    with pytest.raises(redis.exceptions.ResponseError, match="more than 67108864 bytes of records"):
        store.nodes()


def test_a_record_without_a_head_does_not_hold_an_id(store: RedisDiscovery, other: RedisDiscovery, admin: Any) -> None:
    store.register(record(), LONG)
    poison(admin, "node-2", "x")
    other.register(record("node-2"), LONG)
    assert ids(store) == ["node-1", "node-2"]


def test_a_record_that_others_would_refuse_is_not_written(store: RedisDiscovery) -> None:
    with pytest.raises(ConfigurationError, match=f"^metadata: a record has at most {MAX_RECORD} characters"):
        store.register(record(metadata={"x": "y" * MAX_RECORD}), LONG)
    assert ids(store) == []
