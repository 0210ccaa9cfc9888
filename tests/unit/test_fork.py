"""Forks that Python is not told of: a call notices them, and ends in time whatever the parent's threads held."""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import pytest

from catga_sync import Mediator, _fork, _server_info, _uwsgi, create_cluster
from catga_sync._server_info import ServerInfo, server_info, tell_server_info
from catga_sync.cluster.background import Background
from tests.processes import run, until

pytestmark = pytest.mark.skipif(not hasattr(ctypes.PyDLL(None), "fork"), reason="forks of POSIX")

#: A process that forks in C while its thread is where the test wants it, and whose child then makes calls.
SCRIPT = """
import ctypes, faulthandler, json, os, signal, sys, threading, time
from dataclasses import dataclass
from catga_sync import Event, Mediator, Query, create_cluster
from catga_sync.discovery import MemoryDiscovery

faulthandler.dump_traceback_later(90, exit=True)
where = sys.argv[1]

@dataclass(frozen=True)
class Here(Query[str]):
    pass

@dataclass(frozen=True)
class There(Query[str]):
    pass

@dataclass(frozen=True)
class Done(Event):
    pass

class Hanging(MemoryDiscovery):
    inside = threading.Event()

    def nodes(self):
        if where != "not started" and threading.current_thread().name.startswith("catga-cluster"):
            if os.getpid() == parent:
                self.inside.set()
                threading.Event().wait()
        return super().nodes()

parent = os.getpid()
local = Mediator()
store = Hanging()
mediator = create_cluster(local, node_id="me", discovery=store, endpoint="http://127.0.0.1:1", request_timeout=20.0)
mediator.register(Here, lambda request: "here")
mediator.subscribe(Done, lambda event: None)
if where != "not started":
    mediator.start()
    # In a place of ours: elsewhere it might hold a lock of Python's own, which no child could let go.
    assert store.inside.wait(20)
held = [mediator._membership._lock, mediator._lifecycle._background._lock, mediator._ejection._lock,
        mediator._events._lock,
        mediator._local_node._idle, mediator._dispatcher._budget._lock]
if where == "every lock held":
    for lock in held:
        lock.acquire(False)  # the thread has one of them already

# With the interpreter's lock, as uWSGI does; without Python's own hooks.
pid = ctypes.PyDLL(None).fork()
if pid == 0:
    signal.alarm(80)
    said = {}
    def time_of(call):
        started = time.monotonic()
        result = call()
        return [str(result), time.monotonic() - started]
    def calls():
        said["here"] = time_of(lambda: mediator.send(Here(), timeout=20.0).value)
        said["there"] = time_of(lambda: mediator.send(There(), timeout=20.0).delivery.name)
        said["batch"] = time_of(lambda: [each.value for each in mediator.send_batch([Here(), Here()], timeout=20.0)])
        said["publish"] = time_of(lambda: len(mediator.publish(Done())))
        said["nodes"] = time_of(lambda: mediator.nodes())
    callers = [threading.Thread(target=calls, daemon=True) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    said["stuck"] = sum(caller.is_alive() for caller in callers)
    there = {int(number) for number in os.listdir("/proc/self/task")}
    said["threads"] = [each.name for each in threading.enumerate()
                       if each.name == "catga-cluster-me" and each.native_id in there]
    print(json.dumps(said), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
os._exit(0)
"""


@pytest.mark.parametrize("where", ["not started", "inside the store", "every lock held"])
def test_calls_in_a_child_that_was_forked_in_c_end_in_time_and_its_thread_is_there(where: str) -> None:
    done = run("-c", SCRIPT, where)
    assert done.stdout, done.stderr
    said = json.loads(done.stdout)
    assert said.pop("stuck") == 0
    assert said.pop("threads") == ["catga-cluster-me"]
    assert {name: answer for name, (answer, _) in said.items()} == {
        "here": "here",
        "there": "NOT_EXECUTED",
        "batch": "['here', 'here']",
        "publish": "1",
        "nodes": "()",
    }
    assert max(seconds for _, seconds in said.values()) < 15.0  # of the twenty that each has


class Watched:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.count = 0
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self.count += 1
        self.entered.set()
        assert self.go_on.wait(10)


def test_a_fork_is_noticed_once_and_everybody_waits_until_all_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    monkeypatch.setattr(_fork, "_watched", {1: lambda: watched})
    monkeypatch.setattr(_fork, "pid", -1)
    callers = [threading.Thread(target=_fork.check_process) for _ in range(8)]
    for caller in callers:
        caller.start()
    assert watched.entered.wait(10)
    assert all(caller.is_alive() for caller in callers)
    watched.go_on.set()
    for caller in callers:
        caller.join(10)
    _fork.check_process()
    assert watched.count == 1


