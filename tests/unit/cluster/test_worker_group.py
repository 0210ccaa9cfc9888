"""The processes of one node: the first names the run, one leads, the last turns off the light."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from catga_sync.cluster import group_files
from catga_sync.cluster.worker_group import WorkerGroup, any_process_of
from catga_sync.testing.clock import FakeClock
from tests.processes import talking, until

fcntl = pytest.importorskip("fcntl", reason="locks of POSIX")

#: A process that does with its group what it is told on stdin, and says what came of it.
SCRIPT = """
import os, signal, sys
from pathlib import Path
from catga_sync.cluster.worker_group import WorkerGroup

group = WorkerGroup(Path(sys.argv[1]), sys.argv[2])
for line in sys.stdin:
    word = line.strip()
    if word.startswith("fork"):
        ready, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            if word == "fork and join":
                group.join()
            os.write(tell, b".")
            signal.pause()
            os._exit(0)
        os.read(ready, 1)
        print(pid, flush=True)
    else:
        print(getattr(group, word)(), flush=True)
"""


class Worker:
    def __init__(self, folder: Path, key: str) -> None:
        self.open = contextlib.ExitStack()
        self.process = self.open.enter_context(talking("-c", SCRIPT, folder, key))

    def __call__(self, word: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        """Let it end as a process does that has nothing left to do."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)


Start = Callable[..., Worker]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "private"


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    started: list[Worker] = []

    def start(key: str = "node") -> Worker:
        started.append(Worker(folder, key))
        return started[-1]

    yield start
    for worker in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.process.pid, signal.SIGKILL)
        worker.open.close()


# -- within one process: each open file is a place of its own ----------------------------------------------------------


def groups(folder: Path, number: int, key: str = "node") -> list[WorkerGroup]:
    return [WorkerGroup(folder, key) for _ in range(number)]


def test_making_a_group_makes_no_file(folder: Path) -> None:
    group = WorkerGroup(folder, "node")
    assert not folder.exists()
    assert (group.joined, group.incarnation) == (False, "")
    assert group.leave() is False
    assert group.lead() is False
    assert any_process_of(folder, "node") is None


def test_the_first_names_the_run_and_the_others_take_that_name(folder: Path) -> None:
    first, second, third = groups(folder, 3)
    name = first.join()
    assert len(name) == 32
    int(name, 16)
    assert [second.join(), third.join()] == [name, name]
    assert second.joined
    assert first.join() == name


def test_a_process_that_has_not_joined_knows_the_run_of_those_that_have(folder: Path) -> None:
    first, newcomer = groups(folder, 2)
    assert (first.present, newcomer.present) == ("", "")
    run = first.join()
    assert (first.present, newcomer.present, newcomer.joined) == (run, run, False)
    first.leave()
    assert (first.present, newcomer.present) == ("", "")
    assert newcomer.join() == newcomer.present != run


def test_a_node_of_another_folder_or_port_knows_nothing_of_the_run(folder: Path, tmp_path: Path) -> None:
    groups(folder, 1)[0].join()
    assert WorkerGroup(tmp_path / "empty", "node").present == ""
    assert WorkerGroup(folder, "another").present == ""


def test_the_last_one_out_is_the_last_one_out(folder: Path) -> None:
    first, second, third = groups(folder, 3)
    for group in (first, second, third):
        group.join()
    assert [second.leave(), first.leave(), third.leave()] == [False, False, True]
    assert third.leave() is False
    assert (third.joined, third.incarnation) == (False, "")


def test_a_new_run_has_a_new_name(folder: Path) -> None:
    (group,) = groups(folder, 1)
    name = group.join()
    group.leave()
    assert group.join() != name


def test_a_node_of_another_key_is_another_node(folder: Path) -> None:
    (here,), (there,) = groups(folder, 1, "a"), groups(folder, 1, "b")
    assert here.join() != there.join()
    assert here.leave()
    assert there.leave()


def test_one_leads_and_another_takes_over_when_it_leaves(folder: Path) -> None:
    first, second = groups(folder, 2)
    first.join()
    second.join()
    assert [second.lead(), first.lead(), second.lead()] == [True, False, True]
    second.leave()
    assert first.lead() is True


def test_nobody_leads_who_has_not_joined(folder: Path) -> None:
    first, second = groups(folder, 2)
    assert first.lead() is False
    first.join()
    first.lead()
    first.leave()
    assert first.lead() is False
    second.join()
    assert second.lead() is True


def test_whether_anybody_is_there_can_be_asked(folder: Path) -> None:
    first, second = groups(folder, 2)
    assert any_process_of(folder, "node") is None
    first.join()
    second.join()
    assert any_process_of(folder, "node") is True
    first.leave()
    assert any_process_of(folder, "node") is True
    second.leave()
    assert any_process_of(folder, "node") is False


def test_asking_disturbs_nobody(folder: Path) -> None:
    first, second = groups(folder, 2)
    name = first.join()
    for _ in range(50):
        any_process_of(folder, "node")
    assert second.join() == name


def test_a_group_can_be_left_and_joined_again_while_others_stay(folder: Path) -> None:
    first, second = groups(folder, 2)
    name = first.join()
    for _ in range(3):
        assert second.join() == name
        assert second.leave() is False


def test_the_files_are_for_this_user_only(folder: Path) -> None:
    (group,) = groups(folder, 1)
    group.join()
    group.lead()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_name_that_is_no_name_stays_inside_the_folder(folder: Path) -> None:
    (group,) = groups(folder, 1, "../../etc/passwd\n\x00")
    group.join()
    assert all(path.parent == folder for path in folder.iterdir())


