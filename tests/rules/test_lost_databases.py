"""SQLite files that vanish under the processes that use them: all of them meet in new ones, and none is damaged."""

from __future__ import annotations

import os
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
    [
        pytest.param(("",), id="main"),
        pytest.param(("-wal",), id="wal"),
        pytest.param(("-shm",), id="shm", marks=pytest.mark.slow),
        pytest.param(("-wal", "-shm"), id="wal+shm", marks=pytest.mark.slow),
        pytest.param(("", "-shm"), id="main+shm", marks=pytest.mark.slow),
        pytest.param(("", "-wal", "-shm"), id="all"),
    ],
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
#: It forks for every store, so that each has a process that has opened nothing before.
SCRIPT = """
import os, sys
from catga_sync.idempotency import SqliteIdempotency
from catga_sync.receiver.replay import SqliteNonces

for line in sys.stdin:
    to, back, kind, path = line.split()
    if os.fork() == 0:
        with open(to) as calls, open(back, "w") as results:
            store = globals()[kind](path)
            for call in calls:
                print(eval(call), file=results, flush=True)
        os._exit(0)
"""


class Other:
    """A store in a process of its own."""

    def __init__(self, parent: subprocess.Popen[str], kind: str, path: Path, pipes: Path) -> None:
        to, back = pipes.with_suffix(".to"), pipes.with_suffix(".back")
        os.mkfifo(to)
        os.mkfifo(back)
        assert parent.stdin is not None
        print(to, back, kind, path, file=parent.stdin, flush=True)
        self._to = to.open("w")
        self._back = back.open()

    def __call__(self, expression: str) -> str:
        print(expression, file=self._to, flush=True)
        return self._back.readline().strip()

    def close(self) -> None:
        """End the process, and wait until it has let go of its files."""
        self._to.close()
        assert self._back.read() == ""
        self._back.close()


Start = Callable[[str], Other]


@pytest.fixture(scope="module")
def parent() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, text=True, env=clean_environment()
    ) as process:
        yield process


@pytest.fixture
def start(tmp_path: Path, parent: subprocess.Popen[str]) -> Iterator[Start]:
    started: list[Other] = []
    (tmp_path / "pipes").mkdir()

    def start(kind: str) -> Other:
        store, pipes = tmp_path / "stores" / "store", tmp_path / "pipes" / str(len(started))
        store.parent.mkdir(exist_ok=True)
        started.append(Other(parent, kind, store, pipes))
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
    (file,) = (path for path in (tmp_path / "stores").iterdir() if not path.name.endswith(("-wal", "-shm")))
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
