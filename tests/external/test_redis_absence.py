"""A request that no node can take, with a real Redis server: which server and cluster, and what is wrong there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from catga_sync.cluster.factory import create_cluster
from catga_sync.discovery.redis import RedisDiscovery
from catga_sync.errors import Delivery, ErrorCode
from catga_sync.mediator import Mediator
from catga_sync.messages import Query
from tests.external.redis_server import RedisServer, be_patient, require_redis

redis = require_redis()

pytestmark = [pytest.mark.redis, pytest.mark.process]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch)


@dataclass(frozen=True)
class Ask(Query[int]):
    pass


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer(requirepass="geheim") as server:
        yield server


def refusal(discovery: Any) -> str:
    with create_cluster(Mediator(), node_id="web", discovery=discovery, cluster_name="shop") as client:
        result = client.send(Ask())
    assert (result.code, result.delivery) == (ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED)
    assert "geheim" not in str(result.error)
    return str(result.error)


def test_a_server_without_a_node_is_named_with_database_and_cluster(server: RedisServer) -> None:
    where = f"the Redis server 127.0.0.1:{server.port} (database 1, cluster_name 'shop', prefix 'catga')"
    assert f"; no other node is in {where}: start one" in refusal(f"redis://:geheim@127.0.0.1:{server.port}/1")


def test_a_client_of_the_users_own_is_named_as_such(server: RedisServer) -> None:
    with redis.Redis(port=server.port, password="geheim", socket_timeout=20.0) as client:
        text = refusal(RedisDiscovery(client=client, cluster_name="shop", prefix="mine"))
    assert "; no other node is in the client's Redis server (cluster_name 'shop', prefix 'mine'): start one" in text


@pytest.mark.parametrize(
    ("login", "why"),
    [
        ("", "requires a password; write it into the URL"),
        (":geheim-1@", "does not accept the user name or the password"),
    ],
    ids=["none", "wrong"],
)
def test_a_server_that_lets_nobody_in_is_named_with_the_reason(server: RedisServer, login: str, why: str) -> None:
    where = f"the Redis server 127.0.0.1:{server.port}"
    text = refusal(f"redis://{login}127.0.0.1:{server.port}")
    assert f"discovery: {where} (database 0, cluster_name 'shop', prefix 'catga') cannot be read: " in text
    assert f"cannot be read: {where} {why}" in text


def test_a_server_that_is_gone_is_named_with_the_reason(server: RedisServer) -> None:
    server.kill()
    text = refusal(f"redis://:geheim@127.0.0.1:{server.port}")
    assert f"127.0.0.1:{server.port} (database 0, cluster_name 'shop', prefix 'catga') cannot be read: " in text
    assert "refused" in text
