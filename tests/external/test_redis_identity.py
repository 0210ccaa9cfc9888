"""Which store a Redis server is, and what becomes of a plain request that nodes with such stores are sent twice."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from catga_sync import Delivery, ErrorCode
from tests import processes
from tests.external.redis_server import RedisServer, be_patient, require_redis
from tests.faults.listening import listening
from tests.unit.cluster.losing import Do, pair

redis = require_redis()

from catga_sync.idempotency import RedisIdempotency  # noqa: E402 - after the skip

pytestmark = [pytest.mark.redis, pytest.mark.process]

Opened = Callable[..., RedisIdempotency]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as found:
        yield found


@pytest.fixture
def second() -> Iterator[RedisServer]:
    with RedisServer() as found:
        yield found


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    be_patient(monkeypatch)
    with contextlib.ExitStack() as stack:
        yield lambda *values, **options: stack.enter_context(contextlib.closing(RedisIdempotency(*values, **options)))


class Name:
    """An address that is the same for everybody, and leads to whichever server it is set to when one connects."""

    def __init__(self) -> None:
        self.leads_to = 0

    def serve(self, caller: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self.leads_to), timeout=20.0) as server:
            server.settimeout(None)
            back = threading.Thread(target=_carry, args=(server, caller))
            back.start()
            _carry(caller, server)
            back.join()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def name() -> Iterator[tuple[Name, str]]:
    made = Name()
    with listening(made.serve) as port:
        yield made, f"redis://127.0.0.1:{port}"


# -- the identity -----------------------------------------------------------------------------------------------------


def opened_in_turn(name: tuple[Name, str], servers: Iterable[RedisServer], opened: Opened) -> list[RedisIdempotency]:
    """Return a store for each server, all of them opened under one name."""
    alias, url = name
    stores = []
    for each in servers:
        alias.leads_to = each.port
        stores.append(opened(url))
        stores[-1].identity()
    return stores


def test_a_name_that_leads_to_two_servers_is_two_stores(
    name: tuple[Name, str], server: RedisServer, second: RedisServer, opened: Opened
) -> None:
    stores = opened_in_turn(name, (server, second), opened)
    one, two = stores
    assert one.identity() != two.identity()
    assert one.identity() == opened(server.url).identity()


@pytest.mark.parametrize("options", [{"prefix": "other"}, {"cluster_name": "other"}], ids=str)
def test_what_sees_other_claims_on_one_server_is_another_store(
    server: RedisServer, opened: Opened, options: dict[str, str]
) -> None:
    before = opened(server.url).identity()
    assert opened(server.url, **options).identity() != before
    assert opened(f"{server.url}/1").identity() != before


@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB", "DEL catga:default:store"])
def test_a_server_that_was_emptied_is_another_store(server: RedisServer, opened: Opened, command: str) -> None:
    store, other = opened(server.url), opened(server.url)
    before = store.identity()
    server.command(*command.split())
    assert store.identity() != before
    assert store.identity() == other.identity()


@pytest.mark.parametrize("saving", ["no", "yes"])
def test_a_server_that_was_started_again_is_another_store(opened: Opened, saving: str) -> None:
    """One that saves has the key, and may lack the claims of its last second."""
    with RedisServer(appendonly=saving) as server:
        store, other = opened(server.url), opened(server.url)
        before = store.identity()
        key = server.command("GET", "catga:default:store")
        server.kill()
        server.start()
        processes.until(lambda: server.command("PING"), "it is back")
        assert store.identity() != before
        assert store.identity() == other.identity()
        assert (server.command("GET", "catga:default:store") == key) is (saving == "yes")


@pytest.mark.slow
def test_a_replica_that_takes_over_is_another_store(server: RedisServer, second: RedisServer, opened: Opened) -> None:
    """It has the key, and may lack the last claims: replication is asynchronous."""
    before = opened(server.url).identity()
    second.command("REPLICAOF", "127.0.0.1", server.port)
    processes.until(lambda: second.command("GET", "catga:default:store"), "the key is on the replica")
    server.kill()
    second.command("REPLICAOF", "NO", "ONE")
    assert opened(second.url).identity() != before


def test_the_key_never_expires(server: RedisServer, opened: Opened) -> None:
    opened(server.url).identity()
    assert server.command("TTL", "catga:default:store") == -1


def test_a_user_without_the_rights_has_a_store_that_is_not_shared_and_still_works(
    server: RedisServer, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    """A user that was set up before the rights were needed."""
    rights = "+eval +evalsha +time +del +exists +hget +hmget +hset +pexpire"
    server.command("ACL", "SETUSER", "node", "reset", "on", ">p", "~catga:default:claim:*", *rights.split())
    url = f"redis://node:p@127.0.0.1:{server.port}"
    with pair(opened(url), opened(url)) as made:
        result = made.client.send(Do())
        assert made.ran == [("a", 0)]
        assert len(result.attempts) == 1
        made.losing = set()
        assert made.client.send(Do(1)).value == 1
    assert "the identity of the idempotency store cannot be read" in caplog.text


# -- what nodes make of it ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [False, True], ids=["one by one", "batch"])
def test_with_one_server_the_second_node_gives_the_response_of_the_first(
    server: RedisServer, opened: Opened, batch: bool
) -> None:
    with pair(opened(server.url), opened(server.url)) as made:
        made.losing = {"a"}
        requests = [Do(number) for number in range(3)]
        results = made.client.send_batch(requests) if batch else [made.client.send(each) for each in requests]
        assert [result.value for result in results] == [0, 1, 2]
        assert made.ran == [("a", 0), ("a", 1), ("a", 2)]


def test_with_two_servers_of_one_name_a_plain_request_runs_once(
    name: tuple[Name, str], server: RedisServer, second: RedisServer, opened: Opened
) -> None:
    stores = opened_in_turn(name, (server, second), opened)
    with pair(*stores) as made:
        results = [made.client.send(Do(number)) for number in range(5)]
        assert len(made.ran) == 5
        assert {(result.delivery, len(result.attempts)) for result in results} == {(Delivery.UNKNOWN, 1)}


def _emptied(server: RedisServer) -> Any:
    return server.command("FLUSHALL")


def _started_again(server: RedisServer) -> Any:
    server.kill()
    server.start()


@pytest.mark.parametrize("trouble", [_emptied, _started_again, RedisServer.kill])
def test_a_store_that_forgets_or_dies_between_two_tries_lets_none_run_again(
    server: RedisServer, opened: Opened, trouble: Callable[[RedisServer], Any]
) -> None:
    """What the first node is running when it happens is known nowhere any more."""
    with pair(opened(server.url), opened(server.url)) as made:
        made.losing = {"a"}
        made.meanwhile = lambda: trouble(server)
        result = made.client.send(Do())
        assert made.ran == [("a", 0)]
        assert result.delivery is Delivery.UNKNOWN
        assert result.code is ErrorCode.UNAVAILABLE
        assert [each.node_id for each in result.attempts][:2] == ["a", "b"]


@pytest.mark.parametrize("trouble", [_emptied, pytest.param(_started_again, marks=pytest.mark.slow)])
def test_after_it_has_forgotten_everything_new_requests_run_at_once(
    server: RedisServer, opened: Opened, trouble: Callable[[RedisServer], Any]
) -> None:
    with pair(opened(server.url), opened(server.url)) as made:
        made.losing = set()
        made.client.send(Do())
        trouble(server)
        results = [made.client.send(Do(number)) for number in range(1, 40)]
        assert [result.value for result in results] == list(range(1, 40))
        assert made.ran == [("a", number) for number in range(40)]
