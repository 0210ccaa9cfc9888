"""Lock files that vanish under a node that serves are made anew, and nothing is concluded from their absence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from catga_sync.cluster.worker_group import WorkerGroup, any_process_of
from catga_sync.testing.clock import FakeClock

pytest.importorskip("fcntl", reason="locks of POSIX")

#: Seconds after which every process has locked a file that was made anew.
TIME_TO_LOCK = 10.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "private"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def joined(folder: Path, number: int, clock: FakeClock | None = None) -> list[WorkerGroup]:
    made = [WorkerGroup(folder, "node", clock=clock) for _ in range(number)]
    for group in made:
        group.join()
    return made


def remove(folder: Path, *kinds: str) -> None:
    for path in folder.iterdir():
        if not kinds or path.suffix[1:] in kinds:
            path.unlink()


def replace(folder: Path, *kinds: str) -> None:
    for path in list(folder.iterdir()):
        if not kinds or path.suffix[1:] in kinds:
            path.unlink()
            path.touch(0o600)


def remove_folder(folder: Path, *kinds: str) -> None:
    shutil.rmtree(folder)


Harm = Callable[..., None]
HARMS = pytest.mark.parametrize("harm", [remove, replace, remove_folder])


def leaders(*groups: WorkerGroup) -> int:
    return sum(group.lead() for group in groups)


@HARMS
@pytest.mark.parametrize("kind", ["members", "leader", "busy", "turn", "drain"])
def test_a_file_that_vanishes_or_is_replaced_is_noticed_and_nobody_is_lost(folder: Path, harm: Harm, kind: str) -> None:
    first, second = joined(folder, 2)
    name = first.incarnation
    leaders(first, second)
    harm(folder, kind)
    leaders(first, second)
    assert leaders(first, second) == 1
    assert any_process_of(folder, "node") is True
    (third,) = joined(folder, 1)
    assert {each.incarnation for each in (first, second, third)} == {name}
    assert third.lead() is False
    assert [first.leave(), third.leave(), second.leave()] == [False, False, True]


@HARMS
def test_one_that_comes_before_the_loss_is_noticed_and_those_that_were_there_agree_on_one_run(
    folder: Path, harm: Harm
) -> None:
    first, second = joined(folder, 2)
    leaders(first, second)
    harm(folder)
    (third,) = joined(folder, 1)
    third.lead()
    leaders(first, second, third)
    assert leaders(first, second, third) == 1
    assert first.incarnation == second.incarnation == third.incarnation != ""
    assert [third.leave(), first.leave(), second.leave()] == [False, False, True]


def test_several_losses_in_a_row_end_in_one_run_and_one_leader(folder: Path) -> None:
    everybody = joined(folder, 5)
    for number in range(10):
        remove(folder)
        everybody[number % 5].tend()
        remove(folder, "members", "turn")
        leaders(*everybody)
    assert leaders(*everybody) == 1
    assert len({group.incarnation for group in everybody}) == 1


@HARMS
def test_a_missing_file_is_never_taken_for_idleness(folder: Path, clock: FakeClock, harm: Harm) -> None:
    first, second = joined(folder, 2, clock)
    clock.advance(TIME_TO_LOCK)
    first.say_idle()
    harm(folder, "busy")
    assert first.all_idle() is False
    first.tend()
    assert first.all_idle() is False
    # The other one is in the middle of a call; its next look repairs the file.
    second.tend()
    clock.advance(TIME_TO_LOCK)
    assert first.all_idle() is False
    second.say_idle()
    assert first.all_idle() is True


@HARMS
def test_a_newcomer_does_not_take_those_that_it_cannot_see_yet_for_idle(
    folder: Path, clock: FakeClock, harm: Harm
) -> None:
    (first,) = joined(folder, 1, clock)
    clock.advance(TIME_TO_LOCK)
    harm(folder)
    (second,) = joined(folder, 1, clock)
    second.say_idle()
    assert second.all_idle() is False
    first.tend()
    clock.advance(TIME_TO_LOCK)
    assert second.all_idle() is False


@HARMS
def test_a_drain_of_idle_processes_ends_though_the_files_vanish(folder: Path, clock: FakeClock, harm: Harm) -> None:
    first, second = joined(folder, 2, clock)
    first.say_idle()
    second.say_idle()
    clock.advance(TIME_TO_LOCK)
    assert first.all_idle() is True
    harm(folder)
    first.tend()
    second.tend()
    clock.advance(TIME_TO_LOCK)
    assert first.all_idle() is True


@HARMS
def test_a_drain_is_not_forgotten_with_its_file(folder: Path, harm: Harm) -> None:
    first, second = joined(folder, 2)
    first.wish_drain()
    harm(folder)
    assert first.drain_is_wished() is True
    assert second.drain_is_wished() is True


def test_a_file_of_before_a_boot_is_no_new_one(folder: Path) -> None:
    (first,) = joined(folder, 1, FakeClock(1_000_000.0))
    first.leave()
    (second,) = joined(folder, 1, FakeClock(10.0))
    second.say_idle()
    assert second.all_idle() is True


def test_files_that_are_in_use_do_not_grow_old(folder: Path) -> None:
    (group,) = joined(folder, 1)
    group.lead()
    for path in folder.iterdir():
        os.utime(path, (1.0, 1.0))
    group.tend()
    ages = {path.suffix: path.stat().st_mtime for path in folder.iterdir() if path.suffix != ".turn"}
    assert min(ages.values()) > 1.0, ages


def test_the_last_one_whose_files_have_vanished_takes_the_record_along(folder: Path) -> None:
    (group,) = joined(folder, 1)
    shutil.rmtree(folder)
    assert group.leave() is True


def test_one_whose_files_are_others_now_is_not_the_last(folder: Path) -> None:
    (first,) = joined(folder, 1)
    remove(folder)
    (second,) = joined(folder, 1)
    assert first.leave() is False
    assert second.leave() is True


def test_a_folder_that_became_somebody_else_s_is_told_of_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (group,) = joined(folder, 1)
    shutil.rmtree(folder)
    folder.mkdir()
    folder.chmod(0o777)
    group.tend()
    group.tend()
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "the lock files of this node cannot be kept; its processes may lose each other: CATGA_RUNTIME_DIR: "
    )
    shutil.rmtree(folder)
    group.tend()
    assert any_process_of(folder, "node") is True


def test_without_a_folder_that_can_be_written_to_a_process_is_the_whole_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    group = WorkerGroup(tmp_path / "file" / "folder", "node")
    assert len(group.join()) == 32
    assert group.lead() is True
    assert caplog.records[0].getMessage().startswith("CATGA_RUNTIME_DIR: the lock files cannot be used")
    group.wish_drain()
    assert group.drain_is_wished() is True
    assert group.all_idle() is False
    group.say_idle()
    assert group.all_idle() is True
    assert group.leave() is True
