"""An SQLite file and the one connection of a process: forks, files that are busy, users that change."""

from __future__ import annotations

import ctypes
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from catga_sync import _sqlite
from catga_sync._sqlite import SqliteFile
from tests.processes import run

POSIX = pytest.mark.skipif(not hasattr(ctypes.PyDLL(None), "fork"), reason="forks of POSIX")


def prepare(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE IF NOT EXISTS t (x)")


def add(db: sqlite3.Connection) -> int:
    return db.execute("INSERT INTO t VALUES (1)").rowcount


def count(db: sqlite3.Connection) -> int:
    (found,) = db.execute("SELECT count(*) FROM t").fetchone()
    return int(found)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "file.sqlite3"


@pytest.fixture
def file(path: Path) -> Iterator[SqliteFile]:
    with closing(SqliteFile(lambda: path, prepare)) as found:
        yield found


def test_a_file_that_is_not_there_is_made_by_writers_only(file: SqliteFile, path: Path) -> None:
    assert file.run(count, absent=7) == 7
    assert not path.parent.exists()
    assert file.run(add) == 1
    assert file.run(count, absent=7) == 1


def test_a_process_that_is_told_another_place_uses_that(tmp_path: Path) -> None:
    places = [tmp_path / "one"]
    with closing(SqliteFile(lambda: places[-1], prepare)) as file:
        file.run(add)
        places.append(tmp_path / "two")
        assert file.run(count) == 0


def test_work_that_found_the_file_busy_is_done_once_it_is_free(file: SqliteFile, path: Path) -> None:
    file.run(add)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        tries = []

        def work(db: sqlite3.Connection) -> int:
            tries.append(db)
            if len(tries) == 3:
                other.execute("COMMIT")
            return add(db)

        assert file.run(work) == 1
    assert len(tries) == 3
    assert len(set(map(id, tries))) == 1, "the connection stays"


def test_a_connection_of_a_call_that_failed_is_not_used_again(file: SqliteFile) -> None:
    used = []

    def work(db: sqlite3.Connection) -> None:
        used.append(db)
        db.execute("BEGIN")
        db.execute("no SQL")

    with pytest.raises(sqlite3.OperationalError, match="syntax"):
        file.run(work)
    assert file.run(lambda db: db is used[0]) is False


def test_nothing_is_open_between_two_calls_where_that_is_wanted(path: Path) -> None:
    file, seen = SqliteFile(lambda: path, prepare, keep=False), list[sqlite3.Connection]()
    for _ in range(2):
        file.run(seen.append)
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            seen[-1].execute("SELECT 1")


def test_closing_waits_for_a_call_that_takes_long(file: SqliteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sqlite, "_BUSY_TIMEOUT", 0.0)
    monkeypatch.setattr(_sqlite, "_PATIENCE", 30.0)
    inside, go_on = threading.Event(), threading.Event()

    def work(db: sqlite3.Connection) -> int:
        inside.set()
        assert go_on.wait(30)
        return add(db)

    with ThreadPoolExecutor(2) as pool:
        called = pool.submit(file.run, work)
        assert inside.wait(30)
        closed = pool.submit(file.close)
        go_on.set()
        assert called.result(30) == 1
        closed.result(30)
    assert file._db is None


def test_a_fork_closes_it_and_does_not_wait_for_a_call_that_hangs(
    file: SqliteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sqlite, "_PATIENCE", 0.05)
    file.run(add)
    with file._turn:
        file.before_fork()
        file.after_fork_in_parent()
        assert file._turn.locked(), "it is not the fork's to give back"
    file.before_fork()
    assert file._db is None
    file.after_fork_in_parent()
    assert file.run(count) == 1


#: A process that forks in C, which tells Python nothing, while a connection is open.
FORK = """
import ctypes, os, sys
from catga_sync.idempotency import SqliteIdempotency

path, closes = sys.argv[1:]
store = SqliteIdempotency(path)
store.claim("parent", "f", 60.0)
child = ctypes.PyDLL(None).fork()
if child == 0:
    if closes == "closes":
        store.close()
    for _ in range(2):
        try:
            store.claim("child", "f", 60.0)
        except OSError as exc:
            assert "fork workers before they serve" in str(exc), exc
        else:
            os._exit(1)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert store.claim("parent", "f", 60.0).state.name == "RUNNING"
assert store.claim("child", "f", 60.0).state.name == "NEW"
store.close()
"""


@POSIX
@pytest.mark.parametrize("closes", [pytest.param("closes", marks=pytest.mark.slow), "calls"])
def test_a_process_that_inherited_a_connection_opens_no_other_and_says_what_to_do(path: Path, closes: str) -> None:
    done = run("-W", "error", "-c", FORK, path, closes)
    assert done.returncode == 0, done.stderr


#: A process that forks while a thread of it is in the middle of a call, for long.
BUSY = """
import os, sys, threading
from pathlib import Path
from catga_sync._sqlite import SqliteFile

file = SqliteFile(lambda: Path(sys.argv[1]), lambda db: db.execute("CREATE TABLE IF NOT EXISTS t (x)"), keep=False)
inside, forking = threading.Event(), threading.Event()

def work(db):
    inside.set()
    assert forking.wait(30)
    db.execute("INSERT INTO t VALUES (1)")

os.register_at_fork(before=forking.set)  # called before those that were registered earlier
caller = threading.Thread(target=lambda: file.run(work))
caller.start()
assert inside.wait(30)
child = os.fork()
count = lambda: file.run(lambda db: db.execute("SELECT count(*) FROM t").fetchone()[0])
if child == 0:
    os._exit(0 if count() == 1 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
caller.join()
assert count() == 1
"""


@pytest.mark.slow
@POSIX
def test_a_fork_waits_for_a_call_that_is_under_way(path: Path) -> None:
    done = run("-c", BUSY, path)
    assert done.returncode == 0, done.stderr
