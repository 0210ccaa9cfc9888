"""What a node under gunicorn tells of its start: one line, whatever the number of workers; and a terminal's lines."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from catga_sync import ClusterMediator
from tests.conftest import require_module
from tests.process.nodes import ROOT, node, wait_for
from tests.processes import clean_environment, free_port, until

require_module("gunicorn")
psutil = require_module("psutil")

pytestmark = pytest.mark.process


def test_two_workers_tell_of_one_start_and_the_one_that_takes_over_does_not(
    client: ClusterMediator, cluster_name: str
) -> None:
    require_module("pythonjsonlogger")
    options = ("-w", "2", "-c", "tests/process/json_logs.py")
    with node("n1", cluster_name, *options, HEARTBEAT="0.5") as server:
        until(lambda: "node started" in server.output(), "the line")
        until(lambda: len(holding("members", server.pid)) == 2, "both workers are there")
        (leader,) = holding("leader", server.pid)
        os.kill(leader, signal.SIGKILL)
        until(lambda: set(holding("leader", server.pid)) - {leader}, "another one leads")
        led = time.time()
        until(lambda: any((each.last_heartbeat or 0) > led for each in client.nodes()), "its heartbeat")
        (line,) = [line for line in server.output().splitlines() if "node started" in line]
    message = json.loads(line)["message"]
    assert f"node=n1 endpoint={server.url} cluster={cluster_name} store=" in message
    assert message.endswith(" router=local-first ways=post,stream")


@pytest.mark.slow
def test_a_reload_tells_of_a_start_where_it_has_made_another_run(client: ClusterMediator, cluster_name: str) -> None:
    options = ("-w", "2", "-c", "tests/process/json_logs.py")
    with node("n1", cluster_name, *options, HEARTBEAT="0.5") as server:
        wait_for(client, "n1")
        runs = {each.incarnation for each in client.nodes()}
        before = {each.pid for each in psutil.Process(server.pid).children()}
        server.signal(signal.SIGHUP)
        until(lambda: not before & {each.pid for each in psutil.Process(server.pid).children()}, "new workers", 45.0)
        led = time.time()
        until(lambda: any((each.last_heartbeat or 0) > led for each in client.nodes()), "a new worker's heartbeat")
        runs |= {each.incarnation for each in client.nodes()}
        until(lambda: server.output().count("node started") >= len(runs), "a line for each run")
        assert server.output().count("node started") == len(runs)


@pytest.mark.slow
def test_a_terminal_shows_lines_for_people(cluster_name: str) -> None:
    port = free_port()
    with on_a_terminal(
        [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "-w", "2", "tests.process.app:app"],
        {"NODE": "n1", "PORT": str(port), "CLUSTER": cluster_name},
    ) as read:
        said = until(lambda: text if "  ways  " in (text := read()) else None, "the lines")
    block = said[said.index("catga-sync: node started") :].splitlines()
    assert block[1:4] == ["  node      n1", f"  endpoint  http://127.0.0.1:{port}", f"  cluster   {cluster_name}"]
    assert [line.split()[0] for line in block[4:7]] == ["store", "router", "ways"]
    assert said.count("catga-sync: node started") == 1


def holding(kind: str, pid: int) -> list[int]:
    """Return the workers that have the lock file of that kind open; see ``cluster/worker_group.py``."""
    found = []
    for worker in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if any(file.path.endswith(f".{kind}") for file in worker.open_files()):
                found.append(worker.pid)
    return found


@contextlib.contextmanager
def on_a_terminal(command: list[str], env: dict[str, str]) -> Iterator[Callable[[], str]]:
    """Run a server whose stderr is a terminal; yield a function that returns all that it has said so far."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    said = bytearray()

    def read() -> str:
        with contextlib.suppress(BlockingIOError):
            said.extend(os.read(ours, 65536))
        return said.decode().replace("\r\n", "\n")

    popen = subprocess.Popen(
        command, cwd=ROOT, env=clean_environment(env), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield read
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(popen.pid, signal.SIGKILL)
        popen.wait()
        os.close(ours)
