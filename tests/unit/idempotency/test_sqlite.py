"""The SQLite file: the contract, and what files, locks, processes, clocks and boots do to it."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from catga_sync import _sqlite
from catga_sync.idempotency import Claim, SqliteIdempotency, sqlite
from tests import processes
from tests.contracts.discovery import HeldClock
from tests.contracts.idempotency import (
    DONE,
    LONG,
    LOST,
    NEW,
    RUNNING,
    Elsewhere,
    ForkContract,
    IdempotencyContract,
    Make,
    SharedContract,
    in_threads,
)

Opened = Callable[..., SqliteIdempotency]

#: Seconds: it is to take half of one, but machines may be busy. What waits for ever takes longer.
BOUND = 15.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "claims.sqlite3"


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no file that somebody holds."""
    monkeypatch.setattr(_sqlite, "_BUSY_TIMEOUT", 20.0)


@pytest.fixture
def real_waits(_patience: None) -> Iterator[None]:
    """The test is about the time that calls take: stores wait as they do for users until the test is over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_sqlite, "_BUSY_TIMEOUT", 0.5)
        yield


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Make stores that are closed at the end: 3.13 warns of connections that nobody closed."""
    with contextlib.ExitStack() as stack:
        yield lambda *values, **options: stack.enter_context(contextlib.closing(SqliteIdempotency(*values, **options)))


class TestSqlite(IdempotencyContract):
    @pytest.fixture
    def make(self, path: Path, opened: Opened) -> Make:
        clock = self.clock = HeldClock()
        return lambda **options: opened(path, clock=clock, **options)


class TestProcesses(ForkContract, SharedContract):
    @pytest.fixture
    def make(self, path: Path, opened: Opened) -> Make:
        self.path = path
        return lambda **options: opened(path, **options)

    @pytest.fixture
    def elsewhere(self, path: Path) -> Callable[..., str]:
        return lambda **options: f"SqliteIdempotency({str(path)!r}, **{options})"

    def pass_time(self, seconds: float) -> None:
        """Move all that the file holds into the past: the clock of the machine cannot be set."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=20.0, isolation_level=None)) as db:
            moved = "UPDATE claims SET lease_until = lease_until - :by, keep_until = keep_until - :by"
            db.execute(moved, {"by": seconds})


def test_the_machine_s_own_clock_ends_leases_and_entries(path: Path, opened: Opened) -> None:
    store = opened(path, ttl=0.3)
    store.claim("a", "f", 0.3)
    processes.until(lambda: state(store, "a") is LOST, "the lease is up")
    processes.until(lambda: state(store, "a") is NEW, "so is the time to live")


class Machine:
    """The clocks of a machine that can be rebooted, and whose time can be set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.up, self.wall, self.boot = 1000.0, 1_700_000_000.0, "first"
        monkeypatch.setattr(sqlite, "boot_id", lambda: self.boot)

    def monotonic(self) -> float:
        return self.up

    def time(self) -> float:
        return self.wall

    def pass_time(self, seconds: float) -> None:
        self.up += seconds
        self.wall += seconds

    def reboot(self, *, off: float = 30.0) -> None:
        self.wall += off
        self.up, self.boot = 5.0, self.boot + " again"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def run(store: SqliteIdempotency, key: str, body: bytes | None = b"x") -> None:
    claim = store.claim(key, "f", LONG)
    assert claim.state is NEW
    assert store.complete(key, claim.token, body)


def state(store: SqliteIdempotency, key: str) -> Any:
    return store.wait(key, 0.0).state


def rows(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT count(*) FROM claims").fetchone()[0])


def every_call(store: SqliteIdempotency) -> list[Callable[[], Any]]:
    return [
        lambda: store.claim("b", "f", LONG),
        lambda: store.complete("a", "token", b"x"),
        lambda: store.release("a", "token"),
        lambda: store.wait("a", LONG),
    ]


def fails_soon(call: Callable[[], Any], error: type[Exception] = sqlite3.OperationalError) -> None:
    begun = time.monotonic()
    with pytest.raises(error):
        call()
    assert time.monotonic() - begun < BOUND


# -- the file -------------------------------------------------------------------------------------------------------


def test_nothing_is_made_before_the_first_call(path: Path, opened: Opened) -> None:
    store = opened(path)
    store.close()
    assert not path.parent.exists()


def test_the_file_and_its_folder_are_this_users_alone(path: Path, opened: Opened) -> None:
    before = os.umask(0)
    try:
        run(opened(path), "a")
    finally:
        os.umask(before)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in (path.parent, *path.parent.iterdir())}
    assert modes.pop(path.parent.name) == 0o700
    assert path.name in modes
    assert set(modes.values()) == {0o600}


