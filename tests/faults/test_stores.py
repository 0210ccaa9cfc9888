"""The discovery store fails in every way that it can; callers notice nothing."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from catga_sync import ClusterMediator
from tests.conftest import require_module
from tests.external.redis_server import RedisServer
from tests.faults.load import Load
from tests.faults.nodes import HEARTBEAT, HEARTBEAT_TIMEOUT, Nodes, redis_server
from tests.processes import until

require_module("gunicorn")

pytestmark = pytest.mark.process

#: What a busy machine may add to a time that is promised, in seconds.
PATIENCE = 10.0
#: Seconds for which a store is away: longer than a record lives.
AWAY = HEARTBEAT_TIMEOUT + 1.0


def registered(nodes: Nodes) -> bool:
    """Whether somebody who has never been here before finds both nodes."""
    with nodes.client(node_id="newcomer") as newcomer:
        return complete_for(newcomer)


def endure(nodes: Nodes, fault: Callable[[], contextlib.AbstractContextManager[object]]) -> tuple[Load, float]:
    """Call all the time while the store is away; return the calls, and seconds until all nodes were in it again."""
    nodes.start("a", "b")
    with nodes.client() as client:
        nodes.see(client, "a", "b")
        with Load(client, nodes.told, rate=50.0, timeout=20.0) as load:
            until(load.answered(50), "calls are answered")
            with fault():
                gone = time.monotonic()
                until(load.answered(50, after=gone + AWAY), "calls are answered all the time", 30.0)
                assert complete_for(client)
            healed = time.monotonic()
            until(lambda: registered(nodes), "all nodes are in the store again")
            until(lambda: complete_for(client), "the caller sees all nodes")
            complete = time.monotonic() - healed
            until(load.answered(50, after=time.monotonic()), "calls are answered")
            assert complete_for(client)
    return load, complete


def complete_for(client: ClusterMediator) -> bool:
    return [each.node_id for each in client.nodes()] == ["a", "b"]


@contextlib.contextmanager
def killed(server: RedisServer) -> Iterator[None]:
    server.kill()
    yield
    server.start()


@contextlib.contextmanager
def emptied(server: RedisServer) -> Iterator[None]:
    server.command("FLUSHALL")
    yield
    server.command("FLUSHALL")


@pytest.mark.redis
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(killed, id="killed", marks=pytest.mark.slow),
        pytest.param(emptied, id="flushed", marks=pytest.mark.slow),
        pytest.param(RedisServer.paused, id="stopped", marks=pytest.mark.slow),
    ],
)
def test_redis_may_go_and_come_back(
    tmp_path: Path, fault: Callable[[RedisServer], contextlib.AbstractContextManager[object]]
) -> None:
    with redis_server() as server, Nodes(tmp_path, CATGA_DISCOVERY=server.url) as nodes:
        load, complete = endure(nodes, lambda: fault(server))
        assert load.failed == []
        assert nodes.wrong() == []
        assert complete <= HEARTBEAT + 1.0 + PATIENCE


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(path, timeout=20.0, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        yield
        db.execute("ROLLBACK")


@contextlib.contextmanager
def deleted(path: Path) -> Iterator[None]:
    path.unlink()
    yield
    path.unlink()


@contextlib.contextmanager
def spoilt(path: Path) -> Iterator[None]:
    """As a disk does: the nodes cannot know, and cannot mend it."""
    good = path.read_bytes()
    path.write_bytes(b"no database at all" * 1000)
    yield
    path.write_bytes(good)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [deleted, locked, spoilt])
def test_the_sqlite_file_may_go_and_come_back(
    nodes: Nodes, fault: Callable[[Path], contextlib.AbstractContextManager[object]]
) -> None:
    load, complete = endure(nodes, lambda: fault(nodes.folder / "nodes.sqlite3"))
    assert load.failed == []
    assert nodes.wrong() == []
    assert complete <= HEARTBEAT + 1.0 + PATIENCE
