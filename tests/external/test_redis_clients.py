"""How the Redis store comes to its connections: forks, clients of the user's own, Redis Cluster."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest

from catga_sync.discovery.redis import RedisDiscovery
from catga_sync.errors import ConfigurationError
from tests import processes
from tests.contracts.discovery import LONG, ids, record
from tests.external.redis_server import RedisServer, be_patient, require_redis

redis = require_redis()

pytestmark = [pytest.mark.redis, pytest.mark.process]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as found:
        yield found


FORK = """
import ctypes, json, os, sys
from catga_sync import _redis
from catga_sync.discovery.redis import RedisDiscovery
from catga_sync.nodes import ClusterNode, NodeRecord

_redis._TIMEOUT = 20.0
url, how = sys.argv[1:]
store = RedisDiscovery(url)

def register(name, seq):
    store.register(NodeRecord(ClusterNode(name, f"http://{name}:1"), seq), 60.0)

def connection():
    return store._server.connected().client_id()

register("parent", 1)
mine = connection()
answers, answer = os.pipe()
child = os.fork() if how == "os.fork" else ctypes.PyDLL(None).fork()
if child == 0:
    for seq in range(50):
        register("child", seq)
    os.write(answer, json.dumps([connection(), len(store.nodes())]).encode())
    store.close()
    os._exit(0)
for seq in range(2, 52):
    register("parent", seq)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
others, seen = json.loads(os.read(answers, 100))
register("parent", 52)
print(json.dumps([connection() == mine, others == mine, sorted(each.node.node_id for each in store.nodes())]))
"""


@pytest.mark.parametrize("how", ["os.fork", pytest.param("a fork in C", marks=pytest.mark.slow)])
def test_a_forked_child_has_a_connection_of_its_own_and_leaves_the_parents_alone(server: RedisServer, how: str) -> None:
    done = processes.run("-W", "error", "-c", FORK, server.url, how)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, False, ["child", "parent"]]


def test_a_client_of_ones_own_is_used_and_never_closed(server: RedisServer) -> None:
    with contextlib.closing(server.client()) as own:
        store = RedisDiscovery(client=own)
        store.register(record(), LONG)
        before = own.client_id()
        store.close()
        assert own.client_id() == before
        assert ids(store) == ["node-1"]


@pytest.fixture
def cluster() -> Iterator[tuple[RedisServer, RedisServer]]:
    """A Redis Cluster of two servers, with half of the slots each."""
    options = {"cluster_enabled": "yes", "cluster_config_file": "nodes.conf"}
    with (
        RedisServer(**options, cluster_port=str(processes.free_port())) as one,
        RedisServer(**options, cluster_port=str(processes.free_port())) as two,
    ):
        one.command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        two.command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        two.command("CLUSTER", "SET-CONFIG-EPOCH", 2)
        one.command("CLUSTER", "MEET", "127.0.0.1", two.port, two.option("cluster_port"))
        processes.until(
            lambda: all(each.command("CLUSTER INFO")["cluster_state"] == "ok" for each in (one, two)),
            "the Redis Cluster is complete",
            60.0,
        )
        yield one, two


def test_a_redis_cluster_is_used_through_its_own_client(cluster: tuple[RedisServer, RedisServer]) -> None:
    told_to_use_another_client = 0
    for number in range(4):
        name = f"cluster-{number}"
        with contextlib.closing(redis.RedisCluster("127.0.0.1", cluster[0].port)) as own:
            store = RedisDiscovery(client=own, cluster_name=name)
            store.register(record(), LONG)
            assert ids(store) == ["node-1"]
            store.deregister("node-1", "first")
            assert ids(store) == []
        for each in cluster:
            with contextlib.closing(RedisDiscovery(each.url, cluster_name=name)) as plain:
                try:
                    plain.nodes()
                except ConfigurationError as exc:
                    assert "RedisDiscovery(client=redis.RedisCluster(...))" in str(exc)  # noqa: PT017 - one of the two
                    told_to_use_another_client += 1
    assert told_to_use_another_client == 4
