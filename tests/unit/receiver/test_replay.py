"""A nonce is good for one time, whoever asks, and whatever happens to those who remember it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import stat
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from catga_sync import _sqlite
from catga_sync.errors import CatgaError, ConfigurationError
from catga_sync.receiver.replay import NonceStore, NonceStoreError, SqliteNonces, _file_of_this_boot
from tests.processes import talking
from tests.zygote import Forked

LIFETIME = 130.0

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")


class FakeClock:
    """A clock that goes on when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_700_000_000.0 + self.now


class NonceStoreContract:
    """What every store does."""

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def store(self, clock: FakeClock, tmp_path: Path) -> Iterator[NonceStore]:
        made = self.make(clock, tmp_path)
        yield made
        made.close()

    def make(self, clock: FakeClock, folder: Path, room: int | None = None) -> NonceStore:
        raise NotImplementedError

    def test_a_nonce_is_good_for_one_time(self, store):
        assert store.add("a", LIFETIME)
        assert not store.add("a", LIFETIME)
        assert store.add("b", LIFETIME)
        assert not store.add("a", LIFETIME)

    def test_a_nonce_is_remembered_for_as_long_as_it_was_said(self, store, clock):
        assert store.add("a", LIFETIME)
        clock.now += LIFETIME - 0.001
        assert not store.add("a", LIFETIME)
        clock.now += 0.002
        assert store.add("a", LIFETIME)
        clock.now += LIFETIME - 0.001
        assert not store.add("a", LIFETIME)

    def test_a_second_look_does_not_make_it_last_longer(self, store, clock):
        assert store.add("a", LIFETIME)
        clock.now += LIFETIME / 2
        assert not store.add("a", LIFETIME)
        clock.now += LIFETIME / 2 + 0.001
        assert store.add("a", LIFETIME)

    def test_those_that_last_longer_are_not_forgotten_with_the_others(self, store, clock):
        assert store.add("long", 10 * LIFETIME)
        for round_ in range(3):
            for number in range(1000):
                assert store.add(f"{round_}-{number}", LIFETIME)
            clock.now += LIFETIME + 1
        assert not store.add("long", LIFETIME)

    def test_what_has_expired_is_cleaned_away(self, store, clock):
        for round_ in range(20):
            for number in range(500):
                assert store.add(f"{round_}-{number}", LIFETIME)
            clock.now += LIFETIME + 1
        assert self.size(store) < 1500

    def test_a_full_store_refuses_rather_than_forgets_and_recovers(self, clock, tmp_path):
        store = self.make(clock, tmp_path, room=700)
        added: list[str] = []
        with contextlib.closing(store):
            with contextlib.suppress(NonceStoreError):
                for number in range(10_000):
                    assert store.add(f"{number:0100}", LIFETIME)
                    added.append(f"{number:0100}")
            assert 300 < len(added) < 1000
            refused = f"{len(added):0100}"
            for _ in range(3):
                with pytest.raises(NonceStoreError):
                    store.add(refused, LIFETIME)
            assert not any(store.add(nonce, LIFETIME) for nonce in added)
            clock.now += LIFETIME + 1
            assert store.add(refused, LIFETIME)
            assert not store.add(refused, LIFETIME)

    def test_closing_forgets_nothing(self, store):
        assert store.add("a", LIFETIME)
        store.close()
        store.close()
        assert not store.add("a", LIFETIME)

    def test_of_any_number_of_threads_one_wins(self, store):
        wins: Counter[str] = Counter()
        barrier = threading.Barrier(8)

        def race() -> None:
            barrier.wait()
            for number in range(200):
                if store.add(str(number), LIFETIME):
                    wins[str(number)] += 1

        threads = [threading.Thread(target=race) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wins == Counter({str(number): 1 for number in range(200)})

    @pytest.mark.parametrize("expires_in", [0, -1, float("nan"), float("inf"), 86_401])
    def test_a_time_to_remember_is_positive_and_bounded(self, store, expires_in):
        with pytest.raises(ValueError, match=r"^expires_in: "):
            store.add("a", expires_in)
        assert store.add("a", LIFETIME)

    @pytest.mark.parametrize("nonce", ["", "x" * 129, None, b"a", 7])
    def test_a_nonce_is_a_text_of_some_length(self, store, nonce):
        with pytest.raises(ValueError, match=r"^nonce: "):
            store.add(nonce, LIFETIME)

    def size(self, store: NonceStore) -> int:
        raise NotImplementedError


@pytest.fixture
def patience(monkeypatch):
    """A busy machine is no file that somebody holds."""
    monkeypatch.setattr(_sqlite, "_BUSY_TIMEOUT", 20.0)


@pytest.mark.usefixtures("patience")
class TestSqlite(NonceStoreContract):
    def make(self, clock, folder, room=None):
        path = folder / "nonces.sqlite3"
        return (
            SqliteNonces(path, clock=clock) if room is None else SqliteNonces(path, max_bytes=room * 250, clock=clock)
        )

    def size(self, store):
        return count(store)

    def test_nothing_is_made_before_it_is_needed(self, store, tmp_path):
        assert list(tmp_path.iterdir()) == []
        store.close()
        assert list(tmp_path.iterdir()) == []

    def test_workers_share_it(self, store, clock, tmp_path):
        with contextlib.closing(self.make(clock, tmp_path)) as other:
            assert store.add("a", LIFETIME)
            assert not other.add("a", LIFETIME)
            assert other.add("b", LIFETIME)
            assert not store.add("b", LIFETIME)

    def test_a_restart_forgets_nothing(self, clock, tmp_path):
        with contextlib.closing(self.make(clock, tmp_path)) as before:
            assert before.add("a", LIFETIME)
        with contextlib.closing(self.make(clock, tmp_path)) as after:
            assert not after.add("a", LIFETIME)

    def test_only_this_user_can_read_it(self, tmp_path):
        former = os.umask(0)
        try:
            with contextlib.closing(SqliteNonces(tmp_path / "new" / "nonces.sqlite3")) as store:
                store.add("a", LIFETIME)
                files = list((tmp_path / "new").iterdir())
                assert len(files) == 3
                assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}
                assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
        finally:
            os.umask(former)

    def test_a_file_that_others_can_read_is_refused(self, store):
        store.add("a", LIFETIME)
        store.close()
        file_of(store).chmod(0o640)
        with pytest.raises(NonceStoreError, match="remove it"):
            store.add("b", LIFETIME)
        file_of(store).chmod(0o600)
        assert store.add("b", LIFETIME)
        assert not store.add("a", LIFETIME)

    def test_a_link_is_refused(self, store, tmp_path):
        store.add("a", LIFETIME)
        store.close()
        file_of(store).rename(tmp_path / "elsewhere")
        file_of(store).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(NonceStoreError, match="remove it"):
            store.add("b", LIFETIME)

    def test_a_folder_that_others_can_write_to_is_refused(self, tmp_path):
        folder = tmp_path / "shared"
        folder.mkdir()
        folder.chmod(0o777)
        with contextlib.closing(SqliteNonces(folder / "nonces.sqlite3")) as store:
            with pytest.raises(NonceStoreError, match="is not private: other users can write"):
                store.add("a", LIFETIME)
            folder.chmod(0o700)
            assert store.add("a", LIFETIME)

    def test_a_path_that_cannot_be_is_refused(self, tmp_path):
        (tmp_path / "file").touch()
        with contextlib.closing(SqliteNonces(tmp_path / "file" / "nonces.sqlite3")) as store:
            for _ in range(2):
                with pytest.raises(NonceStoreError, match=r"^nonces: .* cannot be used"):
                    store.add("a", LIFETIME)

    def test_a_damaged_file_refuses_and_does_not_forget(self, store):
        store.add("a", LIFETIME)
        store.close()
        file_of(store).write_bytes(b"no database at all" * 1000)
        for _ in range(2):
            with pytest.raises(NonceStoreError, match=r"^nonces: .* cannot be used"):
                store.add("b", LIFETIME)
        file_of(store).unlink()
        assert store.add("b", LIFETIME)

    def test_who_finds_the_file_removed_meets_the_others_in_the_new_one(self, store, clock, tmp_path):
        assert store.add("a", LIFETIME)
        for each in tmp_path.iterdir():
            each.unlink()
        with contextlib.closing(self.make(clock, tmp_path)) as newcomer:
            for number in range(200):
                assert newcomer.add(f"{number}", LIFETIME)
                assert not store.add(f"{number}", LIFETIME)

    def test_the_file_of_a_former_boot_is_not_used_and_goes(self, clock, tmp_path):
        kept = {"nonces.sqlite3", "nonces-0123456.sqlite3", "other-01234567.sqlite3", "nonces-01234567.sqlite3.bak"}
        gone = {"nonces-01234567.sqlite3", "nonces-01234567.sqlite3-wal", "nonces-01234567.sqlite3-shm"}
        for name in kept | gone:
            (tmp_path / name).write_bytes(b"spoilt")
        with contextlib.closing(self.make(clock, tmp_path)) as store:
            if store.path.exists() and not Path("/proc/sys/kernel/random/boot_id").exists():
                pytest.skip("this system does not tell its boots apart")
            assert store.add("a", LIFETIME)
            left = {each.name for each in tmp_path.iterdir()}
        assert left & (kept | gone) == kept

    def test_only_who_makes_the_file_looks_for_those_of_former_boots(self, clock, tmp_path):
        # The folder has files of every node of this user, and a look through it takes long in the turn of all threads.
        former = tmp_path / "nonces-01234567.sqlite3"
        for round_ in range(3):
            former.write_bytes(b"spoilt")
            with contextlib.closing(self.make(clock, tmp_path)) as store:
                if store.path == file_of(store):
                    pytest.skip("this system does not tell its boots apart")
                assert store.add(f"{round_}", LIFETIME)
                store.close()
                assert store.add(f"{round_} again", LIFETIME)
            assert former.exists() is (round_ > 0)

    def test_times_of_a_former_boot_do_not_stay_for_ever(self, store, clock):
        clock.now = 1_000_000.0
        for number in range(1000):
            store.add(f"former-{number}", LIFETIME)
        clock.now = 10.0
        for number in range(1000):
            store.add(f"{number}", LIFETIME)
        assert count(store) <= 1000 + 64

    def test_waiting_for_another_process_is_bounded(self, store, monkeypatch):
        store.add("a", LIFETIME)
        monkeypatch.setattr(_sqlite, "_BUSY_TIMEOUT", 0.5)
        with contextlib.closing(sqlite3.connect(file_of(store), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            started = time.monotonic()
            with pytest.raises(NonceStoreError, match="locked"):
                store.add("b", LIFETIME)
            assert time.monotonic() - started > 0.3
            other.execute("ROLLBACK")
        assert store.add("b", LIFETIME)
        assert not store.add("a", LIFETIME)

    def test_waiting_for_another_thread_is_bounded(self, store, monkeypatch):
        monkeypatch.setattr(_sqlite, "_BUSY_TIMEOUT", 0.5)
        with store._file._turn:
            started = time.monotonic()
            with pytest.raises(NonceStoreError, match="by other threads"):
                store.add("a", LIFETIME)
            assert time.monotonic() - started > 0.3
        assert store.add("a", LIFETIME)

    @pytest.mark.parametrize("max_bytes", [0, 1000, 1.5e6, True, None])
    def test_a_bound_leaves_room_for_a_database(self, tmp_path, max_bytes):
        with pytest.raises(ConfigurationError, match=r"^max_bytes: "):
            SqliteNonces(tmp_path / "n", max_bytes=max_bytes)


def file_of(store: SqliteNonces) -> Path:
    return _file_of_this_boot(store.path)


def count(store: SqliteNonces) -> int:
    with contextlib.closing(sqlite3.connect(file_of(store))) as db:
        (found,) = db.execute("SELECT count(*) FROM nonces").fetchone()
        return int(found)


def test_an_error_of_a_store_is_one_of_the_library():
    assert issubclass(NonceStoreError, CatgaError)


# -- real processes ---------------------------------------------------------------------------------------------------

PRELUDE = """
import ctypes, gc, os, sys, threading
from catga_sync import _sqlite
from catga_sync.receiver.replay import NonceStoreError, SqliteNonces
_sqlite._BUSY_TIMEOUT = _sqlite._PATIENCE = 20.0
path = sys.argv[1]
store = SqliteNonces(path)
def hear(): return sys.stdin.readline().strip()
def say(*words): print(*words, flush=True)
"""


def process(script: str, path: Path) -> contextlib.AbstractContextManager[Forked]:
    """Run a script in a process of its own."""
    return talking("-c", PRELUDE + textwrap.dedent(script), path, cwd=path.parent)


def say(popen: Forked, line: str) -> None:
    assert popen.stdin is not None
    popen.stdin.write(line + "\n")
    popen.stdin.flush()


def hear(popen: Forked) -> str:
    assert popen.stdout is not None
    return popen.stdout.readline().strip()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nonces.sqlite3"


@pytest.mark.slow
def test_of_any_number_of_processes_one_wins_also_when_the_file_is_still_to_be_made(path):
    script = """
        say("ready")
        hear()
        won = []
        def race():
            for number in range(300):
                if store.add(str(number), 130.0):
                    won.append(number)
        threads = [threading.Thread(target=race) for _ in range(2)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        say(*won)
        store.close()
    """
    with contextlib.ExitStack() as stack:
        racers = [stack.enter_context(process(script, path)) for _ in range(8)]
        assert [hear(racer) for racer in racers] == ["ready"] * 8
        for racer in racers:
            say(racer, "go")
        wins = Counter(int(number) for racer in racers for number in hear(racer).split())
    assert wins == Counter(dict.fromkeys(range(300), 1))


@pytest.mark.parametrize("round_", [0, *(pytest.param(each, marks=pytest.mark.slow) for each in (1, 2))])
def test_what_a_process_added_before_it_was_killed_stays_added(path, round_):
    script = """
        number = 0
        while True:
            assert store.add(f"n{number}", 130.0)
            say(f"n{number}")
            number += 1
    """
    with process(script, path) as writer, process(script.replace('"n', '"m'), path) as survivor:
        told = [hear(writer) for _ in range(random.randint(1, 2000))]
        writer.send_signal(signal.SIGKILL)
        assert writer.stdout is not None
        told += writer.stdout.read().split()
        assert hear(survivor) == "m0"
        with contextlib.closing(SqliteNonces(path)) as store:
            # The last line may have been cut off.
            assert not any(store.add(nonce, LIFETIME) for nonce in told[:-1])
            assert store.add("new", LIFETIME)
            assert hear(survivor) == "m1"
    with contextlib.closing(SqliteNonces(path)) as store:
        assert not store.add("new", LIFETIME)
        assert not store.add("m1", LIFETIME)


def test_a_child_writes_nothing_to_a_log_that_its_parent_has_removed(path):
    script = """
        assert store.add("before", 130.0)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(writer)
            assert not store.add("before", 130.0)
            assert store.add("child 1", 130.0)
            say("added")
            os.read(reader, 1)
            assert store.add("child 2", 130.0)
            say("added again")
            hear()
            os._exit(0)
        hear()
        assert not store.add("child 1", 130.0)
        store.close()
        os.close(writer)
        os.waitpid(child, 0)
    """
    with process(script, path) as parent:
        assert hear(parent) == "added"
        say(parent, "close")
        assert hear(parent) == "added again"
        # While the child has it open still: it is what the others see that counts.
        with contextlib.closing(SqliteNonces(path)) as store:
            assert [store.add(nonce, LIFETIME) for nonce in ("before", "child 1", "child 2")] == [False] * 3
        say(parent, "end")
        assert parent.wait(20) == 0


@pytest.mark.slow
def test_threads_that_add_during_forks_lose_nothing(path):
    script = """
        stop = threading.Event()
        added = []
        def work(name):
            number = 0
            while not stop.is_set():
                assert store.add(f"{name}-{number}", 130.0)
                added.append(f"{name}-{number}")
                number += 1
                stop.wait(0.0002)
        threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(4)]
        for thread in threads: thread.start()
        for number in range(20):
            child = os.fork()
            if child == 0:
                os._exit(0 if store.add(f"child-{number}", 130.0) and not store.add(f"child-{number}", 130.0) else 1)
            if os.waitpid(child, 0)[1] == 0:
                added.append(f"child-{number}")
        stop.set()
        for thread in threads: thread.join()
        store.close()
        say(*added)
    """
    with process(script, path) as parent:
        added = hear(parent).split()
        assert parent.wait(20) == 0
    assert len([nonce for nonce in added if nonce.startswith("child")]) == 20
    with contextlib.closing(SqliteNonces(path)) as store:
        assert not any(store.add(nonce, LIFETIME) for nonce in added)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at open files in /proc")
@pytest.mark.parametrize("told", ["", "store.close()"])
def test_a_connection_that_was_inherited_all_the_same_is_neither_used_nor_closed(path, told):
    script = """
        def databases():
            found = []
            for fd in os.listdir("/proc/self/fd"):
                try:
                    found.append(os.readlink(f"/proc/self/fd/{fd}"))
                except OSError:
                    pass
            return sorted(each.split("/")[-1] for each in found if "sqlite3" in each)
        assert store.add("before", 130.0)
        child = ctypes.PyDLL(None).fork()  # tells Python nothing
        if child == 0:
            before = databases()
            assert len(before) == 3, before
            TOLD
            for _ in range(2):
                try:
                    store.add("child", 130.0)
                except NonceStoreError as exc:
                    assert "forked" in str(exc)
                else:
                    raise AssertionError
            store.close()
            del store
            gc.collect()
            assert databases() == before
            say("child is done")
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert store.add("after", 130.0)
        say("parent is done")
        hear()
    """
    with process(script.replace("TOLD", told), path) as parent:
        assert hear(parent) == "child is done"
        assert hear(parent) == "parent is done"
        with contextlib.closing(SqliteNonces(path)) as store:
            assert [store.add(nonce, LIFETIME) for nonce in ("before", "after", "child")] == [False, False, True]
        say(parent, "end")
        assert parent.wait(20) == 0