def test_an_object_may_use_others_while_it_is_told_of_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrapping:
        """A store of the user's own, which closes the one that it wraps."""

        count = 0

        def after_fork_in_child(self) -> None:
            self.count += 1
            _fork.check_process()

    wrapping = Wrapping()
    monkeypatch.setattr(_fork, "_watched", {1: lambda: wrapping})
    monkeypatch.setattr(_fork, "pid", -1)
    caller = threading.Thread(target=_fork.check_process, daemon=True)
    caller.start()
    caller.join(10)
    assert not caller.is_alive()
    assert wrapping.count == 1


class Noting:
    """Notes what it is told."""

    def __init__(self, name: str, told: list[str]) -> None:
        self.name = name
        self.told = told
        _fork.watch(self)

    def before_fork(self) -> None:
        self.told.append(f"{self.name} before")

    def after_fork_in_parent(self) -> None:
        self.told.append(f"{self.name} in parent")

    def after_fork_in_child(self) -> None:
        self.told.append(f"{self.name} in child")


def test_threads_stop_before_what_they_use_and_go_on_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fork, "_watched", {})
    told: list[str] = []
    made = [Noting(name, told) for name in ("file", "gone", "thread")]
    del made[1]
    gc.collect()
    _fork.watch(made[0])
    _fork._before()
    _fork._after_in_parent()
    _fork._after_in_child()
    assert told == [
        *("thread before", "file before"),
        *("file in parent", "thread in parent"),
        *("file in child", "thread in child"),
    ]


def test_one_that_fails_keeps_no_other_from_being_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing:
        def after_fork_in_child(self) -> None:
            raise ValueError("oops")

    monkeypatch.setattr(_fork, "_watched", {})
    told: list[str] = []
    things = [Failing(), Noting("other", told)]
    for each in things:
        _fork.watch_given(each)
    _fork._after_in_child()
    assert told == ["other in child"]
    assert "Failing.after_fork_in_child failed at a fork" in caplog.text


def test_objects_of_the_users_own_are_told_whatever_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fork, "_watched", {})

    class WithoutWeakReferences:
        __slots__ = ("told",)

        def after_fork_in_child(self) -> None:
            self.told = True

    bare, told = WithoutWeakReferences(), list[str]()
    given = [object(), bare, bare, Noting("gone", told)]
    while given:
        _fork.watch_given(given.pop())
    _fork._after_in_child()
    assert bare.told
    assert told == []
    assert len(_fork._watched) == 1


#: What a mediator does to the stores, the router and the invoker that it was given.
GIVEN = """
import ctypes, os, sys
from catga_sync import Mediator, create_cluster
from catga_sync.discovery import MemoryDiscovery
from catga_sync.idempotency import MemoryIdempotency
from catga_sync.routing import create_router

told = []

class Given:
    def __init__(self, name, real):
        self.name, self.real = name, real
    def __getattr__(self, name):
        return getattr(self.real, name)
    def after_fork_in_child(self):
        told.append(self.name)

class Invoker:
    def invoke(self, node, request, *, timeout, call): ...
    def close(self): ...

mediator = create_cluster(
    Mediator(), node_id="me",
    discovery=Given("discovery", MemoryDiscovery()),
    idempotency=Given("idempotency", MemoryIdempotency()),
    router=Given("router", create_router("random")),
    invoker=Given("invoker", Invoker()),
)
child = os.fork() if sys.argv[1] == "os.fork" else ctypes.PyDLL(None).fork()
if child == 0:
    mediator.nodes()
    os._exit(0 if told == ["discovery", "idempotency", "invoker", "router"] else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.parametrize("how", ["os.fork", "a fork in C"])
def test_what_a_mediator_was_given_is_told_of_a_fork(how: str) -> None:
    done = run("-c", GIVEN, how)
    assert done.returncode == 0, done.stderr


#: A hook that starts a thread, which makes a call before the fork's other hooks are done.
THREAD = """
import os, threading
from catga_sync import _fork

class Watched:
    count = 0
    def after_fork_in_child(self):
        self.count += 1
        if self.count == 1:
            self.thread = threading.Thread(target=_fork.check_process)
            self.thread.start()
            self.thread.join(0.2)

watched = Watched()
_fork.watch(watched)
child = os.fork()
if child == 0:
    watched.thread.join()
    os._exit(watched.count)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