@pytest.mark.usefixtures("real_waits")
def test_a_file_that_another_process_holds_fails_every_call_soon_and_works_again(path: Path, opened: Opened) -> None:
    store = opened(path)
    run(store, "a")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        # To read goes on while somebody writes.
        for call in every_call(store)[:-1]:
            fails_soon(call)
        assert state(store, "a") is DONE
        db.execute("COMMIT")
    assert store.claim("b", "f", LONG).state is NEW, "the claim that failed was not made"


@pytest.mark.slow
@pytest.mark.usefixtures("real_waits")
def test_a_new_file_that_another_process_holds_is_made_ready_when_it_lets_go(path: Path, opened: Opened) -> None:
    store = opened(path)
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        for _ in range(2):
            fails_soon(lambda: store.claim("a", "f", LONG))
        db.execute("COMMIT")
    run(store, "a")


@pytest.mark.slow
@pytest.mark.usefixtures("real_waits")
def test_threads_that_wait_for_a_held_file_all_fail_soon(
    path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(path)
    run(store, "a")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        begun = time.monotonic()
        outcomes = in_threads(16, lambda number: store.claim(f"key-{number}", "f", LONG))
        assert time.monotonic() - begun < BOUND
        db.execute("COMMIT")
    assert all("OperationalError" in str(outcome) for outcome in outcomes)
    monkeypatch.setattr(_sqlite, "_BUSY_TIMEOUT", 20.0)
    assert in_threads(16, lambda number: store.claim(f"key-{number}", "f", LONG).state) == [NEW] * 16


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to be seen as one " * 40, b"SQLite format 3\0"]
)
def test_a_file_that_is_no_database_fails_every_call_and_is_left_alone(
    path: Path, opened: Opened, content: bytes
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    store = opened(path)
    for call in every_call(store):
        fails_soon(call, sqlite3.DatabaseError)
    assert path.read_bytes() == content


def test_a_damaged_file_fails_and_is_not_made_anew(path: Path, opened: Opened) -> None:
    store = opened(path)
    for number in range(200):
        run(store, f"key-{number}", b"x" * 500)
    store.close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + os.urandom(len(content) - 4096))
    fails_soon(lambda: [store.claim(f"key-{number}", "f", LONG) for number in range(200)], sqlite3.DatabaseError)
    assert path.stat().st_size >= len(content)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path, opened: Opened) -> None:
    (tmp_path / "file").write_text("x")
    fails_soon(lambda: opened(tmp_path / "file" / "claims.sqlite3").claim("a", "f", LONG), OSError)


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_all_meet_in_the_new_file_when_the_old_one_was_taken_away(path: Path, opened: Opened, replaced: bool) -> None:
    store, other = opened(path), opened(path)
    run(store, "a")
    assert state(other, "a") is DONE
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    if replaced:
        newcomer = opened(path)
        run(newcomer, "b")
    claims = [each.claim("a", "f", LONG) for each in (store, other)]
    assert [claim.state for claim in claims] == [NEW, RUNNING]
    if replaced:
        assert [state(each, "b") for each in (store, other)] == [DONE] * 2


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_a_file_that_was_taken_away_is_another_store(path: Path, opened: Opened, replaced: bool) -> None:
    store, other = opened(path), opened(path)
    before = store.identity()
    if replaced:
        new = path.with_name("new.sqlite3")
        opened(new).identity()
        new.replace(path)
    else:
        path.unlink()
    assert store.identity() != before
    assert store.identity() == other.identity()


def test_a_copy_is_another_store(path: Path, opened: Opened, tmp_path: Path) -> None:
    before = opened(path).identity()
    shutil.copytree(path.parent, tmp_path / "copy")
    assert opened(tmp_path / "copy" / path.name).identity() != before


def test_a_file_under_two_names_is_one_store_only_if_its_log_is_the_same(
    path: Path, opened: Opened, tmp_path: Path
) -> None:
    """Two logs are two memories: of a hard link, or of a file that is mounted without its folder."""
    before = opened(path).identity()
    (tmp_path / "link").symlink_to(path.parent)
    os.link(path, tmp_path / "hard.sqlite3")
    assert opened(tmp_path / "link" / path.name).identity() == before
    hard = str(tmp_path / "hard.sqlite3")
    with Elsewhere(f"SqliteIdempotency({hard!r})") as process:
        assert process.call("identity") != before