def between(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> threading.Thread:
    """Have something begin in the moment in which the kernel turns one lock into another, which is not atomic."""
    other = threading.Thread(target=happens)
    pending = [other.start]

    def flock(fd: int, operation: int) -> None:
        if operation == fcntl.LOCK_SH and pending:
            fcntl.flock(fd, fcntl.LOCK_UN)
            pending.pop()()
        fcntl.flock(fd, operation)

    stand_in = types.SimpleNamespace(
        flock=flock, LOCK_SH=fcntl.LOCK_SH, LOCK_EX=fcntl.LOCK_EX, LOCK_NB=fcntl.LOCK_NB, LOCK_UN=fcntl.LOCK_UN
    )
    monkeypatch.setattr(group_files, "fcntl", stand_in)
    return other


def test_two_that_join_at_once_agree_on_the_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = groups(folder, 2)
    other = between(monkeypatch, second.join)
    first.join()
    other.join(10)
    assert first.incarnation == second.incarnation != ""


def test_one_that_joins_as_the_last_one_leaves_either_keeps_it_or_starts_a_new_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = groups(folder, 2)
    name = first.join()
    last: list[bool] = []
    other = between(monkeypatch, lambda: last.append(first.leave()))
    second.join()
    other.join(10)
    assert (last, second.incarnation != name) in (([True], True), ([False], False))


# -- draining ----------------------------------------------------------------------------------------------------------


def test_a_drain_is_wished_for_all_processes_of_the_run(folder: Path) -> None:
    first, second = groups(folder, 2)
    first.join()
    second.join()
    assert [first.drain_is_wished(), second.drain_is_wished()] == [False, False]
    second.wish_drain()
    assert [first.drain_is_wished(), second.drain_is_wished()] == [True, True]


def test_a_drain_ends_with_its_run(folder: Path) -> None:
    first, second = groups(folder, 2)
    first.join()
    first.wish_drain()
    first.leave()
    second.join()
    assert second.drain_is_wished() is False


def test_a_drain_ends_with_its_run_for_the_process_that_wished_it_too(folder: Path) -> None:
    (group,) = groups(folder, 1)
    group.join()
    group.wish_drain()
    group.leave()
    group.join()
    assert group.drain_is_wished() is False


def test_a_run_is_idle_when_each_of_its_processes_has_said_so_or_gone(folder: Path) -> None:
    clock = FakeClock()
    first, second, third = (WorkerGroup(folder, "node", clock=clock) for _ in range(3))
    for group in (first, second, third):
        group.join()
    assert not first.all_idle()
    first.say_idle()
    first.say_idle()
    second.leave()
    assert not first.all_idle()
    third.say_idle()
    clock.advance(10)
    assert first.all_idle()
    assert any_process_of(folder, "node") is True


# -- real processes ----------------------------------------------------------------------------------------------------


def test_processes_agree_on_the_name_the_leader_and_the_last(folder: Path, start: Start) -> None:
    first, second = start(), start()
    name = first("join")
    assert second("join") == name
    assert [first("lead"), second("lead")] == ["True", "False"]
    assert [first("leave"), second("lead"), second("leave")] == ["False", "True", "True"]
    assert any_process_of(folder, "node") is False


def test_a_process_that_is_killed_leaves_like_any_other(folder: Path, start: Start) -> None:
    first, second = start(), start()
    name = first("join")
    second("join")
    first("lead")
    first.kill()
    assert second("lead") == "True"
    assert any_process_of(folder, "node") is True
    second.kill()
    assert any_process_of(folder, "node") is False
    assert start()("join") != name


@pytest.mark.slow
def test_a_killed_process_is_not_waited_for_in_a_drain(folder: Path, start: Start) -> None:
    first, second = start(), start()
    first("join")
    second("join")
    first("say_idle")
    assert first("all_idle") == "False"
    second.kill()
    until(lambda: first("all_idle") == "True", "nobody is busy")


def test_a_process_that_ends_without_a_word_leaves_too(folder: Path, start: Start) -> None:
    worker = start()
    worker("join")
    worker.end()
    assert any_process_of(folder, "node") is False


def test_a_forked_child_is_not_counted_until_it_joins(folder: Path, start: Start) -> None:
    parent = start()
    parent("join")
    parent("lead")
    parent("fork")
    (other,) = groups(folder, 1)
    other.join()
    assert parent("leave") == "False"
    assert other.lead() is True
    assert other.leave() is True


def test_a_forked_child_that_joins_is_one_of_the_run(folder: Path, start: Start) -> None:
    parent = start()
    name = parent("join")
    child = int(parent("fork and join"))
    parent.kill()
    assert any_process_of(folder, "node") is True
    (other,) = groups(folder, 1)
    assert other.join() == name
    os.kill(child, signal.SIGKILL)
    until(lambda: other.join() and other.leave(), "the child's lock is gone with it")


def test_a_child_that_forgets_leaves_the_parent_s_locks_alone(folder: Path, start: Start) -> None:
    parent = start()
    parent("join")
    parent("lead")
    child = int(parent("fork"))
    os.kill(child, signal.SIGKILL)
    (other,) = groups(folder, 1)
    other.join()
    assert other.lead() is False
    assert other.leave() is False
    assert any_process_of(folder, "node") is True


def test_a_process_that_is_joining_names_no_run_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    first, other = WorkerGroup(folder, "n"), WorkerGroup(folder, "n")
    run = first.join()
    (turn,) = folder.glob("*.turn")
    with turn.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        joining = threading.Thread(target=other.join)
        joining.start()
        until(lambda: other._files is not None, "it waits for its turn")
        assert (other.joined, other.incarnation, other.present) == (False, "", run)
    joining.join(20)
    assert (other.incarnation, other.present) == (run, run)
    assert [other.leave(), first.leave()] == [False, True]
