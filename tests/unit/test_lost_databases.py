"""SQLite files that vanish under the processes that use them: all of them meet in new ones, and none is damaged."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from catga_sync.discovery.sqlite import SqliteDiscovery
from catga_sync.nodes import ClusterNode, NodeRecord
from tests.processes import clean_environment

LOST = pytest.mark.parametrize(
    "suffixes",
    [("",), ("-wal",), ("-shm",), ("-wal", "-shm"), ("", "-shm"), ("", "-wal", "-shm")],
    ids=["main", "wal", "shm", "wal+shm", "main+shm", "all"],
)
LIFETIME = 600.0


def lose(file: Path, suffixes: tuple[str, ...]) -> None:
    for suffix in suffixes:
        Path(f"{file}{suffix}").unlink(missing_ok=True)


def in_the_file_itself(file: Path) -> None:
    """Write what stands in the log into the file, so that a log alone is not all there is."""
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")


#: A process with a store of its own: SQLite shares the state of a file between the connections of one process.
SCRIPT = """
import sys
from catga_sync.idempotency import SqliteIdempotency
from catga_sync.nonces import SqliteNonces

store = eval(sys.argv[1])
for line in sys.stdin:
    print(eval(line), flush=True)
"""


class Other:
    """A store in another process."""

    def __init__(self, kind: str, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, f"{kind}({str(path)!r})"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean_environment(),
        )

    def __call__(self, expression: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(expression + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.communicate(timeout=30)


Start = Callable[[str], Other]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Other] = []

    def start(kind: str) -> Other:
        started.append(Other(kind, tmp_path / "store"))
        return started[-1]

    yield start
    for each in started:
        each.close()


@LOST
@pytest.mark.parametrize(
    ("kind", "call", "first", "again"),
    [
        ("SqliteNonces", "store.add({!r}, 600.0)", "True", "False"),
        ("SqliteIdempotency", "store.claim({!r}, 'f', 60.0).state.name", "NEW", "RUNNING"),
    ],
)
def test_processes_that_lose_a_file_of_their_store_meet_again_whichever_comes_first(
    start: Start, tmp_path: Path, suffixes: tuple[str, ...], kind: str, call: str, first: str, again: str
) -> None:
    one, other = start(kind), start(kind)
    for number in range(50):
        assert one(call.format(f"before-{number}")) == first
        assert other(call.format(f"before-{number}")) == again
    (file,) = (path for path in tmp_path.iterdir() if not path.name.endswith(("-wal", "-shm")))
    in_the_file_itself(file)
    one(call.format("last"))
    lose(file, suffixes)
    stores = (one, start(kind), other)
    for number in range(20):
        seen = [store(call.format(f"after-{number}")) for store in stores]
        assert seen == [first, again, again], number


def record(node_id: str) -> NodeRecord:
    return NodeRecord(ClusterNode(node_id, "http://127.0.0.1:1", incarnation="x"), 1)


@pytest.mark.parametrize("harm", ["file", "folder", "empty"])
def test_nodes_that_lose_the_discovery_file_are_back_with_their_next_heartbeat(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "folder" / "nodes.sqlite3"
    one, other = SqliteDiscovery(path), SqliteDiscovery(path)
    one.register(record("one"), LIFETIME)
    path.unlink()
    if harm == "folder":
        path.parent.rmdir()
    elif harm == "empty":
        path.touch(0o600)
    assert other.nodes() == []
    other.register(record("other"), LIFETIME)
    one.register(record("one"), LIFETIME)
    assert [each.node.node_id for each in one.nodes()] == ["one", "other"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_log_that_was_left_without_its_database_is_not_taken_for_the_new_one_s(tmp_path: Path) -> None:
    path = tmp_path / "nodes.sqlite3"
    path.with_name("nodes.sqlite3-wal").write_bytes(b"of another life")
    store = SqliteDiscovery(path)
    store.register(record("one"), LIFETIME)
    assert not path.with_name("nodes.sqlite3-wal").exists()
    assert [each.node.node_id for each in store.nodes()] == ["one"]
