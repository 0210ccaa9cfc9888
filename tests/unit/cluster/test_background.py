"""The one thread a mediator has: when it runs, when it ends, and what a fork does to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from catga_sync.cluster.background import Background
from tests.processes import run, until

Make = Callable[..., Background]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Background] = []

    def make(step: Callable[[], float], name: str = "catga-test") -> Background:
        made.append(Background(name, step, starts_in_child=lambda: False, goes_on_in_parent=lambda: True))
        return made[-1]

    yield make
    for background in made:
        background.stop()


class Steps:
    """Counts the steps, and asks for a pause that nobody lives to see."""

    def __init__(self, pause: float = 3600.0) -> None:
        self.pause = pause
        self.count = 0
        self.errors: list[Exception] = []
        self.threads: set[threading.Thread] = set()

    def __call__(self) -> float:
        self.count += 1
        self.threads.add(threading.current_thread())
        if self.errors:
            raise self.errors.pop()
        return self.pause

    def reached(self, count: int) -> bool:
        return until(lambda: self.count >= count, f"{count} steps")


def test_nothing_runs_until_it_is_needed(make: Make) -> None:
    steps = Steps()
    background = make(steps)
    before = threading.active_count()
    assert background.is_running() is False
    background.stop(closed=False)
    assert threading.active_count() == before
    assert steps.count == 0


def test_the_thread_is_a_daemon_with_a_name_and_there_is_one_of_it(make: Make) -> None:
    steps = Steps()
    background = make(steps, "catga-cluster-me")
    callers = [threading.Thread(target=background.ensure) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(10)
    assert steps.reached(1)
    (thread,) = steps.threads
    assert (thread.name, thread.daemon) == ("catga-cluster-me", True)
    assert [each.name for each in threading.enumerate()].count("catga-cluster-me") == 1
    assert background.is_running() is True


def test_a_step_comes_after_the_pause_that_the_last_one_asked_for(make: Make) -> None:
    steps = Steps(pause=0.0)
    make(steps).ensure()
    assert steps.reached(5)


def test_a_step_that_fails_is_logged_and_not_the_last(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    steps = Steps()
    steps.errors.append(ValueError("oops"))
    background = make(steps)
    background.ensure()
    assert steps.reached(1)
    background._wake.set()
    assert steps.reached(2)
    assert "oops" in caplog.text
    assert background.is_running()


def test_stopped_it_is_gone_and_does_not_come_back(make: Make) -> None:
    steps = Steps()
    background = make(steps)
    background.ensure()
    assert steps.reached(1)
    (thread,) = steps.threads
    background.stop()
    assert not thread.is_alive()
    background.stop()
    background.ensure()
    assert background.is_running() is False
    assert steps.count == 1


def test_reopened_it_comes_back_when_it_is_needed(make: Make) -> None:
    steps = Steps()
    background = make(steps)
    background.stop()
    background.reopen()
    assert background.is_running() is False
    background.ensure()
    assert steps.reached(1)


def test_a_pause_is_no_end(make: Make) -> None:
    steps = Steps()
    background = make(steps)
    background.ensure()
    assert steps.reached(1)
    background.stop(closed=False)
    background.ensure()
    assert steps.reached(2)
    assert len(steps.threads) == 2


def test_a_step_may_stop_its_own_thread(make: Make) -> None:
    stopped = threading.Event()

    def step() -> float:
        background.stop()
        stopped.set()
        return 0.0

    background = make(step)
    background.ensure()
    assert stopped.wait(10)
    until(lambda: not any(each.name == "catga-test" for each in threading.enumerate()), "the thread has ended")


# -- forks, in a process of their own: this one has threads that are none of our business ------------------------------

SCRIPT = """
import json, os, sys, threading
from catga_sync.cluster.background import Background

options = json.loads(sys.argv[1])
counts = {"steps": 0, "in_child": 0, "in_parent": 0}
stepped = threading.Event()

def step():
    counts["steps"] += 1
    stepped.set()
    return 3600.0

def answer(name):
    counts[name] += 1
    return options[name]

background = Background(
    "catga-test", step,
    starts_in_child=lambda: answer("in_child"),
    goes_on_in_parent=lambda: answer("in_parent"),
)
if options["running"]:
    background.ensure()
    assert stepped.wait(10)
if options.get("closed"):
    background.stop()
stepped.clear()
before = dict(counts)
alone = []
os.register_at_fork(before=lambda: alone.append(threading.active_count()))
# Registered last, it runs first; ours has not stopped the thread yet. So look from inside the fork, too.

def state():
    if background.is_running():
        assert stepped.wait(10)
    threads = sum(thread.name == "catga-test" for thread in threading.enumerate())
    said = {name: counts[name] - before[name] for name in counts}
    return {"running": background.is_running(), "threads": threads, **said}

read, write = os.pipe()
pid = os.fork()
if pid == 0:
    code = 1
    try:
        said = state()
        background.stop()
        os.write(write, json.dumps(said).encode())
        code = 0
    finally:
        os._exit(code)
os.close(write)
said = {"parent": state(), "child": json.loads(os.read(read, 10000) or b"null"), "status": os.waitpid(pid, 0)[1]}
background.stop()
print(json.dumps(said))
"""


def fork(**options: Any) -> dict[str, Any]:
    given = {"running": True, "in_child": False, "in_parent": True, **options}
    done = run("-W", "error", "-c", SCRIPT, json.dumps(given))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["status"] == 0
    return said


RUNS = {"running": True, "threads": 1, "steps": 1}
RESTS = {"running": False, "threads": 0, "steps": 0}


def test_the_parent_s_thread_goes_on_and_the_child_has_none() -> None:
    said = fork(in_child=False, in_parent=True)
    assert said["parent"] == {**RUNS, "in_parent": 1, "in_child": 0}
    assert said["child"] == {**RESTS, "in_parent": 0, "in_child": 1}


def test_the_child_gets_a_thread_of_its_own_when_it_is_to_serve() -> None:
    assert fork(in_child=True)["child"] == {**RUNS, "in_parent": 0, "in_child": 1}


def test_the_child_gets_one_even_if_the_parent_had_none() -> None:
    said = fork(running=False, in_child=True)
    assert said["child"] == {**RUNS, "in_parent": 0, "in_child": 1}
    assert said["parent"] == {**RESTS, "in_parent": 0, "in_child": 0}


def test_the_parent_s_thread_stays_away_when_it_is_the_child_s_turn() -> None:
    said = fork(in_child=True, in_parent=False)
    assert said["parent"] == {**RESTS, "in_parent": 1, "in_child": 0}
    assert said["child"]["running"] is True


@pytest.mark.parametrize("running", [True, False])
def test_what_was_closed_stays_closed_on_both_sides(running: bool) -> None:
    said = fork(running=running, closed=True, in_child=True, in_parent=True)
    assert {**said["parent"], **RESTS} == said["parent"]
    assert {**said["child"], **RESTS} == said["child"]
