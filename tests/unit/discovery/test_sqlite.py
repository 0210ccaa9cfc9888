"""The SQLite file: the contract, and what files, locks, processes and boots do to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from catga_sync import _sqlite
from catga_sync.discovery import sqlite
from catga_sync.discovery.sqlite import SqliteDiscovery
from catga_sync.errors import NodeIdTaken
from catga_sync.nodes import ClusterNode
from tests import processes
from tests.contracts.discovery import LONG, DiscoveryContract, HeldClock, ids, record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "cluster.sqlite3"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no file that somebody holds."""
    monkeypatch.setattr(_sqlite, "_BUSY_TIMEOUT", 20.0)


@pytest.mark.usefixtures("patient")
class TestSqlite(DiscoveryContract):
    @pytest.fixture
    def store(self, path: Path) -> SqliteDiscovery:
        self.clock = HeldClock()
        return SqliteDiscovery(path, clock=self.clock)

    @pytest.fixture
    def other(self, store: SqliteDiscovery) -> SqliteDiscovery:
        return SqliteDiscovery(store.path, clock=self.clock)


@pytest.mark.usefixtures("patient")
def test_on_the_system_s_own_clock_only_those_that_renew_stay(path: Path) -> None:
    store, other = SqliteDiscovery(path), SqliteDiscovery(path)
    store.register(record(), 0.3)
    store.register(record("node-2", "http://host-2:5000"), LONG)
    processes.until(lambda: ids(other) == ["node-2"], "node-1 has expired")
    store.register(record(seq=2), LONG)
    assert ids(other) == ["node-1", "node-2"]


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Have the file locked, as by another process, until the block is left."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        yield
        db.execute("ROLLBACK")


# -- files ----------------------------------------------------------------------------------------------------------


def test_construction_and_reading_make_no_file(path: Path) -> None:
    assert ids(SqliteDiscovery(path)) == []
    SqliteDiscovery(path).deregister("node-1", "first")
    assert not path.parent.exists()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="permissions of POSIX")
def test_the_file_and_its_folder_are_this_users_alone_whatever_the_umask(path: Path) -> None:
    umask = os.umask(0)
    try:
        SqliteDiscovery(path).register(record(), LONG)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_was_deleted_is_complete_again_one_heartbeat_later(path: Path) -> None:
    one, two = SqliteDiscovery(path), SqliteDiscovery(path)
    one.register(record(), LONG)
    two.register(record("node-2", "http://host-2:5000"), LONG)
    path.unlink()
    assert ids(one) == []
    one.register(record(seq=2), LONG)
    two.register(record("node-2", "http://host-2:5000", seq=2), LONG)
    assert ids(one) == ids(two) == ["node-1", "node-2"]