"""


def test_a_thread_that_a_hook_starts_does_not_call_the_hooks_again() -> None:
    done = run("-c", THREAD)
    assert done.returncode == 0, done.stderr


# -- no thread can be had ----------------------------------------------------------------------------------------------


@pytest.fixture
def no_more_threads() -> Iterator[None]:
    """Have the system refuse the next threads: there is no room for such a stack."""
    before = threading.stack_size(1 << 46)
    yield
    threading.stack_size(before)


@pytest.mark.usefixtures("no_more_threads")
def test_calls_work_where_the_system_gives_no_thread_and_one_line_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with create_cluster(Mediator(), node_id="me", discovery="memory://no-threads") as mediator:
        for _ in range(3):
            assert mediator.nodes() == ()
        (record,) = caplog.records
        assert record.getMessage().startswith("catga-cluster-me: no heartbeats are sent, and calls look after the")


# -- uWSGI, as its module tells of itself ------------------------------------------------------------------------------


def uwsgi(monkeypatch: pytest.MonkeyPatch, worker: int, **options: Any) -> types.SimpleNamespace:
    opt = {name.replace("_", "-"): value for name, value in options.items()}
    module = types.SimpleNamespace(worker_id=lambda: worker, opt=opt, has_threads=1, cores=4, numproc=2)
    monkeypatch.setitem(sys.modules, "uwsgi", module)  # type: ignore[arg-type]
    return module


def test_nothing_starts_in_a_process_that_is_to_fork_and_the_workers_start_by_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    module = uwsgi(monkeypatch, 0, enable_threads=True)
    module.post_fork_hook = lambda: told.append("somebody else's")
    with create_cluster(Mediator(), node_id="me", discovery="memory://uwsgi", endpoint="http://127.0.0.1:1") as node:
        node.attach()
        assert node.nodes() == ()
        assert not node._lifecycle._background.is_running()
        module.worker_id = lambda: 1
        module.post_fork_hook()
        assert node._lifecycle._background.is_running()
    assert told == ["somebody else's"]


def test_a_mediator_that_was_dropped_is_not_started_by_the_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    module = uwsgi(monkeypatch, 0, enable_threads=True)
    create_cluster(Mediator(), node_id="me", discovery="memory://uwsgi").start()
    gc.collect()
    module.worker_id = lambda: 1
    module.post_fork_hook()
    assert not any(each.name == "catga-cluster-me" for each in threading.enumerate())


def test_without_threads_nothing_starts_calls_work_and_one_warning_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    uwsgi(monkeypatch, 1)
    with create_cluster(Mediator(), node_id="me", discovery="memory://uwsgi") as mediator:
        for _ in range(3):
            assert mediator.nodes() == ()
        assert not mediator._lifecycle._background.is_running()
    (record,) = caplog.records
    assert record.getMessage() == (
        "catga-cluster-me: uWSGI runs no threads here, so this node sends no heartbeats and others do not see it; "
        "calls from here work. Start uWSGI with --enable-threads"
    )


@pytest.mark.parametrize(
    ("options", "stops"), [({}, True), ({"enable_threads": True}, False), ({"threads": b"4"}, False)]
)
def test_whether_threads_run_is_read_from_the_options(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], stops: bool
) -> None:
    uwsgi(monkeypatch, 1, **options)
    assert _uwsgi.stops_threads() is stops


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({"http": b":80"}, 0.0),
        ({"http_socket": b":80"}, 0.0),
        ({"http": b":80", "http_keepalive": True}, None),
        ({}, None),
    ],
)
def test_uwsgi_tells_what_it_is_and_what_a_hook_has_told_counts_more(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], seconds: float | None
) -> None:
    monkeypatch.setattr(_server_info, "_info", [ServerInfo()])
    uwsgi(monkeypatch, 1, **options)
    assert server_info() == ServerInfo(4, 2, seconds)
    tell_server_info(ServerInfo(threads=9))
    assert server_info() == ServerInfo(threads=9)


def test_elsewhere_nothing_is_held_back() -> None:
    assert not _uwsgi.is_to_fork()
    assert not _uwsgi.stops_threads()


def test_a_step_that_ends_its_thread_does_not() -> None:
    steps = []

    def step() -> float:
        steps.append(1)
        raise SystemExit

    background = Background("catga-test", step, starts_in_child=lambda: False, goes_on_in_parent=lambda: True)
    background.ensure()
    until(lambda: steps, "a step")
    background._wake.set()
    until(lambda: len(steps) > 1, "another one")
    background.stop()
