"""A flood of lines of one kind is cut in the log, and what was left out is told."""

from __future__ import annotations

import logging
import os
import threading

import pytest

from catga_sync._log_limit import LimitedLog
from catga_sync.testing import FakeClock

LOG = logging.getLogger("tests.limited")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def limited(clock: FakeClock) -> LimitedLog:
    return LimitedLog(clock)


def test_of_one_reason_ten_lines_a_second_are_written_and_then_how_many_more_there_were(
    limited: LimitedLog, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1_000):
        limited.log(LOG, logging.WARNING, "refused: status=401", "call %d", number)
    assert caplog.messages == [f"call {number}" for number in range(10)]
    clock.advance(1.0)
    limited.log(LOG, logging.WARNING, "refused: status=401", "call %d", 1_000)
    assert caplog.messages[10:] == ["left out of this log: 990 x refused: status=401", "call 1000"]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert {record.funcName for record in caplog.records if record.msg.startswith("call")} == {
        "test_of_one_reason_ten_lines_a_second_are_written_and_then_how_many_more_there_were"
    }


def test_one_reason_takes_no_line_from_another(limited: LimitedLog, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(50):
        limited.log(LOG, logging.WARNING, "a", "a")
    limited.log(LOG, logging.ERROR, "b", "b")
    assert caplog.messages == ["a"] * 10 + ["b"]


def test_lines_that_are_not_many_are_all_written(
    limited: LimitedLog, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        limited.log(LOG, logging.WARNING, "a", "a")
        clock.advance(0.125)
    assert caplog.messages == ["a"] * 100


def test_what_was_left_out_is_told_once_without_another_line(
    limited: LimitedLog, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(12):
        limited.log(LOG, logging.ERROR, "a", "a")
    limited.tell_left_out()
    assert len(caplog.messages) == 10, "its second is not over"
    clock.advance(1.0)
    limited.tell_left_out()
    limited.tell_left_out()
    assert caplog.messages[10:] == ["left out of this log: 2 x a"]
    assert caplog.records[-1].levelno == logging.ERROR


def test_any_number_of_reasons_is_remembered_for_a_second_only(limited: LimitedLog, clock: FakeClock) -> None:
    for number in range(5_000):
        limited.log(LOG, logging.WARNING, f"reason {number}", "a")
        clock.advance(0.01)
    assert len(limited._windows) <= 1_000


def test_threads_at_once_lose_no_line(limited: LimitedLog, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    def flood() -> None:
        for _ in range(500):
            limited.log(LOG, logging.WARNING, "a", "a")

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clock.advance(1.0)
    limited.tell_left_out()
    assert caplog.messages == ["a"] * 10 + ["left out of this log: 1990 x a"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks of POSIX")
def test_a_forked_child_begins_anew_though_a_thread_of_the_parent_was_writing(limited: LimitedLog) -> None:
    for _ in range(20):
        limited.log(LOG, logging.WARNING, "a", "a")
    with limited._lock:
        pid = os.fork()
        if pid == 0:
            status = 100
            try:
                limited.log(LOG, logging.WARNING, "a", "a")
                status = len(limited._windows) + 10 * limited._windows[LOG, "a"].left_out
            finally:
                os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