def test_a_file_that_has_got_the_numbers_of_a_deleted_one_is_another_store(
    path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catga_sync._sqlite.database_identity", lambda _: ((1, 1), (1, 2), (1, 3)))
    assert opened(path).identity() != opened(path.with_name("new.sqlite3")).identity()


def test_the_file_of_another_machine_is_another_store(path: Path, opened: Opened, machine: Machine) -> None:
    """A network share has it under the same numbers, and SQLite's locks do not reach over it."""
    before = opened(path, clock=machine).identity()
    machine.boot = "that of the other machine"
    assert opened(path, clock=machine).identity() != before


def test_a_file_of_before_there_were_identities_gets_one(path: Path, opened: Opened) -> None:
    store = opened(path)
    run(store, "a", b"kept")
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE store")
    store, other = opened(path), opened(path)
    assert store.identity() == other.identity()
    assert store.claim("a", "f", LONG).body == b"kept"


def test_an_error_in_between_does_not_stay(path: Path, opened: Opened) -> None:
    store = opened(path)
    run(store, "a")
    with pytest.raises(UnicodeEncodeError):
        store.claim("\ud800", "f", LONG)
    assert state(store, "a") is DONE
    run(store, "b")


def test_what_has_expired_is_removed_bit_by_bit(path: Path, opened: Opened) -> None:
    clock = HeldClock()
    store = opened(path, ttl=10.0, clock=clock)
    for number in range(300):
        run(store, f"key-{number}")
    assert rows(path) == 300
    clock.seconds += 10.0
    run(store, "new-0")
    assert rows(path) > 250, "no single claim pays for all"
    for number in range(1, 200):
        run(store, f"new-{number}")
    assert rows(path) <= 216


@pytest.mark.slow
def test_the_file_does_not_grow_when_as_much_expires_as_comes(path: Path, opened: Opened) -> None:
    clock = HeldClock()
    store = opened(path, ttl=100.0, clock=clock)
    sizes = []
    for number in range(3000):
        clock.seconds += 1.0
        run(store, f"key-{number}", b"x" * 2000)
        if number % 500 == 499:
            sizes.append(path.stat().st_size)
    assert rows(path) < 130
    assert sizes[-1] <= 1.2 * sizes[1]


# -- clocks and boots -----------------------------------------------------------------------------------------------


def test_who_held_a_claim_before_a_reboot_is_dead_and_what_was_answered_is_known(
    path: Path, opened: Opened, machine: Machine
) -> None:
    store = opened(path, clock=machine)
    store.claim("running", "f", LONG)
    run(store, "done", b"before")
    machine.reboot()
    store.close()
    assert store.claim("running", "f", LONG) == Claim(LOST)
    assert store.claim("running", "g", LONG).state.name == "MISMATCH"
    assert store.claim("done", "f", LONG) == Claim(DONE, body=b"before")
    run(store, "after")
    assert state(opened(path, clock=machine), "after") is DONE


def test_what_was_written_before_a_reboot_expires_when_it_should(path: Path, opened: Opened, machine: Machine) -> None:
    store = opened(path, ttl=100.0, clock=machine)
    run(store, "done")
    store.claim("running", "f", 10.0)
    for _ in range(3):
        machine.reboot(off=25.0)
        store.close()
        assert state(store, "done") is DONE
        assert state(store, "running") is LOST
        with contextlib.closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT boot FROM boots").fetchall() == [(machine.boot,)]
    machine.pass_time(24.0)
    assert state(store, "done") is DONE
    machine.pass_time(1.0)
    assert state(store, "done") is NEW


@pytest.mark.parametrize("shift", [-86400.0 * 365, -3600.0, 3600.0, 86400.0 * 365])
def test_setting_the_clock_of_the_machine_changes_nothing(
    path: Path, opened: Opened, machine: Machine, shift: float
) -> None:
    store = opened(path, ttl=100.0, clock=machine)
    run(store, "done")
    store.claim("running", "f", 50.0)
    machine.wall += shift
    later = opened(path, ttl=100.0, clock=machine)
    for each in (store, later):
        assert [state(each, key) for key in ("done", "running")] == [DONE, RUNNING]
    machine.pass_time(50.0)
    for each in (store, later):
        assert [state(each, key) for key in ("done", "running")] == [DONE, LOST]
    machine.pass_time(50.0)
    for each in (store, later):
        assert [state(each, key) for key in ("done", "running")] == [NEW, LOST]


def test_a_clock_that_is_behind_after_a_reboot_keeps_longer_and_never_shorter(
    path: Path, opened: Opened, machine: Machine
) -> None:
    store = opened(path, ttl=100.0, clock=machine)
    run(store, "done")
    store.claim("running", "f", 50.0)
    machine.reboot(off=-86400.0 * 365)
    store.close()
    machine.pass_time(200.0)
    assert [state(store, key) for key in ("done", "running")] == [DONE, LOST]


def test_where_boots_cannot_be_told_apart_the_wall_clock_counts(path: Path, opened: Opened, machine: Machine) -> None:
    machine.boot = ""  # as elsewhere than on Linux
    store = opened(path, ttl=100.0, clock=machine)
    run(store, "done")
    store.claim("running", "f", 50.0)
    machine.up = 5.0
    store.close()
    assert [state(store, key) for key in ("done", "running")] == [DONE, RUNNING]
    machine.pass_time(50.0)
    assert [state(store, key) for key in ("done", "running")] == [DONE, LOST]
    machine.pass_time(50.0)
    assert [state(store, key) for key in ("done", "running")] == [NEW, LOST]


def test_this_machine_can_tell_its_boots_apart() -> None:
    assert (sqlite.boot_id() != "") == Path("/proc/sys/kernel/random/boot_id").exists()


# -- processes ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_many_processes_that_make_the_file_at_once_all_get_in(path: Path) -> None:
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(Elsewhere(f"SqliteIdempotency({str(path)!r})")) for _ in range(6)]
        for process in others:
            process.begin("claims", ["a", "b"])
        outcomes = [process.result() for process in others]
    for claims in zip(*outcomes, strict=True):
        assert sorted(claim.state.name for claim in claims) == ["NEW"] + ["RUNNING"] * 5


