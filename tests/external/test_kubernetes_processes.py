"""Kubernetes discovery in processes that fork, and that end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import processes
from tests.conftest import require_module

require_module("kubernetes")

# isort: split

from tests.external.kubernetes_api import KubernetesApi  # noqa: E402 - see above
from tests.external.kubernetes_case import KubernetesCase  # noqa: E402
from tests.external.kubernetes_objects import endpoint_slice, pod  # noqa: E402

#: What all the programs begin with. From Python 3.12 on a fork beside another thread is a warning, so an error here.
_HEAD = """
import json, os, stat, sys, threading, time
from catga_sync.discovery import kubernetes

kubernetes._FIRST_LIST = kubernetes._PATIENCE = 20.0  # as in the tests: a busy machine is no server that hangs
users = kubernetes.KubernetesDiscovery(
    "kubernetes://shop/users", api_server=sys.argv[1], token_file=sys.argv[2], ca_file=None, timeout=60.0
)

def ids():
    return [record.node.node_id for record in users.nodes()]

def until(*expected):
    end, pause = time.monotonic() + 20, threading.Event()
    while ids() != list(expected):
        assert time.monotonic() < end, ids()
        pause.wait(0.02)

def sockets():
    kinds = []
    for name in os.listdir("/dev/fd"):
        try:
            kinds.append(stat.S_ISSOCK(os.fstat(int(name)).st_mode))
        except OSError:
            pass
    return sum(kinds)

def threads():
    return sorted(thread.name for thread in threading.enumerate())

def say(**what):
    os.write(1, (json.dumps(what) + "\\n").encode())  # in one piece: two processes write

def wait():
    assert sys.stdin.readline()
"""


class TestProcesses(KubernetesCase):
    @pytest.fixture
    def run(self, api: KubernetesApi, token: Path, request: pytest.FixtureRequest) -> Any:
        def run(program: str) -> subprocess.Popen[str]:
            api.put(endpoint_slice("users-a", pod("users-0", "10.0.0.1")))
            command = [sys.executable, "-W", "error", "-c", _HEAD + program, api.url, str(token)]
            started = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=processes.clean_environment()
            )
            request.addfinalizer(started.communicate)
            request.addfinalizer(started.kill)
            return started

        return run

    def said(self, program: subprocess.Popen[str]) -> dict[str, Any]:
        assert program.stdout is not None
        said: dict[str, Any] = json.loads(program.stdout.readline())
        return said

    def tell(self, program: subprocess.Popen[str]) -> None:
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()

    def test_a_fork_finds_no_thread_and_leaves_the_child_no_connection(self, api: KubernetesApi, run: Any) -> None:
        program = run("""
until("users-0")
say(threads=threads())
wait()
child = os.fork()
if child == 0:
    say(who="child", threads=threads(), sockets=sockets(), known=ids(), started=threads())
    until("users-0", "users-1")
    say(who="child", done=True)
    wait()
    users.close()
    os._exit(0)
say(who="parent", known=ids())
until("users-0", "users-1")
say(who="parent", done=True)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
users.close()
say(threads=threads())
""")
        assert self.said(program) == {"threads": ["MainThread", "catga-kubernetes"]}
        processes.until(lambda: api.open_watches == 1, "the parent watches")
        self.tell(program)
        first = {said.pop("who"): said for said in (self.said(program), self.said(program))}
        assert first["parent"] == {"known": ["users-0"]}
        assert first["child"] == {
            "threads": ["MainThread"],
            "sockets": 0,
            "known": ["users-0"],
            "started": ["MainThread", "catga-kubernetes"],
        }
        processes.until(lambda: api.open_watches == 2, "both watch")
        api.put(endpoint_slice("users-b", pod("users-1", "10.0.0.2")))
        assert [self.said(program)["done"] for _ in "ab"] == [True, True]
        self.tell(program)
        assert self.said(program) == {"threads": ["MainThread"]}
        assert program.wait(20) == 0

    @pytest.mark.slow
    def test_a_child_that_was_forked_in_c_follows_by_itself(self, api: KubernetesApi, run: Any) -> None:
        program = run("""
import ctypes, gc
until("users-0")
wait()
child = ctypes.PyDLL(None).fork()  # tells Python nothing, as uWSGI does
if child == 0:
    say(who="child", known=ids())
    until("users-0", "users-1")
    users.close()
    del users
    gc.collect()
    say(who="child")
    os._exit(0)
until("users-0", "users-1")
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
say(who="parent")
until("users-0", "users-1", "users-2")
say(who="parent")
wait()
users.close()
""")
        processes.until(lambda: api.open_watches == 1, "the parent watches")
        self.tell(program)
        assert self.said(program) == {"who": "child", "known": ["users-0"]}
        processes.until(lambda: api.open_watches == 2, "both watch")
        api.put(endpoint_slice("users-b", pod("users-1", "10.0.0.2")))
        assert self.said(program) == {"who": "child"}
        assert self.said(program) == {"who": "parent"}
        processes.until(lambda: api.open_watches == 1, "the child's watch is closed")
        api.put(endpoint_slice("users-c", pod("users-2", "10.0.0.3")))
        assert self.said(program) == {"who": "parent"}
        # The end of the child, and of what it had of the parent's, has left the parent's connection alone.
        assert (api.count("list"), api.count("watch")) == (2, 2)
        self.tell(program)
        assert program.wait(20) == 0

    @pytest.mark.slow
    def test_a_fork_does_not_wait_for_a_server_that_hangs(self, api: KubernetesApi, run: Any) -> None:
        api.hang("list")
        program = run("""
kubernetes._FIRST_LIST = 0.1
try:
    users.nodes()
except Exception:
    pass
wait()
child = os.fork()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
say(threads=threads())
""")
        processes.until(lambda: api.count("list") == 1, "it waits for the server")
        self.tell(program)
        # Had the fork waited in vain, the thread would be there still: the server hangs for longer than a fork waits.
        assert self.said(program) == {"threads": ["MainThread"]}
        assert program.wait(20) == 0

    @pytest.mark.slow
    def test_many_forks_while_threads_ask_end_in_no_deadlock(self, api: KubernetesApi, run: Any) -> None:
        program = run("""
import signal, warnings
warnings.simplefilter("ignore", DeprecationWarning)
until("users-0")
stop = threading.Event()
askers = [threading.Thread(target=lambda: [ids() for _ in iter(stop.is_set, True)]) for _ in range(4)]
for asker in askers:
    asker.start()
codes = []
for _ in range(40):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if ids() == ["users-0"] else 1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop.set()
for asker in askers:
    asker.join()
say(codes=codes)
users.close()
""")
        assert self.said(program) == {"codes": [0] * 40}
        assert program.wait(20) == 0

    @pytest.mark.slow
    def test_a_process_that_closes_nothing_ends_at_once(self, api: KubernetesApi, run: Any) -> None:
        program = run('until("users-0"); wait()')
        processes.until(lambda: api.open_watches == 1, "it watches")
        self.tell(program)
        assert program.wait(20) == 0  # the watch would go on for longer
        processes.until(lambda: api.open_watches == 0, "the watch is closed")

    @pytest.mark.slow
    def test_importing_and_making_one_starts_nothing(self, api: KubernetesApi, run: Any) -> None:
        program = run("say(threads=threads(), sockets=sockets())")
        assert self.said(program) == {"threads": ["MainThread"], "sockets": 0}
        assert program.wait(20) == 0
        assert api.asked == []
        assert os.getpid() != program.pid