def test_an_empty_file_is_a_store_that_holds_nobody(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    store = SqliteDiscovery(path)
    assert ids(store) == []
    store.register(record(), LONG)
    assert ids(store) == ["node-1"]


def test_a_file_that_is_no_database_raises_and_is_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    garbage = b"this is somebody's file\n" * 400
    path.write_bytes(garbage)
    store = SqliteDiscovery(path)
    for call in (store.nodes, lambda: store.register(record(), LONG), lambda: store.deregister("node-1", "first")):
        with pytest.raises(sqlite3.DatabaseError):
            call()
    assert path.read_bytes() == garbage


def test_a_database_that_was_damaged_raises_and_is_left_as_it_is(path: Path) -> None:
    store = SqliteDiscovery(path)
    store.register(record(), LONG)
    damaged = bytearray(path.read_bytes())
    damaged[100:] = os.urandom(len(damaged) - 100)
    path.write_bytes(damaged)
    with pytest.raises(sqlite3.DatabaseError):
        store.nodes()
    with pytest.raises(sqlite3.DatabaseError):
        store.register(record(), LONG)
    assert path.read_bytes() == bytes(damaged)


def test_the_clusters_of_one_file_do_not_see_each_other(path: Path) -> None:
    one, two = SqliteDiscovery(path, cluster_name="one"), SqliteDiscovery(path, cluster_name="two")
    one.register(record(), LONG)
    two.register(record(endpoint="http://host-2:5000"), LONG)
    assert [each.node.endpoint for each in one.nodes()] == ["http://host-1:5000"]
    assert [each.node.endpoint for each in two.nodes()] == ["http://host-2:5000"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"nodeId": "node-2"}', '{"nodeId": "a b", "endpoint": "http://h:1"}'])
def test_a_row_that_is_no_record_is_left_out(path: Path, text: str) -> None:
    store = SqliteDiscovery(path)
    store.register(record(), LONG)
    store.register(record("node-2", "http://host-2:5000"), LONG)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE nodes SET record = ? WHERE node_id = 'node-2'", (text,))
    assert ids(store) == ["node-1"]
    store.register(record("node-2", "http://host-2:5000", seq=2), LONG)
    assert ids(store) == ["node-1", "node-2"]


# -- locks ----------------------------------------------------------------------------------------------------------


def test_a_file_that_somebody_holds_fails_the_call_soon_and_serves_the_next(path: Path) -> None:
    store = SqliteDiscovery(path)
    store.register(record(), LONG)
    with held(path):
        for call in (store.nodes, lambda: store.register(record(seq=2), LONG)):
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                call()
    store.register(record(seq=3), LONG)
    assert [each.seq for each in store.nodes()] == [3]


@pytest.mark.usefixtures("patient")
def test_a_lock_that_is_soon_given_up_is_waited_for(path: Path) -> None:
    store = SqliteDiscovery(path)
    store.register(record(), LONG)
    entered, seen = threading.Event(), []

    def look() -> None:
        entered.set()
        seen.extend(ids(store))

    reader = threading.Thread(target=look)
    with held(path):
        reader.start()
        assert entered.wait(20)
    reader.join(30)
    assert seen == ["node-1"]


# -- processes ------------------------------------------------------------------------------------------------------

REGISTER = """
import sys
from catga_sync.discovery.sqlite import SqliteDiscovery
from catga_sync.nodes import ClusterNode, NodeRecord

path, node_id, endpoint = sys.argv[1:]
store = SqliteDiscovery(path)
store.register(NodeRecord(ClusterNode(node_id, endpoint, incarnation="other"), 1), 60.0)
print(*sorted(each.node.node_id for each in store.nodes()))
"""

FORK = """
import os, sys
from catga_sync.discovery.sqlite import SqliteDiscovery
from catga_sync.nodes import ClusterNode, NodeRecord

store = SqliteDiscovery(sys.argv[1])
store.register(NodeRecord(ClusterNode("parent", "http://host-1:5000"), 1), 60.0)
child = os.fork()
if child == 0:
    store.register(NodeRecord(ClusterNode("child", "http://host-2:5000"), 1), 60.0)
    os._exit(0 if len(store.nodes()) == 2 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
store.register(NodeRecord(ClusterNode("parent", "http://host-1:5000"), 2), 60.0)
print(*sorted(each.node.node_id for each in store.nodes()))
"""


def run(program: str, *arguments: object) -> str:
    """Run a program that needs nothing but the package; return what it printed."""
    done = processes.run("-W", "error", "-c", program, *map(str, arguments))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.process
def test_two_processes_see_each_other_and_respect_each_others_ids(path: Path) -> None:
    store = SqliteDiscovery(path)
    store.register(record(), LONG)
    assert run(REGISTER, path, "node-2", "http://host-2:5000") == "node-1 node-2"
    assert ids(store) == ["node-1", "node-2"]
    with pytest.raises(NodeIdTaken, match="http://host-2:5000"):
        store.register(record("node-2", "http://host-3:5000"), LONG)


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_and_its_parent_both_go_on(path: Path) -> None:
    assert run(FORK, path) == "child parent"


def test_a_node_whose_processes_are_all_dead_is_gone_and_its_id_is_free(path: Path) -> None:
    dead: set[str] = set()
    asked: list[ClusterNode] = []

    def is_alive(node: ClusterNode) -> bool:
        asked.append(node)
        return node.node_id not in dead

    store = SqliteDiscovery(path, is_alive=is_alive)
    store.register(record(), LONG)
    store.register(record("node-2", "http://host-2:5000"), LONG)
    assert ids(store) == ["node-1", "node-2"]
    assert {node.endpoint for node in asked} == {"http://host-1:5000", "http://host-2:5000"}
    dead.add("node-1")
    assert ids(store) == ["node-2"]
    store.register(record(endpoint="http://host-3:5000", incarnation="second"), LONG)
    dead.clear()
    assert [each.node.endpoint for each in store.nodes()] == ["http://host-3:5000", "http://host-2:5000"]


@pytest.mark.parametrize("answer", [True, None])
def test_a_node_that_lives_or_of_which_nobody_can_tell_keeps_its_id(path: Path, answer: bool | None) -> None:
    store = SqliteDiscovery(path, is_alive=lambda node: answer)
    store.register(record(), LONG)
    assert ids(store) == ["node-1"]
    with pytest.raises(NodeIdTaken):
        store.register(record(endpoint="http://host-2:5000"), LONG)


def test_a_record_from_before_the_last_boot_has_expired(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteDiscovery(path)
    store.register(record(), LONG)
    store.register(record("node-2", "http://host-2:5000"), LONG)
    monkeypatch.setattr(sqlite, "boot_id", lambda: "another")
    assert ids(store) == []
    store.register(record(endpoint="http://host-3:5000"), LONG)
    assert [each.node.endpoint for each in store.nodes()] == ["http://host-3:5000"]


@pytest.mark.parametrize(
    "spoilt",
    [
        "written = 'yesterday'",
        "written = x'00ff'",
        "record = CAST(x'ff7b7d' AS TEXT)",
        "record = x'ff'",
        "record = 7",
        "expires = 'never', written = 'now'",
        "node_id = CAST(x'ff' AS TEXT), record = 'x'",
        "record = replace(record, '\"load\": 0.0', '\"load\": 1' || printf('%.*c', 5000, '0'))",
    ],
)
def test_one_spoilt_row_hides_no_other_node_and_is_told_once(
    path: Path, caplog: pytest.LogCaptureFixture, spoilt: str
) -> None:
    store = SqliteDiscovery(path)
    store.register(record("node-1"), LONG)
    store.register(record("node-2"), LONG)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"UPDATE nodes SET {spoilt} WHERE node_id = 'node-1'")
    for _ in range(3):
        assert ids(store) == ["node-2"]
    assert caplog.text.count("an invalid row of") == 1