def test_many_threads_that_make_the_file_at_once_all_get_in(path: Path, opened: Opened) -> None:
    stores = [opened(path) for _ in range(12)]
    states = in_threads(12, lambda number: stores[number].claim("a", "f", LONG).state.name)
    assert sorted(states) == ["NEW"] + ["RUNNING"] * 11


@pytest.mark.slow
@pytest.mark.thorough
def test_no_process_that_is_killed_while_it_writes_spoils_the_file(path: Path, opened: Opened) -> None:
    store = opened(path)
    answered: set[str] = set()
    script = (
        "import sys\n"
        "from catga_sync.idempotency import SqliteIdempotency\n"
        "store = SqliteIdempotency(sys.argv[1])\n"
        "number = 0\n"
        "while True:\n"
        "    number += 1\n"
        "    key = f'{sys.argv[2]}-{number}'\n"
        "    claim = store.claim(key, 'f', 60.0)\n"
        "    store.complete(key, claim.token, b'x' * 3000)\n"
        "    print(key, flush=True)\n"
    )
    for attempt in range(8) if os.environ.get("CATGA_TESTS_THOROUGH") else (0, 3, 7):
        writer = subprocess.Popen([sys.executable, "-c", script, path, str(attempt)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        with writer.stdout as lines:
            answered.update(lines.readline().strip() for _ in range(5 + 23 * attempt))
            writer.kill()
            # What is still in the pipe was written before it died, but perhaps not to the end of the line.
            answered.update(line.strip() for line in lines.read().split("\n")[:-1])
            writer.wait()
        assert state(store, f"{attempt}-1") is DONE
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert {key for key in answered if state(store, key) is not DONE} == set()


def test_no_connection_is_there_at_a_fork(path: Path, opened: Opened) -> None:
    script = (
        "import os, sys, threading\n"
        "from catga_sync.idempotency import SqliteIdempotency\n"
        "store = SqliteIdempotency(sys.argv[1])\n"
        "def opened():\n"
        "    fds = os.listdir('/proc/self/fd')\n"
        "    links = [os.readlink(f'/proc/self/fd/{fd}') for fd in fds if os.path.exists(f'/proc/self/fd/{fd}')]\n"
        "    return sum('claims' in link for link in links)\n"
        "thread = threading.Thread(target=lambda: store.claim('thread', 'f', 60.0))\n"
        "thread.start(); thread.join()\n"
        "token = store.claim('a', 'f', 60.0).token\n"
        "assert opened() > 0\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    os._exit(opened() + (store.claim('a', 'f', 60.0).state.name != 'RUNNING'))\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0\n"
        "assert store.complete('a', token, b'x')\n"
    )
    processes_have_files = Path("/proc/self/fd").exists()
    if not processes_have_files:
        script = script.replace("return sum", "return 0 * sum").replace("assert opened() > 0", "")
    subprocess.run([sys.executable, "-c", script, path], check=True, timeout=LONG)
    assert state(opened(path), "a") is DONE


def test_a_store_that_nobody_has_any_more_is_not_kept_for_the_next_fork(path: Path) -> None:
    store = SqliteIdempotency(path)
    run(store, "a")
    store.close()
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None
